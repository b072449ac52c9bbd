"""What else lies in a queue: forged, foreign and broken entries never run and stop nobody."""

from __future__ import annotations

import json
import os
import pickle
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rq.callbacks import Callback
from rq.group import Group
from rq.repeat import Repeat
from rq.webhook import Webhook

from tests.conftest import poll_until
from tests.harness import WorkerProcess, draft, service, submit, view, wait_until_ended
from tests.stock import PERFORM, Stock, stock_on

JOB_ID = "f" * 24


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    with service(tmp_path_factory.mktemp("ours"), "--queues", "default") as running:
        yield running.worker


@pytest.fixture
def live(ours: WorkerProcess) -> Iterator[Stock]:
    """Where our worker runs; afterwards it still runs what comes next."""
    with stock_on(ours.url) as stock:
        for job_id in stock.failed().get_job_ids():
            stock.text.delete(f"rq:job:{job_id}", f"rq:results:{job_id}")
        stock.text.delete("rq:failed:default")
        yield stock
        _assert_neighbour_runs(stock)
    assert ours.process.poll() is None


def _record(stock: Stock, data: bytes, **fields: Any) -> None:
    """A queued job, written by hand."""
    record: dict[Any, Any] = {
        "data": data,
        "origin": "default",
        "status": "queued",
        "created_at": "2026-01-02T03:04:05.678901Z",
        "timeout": "180",
        **fields,
    }
    stock.connection.hset(f"rq:job:{JOB_ID}", mapping=record)
    _queue(stock)


def _queue(stock: Stock, job_id: str = JOB_ID) -> None:
    stock.connection.sadd("rq:queues", "rq:queue:default")
    stock.connection.rpush("rq:queue:default", job_id)


def _call(function: str = PERFORM, *arguments: Any, instance: Any = None) -> bytes:
    return json.dumps([function, instance, list(arguments), {}]).encode()


def _assert_neighbour_runs(stock: Stock) -> None:
    (found,) = wait_until_ended(stock.url, *submit(stock.url, draft("test.note")))
    assert found.status == "finished"


def _assert_failed(stock: Stock, reason: str, code: str, job_id: str = JOB_ID) -> None:
    _assert_neighbour_runs(stock)
    (found,) = wait_until_ended(stock.url, job_id)
    assert found.status == "failed"
    assert found.error is not None
    assert found.error.code == code
    assert reason in found.error.message
    assert stock.failed().get_job_ids() == [job_id]
    # Stock tools can still show the registry, and say why.
    (shown,) = stock.failed().get_job_ids()
    latest = stock.job(shown).latest_result()
    assert latest is not None
    assert latest.exc_string
    assert stock.job(shown).is_failed
    assert stock.queue().count == 0
    assert stock.connection.ttl(f"rq:job:{job_id}") > 0


