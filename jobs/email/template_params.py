"""What a client says of a template: its name, its language, and what it is filled in with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationInfo
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from jobs.email.templating import (
    CannotFillError,
    Filled,
    UnknownLocaleError,
    UnknownTemplateError,
    templates,
)
from jobs.email.templating.formats import MAX_LOCALE

if TYPE_CHECKING:
    from jobs.email.templating import Template

_LOCALE_PATTERN = r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$"


class FilledVariables(dict[str, JsonValue]):
    """Variables of a template, as the client gave them, and what they have made."""

    def __init__(self, given: Mapping[str, JsonValue], filled: Filled) -> None:
        super().__init__(given)
        self.filled = filled


class _UnknownError(Exception):
    """Which template is meant is not known, as its name is at fault."""


def _check_name(value: str | None) -> str | None:
    if value is not None:
        try:
            templates().get(value)
        except UnknownTemplateError as error:
            raise PydanticCustomError("template", "{reason}", {"reason": str(error)}) from None
    return value


def _template(info: ValidationInfo) -> Template | None:
    """The template that the field before names, or the context of a preview."""
    if "template" in info.data:
        name = info.data["template"]
    elif isinstance(info.context, dict) and "template" in info.context:
        name = info.context["template"]
    else:
        raise _UnknownError
    return None if name is None else templates().get(name)


def _check_locale(value: str | None, info: ValidationInfo) -> str | None:
    if value is None:
        return None
    try:
        template = _template(info)
        if template is None:
            raise PydanticCustomError("no_template", "means nothing without `template`")
        template.locale(value)
    except _UnknownError:
        return value
    except UnknownLocaleError as error:
        raise PydanticCustomError("locale", "{reason}", {"reason": str(error)}) from None
    return value


def _fill_in(value: dict[str, JsonValue] | None, info: ValidationInfo) -> Any:
    """The same variables, with what they make. Faults stand at `/variables/…`."""
    try:
        template = _template(info)
    except _UnknownError:
        return value
    if template is None:
        if value is not None:
            raise PydanticCustomError("no_template", "means nothing without `template`")
        return None
    needed = [each.name for each in template.variables if each.required]
    if value is None and needed:
        raise PydanticCustomError(
            "variables_missing", "is needed, with {names}", {"names": ", ".join(needed)}
        )
    given = {} if value is None else value
    checked = template.model.model_validate(given)
    if "locale" not in info.data:  # at fault, which is told already
        return value
    try:
        filled = template.fill_in(checked, template.locale(info.data["locale"]))
    except CannotFillError as error:
        raise PydanticCustomError("template", "{reason}", {"reason": str(error)}) from None
    return FilledVariables({k: v for k, v in given.items() if v is not None}, filled)


TemplateName = Annotated[
    str | None,
    AfterValidator(_check_name),
    Field(description="Makes subject and body, from `variables`; GET /v1/templates lists them."),
]
TemplateLocale = Annotated[
    str | None,
    AfterValidator(_check_locale),
    Field(
        description="Of the template: this very one, else one of the same language."
        " Default: `en`, where there is one."
    ),
]
TemplateVariables = Annotated[
    dict[str, JsonValue] | None,
    AfterValidator(_fill_in),
    Field(
        validate_default=True,
        description="Of the template: exactly those that it declares. null is the same as absent.",
    ),
]


class TemplateUse(BaseModel):
    """What a template is to be filled in with. Its name comes as the context `template`."""

    model_config = ConfigDict(extra="forbid")

    locale: TemplateLocale = Field(
        None, json_schema_extra={"pattern": _LOCALE_PATTERN, "maxLength": MAX_LOCALE}
    )
    variables: TemplateVariables = None

    def filled(self) -> Filled:
        assert isinstance(self.variables, FilledVariables)
        return self.variables.filled


def template_schemas() -> Iterator[JsonDict]:
    """For each template, JSON Schema's words for the fields that go with it."""
    for template in templates():
        variables: JsonDict = template.model.model_json_schema()
        is_needed = bool(variables.get("required"))
        locale: JsonDict = {"type": "string", "pattern": template.locale_pattern()}
        yield {
            "required": ["template", "variables"] if is_needed else ["template"],
            "properties": {
                "template": {"const": template.name},
                "variables": variables if is_needed else {"anyOf": [variables, {"type": "null"}]},
                "locale": {"anyOf": [locale | {"maxLength": MAX_LOCALE}, {"type": "null"}]},
            },
        }
