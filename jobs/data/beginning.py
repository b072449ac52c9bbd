"""What the first MiB of a CSV file shows: its delimiter, its quotes, and what stands above."""

from __future__ import annotations

import re

from jobs.data.source import SAMPLE_BYTES, Source

DELIMITERS = (",", ";", "\t", "|")
QUOTED = re.compile(r'"[^"]*"')
# Line breaks in cells that are quoted from end to end are none of its own.
_FIRST_ROW = re.compile(r'(?:(?<![^,;\t|])"(?:[^"]|"")*+"(?= *+(?:[,;\t|\r\n]|\Z))|[^\r\n])*+')
_LINE = r"[^\r\n]*+(?:\r\n|\r|\n)"
# What no text has: between the cells of a table that has one in each row.
NOTHING = "\x1f"
# What Excel writes above a table, and reads there, to say what stands between the cells.
_SAYS_DELIMITER = re.compile(r'\A\ufeff?"?sep=([\t,;|:])"?(?:\r\n|\r|\n)', re.IGNORECASE)
_DECIMAL = re.compile(r"\d,\d")
_BREAK = re.compile(r"\r\n|\r|\n")
# That are compared with each other.
SAMPLE_ROWS = 2_000


def likely_columns(source: Source) -> int:
    """How many a CSV file has by its first line, before anything is made for each of them; 0 for
    other files."""
    if source.kind not in {"csv", "tsv"}:
        return 0
    line = QUOTED.sub("", first_line(source))
    return max(map(line.count, DELIMITERS)) + 1


def bare_lines(source: Source) -> list[tuple[int, str]]:
    """Those of its first rows that are not blank, without what is in quotes, each with the number
    of lines above."""
    text = text_of(source).lstrip("\ufeff")
    # Line breaks within quotes are counted, and break no line.
    bare = QUOTED.sub(lambda found: "\0" + "\1" * len(_BREAK.findall(found[0])), text)
    lines, above = [], 0
    for line in _BREAK.split(bare)[:SAMPLE_ROWS]:
        if line.strip():
            lines.append((above, line))
        above += 1 + line.count("\1")
    return lines if len(source.sample) < SAMPLE_BYTES else lines[:-1]


def are_quotes(source: Source, delimiter: str) -> bool:
    """Whether cells within `'` need it, or most lines have one: else it is a part of the text."""
    end = re.escape(delimiter)
    cell = re.compile(rf"(?:^|{end}) ?'((?:[^'\\]|''|\\.)*+)' *(?={end}|$)", re.MULTILINE)
    text = text_of(source).replace("\r\n", "\n").replace("\r", "\n")
    inside = [each[1] for each in cell.finditer(text)]
    is_needed = any(delimiter in each or "\n" in each for each in inside)
    return is_needed or 2 * len(inside) >= text.count("\n")


def has_quoted(source: Source, delimiter: str) -> bool:
    """Whether a whole cell stands in quotes, within a line."""
    end = re.escape(delimiter)
    cell = rf'(?:^|\r|{end})"(?:[^"\r\n]|"")*"(?={end}|\r|$)'
    return re.search(cell, text_of(source), re.MULTILINE) is not None


def shows_quotes(source: Source, delimiter: str | None) -> bool:
    """Whether its beginning has cells in quotes: else it is a guess that quotes are quotes."""
    between = delimiter or most_frequent(source) or ","
    return any(stand_in_quotes(source, between, quote) for quote in "\"'")


def stand_in_quotes(source: Source, delimiter: str, quote: str) -> bool:
    """Whether some cell does, in lines as many as it may have."""
    end, mark = re.escape(delimiter), re.escape(quote)
    inside = rf"(?:[^{mark}\\]|{mark}{mark}|\\.)*+"
    cell = rf"(?:^|\r|{end}) ?{mark}{inside}{mark} *(?={end}|\r|$)"
    return re.search(cell, text_of(source), re.MULTILINE | re.DOTALL) is not None


def has_quote_in_front(source: Source, delimiter: str) -> bool:
    """Whether some cell begins with one, closed or not."""
    cell = rf'(?:^|\r|{re.escape(delimiter)}) ?"'
    return re.search(cell, text_of(source), re.MULTILINE) is not None


def beside_decimal_commas(source: Source) -> str | None:
    """The delimiter of a file whose decimals have commas; None where it may be a comma itself, as
    some stand between other cells."""
    lines = [line for _, line in bare_lines(source)]
    for delimiter in DELIMITERS:
        if delimiter != "," and 2 * sum(delimiter in line for line in lines) > len(lines):
            return delimiter
    return None if any("," in _DECIMAL.sub("", line) for line in lines) else NOTHING


def most_frequent(source: Source) -> str | None:
    """The delimiter that the first line has most of, outside quotes."""
    line = QUOTED.sub("", first_line(source))
    best = max(DELIMITERS, key=line.count)
    return best if best in line else None


def likely_delimiter(source: Source) -> str:
    """That of the first line, or of most lines, or what no text has."""
    return most_frequent(source) or _in_most_lines(source) or NOTHING


def _in_most_lines(source: Source) -> str | None:
    """The delimiter that stands in more than half of its lines, though not in the first."""
    lines = [line for _, line in bare_lines(source)]
    for delimiter in DELIMITERS:
        if 2 * sum(delimiter in line for line in lines) > len(lines):
            return delimiter
    return None


def first_line(source: Source, skip: int = 0, comment: str | None = None) -> str:
    """The first row below so many lines, comments not counted, that is not blank, with the line
    breaks in its cells."""
    text = text_of(source)
    if comment:
        text = re.sub(rf"^{re.escape(comment)}{_LINE}", "", text, flags=re.MULTILINE)
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


def blank_lines(source: Source) -> int:
    """Those above the first one that has something in it."""
    text, said = _SAYS_DELIMITER.subn("", text_of(source), count=1)
    text = text.lstrip("\ufeff")
    above = text[: len(text) - len(text.lstrip("\r\n "))]
    return said + len(f"{above}.".splitlines()) - 1
