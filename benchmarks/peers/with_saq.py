"""FastAPI and SAQ, as SAQ's documentation has it."""

from fastapi import FastAPI
from mail import REDIS_URL, Accepted, Email
from saq import Queue

queue = Queue.from_url(REDIS_URL)
app = FastAPI()


@app.get("/healthz")
async def alive() -> dict:
    return {}


@app.post("/v1/emails", status_code=202)
async def submit(email: Email) -> Accepted:
    job = await queue.enqueue("send", email=email.model_dump(by_alias=True))
    return Accepted(id=job.key)
