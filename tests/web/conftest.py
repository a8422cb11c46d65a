"""A real server and a real browser for the tests of the page."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the page needs the extra 'server'")
pytest.importorskip("selenium", reason="driving the page needs selenium")

from driving import PATIENCE, Page, Server, free_port  # noqa: E402
from selenium import webdriver  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the page."""
    running = Server(free_port(), tmp_path_factory.mktemp("server") / "log")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """Give a server that a test may stop and start; it is not running yet."""
    mine = Server(free_port(), tmp_path / "log")
    yield mine
    mine.stop()


@pytest.fixture(scope="session")
def driver() -> Iterator[webdriver.Chrome]:
    """Start a headless Chromium of this machine."""
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    control = shutil.which("chromedriver")
    if binary is None or control is None:
        pytest.skip("no Chromium with its driver is installed; .ci/browser installs them")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(prefix="epidural-dx-chromium-") as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        started = webdriver.Chrome(options=options, service=webdriver.ChromeService(control))
        started.set_script_timeout(PATIENCE)
        yield started
        started.quit()


@pytest.fixture
def page(driver: webdriver.Chrome, server: Server) -> Iterator[Page]:
    """Open the page anew: nothing entered, nothing remembered, a desktop in daylight."""
    mine = Page(driver, server.url)
    forget(driver, server)
    yield mine.size(1440, 900).media(prefers_color_scheme="light").open()


def forget(driver: webdriver.Chrome, server: Server) -> None:
    """Make the browser forget what it keeps of a page."""
    driver.get(f"{server.url}icon.svg")
    driver.execute_script("sessionStorage.clear(); localStorage.clear()")
    driver.get_log("browser")
    driver.get_log("performance")
