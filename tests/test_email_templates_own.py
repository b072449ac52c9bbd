"""Templates that a deployment adds: what they may do, and how a bad one is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.email.templating import CannotFillError, Filled, TemplatesFaultError
from jobs.email.templating.language import Environment
from jobs.email.templating.loading import MAX_FILE_BYTES, load_folder
from tests.test_email_templates import short

ROOT = Path(__file__).parent.parent


class Own:
    """A folder of templates with the shared files of ours, and one that a deployment adds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "templates"
        self.folder.mkdir()
        for shared in (ROOT / "jobs" / "email" / "templates").glob("*.html"):
            shutil.copy(shared, self.folder)
        self.own = self.folder / "invoice"
        self.own.mkdir()
        self.write("template.toml", '[subjects]\nfr = "Facture {{ number }}"\n'
                   '[variables]\nnumber = "string"\ntotal = "number"\npaid = "boolean?"\n'
                   'page = "url?"\ndue_at = "time"\n')  # fmt: skip
        self.write("fr.txt", "{{ number }}: {{ total }}, {{ paid }}, {{ due_at }}")
        self.write("fr.html", '{% extends "layout.html" %}{% block content %}'
                   "<p>{{ number|upper }}</p>{% endblock %}")  # fmt: skip

    def write(self, name: str, content: str) -> None:
        (self.own / name).write_text(content, encoding="utf-8")

    def faults(self) -> list[str]:
        with pytest.raises(TemplatesFaultError) as caught:
            load_folder(self.folder)
        return caught.value.faults

    def fill(self, **variables: Any) -> Filled:
        template = load_folder(self.folder).get("invoice")
        return template.fill_in(template.model.model_validate(variables), template.locale(None))


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(tmp_path)


INVOICE: dict[str, Any] = {"number": "a7", "total": 1234.5, "due_at": "2026-03-09T14:05:00Z"}


