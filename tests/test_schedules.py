"""Schedules over HTTP and on a real Valkey: each tick one job, whoever looks and however often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, model_validator
from redis.exceptions import RedisError

from app.http.submissions import Terms
from app.queue.connection import Reachability, connect
from app.queue.ticking import LAST_RUNS, Ticker
from app.schedule import Schedule
from app.schedules_file import job_maker, read_file
from jobs.catalog import Catalog, load
from tests.harness import JOB_MODULES
from tests.heart_scene import LossyNetwork
from tests.http_doubles import bearer, key, settings_with
from tests.web_scene import NOTE, WebScene, web_scene_on

DAY_MS = 86_400_000
HOURLY: dict[str, Any] = {"name": "hourly", "cron": "0 * * * *", "job": NOTE}
EMAIL: dict[str, Any] = {
    "type": "email.send",
    "params": {"from": "a@shop.example", "to": "b@shop.example", "subject": "x", "text": "x"},
}


@dataclass(frozen=True)
class Stage:
    """A web scene, and the part of upkeep that does what schedules say."""

    web: WebScene
    ticker: Ticker

    async def create(self, **changes: Any) -> dict[str, Any]:
        answer = await self.web.post("/v1/schedules", HOURLY | changes)
        assert answer.status_code == 201, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def shown(self, name: str = "hourly") -> dict[str, Any]:
        answer = await self.web.client.get(f"/v1/schedules/{name}")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def come_due(self, name: str = "hourly", late_ms: int = 0) -> int:
        """As if its tick had come so long ago; the tick's time."""
        tick_ms = self.web.heart.now_ms() - late_ms
        self.web.heart.redis.hset(f"rq:recado:schedule:{name}", "next", tick_ms)
        self.web.heart.redis.zadd("rq:recado:schedules", {name: tick_ms})
        return tick_ms

    async def tick(self, name: str = "hourly", late_ms: int = 0) -> list[str]:
        """Its tick comes, and upkeep looks; the jobs of its last runs."""
        self.come_due(name, late_ms)
        await self.ticker.look()
        return [*(await self.shown(name))["last_runs"]]

    async def put_off_count(self) -> int:
        """How many schedules wait with a tick, as Prometheus is told."""
        (line,) = [
            each
            for each in (await self.web.client.get("/metrics")).text.splitlines()
            if each.startswith("recado_schedules_put_off ")
        ]
        return int(float(line.partition(" ")[2]))

    async def run_all(self) -> None:
        """A worker finishes whatever waits."""
        actor = await self.web.heart.worker()
        for each in (await actor.claim(coroutines=50)).jobs:
            await actor.finish(each)


@asynccontextmanager
async def ticker_on(
    url: str,
    catalog: Catalog | None = None,
    *,
    most_queued: int = 1000,
    declared: list[Schedule] | None = None,
) -> AsyncIterator[Ticker]:
    catalog = catalog if catalog is not None else load([JOB_MODULES])
    client = connect(url)
    ticker = Ticker(
        client, Reachability(), job_maker(Terms.of(settings_with(), catalog)),
        most_queued=most_queued, most_queued_bytes=10**9, declared=declared,
    )  # fmt: skip
    try:
        yield ticker
    finally:
        await ticker.aclose()
        await client.aclose()


@asynccontextmanager
async def stage_on(url: str, **options: Any) -> AsyncIterator[Stage]:
    async with web_scene_on(url) as web, ticker_on(url, **options) as ticker:
        yield Stage(web, ticker)


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with stage_on(redis_url) as stage:
        yield stage


