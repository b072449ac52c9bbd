"""/metrics says what is; and what dashboards and alerts ask for is there."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

from app.queue.control import Control
from tests.figure_doubles import MemoryFigures
from tests.http_doubles import MemoryQueue, app_over, connect
from tests.promql_labels import TARGET, MismatchError, labels_of
from tests.web_scene import WebScene, web_scene_on

DEPLOY = Path(__file__).parent.parent / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "recado.json"
NAME = re.compile(r"\brecado_[a-z_]+")
LABELS = re.compile(
    r"(?:by|without|on) \(([a-z_, ]*)\)"  # in an expression
    r"|\{\{ ?(?:\$labels\.)?([a-z]+) ?\}\}"  # in a text
    r"|\{([a-z]+)[!=]"
)


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url) as web:
        yield web


async def families(web: WebScene) -> dict[str, Metric]:
    response = await web.client.get("/metrics")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {each.name: each for each in text_string_to_metric_families(response.text)}


def value(found: dict[str, Metric], sample: str, **labels: str) -> float:
    (only,) = [
        each.value
        for family in found.values()
        for each in family.samples
        if each.name == sample and each.labels == labels
    ]
    return only


async def test_gauges_are_as_the_queues_are(web: WebScene) -> None:
    actor = await web.heart.worker()
    for _ in range(3):
        await web.submit()
    await actor.claim(coroutines=1)
    control = Control(web.heart.client, web.heart.reachability)
    await control.pause("email", "ops")
    await control.aclose()

    found = await families(web)

    assert value(found, "recado_redis_up") == 1
    assert value(found, "recado_queue_depth", queue="default") == 2
    assert value(found, "recado_queue_running", queue="default") == 1
    assert value(found, "recado_queue_workers", queue="default") == 1
    assert value(found, "recado_queue_workers", queue="email") == 0
    assert value(found, "recado_queue_paused", queue="email") == 1
    assert value(found, "recado_queue_bytes", queue="default") > 0
    assert 0 <= value(found, "recado_queue_oldest_age_seconds", queue="default") < 60
    assert value(found, "recado_queue_oldest_age_seconds", queue="email") == 0
    assert value(found, "recado_worker_slots_busy") == 1
    assert value(found, "recado_redis_memory_used_bytes") > 0
    assert value(found, "recado_queue_depth_limit") == 1_000_000


async def test_counters_begin_at_zero_and_histograms_add_up(web: WebScene) -> None:
    job = {"queue": "default", "type": "test.note"}
    before = await families(web)
    actor = await web.heart.worker()
    await web.submit()
    await actor.finish(await actor.take())

    found = await families(web)

    assert value(before, "recado_jobs_finished_total", **job) == 0
    for name in ("submitted", "claimed", "finished"):
        assert value(found, f"recado_jobs_{name}_total", **job) == 1
    assert value(found, "recado_jobs_failed_total", **job) == 0
    for name in ("wait", "run"):
        assert value(found, f"recado_job_{name}_seconds_count", **job) == 1
        assert value(found, f"recado_job_{name}_seconds_bucket", le="+Inf", **job) == 1
        buckets = [
            each.value
            for each in found[f"recado_job_{name}_seconds"].samples
            if each.name.endswith("_bucket") and job.items() <= each.labels.items()
        ]
        assert buckets == sorted(buckets)
        assert len(buckets) == 15


async def test_labels_are_bounded(web: WebScene) -> None:
    for number in range(5):
        await web.heart.submit("test.note", queue=f"queue-{number}")

    found = await families(web)

    queues = {each.labels["queue"] for each in found["recado_queue_depth"].samples}
    assert not [each for each in queues if each.startswith("queue-")]
    assert value(found, "recado_queue_depth", queue="other") == 5
    assert value(found, "recado_jobs_submitted_total", queue="other", type="test.note") == 5


async def test_openmetrics_is_told_to_who_asks_for_it(web: WebScene) -> None:
    accept = "application/openmetrics-text; version=1.0.0"

    response = await web.client.get("/metrics", headers={"Accept": accept})

    assert response.headers["content-type"].startswith("application/openmetrics-text")
    read: Any = read_openmetrics(response.text)  # type: ignore[no-untyped-call]
    names = {each.name for each in read}
    assert {"recado_queue_depth", "recado_jobs_finished", "recado_submit_seconds"} <= names


async def test_without_redis_just_that_is_told() -> None:
    figures = MemoryFigures(unavailable="Redis does not answer")
    async with connect(app_over(MemoryQueue(), figures=figures)) as client:
        response = await client.get("/metrics")

    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    assert (response.status_code, lines) == (200, ["recado_redis_up 0.0"])


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """What is asked for, with all that goes with it."""
    for rule in alert_rules():
        yield f"alert {rule['alert']}", f"{rule['expr']} {rule['annotations']}"
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']}", f"{target['expr']} {target['legendFormat']}"


async def test_dashboard_and_alerts_ask_for_what_there_is(web: WebScene) -> None:
    samples = [each for family in (await families(web)).values() for each in family.samples]
    there: dict[str, set[str]] = {}
    for sample in samples:
        there.setdefault(sample.name, set()).update(sample.labels)
    asked = dict.fromkeys(there, False)

    for where, text in expressions():
        names = set(NAME.findall(text))
        assert names, where
        assert names <= there.keys(), f"{where}: {names - there.keys()}"
        labels = {
            label.strip()
            for groups in LABELS.findall(text)
            for label in ",".join(groups).split(",")
            if label.strip()
        }
        known = set().union(*(there[name] for name in names))
        assert labels <= known, f"{where}: {labels - known}"
        asked |= dict.fromkeys(names, True)

    # What nobody looks at is not worth measuring; a histogram's parts go by its buckets.
    unasked = {
        name for name, is_asked in asked.items() if not is_asked
        if not name.endswith(("_sum", "_count", "_created"))
    }  # fmt: skip
    assert unasked == set()


async def test_both_sides_of_every_expression_can_meet(web: WebScene) -> None:
    """Prometheus' own grammar and types; and an alert that is valid may still never fire."""
    samples = [each for family in (await families(web)).values() for each in family.samples]
    there: dict[str, set[str]] = {}
    for sample in samples:
        there.setdefault(sample.name, set()).update(sample.labels)
    asked = [(f"alert {rule['alert']}", str(rule["expr"])) for rule in alert_rules()]
    asked += [
        (f"panel {panel['title']}", target["expr"].replace("$__rate_interval", "5m"))
        for panel in panels()
        for target in panel["targets"]
    ]

    for where, text in asked:
        try:
            labels = labels_of(promql_parser.parse(text), there)
        except (ValueError, MismatchError) as error:
            pytest.fail(f"{where}: {error}")
        assert labels is not None, f"{where}: a number"
        # `up` and the like are Prometheus' own: what differs by web process must be one here.
        assert not labels & TARGET, f"{where}: tells of each web process by itself"


