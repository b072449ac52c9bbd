"""The whole URL table on one screen: path, method, who may, how much."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.routing import BaseRoute

from app.http import docs
from app.http.artifacts import Artifacts
from app.http.audit import PARAMETERS as AUDIT_PARAMETERS
from app.http.audit import Audit
from app.http.auth import Admitted, Authority
from app.http.batches import Batches
from app.http.data import Data
from app.http.events import Events
from app.http.failures import PARAMETERS as FAILURE_PARAMETERS
from app.http.failures import Failures
from app.http.health import Health
from app.http.job_list import PARAMETERS as LIST_PARAMETERS
from app.http.job_list import JobList
from app.http.jobs import Jobs
from app.http.metrics import Metrics
from app.http.openapi import OpenApi
from app.http.operations import PARAMETERS as OPERATION_PARAMETERS
from app.http.operations import Operations
from app.http.problem_pages import explain_problem, list_problems
from app.http.queues import Queues
from app.http.quick import QuickJobs
from app.http.resources import Beginning, Endpoint, Operation, resource
from app.http.result_links import ResultLinks
from app.http.retries import Retries
from app.http.schedules import PARAMETERS as SCHEDULE_PARAMETERS
from app.http.schedules import Schedules
from app.http.suppressions import PARAMETERS as SUPPRESSION_PARAMETERS
from app.http.suppressions import Suppressions
from app.http.templates import Templates
from app.http.uploads import Uploads
from app.http.workers import Workers
from app.keyring import Scope

SUBMIT: tuple[Scope, ...] = ("submit",)
ANY_KEY: tuple[Scope, ...] = ("submit", "read", "operate")
SEE_ALL: tuple[Scope, ...] = ("read", "operate")
OPERATE: tuple[Scope, ...] = ("operate",)
OPEN: tuple[Scope, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Who answers."""

    jobs: Jobs
    quick: QuickJobs
    data: Data
    job_list: JobList
    retries: Retries
    batches: Batches
    events: Events
    queues: Queues
    workers: Workers
    metrics: Metrics
    uploads: Uploads
    artifacts: Artifacts
    results: ResultLinks
    templates: Templates
    suppressions: Suppressions
    failures: Failures
    operations: Operations
    schedules: Schedules
    audit: Audit
    health: Health
    openapi: OpenApi


