"""FastAPI and ARQ, as ARQ's documentation has it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arq import create_pool
from arq.connections import RedisSettings
from fastapi import FastAPI, Request
from mail import REDIS_URL, Accepted, Email


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.queue = await create_pool(RedisSettings.from_dsn(REDIS_URL))
    yield
    await app.state.queue.aclose()


app = FastAPI(lifespan=lifespan)


@app.get("/healthz")
async def alive() -> dict:
    return {}


@app.post("/v1/emails", status_code=202)
async def submit(email: Email, request: Request) -> Accepted:
    job = await request.app.state.queue.enqueue_job("send", email.model_dump(by_alias=True))
    return Accepted(id=job.job_id)
