"""/openapi.json: valid, complete, and true of what the service answers; /docs beside it."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema_rs import Draft202012Validator, meta
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette

from app.http.descriptions import DESCRIPTIONS
from app.http.descriptions.parts import PARAMETERS, PROBLEM_HEADERS
from app.http.openapi import operations
from app.http.problems import TYPES
from app.http.resources import Operation
from jobs.catalog import Catalog
from jobs.catalog import load as load_catalog
from jobs.errors import CODES
from tests.http_doubles import MemoryQueue, app_over, bearer, connect, key, settings_with
from tests.running_service import RunningService, running_service

ROOT = Path(__file__).parent.parent
# Headers that every client has to be told of where they are sent.
UNSAID = {
    "location", "retry-after", "etag", "link", "www-authenticate", "idempotency-replayed",
    "preference-applied", "ratelimit", "ratelimit-policy", "content-range",
}  # fmt: skip


# How our code says an error code.
_SAID = re.compile(
    r"""(?:\bcode ?= ?|default_code = |Failure\(\s*|TroubleError\(\s*|"code": """
    r"""|^(?:MISSING|UNAVAILABLE|SUPPRESSED) = )["']([a-z]+[0-9]*(?:_[a-z]+[0-9]*)*)["']""",
    re.MULTILINE,
)


async def document_of(app: Starlette) -> dict[str, Any]:
    async with connect(app) as client:
        found: dict[str, Any] = (await client.get("/openapi.json")).json()
        return found


def routed() -> dict[tuple[str, str], Operation]:
    found = operations(app_over(MemoryQueue()).routes)
    return {(method, path): operation for method, path, operation in found}


@pytest.fixture(scope="module")
def written_document() -> str:
    """Made once: describing everything takes half a second of the processor."""
    return json.dumps(asyncio.run(document_of(app_over(MemoryQueue()))))


@pytest.fixture
def document(written_document: str) -> dict[str, Any]:
    """For the test to change as it likes."""
    found: dict[str, Any] = json.loads(written_document)
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder, job_modules="tests.job_types") as running:
        yield running


class TestDocument:
    def test_every_operation_is_described_and_nothing_else(self) -> None:
        assert set(DESCRIPTIONS) == set(routed())

    def test_it_is_valid_openapi_3_1(self, document: dict[str, Any]) -> None:
        assert document["openapi"].startswith("3.1.")
        assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []

    def test_schemas_are_valid_json_schema(self, document: dict[str, Any]) -> None:
        for schema in document["components"]["schemas"].values():
            meta.validate(schema)

    def test_query_parameters_are_those_that_the_route_takes(self) -> None:
        for where, operation in routed().items():
            if operation.parameters is not None:
                described = {
                    PARAMETERS[name]["name"]
                    for name in DESCRIPTIONS[where].parameters
                    if PARAMETERS[name]["in"] == "query"
                }
                assert described == operation.parameters, where

    def test_examples_fit_their_schemas(self, document: dict[str, Any]) -> None:
        checked = 0
        for operation in each_operation(document):
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for name, example in content.get("examples", {}).items():
                    assert faults(document, content["schema"], example["value"]) == [], name
                    checked += 1
        assert checked >= 4

    def test_every_answer_has_its_request_id(self, document: dict[str, Any]) -> None:
        answers = [
            answer
            for operation in each_operation(document)
            for answer in operation["responses"].values()
            if "$ref" not in answer
        ]
        for answer in [*answers, *document["components"]["responses"].values()]:
            assert "X-Request-Id" in answer["headers"]

    def test_problems_point_at_pages_that_explain_them(self, document: dict[str, Any]) -> None:
        for answer in document["components"]["responses"].values():
            examples = answer["content"]["application/problem+json"]["examples"]
            for slug, example in examples.items():
                problem = {"$ref": "#/components/schemas/Problem"}
                assert faults(document, problem, example["value"]) == []
                assert example["value"]["type"] == f"/problems/{TYPES[slug].slug}"
        assert set(PROBLEM_HEADERS) <= set(TYPES)

    def test_operations_have_names_for_clients(self, document: dict[str, Any]) -> None:
        names = [operation["operationId"] for operation in each_operation(document)]

        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in names)

    def test_version_is_the_projects(self, document: dict[str, Any]) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

        assert document["info"]["version"] == project["version"]

    async def test_a_key_is_needed_only_where_keys_are(self, document: dict[str, Any]) -> None:
        app = app_over(MemoryQueue(), settings_with([key("r", "read")]))
        with_keys = await document_of(app)

        assert document["paths"]["/v1/jobs"]["post"]["security"] == [{"key": []}, {}]
        assert with_keys["paths"]["/v1/jobs"]["post"]["security"] == [{"key": []}]
        assert with_keys["paths"]["/healthz"]["get"]["security"] == []

    async def test_it_tells_no_secret(self) -> None:
        secrets = [key("reader", "read")]
        app = app_over(
            MemoryQueue(),
            settings_with(secrets, redis_url="redis://:geheim@redis.internal:6379/0"),
        )
        async with connect(app) as client:
            text = (await client.get("/openapi.json")).text

        for secret in ("reader", secrets[0].digest, "geheim", "redis.internal"):
            assert secret not in text

    async def test_a_client_that_has_it_gets_304(self) -> None:
        async with connect(app_over(MemoryQueue(), settings_with([key("r", "read")]))) as client:
            first = await client.get("/openapi.json")
            again = await client.get(
                "/openapi.json", headers={"If-None-Match": first.headers["etag"]}
            )

        assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
        assert "max-age" in first.headers["cache-control"]


