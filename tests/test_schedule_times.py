"""When schedules tick: cron in a time zone, intervals, and what is done about missed ticks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.schedule import Decision, Missed, Schedule, check_cron, check_time_zone, decide, from_ms

BERLIN, SAO_PAULO, NEW_YORK = "Europe/Berlin", "America/Sao_Paulo", "America/New_York"
MINUTE = 60_000
HOUR = 60 * MINUTE


def ms(text: str) -> int:
    at = datetime.fromisoformat(text)
    assert at.tzinfo is not None
    return round(at.timestamp() * 1000)


def cron(text: str, time_zone: str = "UTC", missed: Missed = "skip") -> Schedule:
    return Schedule("s", {}, cron=text, time_zone=time_zone, missed=missed)


def every(milliseconds: int, missed: Missed = "skip") -> Schedule:
    return Schedule("s", {}, interval_ms=milliseconds, missed=missed)


def local_ticks(text: str, time_zone: str, start: str, count: int) -> list[str]:
    """The next ticks, as clocks there show them."""
    ticks = islice(cron(text, time_zone).after(ms(start), 0), count)
    return [
        from_ms(each).astimezone(ZoneInfo(time_zone)).strftime("%m-%d %H:%M%z") for each in ticks
    ]


@pytest.mark.parametrize(
    ("text", "time_zone", "start", "expected"),
    [
        # 2026-03-29: from 02:00 to 03:00.
        ("30 2 * * *", BERLIN, "2026-03-28T12:00Z", ["03-29 03:00+0200", "03-30 02:30+0200"]),
        ("*/15 2 * * *", BERLIN, "2026-03-28T12:00Z", ["03-29 03:00+0200", "03-30 02:00+0200"]),
        ("30 */2 * * *", BERLIN, "2026-03-29T00:00Z", ["03-29 03:00+0200", "03-29 04:30+0200"]),
        ("0 3 * * *", BERLIN, "2026-03-28T12:00Z", ["03-29 03:00+0200", "03-30 03:00+0200"]),
        ("*/30 * * * *", BERLIN, "2026-03-29T00:00Z",
         ["03-29 01:30+0100", "03-29 03:00+0200", "03-29 03:30+0200"]),
        # 2026-10-25: 02:00 to 03:00 comes twice.
        ("30 2 * * *", BERLIN, "2026-10-24T12:00Z", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        ("30 2 * * *", BERLIN, "2026-10-25T01:10Z", ["10-26 02:30+0100"]),
        ("*/30 2 * * *", BERLIN, "2026-10-24T12:00Z",
         ["10-25 02:00+0200", "10-25 02:30+0200", "10-26 02:00+0100"]),
        ("*/30 * * * *", BERLIN, "2026-10-25T00:10Z",
         ["10-25 02:30+0200", "10-25 02:00+0100", "10-25 02:30+0100", "10-25 03:00+0100"]),
        # 2018-11-04: midnight itself is left out; 2018-02-17 has 23:00 twice.
        ("0 0 * * *", SAO_PAULO, "2018-11-03T12:00Z", ["11-04 01:00-0200", "11-05 00:00-0200"]),
        ("*/30 * 4 11 *", SAO_PAULO, "2018-11-01T12:00Z", ["11-04 01:00-0200", "11-04 01:30-0200"]),
        ("30 23 * * *", SAO_PAULO, "2018-02-17T12:00Z", ["02-17 23:30-0200", "02-18 23:30-0300"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07T12:00Z", ["03-08 03:00-0400", "03-09 02:30-0400"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T12:00Z", ["11-01 01:30-0400", "11-02 01:30-0500"]),
    ],
)  # fmt: skip
def test_change_of_clocks_neither_loses_nor_doubles_a_tick(
    text: str, time_zone: str, start: str, expected: list[str]
) -> None:
    assert local_ticks(text, time_zone, start, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/7 * * * *", ["11-02 12:49", "11-02 12:56", "11-02 13:00", "11-02 13:07"]),
        ("0 9 * * MON-FRI", ["11-03 09:00", "11-04 09:00", "11-05 09:00", "11-06 09:00"]),
        ("0 9 * jan,DEC 1", ["12-07 09:00", "12-14 09:00"]),
        ("0 0 * * 7", ["11-08 00:00", "11-15 00:00"]),
        ("10-30/10 5 1,15 * *", ["11-15 05:10", "11-15 05:20", "11-15 05:30", "12-01 05:10"]),
        ("0 0 L * *", ["11-30 00:00", "12-31 00:00", "01-31 00:00", "02-28 00:00"]),
        ("0 0 LW * *", ["11-30 00:00", "12-31 00:00", "01-29 00:00"]),
        ("0 0 * * 5L", ["11-27 00:00", "12-25 00:00"]),
        ("0 0 * * MON#2", ["11-09 00:00", "12-14 00:00"]),
        # Either of both days, if both are named.
        ("0 0 13 * FRI", ["11-06 00:00", "11-13 00:00", "11-20 00:00"]),
    ],
)
def test_cron_is_read_as_cron_reads_it(text: str, expected: list[str]) -> None:
    ticks = islice(cron(text).after(ms("2026-11-02T12:47:30Z"), 0), len(expected))

    assert [from_ms(each).strftime("%m-%d %H:%M") for each in ticks] == expected


def test_leap_day_comes_in_leap_years() -> None:
    ticks = islice(cron("0 0 29 2 *").after(ms("2026-11-02T12:00Z"), 0), 2)

    assert [from_ms(each).year for each in ticks] == [2028, 2032]


@pytest.mark.parametrize(
    "text",
    [
        "", "@daily", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *",
        "* * * 13 *", "* * * * 8", "* * * * someday", "9-5 * * * *", "*/0 * * * *", "? * * * *",
        "0 0 15W * *", "0 0 30 2 *", "0 0 31 4,6 *", "* * * * L", "H * * * *", "٣ * * * *",
        "-1 * * * *", "1,,2 * * * *", "*" * 300,
    ],
)  # fmt: skip
def test_what_is_no_cron_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"five fields|never comes"):
        check_cron(text)


@given(st.lists(st.text("0123456789*,-/LW#MON", min_size=1, max_size=6), min_size=5, max_size=5))
def test_any_text_is_a_schedule_or_a_fault(parts: list[str]) -> None:
    text = " ".join(parts)
    try:
        check_cron(text)
    except ValueError:
        return

    assert next(cron(text, BERLIN).after(ms("2026-01-01T00:00Z"), 0)) > ms("2026-01-01T00:00Z")


@pytest.mark.parametrize(
    "name", ["", "Europe", "europe/berlin", "../../etc/passwd", "Mars/Base", "localtime"]
)
def test_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        check_time_zone(name)


@given(st.integers(1000, 10**10), st.integers(0, 10**12), st.integers(0, 10**6))
def test_interval_does_not_drift(interval: int, late_ms: int, anchor: int) -> None:
    """However late each look is, ticks are whole intervals from the anchor."""
    found = next(every(interval).after(anchor + late_ms, anchor))

    assert found > anchor + late_ms
    assert found - (anchor + late_ms) <= interval or found == anchor + interval
    assert (found - anchor) % interval == 0


def test_first_tick_of_an_interval_comes_one_interval_after_its_start() -> None:
    assert list(islice(every(MINUTE).after(5_000, 5_000), 2)) == [65_000, 125_000]


class TestDecisions:
    due = ms("2026-06-01T03:00Z")

    def decide(self, schedule: Schedule, late_ms: int, *, put_off: bool = False) -> Decision:
        return decide(schedule, self.due, self.due + late_ms, 0, was_put_off=put_off)

    @pytest.mark.parametrize("missed", ["skip", "run_once"])
    @pytest.mark.parametrize("late_ms", [0, 1, 30_000, MINUTE])
    def test_tick_in_time_runs(self, missed: Missed, late_ms: int) -> None:
        found = self.decide(cron("0 3 * * *", missed=missed), late_ms)

        assert found == Decision(self.due + 24 * HOUR, self.due)

    def test_missed_tick_is_skipped(self) -> None:
        found = self.decide(cron("0 3 * * *"), 2 * HOUR)

        assert found == Decision(self.due + 24 * HOUR, None, is_missed=True)

    def test_of_many_that_were_missed_the_last_one_runs_once(self) -> None:
        schedule = cron("0 * * * *", missed="run_once")
        found = self.decide(schedule, 100 * HOUR + 5 * MINUTE)

        assert found == Decision(self.due + 101 * HOUR, self.due + 100 * HOUR)

    def test_after_an_outage_the_tick_of_this_minute_runs_though_others_are_skipped(self) -> None:
        found = self.decide(cron("0 * * * *"), 5 * HOUR + 2_000)

        assert found == Decision(self.due + 6 * HOUR, self.due + 5 * HOUR)

    def test_what_was_put_off_is_tried_until_the_next_tick(self) -> None:
        schedule = cron("0 * * * *")

        assert self.decide(schedule, 50 * MINUTE, put_off=True).run_ms == self.due
        assert self.decide(schedule, 70 * MINUTE, put_off=True).is_missed

    def test_tick_that_a_wrong_clock_planned_far_ahead_is_planned_anew(self) -> None:
        found = self.decide(cron("0 3 * * *"), -400 * 24 * HOUR)

        assert (found.run_ms, found.is_missed) == (None, False)
        assert found.next_ms <= self.due - 399 * 24 * HOUR

    @pytest.mark.parametrize("schedule", [cron("* * * * *", BERLIN), every(MINUTE), every(7777)])
    @given(st.integers(0, 10**9))
    def test_latest_tick_is_the_last_of_those_that_have_come(
        self, schedule: Schedule, late_ms: int
    ) -> None:
        anchor = self.due - 7777 * 6
        since = next(schedule.after(self.due, anchor))
        until = since + late_ms

        latest = schedule.latest(since, until, anchor)

        assert since <= latest <= until
        assert next(schedule.after(latest, anchor)) > until

    def test_ten_years_of_missed_minutes_are_looked_through_at_once(self) -> None:
        start = datetime(2016, 1, 1, tzinfo=UTC)
        now = start + timedelta(days=3650, seconds=30)
        looked = 0

        class Counted(Schedule):
            def after(self, at_ms: int, anchor_ms: int):  # type: ignore[no-untyped-def]
                nonlocal looked
                for each in super().after(at_ms, anchor_ms):
                    looked += 1
                    yield each

        since, until = (round(each.timestamp() * 1000) for each in (start, now))
        schedule = Counted("s", {}, cron="* * * * *")

        assert schedule.latest(since, until, 0) == until - 30_000
        assert looked < 100
