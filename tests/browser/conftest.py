"""A headless Chromium, and a project with three movies that have been reviewed but not analysed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.workflow.conftest import Project, make_project

SHEET = "results/qc/contact_sheet.html"
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1400,1000",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing leaves this machine
]
# Without a first page of its own it shows a new tab, which asks for much.
START = {"session.restore_on_startup": 4, "session.startup_urls": ["about:blank"]}
PATIENCE_S = 60.0
# Selenium must fetch no driver and report nothing, whatever happens.
os.environ |= {"SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}


class Browser(webdriver.Chrome):
    """Chromium with a new profile; ends with its ``with`` statement.

    Parameters
    ----------
    binary, driver
        Paths of Chromium and of its ChromeDriver.
    folder
        Where the profile and the downloads go.
    """

    def __init__(self, binary: str, driver: str, folder: Path) -> None:
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
            options.add_argument(flag)
        preferences = START | {"download.default_directory": str(self.downloads)}
        options.add_experimental_option("prefs", preferences)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        super().__init__(options, Service(driver))

    def open(self, path: Path) -> None:
        """Load a page from disk and wait until it is complete."""
        self.get(path.resolve().as_uri())

    def run(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        return self.execute_script(f"return {expression}")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        WebDriverWait(self, PATIENCE_S, 0.02).until(lambda _: self.run(condition), condition)

    def find(self, selector: str) -> WebElement:
        return self.find_element(By.CSS_SELECTOR, selector)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is by then."""
        ActionChains(self).send_keys(*keys).perform()

    def downloaded(self, name: str) -> Path:
        """Wait for a download to be complete."""
        path = self.downloads / name
        complete = WebDriverWait(self, PATIENCE_S, 0.02)
        complete.until(lambda _: path.exists() and not any(self.downloads.glob("*.crdownload")), name)
        return path

    def complaints(self) -> list[str]:
        """Errors that the page has raised, and what it has asked for from anywhere but the disk."""
        found = [entry["message"] for entry in self.get_log("browser") if entry["level"] == "SEVERE"]
        for entry in self.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                url = event["params"]["request"]["url"]
                found += [] if url.startswith(("file:", "data:", "about:", "blob:")) else [url]
        return found


@pytest.fixture(scope="session")
def chromium() -> tuple[str, str]:
    """Paths of the browser and its driver; without them these tests are skipped."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        missing = "chromium" if binary is None else "chromedriver"
        pytest.skip(f"no {missing} here (Debian: apt-get install chromium chromium-driver)")
    return binary, driver


@pytest.fixture
def browser(chromium: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    """A browser that remembers nothing."""
    monkeypatch.setenv("no_proxy", "localhost")  # where the driver listens
    with Browser(*chromium, tmp_path / "browser") as started:
        yield started


@pytest.fixture(scope="session")
def reviewed(chromium: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Movies ``series``, ``single`` and ``third``; the real review stage has made their contact sheet."""
    project = make_project(tmp_path_factory.mktemp("reviewed") / "project")
    shutil.copytree(project.folder / "raw" / "series", project.folder / "raw" / "third")
    rows = project.rows()
    changes = {"movie": "third", "path": "raw/third/*.tif", "train": "no"}
    rows.loc[len(rows)] = rows.iloc[0].to_dict() | changes
    project.write_rows(rows)
    project.run("--", SHEET)
    return project


@pytest.fixture
def project(reviewed: Project, tmp_path: Path) -> Project:
    """A private copy of the reviewed project."""
    shutil.copytree(reviewed.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")
