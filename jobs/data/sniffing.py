"""What a CSV file is like: by DuckDB, which sniffs it, and by its first MiB, where that errs."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from itertools import takewhile
from operator import itemgetter
from typing import Any

import duckdb

from jobs.data import beginning, quotes, sql
from jobs.data.deadline import Deadline
from jobs.data.source import SAMPLE_BYTES, Source
from jobs.errors import PermanentError

_QUOTED_BYTES = re.compile(rb'"[^"]*"')
# A line of nothing but cells in quotes.
_ALL_QUOTED = re.compile(r'"(?:[^"]|"")*+"([,;\t|])(?:"(?:[^"]|"")*+"\1)*+"(?:[^"]|"")*+"')
# Lines above a table that are its title, where no blank line stands between.
_TITLE_LINES = 10
# What a column without one gets, or a number, or an address.
_NO_NAME = re.compile(r"column\d+\Z|[\d.,+-]|.*@")
Options = dict[str, Any]


def dialect(
    connection: duckdb.DuckDBPyConnection, source: Source, told: Options, deadline: Deadline
) -> Options:
    """Options of `read_csv` for this file, `columns` among them, beside those that are told."""
    found = _dialect(connection, source, told, deadline)
    if found.get("comment"):
        above, comments = _lines_above(source, found)
        if not _are_comments(source, found, deadline):
            # A row that begins like one is named, but for those above the table.
            without = {"comment": "", "skip": above, "delim": found["delim"]}
            found = _dialect(connection, source, told | without, deadline)
            found["skip"] = max(above, found.get("skip", 0))
        elif comments:
            # Below them it passes over as many lines once more, at times (DuckDB 2.0).
            known = {"comment": found["comment"], "delim": found["delim"]}
            if found["quote"] and "quote" not in told:
                known |= {"quote": found["quote"], "escape": found["escape"]}
            skip = {"skip": above - comments} if found["skip"] <= above else {}
            found = _dialect(connection, source, told | known | skip, deadline) | known
    if found["header"] and not found.get("comment"):
        # Above a header that it is told of it does not pass blank lines.
        found["skip"] = max(found.get("skip", 0), beginning.blank_lines(source))
    if not found["escape"]:
        # None, to its sniffer: then it leaves doubled quotes doubled.
        found["escape"] = found["quote"]
    return found


def _dialect(
    connection: duckdb.DuckDBPyConnection, source: Source, told: Options, deadline: Deadline
) -> Options:
    if "delim" not in told and told.get("decimal_separator") == ",":
        # It may as well stand between cells, to the sniffer.
        delimiter = beginning.beside_decimal_commas(source)
        told = told | ({"delim": delimiter} if delimiter is not None else {})
    is_loose = not told.get("strict_mode", True)
    if is_loose and "delim" not in told:
        between = _ALL_QUOTED.fullmatch(beginning.first_line(source))
        told = told | ({"delim": between[1]} if between is not None else {})
    found = (is_loose and _of_even_rows(connection, source, told)) or _sniff(
        connection, source, told
    )
    if "delim" not in told and (other := _other_delimiter(source, found)) is not None:
        told = told | other
        found = _sniff(connection, source, told)
    is_guess = found["quote"] == "'" and "quote" not in told
    if is_guess and not beginning.are_quotes(source, found["delim"]):
        quoting = {"quote": '"', "escape": '"', "delim": found["delim"]}
        found = _sniff(connection, source, told | quoting)
    found = _named(connection, source, told, found)
    if "skip" not in told and _is_table_above(source, found):
        # No title, but rows of other lengths than the last ones: reading names the first.
        comment = {"comment": found["comment"]} if found.get("comment") else {}
        known = comment | {"delim": found["delim"]} if comment else {}
        found = by_first_line(source, told | known) | comment
    if "quote" not in told:
        _find_quote(connection, source, told, found, deadline)
        if is_loose:
            _mend_quote(source, told, found, deadline)
    if found["escape"] not in {"", found["quote"], "\\"}:
        # The other quote, where both stand in some text.
        found["escape"] = found["quote"]
    return found


def _are_comments(source: Source, found: Options, deadline: Deadline) -> bool:
    """Whether the mark stands at the beginning of lines only, and not all those are like rows:
    DuckDB (2.0) leaves out the rest of any line that has it, outside quotes."""
    mark = found["comment"].encode()
    lines = source.sample.removeprefix(codecs.BOM_UTF8).splitlines()
    marked = [line for line in lines if line.startswith(mark)]
    if all(_is_like_row(line, found) for line in marked) or _is_like_row(lines[0], found):
        return False
    own = re.escape(mark)
    within = re.compile(rb'^(?!%b)(?:[^\n"%b]|"[^"]*")*+%b' % (own, own, own), re.MULTILINE)
    with source.open() as file:
        held = b""
        if source.encoding == "utf-8-sig":
            file.read(len(codecs.BOM_UTF8))
        while piece := file.read(SAMPLE_BYTES):
            deadline.keep()
            whole, end, held = (held + piece.replace(b"\r", b"\n")).rpartition(b"\n")
            if within.search(whole + end) is not None:
                return False
    return within.search(held) is None


def _is_like_row(line: bytes, found: Options) -> bool:
    """Whether a line has as many cells as rows have, and the mark in front is a part of one."""
    mark, between = found["comment"].encode(), len(found["columns"]) - 1
    if not line.startswith(mark) or line[len(mark) :][:1].isspace():
        return False
    bare = _QUOTED_BYTES.sub(b"", line)
    return bare.count(found["delim"].encode()) == between > 0


def _lines_above(source: Source, found: Options) -> tuple[int, int]:
    """Blank ones and comments, up to the first row; and how many of them are comments."""
    mark = found["comment"].encode()
    first = int(beginning.says_delimiter(source) is not None)
    lines = source.sample.removeprefix(codecs.BOM_UTF8).splitlines()
    above = takewhile(
        lambda line: not line.strip() or (line.startswith(mark) and not _is_like_row(line, found)),
        lines[first:],
    )
    filled = [bool(line.strip()) for line in above]
    return first + len(filled), sum(filled)


def _of_even_rows(
    connection: duckdb.DuckDBPyConnection, source: Source, told: Options
) -> Options | None:
    """Found with more care than where lines may be of any length; None where they are."""
    strict = {name: told[name] for name in told if name not in {"null_padding", "strict_mode"}}
    try:
        found = _sniffed(connection, source, strict)
    except duckdb.InvalidInputException:  # a row that is too long, say: it is named later
        return None
    above = told.get("skip", beginning.blank_lines(source))
    if found is None or len(found["columns"]) == 1 or found["skip"] != above:
        return None
    return found


def _other_delimiter(source: Source, found: Options) -> Options | None:
    """What to tell where the sniffer took another for it, or lines of different lengths for lines
    of one cell."""
    is_one = len(found["columns"]) == 1 or found["delim"] not in beginning.text_of(source)
    if is_one and (delimiter := beginning.most_frequent(source)) is not None:
        return {"delim": delimiter}
    if not is_one and found["delim"] in beginning.QUOTED.sub("", beginning.first_line(source)):
        return None
    # A title above, and a row that is too long or too short. Or decimal commas in all cells but
    # those of the header, which is passed over then.
    lines = [(above, line) for above, line in beginning.bare_lines(source) if line[0] != "#"]
    most, told = 0, None
    for delimiter in beginning.DELIMITERS:
        counts = {above: line.count(delimiter) for above, line in lines}
        cells, count = max(Counter(counts.values()).items(), key=itemgetter(1), default=(0, 0))
        # One comma in each line may be of sentences. The names of columns have no decimals.
        if cells > int(delimiter == ",") and 2 * count > len(lines) and count > most:
            first, line = next(each for each in lines if counts[each[0]] == cells)
            if is_one or (first < found["skip"] and found["delim"] not in line):
                is_titled = not any(counts[above] for above in counts if above < first)
                most, told = count, {"delim": delimiter} | ({"skip": first} if is_titled else {})
    return told


def _named(
    connection: duckdb.DuckDBPyConnection, source: Source, told: Options, found: Options
) -> Options:
    """The same with the names that the sniffer (DuckDB 2.0) passes over: that of a single column
    below a line that is skipped or blank, and those of text where lines end with a delimiter."""
    if found["header"] and list(found["columns"]) == ["column0"]:
        above = {"skip": max(told.get("skip", 0), beginning.blank_lines(source))}
        names = list(by_first_line(source, told | above)["columns"])
        if above["skip"] and len(names) == 1:
            found = _sniff(connection, source, told | above) | above
            kind = next(iter(found["columns"].values()))
            found["columns"] = dict.fromkeys(names, kind)
    is_text = set(found["columns"].values()) == {"VARCHAR"}
    if is_text and not found["header"] and "header" not in told and len(found["columns"]) > 1:
        end, count = found["delim"], len(found["columns"]) - 1
        lines = [line for _, line in beginning.bare_lines(source)]
        if all(line.endswith(end) and line.count(end) == count for line in lines):
            columns: dict[str, str] = by_first_line(source, told | {"delim": end})["columns"]
            *names, _ = columns
            if len(names) == count and not any(map(_NO_NAME.match, names)):
                found |= {"header": True, "columns": columns}
    return found


def _find_quote(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    told: Options,
    found: Options,
    deadline: Deadline,
) -> None:
    """Put another one into what was found, or none, where that was wrong."""
    delimiter = found["delim"]
    quoting = {"delim": delimiter, "quote": '"', "escape": '"'}
    if not found["quote"] and beginning.has_quoted(source, delimiter):
        # Some quote is broken: reading names it.
        found |= _sniff(connection, source, told | quoting) | quoting
    elif not found["quote"] and b'"' not in source.sample:
        # None so far: that says nothing about the rest.
        found |= quoting
    elif not found["quote"] and (
        not beginning.has_quote_in_front(source, delimiter)
        or (
            len(source.sample) >= SAMPLE_BYTES
            and not _are_broken(source, told | found | quoting, deadline)
        )
    ):
        # Inches: nor do they, unless others follow within what was sniffed. Or a cell that begins
        # in this part of the file, and ends behind it.
        again = _sniffed(connection, source, told | quoting)
        if again is not None and again["columns"] == found["columns"]:
            found |= quoting


def _mend_quote(source: Source, told: Options, found: Options, deadline: Deadline) -> None:
    """Where lines are of any length it may take anything for quotes, and drops what follows."""
    delimiter = found["delim"]
    quoting = {"quote": '"', "escape": '"'}
    if not found["quote"]:
        if not _are_broken(source, told | found | quoting, deadline):
            # A row that begins there and is too long.
            found |= quoting
    elif beginning.stand_in_quotes(source, delimiter, found["quote"]):
        escapes = dict.fromkeys([found["escape"], found["quote"], "\\"])
        right = (
            each
            for each in escapes
            if not _are_broken(source, told | found | {"escape": each}, deadline)
        )
        # If none is, some quote is broken: reading names it.
        found["escape"] = next(right, found["escape"])
    elif beginning.stand_in_quotes(source, delimiter, '"'):
        found |= quoting
    elif _are_broken(source, told | found, deadline):
        found |= {"quote": "", "escape": ""}


def _are_broken(source: Source, options: Options, deadline: Deadline) -> bool:
    return quotes.are_broken(beginning.text_of(source), options, deadline)


def _sniff(connection: duckdb.DuckDBPyConnection, source: Source, options: Options) -> Options:
    return _sniffed(connection, source, options) or by_first_line(source, options)


def _sniffed(
    connection: duckdb.DuckDBPyConnection, source: Source, options: Options
) -> Options | None:
    """None for what cannot be made out."""
    call = sql.call("sniff_csv", str(source.path), options)
    try:
        row = connection.execute(
            "SELECT Delimiter, Quote, Escape, Comment, SkipRows, HasHeader, Columns, DateFormat,"
            f" TimestampFormat FROM {call}"
        ).fetchone()
    except duckdb.InvalidInputException as error:
        if "sniffing" not in str(error):
            raise
        return None
    assert row is not None
    delimiter, quote, escape, comment, skip, header, columns, dates, times = row
    found: Options = {
        "delim": _character(delimiter),
        "quote": _character(quote),
        "escape": _character(escape),
        "comment": _character(comment),
        "skip": skip,
        "header": header,
        "columns": unlike([(each["name"], each["type"]) for each in columns]),
    }
    if dates is not None:
        found["dateformat"] = dates
    if times is not None:
        found["timestampformat"] = times
    return found


def _is_table_above(source: Source, found: Options) -> bool:
    """Whether what is to be skipped is no title: as many lines of cells as are left, or many with
    no blank line below."""
    mark, skip = found.get("comment", "").encode(), found.get("skip", 0)
    # Comments are not counted.
    lines = [line for line in source.sample.splitlines() if not (mark and line.startswith(mark))]
    first = int(beginning.says_delimiter(source) is not None)
    above = [line for line in lines[first:skip] if line.strip() and not line.startswith(b"#")]
    left = [line for line in lines[skip:] if line.strip()]
    cells = [line for line in above if found["delim"].encode() in line]
    if cells and len(cells) >= len(left):
        return True
    if not above or not lines[min(skip, len(lines)) - 1].strip():
        return False
    most = max(_TITLE_LINES, len(left))
    return len(cells) > _TITLE_LINES or len(above) > most or len(above) > len(left) == 1


def by_first_line(source: Source, told: Options) -> Options:
    """What cannot be made out: as its first line has it, so that reading names the bad one.
    Raises PermanentError where that line is too long."""
    if len(source.sample) >= SAMPLE_BYTES and len(source.sample.splitlines()) == 1:
        raise PermanentError(f"line 1: it has more than {SAMPLE_BYTES} bytes", code="bad_source")
    delimiter = told.get("delim") or beginning.likely_delimiter(source)
    line = beginning.first_line(source, told.get("skip", 0), told.get("comment"))
    csv.field_size_limit(SAMPLE_BYTES)
    if told.get("quote", '"'):
        found = csv.reader([line], delimiter=delimiter, quotechar=told.get("quote", '"'))
    else:
        found = csv.reader([line], delimiter=delimiter, quoting=csv.QUOTE_NONE)
    names = next(found)
    has_header = told.get("header", True)
    names = [
        name if name and has_header else f"column{number}" for number, name in enumerate(names)
    ]
    return {
        "delim": delimiter,
        "quote": '"',
        "escape": '"',
        # Above a header that it is told of it does not pass blank lines (DuckDB 2.0).
        "skip": max(told.get("skip", 0), beginning.blank_lines(source)),
        "header": has_header,
        "comment": "",
        "columns": unlike([(name, "VARCHAR") for name in names]),
    }


def _character(text: str) -> str:
    return "" if text == "(empty)" else text.replace("\\t", "\t")


def unlike(columns: list[tuple[str, str]]) -> dict[str, str]:
    """By name; names that are alike but for their case get a number."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name, kind in columns:
        unlike, number = name, 0
        while unlike.lower() in taken:
            number += 1
            unlike = f"{name}_{number}"
        taken.add(unlike.lower())
        found[unlike] = kind
    return found
