"""Tables as wide as the terminal: what gives way, and what is left out and said to be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.commands.drawing import LEAST_WIDTH, Line, Table, width_of
from app.commands.tables import failure_table, job_table
from app.queue.records.failed import FailureGroup
from app.queue.records.views import JobError, JobView

YESTERDAY = datetime.now(UTC) - timedelta(days=1)
MESSAGE = "550 5.1.1 mailbox unavailable: no such user here, and nobody who would take it for them"
GROUP = FailureGroup(
    fingerprint="0123456789abcdef", type="email.send", queue="email", count=200_000,
    error_class="PermanentError", message=MESSAGE, first_seen=YESTERDAY, last_seen=YESTERDAY,
    is_regressed=True, trend={"1h": 12, "24h": 3456, "7d": 200_000}, samples=[],
)  # fmt: skip
JOB = JobView(
    id="0" * 35, type="email.send", queue="email", priority="default", status="failed",
    attempt=8, max_attempts=8, created_at=YESTERDAY,
    error=JobError("smtp_permanent", MESSAGE, "PermanentError", retryable=False),
)  # fmt: skip


def texts(table: Table, width: int) -> list[str]:
    return [line.text for line in table.lines(width)]


@pytest.mark.parametrize("table", [failure_table([GROUP]), job_table([JOB])])
def test_error_keeps_its_room_at_80_columns(table: Table) -> None:
    narrow, wide = texts(table, 80), texts(table, 250)

    assert max(map(len, narrow)) <= 80
    assert narrow[0].endswith("error")
    errors = [line[narrow[0].index("error") :] for line in narrow[2:-1]]
    assert " ".join(errors).startswith(wide[2][wide[0].index("error") :])
    assert max(map(len, errors)) >= LEAST_WIDTH - 5
    assert narrow[-1].startswith("No room for: queue")
    assert len(wide) == 3


def test_nothing_is_left_out_where_there_is_room() -> None:
    short = replace(JOB, id="1", error=None, type="a.b")

    assert not any("No room" in line for line in texts(job_table([short]), 80))


def test_column_of_nothing_takes_no_room() -> None:
    calm = replace(GROUP, is_regressed=False)

    assert "cause            jobs" in texts(failure_table([calm]), 250)[0]


def test_word_that_fits_no_line_is_parted_and_wide_letters_count_twice() -> None:
    table = Table("name", "text")
    table.add("a", "界" * 25)
    table.add("b", "x" * 45)

    lines = texts(table, 4 + 1 + 20)

    assert lines[2:5] == ["a    " + "界" * 10, "     " + "界" * 10, "     " + "界" * 5]
    assert lines[5:] == ["b    " + "x" * 20, "     " + "x" * 20, "     " + "x" * 5]
    assert max(map(width_of, lines)) == 25


def test_name_of_no_end_leaves_the_others_their_room() -> None:
    table = Table("name", "type", "text")
    table.add("a", "t" * 200, "b")

    assert texts(table, 80)[2] == f"a    {'t' * 35}… b"


def test_styles_are_the_terminals_only() -> None:
    line = Line.of(Line("a", "bold red"), Line(" b"), Line("", "dim"))

    assert (line.text, line.coloured()) == ("a b", "\x1b[1;31ma\x1b[0m b")
