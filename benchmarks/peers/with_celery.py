"""FastAPI and Celery: `.delay` in a plain `def` endpoint, since it blocks.

JSON and no result backend, the cheapest that Celery does.
"""

from celery import Celery
from fastapi import FastAPI
from mail import REDIS_URL, Accepted, Email

queue = Celery("peer", broker=REDIS_URL)
queue.conf.update(task_ignore_result=True, task_serializer="json", broker_pool_limit=64)
app = FastAPI()


@queue.task(name="email.send")
def send(email: dict) -> None:
    """Never runs: the benchmark has no workers."""


@app.get("/healthz")
def alive() -> dict:
    return {}


@app.post("/v1/emails", status_code=202)
def submit(email: Email) -> Accepted:
    return Accepted(id=send.delay(email.model_dump(by_alias=True)).id)
