"""Headless Chromium by the WebDriver protocol (W3C) and the standard library; `available` says whether it is there."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64decode
from contextlib import suppress
from pathlib import Path

DRIVER = shutil.which("chromedriver")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
available = bool(DRIVER and BROWSER)
ESCAPE, CONTROL, RELEASE = "\ue00c", "\ue009", "\ue000"
KEY = "element-6066-11e4-a52e-4f735466cecf"
SOFTWARE = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
NO_WEBGL = ("--disable-gpu", "--disable-software-rasterizer", "--disable-3d-apis")


class Browser:
    """A window; `gl` False takes WebGL away. Use as a context manager."""

    def __init__(self, size: tuple[int, int] = (1400, 900), gl: bool = True, arguments: tuple[str, ...] = ()):
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.downloads = Path(self._home.name, "downloads")
        self.downloads.mkdir()
        self._driver = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            self._base = f"http://127.0.0.1:{self._port()}/session"
            flags = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio"]
            flags += [f"--window-size={size[0]},{size[1]}", f"--user-data-dir={self._home.name}/profile"]
            flags += [
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                *(SOFTWARE if gl else NO_WEBGL),
                *arguments,
            ]
            options = {"binary": BROWSER, "args": flags, "prefs": {"download.default_directory": str(self.downloads)}}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
            session = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
            self._base += f"/{session['sessionId']}"
        except BaseException:
            self.close()
            raise

    def _port(self) -> int:
        for line in self._driver.stdout:
            if "started successfully on port" in line:
                return int(line.rstrip().rstrip(".").rpartition(" ")[2])
        raise RuntimeError("chromedriver does not start")

    def _ask(self, method: str, path: str, body: object = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"][:500]) from error

    def open(self, address: str) -> None:
        self._ask("POST", "/url", {"url": address})

    def run(self, script: str, *arguments):
        """The value of a script's body; a promise is waited for."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, script: str, *arguments, seconds: float = 600):
        """The first true value of an expression."""
        end = time.monotonic() + seconds
        while not (value := self.run(f"return {script}", *arguments)):
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{script} is still {value!r}; the page says {self.run('return document.body.innerText')[:600]}"
                )
            time.sleep(0.2)
        return value

    def _element(self, selector: str) -> str:
        return self._ask("POST", "/element", {"using": "css selector", "value": selector})[KEY]

    def click(self, selector: str) -> None:
        self._ask("POST", f"/element/{self._element(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type as a person does, keys and all."""
        self._ask("POST", f"/element/{self._element(selector)}/value", {"text": text})

    def look_as(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Be a screen of this size, a phone below 600 pixels, that asks for a dark page or a light one."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        wanted = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
        for command, parameters in (("setDeviceMetricsOverride", size), ("setEmulatedMedia", wanted)):
            self._ask("POST", "/goog/cdp/execute", {"cmd": f"Emulation.{command}", "params": parameters})

    def screenshot(self, path: Path) -> None:
        # The driver gives up after 10 s, in which slow computers without a graphics card may still be drawing.
        for attempt in range(12):
            try:
                Path(path).write_bytes(b64decode(self._ask("GET", "/screenshot")))
                return
            except RuntimeError:
                if attempt == 11:
                    raise

    def complaints(self) -> list[str]:
        """What the console said since the last call, above information."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("WARNING", "SEVERE")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call."""
        entries = self._ask("POST", "/se/log", {"type": "performance"})
        events = (json.loads(entry["message"])["message"] for entry in entries)
        sent = (event["params"] for event in events if event["method"] == "Network.requestWillBeSent")
        return [params["request"]["url"] for params in sent]

    def close(self) -> None:
        with suppress(Exception):
            self._ask("DELETE", "")
        self._driver.terminate()
        self._driver.wait(20)
        self._driver.stdout.close()
        self._home.cleanup()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_) -> None:
        self.close()
