"""What each operation is for, in words, and what it answers: one entry for each line of
`routes.py`, which a test compares. `openapi.py` makes the document of both.

What can be read off the route is not said here: scopes, the problems that come with them,
how large a body may be, and that unknown query parameters are refused.
"""

from app.http.descriptions.files import FILES
from app.http.descriptions.jobs import JOBS
from app.http.descriptions.looking import LOOKING
from app.http.descriptions.operating import OPERATING
from app.http.descriptions.parts import Description
from app.http.descriptions.schedules import SCHEDULES
from app.http.descriptions.service import SERVICE
from app.http.descriptions.templates import TEMPLATES

TAGS = {
    "jobs": "Hand work in, and watch it.",
    "batches": "Up to 1,000 jobs in one request.",
    "files": "What jobs read, and what they leave behind.",
    "templates": "E-mails that are written once and filled in often.",
    "failures": "What failed, by cause: find it, and run it again.",
    "schedules": "Work that is done again and again.",
    "queues": "How they stand, and who works; hold them, let them go on, empty them.",
    "suppressions": "Addresses that were refused for good.",
    "service": "Is it up, is it ready, and what is here.",
    "problems": "What the `type` of a problem means.",
}
DESCRIPTIONS: dict[tuple[str, str], Description] = (
    JOBS | FILES | TEMPLATES | LOOKING | OPERATING | SCHEDULES | SERVICE
)
# Pages for people, which a program has no use for.
UNDESCRIBED = {"/docs", "/docs/{name}"}