class TestWriting:
    async def test_new_schedule_is_shown_with_its_next_runs(self, stage: Stage) -> None:
        answer = await stage.web.post(
            "/v1/schedules",
            HOURLY | {"time_zone": "Europe/Berlin", "missed": "run_once", "overlap": "enqueue"},
        )

        assert (answer.status_code, answer.headers["Location"]) == (201, "/v1/schedules/hourly")
        shown = answer.json()
        assert shown == await stage.shown()
        assert shown["cron"] == "0 * * * *"
        assert (shown["interval"], shown["time_zone"]) == (None, "Europe/Berlin")
        assert (shown["missed"], shown["overlap"]) == ("run_once", "enqueue")
        assert shown["job"] == NOTE
        assert (shown["source"], shown["created_by"]) == ("http", "local")
        assert (len(shown["next_runs"]), shown["last_runs"]) == (5, [])
        assert {each[14:] for each in shown["next_runs"]} == {"00:00Z"}
        assert shown["links"]["jobs"] == "/v1/jobs?tag=schedule:hourly"

    async def test_list_is_in_order_of_name_and_goes_on(self, stage: Stage) -> None:
        for name in ("c", "a", "b"):
            await stage.create(name=name)

        first = await stage.web.client.get("/v1/schedules?limit=2")
        rest = await stage.web.client.get(first.links["next"]["url"])

        assert [each["name"] for each in first.json()["data"]] == ["a", "b"]
        assert [each["name"] for each in rest.json()["data"]] == ["c"]
        assert rest.json()["next_cursor"] is None

    async def test_name_is_taken_once(self, stage: Stage) -> None:
        await stage.create()

        answer = await stage.web.post("/v1/schedules", HOURLY)

        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/schedule-exists")

    async def test_put_makes_and_replaces(self, stage: Stage) -> None:
        body = {"interval": 90.5, "job": NOTE}
        first = await stage.web.client.put("/v1/schedules/beat", json=body)
        second = await stage.web.client.put("/v1/schedules/beat", json=body | {"interval": 60})

        assert [first.status_code, second.status_code] == [201, 200]
        assert [first.json()["interval"], second.json()["interval"]] == [90.5, 60]
        assert second.json()["created_at"] == first.json()["created_at"]

    async def test_change_of_the_job_leaves_the_next_tick_as_it_was(self, stage: Stage) -> None:
        body: dict[str, Any] = {"interval": 3600, "job": NOTE}
        await stage.web.client.put("/v1/schedules/beat", json=body)
        planned = stage.come_due("beat", late_ms=-1234)

        await stage.web.client.put("/v1/schedules/beat", json=body | {"overlap": "enqueue"})

        kept = stage.web.heart.redis.hget("rq:recado:schedule:beat", "next")
        assert int(kept) == planned

    async def test_deleted_schedule_is_gone_and_its_jobs_stay(self, stage: Stage) -> None:
        await stage.create()
        (job_id,) = await stage.tick()

        answers = [await stage.web.client.delete("/v1/schedules/hourly") for _ in range(2)]

        assert [each.status_code for each in answers] == [204, 404]
        assert (await stage.web.client.get("/v1/schedules/hourly")).status_code == 404
        assert (await stage.web.job(job_id))["status"] == "queued"
        assert not [each for each in stage.web.heart.stored() if "recado:schedule:" in each]

    async def test_who_wrote_it_is_in_the_audit_trail(self, stage: Stage) -> None:
        await stage.create()
        await stage.web.client.put("/v1/schedules/hourly", json=HOURLY | {"missed": "run_once"})
        await stage.web.client.delete("/v1/schedules/hourly")

        acts = (await stage.web.client.get("/v1/audit")).json()["data"]

        assert [(each["key"], each["action"], each["target"]) for each in acts] == [
            ("local", act, "/v1/schedules/hourly") for act in ("delete", "replace", "create")
        ]

    @pytest.mark.parametrize(
        ("changes", "pointers"),
        [
            ({"cron": "0 * * *"}, ["/cron"]),
            ({"cron": "0 0 30 2 *"}, ["/cron"]),
            ({"cron": None}, [""]),
            ({"interval": 60}, [""]),
            ({"cron": None, "interval": 0.5}, ["/interval"]),
            ({"time_zone": "Mars/Base"}, ["/time_zone"]),
            ({"name": "No Name"}, ["/name"]),
            ({"missed": "all"}, ["/missed"]),
            ({"every": 60}, ["/every"]),
            ({"job": None}, ["/job"]),
            ({"job": {"type": "no.such"}}, ["/job/type"]),
            ({"job": {"type": "log.write", "params": {"level": "x"}}, "cron": "x"},
             ["/cron", "/job/params/message", "/job/params/level"]),
            ({"job": NOTE | {"options": {"max_attempts": 0}}}, ["/job/options/max_attempts"]),
            ({"job": NOTE | {"options": {"scheduled_at": "2030-01-01T00:00:00Z"}}},
             ["/job/options/scheduled_at"]),
            ({"job": NOTE | {"options": {"depends_on": ["x" * 30]}}}, ["/job/options/depends_on"]),
            ({"job": NOTE | {"options": {"tags": {"schedule": "mine"}}}},
             ["/job/options/tags/schedule"]),
            ({"job": EMAIL | {"params": EMAIL["params"] | {"text": "x" * 200_000}}},
             ["/job/params"]),
            ({"job": {"type": "data.profile", "params": {"upload_id": "x" * 30}}},
             ["/job/params"]),
        ],
    )  # fmt: skip
    async def test_all_that_is_wrong_is_told_at_once(
        self, stage: Stage, changes: dict[str, Any], pointers: list[str]
    ) -> None:
        answer = await stage.web.post("/v1/schedules", HOURLY | changes)

        assert answer.status_code == 422, answer.text
        assert sorted(each["pointer"] for each in answer.json()["errors"]) == sorted(pointers)
        assert (await stage.web.client.get("/v1/schedules")).json()["data"] == []

    async def test_name_of_a_put_is_that_of_its_path(self, stage: Stage) -> None:
        answer = await stage.web.client.put("/v1/schedules/other", json=HOURLY)

        assert [each["pointer"] for each in answer.json()["errors"]] == ["/name"]


