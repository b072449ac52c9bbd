"""A child that the kernel has killed for want of memory is told from one that somebody killed."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.queue.children import ChildKilledError, ChildOutOfMemoryError, Children
from app.queue.lending import lend
from app.queue.oom import KernelKills, kill_counter
from jobs.files import NoFiles
from tests.harness import JOB_MODULES, wait_for_journal

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2 = "low 0\nhigh 0\nmax 7\noom 3\noom_kill {}\noom_group_kill 0\n"


def cgroup(folder: Path, version: int, *, is_container: bool = False) -> tuple[Path, Path, Path]:
    """/proc/self/cgroup, /sys/fs/cgroup, and the file that counts there, as Linux has them."""
    own, root = folder / "own", folder / "cgroup"
    text = "4:memory:/jobs/worker\n3:cpu,cpuacct:/\n0::/\n" if version == 1 else "0::/jobs/worker\n"
    own.write_text(text)
    home = root / "memory" if version == 1 else root
    home = home if is_container else home / "jobs/worker"
    home.mkdir(parents=True)
    file = home / ("memory.oom_control" if version == 1 else "memory.events")
    file.write_text((V1 if version == 1 else V2).format(0))
    return own, root, file


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("is_container", [False, True])
def test_kernels_count_is_found(tmp_path: Path, version: int, is_container: bool) -> None:
    own, root, file = cgroup(tmp_path, version, is_container=is_container)

    assert kill_counter(own, root) == file


def test_where_nobody_counts_nothing_is_explained(tmp_path: Path) -> None:
    own, root, file = cgroup(tmp_path, 1)
    file.write_text("oom_kill_disable 0\nunder_oom 0\n")  # Linux before 4.13
    assert kill_counter(own, root) is None
    assert kill_counter(tmp_path / "none", root) is None

    kills = KernelKills(None)
    kills.begin()

    assert not kills.explain_one()


@pytest.mark.parametrize("version", [1, 2])
def test_each_kill_explains_one_end(tmp_path: Path, version: int) -> None:
    _, _, file = cgroup(tmp_path, version)
    text = V1 if version == 1 else V2
    file.write_text(text.format(5))  # somebody else's, before
    kills = KernelKills(file)
    kills.begin()
    assert not kills.explain_one()

    file.write_text(text.format(7))

    assert [kills.explain_one() for _ in range(3)] == [True, True, False]


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    return cgroup(tmp_path, 2)[2]


@pytest.fixture
def order(tmp_path: Path) -> dict[str, Any]:
    """A `def` job that notes `began` and then waits."""
    params = {"journal": str(tmp_path / "journal"), "gate": str(tmp_path / "gate")}
    context = {
        "job_id": "a", "job_type": "test.wait_process", "attempt": 1, "recovered": False,
        "timeout_seconds": 60.0, "request_id": None, "dry_run": False, "previous_result": None,
        "artifacts_folder": str(tmp_path),
    }  # fmt: skip
    return {"type": "test.wait_process", "params": params, "context": context}


@pytest.mark.parametrize(
    ("kills", "error"), [(1, ChildOutOfMemoryError), (0, ChildKilledError)], ids=["kernel", "kill"]
)
async def test_child_says_who_killed_it(
    tmp_path: Path, counter: Path, order: dict[str, Any], kills: int, error: type[Exception]
) -> None:
    options = {
        "log_style": "text", "log_level": "INFO", "job_modules": [JOB_MODULES],
        "memory_bytes": 512 * 1024 * 1024, "artifact_bytes": 0, "queues": [], "defaults": {},
    }  # fmt: skip
    children = Children(options, dict(os.environ), KernelKills(counter))
    try:
        running = asyncio.create_task(
            children.run(order, lambda: None, lambda _: None, partial(lend, NoFiles(), tmp_path))
        )
        (pid,) = await asyncio.to_thread(wait_for_journal, tmp_path / "journal", "began")
        counter.write_text(V2.format(kills))
        os.kill(pid, signal.SIGKILL)

        with pytest.raises(error):
            await running
    finally:
        children.close()
