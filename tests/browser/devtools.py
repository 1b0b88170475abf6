"""A headless Chromium for tests, spoken to in its DevTools protocol over a pair of pipes.

No port is opened and no library is needed. See https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
# Chromium reads commands from file descriptor 3 and writes answers to 4.
LAUNCHER = """
import os, sys
commands, answers = map(int, sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
VIRTUAL_KEYS = {
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Enter": 13,
    "Escape": 27,
    "Home": 36,
    "End": 35,
}
PATIENCE_S = 60.0


def find_chromium() -> str | None:
    """Path of the browser, or ``None``."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser process with one page; used in a ``with`` statement.

    Parameters
    ----------
    binary
        Path of Chromium.
    folder
        Where its profile and its downloads go.
    """

    def __init__(self, binary: str, folder: Path) -> None:
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True, exist_ok=True)
        self.events: list[dict[str, Any]] = []
        self._buffer = b""
        self._number = 0
        commands_out, self._commands = os.pipe()
        self._answers, answers_in = os.pipe()
        # Away from 3 and 4, so that neither overwrites the other.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands_out, answers_in)]
        arguments = [*QUIET, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, *map(str, ends), binary, *arguments],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (commands_out, answers_in, *ends):
            os.close(end)

    def __enter__(self) -> Browser:
        page = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        session = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        self.session: str = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.on_page(f"{domain}.enable")
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        self.size(1400, 1000)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come first are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self._buffer:
            if not select.select([self._answers], [], [], max(end - time.monotonic(), 0))[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._answers, 2**20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        content: dict[str, Any] = json.loads(message)
        return content

    def on_page(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to the page."""
        return self.send(method, self.session, **parameters)

    def open(self, path: Path) -> None:
        """Load a page from disk and wait until it is complete."""
        self.on_page("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete' && location.href.startsWith('file:')")

    def run(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        answer = self.on_page(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + PATIENCE_S
        while not self.run(condition):
            if time.monotonic() > end:
                raise TimeoutError(condition)
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, as a hand would."""
        for key in keys:
            code = VIRTUAL_KEYS.get(key) or ord(key.upper())
            typed = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
            down = {"type": "keyDown" if typed else "rawKeyDown", "key": key, "windowsVirtualKeyCode": code}
            self.on_page("Input.dispatchKeyEvent", **down, **typed)
            self.on_page("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Enter text where the focus is."""
        self.on_page("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Click on the middle of an element."""
        element = f"document.querySelector({json.dumps(selector)})"
        box = self.run(
            f"{element}.scrollIntoView({{block: 'center'}}), {element}.getBoundingClientRect().toJSON()"
        )
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        for kind in ("mousePressed", "mouseReleased"):
            self.on_page("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a list."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.run(
            f"{element}.value = {json.dumps(value)}, {element}.dispatchEvent(new Event('change')), undefined"
        )

    def size(self, width: int, height: int) -> None:
        """Size of the window, pixels."""
        self.on_page(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def screenshot(self, path: Path) -> None:
        """Save what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.on_page("Page.captureScreenshot")["data"]))

    def downloaded(self, name: str) -> Path:
        """Wait for a download to be complete."""
        path = self.downloads / name
        end = time.monotonic() + PATIENCE_S
        while not path.exists() or any(self.downloads.glob("*.crdownload")):
            if time.monotonic() > end:
                raise TimeoutError(f"no download {name}")
            time.sleep(0.02)
        return path

    def complaints(self) -> list[str]:
        """Errors that the page has raised, and what it has asked for from anywhere but the disk."""
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(parameters["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(str(parameters["entry"]))
            elif event["method"] == "Network.requestWillBeSent":
                url = parameters["request"]["url"]
                found += [] if url.startswith(("file:", "data:", "about:", "blob:")) else [url]
        return found