def table(authority: Authority, endpoints: Endpoints, max_body_bytes: int) -> list[BaseRoute]:
    """Every route of the API; what is asked most stands first."""
    jobs, batches, queues = endpoints.jobs, endpoints.batches, endpoints.queues
    data, quick = endpoints.data, endpoints.quick
    listed, events = endpoints.job_list, endpoints.events
    health, openapi = endpoints.health, endpoints.openapi
    uploads, artifacts = endpoints.uploads, endpoints.artifacts
    templates = endpoints.templates
    suppressions, operations = endpoints.suppressions, endpoints.operations
    schedules = endpoints.schedules

    def large(endpoint: Endpoint, begin: Beginning | None = None) -> Operation:
        return Operation(endpoint, SUBMIT, max_body_bytes, begin=begin)

    def free(endpoint: Endpoint) -> Operation:
        return Operation(endpoint, OPEN, parameters=None)

    def watching(endpoint: Endpoint, *parameters: str) -> Operation:
        return Operation(endpoint, ANY_KEY, parameters=frozenset(parameters))

    def looking(endpoint: Endpoint) -> Operation:
        return Operation(endpoint, SEE_ALL)

    def operating(endpoint: Endpoint, *parameters: str) -> Operation:
        return Operation(endpoint, OPERATE, parameters=frozenset(parameters))

    # fmt: off
    routes: list[BaseRoute] = [
        resource("/v1/jobs",                 authority, post=large(jobs.submit, quick.begin),
                                              get=watching(listed.show, *LIST_PARAMETERS)),
        resource("/v1/emails",               authority, post=large(jobs.submit_email,
                                                         quick.begin_email)),
        resource("/v1/data",                 authority,
                 post=Operation(data.submit, SUBMIT, data.max_body_bytes)),
        resource("/v1/jobs/{id}",            authority, get=watching(jobs.show, "include"),
                                              delete=watching(jobs.delete)),
        resource("/v1/jobs/{id}/events",     authority, get=watching(events.show)),
        resource("/v1/jobs/{id}/cancel",     authority, post=watching(jobs.cancel)),
        resource("/v1/jobs/{id}/retry",      authority, post=operating(endpoints.retries.retry)),
        resource("/v1/jobs/{id}/artifacts/{name}", authority, get=watching(artifacts.download)),
        resource("/v1/results/{token}",      authority, get=free(endpoints.results.download)),
        resource("/v1/uploads",              authority,
                 post=Operation(uploads.create, SUBMIT, uploads.max_body_bytes)),
        resource("/v1/uploads/{id}",         authority, get=watching(uploads.show),
                                              delete=watching(uploads.delete)),
        resource("/v1/batches",              authority, post=large(batches.submit)),
        resource("/v1/batches/{id}",         authority, get=watching(batches.show)),
        resource("/v1/templates",            authority, get=watching(templates.show)),
        resource("/v1/templates/{name}/preview", authority, post=watching(templates.preview)),
        resource("/v1/queues",               authority, get=looking(queues.show)),
        # Another program's queue may have a slash in its name.
        resource("/v1/queues/{name:any}/jobs", authority,
                 delete=Operation(queues.empty, OPERATE, parameters=frozenset({"confirm"}))),
        resource("/v1/queues/{name:any}/pause", authority, post=operating(queues.pause)),
        resource("/v1/queues/{name:any}/resume", authority, post=operating(queues.resume)),
        resource("/v1/queues/{name:any}",   authority, get=looking(queues.show_one)),
        resource("/v1/workers",              authority, get=looking(endpoints.workers.show)),
        resource("/v1/suppressions",         authority,
                 get=Operation(suppressions.show, SEE_ALL,
                               parameters=frozenset(SUPPRESSION_PARAMETERS))),
        # An address may have a slash in it.
        resource("/v1/suppressions/{address:any}", authority,
                 delete=operating(suppressions.delete)),
        resource("/v1/failures",             authority,
                 get=operating(endpoints.failures.show, *FAILURE_PARAMETERS)),
        resource("/v1/failures/preview",     authority, post=operating(operations.preview)),
        resource("/v1/failures/retry",       authority, post=operating(operations.retry)),
        resource("/v1/failures/discard",     authority, post=operating(operations.discard)),
        resource("/v1/operations",           authority,
                 get=operating(operations.show_all, *OPERATION_PARAMETERS)),
        resource("/v1/operations/{id}",      authority, get=operating(operations.show)),
        resource("/v1/operations/{id}/pause",  authority, post=operating(operations.pause)),
        resource("/v1/operations/{id}/resume", authority, post=operating(operations.resume)),
        resource("/v1/operations/{id}/stop", authority, post=operating(operations.stop)),
        resource("/v1/schedules",            authority, post=operating(schedules.create),
                                              get=operating(schedules.show_all,
                                                            *SCHEDULE_PARAMETERS)),
        resource("/v1/schedules/{name}",     authority, get=operating(schedules.show),
                                              put=operating(schedules.replace),
                                              delete=operating(schedules.delete)),
        resource("/v1/audit",                authority,
                 get=operating(endpoints.audit.show, *AUDIT_PARAMETERS)),
        resource("/v1/job-types",            authority, get=watching(jobs.types)),
        resource("/openapi.json",            authority, get=free(openapi.show)),
        resource("/docs",                    authority, get=free(docs.page)),
        resource("/docs/{name}",             authority, get=free(docs.asset)),
        resource("/healthz",                 authority, get=free(health.alive)),
        resource("/readyz",                  authority, get=free(health.ready)),
        resource("/metrics",                 authority, get=looking(endpoints.metrics.show)),
        resource("/problems",                authority, get=free(list_problems)),
        resource("/problems/{slug}",         authority, get=free(explain_problem)),
        resource("/",                        authority, get=free(health.index)),
    ]
    # fmt: on
    openapi.describe(routes)
    return routes


def console_acts(endpoints: Endpoints) -> list[BaseRoute]:
    """What the console's pages ask for: the API's paths, for the key of the session."""
    admitted, retries, operations = Admitted(), endpoints.retries, endpoints.operations
    jobs, queues = endpoints.jobs, endpoints.queues

    def act(endpoint: Endpoint) -> Operation:
        return Operation(endpoint, OPERATE)

    # fmt: off
    return [
        resource("/v1/queues/{name:any}/pause", admitted, post=act(queues.pause)),
        resource("/v1/queues/{name:any}/resume", admitted, post=act(queues.resume)),
        resource("/v1/queues/{name:any}/jobs", admitted,
                 delete=Operation(queues.empty, OPERATE, parameters=frozenset({"confirm"}))),
        resource("/v1/suppressions/{address:any}", admitted,
                 delete=act(endpoints.suppressions.delete)),
        resource("/v1/schedules/{name}",     admitted, delete=act(endpoints.schedules.delete)),
        resource("/v1/jobs/{id}",            admitted, delete=act(jobs.delete)),
        resource("/v1/jobs/{id}/cancel",     admitted, post=act(jobs.cancel)),
        resource("/v1/jobs/{id}/retry",      admitted, post=act(retries.retry)),
        resource("/v1/jobs/{id}/artifacts/{name}", admitted,
                 get=Operation(endpoints.artifacts.download, SEE_ALL)),
        resource("/v1/failures/preview",     admitted, post=act(operations.preview)),
        resource("/v1/failures/retry",       admitted, post=act(operations.retry)),
        resource("/v1/failures/discard",     admitted, post=act(operations.discard)),
        resource("/v1/operations/{id}",      admitted, get=act(operations.show)),
        resource("/v1/operations/{id}/pause",  admitted, post=act(operations.pause)),
        resource("/v1/operations/{id}/resume", admitted, post=act(operations.resume)),
        resource("/v1/operations/{id}/stop", admitted, post=act(operations.stop)),
    ]
    # fmt: on
