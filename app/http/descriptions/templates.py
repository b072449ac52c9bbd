"""The templates of e-mails."""

from __future__ import annotations

from app.http import shapes
from app.http.descriptions.parts import Description, Json, Reply, json_body

PASSWORD_RESET: Json = {
    "product": "Shop",
    "name": "Ana",
    "reset_url": "https://shop.example/reset?token=4f1c",
    "expires_minutes": 30,
}
_EXAMPLES: dict[str, Json] = {
    "password_reset": {
        "summary": "A password reset in Portuguese",
        "value": {"variables": PASSWORD_RESET, "locale": "pt-BR"},
    },
}

TEMPLATES: dict[tuple[str, str], Description] = {
    ("GET", "/v1/templates"): Description(
        "listTemplates", "templates", "List the templates",
        "Each with the locales that it is written in and the variables that it takes.",
        {200: Reply("Every template, in order of name.", shapes.TemplateList)},
    ),
    ("POST", "/v1/templates/{name}/preview"): Description(
        "previewTemplate", "templates", "Preview a template",
        "Subject, text and HTML as an e-mail with this template, these variables and this"
        " locale would have them; nothing is sent.",
        {200: Reply("What it makes.", shapes.TemplatePreview)},
        parameters=("template",), body=json_body("TemplateUse", _EXAMPLES),
    ),
}  # fmt: skip
