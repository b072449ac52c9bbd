"""The supervisor of bin/dev on small programs: who starts and ends when, and what is left."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.dev.console import Console
from app.dev.part import Part
from app.dev.supervisor import Supervisor
from tests.conftest import poll_until

FOREVER = "while :; do sleep 0.05; done"


class Scene:
    """A folder in which the parts leave marks, and what the supervisor prints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = io.StringIO()

    def part(
        self,
        name: str,
        script: str = FOREVER,
        *,
        preparing: str = ":",
        grace_seconds: float = 30.0,
    ) -> Part:
        """A shell script: prepares, is ready, runs, and leaves a mark when it is ended."""
        begin = f"trap 'echo {name} >> ended; exit 0' TERM; {preparing}; echo {name} >> started;"
        return Part(
            name=name,
            command=["sh", "-c", f"cd '{self.folder}'; {begin} {script}"],
            is_ready=self._has_started(name),
            grace_seconds=grace_seconds,
        )

    def _has_started(self, name: str) -> Callable[[int], asyncio.Future[bool]]:
        def is_ready(_: int) -> asyncio.Future[bool]:
            answer = asyncio.get_running_loop().create_future()
            answer.set_result(name in self.marks("started"))
            return answer

        return is_ready

    def marks(self, file: str) -> list[str]:
        path = self.folder / file
        return path.read_text().split() if path.exists() else []

    async def run(self, *stages: list[Part], on_ready: Callable[[], None]) -> int:
        console = Console(self.output, [part.name for stage in stages for part in stage])
        return await Supervisor(console).run(stages, on_ready)

    @property
    def printed(self) -> str:
        return self.output.getvalue()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def never() -> None:
    pytest.fail("said to be ready")


def is_alive(pid: int) -> bool:
    """False also for one that has ended and was not collected by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_stages_start_in_order_and_end_in_the_opposite_one(scene: Scene) -> None:
    slow = scene.part("first", preparing="sleep 0.3")
    stages = [slow], [scene.part("second")], [scene.part("third")]

    status = await scene.run(*stages, on_ready=interrupt)

    assert status == 0
    assert scene.marks("started") == ["first", "second", "third"]
    assert scene.marks("ended") == ["third", "second", "first"]


async def test_death_of_a_part_ends_all_and_is_named(scene: Scene) -> None:
    stages = [scene.part("steady")], [scene.part("weak", "sleep 0.2; exit 7")]

    status = await scene.run(*stages, on_ready=lambda: None)

    assert status == 1
    assert "weak ended by itself: exit status 7" in scene.printed
    assert scene.marks("ended") == ["steady"]


async def test_part_that_dies_before_it_is_ready_ends_all(scene: Scene) -> None:
    weak = scene.part("weak", preparing="kill -9 $$")

    status = await scene.run([scene.part("steady")], [weak], [scene.part("late")], on_ready=never)

    assert status == 1
    assert "weak ended by itself: killed by signal 9" in scene.printed
    assert scene.marks("started") == ["steady"]
    assert scene.marks("ended") == ["steady"]


async def test_program_that_cannot_be_started_ends_all(scene: Scene) -> None:
    missing = Part("missing", [str(scene.folder / "nothing")], lambda _: asyncio.sleep(0, True))

    status = await scene.run([scene.part("steady")], [missing], on_ready=never)

    assert status == 1
    assert "cannot start missing" in scene.printed
    assert scene.marks("ended") == ["steady"]


async def test_signal_before_all_is_ready_ends_what_runs(scene: Scene) -> None:
    def is_ready(_: int) -> asyncio.Future[bool]:
        interrupt()
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(False)
        return answer

    slow = Part("slow", ["sleep", "1000"], is_ready)

    status = await scene.run([scene.part("steady")], [slow], on_ready=never)

    assert status == 0
    assert scene.marks("ended") == ["steady"]


async def test_part_that_does_not_end_in_time_is_killed(scene: Scene) -> None:
    stubborn = scene.part("stubborn", preparing="trap '' TERM", grace_seconds=0.2)

    status = await scene.run([scene.part("steady")], [stubborn], on_ready=interrupt)

    assert status == 0
    assert "stubborn did not end in time and was killed" in scene.printed
    assert scene.marks("ended") == ["steady"]


async def test_second_signal_does_not_wait(scene: Scene) -> None:
    stubborn = scene.part(
        "stubborn", preparing="trap 'echo asked >> asked' TERM", grace_seconds=1e6
    )

    async def insist() -> None:
        while not scene.marks("asked"):
            await asyncio.sleep(0.01)
        interrupt()

    insisting: list[asyncio.Task[None]] = []

    def on_ready() -> None:
        interrupt()
        insisting.append(asyncio.create_task(insist()))

    status = await scene.run([stubborn], on_ready=on_ready)

    assert status == 0
    assert "ending at once" in scene.printed


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_what_a_dead_part_leaves_in_its_group_is_killed(scene: Scene) -> None:
    # The child keeps the output open, which must not hide that its parent is dead.
    parent = scene.part("parent", "sleep 1000 & echo $! > child; sleep 0.2; kill -9 $$")

    status = await scene.run([parent], on_ready=lambda: None)

    assert status == 1
    child = int((scene.folder / "child").read_text())
    poll_until(lambda: not is_alive(child), what="the child is gone")


async def test_output_comes_line_by_line_behind_the_name(scene: Scene) -> None:
    script = "echo one; echo two >&2; printf 'half'; exit 0"

    await scene.run([scene.part("web", script), scene.part("worker")], on_ready=lambda: None)

    lines = scene.printed.splitlines()
    assert "web    | one" in lines
    assert "web    | two" in lines
    assert "web    | half" in lines


async def test_endless_line_is_printed_in_pieces(scene: Scene) -> None:
    script = "head -c 300000 /dev/zero | tr '\\0' x; echo; echo after; exit 0"

    await scene.run([scene.part("web", script)], on_ready=lambda: None)

    assert scene.printed.count("x") >= 300_000
    assert "web | after" in scene.printed.splitlines()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_only_where_they_are_wanted(
    no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)

    for stream, expected in ((Terminal(), coloured), (io.StringIO(), False)):
        Console(stream, ["web"]).line("web", "hello")
        assert ("\x1b[" in stream.getvalue()) is expected
        assert "hello" in stream.getvalue()