class TestTicks:
    async def test_tick_makes_one_job_however_often_one_looks(self, stage: Stage) -> None:
        job = NOTE | {"options": {"tags": {"team": "red"}, "priority": "low"}}
        await stage.create(job=job)

        (job_id,) = await stage.tick()
        await stage.ticker.look()

        shown = await stage.web.job(job_id)
        assert (shown["status"], shown["priority"]) == ("queued", "low")
        assert shown["tags"] == {"team": "red", "schedule": "hourly"}
        assert shown["submitted_by"] == "local"
        found = await stage.web.client.get("/v1/jobs?tag=schedule:hourly")
        assert [each["id"] for each in found.json()["data"]] == [job_id]

    async def test_jobs_of_ticks_are_counted_as_submitted(self, stage: Stage) -> None:
        await stage.create()
        await stage.tick()

        figures = (await stage.web.client.get("/metrics")).text

        assert 'recado_jobs_submitted_total{queue="default",type="test.note"} 1.0' in figures

    async def test_nothing_comes_before_its_time(self, stage: Stage) -> None:
        await stage.create()
        stage.come_due(late_ms=-60_000)

        wait = await stage.ticker.look()

        assert wait is not None
        assert 0 < wait <= 60
        assert (await stage.shown())["last_runs"] == []

    async def test_many_that_look_at_once_make_one_job(self, stage: Stage, redis_url: str) -> None:
        await stage.create(overlap="enqueue")
        async with ticker_on(redis_url) as second, ticker_on(redis_url) as third:
            for ticks in range(1, 6):
                stage.come_due()
                await asyncio.gather(*(each.look() for each in (stage.ticker, second, third)))
                assert len((await stage.shown())["last_runs"]) == ticks

        assert len(stage.web.heart.queued()) == 5

    @pytest.mark.parametrize("lost", [1, 2])
    async def test_lost_reply_makes_no_second_job(
        self, stage: Stage, redis_url: str, lost: int
    ) -> None:
        await stage.create()
        network = LossyNetwork(int(redis_url.rpartition(":")[2].partition("/")[0]))
        await network.open()
        try:
            async with ticker_on(network.url) as ticker:
                await ticker.look()
                stage.come_due()
                network.lose_replies(lost)
                for _ in range(3):
                    with suppress(RedisError, OSError):
                        await ticker.look()
        finally:
            await network.close()

        assert len(stage.web.heart.queued()) == 1
        assert len((await stage.shown())["last_runs"]) == 1

    async def test_tick_stays_out_while_the_job_before_has_not_ended(self, stage: Stage) -> None:
        await stage.create()
        (first,) = await stage.tick()

        assert await stage.tick() == [first]
        assert (await stage.shown())["last_skip"]["reason"] == "overlap"
        await stage.run_all()
        assert len(await stage.tick()) == 2

    async def test_overlapping_jobs_are_made_where_that_is_asked_for(self, stage: Stage) -> None:
        await stage.create(overlap="enqueue")
        await stage.tick()

        assert len(await stage.tick()) == 2

    async def test_history_is_bounded(self, stage: Stage) -> None:
        await stage.create(overlap="enqueue")

        for _ in range(LAST_RUNS + 2):
            runs = await stage.tick()

        assert len(runs) == LAST_RUNS
        assert runs == sorted(runs, reverse=True)

    async def test_missed_ticks_are_skipped_and_said(self, stage: Stage) -> None:
        await stage.create(cron="0 0 1 1 *")

        assert await stage.tick(late_ms=3 * DAY_MS) == []
        shown = await stage.shown()
        assert shown["last_skip"]["reason"] == "missed"
        assert len(shown["next_runs"]) == 5

    async def test_missed_ticks_run_once_where_that_is_asked_for(self, stage: Stage) -> None:
        await stage.create(cron="* * * * *", missed="run_once", overlap="enqueue")

        assert len(await stage.tick(late_ms=3 * DAY_MS)) == 1
        await stage.ticker.look()
        assert len(stage.web.heart.queued()) == 1

    async def test_clock_that_was_far_ahead_delays_nothing(self, stage: Stage) -> None:
        """What it planned, and what it saw, lies in a future that is none any more."""
        await stage.create(interval=60, cron=None)
        stage.come_due(late_ms=-400 * DAY_MS)
        ahead = stage.web.heart.now_ms() + 400 * DAY_MS
        stage.web.heart.redis.set("rq:recado:schedules_at", ahead)

        await stage.ticker.look()
        wait = await stage.ticker.look()

        assert wait is not None
        assert wait <= 60
        assert (await stage.shown())["last_runs"] == []

    async def test_clock_that_is_put_back_over_a_tick_repeats_no_job(self, stage: Stage) -> None:
        await stage.create(overlap="enqueue")
        tick_ms = stage.come_due()
        await stage.ticker.look()
        key_name = "rq:recado:schedule:hourly"
        stage.web.heart.redis.hset(key_name, "next", tick_ms)
        stage.web.heart.redis.zadd("rq:recado:schedules", {"hourly": tick_ms})

        await stage.ticker.look()

        assert len(stage.web.heart.queued()) == 1
        assert int(stage.web.heart.redis.hget(key_name, "next")) > tick_ms

    async def test_replaced_schedule_makes_the_new_job(self, stage: Stage) -> None:
        await stage.create()
        changed = HOURLY | {"job": {"type": "log.write", "params": {"message": "new"}}}
        await stage.web.client.put("/v1/schedules/hourly", json=changed)

        (job_id,) = await stage.tick()

        assert (await stage.web.job(job_id))["type"] == "log.write"


