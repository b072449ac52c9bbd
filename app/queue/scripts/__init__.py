"""The Lua scripts, one for each transition of a job, ready to be called by digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent
# A script that is refused for memory must not be one that keeps jobs alive: a `beat`
# refused while `recover` runs loses live jobs to others. Only new jobs are refused.
_REFUSED_WHEN_FULL = {"stage", "submit"}


@dataclass(frozen=True, slots=True)
class Script:
    """Source and SHA-1, as EVAL and EVALSHA take them."""

    name: str
    source: bytes
    digest: bytes


def _load(name: str) -> Script:
    flags = "" if name in _REFUSED_WHEN_FULL else " flags=allow-oom"
    parts = [(_FOLDER / f"{part}.lua").read_text() for part in ("lib", name)]
    source = "\n".join([f"#!lua{flags}", *parts]).encode()
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())


BIRTH = _load("birth")
DEATH = _load("death")
STAGE = _load("stage")
SUBMIT = _load("submit")
CLAIM = _load("claim")
BEAT = _load("beat")
END = _load("end")
PROMOTE = _load("promote")
RECOVER = _load("recover")
