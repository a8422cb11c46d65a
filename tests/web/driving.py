"""Working the page as a person does: a server process, and what is seen and done in a browser."""

from __future__ import annotations

import base64
import importlib.resources
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

#: Seconds until something must have happened; generous, since machines are shared.
PATIENCE = 120.0


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until a condition holds and return its value."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"after {patience:.0f} s still not: {what}")


@dataclass
class Server:
    """A server process of the command ``epidural-dx serve``."""

    port: int
    log: Path
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-c", "from epidural_dx.cli import main; main()"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "serve", "--port", str(self.port), *self.options],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        until(self.is_ready, f"server ready: {self.log.read_text()[-2000:]}", 180)

    def is_ready(self) -> bool:
        """Whether the model is loaded."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.url}readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
            self.process = None


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Page:
    """The page as a person sees and works it."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    # ---------------------------------------------------------- looking

    def all(self, selector: str) -> list[WebElement]:
        """Find all elements."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """Find one element, once it is there."""
        found: WebElement = until(
            lambda: next(iter(self.all(selector)), None), f"{selector} on the page"
        )
        return found

    def shown(self, selector: str) -> bool:
        """Whether something is to be seen."""
        return any(element.is_displayed() for element in self.all(selector))

    def text(self, selector: str) -> str:
        """Give the text of an element as it is shown."""
        return self.one(selector).text.replace("\u202f", " ")

    def texts(self, selector: str) -> list[str]:
        """Give the texts of all elements."""
        return [element.text.replace("\u202f", " ") for element in self.all(selector)]

    def js(self, code: str, *given: Any) -> Any:
        """Run a script."""
        return self.driver.execute_script(code, *given)

    def focused(self) -> str:
        """Name the element that has the focus: its id, else its tag and text."""
        return str(
            self.js(
                "const e = document.activeElement; return e.id || e.tagName + ' ' + e.outerText"
            )
        )

    def causes(self) -> dict[str, str]:
        """Read the causes with their probabilities from the page, in order."""
        return {
            row.get_attribute("data-cause") or "": row.find_element(
                By.CLASS_NAME, "cause-p"
            ).text.replace("\u202f", " ")
            for row in self.all(".cause")
        }

    def entered(self) -> dict[str, Any]:
        """Read the state that the page keeps for a reload."""
        kept = self.js("return sessionStorage.getItem('epidural-dx session')")
        return decoded(kept)

    def errors(self) -> list[str]:
        """Give what the console complains about, except refused questions."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in ("SEVERE", "WARNING") and "422" not in entry["message"]
        ]

    # ---------------------------------------------------------- working

    def open(self, fragment: str = "") -> Page:
        """Open the page and wait for its answer."""
        self.driver.get("about:blank")
        self.driver.get(self.url + fragment)
        return self.settle()

    def settle(self) -> Page:
        """Wait until every part answers to what is entered."""
        # A change is sent after a short pause.
        time.sleep(0.3)
        parts = ("answer", "tests-body", "why-body")
        until(
            lambda: all(
                self.js(f"return document.getElementById('{part}').ariaBusy") == "false"
                for part in parts
            ),
            "an answer to everything",
        )
        return self

    def click(self, selector: str, nth: int = 0) -> Page:
        """Bring an element into view and click it."""

        def clicked() -> bool:
            found = self.all(selector)
            if len(found) <= nth:
                return False
            try:
                self.js("arguments[0].scrollIntoView({block: 'center'})", found[nth])
                found[nth].click()
            except StaleElementReferenceException:  # drawn anew in between: click the new one
                return False
            return True

        until(clicked, f"{selector} number {nth}")
        return self

    def keys(self, *keys: str) -> Page:
        """Press keys where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)
        return self

    def search(self, *lines: str) -> Page:
        """Enter findings by name."""
        field = self.one("#search")
        for line in lines:
            field.send_keys(line, Keys.ENTER)
        return self

    def choose(self, menu: str, value: str) -> Page:
        """Choose from a menu."""
        Select(self.one(f"#{menu}")).select_by_value(value)
        return self

    def patient(self, name: str, stage: str | None = None) -> Page:
        """Show a published patient, up to a stage."""
        self.choose("case", name).settle()
        if stage is not None:
            self.click(f'[data-role="stage-{stage}"]').settle()
        return self

    def size(self, width: int, height: int, *, phone: bool = False) -> Page:
        """Set the size of the window."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone},
        )
        return self

    def media(self, **features: str) -> Page:
        """Emulate a medium (``media``) and preferences such as ``prefers_color_scheme``."""
        medium = features.pop("media", "")
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {
                "media": medium,
                "features": [
                    {"name": name.replace("_", "-"), "value": value}
                    for name, value in features.items()
                ],
            },
        )
        return self

    def axe(self) -> list[str]:
        """Let axe-core look for barriers; returns one line for each."""
        code = importlib.resources.files("axe_playwright_python") / "axe.min.js"
        if not self.js("return 'axe' in window"):
            self.js(code.read_text(encoding="utf-8"))
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        found = self.driver.execute_async_script(
            "const [tags, done] = arguments; axe.run(document, {runOnly: tags}).then(done)", tags
        )
        assert found["passes"], "axe-core has looked at nothing"
        return [
            f"{one['impact']}: {one['id']}: {node['html'][:160]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    def keep_picture(self, name: str) -> None:
        """Keep a screenshot where the environment asks for it, for people to look at."""
        folder = os.environ.get("EPIDURAL_DX_PICTURES")
        if folder:
            picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {})
            path = Path(folder) / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(picture["data"]))


def decoded(fragment: str) -> dict[str, Any]:
    """Decode the fragment of a link."""
    content = fragment.split("#1.")[1]
    padded = content + "=" * (-len(content) % 4)
    state: dict[str, Any] = json.loads(base64.urlsafe_b64decode(padded))
    return state
