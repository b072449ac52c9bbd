"""The templates that are there: what they make in each language, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from jobs.context import JobContext
from jobs.email.job import send
from jobs.email.params import EmailParams
from jobs.email.templating import Filled, templates

GIVEN: dict[str, dict[str, Any]] = {
    "password_reset": {
        "product": "Shop", "name": "Ana", "reset_url": "https://shop.example/r?a=1&b=2",
        "expires_minutes": 1500,
    },
    "welcome": {"product": "Shop", "name": "Ana", "action_url": "https://shop.example/"},
    "notification": {
        "title": "Stock is low", "body": "Only 3 left.\n\nOrder soon,\nplease.",
        "action_url": "https://shop.example/stock", "action_label": "Order now",
    },
    "job_finished": {
        "job_id": "0653a1b2c3d4", "job_type": "data.profile", "ended_at": "2026-03-09T14:05:59Z",
        "summary": "1,204 rows", "result_url": "https://jobs.example/1",
    },
    "job_failed": {
        "job_id": "0653a1b2c3d4", "job_type": "data.profile", "ended_at": "2026-03-09T14:05:59Z",
        "error": "no such column: <b>", "job_url": "https://jobs.example/1",
    },
}  # fmt: skip
EVERY = [(name, locale) for name in GIVEN for locale in ("en", "pt-BR")]


def mail(**fields: Any) -> EmailParams:
    return EmailParams.model_validate({"from": "shop@b.co", "to": "ana@b.co"} | fields)


def short(value: Any) -> str:
    """For the name of a test."""
    return repr(value)[:40]


def fill(name: str, locale: str | None = None, /, **changes: Any) -> Filled:
    params = mail(template=name, variables=GIVEN[name] | changes, locale=locale).written()
    assert params.subject is not None
    assert params.text is not None
    assert params.html is not None
    return Filled(params.subject, params.text, params.html)


def faults(**fields: Any) -> dict[str, str]:
    """JSON pointer -> message."""
    with pytest.raises(ValidationError) as caught:
        mail(**fields)
    return {
        "".join(f"/{part}" for part in fault["loc"]): fault["msg"]
        for fault in caught.value.errors()
    }


class TestShipped:
    def test_they_are_those_that_the_contract_names(self) -> None:
        declared = {
            each.name: {v.name: v.type + ("" if v.required else "?") for v in each.variables}
            for each in templates()
        }

        job = {"job_id": "string", "job_type": "string", "ended_at": "time"}
        assert declared == {
            "password_reset": {
                "product": "string", "name": "string?", "reset_url": "string",
                "expires_minutes": "integer",
            },
            "welcome": {"product": "string", "name": "string?", "action_url": "string"},
            "notification": {
                "title": "string", "body": "string", "action_url": "string?",
                "action_label": "string?",
            },
            "job_finished": job | {"summary": "string?", "result_url": "string?"},
            "job_failed": job | {"error": "string", "job_url": "string?"},
        }  # fmt: skip
        assert all(each.locales == ["en", "pt-BR"] for each in templates())

    @pytest.mark.parametrize(("name", "locale"), EVERY)
    def test_everything_given_is_in_text_and_html(self, name: str, locale: str) -> None:
        made = fill(name, locale)

        for key, value in GIVEN[name].items():
            if isinstance(value, str) and key != "ended_at" and "\n" not in value:
                escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
                assert value in made.text or key == "action_label"
                assert escaped in made.html
        assert f'lang="{locale}"' in made.html
        assert "None" not in made.text + made.html

    @pytest.mark.parametrize(("name", "locale"), EVERY)
    def test_the_least_that_must_be_given_is_enough(self, name: str, locale: str) -> None:
        optional = {each.name for each in templates().get(name).variables if not each.required}

        made = fill(name, locale, **dict.fromkeys(optional))

        assert "None" not in made.subject + made.text + made.html
        assert "\n\n\n" not in made.text

    @pytest.mark.parametrize(("name", "locale"), EVERY)
    def test_lines_fit_into_a_mail_unencoded(self, name: str, locale: str) -> None:
        made = fill(name, locale)

        assert max(len(line) for line in made.html.splitlines()) <= 998

    def test_numbers_and_times_are_written_in_the_locales_manner(self) -> None:
        assert "1,500 minutes" in fill("password_reset").text
        assert "1.500 minutos" in fill("password_reset", "pt-BR").text
        assert "March 9, 2026, 14:05 UTC" in fill("job_finished").text
        assert "9 de março de 2026, 14:05 UTC" in fill("job_finished", "pt-BR").text

    def test_a_time_keeps_the_offset_that_it_was_given_with(self) -> None:
        made = fill("job_finished", ended_at="2026-03-09T11:05:00-03:00")

        assert "11:05 UTC\N{MINUS SIGN}3" in made.text

    def test_one_is_singular(self) -> None:
        assert "1 minute:" in fill("password_reset", expires_minutes=1).text
        assert "1 minuto:" in fill("password_reset", "pt", expires_minutes=1).text

    def test_markup_in_a_variable_is_text(self) -> None:
        made = fill("notification", title='<b>"x"</b>', body="<script>alert(1)</script>")

        assert "<script" not in made.html
        assert "<b>" not in made.html
        assert made.subject == '<b>"x"</b>'
        assert "<script>alert(1)</script>" in made.text

    def test_paragraphs_of_a_text_stay_paragraphs(self) -> None:
        made = fill("notification", body="one\r\ntwo\r\n\r\n\r\nthree")

        assert "one<br>\ntwo</p>" in made.html
        assert ">three</p>" in made.html


class TestLocales:
    @pytest.mark.parametrize(
        ("asked", "opening"),
        [
            (None, "Hello Ana"), ("en", "Hello Ana"), ("en-GB", "Hello Ana"), ("EN", "Hello Ana"),
            ("pt-BR", "Olá, Ana"), ("pt", "Olá, Ana"), ("pt_PT", "Olá, Ana"), ("PT-br", "Olá, Ana"),
        ],
    )  # fmt: skip
    def test_the_very_one_else_the_language(self, asked: str | None, opening: str) -> None:
        assert fill("welcome", asked).text.startswith(opening)

    @pytest.mark.parametrize("asked", ["fr", "", "e", "en\n", "ptbr", "en-" + "x" * 40, "../en"])
    def test_one_that_is_not_there_names_those_that_are(self, asked: str) -> None:
        found = faults(template="welcome", variables=GIVEN["welcome"], locale=asked)

        assert found == {"/locale": "there is en, pt-BR"}


class TestParams:
    def test_stored_params_make_the_same_mail_again(self) -> None:
        given = GIVEN["welcome"] | {"name": None}
        first = mail(template="welcome", variables=given, locale="pt")
        stored = first.model_dump(mode="json", by_alias=True, exclude_none=True)
        again = EmailParams.model_validate(stored)

        assert stored["variables"] == {k: v for k, v in given.items() if v is not None}
        assert again.written() == first.written()
        assert again.model_dump(mode="json", by_alias=True, exclude_none=True) == stored

    def test_subject_beside_a_template_replaces_its_own(self) -> None:
        made = mail(template="welcome", variables=GIVEN["welcome"], subject="Hi!").written()

        assert made.subject == "Hi!"
        assert made.text is not None

    @pytest.mark.parametrize(
        ("fields", "pointers"),
        [
            ({"template": "nope"}, ["/template"]),
            ({"template": "nope", "variables": {"a": 1}, "locale": "xx"}, ["/template"]),
            ({"template": "welcome"}, ["/variables"]),
            ({"template": "welcome", "variables": {}}, ["/variables/product",
                                                         "/variables/action_url"]),
            ({"template": "welcome", "variables": [], "locale": "xx"}, ["/locale", "/variables"]),
            ({"template": "welcome", "variables": GIVEN["welcome"], "text": "x"}, ["/text"]),
            ({"template": "welcome", "variables": GIVEN["welcome"], "html": "x"}, ["/html"]),
            ({"subject": "s", "text": "t", "variables": {}}, ["/variables"]),
            ({"subject": "s", "text": "t", "locale": "en"}, ["/locale"]),
        ],
    )  # fmt: skip
    def test_fields_that_do_not_go_together(
        self, fields: dict[str, Any], pointers: list[str]
    ) -> None:
        assert list(faults(**fields)) == pointers

    @pytest.mark.parametrize(
        ("template", "name", "value"),
        [
            ("welcome", "typo", "x"),
            ("welcome", "product", None),
            ("welcome", "product", ""),
            ("welcome", "product", 7),
            ("welcome", "product", "a\r\nBcc: x@y.z"),
            ("welcome", "product", "x" * 501),
            ("welcome", "product", "\ud800"),
            ("welcome", "action_url", "javascript:alert(1)"),
            ("welcome", "action_url", "JavaScript://%0aalert(1)"),
            ("welcome", "action_url", "data:text/html,x"),
            ("welcome", "action_url", "https://"),
            ("welcome", "action_url", "https:///x"),
            ("welcome", "action_url", "//b.co"),
            ("welcome", "action_url", " https://b.co"),
            ("welcome", "action_url", 'https://b.co/"><script>'),
            ("welcome", "action_url", "https://b.co/a b"),
            ("welcome", "action_url", "https://b.co/\n"),
            ("notification", "body", "a\x00b"),
            ("notification", "body", "x" * 50_001),
            ("notification", "action_url", ""),
            ("password_reset", "expires_minutes", "5"),
            ("password_reset", "expires_minutes", True),
            ("password_reset", "expires_minutes", 1.5),
            ("password_reset", "expires_minutes", 10**400),
            ("job_failed", "ended_at", "2026-03-09"),
            ("job_failed", "ended_at", "2026-03-09T14:05:59"),
            ("job_failed", "ended_at", "2026-13-09T14:05:59Z"),
            ("job_failed", "ended_at", 1773065159),
        ],
        ids=short,
    )
    def test_variable_that_does_not_fit_is_pointed_out(
        self, template: str, name: str, value: Any
    ) -> None:
        found = faults(template=template, variables=GIVEN[template] | {name: value})

        assert list(found) == [f"/variables/{name}"]

    @pytest.mark.parametrize(
        ("template", "name", "value"),
        [
            ("welcome", "name", ""),
            ("welcome", "action_url", "http://localhost:8000/x?y=%20#z"),
            ("welcome", "action_url", "HTTPS://münchen.example/straße"),
            ("notification", "body", "x" * 50_000),
            ("notification", "body", "tab\there\r\nnext\n"),
            ("password_reset", "expires_minutes", 10.0),
            ("job_failed", "ended_at", "2026-03-09t14:05:59.123456789z"),
        ],
        ids=short,
    )
    def test_variable_that_fits_is_taken(self, template: str, name: str, value: Any) -> None:
        assert fill(template, **{name: value}).text

    async def test_job_sends_what_the_template_made(self) -> None:
        params = mail(template="welcome", variables=GIVEN["welcome"], locale="pt-BR")

        result = await send(params, JobContext(job_id="0653a1b2c3d4e012", dry_run=True))

        assert "multipart/alternative" in result["source"]
        assert "Subject: Boas-vindas a Shop\r\n" in result["source"]
