"""A real browser for tests: headless Chromium, driven over its debugging pipe.

The pipe needs nothing but the standard library: JSON messages, each ended by a zero byte
(https://chromedevtools.github.io/devtools-protocol/).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from tests.conftest import poll_until

ANSWER_SECONDS = 30.0
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
# Chromium reads descriptor 3 and writes 4.
LAUNCHER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for descriptor, end in enumerate(ends, 3):
    os.dup2(end, descriptor)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


# Two frames on, when every colour has arrived at what it changes to; what never ends is not waited
# for.
_AT_REST = """
new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))).then(() =>
  Promise.all(document.getAnimations()
    .filter(each => isFinite(each.effect.getComputedTiming().endTime))
    .map(each => each.finished.catch(() => null))))
"""


class Chromium:
    """One page at a time. `complaints` are its uncaught errors and what its policy stopped."""

    def __init__(self, program: str, profile: Path) -> None:
        read_end, self._out = os.pipe()
        self._in, write_end = os.pipe()
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                LAUNCHER,
                str(read_end),
                str(write_end),
                program,
                *FLAGS,
                f"--user-data-dir={profile}",
            ],
            pass_fds=(read_end, write_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_end)
        os.close(write_end)
        self._received = b""
        self._numbers = count(1)
        self._session: str | None = None
        self._context: str | None = None
        self.complaints: list[str] = []

    def begin(self) -> None:
        """A new page, which knows nothing of those before it; they are closed."""
        before, self._session = self._context, None
        if before is not None:
            self.command("Target.disposeBrowserContext", browserContextId=before)
        self._context = self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command(
            "Target.createTarget", url="about:blank", browserContextId=self._context
        )["targetId"]
        attached = self.command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")
        self.complaints = []

    def command(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def open(self, url: str) -> None:
        """Go there, and wait until all that the page names is loaded."""
        self.command("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, script: str) -> Any:
        """What the expression is in the page, as JSON; None while the page is changing."""
        answer = self.command("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    def wait_for(self, script: str) -> None:
        poll_until(lambda: self.value(f"!!({script})") is True, what=script)

    def click(self, selector: str) -> None:
        # Before its scripts have run, a page has buttons that nothing listens to.
        self.wait_for(
            f"document.readyState === 'complete' && document.querySelector({json.dumps(selector)})"
        )
        self.value(f"document.querySelector({json.dumps(selector)}).click()")

    def type_in(self, selector: str, text: str) -> None:
        """As a person would, in place of what is there: React takes no value that nobody typed."""
        self.wait_for(f"document.querySelector({json.dumps(selector)})")
        self.value(f"document.querySelector({json.dumps(selector)}).focus()")
        self.value("document.activeElement.select?.()")
        self.command("Input.insertText", text=text)

    def press(self, name: str) -> None:
        text = {"text": name} if len(name) == 1 else {}
        self.command("Input.dispatchKeyEvent", type="keyDown", key=name, **text)
        self.command("Input.dispatchKeyEvent", type="keyUp", key=name)

    def wear(self, scheme: str, width: int, height: int = 900) -> None:
        """`light` or `dark`, on a screen so wide; below 600 pixels it is a phone's."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)

    def violations(self) -> list[Any]:
        """What axe-core finds wrong with the page: which rule, and where."""
        found = find_spec("axe_core_python")
        assert found is not None and found.origin is not None, "requirements-dev.txt has it"
        script = (Path(found.origin).parent / "axe.min.js").read_text()
        self.command("Runtime.evaluate", expression=script)
        answer = self.command(
            "Runtime.evaluate",
            expression=f"{_AT_REST}.then(() => axe.run()).then(r => r.violations.map(v =>"
            " [v.id, v.nodes.map(n => n.target.join(' ') + ': ' + n.failureSummary)]))",
            awaitPromise=True,
            returnByValue=True,
        )
        shown: list[Any] = answer["result"]["value"]
        return shown

    def text(self) -> str:
        return str(self.value("document.body.innerText"))

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._in], [], [], ANSWER_SECONDS)
            piece = os.read(self._in, 1 << 20) if ready else b""
            assert piece, "Chromium does not answer"
            self._received += piece
        message, _, self._received = self._received.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("sessionId") != self._session:
            return
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(str(params["entry"]["text"]))