class TestJobTypes:
    def test_every_type_is_one_of_the_submissions(self, document: dict[str, Any]) -> None:
        catalog = load_catalog()
        submission = document["components"]["schemas"]["JobSubmission"]

        assert set(submission["discriminator"]["mapping"]) == {each.name for each in catalog}
        assert len(submission["oneOf"]) == len(list(catalog))

    async def test_a_type_of_a_job_module_is_described(self) -> None:
        catalog = load_catalog(["tests.job_types"])

        document = await document_of(app_over(MemoryQueue(), catalog=catalog))

        schemas = document["components"]["schemas"]
        assert schemas["TestFlakyJob"]["description"] == "Fails until attempt `succeed_on`."
        assert schemas["TestFlakyJob"]["properties"]["type"]["const"] == "test.flaky"
        body = {"type": "test.flaky", "params": {"succeed_on": 2}}
        reference = {"$ref": "#/components/schemas/JobSubmission"}
        assert faults(document, reference, body) == []
        assert faults(document, reference, {"type": "test.flaky", "params": {"no": 1}}) != []

    async def test_a_service_without_types_still_describes_itself(self) -> None:
        document = await document_of(app_over(MemoryQueue(), catalog=Catalog()))

        assert document["components"]["schemas"]["JobSubmission"] == {"not": {}}
        assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


LOG = {"type": "log.write", "params": {"message": "hi"}}


