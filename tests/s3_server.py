"""An S3 server in a process of its own, and what lies in its buckets."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from itertools import count
from xml.etree import ElementTree

import httpx2

from app.storage import S3Access
from tests.conftest import free_port, poll_until


class S3Server:
    """Moto's. It believes any signature: ours is held against Amazon's own elsewhere."""

    _numbers = count()

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.access = S3Access("an-id", "a-secret", endpoint=self.url)
        self.process: subprocess.Popen[bytes] | None = None
        # The first call of each service loads it: for long, where many tests begin at once.
        self._client = httpx2.Client(base_url=self.url, timeout=60)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ,
        )  # fmt: skip
        poll_until(self._answers, seconds=60, what="the S3 server answers")

    def stop(self) -> None:
        self._client.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def new_bucket(self) -> str:
        bucket = f"bucket-{next(self._numbers)}"
        self._client.put(f"/{bucket}").raise_for_status()
        return bucket

    def settings(self, bucket: str) -> dict[str, str]:
        """For a process that keeps its files there."""
        return {
            "STORAGE_URL": f"s3://{bucket}/some/prefix", "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access.key_id, "AWS_SECRET_ACCESS_KEY": self.access.secret,
        }  # fmt: skip

    def names(self, bucket: str) -> list[str]:
        """Of all objects, and of uploads in progress with a `?` behind them."""
        objects = self._texts(f"/{bucket}?list-type=2", "Contents")
        uploads = self._texts(f"/{bucket}?uploads", "Upload")
        return sorted([*objects, *(f"{name}?" for name in uploads)])

    def _texts(self, path: str, element: str) -> list[str]:
        page = ElementTree.fromstring(self._client.get(path).raise_for_status().content)
        return [each.findtext("{*}Key") or "" for each in page.findall(f"{{*}}{element}")]

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None
        with suppress(httpx2.TransportError):
            return self._client.get("/moto-api/data.json").is_success
        return False
