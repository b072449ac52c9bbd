"""An e-mail's HTML as a document that runs nothing and loads nothing from elsewhere.

The first wall is the response it travels in (a sandbox and a policy of its own); this is
the second: what those would block is taken out before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import nh3

# nh3 0.3.8 takes time that is quadratic in the depth: 136 s for 200,000 open <div>.
# Chromium itself lays out 512 levels.
MAX_DEPTH = 500
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
# These close by themselves, or never open; the second kind nests inside SVG and MathML.
_SHALLOW = {"br", "dd", "dt", "embed", "hr", "img", "li", "meta", "p"}
_SHALLOW_IN_HTML = {
    "area", "base", "col", "input", "link", "option", "param", "rp", "rt", "source", "td", "th",
    "track", "tr", "wbr",
}  # fmt: skip
_FOREIGN = re.compile(r"<(?:svg|math)", re.IGNORECASE)
_PICTURE = re.compile(r"data:image/(?:avif|bmp|gif|jpe?g|png|webp)[;,]", re.IGNORECASE)
_LINK = re.compile(r"(?:https?|mailto|tel):", re.IGNORECASE)
_STYLE_ELEMENT = re.compile(r"<style[^>]*>.*?</style>", re.DOTALL)
# Everything in CSS that loads something.
_LOADING_CSS = re.compile(
    r"@import|@font-face|\b(?:url|src|image|(?:-webkit-)?image-set|cross-fade)(?=\s*\()",
    re.IGNORECASE,
)
_TAGS = nh3.ALLOWED_TAGS | {"font", "main", "section", "style", "tfoot", "big"}
_ATTRIBUTES = {
    "*": {
        "align", "bgcolor", "class", "color", "dir", "height", "id", "lang", "style", "title",
        "valign", "width",
    },
    "a": {"href", "name"},
    "img": {"alt", "border", "src"},
    "font": {"face", "size"},
    "table": {"border", "cellpadding", "cellspacing"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
    "ol": {"start", "type"},
}  # fmt: skip
_DROPPED_WITH_CONTENT = {
    "applet", "audio", "embed", "iframe", "math", "noembed", "noframes", "noscript", "object",
    "script", "select", "svg", "template", "textarea", "title", "video",
}  # fmt: skip
_DOCUMENT = """<!doctype html>
<html lang="und"><head><meta charset="utf-8"><meta name="color-scheme" content="only light">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>E-mail</title>
<style>
body{{margin:24px;background:#fff;color:#1f2328;overflow-wrap:break-word}}
body{{font:15px/1.55 system-ui,sans-serif}}
img{{max-width:100%}}
@media(max-width:600px){{body{{margin:18px}}img{{height:auto}}}}
</style></head><body>
{body}
</body></html>
"""


@dataclass(frozen=True, slots=True)
class SafeDocument:
    """A whole HTML document, and how many things from elsewhere it would have loaded."""

    html: str
    blocked: int


def safe_document(html: str, inline: Mapping[str, str]) -> SafeDocument:
    """Make an e-mail's HTML harmless. `inline` gives the address of each Content-ID."""
    if _depth(html) > MAX_DEPTH:
        note = "<p>This HTML is nested too deeply to be shown. Its source has it all.</p>"
        return SafeDocument(_DOCUMENT.format(body=note), 0)
    filters = _Filter(inline)
    cleaner = nh3.Cleaner(
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        clean_content_tags=_DROPPED_WITH_CONTENT,
        attribute_filter=filters.attribute,
        url_schemes={"http", "https", "mailto", "tel", "cid", "data"},
        link_rel="noopener noreferrer",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    body = _STYLE_ELEMENT.sub(lambda found: filters.css(found[0]), cleaner.clean(html))
    return SafeDocument(_DOCUMENT.format(body=body), filters.blocked)


class _Filter:
    """Decides on each attribute that nh3 would keep; counts what would have been loaded."""

    def __init__(self, inline: Mapping[str, str]) -> None:
        self._inline = inline
        self.blocked = 0

    def attribute(self, tag: str, name: str, value: str) -> str | None:
        if name == "style":
            return self.css(value)
        if name == "href":
            return value if _LINK.match(value.strip()) else None
        if name != "src":
            return value
        if value[:4].lower() == "cid:":
            return self._inline.get(value[4:].strip("<> "))
        if tag == "img" and _PICTURE.match(value):
            return value
        self.blocked += 1
        return None

    def css(self, text: str) -> str:
        """Break what loads, by words that mean nothing in CSS, so that quotes stay balanced."""
        # An escape could spell any of the words: u\\72l.
        kept, count = _LOADING_CSS.subn("blocked", text.replace("\\", " "))
        self.blocked += count
        return kept


def _depth(html: str) -> int:
    """How deep the elements nest, at most, in linear time.

    End tags hidden in comments or scripts can fool it; the cut of the body to 1 MiB
    then bounds what nh3 takes to 10 s of one thread, in which others go on.
    """
    shallow = _SHALLOW if _FOREIGN.search(html) else _SHALLOW | _SHALLOW_IN_HTML
    is_open: dict[str, int] = {}
    depth = deepest = 0
    for found in _TAG.finditer(html):
        closes, tag = found[1], found[2].lower()
        if tag in shallow:
            continue
        if not closes:
            is_open[tag] = is_open.get(tag, 0) + 1
            depth += 1
            deepest = max(deepest, depth)
        elif is_open.get(tag, 0) > 0:
            is_open[tag] -= 1
            depth -= 1
    return deepest
