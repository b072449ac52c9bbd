"""bin/dev as someone types it: what it prints, what works then, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.conftest import ValkeyServer, free_port, poll_until

ROOT = Path(__file__).parent.parent
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".data", ".env", ".*_cache", "benchmarks")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


ENDLESS_JOB = """
import time
from pydantic import BaseModel
from jobs.catalog import job

class Nothing(BaseModel):
    pass

@job("endless.wait")
def wait(params: Nothing, context):
    time.sleep(3600)
"""


class Dev:
    """One run of bin/dev in a folder, in a session of its own like a terminal's."""

    def __init__(
        self,
        project: Path,
        *arguments: str,
        command: Path | None = None,
        **environment: str,
    ) -> None:
        self.project = project
        self.port = int(environment.setdefault("PORT", str(free_port())))
        self._output = project.parent / f"output-{self.port}.txt"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [command if command is not None else project / "bin" / "dev", *arguments],
                cwd="/",
                env=clean_environment() | {"RECADO_VENV": sys.prefix} | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_until_ready(self) -> Dev:
        poll_until(
            lambda: "Ready in" in self.output or self.process.poll() is not None,
            seconds=60,
            what="ready or ended",
        )
        assert self.process.poll() is None, self.output
        return self

    def status(self) -> int:
        """Its exit status, when it has ended."""
        return self.process.wait(60)

    def interrupt(self) -> int:
        """Ctrl-C as a terminal sends it, to the whole foreground group. Returns the status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.status()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def processes(self) -> dict[int, str]:
        """Everything that runs in the project's folder: process ids and command lines."""
        found = {}
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                pid = int(process.name)
                if (process / "cwd").readlink().is_relative_to(self.project):
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[pid] = command.decode()
        return found

    def pid_of(self, part: str) -> int:
        mark = {"valkey": "valkey-server", "web": "app.main"}.get(part, part)
        return next(pid for pid, command in self.processes().items() if mark in command)


