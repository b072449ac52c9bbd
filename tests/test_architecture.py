"""The walls of the house: who imports what, read from the files themselves."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Where a library may be imported; anywhere else in app/ and jobs/ is a breach.
HOMES = {
    # A stock worker calls app.worker.perform, which has to ask it what it runs.
    "rq": ("app/queue/", "app/worker.py"),
    "rq_dashboard": ("app/queue/",),
    # app/dev starts the server and asks whether it is up.
    "redis": ("app/queue/", "app/dev/"),
    "hiredis": ("app/queue/",),
    "starlette": ("app/http/", "app/main.py"),
    "uvicorn": ("app/http/", "app/main.py"),
    "duckdb": ("jobs/data/",),
    "aiosmtplib": ("jobs/email/",),
}
# Where the parts are put together.
ENTRANCES = ("app/__main__.py", "app/main.py", "app/worker.py", "app/cli.py", "app/dev/")


def sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            yield name, parsed(path, name)


@cache
def parsed(path: Path, name: str) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), name)


@cache
def imports(tree: ast.Module) -> list[str]:
    """Full names of what is imported at run time, wherever in the file it stands."""
    type_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: list[str] = []
    for node in ast.walk(tree):
        if id(node) in type_only:
            continue
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return found


def test_libraries_stay_in_their_rooms() -> None:
    breaches = [
        f"{name} imports {imported}"
        for name, tree in sources("app", "jobs")
        for imported in imports(tree)
        if (library := imported.partition(".")[0]) in HOMES and not name.startswith(HOMES[library])
    ]

    assert breaches == []


def test_jobs_know_nothing_of_the_service() -> None:
    breaches = [
        f"{name} imports {imported}"
        for name, tree in sources("jobs")
        for imported in imports(tree)
        if imported.partition(".")[0] == "app"
    ]

    assert breaches == []


def test_examples_know_the_service_only_over_http() -> None:
    allowed = ("jobs.catalog", "jobs.context")
    breaches = [
        f"{name} imports {imported}"
        for name, tree in sources("examples")
        for imported in imports(tree)
        if imported.partition(".")[0] in {"app", "jobs"} and not imported.startswith(allowed)
    ]

    assert breaches == []


def test_http_and_queue_meet_only_in_the_records() -> None:
    shared = ("app.queue.records", "app.queue.errors", "app.queue.figures")
    breaches = [
        f"{name} imports {imported}"
        for name, tree in sources("app/http", "app/queue")
        for imported in imports(tree)
        if (name.startswith("app/http/") and imported.startswith("app.queue"))
        or (name.startswith("app/queue/") and imported.startswith("app.http"))
        if not imported.startswith(shared)
    ]

    assert breaches == []


def test_nobody_imports_the_entrances() -> None:
    breaches = [
        f"{name} imports {imported}"
        for name, tree in sources("app", "jobs")
        if not name.startswith(ENTRANCES)
        for imported in imports(tree)
        if imported.startswith(("app.main", "app.cli"))
    ]

    assert breaches == []


def test_only_the_settings_read_the_environment() -> None:
    # app/dev starts other programs and must hand them an environment.
    breaches = [
        name
        for name, tree in sources("app", "jobs")
        if name != "app/settings.py" and not name.startswith("app/dev/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv"}
    ]

    assert breaches == []


def test_nothing_unpickles() -> None:
    breaches = [
        f"{name} imports {imported}"
        for name, tree in sources("app", "jobs")
        for imported in imports(tree)
        if imported.partition(".")[0] in {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
    ]

    assert breaches == []


@pytest.mark.parametrize("library", ["duckdb", "aiosmtplib"])
def test_web_process_does_not_load_what_only_jobs_need(library: str) -> None:
    program = (
        "import sys, app.main; from jobs.catalog import load; load();"
        f"sys.exit({library!r} in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)

    assert done.returncode == 0


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        name
        for name, tree in sources("app", "examples", "jobs", "tests")
        if tree.body and ast.get_docstring(tree) is None
    ]

    assert silent == []


def test_our_own_files_are_read_as_utf_8_whatever_the_locale() -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    program = (
        "import app.main, app.worker, app.http.sign_in;"
        "from app.queue import scripts; scripts.load();"
        "from app.queue.dashboard import pages; pages.template_loader(); pages.assets();"
        "from jobs.catalog import load; load();"
        "from jobs.email.templating import templates; templates()"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, env={**os.environ, **locale}
    )

    assert done.returncode == 0
