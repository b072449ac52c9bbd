"""What has happened since ever, as the scripts have written it down, and what that says of a time.

Exact: a count grows in the very call that moves the job (counts.lua). How it stood is noted
once a minute by upkeep, so that what lies between two notes is known.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from app.queue.figures import BOUNDS, ENDINGS, EVENTS, Counted, Minute, Times

MINUTES = 60
# A rate over less says little; a note is at least this old within a minute and a half.
RATE_SECONDS = 30.0
OTHER = "other"
Values = Mapping[tuple[str, str, str], int]


class Counts(NamedTuple):
    """How often each thing happened, by name, queue and type, until `at` (seconds since 1970)."""

    at: float
    values: Values

    @classmethod
    def read(cls, at: float, stored: Mapping[bytes, bytes]) -> Counts:
        fields = ((_text(name), _text(value)) for name, value in stored.items())
        return cls(at, dict(_entries(fields)))

    @classmethod
    def noted(cls, text: bytes | None) -> Counts | None:
        """As upkeep noted it; None where there is no note that can be read."""
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            note = json.loads(text or b"")
            return cls(int(note["at"]) / 1e6, dict(_entries(note["counts"].items())))
        return None

    def since(self, before: Counts) -> Counts:
        """What has happened from then on; counts that were deleted meanwhile begin at 0."""
        return Counts(
            self.at, {key: max(0, n - before.values.get(key, 0)) for key, n in self.values.items()}
        )

    def only(self, queue: str) -> Counts:
        return Counts(self.at, {key: n for key, n in self.values.items() if key[1] == queue})

    def of(self, queue: str, name: str) -> int:
        return sum(n for (what, q, _), n in self.values.items() if what == name and q == queue)

    def times(self, queue: str, name: str, type_name: str | None = None) -> Times:
        """`wait` or `run` of a queue; of all types where none is named."""
        found = dict.fromkeys((*BOUNDS, "us"), 0)
        for (what, q, kind), n in self.values.items():
            word, _, part = what.replace("_us", ":us").partition(":")
            if word == name and q == queue and type_name in {None, kind} and part in found:
                found[part] += n
        return Times([found[bound] for bound in BOUNDS], found["us"] / 1e6)

    def folded(self, queues: Collection[str], types: Collection[str]) -> Counts:
        """Queues and types that are not registered are one: the number of labels stays small."""
        values: dict[tuple[str, str, str], int] = {}
        for (what, queue, kind), n in self.values.items():
            key = (what, _known(queue, queues), _known(kind, types))
            values[key] = values.get(key, 0) + n
        return Counts(self.at, values)

    def by_type(self) -> list[Counted]:
        pairs = sorted({(queue, kind) for _, queue, kind in self.values})
        return [
            Counted(
                queue,
                kind,
                {name: self.values.get((name, queue, kind), 0) for name in EVENTS},
                self.times(queue, "wait", kind),
                self.times(queue, "run", kind),
            )
            for queue, kind in pairs
        ]


def rates(now: Counts, notes: Iterable[Counts | None], queue: str) -> tuple[float, float] | None:
    """Jobs a second that came and that ended, since the newest note that is old enough."""
    old = [note for note in notes if note is not None and now.at - note.at > 0]
    long_ago = [note for note in old if now.at - note.at >= RATE_SECONDS]
    if not old:
        return None
    before = (
        max(long_ago, key=lambda note: note.at) if long_ago else min(old, key=lambda note: note.at)
    )
    seconds, happened = now.at - before.at, now.since(before)
    came = happened.of(queue, "submitted")
    went = sum(happened.of(queue, ending) for ending in ENDINGS)
    return round(came / seconds, 3), round(went / seconds, 3)


def minutes(notes: Sequence[Counts | None], queue: str) -> list[Minute]:
    """What happened between each two notes, oldest first."""
    known = [note.only(queue) for note in notes if note is not None]
    return [
        _minute(before, after, queue)
        for before, after in itertools.pairwise(known)
        if after.at > before.at
    ]


def _minute(before: Counts, after: Counts, queue: str) -> Minute:
    happened = after.since(before)
    return Minute(
        at=datetime.fromtimestamp(before.at, UTC),
        seconds=round(after.at - before.at, 3),
        accepted=happened.of(queue, "submitted"),
        ended={ending: happened.of(queue, ending) for ending in ENDINGS},
        retried=happened.of(queue, "retried"),
        wait=happened.times(queue, "wait"),
        run=happened.times(queue, "run"),
    )


def _known(name: str, names: Collection[str]) -> str:
    return name if name in names else OTHER


def _entries(
    stored: Iterable[tuple[str, str]],
) -> Iterable[tuple[tuple[str, str, str], int]]:
    """Fields as counts.lua names them; what is none of ours is left out."""
    for field, value in stored:
        name, _, rest = field.partition("|")
        queue, separator, kind = rest.rpartition("|")
        with contextlib.suppress(ValueError):
            if separator:
                yield (name, queue, kind), int(value)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
