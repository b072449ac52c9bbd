"""The job types: what `@job` declares and everything else looks up by name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar, get_type_hints

from pydantic import BaseModel

from jobs.context import JobContext

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
QUEUE_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,39}")
# Modules of this package that declare no job types.
_INFRASTRUCTURE = {"catalog", "context", "errors", "files"}

F = TypeVar("F", bound=Callable[..., Any])


class Backoff(NamedTuple):
    """Waiting before attempt n+1: min(maximum, initial * factor ** (n-1)), ± jitter.

    Seconds; `jitter` is the fraction of the wait that is random, 0 to 1.
    """

    initial: float = 15.0
    factor: float = 3.0
    maximum: float = 3600.0
    jitter: float = 0.2


class JobType(NamedTuple):
    """One kind of work: its function, the model of its params and its defaults.

    `find_params` may import the model: who only wants to know of the type need not wait for it.
    `is_async`: a coroutine in the worker's loop; else it runs in a child process of its own.
    `preload`: modules that are imported before the loop, or such a process, starts.
    `crash_code`: what its job fails with, for good, when that process crashes; without one it is
    tried again.
    """

    name: str
    function: Callable[[Any, JobContext], Any]
    find_params: Callable[[], type[BaseModel]]
    queue: str
    max_attempts: int
    timeout_seconds: float
    backoff: Backoff
    description: str
    is_async: bool
    # Made by the service itself, and by nobody else.
    is_internal: bool = False
    preload: tuple[str, ...] = ()
    crash_code: str | None = None

    @property
    def params(self) -> type[BaseModel]:
        """The model that checks its params."""
        return self.find_params()

    def load(self) -> None:
        """Import what runs will need, so that none of them waits for it."""
        for module in self.preload:
            importlib.import_module(module)


class UnknownJobTypeError(LookupError):
    """No job type of that name is registered."""


class Catalog:
    """The registered job types by name; iterates in order of name.

    Internal ones are known only to who asks for them: they cannot be submitted.
    """

    def __init__(self) -> None:
        self._types: dict[str, JobType] = {}

    def add(self, job_type: JobType) -> None:
        known = self._types.get(job_type.name)
        if known is not None and known.function is not job_type.function:
            raise ValueError(
                f"job type {job_type.name!r} is declared twice: in {known.function.__module__}"
                f" and in {job_type.function.__module__}"
            )
        self._types[job_type.name] = job_type

    def get(self, name: str, *, internal: bool = False) -> JobType:
        """Raises UnknownJobTypeError."""
        found = self._types.get(name)
        if found is None or (found.is_internal and not internal):
            raise UnknownJobTypeError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._types and not self._types[str(name)].is_internal

    def __iter__(self) -> Iterator[JobType]:
        public = [job_type for job_type in self._types.values() if not job_type.is_internal]
        return iter(sorted(public, key=lambda job_type: job_type.name))

    def find_params(self) -> None:
        """Import every model of params that has not been."""
        for job_type in self._types.values():
            job_type.find_params()

    def queues(self) -> list[str]:
        """Every queue that some type uses, `default` among them, in order of name."""
        return sorted({job_type.queue for job_type in self} | {"default"})


CATALOG = Catalog()


def job(
    name: str,
    *,
    queue: str = "default",
    max_attempts: int = 5,
    timeout: float = 180.0,
    backoff: Backoff | None = None,
    internal: bool = False,
    preload: tuple[str, ...] = (),
    crash_code: str | None = None,
    params: str | None = None,
) -> Callable[[F], F]:
    """Register a function as a job type.

    The function takes `(params, context)`; the annotation of its first argument, a
    pydantic model, validates submissions and documents them. It returns JSON. `async def`
    runs beside others in the worker's loop and must not block; `def` runs in a child
    process. `timeout` is in seconds for one run. `internal`: no client can submit it. `preload`
    names modules that only runs need and that are slow to import: they are there when a child
    process starts, or the worker's loop, and never in the web process. `crash_code` is for work
    whose library crashes on what a second run would meet again, such as a lack of memory. `params`
    is `module:Model` where the annotation's model is imported for type checkers alone: then
    commands that check nothing do not load it.
    """
    if NAME_PATTERN.fullmatch(name) is None:
        raise ValueError(f"job type {name!r}: a name has parts in lower case with a dot between")
    if QUEUE_PATTERN.fullmatch(queue) is None:
        raise ValueError(f"job type {name!r}: {queue!r} is no queue name")

    def register(function: F) -> F:
        CATALOG.add(
            JobType(
                name=name,
                function=function,
                find_params=_params_finder(name, function, params),
                queue=queue,
                max_attempts=max_attempts,
                timeout_seconds=timeout,
                backoff=backoff if backoff is not None else Backoff(),
                description=inspect.getdoc(function) or "",
                is_async=inspect.iscoroutinefunction(function),
                is_internal=internal,
                preload=preload,
                crash_code=crash_code,
            )
        )
        return function

    return register


def _params_finder(
    name: str, function: Callable[..., Any], place: str | None
) -> Callable[[], type[BaseModel]]:
    arguments = list(inspect.signature(function).parameters)
    if len(arguments) != 2:
        raise TypeError(f"job type {name!r}: the function takes (params, context)")
    if place is not None:
        return cache(partial(_named_model, *place.split(":")))
    model = get_type_hints(function).get(arguments[0])
    if not (inspect.isclass(model) and issubclass(model, BaseModel)):
        raise TypeError(f"job type {name!r}: annotate {arguments[0]!r} with a pydantic model")
    found: type[BaseModel] = model
    return lambda: found


def _named_model(module: str, name: str) -> type[BaseModel]:
    found: type[BaseModel] = getattr(importlib.import_module(module), name)
    return found


def load(extra_modules: Iterable[str] = (), *, with_params: bool = True) -> Catalog:
    """Import every module of `jobs/` and the named ones, and return what they declared.

    Of a package that is what it imports itself, and its module `job` where it has one. Raises
    ImportError, naming the module, when one cannot be imported. `with_params`: import their models
    now, and not with the first job of each type; a command that checks none does without.
    """
    import jobs  # noqa: PLC0415 - this module is part of it

    for module in pkgutil.iter_modules(jobs.__path__):
        if module.name not in _INFRASTRUCTURE:
            importlib.import_module(f"jobs.{module.name}")
            if module.ispkg and importlib.util.find_spec(f"jobs.{module.name}.job") is not None:
                importlib.import_module(f"jobs.{module.name}.job")
    for name in extra_modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # a module may raise anything while it is imported
            raise ImportError(f"JOB_MODULES: cannot import {name!r}: {error}") from error
    if with_params:
        CATALOG.find_params()
    return CATALOG