def clean_environment() -> dict[str, str]:
    """Ours without any setting of the service."""
    settings = {name.upper() for name in Settings.model_fields}
    return {name: value for name, value in os.environ.items() if name not in settings}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, as a clone would be, in a folder with a space in its name."""
    copy = tmp_path.resolve() / "my project"
    shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
    return copy


@pytest.fixture
def running() -> Iterator[contextlib.ExitStack]:
    """Ends what a failed test has left."""
    with contextlib.ExitStack() as stack:
        yield stack


def start(running: contextlib.ExitStack, project: Path, **more: Any) -> Dev:
    dev = Dev(project, **more)

    def clear() -> None:
        if dev.process.poll() is None:
            dev.process.terminate()
            dev.process.wait(60)

    running.callback(clear)
    return dev


@linux_only
@pytest.mark.skipif(shutil.which("curl") is None, reason="runs the printed curl line")
def test_printed_curl_line_mails_and_ctrl_c_leaves_nothing(
    project: Path, running: contextlib.ExitStack
) -> None:
    link = project.parent / "dev"
    link.symlink_to(project / "bin" / "dev")
    dev = start(running, project, command=link).wait_until_ready()

    curl = next(line for line in dev.output.splitlines() if line.strip().startswith("curl "))
    answer = subprocess.run(["sh", "-c", curl], capture_output=True, check=True, timeout=30)
    job = json.loads(answer.stdout)
    poll_until(
        lambda: dev.get(f"/v1/jobs/{job['id']}")["status"] == "finished", what="the mail is sent"
    )
    addresses = dict(re.findall(r"^  (\w+) +(http://\S+)$", dev.output, re.MULTILINE))
    assert sorted(addresses) == ["API", "Console", "Dashboard", "Docs", "Health", "Inbox"]
    for address in addresses.values():
        with urllib.request.urlopen(address, timeout=10) as page:
            assert page.status == 200
    assert re.search(r"^web     \| ", dev.output, re.MULTILINE)
    assert re.search(r"^worker  \| ", dev.output, re.MULTILINE)

    assert dev.interrupt() == 0
    assert dev.processes() == {}
    assert not (project / ".data" / "dev.json").exists()


@linux_only
def test_job_survives_the_end_and_the_next_start(
    project: Path, running: contextlib.ExitStack
) -> None:
    dev = start(running, project).wait_until_ready()
    note = project / ".data" / "dev.json"
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert json.loads(note.read_text())["pid"] == dev.process.pid
    later = {"type": "log.write", "params": {"message": "hi"}, "options": {"delay": 3600}}
    job = dev.post("/v1/jobs", later)
    dev.process.terminate()
    assert dev.status() == 0
    assert dev.processes() == {}

    again = start(running, project).wait_until_ready()

    assert again.get(f"/v1/jobs/{job['id']}")["status"] == "scheduled"


@linux_only
def test_kill_of_bin_dev_itself_leaves_nothing(
    project: Path, running: contextlib.ExitStack
) -> None:
    (project / "endless.py").write_text(ENDLESS_JOB)
    dev = start(running, project, JOB_MODULES="endless").wait_until_ready()
    job = dev.post("/v1/jobs", {"type": "endless.wait", "params": {}})
    poll_until(lambda: dev.get(f"/v1/jobs/{job['id']}")["status"] == "started", what="the job runs")
    # bin/dev, its four parts, and what the worker starts for the job.
    assert len(dev.processes()) > 5

    dev.process.kill()

    poll_until(lambda: not dev.processes(), what="every part is gone")


@linux_only
@pytest.mark.parametrize("part", ["valkey", "catcher", "web", "worker"])
def test_death_of_a_part_ends_everything(
    part: str, project: Path, running: contextlib.ExitStack
) -> None:
    dev = start(running, project).wait_until_ready()

    os.kill(dev.pid_of(part), signal.SIGKILL)

    assert dev.status() == 1
    assert f"{part} ended by itself: killed by signal 9" in dev.output
    assert dev.processes() == {}


@linux_only
def test_redis_and_mail_server_that_are_set_replace_the_embedded_ones(
    project: Path, running: contextlib.ExitStack, valkey: ValkeyServer
) -> None:
    (project / ".env").write_text(f"REDIS_URL={valkey.url}\n")

    dev = start(running, project, SMTP_URL="smtp://mail.example.com").wait_until_ready()

    assert not [line for line in dev.processes().values() if "valkey-server" in line]
    assert not [line for line in dev.processes().values() if "catcher" in line]
    assert "mail.example.com" in dev.output
    assert dev.interrupt() == 0


def test_taken_port_is_one_clear_sentence(project: Path, running: contextlib.ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        dev = start(running, project, PORT=str(port))

        assert dev.status() == 1

    assert re.fullmatch(
        rf"bin/dev: port {port} is taken by another program; choose another: PORT=\d+ bin/dev\.\n",
        dev.output,
    )
    assert not (project / ".data").exists()


def test_second_bin_dev_on_the_same_data_is_refused(
    project: Path, running: contextlib.ExitStack
) -> None:
    start(running, project).wait_until_ready()

    second = start(running, project)

    assert second.status() == 1
    assert second.output.startswith("bin/dev: another bin/dev is running")
    assert len(second.output.splitlines()) == 1


def test_data_folder_that_cannot_be_written_is_one_clear_sentence(
    project: Path, running: contextlib.ExitStack
) -> None:
    (project / "file").write_text("not a folder")

    dev = start(running, project, DATA_DIR="file/data")

    assert dev.status() == 1
    assert dev.output.startswith("bin/dev: cannot write in the data folder")
    assert "DATA_DIR" in dev.output
    assert len(dev.output.splitlines()) == 1


def test_bad_settings_are_told_before_anything_starts(
    project: Path, running: contextlib.ExitStack
) -> None:
    dev = start(running, project, LOG_LEVEL="loud", SMTP_URL="nonsense")

    assert dev.status() == 2
    assert "LOG_LEVEL: " in dev.output
    assert "SMTP_URL: " in dev.output
    assert "REDIS_URL" not in dev.output
    assert not (project / ".data").exists()


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (None, "Python 3.11 or newer is needed, and there is no python3 in PATH."),
        (
            '[ "$1" = -V ] && echo Python 3.9.18 || exit 3',
            "Python 3.11 or newer is needed, and this machine's is Python 3.9.18.",
        ),
        (
            '[ "$1" = -V ] && echo Python 3.12.1 || exit 4',
            "Python 3.12.1 is here, but not its module venv: install it"
            " (on Debian and Ubuntu: apt install python3-venv).",
        ),
    ],
)
def test_machine_without_a_fitting_python_is_told_so(
    script: str | None, sentence: str, project: Path, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    if script is not None:
        write_program(programs / "python3", script)

    for command in ("dev", "test"):
        ended = subprocess.run(
            [project / "bin" / command],
            env={"PATH": str(programs)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 1
        assert ended.stderr == f"recado: {sentence}\n"


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


class Environment:
    """A project with no requirements and an application that says hello."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "bin", folder / "bin")
        (folder / "app" / "dev").mkdir(parents=True)
        (folder / "app" / "dev" / "__main__.py").write_text("print('hello')")
        self.require("")
        programs = folder / "programs"
        programs.mkdir()
        python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        write_program(programs / "python3", f'exec "{python}" "$@"')

    def require(self, requirements: str) -> None:
        (self.folder / "requirements.txt").write_text(requirements)

    def dev(self, *as_whom: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder}/programs:{os.defpath}"
        return subprocess.run(
            [*as_whom, self.folder / "bin" / "dev"],
            env={"PATH": path, "PIP_NO_INDEX": "1", "HOME": str(self.folder)},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )


def test_environment_is_made_once_and_again_when_requirements_change(tmp_path: Path) -> None:
    project = Environment(tmp_path / "new project")

    first, second = project.dev(), project.dev()
    assert (first.returncode, first.stdout) == (0, "hello\n"), first.stderr
    assert "making .venv" in first.stderr
    assert (second.returncode, second.stdout, second.stderr) == (0, "hello\n", "")

    project.require("# nothing new\n")
    third = project.dev()
    assert "making .venv" not in third.stderr
    assert "installing requirements.txt" in third.stderr
    assert third.stdout == "hello\n"

    project.require("not-to-be-found==1\n")
    for _ in range(2):  # the failed install is not taken for a finished one
        failed = project.dev()
        assert (failed.returncode, failed.stdout) == (1, "")
        assert "recado: installing requirements.txt failed" in failed.stderr.splitlines()[-1]


def test_folder_that_cannot_be_written_is_one_clear_sentence(tmp_path: Path) -> None:
    project = Environment(tmp_path / "project")
    project.folder.chmod(0o555)
    # Root may write anywhere, unless it has lost that capability.
    as_whom = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    try:
        ended = project.dev(*as_whom)
    finally:
        project.folder.chmod(0o755)

    assert ended.returncode == 1
    assert ended.stderr == f"recado: cannot write in {project.folder}: Permission denied.\n"
