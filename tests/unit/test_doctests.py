"""The examples in the docstrings of the core give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import spatialdino_core

CORE = Path(spatialdino_core.__file__).parent
# Only modules with examples are imported, so that optional packages may be absent.
MODULES = sorted(path for path in CORE.rglob("*.py") if ">>> " in path.read_text())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_examples_in_docstrings_are_true(path: Path) -> None:
    name = ".".join(path.relative_to(CORE.parent).with_suffix("").parts)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0, "the examples are where doctest does not look, e.g. in a compiled function"
    assert found.failed == 0


def test_most_rooms_have_examples() -> None:
    rooms = {path.relative_to(CORE).parts[0] for path in MODULES}
    assert len(MODULES) >= 15
    assert {"kernels", "movies", "geometry", "crops", "pretrain", "features", "segment", "track"} <= rooms
