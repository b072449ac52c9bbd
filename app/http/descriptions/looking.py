"""How queues and workers stand, and acts on a whole queue."""

from __future__ import annotations

from app.http import queue_shapes as shapes
from app.http.descriptions.parts import NO_FIELDS, QUEUE, TEXT, Description, Reply

LOOKING: dict[tuple[str, str], Description] = {
    ("GET", "/v1/queues"): Description(
        "listQueues", "queues", "How the queues stand",
        "Depth, oldest waiting job, rates and workers of every queue; it costs the same however"
        " many jobs wait.",
        {200: Reply("All queues, also those that other programs use in the same Redis.",
                    shapes.QueueList)},
        problems=QUEUE,
    ),
    ("GET", "/v1/queues/{name}"): Description(
        "showQueue", "queues", "One queue, and its last hour",
        "With throughput, latency, depth and oldest waiting job of the last hour, by the minute.",
        {200: Reply("How it stands.", shapes.QueueHour)},
        parameters=("queue_name",), problems=QUEUE,
    ),
    ("POST", "/v1/queues/{name}/pause"): Description(
        "pauseQueue", "queues", "Pause a queue",
        "What runs goes on, nothing more is started, and jobs are still accepted.",
        {200: Reply("It is paused.", shapes.QueueState)},
        parameters=("queue_name",), problems=QUEUE, body=NO_FIELDS,
    ),
    ("POST", "/v1/queues/{name}/resume"): Description(
        "resumeQueue", "queues", "Resume a queue",
        "Workers take up what waits.",
        {200: Reply("It is not paused.", shapes.QueueState)},
        parameters=("queue_name",), problems=QUEUE, body=NO_FIELDS,
    ),
    ("DELETE", "/v1/queues/{name}/jobs"): Description(
        "emptyQueue", "queues", "Empty a queue",
        "What waits in it, in all of its priorities, is canceled as if by one request for each"
        " (reason `requested`); what runs, is scheduled or comes meanwhile stays. About 5,000 jobs"
        " a second, for 20 s at most, also when the connection ends before the answer. With"
        " `is_complete` false ask again: that cancels the rest, and what has come since.",
        {200: Reply("It was emptied.", shapes.Emptied)},
        parameters=("queue_name", "confirm"), problems=QUEUE,
    ),
    ("GET", "/v1/workers"): Description(
        "listWorkers", "queues", "Who works",
        "Every worker with its queues, what it runs, and when it was last heard of.",
        {200: Reply("All workers.", shapes.WorkerList)},
        problems=QUEUE,
    ),
    ("GET", "/metrics"): Description(
        "measure", "service", "Figures for Prometheus",
        "In Prometheus' text format, or OpenMetrics when `Accept` asks for it. All is counted in"
        " Redis: every web process tells the same, so scrape one of them. While Redis does not"
        " answer, `recado_redis_up` is 0 and stands alone.",
        {200: Reply("All that is measured.", besides={
            "text/plain": TEXT, "application/openmetrics-text": TEXT,
        })},
    ),
}  # fmt: skip
