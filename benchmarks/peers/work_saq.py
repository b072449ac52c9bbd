"""A SAQ worker, and its client. E-mails go out over a pool of aiosmtplib connections."""

import asyncio
import os
from email.message import EmailMessage
from email.policy import SMTP as WIRE

from aiosmtplib import SMTP
from marks import REDIS_URL, async_client, email, mark
from saq import Queue

CONNECTIONS = 64

queue = Queue.from_url(REDIS_URL)


async def noop(_: dict, *, number: int) -> None:
    mark(number)


async def connect(context: dict) -> None:
    port = int(os.environ.get("BENCHMARK_SMTP_PORT", "0"))
    context["idle"] = asyncio.LifoQueue()
    if port:
        servers = [SMTP(hostname="127.0.0.1", port=port) for _ in range(CONNECTIONS)]
        await asyncio.gather(*(each.connect() for each in servers))
        for each in servers:
            context["idle"].put_nowait(each)


async def send(context: dict, *, mail: dict) -> dict:
    message = EmailMessage()
    message["From"] = mail["from"]
    message["To"] = ", ".join(mail["to"])
    message["Subject"] = mail["subject"]
    message.set_content(mail["text"])
    server = await context["idle"].get()
    try:
        _, reply = await server.sendmail(mail["from"], mail["to"], message.as_bytes(policy=WIRE))
    finally:
        context["idle"].put_nowait(server)
    return {"reply": reply}


settings = {"queue": queue, "functions": [noop, send], "concurrency": 64, "startup": connect}


async def submit(kind: str, number: int) -> None:
    if kind == "noop":
        await queue.enqueue("noop", number=number)
    else:
        await queue.enqueue("send", mail=email(number))


def main() -> None:
    asyncio.run(async_client(submit))
