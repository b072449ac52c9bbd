"""The templates of e-mails: the endpoints under /v1/templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.requests import Request

from app.http.answers import Answer, json_answer
from app.http.bodies import parse_json, read_json_text
from app.http.faults import InvalidRequestError, NotFoundError
from app.http.resources import MIB
from app.http.schemas import faults_of
from jobs.email.template_params import TemplateUse
from jobs.email.templating import UnknownTemplateError, templates

if TYPE_CHECKING:
    from jobs.email.templating import Template


class Templates:
    """The endpoints."""

    async def show(self, _: Request) -> Answer:
        """GET /v1/templates."""
        return json_answer({"data": [_show(each) for each in templates()]})

    async def preview(self, request: Request) -> Answer:
        """POST /v1/templates/{name}/preview: as the job would make it, and nothing is sent."""
        name = request.path_params["name"]
        try:
            templates().get(name)
        except UnknownTemplateError:
            raise NotFoundError("There is no template of this name.") from None
        body = parse_json(await read_json_text(request.scope, request.receive, MIB))
        try:
            filled = TemplateUse.model_validate(body, context={"template": name}).filled()
        except ValidationError as error:
            raise InvalidRequestError(faults_of(error, body)) from None
        return json_answer({"subject": filled.subject, "text": filled.text, "html": filled.html})


def _show(template: Template) -> dict[str, Any]:
    return {
        "name": template.name,
        "locales": template.locales,
        "variables": [
            {"name": each.name, "type": each.type, "required": each.required}
            | ({"format": "uri"} if each.kind == "url" else {})
            for each in template.variables
        ],
    }
