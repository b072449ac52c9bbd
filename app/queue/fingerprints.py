"""What makes two failures look alike: a short word that is equal for them.

It is made of the job type, the class of the error, its message without what differs from run
to run, and the place in the job's own code. Line numbers are no part of it, so that it stays
the same over releases.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from types import TracebackType

LENGTH = 16
# A message is compared as far as this.
_LONGEST = 1000
_QUOTED = re.compile(
    r"""(?<!\w)[bruf]{0,2}(["'`])(?:\\.|(?!\1)[^\\])*\1(?!\w)|“[^”]*”|«[^»]*»""", re.I
)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://\S+", re.I)
_ADDRESS = re.compile(r"<?[^\s<>@(),;:\"']{1,64}@[^\s<>@(),;:\"']{1,255}(?<![.!?])>?")
_TIME = re.compile(
    r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?)?"
    r"|(?<![\w.:])\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?![\w:])",
    re.I,
)
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9a-f:]*:[0-9a-f]*:)[0-9a-f:]{3,45}(?:%\w+)?(?![\w:])", re.I)
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.I)
_FLOAT = re.compile(r"(?<![\w.])\d+(?:\.\d+)?e[+-]?\d+\b", re.I)
_HEX = re.compile(r"\b0x[0-9a-f]+\b|\b(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{6,}\b", re.I)
# Words of letters and digits: ids, keys, names of temporary files.
_ID = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[a-z_-])[\w-]{8,}\b|\btmp[a-z0-9_]{8}\b", re.I)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SIGNED = re.compile(r"(?<![\w.])[+-]…")
_LIST = re.compile(r"…(?:(?:, ?| ?; ?| and | or )…)+")
# In this order: an address may have a number in it.
_VARIABLE = (
    _QUOTED, _URL, _ADDRESS, _TIME, _UUID, _IPV6, _FLOAT, _HEX, _ID, _NUMBER, _SIGNED, _LIST,
)  # fmt: skip
_SPACE = re.compile(r"\s+")
_INNER = re.compile(r"\.<(?:locals|lambda|listcomp|setcomp|dictcomp|genexpr)>")


def fingerprint(job_type: str, error_class: str, message: str, place: str) -> str:
    """Sixteen hex digits. `place` is what `place_of` says, or empty."""
    text = "\n".join((job_type, error_class, pattern_of(message), place))
    digest = hashlib.sha1(text.encode("utf-8", "replace"), usedforsecurity=False)
    return digest.hexdigest()[:LENGTH]


def pattern_of(message: str) -> str:
    """The message with `…` in place of each part that may differ from run to run.

    One sign for all of them: an id may happen to be a number.
    """
    text = message[:_LONGEST]
    for variable in _VARIABLE:
        text = variable.sub("…", text)
    return _SPACE.sub(" ", text).strip()


def place_of(traceback: TracebackType | None, package: str) -> str:
    """`module:function` of the deepest frame in the package; empty when there is none."""
    found = ""
    while traceback is not None:
        frame = traceback.tb_frame
        module = str(frame.f_globals.get("__name__", ""))
        if module == package or module.startswith(f"{package}."):
            found = f"{module}:{_INNER.sub('', frame.f_code.co_qualname)}"
        traceback = traceback.tb_next
    return found


def home_of(function: Callable[..., object]) -> str:
    """The package of a job's own code: of all that stands beside its function."""
    return function.__module__.partition(".")[0]


def name_of(function: Callable[..., object]) -> str:
    """The place of a failure that has no frame, a time-out's among them."""
    return f"{function.__module__}:{function.__qualname__}"