class Bomb:
    """Unpickled, it would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str, int], None], tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o700)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("os.system", ["touch {path}"]),
        ("tests.stock.stock_on", ["redis://x"]),
        ("os.mkdir", ["{path}"]),
        ("app.worker.main", [[]]),
        ("builtins.eval", ["__import__('os').mkdir('{path}')"]),
    ],
)
def test_function_that_is_no_job_type_never_runs(
    live: Stock, tmp_path: Path, function: str, arguments: list[Any]
) -> None:
    trace = tmp_path / "trace"
    filled = [each.format(path=trace) if isinstance(each, str) else each for each in arguments]
    _record(live, zlib.compress(_call(function, *filled)))

    _assert_failed(live, f"'{function}'; only registered job types are run", "unregistered_type")

    assert not trace.exists()


def test_type_field_of_ours_does_not_make_a_forged_function_run(
    live: Stock, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    _record(live, _call("os.mkdir", str(trace)), x_type="log.write", x_max=5)

    _assert_failed(live, "'os.mkdir'", "unregistered_type")

    assert not trace.exists()


def test_pickled_data_is_never_unpickled(live: Stock, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    _record(live, zlib.compress(pickle.dumps(Bomb(trace))))

    (found,) = wait_until_ended(live.url, JOB_ID)

    assert found.error is not None
    assert (found.status, found.error.code) == ("failed", "broken_record")
    assert "JSON" in found.error.message
    assert live.failed().get_job_ids() == [JOB_ID]
    assert not trace.exists()
    live.rq("info")


def test_zlib_bomb_is_refused_without_being_inflated(live: Stock, ours: WorkerProcess) -> None:
    squeezer = zlib.compressobj(9)
    bomb = b"".join(squeezer.compress(b" " * 1024 * 1024) for _ in range(300)) + squeezer.flush()
    assert len(bomb) < 1024 * 1024
    _record(live, bomb)

    (found,) = wait_until_ended(live.url, JOB_ID)

    assert found.error is not None
    assert (found.status, found.error.code) == ("failed", "broken_record")
    peak_kb = next(
        int(line.split()[1])
        for line in Path(f"/proc/{ours.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    assert peak_kb < 300 * 1024


@pytest.mark.parametrize(
    ("data", "reason", "code"),
    [
        (_call(PERFORM, "no.such_type", {}), "'no.such_type' is not", "unregistered_type"),
        (b'"a string"', "not a call", "broken_record"),
        (b"[1,2]", "not a call", "broken_record"),
        (b"\xff\xfe\x00", "not JSON", "broken_record"),
        (b"[" * 100_000, "not JSON", "broken_record"),
        (_call(PERFORM), "exactly", "broken_record"),
        (_call(PERFORM, ["log.write"], {}), "exactly", "broken_record"),
        (_call(PERFORM, "log.write", {}, {}), "exactly", "broken_record"),
        (_call(PERFORM, "log.write", {}, instance={}), "names the function", "unregistered_type"),
        (_call(PERFORM, "log.write", "text"), "params do not fit", "invalid_params"),
        (_call(PERFORM, "log.write", None), "params do not fit", "invalid_params"),
    ],
    ids=lambda value: str(value[:24]) if isinstance(value, bytes) else value,
)
def test_data_that_names_no_job_of_ours_fails_with_the_reason(
    live: Stock, data: bytes, reason: str, code: str
) -> None:
    _record(live, data)

    _assert_failed(live, reason, code)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retries_left", "abc"),
        ("timeout", "abc"),
        ("timeout", "inf"),
        ("timeout", "1e300"),
        ("failure_ttl", "abc"),
        ("failure_ttl", "1e300"),
        ("x_attempt", "abc"),
        ("x_failures", "abc"),
        ("x_abandoned", "abc"),
        ("x_max", "abc"),
    ],
)
def test_number_that_is_none_fails_with_the_reason(live: Stock, field: str, value: str) -> None:
    _record(live, _call(PERFORM, "log.write", {"message": "x"}), **{field: value})
    known = {"x_attempt": "attempt", "x_failures": "failures", "x_max": "max_attempts"}

    if field == "x_abandoned":  # counts anew
        assert wait_until_ended(live.url, JOB_ID)[0].status == "finished"
        return
    _assert_failed(live, f"{known.get(field, field)} is not a number", "broken_record")


@pytest.mark.parametrize("key_type", ["string", "list", "zset"])
def test_job_key_of_another_type_is_put_aside(live: Stock, key_type: str) -> None:
    key = f"rq:job:{JOB_ID}"
    live.connection.delete(key)
    if key_type == "string":
        live.connection.set(key, "not a job")
    elif key_type == "list":
        live.connection.rpush(key, "not", "a job")
    else:
        live.connection.zadd(key, {"not a job": 1})
    before, after = submit(live.url, draft("test.note"), draft("test.note"))
    _queue(live)

    poll_until(lambda: live.failed().get_job_ids() == [JOB_ID], what="it is in the registry")
    _assert_failed(live, "cannot be read", "broken_record")

    assert [each.status for each in wait_until_ended(live.url, before, after)] == ["finished"] * 2


def test_id_without_a_record_is_dropped(live: Stock, ours: WorkerProcess) -> None:
    _queue(live, "e" * 24)
    (neighbour,) = submit(live.url, draft("test.note"))

    wait_until_ended(live.url, neighbour)

    poll_until(lambda: live.queue().count == 0, what="the entry is gone")
    assert live.failed().get_job_ids() == []

    def is_told() -> bool:
        lines = [line for line in ours.log.read_text().splitlines() if line.startswith("{")]
        events = [json.loads(line) for line in lines]
        return ("queue_entry_dropped", "e" * 24) in [
            (each["event"], each.get("job_id")) for each in events
        ]

    poll_until(is_told, what="log")


@pytest.mark.parametrize("entry", ["", "a:b", "../x", "é" * 10, "x" * 5000, "a b\nc"])
def test_entry_that_is_no_job_id_is_dropped(live: Stock, entry: str) -> None:
    _queue(live, entry)

    poll_until(lambda: live.queue().count == 0, what="the entry is gone")

    assert live.failed().get_job_ids() == []


def test_record_without_data_fails_with_the_reason(live: Stock) -> None:
    live.connection.delete(f"rq:job:{JOB_ID}")
    live.connection.hset(f"rq:job:{JOB_ID}", mapping={"status": "queued", "origin": "default"})
    _queue(live)

    (found,) = wait_until_ended(live.url, JOB_ID)

    assert found.error is not None
    assert "no data" in found.error.message
    assert live.failed().get_job_ids() == [JOB_ID]


def test_queue_key_of_another_type_stops_no_other_queue(live: Stock) -> None:
    live.connection.set("rq:queue:default.high", "not a queue")
    try:
        (job_id,) = submit(live.url, draft("test.note"))
        assert wait_until_ended(live.url, job_id)[0].status == "finished"
        assert live.text.get("rq:queue:default.high") == "not a queue"
    finally:
        live.connection.delete("rq:queue:default.high")


def test_doubled_and_stale_entries_run_nothing_twice(live: Stock, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    live.rq("suspend")
    try:
        (job_id,) = submit(live.url, draft("test.note", journal=str(notes)))
        _queue(live, job_id)
        _queue(live, job_id)
    finally:
        live.rq("resume")
    wait_until_ended(live.url, job_id)
    _queue(live, job_id)

    poll_until(lambda: live.queue().count == 0, what="the entries are gone")

    assert len(notes.read_text().splitlines()) == 1
    found = view(live.url, job_id)
    assert (found.status, found.attempt) == ("finished", 1)


def _with_callback(stock: Stock, name: str) -> str:
    options: dict[str, Any] = {f"on_{name}": Callback("tests.stock.stock_on")}
    return stock.enqueue("test.note", {}, **options).id


def _with_repeat(stock: Stock) -> str:
    return stock.enqueue("test.note", {}, repeat=Repeat(times=2, interval=1)).id


def _with_webhook(stock: Stock) -> str:
    hook = Webhook("http://127.0.0.1:9/", job_status="finished")
    return stock.enqueue("test.note", {}, webhooks=[hook]).id


def _with_group(stock: Stock) -> str:
    data = stock.queue().prepare_data(PERFORM, ("test.note", {}))
    group = Group.create(connection=stock.connection)
    (job,) = group.enqueue_many(queue=stock.queue(), job_datas=[data])
    return str(job.id)


@pytest.mark.parametrize(
    ("produce", "what"),
    [
        (lambda stock: _with_callback(stock, "success"), "a success callback"),
        (lambda stock: _with_callback(stock, "failure"), "a failure callback"),
        (lambda stock: _with_callback(stock, "stopped"), "a stopped callback"),
        (_with_repeat, "repeats"),
        (_with_webhook, "RQ webhooks"),
        (_with_group, "a group"),
    ],
)
def test_what_our_worker_does_not_do_for_stock_jobs_it_refuses_loudly(
    live: Stock, produce: Callable[[Stock], str], what: str
) -> None:
    job_id = produce(live)

    _assert_failed(live, f"asks for {what}", "unsupported_stock_feature", job_id)