class TestOwn:
    def test_a_folder_is_a_template(self, own: Own) -> None:
        made = own.fill(**INVOICE, paid=True)

        assert made.subject == "Facture a7"
        assert made.text == "a7: 1\u202f234.5, ✓, 2026-03-09 14:05 UTC"
        assert "<p>A7</p>" in made.html
        assert 'lang="fr"' in made.html
        assert load_folder(own.folder).get("invoice").locales == ["fr"]

    def test_line_breaks_in_a_subject_are_spaces(self, own: Own) -> None:
        own.write("template.toml", '[subjects]\nfr = "a\\r\\nBcc: {{ lines }} \\n"\n'
                  '[variables]\nlines = "text"')  # fmt: skip
        own.write("fr.txt", "x")
        own.write("fr.html", "x")

        assert own.fill(lines="b\u2028c\r\nd").subject == "a Bcc: b c d"

    def test_what_would_be_too_large_is_given_up(self, own: Own) -> None:
        own.write("template.toml", '[subjects]\nfr = "x"\n[variables]\nlines = "text"')
        own.write("fr.html", "x")
        own.write("fr.txt", "{{ lines }}" * 20)

        with pytest.raises(CannotFillError, match="more than 1048576 bytes"):
            own.fill(lines="é" * 50_000)

    def test_what_takes_too_much_work_is_given_up(self, own: Own) -> None:
        own.write("template.toml", '[subjects]\nfr = "x"\n[variables]\nlines = "text"')
        own.write("fr.html", "{% if lines|paragraphs == lines|upper %}x{% endif %}" * 20)
        own.write("fr.txt", "x")

        assert own.fill(lines="x" * 20_000).html == ""
        with pytest.raises(CannotFillError, match="filters work on more than 1048576"):
            own.fill(lines="x" * 50_000)

    def test_subject_that_would_be_too_long_is_refused(self, own: Own) -> None:
        own.write("template.toml", '[subjects]\nfr = "{{ lines }}"\n[variables]\nlines = "text"')
        own.write("fr.html", "x")
        own.write("fr.txt", "x")

        with pytest.raises(CannotFillError, match="more than 998 characters"):
            own.fill(lines="x" * 999)

    @pytest.mark.parametrize(
        ("name", "content", "fault"),
        [
            ("fr.txt", "{% for a in number %}{% endfor %}",
             "invoice/fr.txt: line 1: {% for %} cannot be used in a template"),
            ("fr.txt", "\n{{ number.upper() }}",
             "invoice/fr.txt: line 2: a call cannot be used in a template"),
            ("fr.txt", "{{ number.__class__ }}",
             "invoice/fr.txt: line 1: an attribute cannot be used in a template"),
            ("fr.txt", "{{ number['x'] }}",
             "invoice/fr.txt: line 1: an index cannot be used in a template"),
            ("fr.txt", "{% set a = number %}",
             "invoice/fr.txt: line 1: {% set %} cannot be used in a template"),
            ("fr.txt", "{% macro a() %}{% endmacro %}",
             "invoice/fr.txt: line 1: {% macro %} cannot be used in a template"),
            ("fr.txt", "{{ number ~ number }}",
             "invoice/fr.txt: line 1: ~ cannot be used in a template"),
            ("fr.txt", "{{ total * 1000 }}",
             "invoice/fr.txt: line 1: Mul cannot be used in a template"),
            ("fr.txt", "{{ number|center(1000000000) }}",
             "invoice/fr.txt: line 1: No filter named 'center'."),
            ("fr.html", "{{ number|safe }}", "invoice/fr.html: line 1: No filter named 'safe'."),
            ("fr.txt", '{% include "invoice/fr.txt" %}',
             "invoice/fr.txt: line 1: only shared files can be named: button.html, layout.html,"
             " link.html"),
            ("fr.txt", "{{ nmuber }}",
             "invoice/fr.txt: 'nmuber' is not declared in template.toml"),
            ("fr.txt", "{% if number %}",
             "invoice/fr.txt: line 1: Unexpected end of template. Jinja was looking for the"
             " following tags: 'elif' or 'else' or 'endif'. The innermost block that needs to be"
             " closed is 'if'."),
            ("fr.txt", "{{ number > 3 }}",
             "invoice/fr: cannot be filled in: TypeError: '>' not supported between instances of"
             " 'str' and 'int'"),
            ("fr.txt", "(" * 3 + "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
             "invoice/fr.txt: is nested too deeply"),
            ("fr.txt", "x" * (MAX_FILE_BYTES + 1),
             f"templates/invoice/fr.txt: has more than {MAX_FILE_BYTES} bytes"),
            ("fr.html", '<a href="{{ number }}">x</a>',
             "invoice/fr.html: line 1: only a variable of type url may stand in a link"),
            ("fr.html", '<a href="{% if paid %}x{% else %}{{ number }}{% endif %}">x</a>', ""),
            ("fr.html", '<a href="{% if paid %}{{ page }}{% else %}{{ number }}{% endif %}">x</a>',
             "invoice/fr.html: line 1: only a variable of type url may stand in a link"),
            ("fr.html", '{% with url = number, label = "x" %}{% include "button.html" %}'
             "{% endwith %}", "invoice/fr.html: line 1: `url` must be a variable of type url"),
            ("fr.html", "<p title={{ number }}>x</p>",
             "invoice/fr.html: line 1: the attribute's value must stand in quotes"),
            ("de.txt", "x", "templates/invoice/de.txt: belongs to no locale of template.toml"),
            ("template.toml", "[subjects", None),
            ("template.toml", "[variables]\nx = 'string'",
             "templates/invoice/template.toml: subjects: Field required"),
            ("template.toml", "[subjects]\nfr = 'x'\n[variables]\nx = 'strnig'",
             "templates/invoice/template.toml: variable x: 'strnig' is none of string, text, url,"
             " integer, number, boolean, time, with ? if optional"),
            ("template.toml", "[subjects]\nfr = 'x'\n[variables]\nlocale = 'string'",
             "templates/invoice/template.toml: 'locale' is no name for a variable, or has another"
             " meaning"),
            ("template.toml", "[subjects]\nde = 'x'", "templates/invoice/de.txt: is missing"),
            ("template.toml", "[subjects]\n'../x' = 'x'",
             "templates/invoice/template.toml: '../x' is no locale like en or pt-BR"),
        ],
        ids=short,
    )  # fmt: skip
    def test_what_is_wrong_is_named(
        self, own: Own, name: str, content: str, fault: str | None
    ) -> None:
        own.write(name, content)

        if fault == "":
            assert own.fill(**INVOICE).html
        elif fault is None:
            assert own.faults()[0].startswith("templates/invoice/template.toml: ")
        else:
            assert fault in own.faults()

    def test_all_that_is_wrong_is_named_at_once(self, own: Own) -> None:
        own.write("fr.txt", "{{ nmuber }}")
        (own.folder / "Empty").mkdir()
        (own.folder / "bare").mkdir()
        (own.folder / ".git").mkdir()

        assert own.faults() == [
            "templates/Empty: a template's name has lower case, digits and _",
            "templates/bare: has no template.toml",
            "invoice/fr.txt: 'nmuber' is not declared in template.toml",
        ]

    def test_the_sandbox_stands_behind_the_language(self) -> None:
        environment = Environment()

        with pytest.raises(Exception, match="unsafe"):
            environment.from_string("{{ ''.__class__.__mro__ }}").render(locale="en")
        with pytest.raises(Exception, match="undefined"):
            environment.from_string("{{ range(3) }}").render(locale="en")


@pytest.mark.parametrize("module", ["app.main", "app.worker"])
def test_a_process_refuses_to_start_with_a_faulty_template(module: str, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("app", "jobs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    own = tmp_path / "jobs" / "email" / "templates" / "invoice"
    own.mkdir()
    (own / "template.toml").write_text('[subjects]\nen = "{{ x }}"')
    (own / "en.txt").write_text("{% for x in range(9) %}{% endfor %}")
    (own / "en.html").write_text("x")

    ended = subprocess.run(
        [sys.executable, "-m", module], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"REDIS_URL": "redis://127.0.0.1:1", "PORT": "0"}, timeout=60,
    )  # fmt: skip

    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "settings: cannot start",
        "  invoice/en.txt: line 1: {% for %} cannot be used in a template",
        "  invoice/en.txt: line 1: a call cannot be used in a template",
        "  invoice/en.txt: 'range' is not declared in template.toml",
        "  invoice/template.toml (subject en): 'x' is not declared in template.toml",
    ]
