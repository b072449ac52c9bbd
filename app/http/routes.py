"""The whole URL table on one screen: path, method, who may, how much."""

from __future__ import annotations

from starlette.routing import BaseRoute

from app.http import docs
from app.http.auth import Authority
from app.http.health import Health
from app.http.jobs import Jobs
from app.http.openapi import OpenApi
from app.http.problem_pages import explain_problem, list_problems
from app.http.resources import Endpoint, Operation, resource
from app.keyring import Scope

SUBMIT: tuple[Scope, ...] = ("submit",)
ANY_KEY: tuple[Scope, ...] = ("submit", "read", "operate")
OPEN: tuple[Scope, ...] = ()


def table(
    authority: Authority, jobs: Jobs, health: Health, openapi: OpenApi, max_body_bytes: int
) -> list[BaseRoute]:
    """Every route of the API; what is asked most stands first."""

    def large(endpoint: Endpoint) -> Operation:
        return Operation(endpoint, SUBMIT, max_body_bytes)

    def free(endpoint: Endpoint) -> Operation:
        return Operation(endpoint, OPEN, parameters=None)

    def watching(endpoint: Endpoint, *parameters: str) -> Operation:
        return Operation(endpoint, ANY_KEY, parameters=frozenset(parameters))

    # fmt: off
    routes: list[BaseRoute] = [
        resource("/v1/jobs",         authority, post=large(jobs.submit)),
        resource("/v1/jobs/{id}",    authority, get=watching(jobs.show, "include")),
        resource("/v1/emails",       authority, post=large(jobs.submit_email)),
        resource("/v1/job-types",    authority, get=watching(jobs.types)),
        resource("/openapi.json",    authority, get=free(openapi.show)),
        resource("/docs",            authority, get=free(docs.page)),
        resource("/docs/{name}",     authority, get=free(docs.asset)),
        resource("/healthz",         authority, get=free(health.alive)),
        resource("/readyz",          authority, get=free(health.ready)),
        resource("/problems",        authority, get=free(list_problems)),
        resource("/problems/{slug}", authority, get=free(explain_problem)),
        resource("/",                authority, get=free(health.index)),
    ]
    # fmt: on
    openapi.describe(routes)
    return routes