@pytest.mark.parametrize(
    "text",
    [
        "max by (queue) (a) > 0.8 * on () group_left () max(b)", "a > max(b)",
        "max by (queue) (a) and max(b)", "sum by (le) (b) > 1", "histogram_quantile(0.5, sum(a))",
    ],
)  # fmt: skip
def test_what_never_meets_is_found(text: str) -> None:
    with pytest.raises(MismatchError):
        labels_of(promql_parser.parse(text), {"a": {"queue"}, "b": set()})


def test_alerts_are_as_prometheus_reads_them() -> None:
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]:
        assert group.keys() <= {"name", "rules", "interval"}
        for rule in group["rules"]:
            assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}, rule
            assert promql_parser.parse_duration(rule.get("for", "1m")).total_seconds() >= 60
            assert all(isinstance(each, str) for each in rule["annotations"].values())


def test_alerts_say_what_to_do() -> None:
    rules = alert_rules()
    names = [rule["alert"] for rule in rules]

    assert len(set(names)) == len(names) >= 10
    for rule in rules:
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule
        assert {"summary", "description"} <= rule["annotations"].keys(), rule


def test_every_alert_is_in_the_runbook() -> None:
    runbook = (DEPLOY.parent / "docs" / "operating.md").read_text()
    headings = " ".join(line for line in runbook.splitlines() if line.startswith("## "))
    alerts = re.findall(r"alert: (\w+)", ALERTS.read_text())

    assert sorted(re.findall(r"Recado\w+", headings)) == sorted(alerts)


def test_panels_do_not_lie_upon_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
