"""/metrics, for Prometheus: what Redis has counted, so that any web process tells the same.

Names and units follow Prometheus' conventions. Labels are the registered queues and types, and
`other` for all else, so that what somebody enqueues cannot make series without end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request

from app.http.answers import Answer
from app.http.ports import Figures
from app.queue.errors import QueueUnavailableError
from app.queue.figures import BOUNDS, Counted, Measures, QueueFigures, Times, WorkerFigures
from jobs.catalog import Catalog

OTHER = "other"
_QUEUE, _TYPE = ["queue"], ["queue", "type"]
_EVENTS = {
    "submitted": "Jobs that were accepted.",
    "claimed": "Runs that a worker began.",
    "finished": "Jobs that finished.",
    "failed": "Jobs that failed for good.",
    "canceled": "Jobs that were canceled before they ran, expired ones among them.",
    "stopped": "Jobs that were stopped while they ran.",
    "retried": "Runs that failed, with another attempt to come.",
    "postponed": "Runs that put their job off and count for nothing, as to spare a mail server.",
    "recovered": "Runs that died with their worker or child process, and began again.",
    "interrupted": "Runs that a worker gave back as it was shut down.",
}
_QUEUE_GAUGES: dict[str, tuple[str, Callable[[QueueFigures], float]]] = {
    "depth": ("Jobs that wait for a worker.", lambda queue: queue.depth),
    "running": ("Jobs that run.", lambda queue: queue.running),
    "scheduled": (
        "Jobs that wait for their time, or for their next attempt.",
        lambda queue: queue.scheduled,
    ),
    "deferred": ("Jobs that wait for other jobs.", lambda queue: queue.deferred),
    "failed_jobs": ("Jobs in RQ's failed registry.", lambda queue: queue.failed),
    "bytes": ("Bytes of the jobs that have not ended.", lambda queue: queue.size_bytes),
    "workers": ("Live workers that listen to it.", lambda queue: queue.workers),
    "paused": ("1: nothing of it is begun.", lambda queue: queue.paused),
}


class Metrics:
    """The endpoint."""

    def __init__(self, figures: Figures, catalog: Catalog, most_jobs: int, most_bytes: int) -> None:
        self._figures = figures
        self._catalog = catalog
        self._most_jobs = most_jobs
        self._most_bytes = most_bytes

    async def show(self, request: Request) -> Answer:
        """GET /metrics. Without Redis it says just that, so that an alarm can tell it apart."""
        types = {each.name: each.queue for each in self._catalog}
        try:
            measures = await self._figures.measures(types)
        except QueueUnavailableError:
            return _answer(request, [_gauge("redis_up", "1: Redis answers.", 0)])
        families = [
            _gauge("redis_up", "1: Redis answers.", 1),
            *_of_queues(measures.queues, self._catalog.queues()),
            _gauge("queue_depth_limit", "Jobs that may wait in one queue.", self._most_jobs),
            _gauge("queue_bytes_limit", "Bytes that one queue may take.", self._most_bytes),
            *_of_jobs(measures.counted, [(queue, name) for name, queue in types.items()]),
            *_of_workers(measures.workers),
            *_of_server(measures),
        ]
        return _answer(request, families)


class _Families:
    """What an encoder reads."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def _answer(request: Request, families: Sequence[Metric]) -> Answer:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    headers = [(b"content-type", content_type.encode()), (b"cache-control", b"no-store")]
    return Answer(200, encode(_Families(families)), headers)


def _of_queues(queues: Sequence[QueueFigures], names: Sequence[str]) -> Iterator[Metric]:
    def label(queue: QueueFigures) -> str:
        return queue.name if queue.name in names else OTHER

    for name, (text, value) in _QUEUE_GAUGES.items():
        sums: dict[str, float] = {}
        for queue in queues:
            sums[label(queue)] = sums.get(label(queue), 0) + value(queue)
        yield _gauges(f"queue_{name}", text, sums)
    ages: dict[str, float] = {}
    for queue in queues:
        ages[label(queue)] = max(ages.get(label(queue), 0.0), queue.oldest_age or 0.0)
    text = "How long the job has waited that has waited longest; 0 where none waits."
    yield _gauges("queue_oldest_age_seconds", text, ages)


def _of_jobs(counted: Sequence[Counted], pairs: Sequence[tuple[str, str]]) -> Iterator[Metric]:
    """From 0 on for what is registered: Prometheus does not see a series' first step."""
    nothing = Times([0] * len(BOUNDS), 0.0)
    rows = {pair: Counted(*pair, {}, nothing, nothing) for pair in pairs}
    rows |= {(each.queue, each.type): each for each in counted}
    for name, text in _EVENTS.items():
        family = CounterMetricFamily(f"recado_jobs_{name}", text, labels=_TYPE)
        for labels, row in sorted(rows.items()):
            family.add_metric(labels, row.events.get(name, 0))
        yield family
    wait = _histogram("job_wait_seconds", "From the queue to the beginning of a run.", _TYPE)
    run = _histogram("job_run_seconds", "How long a run took, however it ended.", _TYPE)
    for labels, row in sorted(rows.items()):
        _observe(wait, labels, row.wait)
        _observe(run, labels, row.run)
    yield from (wait, run)


def _of_workers(workers: Sequence[WorkerFigures]) -> Iterator[Metric]:
    alive = [each for each in workers if each.is_alive]
    states = {"busy": 0.0, "idle": 0.0, "silent": 0.0, OTHER: 0.0}
    for each in workers:
        state = each.state if each.is_alive else "silent"
        states[state if state in states else OTHER] += 1
    family = GaugeMetricFamily("recado_workers", "Workers, by state.", labels=["state"])
    for state, count in states.items():
        family.add_metric([state], count)
    yield family
    yield _gauge(
        "worker_slots", "Jobs that the live workers could run at once.",
        sum(1 if each.slots is None else each.slots for each in alive),
    )  # fmt: skip
    yield _gauge(
        "worker_slots_busy", "Jobs that the live workers hold.",
        sum(each.running_count for each in alive),
    )  # fmt: skip
    yield _gauge(
        "mail_server_faults",
        "Live workers that the mail server does not let in, or of whom it takes no mail.",
        sum(each.mail_fault is not None for each in alive),
    )  # fmt: skip


def _of_server(measures: Measures) -> Iterator[Metric]:
    submissions = _histogram(
        "submit_seconds", "Until Redis acknowledged a submission, over all web processes.", []
    )
    _observe(submissions, [], measures.submissions)
    yield submissions
    yield _gauge("redis_memory_used_bytes", "Memory that Redis uses.", measures.memory_used)
    yield _gauge(
        "redis_memory_max_bytes", "Memory that Redis may use; 0: no limit.", measures.memory_limit
    )
    yield _gauge(
        "schedules_put_off", "Schedules whose tick waits, as its job could not be made.",
        measures.schedules_put_off,
    )  # fmt: skip
    yield _gauge("suspended", "1: `rq suspend` keeps all workers.", measures.is_suspended)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"recado_{name}", text, value=value)


def _gauges(name: str, text: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(f"recado_{name}", text, labels=_QUEUE)
    for queue, value in sorted(values.items()):
        family.add_metric([queue], value)
    return family


def _histogram(name: str, text: str, labels: Sequence[str]) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"recado_{name}", text, labels=labels)


def _observe(family: HistogramMetricFamily, labels: Sequence[str], times: Times) -> None:
    buckets, total = [], 0
    for bound, count in zip(BOUNDS, times.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == "inf" else str(float(bound)), float(total)))
    family.add_metric(labels, buckets, times.sum_seconds)
