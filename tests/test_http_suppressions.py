"""GET and DELETE /v1/suppressions, over what workers have remembered in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from app.queue import suppressions
from app.queue.suppressions import RunSuppressions
from tests.http_doubles import bearer, key
from tests.web_scene import WebScene, web_scene_on

KEYS = [key("shop", "submit"), key("eyes", "read"), key("boss", "operate")]
EYES, BOSS = bearer("eyes"), bearer("boss")


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url, *KEYS) as scene:
        yield scene


async def remember(web: WebScene, *addresses: str, seconds: int = 3600) -> None:
    worker = RunSuppressions(web.heart.client, web.heart.reachability, seconds)
    for address in addresses:
        await worker.add(address, 550, "5.1.1 no such user")
    await worker.aclose()


async def known(web: WebScene, *addresses: str, seconds: int = 3600) -> set[str]:
    worker = RunSuppressions(web.heart.client, web.heart.reachability, seconds)
    found = await asyncio.gather(*(worker.among([each]) for each in addresses))
    await worker.aclose()
    return {address for each in found for address in each}


async def listed(web: WebScene, query: str = "") -> list[str]:
    response = await web.client.get(f"/v1/suppressions{query}", headers=EYES)
    assert response.status_code == 200, response.text
    return [each["address"] for each in response.json()["data"]]


async def test_list_tells_who_why_and_until_when(web: WebScene) -> None:
    await remember(web, "gone@B.co")
    response = await web.client.get("/v1/suppressions", headers=EYES)

    (shown,) = response.json()["data"]
    assert (shown["address"], shown["code"], shown["reply"]) == (
        "gone@b.co", 550, "5.1.1 no such user",
    )  # fmt: skip
    assert shown["since"] < shown["until"]
    assert response.json()["next_cursor"] is None


async def test_pages_hold_each_address_once(web: WebScene) -> None:
    everybody = [f"u{n:03}@b.co" for n in range(45)]
    await remember(web, *everybody)
    seen: list[str] = []
    query = "?limit=20"
    while query:
        response = await web.client.get(f"/v1/suppressions{query}", headers=EYES)
        seen += [each["address"] for each in response.json()["data"]]
        link = response.headers.get("link")
        query = link[link.index("?") : link.index(">")] if link else ""

    assert len(seen) == 45
    assert sorted(seen) == everybody


async def test_one_address_is_found_and_deleted_however_it_is_written(web: WebScene) -> None:
    await remember(web, "a/b+c@xn--bcher-kva.example", "other@b.co")
    found = await listed(web, f"?address={quote('a/b+c@bücher.example')}")
    path = f"/v1/suppressions/{quote('a/b+c@BÜCHER.example', safe='')}"
    deleted = [(await web.client.delete(path, headers=BOSS)).status_code for _ in range(2)]

    assert found == ["a/b+c@xn--bcher-kva.example"]
    assert deleted == [204, 404]
    assert await listed(web) == ["other@b.co"]
    assert await known(web, "a/b+c@xn--bcher-kva.example", "other@B.CO") == {"other@B.CO"}


@pytest.mark.parametrize(
    ("name", "look", "act"), [("shop", 403, 403), ("eyes", 200, 403), ("boss", 200, 404)]
)
async def test_who_may_look_and_act(web: WebScene, name: str, look: int, act: int) -> None:
    looked = await web.client.get("/v1/suppressions", headers=bearer(name))
    acted = await web.client.delete("/v1/suppressions/a@b.co", headers=bearer(name))

    assert (looked.status_code, acted.status_code) == (look, act)


@pytest.mark.parametrize("query", ["?limit=0", "?limit=x", "?cursor=%21", "?cursor=YQ==", "?a=1"])
async def test_bad_parameter_is_refused(web: WebScene, query: str) -> None:
    response = await web.client.get(f"/v1/suppressions{query}", headers=EYES)

    assert response.status_code == 422


async def test_the_oldest_give_way_when_there_are_too_many(
    web: WebScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppressions, "MOST_ADDRESSES", 3)
    await remember(web, "a@b.co", "b@b.co", seconds=3600)
    await remember(web, "c@b.co", "d@b.co", seconds=7200)

    assert sorted(await listed(web)) == ["b@b.co", "c@b.co", "d@b.co"]
    assert sorted(web.heart.redis.hkeys("rq:recado:suppressions")) == [
        "b@b.co", "c@b.co", "d@b.co",
    ]  # fmt: skip


async def test_what_is_over_is_no_longer_shown_nor_kept_to(web: WebScene) -> None:
    await remember(web, "a@b.co")
    web.heart.redis.zadd("rq:recado:suppressed", {"a@b.co": 1000})
    before = await listed(web), await known(web, "a@b.co")
    await remember(web, "b@b.co")

    assert before == ([], set())
    assert web.heart.redis.hkeys("rq:recado:suppressions") == ["b@b.co"]


async def test_nothing_is_remembered_when_settings_say_so(web: WebScene) -> None:
    await remember(web, "a@b.co", seconds=0)
    kept = await listed(web)
    await remember(web, "a@b.co")

    assert kept == []
    assert await known(web, "a@b.co", seconds=0) == set()
