"""A line of the log is one line, and says what the service says, whatever a client puts in."""

from __future__ import annotations

import json
import logging

import pytest

from app.logs import JsonFormatter, TextFormatter
from jobs.context import JobContext
from jobs.log import LogWriteParams, write

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
