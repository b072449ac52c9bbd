"""Two installs of one commit are the same: everything imported is pinned, with its reason."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"app", "examples", "jobs", "tests"}
TYPES_ONLY = {"_typeshed"}
PINNED = re.compile(r"([A-Za-z0-9._-]+)(\[[a-z,]+\])?==[A-Za-z0-9.]+(; [^#]+)?\s+# (\S.*)")
TRANSITIVE = "# What those need, pinned as well"


def requirement_lines(name: str) -> Iterator[tuple[str, bool]]:
    """Each line that names a package, and whether it is a direct dependency."""
    direct = True
    for line in (ROOT / name).read_text().splitlines():
        direct = direct and line != TRANSITIVE
        if line and not line.startswith(("#", "-r ")):
            yield line, direct


def pinned(name: str, *, direct: bool) -> set[str]:
    found = set()
    for line, is_direct in requirement_lines(name):
        match = PINNED.fullmatch(line)
        if match is not None and is_direct == direct:
            found.add(normal(match[1]))
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(*folders: str) -> dict[str, str]:
    """Third-party packages that the code imports, and a file that does."""
    found = {}
    for folder in folders:
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                for name in imported_names(node):
                    found[name] = str(file.relative_to(ROOT))
    return {
        name: file
        for name, file in found.items()
        if name not in OURS | TYPES_ONLY | sys.stdlib_module_names
    }


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
        return [node.module.partition(".")[0]]
    return []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_and_says_why(name: str) -> None:
    for line, direct in requirement_lines(name):
        match = PINNED.fullmatch(line)
        assert match is not None, f"{name}: {line}"
        assert match[4].startswith("needed by ") != direct, f"{name}: {line}"


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_no_package_is_named_twice(name: str) -> None:
    names = [normal(re.split(r"[=\[]", line)[0]) for line, _ in requirement_lines(name)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("folders", "files"),
    [
        (["app", "examples", "jobs"], ["requirements.txt"]),
        (["tests"], ["requirements.txt", "requirements-dev.txt"]),
    ],
)
def test_every_import_is_a_direct_requirement(folders: list[str], files: list[str]) -> None:
    known = set().union(*(pinned(name, direct=True) for name in files))
    distributions = packages_distributions()

    for name, file in imported(*folders).items():
        providers = {normal(provider) for provider in distributions.get(name, [name])}
        assert providers & known, f"{file} imports {name}: add it to {files[-1]}"


def test_what_an_import_needs_is_pinned_too() -> None:
    """Whatever is installed beside a requirement, because it asks for it, has a line."""
    from importlib.metadata import PackageNotFoundError, requires

    everything = {
        line: direct
        for name in ("requirements.txt", "requirements-dev.txt")
        for line, direct in requirement_lines(name)
    }
    names = {normal(re.split(r"[=\[]", line)[0]) for line in everything}
    for name in names:
        try:
            needs = requires(name) or []
        except PackageNotFoundError:
            continue  # not for this platform or Python
        for need in needs:
            if ";" not in need:  # with a marker: an extra, or another platform
                needed = normal(re.split(r"[^A-Za-z0-9._-]", need)[0])
                assert needed in names, f"{name} needs {needed}: pin it"
