"""What a CSV file is like: by DuckDB, which sniffs it, and by its first MiB, where that errs."""

from __future__ import annotations

import codecs
import csv
import re
from itertools import takewhile
from typing import Any

import duckdb

from jobs.data import quotes, sql
from jobs.data.deadline import Deadline
from jobs.data.source import SAMPLE_BYTES, Source
from jobs.errors import PermanentError

_DELIMITERS = (",", ";", "\t", "|")
_QUOTED = re.compile(r'"[^"]*"')
_QUOTED_BYTES = re.compile(rb'"[^"]*"')
# A line of nothing but cells in quotes.
_ALL_QUOTED = re.compile(r'"(?:[^"]|"")*+"([,;\t|])(?:"(?:[^"]|"")*+"\1)*+"(?:[^"]|"")*+"')
# Line breaks in cells that are quoted from end to end are none of its own.
_FIRST_ROW = re.compile(r'(?:(?<![^,;\t|])"(?:[^"]|"")*+"(?= *+(?:[,;\t|\r\n]|\Z))|[^\r\n])*+')
_LINE = r"[^\r\n]*+(?:\r\n|\r|\n)"
# Lines above a table that are its title, where no blank line stands between.
_TITLE_LINES = 10
# What no text has: between the cells of a table that has one in each row.
NOTHING = "\x1f"
# What Excel writes above a table, and reads there, to say what stands between the cells.
_SAYS_DELIMITER = re.compile(r'\A\ufeff?"?sep=([\t,;|:])"?\r?\n', re.IGNORECASE)
Options = dict[str, Any]


def likely_columns(source: Source) -> int:
    """How many a CSV file has by its first line, before anything is made for each of them; 0 for
    other files."""
    if source.kind not in {"csv", "tsv"}:
        return 0
    line = _QUOTED.sub("", _first_line(source))
    return max(map(line.count, _DELIMITERS)) + 1


def dialect(
    connection: duckdb.DuckDBPyConnection, source: Source, told: Options, deadline: Deadline
) -> Options:
    """Options of `read_csv` for this file, `columns` among them, beside those that are told."""
    found = _dialect(connection, source, told)
    if found.get("comment") and not _are_comments(source, found, deadline):
        # A row that begins like one is named, but for those above the table.
        above = _lines_above(source, found)
        without = {"comment": "", "skip": above, "delim": found["delim"]}
        found = _dialect(connection, source, told | without)
        found["skip"] = max(above, found.get("skip", 0))
    if not found["escape"]:
        # None, to its sniffer: then it leaves doubled quotes doubled.
        found["escape"] = found["quote"]
    return found


def _dialect(connection: duckdb.DuckDBPyConnection, source: Source, told: Options) -> Options:
    is_loose = not told.get("strict_mode", True)
    if is_loose and "delim" not in told and (between := _ALL_QUOTED.fullmatch(_first_line(source))):
        told = told | {"delim": between[1]}
    found = (is_loose and _of_even_rows(connection, source, told)) or _sniff(
        connection, source, told
    )
    is_one = len(found["columns"]) == 1 or found["delim"] not in text_of(source)
    if is_one and "delim" not in told:
        # Lines of different lengths look to it like lines of one cell.
        delimiter = most_frequent(source)
        if delimiter is not None:
            told = told | {"delim": delimiter}
            found = _sniff(connection, source, told)
    if "skip" not in told and _is_table_above(source, found):
        # No title, but rows of other lengths than the last ones: reading names the first.
        found = by_first_line(source, told)
    if "quote" not in told:
        _find_quote(connection, source, told, found)
        if is_loose:
            _mend_quote(source, told, found)
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


def _lines_above(source: Source, found: Options) -> int:
    """Blank ones and comments, up to the first row."""
    mark = found["comment"].encode()
    first = int(says_delimiter(source) is not None)
    lines = source.sample.removeprefix(codecs.BOM_UTF8).splitlines()
    above = takewhile(
        lambda line: not line.strip() or (line.startswith(mark) and not _is_like_row(line, found)),
        lines[first:],
    )
    return first + sum(1 for _ in above)


def _of_even_rows(
    connection: duckdb.DuckDBPyConnection, source: Source, told: Options
) -> Options | None:
    """Found with more care than where lines may be of any length; None where they are."""
    strict = {name: told[name] for name in told if name not in {"null_padding", "strict_mode"}}
    try:
        found = _sniffed(connection, source, strict)
    except duckdb.InvalidInputException:  # a row that is too long, say: it is named later
        return None
    above = told.get("skip", _blank_lines(source))
    if found is None or len(found["columns"]) == 1 or found["skip"] != above:
        return None
    return found


def _find_quote(
    connection: duckdb.DuckDBPyConnection, source: Source, told: Options, found: Options
) -> None:
    """Put another one into what was found, or none, where that was wrong."""
    delimiter = found["delim"]
    quoting = {"delim": delimiter, "quote": '"', "escape": '"'}
    if not found["quote"] and _has_quoted(source, delimiter):
        # Some quote is broken: reading names it.
        found |= _sniff(connection, source, told | quoting) | quoting
    elif not found["quote"] and b'"' not in source.sample:
        # None so far: that says nothing about the rest.
        found |= quoting
    elif not found["quote"] and (
        not _has_quote_in_front(source, delimiter)
        or (len(source.sample) >= SAMPLE_BYTES and not _are_broken(source, told, found | quoting))
    ):
        # Inches: nor do they, unless others follow within what was sniffed. Or a cell that begins
        # in this part of the file, and ends behind it.
        again = _sniffed(connection, source, told | quoting)
        if again is not None and again["columns"] == found["columns"]:
            found |= quoting


