"""What stands around the jobs: suppressions, health, problems, this description."""

from __future__ import annotations

from app.http import shapes
from app.http.descriptions.parts import NOT_CHANGED, QUEUE, TEXT, Description, Reply

_PAGE = {"text/html": TEXT}

SERVICE: dict[tuple[str, str], Description] = {
    ("GET", "/v1/suppressions"): Description(
        "listSuppressions", "suppressions", "List suppressed addresses",
        "Those that a mail server refused for good (5.1.1), the latest first: e-mails to them"
        " fail at once, as `suppressed`, until the time that stands there.",
        {200: Reply("A page.", shapes.SuppressionPage, headers=("Link",))},
        parameters=("address", "limit", "cursor"), problems=QUEUE,
    ),
    ("DELETE", "/v1/suppressions/{address}"): Description(
        "deleteSuppression", "suppressions", "Send to an address again",
        "The next e-mail to it goes out; a job that failed can then be retried.",
        {204: Reply("It is not suppressed any more.")},
        parameters=("suppressed",), problems=QUEUE,
    ),
    ("GET", "/healthz"): Description(
        "health", "service", "Is the process up?",
        "Asks nobody else: route traffic on this one.",
        {200: Reply("It is.", shapes.Alive)},
    ),
    ("GET", "/readyz"): Description(
        "readiness", "service", "Are jobs taken and run?",
        "Whether Redis answers and has room, workers live for every queue, nothing holds them, and"
        " the mail server can be reached, as the workers report it: for alerts and deploys.",
        {
            200: Reply("They are.", shapes.Readiness),
            503: Reply("They are not, for these reasons.", shapes.Readiness),
        },
    ),
    ("GET", "/problems"): Description(
        "listProblems", "problems", "List the problems",
        "Every kind of problem that this service answers with; a page for browsers.",
        {200: Reply("All of them.", shapes.ProblemKindList, besides=_PAGE)},
    ),
    ("GET", "/problems/{slug}"): Description(
        "explainProblem", "problems", "Explain a problem",
        "What the `type` of a problem points at; a page for browsers.",
        {200: Reply("What it means.", shapes.ProblemKind, besides=_PAGE)},
        parameters=("slug",),
    ),
    ("GET", "/openapi.json"): Description(
        "describe", "service", "This description",
        "OpenAPI 3.1, made from the models that check what comes in.",
        {
            200: Reply("The document.", headers=("ETag",),
                       besides={"application/json": {"type": "object"}}),
            304: NOT_CHANGED,
        },
        parameters=("if_none_match",),
    ),
    ("GET", "/"): Description(
        "index", "service", "What is here",
        "The addresses of the rest.",
        {200: Reply("The addresses.", shapes.Index)},
    ),
}  # fmt: skip
