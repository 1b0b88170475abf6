"""Whether golden values are compared, or written where a version was raised."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="write values of stages with a new version")


@pytest.fixture
def write_golden(request: pytest.FixtureRequest) -> bool:
    """Whether values are written where a version was raised."""
    return bool(request.config.getoption("--write-golden", default=False))
