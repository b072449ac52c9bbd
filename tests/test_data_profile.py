"""Profiles: the figures are right, and the report opens anywhere and shows what is there."""

from __future__ import annotations

import json
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.data_scene import Done, run

ROWS: list[dict[str, Any]] = [
    {
        "id": n,
        "amount": n * 0.5 if n % 4 else None,
        "city": "Köln" if n % 3 else "<b>Rio</b>",
        "same": "x",
        "mixed": str(n) if n % 2 else "none",
        "day": f"2024-01-{n % 28 + 1:02}",
        "skewed": 10**6 if n == 7 else n % 3,
        "empty": None,
    }
    for n in range(100)
]


class Page(HTMLParser):
    """What a report has: its texts, its tags, and whatever it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.loaded: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [name for name, _ in attrs if name in {"src", "href", "onclick", "action"}]

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


@pytest.fixture(scope="module")
def done() -> Done:
    return run("profile", rows=ROWS)


def column(done: Done, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in done.result["columns"] if each["name"] == name)
    return found


def test_every_column_has_the_same_figures(done: Done) -> None:
    keys = {"name", "type", "count", "nulls", "distinct", "min", "max", "mean", "sd", "q25", "q50",
            "q75", "top"}  # fmt: skip

    assert done.result["row_count"] == 100
    assert [each["name"] for each in done.result["columns"]] == list(ROWS[0])
    assert all(set(each) == keys for each in done.result["columns"])


def test_figures_of_numbers(done: Done) -> None:
    amounts = [row["amount"] for row in ROWS if row["amount"] is not None]
    quartiles = statistics.quantiles(amounts, n=4, method="inclusive")

    found = column(done, "amount")

    assert (found["type"], found["count"], found["nulls"]) == ("DOUBLE", 75, 25)
    assert (found["distinct"], found["min"], found["max"]) == (75, min(amounts), max(amounts))
    assert found["mean"] == pytest.approx(statistics.mean(amounts))
    assert found["sd"] == pytest.approx(statistics.stdev(amounts))
    assert [found["q25"], found["q50"], found["q75"]] == pytest.approx(quartiles)


def test_figures_of_texts_and_days(done: Done) -> None:
    city, day = column(done, "city"), column(done, "day")

    assert city["top"] == [{"value": "Köln", "count": 66}, {"value": "<b>Rio</b>", "count": 34}]
    assert (city["mean"], city["q50"]) == (None, None)
    assert (day["type"], day["min"], day["max"]) == ("DATE", "2024-01-01", "2024-01-28")


def test_the_report_opens_offline_and_escapes_everything(done: Done) -> None:
    assert done.content_types == {"report.html": "text/html; charset=utf-8"}
    html = done.first.decode()
    page = Page(html)

    assert page.loaded == []
    assert not {"script", "b-", "img", "iframe", "link"} & set(page.tags)
    assert "<b>Rio" not in html
    assert "<b>Rio</b>" in page.texts
    assert "prefers-color-scheme:dark" in html
    assert set(ROWS[0]) <= set(page.texts)


@pytest.mark.parametrize(
    ("name", "warnings"),
    [("id", {"unique"}), ("same", {"constant"}), ("mixed", {"mixed types"}), ("city", set()),
     ("skewed", {"skewed"}), ("empty", {"empty"})],
)  # fmt: skip
def test_the_report_warns(done: Done, name: str, warnings: set[str]) -> None:
    sections = re.findall(r"<section>.*?</section>", done.first.decode(), re.DOTALL)
    (section,) = [each for each in sections if f"<h2>{name}</h2>" in each]

    assert set(re.findall(r'class="badge">([^<]*)<', section)) == warnings
    assert ("<svg" in section) == (name in {"id", "skewed"})


def test_a_large_table_is_estimated_and_says_so() -> None:
    data = "a,b\n" + "".join(f"{n},{n % 7}\n" for n in range(250_000))

    done = run("profile", data)

    a, b = done.result["columns"]
    assert done.result["row_count"] == 250_000
    assert (a["min"], a["max"], b["distinct"], b["nulls"]) == (0, 249_999, 7, 0)
    assert a["q50"] == pytest.approx(125_000, rel=0.05)
    assert a["distinct"] == pytest.approx(250_000, rel=0.1)
    assert b["top"][0] == {"value": 0, "count": 35_715}
    assert "distinct" in done.result["estimated"]
    assert "estimated" in done.first.decode()


# By a number from 1 to 11.
VALUES = {
    "tiny": "n::TINYINT",
    "huge": "n::HUGEINT * 10000000000000000000::HUGEINT",
    "price": "(n / 8)::DECIMAL(9, 3)",
    "digits": "(10000000000000000000 + n)::DECIMAL(38, 0)",
    "single": "(n / 7)::FLOAT",
    "double": "CASE n WHEN 4 THEN 'inf'::DOUBLE WHEN 5 THEN -0.0 ELSE n / 7 END",
    "unlike": "CASE n WHEN 3 THEN 'nan'::DOUBLE ELSE n / 7 END",
    "truth": "n % 2 = 0",
    "day": "DATE '2024-02-28' + n::INT",
    "moment": "TIMESTAMP '2024-02-28 23:59:59.5' + n * INTERVAL 1 SECOND",
    "zoned": "TIMESTAMPTZ '2024-02-28 23:59:59Z' + n * INTERVAL 1 HOUR",
    "clock": "TIME '10:00:00' + n * INTERVAL 1 MINUTE",
    "words": "'it''s ' || n",
    "list": "[n, n + 1]",
    "key": "md5(n::VARCHAR)::UUID",
}


def test_top_values_of_a_large_table_are_counted_in_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "large.parquet"
    columns = ", ".join(
        f"CASE WHEN n > 0 THEN {value} END AS {name}" for name, value in VALUES.items()
    )
    rows = "SELECT (i % 300) % (1 + i % 12) AS n FROM range(440000) numbers(i)"
    with duckdb.connect() as plain:
        plain.execute("SET TimeZone = 'UTC'")
        plain.execute(f"COPY (SELECT {columns} FROM ({rows})) TO '{path}'")
        expected = {
            name: plain.execute(
                f"SELECT count(*) AS n FROM '{path}' WHERE {name} IS NOT NULL GROUP BY {name}"
                f" ORDER BY n DESC, {name}::VARCHAR LIMIT 10"
            ).fetchall()
            for name in VALUES
        }

    done = run("profile", path.read_bytes())

    assert done.result["estimated"]
    for each in done.result["columns"]:
        counts = [top["count"] for top in each["top"]]
        assert counts == [count for (count,) in expected[each["name"]]], each["name"]
    tops = {each["name"]: each["top"][0]["value"] for each in done.result["columns"]}
    assert tops["moment"] == "2024-02-29 00:00:02.5"
    assert tops["price"] == 0.375
    assert tops["digits"] == "10000000000000000003"
    assert tops["unlike"] == "nan"


def test_empty_text_is_not_taken_for_all_that_is_not_among_the_top() -> None:
    rows = "".join('{"a":""}\n' if n % 3 else f'{{"a":"x{n}"}}\n' for n in range(240_000))

    done = run("profile", rows)

    assert done.result["columns"][0]["top"][0] == {"value": "", "count": 160_000}


def test_zeros_of_both_signs_are_one_value_beside_what_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "zeros.parquet"
    value = "CASE n % 4 WHEN 0 THEN 'nan' WHEN 1 THEN '0.0' WHEN 2 THEN '-0.0' ELSE '1.5' END"
    with duckdb.connect() as plain:
        plain.execute(f"COPY (SELECT ({value})::DOUBLE AS v FROM range(240000) r(n)) TO '{path}'")

    done = run("profile", path.read_bytes())

    counts = {str(top["value"]): top["count"] for top in done.result["columns"][0]["top"]}
    assert counts == {"0.0": 120_000, "1.5": 60_000, "nan": 60_000}


def test_columns_may_have_any_name() -> None:
    names = ["found", "text", "n", "value", "place", "beginning", "Found too", "count"]

    done = run("profile", ",".join(names) + "\n" + ",".join("1" for _ in names))

    assert done.error is None
    assert [each["name"] for each in done.result["columns"]] == names


def test_texts_of_numbers_only_are_not_mixed() -> None:
    lines = "".join(f'{{"a":"{text}"}}\n' for text in ("NaN", "1", " -2.5", "Infinity", "+inf"))

    done = run("profile", lines, types={"a": "text"})

    assert done.error is None
    assert "mixed types" not in done.first.decode()


def test_odd_tables() -> None:
    rows = [{"n": 2**70, "f": "NaN", "l": [1, {"a": None}]}, {"n": -(2**70), "f": "1", "l": []}]

    odd = run("profile", "\n".join(map(json.dumps, rows)))
    empty = run("profile", "a,b\n")

    assert odd.error is None
    assert [each["count"] for each in odd.result["columns"]] == [2, 2, 2]
    assert [each["top"] for each in empty.result["columns"]] == [[], []]