class TestAnswers:
    """What the running service answers has the described fields: all of them, no others."""

    JOBS = (
        LOG | {"options": {"tags": {"a": "b"}, "concurrency": {"key": "k", "limit": 1}}},
        LOG | {"options": {"delay": 3600}},
        {"type": "email.send", "params": {"to": "a@b.example", "subject": "s", "text": "t"}},
        {"type": "test.permanent", "params": {}},
        {"type": "test.flaky", "params": {"succeed_on": 2}},
    )

    @pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job['type']}")
    def test_jobs_are_as_described(self, service: RunningService, job: dict[str, Any]) -> None:
        document = service.client.get("/openapi.json").json()
        accepted = service.client.post("/v1/jobs", json=job)
        path = f"{accepted.headers['location']}?include=params,options,traceback"

        check_answer(document, "/v1/jobs", accepted)
        if "delay" not in job.get("options", {}):
            service.ended(accepted.json())
        check_answer(document, "/v1/jobs/{id}", service.client.get(path))

    @pytest.mark.parametrize(
        "path", ["/v1/job-types", "/healthz", "/readyz", "/problems", "/problems/not-found", "/"]
    )
    def test_the_rest_is_as_described(self, service: RunningService, path: str) -> None:
        document = service.client.get("/openapi.json").json()
        template = path.replace("not-found", "{slug}")

        check_answer(document, template, service.client.get(path))

    def test_ending_a_job_is_as_described(self, service: RunningService) -> None:
        document = service.client.get("/openapi.json").json()
        job = service.client.post("/v1/jobs", json=LOG | {"options": {"delay": 3600}}).json()
        path = f"/v1/jobs/{job['id']}"

        check_answer(document, "/v1/jobs/{id}", service.client.delete(path))
        canceled = service.client.post(f"{path}/cancel")
        check_answer(document, "/v1/jobs/{id}/cancel", canceled)
        check_answer(document, "/v1/jobs/{id}/cancel", service.client.post(f"{path}/cancel"))
        trail = service.client.get(f"{path}/events", headers={"Accept": "application/json"})
        check_answer(document, "/v1/jobs/{id}/events", trail)
        check_answer(document, "/v1/jobs/{id}", service.client.delete(path))

        assert canceled.json()["status"] == "canceled"

    def test_waiting_is_as_described(self, service: RunningService) -> None:
        document = service.client.get("/openapi.json").json()
        headers = {"Prefer": "wait=20", "Idempotency-Key": "once"}
        mail = {"to": "a@b.example", "subject": "s", "text": "t"}

        for _ in range(2):
            answer = service.client.post("/v1/emails", json=mail, headers=headers)
            check_answer(document, "/v1/emails", answer)
            assert (answer.status_code, answer.json()["status"]) == (200, "finished")

    def test_batches_are_as_described(self, service: RunningService) -> None:
        document = service.client.get("/openapi.json").json()
        client = service.client
        failing = {"type": "test.permanent", "params": {}}
        batch = {"jobs": [LOG, failing]}
        mixed = {"jobs": [LOG, {"type": "nothing"}], "mode": "permissive"}

        accepted = client.post("/v1/batches", json=batch)
        waited = client.post("/v1/batches", json=batch, headers={"Prefer": "wait=20"})
        results = client.post("/v1/batches", json=mixed)
        shown = client.get(waited.headers["location"])
        listed = client.get(waited.json()["links"]["jobs"], params={"limit": 1})

        assert (accepted.status_code, waited.status_code, results.status_code) == (202, 200, 207)
        for answer in (accepted, waited, results):
            check_answer(document, "/v1/batches", answer)
        check_answer(document, "/v1/batches/{id}", shown)
        check_answer(document, "/v1/jobs", listed)
        assert len(shown.json()["failures"]) == 1

    def test_uploads_are_as_described(self, service: RunningService) -> None:
        document = service.client.get("/openapi.json").json()
        stored = service.client.post("/v1/uploads", content=b"a,b\n1,2\n")
        path = stored.headers["location"]

        check_answer(document, "/v1/uploads", stored)
        check_answer(document, "/v1/uploads/{id}", service.client.get(path))
        check_answer(document, "/v1/uploads/{id}", service.client.delete(path))
        check_answer(document, "/v1/uploads/{id}", service.client.get(path))

    def test_templates_are_as_described(self, service: RunningService) -> None:
        document = service.client.get("/openapi.json").json()
        path = "/v1/templates/{name}/preview"
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        body = example["examples"]["password_reset"]["value"]

        shown = service.client.post(path.format(name="password_reset"), json=body)

        assert shown.status_code == 200
        check_answer(document, path, shown)
        check_answer(document, path, service.client.post(path.format(name="nope"), json=body))
        check_answer(document, "/v1/templates", service.client.get("/v1/templates"))

    def test_pausing_is_as_described(self, service: RunningService) -> None:
        document = service.client.get("/openapi.json").json()

        for act in ("pause", "resume"):
            answer = service.client.post(f"/v1/queues/email/{act}")
            check_answer(document, f"/v1/queues/{{name}}/{act}", answer)
            assert answer.json()["paused"] is (act == "pause")

    def test_problems_are_as_described(self, service: RunningService) -> None:
        document = service.client.get("/openapi.json").json()
        client = service.client
        wrong = {"type": "log.write", "params": {}, "options": {"delay": -1}}
        text = {"Content-Type": "text/plain"}

        check_answer(document, "/v1/jobs", client.post("/v1/jobs", json=wrong))
        check_answer(document, "/v1/jobs", client.post("/v1/jobs", content=b"{}", headers=text))
        check_answer(document, "/v1/jobs/{id}", client.get("/v1/jobs/unknown"))
        check_answer(document, "/v1/jobs/{id}", client.get("/v1/jobs/x?include=all"))
        unknown = client.get("/v1/jobs/x", headers=bearer("unknown"))
        check_answer(document, "/v1/jobs/{id}", unknown)


def each_operation(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def check_answer(document: dict[str, Any], path: str, answer: httpx2.Response) -> None:
    """Status, content type, headers and body are described, and no field is left out."""
    operation = document["paths"][path][answer.request.method.lower()]
    described = resolved(document, operation["responses"][str(answer.status_code)])
    assert not set(answer.headers) & UNSAID - {name.lower() for name in described["headers"]}
    for name, header in described["headers"].items():
        if resolved(document, header).get("required"):
            assert name in answer.headers
    if "content" not in described:
        assert answer.content == b""
        return
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = described["content"][media_type]["schema"]
    assert faults(closed(document), schema, answer.json()) == []


def faults(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    whole = schema | {"components": document["components"]}
    validator = Draft202012Validator(whole, validate_formats=True)
    return [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(value)]


def resolved(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in value:
        found: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def closed(value: Any) -> Any:
    """The same, but that an object has no more fields than are described."""
    if isinstance(value, list):
        return [closed(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {name: closed(item) for name, item in value.items()}
    if isinstance(value.get("properties"), dict) and value.get("type") == "object":
        result.setdefault("additionalProperties", False)
    return result


def test_error_codes_are_documented(document: dict[str, Any]) -> None:
    """Each that our code says, in its usual ways of saying it, and no other."""
    said = set()
    for path in [*ROOT.glob("app/**/*.py"), *ROOT.glob("jobs/**/*.py"), *ROOT.glob("app/**/*.lua")]:
        said |= set(_SAID.findall(path.read_text()))
    shown = document["components"]["schemas"]["JobError"]["properties"]["code"]["description"]
    described = set(re.findall(r"`(\w+)`:", shown))

    assert len(said) > 15
    assert described == said == set(CODES)
