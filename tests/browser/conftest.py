"""A headless Chromium, and a project with three movies that have been reviewed but not analysed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.devtools import Browser, find_chromium
from tests.workflow.conftest import Project, make_project

SHEET = "results/qc/contact_sheet.html"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser; without one these tests are skipped."""
    binary = find_chromium()
    if binary is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    return binary


@pytest.fixture
def browser(chromium: str, tmp_path: Path) -> Iterator[Browser]:
    """A browser that remembers nothing."""
    with Browser(chromium, tmp_path / "browser") as started:
        yield started


@pytest.fixture(scope="session")
def reviewed(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
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
