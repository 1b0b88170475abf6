"""The documents: links lead somewhere, and lines are short enough to be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 110
FOLDERS = ("docs", "benchmarks", "weights", "recipes")
PAGES = [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
ADDRESS = re.compile(r"\]\([^)]*\)|https?://\S+")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines outside tables and code; addresses do not count towards their length."""
    code = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("```"):
            code = not code
        elif not code and not line.startswith(("|", "    ")):
            yield number, ADDRESS.sub("", line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_wrapped(page: Path) -> None:
    assert [(number, line) for number, line in prose(page.read_text()) if len(line) > LONGEST] == []


def test_links_between_documents_lead_somewhere() -> None:
    links = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not target.startswith("mailto:")
    ]
    assert len(links) > 20
    assert [link for link in links if not (link[0].parent / link[1]).exists()] == []
