"""The Lua scripts, one for each transition of a job, ready to be called by digest."""

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache
from pathlib import Path

_FOLDER = Path(__file__).parent
# A script that is refused for memory must not be one that keeps jobs alive: a `beat`
# refused while `recover` runs loses live jobs to others. Only new jobs are refused.
_REFUSED_WHEN_FULL = {
    "answer",
    "commit",
    "file_piece",
    "stage",
    "submit",
    "submit_plain",
    "tick",
    "upload",
}


class Script:
    """Source and SHA-1, as EVAL and EVALSHA take them: put together when first asked for."""

    def __init__(self, name: str, parts: tuple[str, ...]) -> None:
        self.name = name
        self._parts = parts

    @cached_property
    def source(self) -> bytes:
        flags = "" if self.name in _REFUSED_WHEN_FULL else " flags=allow-oom"
        texts = [_text(part) for part in (*self._parts, self.name)]
        return "\n".join([f"#!lua{flags}", *texts]).encode()

    @cached_property
    def digest(self) -> bytes:
        return hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()


def load() -> None:
    """Put all together now: a process that stays must not read files of the next release."""
    for each in list(globals().values()):
        if isinstance(each, Script):
            _ = each.digest


def _load(name: str, *parts: str) -> Script:
    return _assemble(name, "clock", "lib", *parts)


def _assemble(name: str, *parts: str) -> Script:
    return Script(name, parts)


@lru_cache
def _text(part: str) -> str:
    return (_FOLDER / f"{part}.lua").read_text(encoding="utf-8")


# What several transitions share, each part building on those before it.
_ENDING = ("counts", "groups", "index", "slots", "notify", "ending")

BIRTH = _load("birth")
DEATH = _load("death", *_ENDING)
STAGE = _load("stage")
SUBMIT = _load("submit", *_ENDING, "accept", "idempotency", "budget", "once")
# Without the parts that it does not use, which every call pays for.
SUBMIT_PLAIN = _assemble("submit_plain", "clock", "idempotency", "once")
COMMIT = _load("commit", *_ENDING, "accept", "idempotency", "budget")
ACTIVATE = _load("activate", *_ENDING, "accept")
ANSWER = _load("answer")
CLAIM = _load("claim", *_ENDING)
BEAT = _load("beat", *_ENDING)
END = _load("end", *_ENDING)
PROGRESS = _load("progress")
SAVE = _load("save")
SUPPRESS = _load("suppress")
PROMOTE = _load("promote", *_ENDING)
RECOVER = _load("recover", "audit", *_ENDING, "regroup", "taken", "recount", "walk", "upkeep")
CONTROL = _load("control", "audit", *_ENDING)
EMPTY = _load("empty", "audit", *_ENDING)
_RETRYING = ("audit", *_ENDING, "accept", "idempotency", "budget", "retrying")
RETRY = _load("retry", *_RETRYING)
REQUEUE = _load("requeue", *_RETRYING)
SELECT = _load("select", "groups", "index", "selection")
FITTING = _load("fitting", "groups", "index", "selection")
OPERATION = _load("operation", "audit", *_ENDING, "accept")
OPERATE = _load("operate", *_RETRYING, "selection")
REPAIR = _load("repair", "groups", "index")
MADE = _assemble("made", "clock")
GLANCE = _assemble("glance", "clock")
ADOPT = _load("adopt", "groups", "index")
UNEXPLAINED = _load("unexplained", "groups", "index")
EXPLAIN = _load("explain", "groups", "index")
DUE = _assemble("due", "clock")
TICK = _load("tick", *_ENDING, "accept", "budget")
SCHEDULE = _load("schedule", "audit")
UNSUPPRESS = _load("unsuppress", "audit")
RATE = _load("rate")
UPLOAD = _assemble("upload", "clock")
FILE_PIECE = _assemble("file_piece", "clock", "files")
FILE_COMMIT = _assemble("file_commit", "clock", "files")
FILE_DROP = _assemble("file_drop", "clock", "files")
FILE_PROLONG = _assemble("file_prolong", "clock", "files")
