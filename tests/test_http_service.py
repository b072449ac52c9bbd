"""The whole service as clients meet it: two web processes, a worker and a real Valkey."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from app.queue import keys
from tests.conftest import poll_until
from tests.harness import JOB_MODULES, Service, service
from tests.web_process import Web

LOG: dict[str, Any] = {"type": "log.write", "params": {"message": "hello"}}
NOTE: dict[str, Any] = {"type": "test.note", "params": {}}
STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def webs(running: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Web]]:
    webs = [start(running, tmp_path_factory.mktemp("web")) for _ in range(2)]
    yield webs
    for web in webs:
        web.client.close()
        web.process.kill()
        web.process.wait()


@pytest.fixture
def web(webs: list[Web]) -> Web:
    return webs[0]


def start(running: Service, folder: Path, **settings: Any) -> Web:
    web = Web(folder, running.url, JOB_MODULES=JOB_MODULES, **settings)
    poll_until(web.answers, what="the web process answers")
    return web


def gated(folder: Path) -> tuple[dict[str, Any], Path]:
    """A job that runs until the file exists."""
    gate = folder / "gate"
    journal = folder / "journal"
    return {"type": "test.wait", "params": {"gate": str(gate), "journal": str(journal)}}, gate


def status(web: Web, job_id: str) -> str:
    return str(web.client.get(f"/v1/jobs/{job_id}").json()["status"])


def names(text: str) -> list[str]:
    return [
        line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")
    ]


def test_waiting_client_gets_the_result(web: Web) -> None:
    response = web.client.post("/v1/jobs", json=NOTE, headers={"Prefer": "wait=20"})

    assert response.status_code == 200
    assert response.json()["status"] == "finished"
    assert response.headers["preference-applied"] == "wait=20"


def test_waiting_client_hears_of_a_job_that_is_not_kept(web: Web) -> None:
    body = NOTE | {"options": {"retention": 0}}

    response = web.client.post("/v1/jobs", json=body, headers={"Prefer": "wait=20"})

    assert response.status_code == 200, response.text
    job = response.json()
    assert (job["status"], job["result"]) == ("finished", None)
    assert web.client.get(job["links"]["self"]).status_code == 404


def test_job_of_another_web_process_is_waited_for(webs: list[Web], tmp_path: Path) -> None:
    job, gate = gated(tmp_path)
    path = webs[0].client.post("/v1/jobs", json=job).headers["location"]
    poll_until(lambda: status(webs[0], path[9:]) == "started", what="the job runs")
    gate.touch()

    shown = webs[1].client.get(path, headers={"Prefer": "wait=20"})

    assert shown.json()["status"] == "finished"


def test_events_are_streamed_until_the_end(web: Web) -> None:
    path = web.client.post("/v1/jobs", json=NOTE | {"options": {"delay": 0.2}}).headers["location"]

    stream = web.client.get(f"{path}/events", headers=STREAM)
    trail = web.client.get(f"{path}/events", headers={"Accept": "application/json"}).json()["data"]
    again = web.client.get(f"{path}/events", headers=STREAM | {"Last-Event-ID": trail[-1]["id"]})

    assert names(stream.text) == ["scheduled", "queued", "started", "finished"]
    assert [each["event"] for each in trail] == names(stream.text)
    assert again.status_code == 204


def test_fifty_equal_requests_at_two_processes_make_one_job(webs: list[Web]) -> None:
    async def send() -> list[httpx2.Response]:
        clients = [httpx2.AsyncClient(base_url=web.client.base_url, timeout=30) for web in webs]
        try:
            return await asyncio.gather(
                *(
                    clients[n % 2].post("/v1/jobs", json=LOG, headers={"Idempotency-Key": "fifty"})
                    for n in range(50)
                )
            )
        finally:
            for client in clients:
                await client.aclose()

    answers = asyncio.run(send())

    assert {each.status_code for each in answers} == {202}
    assert len({each.json()["id"] for each in answers}) == 1
    replayed = [each for each in answers if "idempotency-replayed" in each.headers]
    assert len(replayed) == 49
    bodies = [each.json() | {"warnings": []} for each in answers]
    assert all(each == bodies[0] for each in bodies)


@pytest.mark.parametrize("size", [3, 1000])
def test_batch_is_accepted_run_and_repeated(web: Web, size: int) -> None:
    body = {"jobs": [NOTE] * (size - 1) + [NOTE | {"options": {"tags": {"n": str(size)}}}]}
    headers = {"Idempotency-Key": f"batch-{size}"}
    accepted = web.client.post("/v1/batches", json=body, headers=headers)

    ended = web.client.get(accepted.headers["location"], headers={"Prefer": "wait=25"})
    again = web.client.post("/v1/batches", json=body, headers=headers)
    waited = web.client.post("/v1/batches", json=body, headers=headers | {"Prefer": "wait=25"})
    tagged = web.client.get(f"/v1/jobs?tag=n:{size}").json()["data"]

    assert accepted.status_code == 202
    assert again.json() == accepted.json()
    assert ended.json()["counts"] == {"finished": size}
    assert ended.json()["finished_at"] is not None
    assert (waited.status_code, waited.json()) == (200, ended.json())
    assert [each["id"] for each in tagged] == accepted.json()["job_ids"][-1:]


def test_batch_is_waited_for_as_a_whole(web: Web) -> None:
    body = {"jobs": [NOTE, {"type": "test.permanent", "params": {}}]}

    response = web.client.post("/v1/batches", json=body, headers={"Prefer": "wait=25"})

    assert response.status_code == 200
    assert response.json()["counts"] == {"finished": 1, "failed": 1}
    assert len(response.json()["failures"]) == 1


def test_permissive_batch_leaves_out_what_cannot_go(web: Web) -> None:
    orphan = NOTE | {"options": {"depends_on": ["f" * 35]}}
    body = {"jobs": [NOTE, orphan, {"type": "no.such"}], "mode": "permissive"}

    response = web.client.post("/v1/batches", json=body, headers={"Prefer": "wait=25"})

    results = response.json()["results"]
    assert response.status_code == 207
    assert [each["status"] for each in results] == [200, 422, 422]
    assert results[0]["job"]["status"] == "finished"


def test_repeated_batch_is_the_first_one_also_when_its_times_have_passed(web: Web) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    timed = [
        NOTE | {"options": {name: soon.isoformat()}} for name in ("scheduled_at", "expires_at")
    ]
    bodies = [
        {"jobs": [*timed, *[NOTE] * padding], "mode": mode}
        for mode in ("strict", "permissive")
        for padding in (0, 100)
    ]

    def post_all() -> list[httpx2.Response]:
        return [
            web.client.post("/v1/batches", json=body, headers={"Idempotency-Key": f"times-{n}"})
            for n, body in enumerate(bodies)
        ]

    firsts = post_all()
    poll_until(lambda: datetime.now(UTC) > soon, what="the times pass")
    agains = post_all()

    assert [each.status_code for each in firsts] == [202, 202, 207, 207]
    assert [(each.status_code, each.json()) for each in agains] == [
        (each.status_code, each.json()) for each in firsts
    ]
    assert [each.headers["idempotency-replayed"] for each in agains] == ["true"] * 4


def test_repeated_permissive_batch_names_the_jobs_that_there_are(web: Web) -> None:
    orphan = NOTE | {"options": {"depends_on": ["no-such-job-anywhere"]}}
    body = {"jobs": [orphan, NOTE, orphan, NOTE], "mode": "permissive"}
    answers = [
        web.client.post("/v1/batches", json=body, headers={"Idempotency-Key": "orphans"})
        for _ in range(2)
    ]
    first, again = [answer.json()["results"] for answer in answers]

    assert [each["status"] for each in again] == [422, 202, 422, 202]
    assert [each.get("job") for each in again] == [each.get("job") for each in first]
    pointers = [each["problem"]["errors"][0]["pointer"] for each in again if "problem" in each]
    assert pointers == ["/jobs/0/options/depends_on/0", "/jobs/2/options/depends_on/0"]


def test_running_job_is_stopped(web: Web, tmp_path: Path) -> None:
    job, _ = gated(tmp_path)
    job_id = web.client.post("/v1/jobs", json=job).json()["id"]
    poll_until(lambda: status(web, job_id) == "started", what="the job runs")

    response = web.client.post(f"/v1/jobs/{job_id}/cancel")
    ended = web.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=20"}).json()

    assert response.status_code == 202
    assert (ended["status"], ended["reason"]) == ("stopped", "requested")
    assert web.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert web.client.get(f"/v1/jobs/{job_id}").status_code == 404


def test_paused_queue_keeps_its_jobs_and_says_so(web: Web) -> None:
    web.client.post("/v1/jobs", json=NOTE, headers={"Prefer": "wait=20"})
    web.client.post("/v1/queues/default/pause")
    try:
        waiting = web.client.post("/v1/jobs", json=NOTE, headers={"Prefer": "wait=0"}).json()
        path = waiting["links"]["self"]
        poll_until(
            lambda: "queue default is paused" in web.client.get(path).json()["warnings"],
            what="the job carries the warning",
        )
        held = web.client.get(path).json()
        ready = web.client.get("/readyz")
        canceled = web.client.post(waiting["links"]["cancel"])
    finally:
        web.client.post("/v1/queues/default/resume")

    assert waiting["status"] == "queued"
    assert (held["position"], held["eta_seconds"]) == (1, None)
    assert "queue default is paused" in ready.json()["reasons"]
    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
    done = web.client.post("/v1/jobs", json=NOTE, headers={"Prefer": "wait=20"})
    assert done.status_code == 200


def test_rate_is_one_over_all_web_processes(
    running: Service, tmp_path_factory: pytest.TempPathFactory
) -> None:
    webs = [
        start(running, tmp_path_factory.mktemp("limited"), RATE_LIMIT="5/600") for _ in range(2)
    ]
    try:
        answers = [webs[n % 2].client.get("/v1/job-types") for n in range(8)]
    finally:
        for web in webs:
            assert web.end() == 0

    assert [each.status_code for each in answers] == [200] * 5 + [429] * 3
    assert answers[0].headers["ratelimit-policy"] == '"default";q=5;w=600'
    assert answers[0].headers["ratelimit"].startswith('"default";r=4;t=')
    assert int(answers[-1].headers["retry-after"]) > 0


def hears(url: str, channel: str) -> bool:
    with redis.Redis.from_url(url) as client:
        ((_, count),) = client.pubsub_numsub(channel)
    return bool(count)


def test_sigterm_is_not_held_up_by_who_waits_or_follows(running: Service, tmp_path: Path) -> None:
    job, gate = gated(tmp_path)
    web = start(running, tmp_path)

    async def hold() -> tuple[httpx2.Response, str]:
        async with httpx2.AsyncClient(base_url=web.client.base_url, timeout=30) as client:
            path = (await client.post("/v1/jobs", json=job)).headers["location"]
            waiting = asyncio.create_task(client.get(path, headers={"Prefer": "wait=25"}))
            # A request that has not arrived by then is lost with its connection.
            channel = keys.events(path.removeprefix("/v1/jobs/"))
            await asyncio.to_thread(
                poll_until, partial(hears, running.url, channel), what="it waits"
            )
            async with client.stream("GET", f"{path}/events", headers=STREAM) as stream:
                text = ""
                async for chunk in stream.aiter_text():
                    if "event: started" not in text and "event: started" in text + chunk:
                        web.process.send_signal(signal.SIGTERM)
                    text += chunk
            return await waiting, text

    try:
        waited, text = asyncio.run(hold())
        assert web.process.wait(timeout=15) == 0
    finally:
        gate.touch()
        web.client.close()

    assert (waited.status_code, waited.json()["status"]) == (200, "started")
    assert "event: finished" not in text
    assert [each["event"] for each in web.events()][-1] == "web_stopped"


def test_a_thousand_clients_wait_at_one_process(web: Web, tmp_path: Path) -> None:
    job, gate = gated(tmp_path)
    path = web.client.post("/v1/jobs", json=job).headers["location"]
    port = web.port
    request = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=25\r\nConnection: close\r\n\r\n"
    ).encode()

    async def wait_together() -> list[bytes]:
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(1000)]
        for _, writer in streams:
            writer.write(request)
        async with httpx2.AsyncClient(base_url=web.client.base_url, timeout=30) as client:
            assert (await client.get(path)).json()["status"] in {"queued", "started"}
        gate.touch()
        answers = await asyncio.gather(*(reader.read() for reader, _ in streams))
        for _, writer in streams:
            writer.close()
        return answers

    answers = asyncio.run(wait_together())

    assert {each[:12] for each in answers} == {b"HTTP/1.1 200"}
    bodies = [json.loads(each.partition(b"\r\n\r\n")[2]) for each in answers]
    assert {body["status"] for body in bodies} == {"finished"}
