"""A line of the log is one line, and says what the service says, whatever a client puts in."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.logs import JsonFormatter, JsonLines, TextFormatter, event, gathered
from jobs.context import JobContext
from jobs.log import LogWriteParams, write

LOG = logging.getLogger("recado.test")
HOSTILE = {"a\n12:00:00.000 ERROR forged": "x\x1b[2J\u2028y", "job_id": "forged"}


@pytest.fixture
def record(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    """What `log.write` leaves for a message and fields that a client made up."""
    caplog.set_level(logging.INFO)
    params = LogWriteParams(message="one\r\ntwo \x1b[31m", fields=dict(HOSTILE))
    write(params, JobContext(job_id="the-job", job_type="log.write"))
    (record,) = caplog.records
    return record


def test_text_line_of_a_hostile_client_is_one_line(record: logging.LogRecord) -> None:
    line = TextFormatter().format(record)

    assert line.isprintable()
    assert line.splitlines() == [line]
    assert "job_id=the-job" in line
    assert "job_id=forged" not in line


def test_json_line_of_a_hostile_client_is_one_line(record: logging.LogRecord) -> None:
    line = JsonFormatter().format(record)

    assert "\n" not in line
    assert json.loads(line)["job_id"] == "the-job"


class Written(io.StringIO):
    """Remembers what each call of the kernel would have brought."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def write(self, text: str) -> int:
        self.calls.append(text)
        return super().write(text)

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.getvalue().splitlines()]


@contextmanager
def lines() -> Iterator[Written]:
    """Where the lines of this process go, in JSON; for the time of the block nowhere else."""
    root, stream = logging.getLogger(), Written()
    before, level = root.handlers[:], root.level
    output = JsonLines(stream)
    output.setFormatter(JsonFormatter())
    root.handlers[:] = [output]
    root.setLevel("INFO")
    try:
        yield stream
    finally:
        root.handlers[:] = before
        root.setLevel(level)


async def test_lines_of_one_turn_are_written_in_one_go_and_in_order() -> None:
    with lines() as written, gathered(asyncio.get_running_loop()):
        event(LOG, "first", number=1)
        event(LOG, "second")
        nothing_yet = written.events()
        await asyncio.sleep(0)
        at_the_end_of_the_turn = [*written.calls]
        event(LOG, "third")
        LOG.warning("by_a_library")
        in_order = written.events()

    assert nothing_yet == []
    assert len(at_the_end_of_the_turn) == 1
    assert in_order == ["first", "second", "third", "by_a_library"]


async def test_lines_of_a_turn_that_never_ends_are_not_lost() -> None:
    with lines() as written:
        with gathered(asyncio.get_running_loop()):
            event(LOG, "before_the_thread")
            await asyncio.to_thread(event, LOG, "of_a_thread")
            event(LOG, "last")
        event(LOG, "after")

    told = written.events()
    assert "of_a_thread" in told
    assert [each for each in told if each != "of_a_thread"] == [
        "before_the_thread",
        "last",
        "after",
    ]


async def test_end_of_the_interpreter_writes_what_is_left() -> None:
    with lines() as written, gathered(asyncio.get_running_loop()):
        event(LOG, "last")
        logging.root.handlers[0].flush()

        assert written.events() == ["last"]
