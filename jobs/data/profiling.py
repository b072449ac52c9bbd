"""`data.profile`: what is in each column, exactly for small tables; a large one is passed over
once, and what would need all of its values at a time is estimated."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from jobs.context import JobContext
from jobs.data import reading, report, sql, values, wide
from jobs.data.engine import Engine, with_input
from jobs.data.params import ProfileParams

T = TypeVar("T")

# Up to so many rows are held, and looked at as often as need be.
SMALL_ROWS = 200_000
TOP = 10
# Values that are counted in a large table: the most frequent of its beginning.
CANDIDATES = 50
BINS = 20
# Between them the bins of a large table's histogram are filled evenly.
QUANTILES = 101
# In one SELECT: each has some ten aggregates.
COLUMNS_AT_ONCE = 50
# When memory is short: of the beginning that is held.
NARROW_CELLS = 4_000_000
# Each has a hash table.
COUNTED_AT_ONCE = 10
MAX_TEXT = 200
# What is told of a large table's columns without a look at all of their values at a time.
ESTIMATED = ["distinct", "q25", "q50", "q75", "top"]
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT",
            "UINTEGER", "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL")  # fmt: skip
_FLOATS = ("FLOAT", "DOUBLE")
_NUMERAL = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
_TIMES = ("DATE", "TIMESTAMP")
_ORDERED = (*_NUMBERS, *_TIMES, "VARCHAR", "BOOLEAN", "TIME", "UUID")


@dataclass(slots=True)
class Column:
    """One column: what the result says of it, and what the report draws besides."""

    name: str
    kind: str
    stats: dict[str, Any] = field(default_factory=dict)
    bins: list[tuple[float, float, float]] = field(default_factory=list)  # from, to, count
    warnings: list[str] = field(default_factory=list)

    @property
    def is_number(self) -> bool:
        return self.kind.startswith(_NUMBERS) and "[" not in self.kind

    @property
    def is_time(self) -> bool:
        return self.kind.startswith(_TIMES) and "[" not in self.kind

    @property
    def is_counted_as_is(self) -> bool:
        """Others are counted as texts, which takes longer. Bins of decimals are doubles (DuckDB
        2.0), and several of many digits would be one."""
        is_exact = self.is_number and not self.kind.startswith("DECIMAL")
        return is_exact or self.is_time or self.kind == "BOOLEAN"

    @property
    def is_ordered(self) -> bool:
        return self.kind.startswith(_ORDERED) and "[" not in self.kind


def run(params: ProfileParams, context: JobContext) -> dict[str, Any]:
    """See `jobs.data.profile`."""
    target = context.new_artifact("report.html", "text/html; charset=utf-8")

    def profile(engine: Engine) -> tuple[int, bool, list[Column]]:
        found = reading.columns_of(engine.connection, f"FROM {engine.input}")
        columns = [Column(name, kind) for name, kind in found]
        held, looked_at = _at_once(engine)
        for group in wide.groups_of(columns, held):
            names = ", ".join(sql.name(column.name) for column in group)
            engine.rows(
                f"CREATE OR REPLACE TEMP TABLE beginning AS SELECT {names} FROM {engine.input}"
                f" LIMIT {SMALL_ROWS + 1}"
            )
            row_count = engine.rows("SELECT count(*) FROM beginning")[0][0]
            is_exact = row_count <= SMALL_ROWS
            source = "beginning" if is_exact else engine.input
            for some in _parts(group, looked_at):
                row_count = _summarize(engine, source, some, exact=is_exact)
        _warn(columns, row_count)
        return row_count, is_exact, columns

    row_count, is_exact, columns = with_input(params, context, profile)
    with target.open("w", encoding="utf-8") as file:
        file.writelines(report.page(row_count, columns, is_exact=is_exact))
    shown = [
        {"name": _short(column.name), "type": _short(column.kind), **column.stats}
        for column in columns
    ]
    result = values.that_fit({"row_count": row_count, "columns": shown}, "columns")
    return result if is_exact else result | {"estimated": ESTIMATED}


def _at_once(engine: Engine) -> tuple[int, int]:
    """Of how many columns the beginning is held, and how many of them are looked at."""
    if not engine.is_narrow:
        return wide.COLUMNS_AT_ONCE, COLUMNS_AT_ONCE
    some = f"(SELECT 1 FROM {engine.input} LIMIT {SMALL_ROWS + 1})"
    held = NARROW_CELLS // max(engine.rows(f"SELECT count(*) FROM {some}")[0][0], 1)
    # What is told apart of a column takes several times its room.
    return min(held, wide.COLUMNS_AT_ONCE), min(held // 2, COLUMNS_AT_ONCE)


def _parts(columns: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for at in range(0, len(columns), size):
        yield columns[at : at + size]


def _summarize(engine: Engine, source: str, columns: Sequence[Column], *, exact: bool) -> int:
    """Fill in what is known of these columns, and say how many rows there are."""
    candidates = _most_frequent(engine, columns)
    selected = ["{'row_count': count(*)}"]
    for column, tops in zip(columns, candidates, strict=True):
        selected.append(_aggregates(column, tops, exact=exact))
    texts = engine.rows(f"SELECT {', '.join(f'to_json({each})::VARCHAR' for each in selected)}"
                        f" FROM {source}")[0]  # fmt: skip
    row_count: int = values.parse(texts[0])["row_count"]
    for column, tops, text in zip(columns, candidates, texts[1:], strict=True):
        _note(column, values.parse(text), row_count, tops)
    if exact:
        _fill_bins(engine, [column for column in columns if column.bins])
    return row_count


def _most_frequent(engine: Engine, columns: Sequence[Column]) -> list[list[tuple[str, int]]]:
    """Of each column, texts of values and how often they stand in the beginning."""
    found: list[list[tuple[str, int]]] = [[] for _ in columns]
    for some in _parts(list(enumerate(columns)), COUNTED_AT_ONCE):
        selects = []
        for place, column in some:
            value = _counted(column)
            selects.append(
                f"SELECT {place} AS place, text AS value, n FROM (SELECT {value}::VARCHAR AS text,"
                f" count(*) AS n FROM beginning WHERE {sql.name(column.name)} IS NOT NULL"
                f" GROUP BY {value} ORDER BY 2 DESC, 1 LIMIT {CANDIDATES})"
            )
        rows = engine.rows(f"{' UNION ALL '.join(selects)} ORDER BY place, n DESC, value")
        for place, text, count in rows:
            found[place].append((text, count))
    return found


def _counted(column: Column) -> str:
    """What is counted of a column."""
    name = sql.name(column.name)
    if column.kind in _FLOATS:
        return f"({name} + 0)"  # -0.0 is 0.0
    return name if column.is_counted_as_is else f"{name}::VARCHAR"


def _aggregates(column: Column, tops: list[tuple[str, int]], *, exact: bool) -> str:
    name = sql.name(column.name)
    found = {
        "count": f"count({name})",
        "distinct": f"count(DISTINCT {name})" if exact else f"approx_count_distinct({name})",
    }
    if column.is_ordered:
        found |= {"min": f"min({name})", "max": f"max({name})"}
    if column.is_number:
        number = _place(column)
        found |= {"mean": f"avg({number})", "sd": f"stddev_samp({number})"}
        found["skew"] = f"skewness({number})"
    if column.is_number or column.is_time:
        number = _place(column)
        if exact:
            middle = f"quantile_disc({name}" if column.is_time else f"quantile_cont({number}"
            found["quartiles"] = f"{middle}, [0.25, 0.5, 0.75])"
            found["low"], found["high"] = f"min({number})", f"max({number})"
        else:
            shares = [round(n / (QUANTILES - 1), 4) for n in range(QUANTILES)]
            found["quantiles"] = f"approx_quantile({number}, {sql.literal(shares)})"
    if column.kind == "VARCHAR":
        # Most texts begin with a letter: a look at that is cheaper than the attempt. What
        # begins with I or N may be an infinity or no number, which are numbers, too.
        first = f"ascii({name})"
        can_be = f"{first} < 65 OR {first} IN (73, 78, 105, 110)"
        number = f"CASE WHEN {can_be} THEN TRY_CAST({name} AS DOUBLE) END"
        found["numeric"] = f"count({number})"
    if not exact and tops:
        bins = _bins(column, [text for text, _ in tops])
        found |= {"tops": f"map_keys({bins})::VARCHAR[]", "counts": f"map_values({bins})"}
    return "{" + ", ".join(f"{sql.text(key)}: {each}" for key, each in found.items()) + "}"


def _bins(column: Column, texts: list[str]) -> str:
    """How often each of these values stands in all rows; a last bin has all other values, under
    a name that one of these may have, too."""
    value, known = _counted(column), sql.literal(texts)
    # What is not equal to itself makes different bins in each thread (DuckDB 2.0).
    if column.is_counted_as_is and not any(text.endswith("nan") for text in texts):
        return f"histogram_exact({value}, CAST({known} AS {column.kind}[]))"
    return f"histogram_exact({value}::VARCHAR, {known})"


def _place(column: Column) -> str:
    """On a line of numbers, as a double; NaN and infinity would make all else NaN."""
    name = sql.name(column.name)
    if column.is_time:
        return f"epoch({name})"
    if column.kind in _FLOATS:
        return f"CASE WHEN isfinite({name}) THEN {name}::DOUBLE END"
    return f"{name}::DOUBLE"


def _note(column: Column, found: Any, row_count: int, tops: list[tuple[str, int]]) -> None:
    if "counts" in found:
        counted = zip(found["tops"][: len(tops)], found["counts"], strict=False)
        tops = sorted(counted, key=lambda top: (-top[1], top[0]))
    quartiles = found.get("quartiles")
    quantiles = found.get("quantiles")
    if quantiles is not None and column.is_number:
        quartiles = [quantiles[(QUANTILES - 1) * n // 4] for n in (1, 2, 3)]
    q25, q50, q75 = quartiles if quartiles is not None else (None, None, None)
    column.stats = {
        "count": found["count"],
        "nulls": row_count - found["count"],
        "distinct": found["distinct"],
        "min": _short(found.get("min")),
        "max": _short(found.get("max")),
        "mean": _double(found.get("mean")),
        "sd": _double(found.get("sd")),
        "q25": q25 if column.is_time else _double(q25),
        "q50": q50 if column.is_time else _double(q50),
        "q75": q75 if column.is_time else _double(q75),
        "top": [{"value": _typed(column, text), "count": count} for text, count in tops[:TOP]],
    }
    if quantiles is not None:
        column.bins = _bins_of_quantiles(quantiles, found["count"])
    elif found.get("low") is not None:
        column.bins = [(float(found["low"]), float(found["high"]), found["count"])]
    _warn_of_values(column, found)


def _typed(column: Column, text: str) -> Any:
    """A value that was counted as text."""
    if column.kind == "BOOLEAN":
        return text == "true"
    if column.is_number and _NUMERAL.fullmatch(text) is not None:
        return values.parse(text)
    return _short(text)


def _double(value: Any) -> Any:
    """Doubles of many digits are texts elsewhere; here nothing is lost. Times stay texts."""
    try:
        return float(value) if value is not None else None
    except ValueError:
        return value


def _short(value: Any) -> Any:
    return value[:MAX_TEXT] + "…" if isinstance(value, str) and len(value) > MAX_TEXT else value


def _bins_of_quantiles(quantiles: list[Any], count: int) -> list[tuple[float, float, float]]:
    """Bins of the same width, from the shares that are below each quantile."""
    points = [float(each) for each in quantiles if each is not None]
    if len(points) < 2:
        return []
    low, high, each = points[0], points[-1], count / (len(points) - 1)
    if low == high:
        return [(low, high, float(count))]
    width = (high - low) / BINS
    counts = [0.0] * BINS
    for start, end in itertools.pairwise(points):
        first = min(int((start - low) / width), BINS - 1)
        last = min(int((end - low) / width), BINS - 1)
        for at in range(first, last + 1):
            inner = min(end, low + (at + 1) * width) - max(start, low + at * width)
            counts[at] += each * (inner / (end - start) if end > start else 1 / (last - first + 1))
    return [(low + n * width, low + (n + 1) * width, counts[n]) for n in range(BINS)]


def _fill_bins(engine: Engine, columns: Sequence[Column]) -> None:
    """Count what is in each bin, where there can be several."""
    wide = [each for each in columns if 0 < each.bins[0][1] - each.bins[0][0] < math.inf]
    if not wide:
        return
    selected = []
    for column in wide:
        low, high, _ = column.bins[0]
        bin_number = f"floor(({_place(column)} - {low!r}) / {(high - low) / BINS!r})"
        selected.append(f"histogram(least({bin_number}, {BINS - 1})::INT)")
    counted = engine.rows(f"SELECT {', '.join(selected)} FROM beginning")[0]
    for column, counts in zip(wide, counted, strict=True):
        low, high, _ = column.bins[0]
        width = (high - low) / BINS
        column.bins = [
            (low + n * width, low + (n + 1) * width, float(counts.get(n, 0))) for n in range(BINS)
        ]


def _warn_of_values(column: Column, found: Any) -> None:
    count = found["count"]
    if found.get("skew") is not None and abs(found["skew"]) > 2:
        column.warnings.append("skewed")
    numeric = found.get("numeric", 0)
    if count and 0 < numeric < count:
        column.warnings.append("mixed types")


def _warn(columns: Sequence[Column], row_count: int) -> None:
    for column in columns:
        count, distinct = column.stats["count"], column.stats["distinct"]
        if row_count and count == 0:
            column.warnings.append("empty")
        elif row_count > 1 and distinct == 1 and count == row_count:
            column.warnings.append("constant")
        elif row_count > 1 and distinct == count == row_count:
            column.warnings.append("unique")
        if count and column.stats["nulls"] > row_count / 2:
            column.warnings.append("mostly missing")
