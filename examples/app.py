"""The application: forgotten passwords, sign-up, slow work done twice, and a report by e-mail.

Endpoints are plain functions, which Starlette runs in threads.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from examples.jobs import ProcessParams, work
from examples.recado import Recado, RefusedError, UnavailableError
from examples.tokens import BadTokenError, check_token, make_token, user_of
from examples.users import MIN_PASSWORD, TakenError, User, Users

PRODUCT = "Example Shop"
TOKEN_MINUTES = 30
PAGE = Path(__file__).parent / "page.html"
# Who is written to when nobody is: the token opens nothing.
NOBODY = User("", "")

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Configuration:
    """`url` is this application's own address, for the links in e-mails."""

    url: str
    recado: Recado
    admin: str = "admin@example.com"
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)


class ResetRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=320)


class SignUp(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=320)
    name: str = Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]*$")


class NewPassword(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=500)
    password: str = Field(min_length=MIN_PASSWORD, max_length=200)


class Table(BaseModel):
    """CSV, and who wants to know what is in it."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=320)
    table: str = Field(min_length=1, max_length=1_000_000)


class Shop:
    """The endpoints."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._recado = configuration.recado
        self.users = Users()

    def request_reset(self, asked: ResetRequest) -> Response:
        """POST /user/pwd_reset_token/: the same answer, in the same time, known or not.

        Both ways do the same: one user, one token, one e-mail handed to the service, which
        checks and stores it. For an address that nobody has it is a dry run: a worker builds
        the e-mail and sends nothing, when the answer is long gone.
        """
        user = self.users.find(asked.email)
        mail = {
            "to": asked.email,
            "template": "password_reset",
            "variables": {
                "product": PRODUCT,
                "reset_url": self._link(user if user is not None else NOBODY),
                "expires_minutes": TOKEN_MINUTES,
            },
            "options": {
                "dry_run": user is None,
                "priority": "high",
                # Its link would be dead.
                "expires_at": _rfc3339(time.time() + TOKEN_MINUTES * 60),
                "retention": 3600,
            },
        }
        self._recado.submit("/v1/emails", mail)
        return JSONResponse(
            {"detail": "If the address has an account, an e-mail with a link is on its way."}, 202
        )

    def sign_up(self, asked: SignUp) -> Response:
        """POST /user/: three jobs, all of which are accepted, or none, and then no user."""
        user = self.users.add(asked.email, asked.name)
        try:
            batch = self._recado.submit(
                "/v1/batches", {"jobs": self._sign_up_jobs(user)}, f"sign-up-{user.id}"
            )
        except (RefusedError, UnavailableError):
            self.users.remove(user)
            raise
        return JSONResponse({"id": user.id, "batch_id": batch["id"]}, 201)

    def _sign_up_jobs(self, user: User) -> list[dict[str, Any]]:
        welcome = {
            "to": user.email,
            "template": "welcome",
            "variables": {"product": PRODUCT, "name": user.name, "action_url": self._link(user)},
        }
        note = {
            "to": self._configuration.admin,
            "template": "notification",
            "variables": {
                "title": f"{user.name} has signed up",
                "body": f"{user.name} <{user.email}> has a new account at {PRODUCT}.",
            },
        }
        entry = {"message": "user_signed_up", "fields": {"user_id": user.id}}
        return [
            {"type": "email.send", "params": welcome, "options": {"priority": "high"}},
            {"type": "email.send", "params": note},
            {"type": "log.write", "params": entry},
        ]

    def set_password(self, asked: NewPassword) -> Response:
        """POST /user/password/: with the token from either e-mail, once."""
        user = self.users.get(user_of(asked.token))
        if user is None:
            raise BadTokenError
        check_token(self._configuration.secret, asked.token, user.password_digest, time.time())
        user.set_password(asked.password)
        return Response(status_code=204)

    def process_now(self, asked: ProcessParams) -> Response:
        """POST /sync-process/: the client waits for the work, and so does this thread."""
        return JSONResponse(work(asked, lambda _: None))

    def process_later(self, asked: ProcessParams) -> Response:
        """POST /async-process/: the client has its answer at once, and the job to look at."""
        job = {"type": "example.process", "params": asked.model_dump()}
        job_id = self._recado.submit("/v1/jobs", job)["id"]
        location = f"/async-process/{job_id}"
        return JSONResponse({"id": job_id, "href": location}, 202, {"Location": location})

    def process_and_email(self, asked: Table) -> Response:
        """POST /process-and-email/: a table goes in, the answer is there at once, and what is in
        the table comes by e-mail, whether or not anybody waits for it."""
        options = {"notify": {"email": asked.email}, "retention": 3600}
        fields = {"operation": "profile", "options": json.dumps(options)}
        content = asked.table.encode()
        job_id = self._recado.submit_file("/v1/data", fields, "table.csv", content)["id"]
        location = f"/async-process/{job_id}"
        return JSONResponse({"id": job_id, "href": location}, 202, {"Location": location})

    async def show_process(self, request: Request) -> Response:
        """GET /async-process/{id}: how far it is."""
        job = await run_in_threadpool(self._recado.job, request.path_params["id"])
        return JSONResponse({name: job[name] for name in ("status", "progress", "result")})

    def _link(self, user: User) -> str:
        token = make_token(
            self._configuration.secret,
            user.id,
            user.password_digest,
            int(time.time()) + TOKEN_MINUTES * 60,
        )
        return f"{self._configuration.url}/#token={token}"