class TestTrouble:
    async def test_full_queue_puts_the_tick_off_until_there_is_room(self, redis_url: str) -> None:
        async with stage_on(redis_url, most_queued=1) as stage:
            await stage.create()
            await stage.web.submit()

            assert await stage.tick() == []
            assert "too many jobs wait in queue default" in (await stage.shown())["warnings"][0]
            assert await stage.put_off_count() == 1
            await stage.run_all()
            # Its time to be tried again.
            stage.web.heart.redis.zadd("rq:recado:schedules", {"hourly": 0})
            await stage.ticker.look()

            shown = await stage.shown()
            assert len(shown["last_runs"]) == 1
            assert not any("waits:" in each for each in shown["warnings"])
            assert await stage.put_off_count() == 0

    @pytest.mark.parametrize("change", [None, HOURLY | {"cron": None, "interval": 60}], ids=ascii)
    async def test_schedule_that_goes_or_has_another_time_waits_no_more(
        self, redis_url: str, change: dict[str, Any] | None
    ) -> None:
        async with stage_on(redis_url, most_queued=1) as stage:
            await stage.create()
            await stage.web.submit()
            await stage.tick()
            before = await stage.put_off_count()

            path = "/v1/schedules/hourly"
            if change is None:
                await stage.web.client.delete(path)
            else:
                await stage.web.client.put(path, json=change)

            assert (before, await stage.put_off_count()) == (1, 0)

    async def test_put_off_tick_does_not_keep_upkeep_busy(self, redis_url: str) -> None:
        async with stage_on(redis_url, most_queued=1) as stage:
            await stage.create()
            await stage.web.submit()
            await stage.tick()

            wait = await stage.ticker.look()

            assert wait is not None
            assert wait > 1

    async def test_type_that_is_gone_is_said_on_the_schedule_and_logged_once(
        self, redis_url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with stage_on(redis_url, catalog=Catalog()) as stage:
            await stage.create()
            for _ in range(2):
                assert await stage.tick() == []
                stage.web.heart.redis.zadd("rq:recado:schedules", {"hourly": 0})
                await stage.ticker.look()

            warnings = (await stage.shown())["warnings"]
        assert "/type: there is no such job type" in warnings[0]
        told = [each for each in caplog.records if each.getMessage() == "schedule_put_off"]
        assert len(told) == 2, "once a tick"

    async def test_type_whose_check_breaks_holds_up_no_other(self, redis_url: str) -> None:
        class Broken(BaseModel):
            @model_validator(mode="after")
            def _break(self) -> Broken:
                raise RuntimeError("broken")

        catalog = Catalog()
        catalog.add(load().get("log.write"))
        catalog.add(load([JOB_MODULES]).get("test.note")._replace(find_params=lambda: Broken))
        async with stage_on(redis_url, catalog=catalog) as stage:
            await stage.create(name="a")
            await stage.create(name="b", job={"type": "log.write", "params": {"message": "x"}})
            stage.come_due("a", late_ms=1)

            assert len(await stage.tick("b")) == 1
            warnings = (await stage.shown("a"))["warnings"]
        assert "RuntimeError while its params were checked" in warnings[0]

    async def test_full_redis_puts_the_tick_off(self, stage: Stage) -> None:
        await stage.create(cron="0 0 1 1 *")
        stage.come_due()
        redis = stage.web.heart.redis
        redis.config_set("maxmemory", 1)
        try:
            wait = await stage.ticker.look()
        finally:
            redis.config_set("maxmemory", 0)

        assert wait is not None
        assert wait >= 1
        assert (await stage.shown())["last_runs"] == []
        await stage.ticker.look()
        assert len((await stage.shown())["last_runs"]) == 1

    async def test_broken_schedule_holds_up_no_other(self, stage: Stage) -> None:
        await stage.create(name="a")
        await stage.create(name="b")
        stage.web.heart.redis.delete("rq:recado:schedule:a")
        stage.web.heart.redis.zadd("rq:recado:schedules", {"a": 0})

        assert len(await stage.tick("b")) == 1


class TestFile:
    TEXT = """
[[schedules]]
name = "nightly"
cron = "0 3 * * *"
time_zone = "Europe/Berlin"
job = { type = "log.write", params = { message = "good night" } }
"""

    def read(self, path: Path, text: str) -> tuple[list[Schedule], list[str]]:
        path.write_text(text, "utf-8")
        return read_file(path, Terms.of(settings_with(), load()))

    async def test_what_stands_in_it_runs_and_is_changed_there_only(
        self, stage: Stage, redis_url: str, tmp_path: Path
    ) -> None:
        schedules, faults = self.read(tmp_path / "s.toml", self.TEXT)
        assert faults == []
        async with ticker_on(redis_url, declared=schedules) as ticker:
            await ticker.prepare()

        shown = await stage.shown("nightly")
        assert (shown["source"], shown["created_by"]) == ("file", "schedules-file")
        (job_id,) = await stage.tick("nightly")
        assert (await stage.web.job(job_id))["submitted_by"] == "schedules-file"
        path = "/v1/schedules/nightly"
        body = {"interval": 60, "job": NOTE}
        for answer in (
            await stage.web.client.put(path, json=body),
            await stage.web.client.delete(path),
        ):
            assert (answer.status_code, answer.json()["type"]) == (
                409, "/problems/schedule-from-file",
            )  # fmt: skip

    async def test_empty_file_ends_them_all_and_no_file_ends_none(
        self, stage: Stage, redis_url: str, tmp_path: Path
    ) -> None:
        declared, _ = self.read(tmp_path / "s.toml", self.TEXT)
        empty, faults = self.read(tmp_path / "s.toml", "")
        kept = []
        for each in (declared, None, empty):
            async with ticker_on(redis_url, declared=each) as ticker:
                await ticker.prepare()
            listed = (await stage.web.client.get("/v1/schedules")).json()["data"]
            kept.append([schedule["name"] for schedule in listed])

        assert (kept, faults) == ([["nightly"], ["nightly"], []], [])

    async def test_what_is_no_longer_in_it_is_deleted_and_nothing_else(
        self, stage: Stage, redis_url: str, tmp_path: Path
    ) -> None:
        await stage.create()
        for text in (self.TEXT, ""):
            schedules, _ = self.read(tmp_path / "s.toml", text)
            async with ticker_on(redis_url, declared=schedules) as ticker:
                await ticker.prepare()

        names = [
            each["name"] for each in (await stage.web.client.get("/v1/schedules")).json()["data"]
        ]
        assert names == ["hourly"]

    def test_json_says_the_same(self, tmp_path: Path) -> None:
        text = (
            '{"schedules": [{"name": "nightly", "cron": "0 3 * * *", "time_zone": "Europe/Berlin",'
            ' "job": {"type": "log.write", "params": {"message": "good night"}}}]}'
        )

        from_json = self.read(tmp_path / "s.json", text)

        assert from_json == self.read(tmp_path / "s.toml", self.TEXT)

    def test_all_faults_are_told_at_once(self, tmp_path: Path) -> None:
        bad = self.TEXT + self.TEXT + '[[schedules]]\nname = "B"\ninterval = 0\njob = {type = "x"}'

        _, faults = self.read(tmp_path / "s.toml", bad)

        assert [each.split(": ")[1] for each in faults] == [
            "/schedules/1/name", "/schedules/2/name", "/schedules/2/interval",
            "/schedules/2/job/type",
        ]  # fmt: skip

    @pytest.mark.parametrize("text", ["[", "x = 1", "schedules = 1", "schedules = [1]"])
    def test_what_is_no_list_of_schedules_is_refused(self, tmp_path: Path, text: str) -> None:
        schedules, faults = self.read(tmp_path / "s.toml", text)

        assert schedules == []
        assert len(faults) == 1
        assert faults[0].startswith("SCHEDULES_FILE: ")


@pytest.mark.parametrize("scope", ["submit", "read"])
async def test_all_of_it_needs_operate(redis_url: str, scope: str) -> None:
    async with web_scene_on(redis_url, key("k", scope)) as web:
        headers = bearer("k")
        answers = [
            await web.client.post("/v1/schedules", json=HOURLY, headers=headers),
            await web.client.get("/v1/schedules", headers=headers),
            await web.client.get("/v1/schedules/x", headers=headers),
            await web.client.put("/v1/schedules/x", json=HOURLY, headers=headers),
            await web.client.delete("/v1/schedules/x", headers=headers),
        ]

    assert {each.status_code for each in answers} == {403}


async def test_job_is_submitted_by_the_key_that_wrote_the_schedule(redis_url: str) -> None:
    ops = key("ops", "operate")
    async with web_scene_on(redis_url, ops) as web, ticker_on(redis_url) as ticker:
        web.client.headers.update(bearer("ops"))
        stage = Stage(web, ticker)
        shown = await stage.create()
        (job_id,) = await stage.tick()
        job = await web.job(job_id)

    assert (shown["created_by"], job["submitted_by"]) == ("ops", "ops")
