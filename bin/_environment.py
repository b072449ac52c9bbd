"""Brings `.venv` up to date when its requirements changed, then becomes its Python.

Run by bin/_environment.sh as `_environment.py REQUIREMENTS ARGUMENTS…`, with the `.venv`'s
own Python when there is one; needs the standard library only.
"""

import signal

if __name__ == "__main__":
    # Ctrl-C while modules load ends us without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
# What an install of the one brings up to date as well.
COVERS = {
    "requirements.txt": ["requirements.txt"],
    "requirements-dev.txt": ["requirements.txt", "requirements-dev.txt"],
}


def main(requirements: str, *arguments: str) -> NoReturn:
    given = os.environ.get("RECADO_VENV")
    folder = ROOT / (given if given else ".venv")
    python = folder / "bin" / "python"
    if not given and not _is_current(folder, requirements):
        # From here on, what we have started ends with us.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with _alone():
                _bring_up_to_date(folder, requirements)
        except OSError as error:
            _refuse(f"cannot write in {ROOT}: {error.strerror}.")
        except subprocess.CalledProcessError:
            _refuse(f"installing {requirements} failed, for the reason above; start again.")
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
    try:
        os.execv(python, [str(python), *arguments])  # noqa: S606 - becoming it is the point
    except OSError as error:
        _refuse(f"cannot run {python}: {error.strerror}.")


def _bring_up_to_date(folder: Path, requirements: str) -> None:
    if _is_current(folder, requirements):
        return  # someone else just did
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass  # it can be written
    if not _is_made(folder):
        _say(f"making .venv with Python {sys.version.split()[0]}")
        # A virtual environment cannot make itself anew.
        base = getattr(sys, "_base_executable", sys.executable)
        _run(base, "-m", "venv", "--clear", str(folder))
    # Without a stamp, what is half installed is thrown away by the next start.
    for stamp in folder.glob("*.stamp"):
        stamp.unlink()
    _say(f"installing {requirements} (once, until it changes)")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    _run(*pip, "install", "--quiet", "-r", requirements)
    for covered in COVERS[requirements]:
        unfinished = _stamp(folder, covered).with_suffix(".new")
        unfinished.write_text(_content(covered))
        unfinished.replace(_stamp(folder, covered))


def _is_current(folder: Path, requirements: str) -> bool:
    try:
        return _stamp(folder, requirements).read_text() == _content(requirements)
    except OSError:
        return False


def _is_made(folder: Path) -> bool:
    """True when an install into it was completed before, by this version of Python."""
    version = _python()
    return any(stamp.read_text().startswith(version) for stamp in folder.glob("*.stamp"))


def _stamp(folder: Path, requirements: str) -> Path:
    return folder / f"{requirements}.stamp"


def _content(requirements: str) -> str:
    files = [(ROOT / name).read_bytes() for name in COVERS[requirements]]
    digest = hashlib.sha256(b"\n".join(files))
    return f"{_python()} {digest.hexdigest()}\n"


def _python() -> str:
    implementation = sys.implementation.cache_tag or sys.implementation.name
    return f"{implementation}-{os.uname().machine}"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Waits until no other bin/dev or bin/test of this folder is installing."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network drives have no locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, cwd=ROOT)  # noqa: S603 - the commands above


def _say(text: str) -> None:
    sys.stderr.write(f"recado: {text}\n")


def _refuse(text: str) -> NoReturn:
    _say(text)
    sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
