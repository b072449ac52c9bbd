"""The schemas of /openapi.json: what comes in, as its own models say it, and what goes out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic.json_schema import models_json_schema

from app.http.data import PREFIX as DATA
from app.http.data import json_fields
from app.http.descriptions import DESCRIPTIONS
from app.http.descriptions.parts import JSON, Json
from app.http.schedule_bodies import NewSchedule, WrittenSchedule
from app.http.schemas import BatchSubmission, Options, RetryRequest
from app.http.selections import Discarding, FailureFilters, Retrying
from app.http.shapes import Problem
from jobs.catalog import Catalog, JobType
from jobs.email.template_params import TemplateUse

REFERENCE = "#/components/schemas/{model}"
# Bodies that are a job type's params with `options` among them.
FLAT_SUBMISSIONS = {"EmailSubmission": "email.send"}
# No job type, no job: what cannot be submitted.
_NOTHING: Json = {"not": {}}
# Keywords of JSON Schema under which data stands, not schemas.
_VALUES = {"default", "const", "enum", "examples", "example"}


def schemas_of(catalog: Catalog) -> dict[str, Json]:
    """Every schema that is referred to. What comes in is as its own model says it."""
    submissions = [_submission(job_type) for job_type in catalog]
    incoming: list[type[BaseModel]] = [
        *submissions, TemplateUse, RetryRequest, FailureFilters, Discarding, Retrying,
        NewSchedule, WrittenSchedule,
    ]  # fmt: skip
    for name, type_name in FLAT_SUBMISSIONS.items():
        if type_name in catalog:
            incoming.append(_flat_submission(name, catalog.get(type_name)))
    operations = [each for each in catalog if each.name.startswith(DATA)]
    data = [_data_submission(each) for each in operations]
    incoming += data
    outgoing = {
        reply.model
        for described in DESCRIPTIONS.values()
        for reply in described.replies.values()
        if reply.model is not None
    } | {Problem}
    ordered = [*incoming, *sorted(outgoing, key=lambda model: model.__name__)]
    names, found = models_json_schema(
        [(model, "validation") for model in ordered], ref_template=REFERENCE
    )
    schemas: dict[str, Json] = found["$defs"]
    references = {
        job_type.name: names[(model, "validation")]["$ref"]
        for job_type, model in zip(catalog, submissions, strict=True)
    }
    for name in FLAT_SUBMISSIONS:
        schemas.setdefault(name, _NOTHING)
    schemas["JobSubmission"] = (
        _NOTHING
        if not references
        else {
            "description": "A job: which type, with what params, and how it is to be run.",
            "oneOf": [{"$ref": reference} for reference in references.values()],
            "discriminator": {"propertyName": "type", "mapping": references},
        }
    )
    schemas["DataSubmission"] = _NOTHING
    if data:
        mapping = {
            each.name.removeprefix(DATA): names[(model, "validation")]["$ref"]
            for each, model in zip(operations, data, strict=True)
        }
        schemas["DataSubmission"] = {
            "description": "A data job: what to do, with which rows, and how it is to be run.",
            "oneOf": [{"$ref": reference} for reference in mapping.values()],
            "discriminator": {"propertyName": "operation", "mapping": mapping},
        }
    schemas["DataForm"] = _data_form(operations)
    schemas |= _batch_submission()
    for name in ("NewSchedule", "WrittenSchedule"):
        schemas[name]["properties"]["job"] = {"$ref": REFERENCE.format(model="JobSubmission")}
    return {name: _without_titles(schema) for name, schema in schemas.items()}


def _submission(job_type: JobType) -> type[BaseModel]:
    """`{type, params, options}` for one job type, as `draft_job` takes it."""
    needs_params = not _is_possible(job_type.params, {})
    fields: dict[str, Any] = {
        "type": Literal[job_type.name],
        "params": (job_type.params, ... if needs_params else Field(default_factory=dict)),
        "options": (Options, Field(default_factory=Options)),
    }
    return create_model(
        f"{camel(job_type.name)}Job",
        __config__={"extra": "forbid"},
        __module__=__name__,
        __doc__=job_type.description,
        **fields,
    )


def _is_possible(model: type[BaseModel], value: Json) -> bool:
    try:
        model.model_validate(value)
    except ValidationError:
        return False
    return True


def _flat_submission(name: str, job_type: JobType) -> type[BaseModel]:
    """The params of one job type with `options` among them, as `draft_flat_job` takes it."""
    return create_model(
        name,
        __base__=job_type.params,
        __module__=__name__,
        __doc__=job_type.description,
        options=(Options, Field(default_factory=Options)),
    )


def _data_submission(job_type: JobType) -> type[BaseModel]:
    """The params of one data job with `operation` and `options` among them."""
    operation = job_type.name.removeprefix(DATA)
    fields: dict[str, Any] = {
        "operation": Literal[operation],
        "options": (Options, Field(default_factory=Options)),
    }
    return create_model(
        f"{camel(job_type.name)}Submission",
        __base__=job_type.params,
        __module__=__name__,
        __doc__=job_type.description,
        **fields,
    )


def _data_form(job_types: Sequence[JobType]) -> Json:
    """The same as fields, which differ by operation: what is no text stands in them as JSON."""
    properties: Json = {
        "file": {"type": "string", "format": "binary", "description": "In place of `upload_id`."},
        "operation": {"enum": [each.name.removeprefix(DATA) for each in job_types]},
    }
    for job_type in job_types:
        for name in job_type.params.model_json_schema()["properties"]:
            kind: Json = {"type": "string"}
            if name in json_fields(job_type):
                kind |= {"contentMediaType": JSON}
            properties.setdefault(name, kind)
    properties["options"] = {"type": "string", "contentMediaType": JSON}
    return {
        "type": "object",
        "properties": properties,
        "required": ["operation"],
        "additionalProperties": False,
    }


def _batch_submission() -> dict[str, Json]:
    """A batch by its mode: in a permissive one, each of `jobs` is checked by itself."""
    plain = BatchSubmission.model_json_schema()
    jobs = plain["properties"]["jobs"]
    shown = {
        "StrictBatch": (
            {"$ref": REFERENCE.format(model="JobSubmission")},
            {"const": "strict", "default": "strict"},
            ["jobs"],
        ),
        "PermissiveBatch": (
            {"description": "A JobSubmission; what is not is answered with a problem."},
            {"const": "permissive"},
            ["jobs", "mode"],
        ),
    }
    schemas: dict[str, Json] = {
        name: {
            "type": "object",
            "properties": {"jobs": {**jobs, "items": items}, "mode": {"type": "string", **mode}},
            "required": required,
            "additionalProperties": False,
        }
        for name, (items, mode, required) in shown.items()
    }
    one_of = [{"$ref": REFERENCE.format(model=name)} for name in schemas]
    return schemas | {"BatchSubmission": {"description": "Many jobs at once.", "oneOf": one_of}}


def camel(name: str) -> str:
    """`log.write` as `LogWrite`."""
    return "".join(part.capitalize() for part in re.split(r"[._-]", name))


def _without_titles(value: Any) -> Any:
    """pydantic titles every field with its own name over again."""
    if isinstance(value, list):
        return [_without_titles(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: item if name in _VALUES else _without_titles(item)
        for name, item in value.items()
        if name != "title" or not isinstance(item, str)
    }
