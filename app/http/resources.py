"""One path and what its methods do: who may, how large a body, and a truthful Allow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.auth import KEY, Admission
from app.http.bodies import check_declared_length
from app.http.faults import InvalidRequestError, MethodNotAllowedError
from app.keyring import Scope as KeyScope

MIB = 1024 * 1024


class _AnyName(Convertor[str]):
    """`{name:any}`: what others have named, with whatever is in it. `path` stops at a line end."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _AnyName())

Endpoint = Callable[[Request], Awaitable[ASGIApp]]
# Takes the answer to a request; called once.
Reply = Callable[[ASGIApp], None]
# What an endpoint does with a whole body without waiting; see `Application.begin`.
Beginning = Callable[[Scope, bytes, Reply], bool]


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of a path does.

    `scopes`: any one of them suffices; empty means open to all. `parameters`: the query
    parameters that it knows, None to let any pass.
    """

    endpoint: Endpoint
    scopes: tuple[KeyScope, ...]
    max_body_bytes: int = MIB
    parameters: frozenset[str] | None = frozenset()
    begin: Beginning | None = None


class Resource:
    """An ASGI application for one path. Starlette would answer 405 for one method at a time."""

    def __init__(self, authority: Admission, operations: dict[str, Operation]) -> None:
        self._authority = authority
        self.operations = dict(operations)
        if "GET" in operations:
            self.operations["HEAD"] = operations["GET"]
        self.allowed = sorted(self.operations)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self.operations.get(scope["method"])
        if operation is None:
            raise MethodNotAllowedError(self.allowed)
        if operation.scopes:
            scope[KEY] = await self._authority.admit(scope, operation.scopes)
        check_declared_length(scope, operation.max_body_bytes)
        request = Request(scope, receive)
        if scope["query_string"] and operation.parameters is not None:
            _check_parameters(request, operation.parameters)
        answer = await operation.endpoint(request)
        await answer(scope, receive, send)

    def begin(self, scope: Scope, body: bytes, reply: Reply) -> bool:
        """See `Application.begin`; what it raises is for the ordinary way to find again."""
        operation = self.operations.get(scope["method"])
        if operation is None or operation.begin is None or scope["query_string"]:
            return False
        key = self._authority.admit_at_once(scope, operation.scopes)
        if key is None or len(body) > operation.max_body_bytes:
            return False
        scope[KEY] = key
        return operation.begin(scope, body, reply)


def resource(path: str, authority: Admission, **operations: Operation) -> Route:
    """A route from its methods: `resource("/v1/jobs", authority, post=Operation(…))`."""
    by_method = {method.upper(): operation for method, operation in operations.items()}
    return Route(path, Resource(authority, by_method), name=path)


def _check_parameters(request: Request, known: frozenset[str]) -> None:
    for name in request.query_params:
        if name not in known:
            raise InvalidRequestError.parameter(name[:100], "there is no such query parameter")
        if len(request.query_params.getlist(name)) > 1:
            raise InvalidRequestError.parameter(name, "this query parameter may stand once")
