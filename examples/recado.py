"""A client of Recado in a page of standard library: what any language needs to do."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from typing import Any

TRIES = 3


class RefusedError(Exception):
    """The service refuses this request; asking again will not help."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status}: {problem.get('detail', '')}")
        self.status = status
        self.problem = problem


class UnavailableError(Exception):
    """The service cannot be reached, or cannot take jobs now."""


class Recado:
    """Blocking, for endpoints that run in a thread. `key` needs the scope `submit`."""

    def __init__(self, url: str, key: str | None = None, timeout_seconds: float = 10.0) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._timeout_seconds = timeout_seconds

    def submit(
        self, path: str, body: dict[str, Any], idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """POST, and again when no answer came: the key makes that safe. Raises both errors."""
        key = idempotency_key if idempotency_key is not None else uuid.uuid4().hex
        return self._post(path, json.dumps(body).encode(), "application/json", key)

    def submit_file(
        self, path: str, fields: dict[str, str], filename: str, content: bytes
    ) -> dict[str, Any]:
        """The same with a file, as a form; `filename` has no quote in it. Raises both errors."""
        boundary = uuid.uuid4().hex
        parts = [f'name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
        parts.append(f'name="file"; filename="{filename}"\r\n\r\n'.encode() + content + b"\r\n")
        head = f"--{boundary}\r\nContent-Disposition: form-data; ".encode()
        form = b"".join(head + part for part in parts) + f"--{boundary}--\r\n".encode()
        return self._post(path, form, f"multipart/form-data; boundary={boundary}", uuid.uuid4().hex)

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as it stands. Raises both errors."""
        return self._call("GET", f"/v1/jobs/{job_id}", None, {})

    def _post(self, path: str, body: bytes, content_type: str, key: str) -> dict[str, Any]:
        headers = {"Content-Type": content_type, "Idempotency-Key": key}
        for _ in range(TRIES - 1):
            try:
                return self._call("POST", path, body, headers)
            except UnavailableError:
                continue
        return self._call("POST", path, body, headers)

    def _call(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> dict[str, Any]:
        if self._key is not None:
            headers = headers | {"Authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(  # noqa: S310 - the address is our own setting
            self._url + path,
            method=method,
            data=body,
            headers=headers,
        )
        try:
            with urllib.request.urlopen(  # noqa: S310 - as above
                request, timeout=self._timeout_seconds
            ) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            with error:
                if error.code in {409, 429, 500, 503}:
                    raise UnavailableError(f"{error.code} for {method} {path}") from None
                raise RefusedError(error.code, json.load(error)) from None
        except (OSError, ValueError) as error:
            raise UnavailableError(str(error)) from error