def create_app(configuration: Configuration) -> Starlette:
    shop = Shop(configuration)
    return Starlette(
        routes=[
            Route("/", _page),
            Route("/healthz", _alive),
            _taking("/user/pwd_reset_token/", ResetRequest, shop.request_reset),
            _taking("/user/", SignUp, shop.sign_up),
            _taking("/user/password/", NewPassword, shop.set_password),
            _taking("/sync-process/", ProcessParams, shop.process_now),
            _taking("/async-process/", ProcessParams, shop.process_later),
            _taking("/process-and-email/", Table, shop.process_and_email),
            Route("/async-process/{id:str}", shop.show_process),
        ],
        exception_handlers={
            ValidationError: _invalid,
            RefusedError: _refused,
            UnavailableError: _unavailable,
            TakenError: _taken,
            BadTokenError: _bad_token,
        },
    )


def _taking(path: str, model: type[M], answer: Callable[[M], Response]) -> Route:
    """POST with a body of JSON that fits the model; the answer is made in a thread."""

    async def endpoint(request: Request) -> Response:
        asked = model.model_validate_json(await request.body())
        return await run_in_threadpool(answer, asked)

    return Route(path, endpoint, methods=["POST"])


async def _page(_: Request) -> Response:
    return HTMLResponse(PAGE.read_text(encoding="utf-8"))


async def _alive(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


Handler = Callable[[Request, Exception], Awaitable[Response]]


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    faults = {".".join(map(str, each["loc"])): each["msg"] for each in error.errors()}
    return JSONResponse({"detail": "This does not fit.", "errors": faults}, 422)


async def _refused(_: Request, error: Exception) -> Response:
    """An address that is none, say; what else the service says is between us and it."""
    assert isinstance(error, RefusedError)
    status = error.status if error.status in {404, 422} else 502
    return JSONResponse({"detail": "This cannot be done."}, status)


async def _unavailable(_: Request, __: Exception) -> Response:
    return JSONResponse({"detail": "Try again in a moment."}, 503, {"Retry-After": "2"})


async def _taken(_: Request, __: Exception) -> Response:
    return JSONResponse({"detail": "There is an account already."}, 409)


async def _bad_token(_: Request, __: Exception) -> Response:
    return JSONResponse({"detail": "The link is not valid any more."}, 400)


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
