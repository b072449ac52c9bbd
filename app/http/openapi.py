"""/openapi.json: OpenAPI 3.1, made from the route table, its descriptions, the models that
validate, and the job types; built once, when first asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from app.http.answers import Answer, json_answer, revalidated
from app.http.descriptions import DESCRIPTIONS, TAGS, UNDESCRIBED
from app.http.descriptions.parts import (
    ALIASES,
    HEADERS,
    JSON,
    LINKS,
    PARAMETERS,
    PROBLEM_HEADERS,
    RATE_HEADERS,
    Description,
    Json,
    Reply,
)
from app.http.openapi_schemas import REFERENCE, camel, schemas_of
from app.http.problems import TYPES
from app.http.resources import Operation, Resource
from jobs.catalog import Catalog

VERSION = "0.1.0"
CACHE_SECONDS = 60
_ABOUT = """\
A job queue behind HTTP. `POST` an e-mail or any other job and get `202` once Redis holds it;
workers run it, retry it, and keep what failed where you can find the cause.

Times are RFC 3339 in UTC, durations are seconds, sizes are bytes. Unknown fields and query
parameters are refused. Errors are `application/problem+json` (RFC 9457). Fields may be added
to answers: skip what you do not know.
"""
_AUTHENTICATION = """\
`Authorization: Bearer <key>`. A key has scopes: `submit` hands work in and sees what it handed
in, `read` sees everything, `operate` acts on everything. Without configured keys the service
answers its own machine only, and no key is needed.
"""


class OpenApi:
    """The document over a route table, made when somebody first wants it."""

    def __init__(self, catalog: Catalog, *, needs_key: bool) -> None:
        self._catalog = catalog
        self._needs_key = needs_key
        self._routes: Sequence[BaseRoute] = ()
        self._answer: Answer | None = None

    def describe(self, routes: Sequence[BaseRoute]) -> None:
        """Which routes it is about: they are made after it, since it is one of them."""
        self._routes = routes

    async def show(self, request: Request) -> Answer:
        """GET /openapi.json."""
        if self._answer is None:
            caching = (b"cache-control", b"public, max-age=%d" % CACHE_SECONDS)
            self._answer = json_answer(self.document(), headers=[caching], cacheable=True)
        return revalidated(request, self._answer)

    def document(self) -> Json:
        """The whole document. Raises LookupError for a route that nothing describes."""
        schemas = schemas_of(self._catalog)
        paths: dict[str, Json] = {}
        replies = _ProblemReplies()
        for method, path, operation in operations(self._routes):
            described = DESCRIPTIONS.get((method, path))
            if described is None:
                raise LookupError(f"{method} {path} is not described in app/http/descriptions")
            shown = self._operation(described, operation, replies)
            paths.setdefault(path, {})[method.lower()] = shown
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Recado",
                "version": VERSION,
                "summary": "Background jobs that do not get lost.",
                "description": _ABOUT,
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/", "description": "The service that this came from."}],
            "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "responses": replies.components,
                "parameters": PARAMETERS,
                "headers": HEADERS,
                "securitySchemes": {
                    "key": {"type": "http", "scheme": "bearer", "description": _AUTHENTICATION}
                },
            },
        }

    def _operation(
        self, described: Description, operation: Operation, replies: _ProblemReplies
    ) -> Json:
        shown: Json = {
            "operationId": described.operation_id,
            "tags": [described.tag],
            "summary": described.summary,
            "description": described.text + _scopes_sentence(operation),
            "parameters": [
                {"$ref": f"#/components/parameters/{name}"}
                for name in (*described.parameters, "request_id")
            ],
            "responses": {
                **{
                    str(status): _reply(reply, operation)
                    for status, reply in described.replies.items()
                },
                **replies.references(_problems(described, operation), described.replies),
            },
            "security": self._security(operation),
        }
        if described.body is not None:
            shown["requestBody"] = _body(described, operation)
        return shown

    def _security(self, operation: Operation) -> list[Json]:
        if not operation.scopes:
            return []
        return [{"key": []}] if self._needs_key else [{"key": []}, {}]


def operations(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str, Operation]]:
    """Method, path and what is done there, for every route that belongs into the document."""
    for route in routes:
        if isinstance(route, Route) and isinstance(route.app, Resource):
            for method, operation in route.app.operations.items():
                if method != "HEAD" and route.path not in UNDESCRIBED:
                    # A converter is of the routes: `{address:any}`.
                    yield method, route.path.replace(":any}", "}"), operation


class _ProblemReplies:
    """Responses for problems: those of one status together, and each set of them only once."""

    def __init__(self) -> None:
        self.components: dict[str, Json] = {}

    def references(self, slugs: Iterable[str], taken: Mapping[int, Reply]) -> dict[str, Json]:
        by_status: dict[int, list[str]] = {}
        for slug in dict.fromkeys(slugs):
            by_status.setdefault(TYPES[slug].status, []).append(slug)
        return {
            str(status): {"$ref": f"#/components/responses/{self._component(found)}"}
            for status, found in sorted(by_status.items())
            if status not in taken
        }

    def _component(self, slugs: list[str]) -> str:
        name = "Or".join(camel(slug) for slug in sorted(slugs))
        if name not in self.components:
            kinds = [TYPES[slug] for slug in slugs]
            headers = {header for slug in slugs for header in PROBLEM_HEADERS.get(slug, ())}
            self.components[name] = {
                "description": "\n\n".join(
                    f"**{kind.title}** (`/problems/{kind.slug}`). {kind.explanation}"
                    for kind in kinds
                ),
                "headers": _headers(sorted(headers)),
                "content": {
                    "application/problem+json": {
                        "schema": {"$ref": REFERENCE.format(model="Problem")},
                        "examples": {kind.slug: _problem_example(kind.slug) for kind in kinds},
                    }
                },
            }
        return name


def _problem_example(slug: str) -> Json:
    kind = TYPES[slug]
    value: Json = {
        "type": f"/problems/{slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.explanation.partition(". ")[0].rstrip(".") + ".",
        "instance": "/v1/jobs",
        "request_id": "8c4e1f0f5d1c4b6f8a9b0c1d",
    }
    if slug == "invalid-request":
        value["errors"] = [{"pointer": "/params/to/0", "detail": "is needed"}]
    return {"summary": kind.title, "value": value}


def _problems(described: Description, operation: Operation) -> Iterator[str]:
    if operation.scopes:
        yield from ("unauthenticated", "missing-scope")
        if "rate-limited" in TYPES:
            yield "rate-limited"
    yield "local-only"
    if described.body is not None:
        yield from described.body.problems
    if operation.parameters is not None:
        yield "invalid-request"
    if any(PARAMETERS[name]["in"] == "path" for name in described.parameters):
        yield "not-found"
    yield from described.problems
    yield "internal-error"


def _scopes_sentence(operation: Operation) -> str:
    if not operation.scopes:
        return "\n\nOpen to all."
    scopes = " or ".join(f"`{scope}`" for scope in operation.scopes)
    return f"\n\nNeeds a key with the scope {scopes}."


def _reply(reply: Reply, operation: Operation) -> Json:
    limited = RATE_HEADERS if operation.scopes else ()
    shown: Json = {"description": reply.text, "headers": _headers((*reply.headers, *limited))}
    content: Json = {}
    if reply.model is not None:
        content[JSON] = {"schema": {"$ref": REFERENCE.format(model=reply.model.__name__)}}
    content |= {media_type: {"schema": schema} for media_type, schema in reply.besides.items()}
    if content:
        shown["content"] = content
    if reply.links:
        shown["links"] = {name: LINKS[name] for name in reply.links}
    return shown


def _headers(names: Iterable[str]) -> dict[str, Json]:
    return {
        ALIASES.get(name, name): {"$ref": f"#/components/headers/{name}"}
        for name in (*names, "X-Request-Id")
    }


def _body(described: Description, operation: Operation) -> Json:
    body = described.body
    assert body is not None
    content: dict[str, Json] = {
        media_type: {"schema": schema} for media_type, schema in body.content.items()
    }
    if body.examples:
        content[JSON]["examples"] = dict(body.examples)
    return {
        "required": body.required,
        "description": f"At most {operation.max_body_bytes:,} bytes.",
        "content": content,
    }
