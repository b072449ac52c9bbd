"""The scripts as the server compiles them."""

from __future__ import annotations

import redis
from redis.exceptions import ResponseError

from app.queue import scripts

# Lua 5.1 lets a function have so many local names, and a script is one function.
MOST_NAMES = 200
ROOM = 20


def names_left(client: redis.Redis, script: scripts.Script) -> int:
    fits, too_many = 0, MOST_NAMES + 1
    while too_many - fits > 1:
        more = (fits + too_many) // 2
        names = ", ".join(f"another_{number}" for number in range(more))
        try:
            client.script_load(script.source.replace(b"\n", f"\nlocal {names}\n".encode(), 1))
            fits = more
        except ResponseError as error:
            assert "local variables" in str(error), script.name
            too_many = more
    return fits


def test_each_script_has_room_for_more_names(redis_url: str) -> None:
    every = [each for each in vars(scripts).values() if isinstance(each, scripts.Script)]
    with redis.Redis.from_url(redis_url) as client:
        left = {each.name: names_left(client, each) for each in every}

    assert len(left) > 30
    assert not {name: number for name, number in left.items() if number < ROOM}, (
        "names that only one part uses belong into a block of its own, as in counts.lua"
    )
