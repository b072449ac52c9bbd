"""Starlette and plain RQ: `enqueue` in a thread, since it blocks."""

from mail import REDIS_URL, Accepted, Email
from pydantic import ValidationError
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

queue = Queue("email", connection=Redis.from_url(REDIS_URL), serializer=JSONSerializer)


async def alive(_: Request) -> Response:
    return JSONResponse({})


async def submit(request: Request) -> Response:
    try:
        email = Email.model_validate_json(await request.body())
    except ValidationError as error:
        return JSONResponse(error.errors(include_url=False), 422)
    job = await run_in_threadpool(
        queue.enqueue, "peer.send", email.model_dump(by_alias=True), result_ttl=86400
    )
    return JSONResponse(Accepted(id=job.id).model_dump(), 202)


app = Starlette(routes=[Route("/healthz", alive), Route("/v1/emails", submit, methods=["POST"])])