def _mend_quote(source: Source, told: Options, found: Options) -> None:
    """Where lines are of any length it may take anything for quotes, and drops what follows."""
    delimiter = found["delim"]
    quoting = {"quote": '"', "escape": '"'}
    if not found["quote"]:
        if not _are_broken(source, told, found | quoting):
            # A row that begins there and is too long.
            found |= quoting
    elif _stand_in_quotes(source, delimiter, found["quote"]):
        escapes = [found["escape"], found["quote"], "\\"]
        right = [
            each for each in escapes if not _are_broken(source, told, found | {"escape": each})
        ]
        # If none is, some quote is broken: reading names it.
        found["escape"] = (right or escapes)[0]
    elif _stand_in_quotes(source, delimiter, '"'):
        found |= quoting
    elif _are_broken(source, told, found):
        found |= {"quote": "", "escape": ""}


def _are_broken(source: Source, told: Options, found: Options) -> bool:
    return quotes.are_broken(text_of(source), told | found)


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
    lines, skip = source.sample.splitlines(), found.get("skip", 0)
    first, mark = int(says_delimiter(source) is not None), found.get("comment", "").encode() or b"#"
    above = [line for line in lines[first:skip] if line.strip() and not line.startswith(mark)]
    left = [line for line in lines[skip:] if line.strip()]
    cells = [line for line in above if found["delim"].encode() in line]
    if cells and len(cells) >= len(left):
        return True
    if not above or not lines[min(skip, len(lines)) - 1].strip():
        return False
    most = max(_TITLE_LINES, len(left))
    return len(cells) > _TITLE_LINES or len(above) > most or len(above) > len(left) == 1


def _has_quoted(source: Source, delimiter: str) -> bool:
    """Whether a whole cell stands in quotes, within a line."""
    end = re.escape(delimiter)
    cell = rf'(?:^|\r|{end})"(?:[^"\r\n]|"")*"(?={end}|\r|$)'
    return re.search(cell, text_of(source), re.MULTILINE) is not None


def shows_quotes(source: Source, delimiter: str | None) -> bool:
    """Whether its beginning has cells in quotes: else it is a guess that quotes are quotes."""
    between = delimiter or most_frequent(source) or ","
    return any(_stand_in_quotes(source, between, quote) for quote in "\"'")


def _stand_in_quotes(source: Source, delimiter: str, quote: str) -> bool:
    """Whether some cell does, in lines as many as it may have."""
    end, mark = re.escape(delimiter), re.escape(quote)
    inside = rf"(?:[^{mark}\\]|{mark}{mark}|\\.)*+"
    cell = rf"(?:^|\r|{end}) ?{mark}{inside}{mark} *(?={end}|\r|$)"
    return re.search(cell, text_of(source), re.MULTILINE | re.DOTALL) is not None


def _has_quote_in_front(source: Source, delimiter: str) -> bool:
    """Whether some cell begins with one, closed or not."""
    cell = rf'(?:^|\r|{re.escape(delimiter)}) ?"'
    return re.search(cell, text_of(source), re.MULTILINE) is not None


def by_first_line(source: Source, told: Options) -> Options:
    """What cannot be made out: as its first line has it, so that reading names the bad one.
    Raises PermanentError where that line is too long."""
    if not source.sample.count(b"\n") and len(source.sample) >= SAMPLE_BYTES:
        raise PermanentError(f"line 1: it has more than {SAMPLE_BYTES} bytes", code="bad_source")
    delimiter = told.get("delim") or likely_delimiter(source)
    line = _first_line(source, told.get("skip", 0))
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
        "skip": max(told.get("skip", 0), _blank_lines(source)),
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


def most_frequent(source: Source) -> str | None:
    """The delimiter that the first line has most of, outside quotes."""
    line = _QUOTED.sub("", _first_line(source))
    best = max(_DELIMITERS, key=line.count)
    return best if best in line else None


def likely_delimiter(source: Source) -> str:
    """That of the first line, or of most lines, or what no text has."""
    return most_frequent(source) or _in_most_lines(source) or NOTHING


def _in_most_lines(source: Source) -> str | None:
    """The delimiter that stands in more than half of its lines, though not in the first."""
    lines = [line for line in text_of(source).splitlines() if line.strip()]
    for delimiter in _DELIMITERS:
        if 2 * sum(delimiter in line for line in lines) > len(lines):
            return delimiter
    return None


def _first_line(source: Source, skip: int = 0) -> str:
    """The first row below so many lines that is not blank, with the line breaks in its cells."""
    text = text_of(source)
    if skip and (above := re.match(rf"(?:{_LINE}){{{skip}}}", text)):
        text = text[above.end() :]
    text = _SAYS_DELIMITER.sub("", text, count=1)
    found = _FIRST_ROW.match(text.lstrip("\ufeff\r\n "))
    return found[0] if found is not None else ""


def says_delimiter(source: Source) -> re.Match[str] | None:
    """The line that does, as Excel writes it above a table."""
    return _SAYS_DELIMITER.match(text_of(source))


def text_of(source: Source) -> str:
    """Of the file's beginning."""
    return source.sample.decode(source.encoding, "ignore")


def _blank_lines(source: Source) -> int:
    """Those above the first one that has something in it."""
    if says_delimiter(source) is not None:
        return 1
    text = text_of(source).lstrip("\ufeff")
    above = text[: len(text) - len(text.lstrip("\r\n "))]
    return len(f"{above}.".splitlines()) - 1
