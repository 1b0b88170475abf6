"""The house rules that a machine can check: who imports whom, and who stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import spatialdino_core

CORE = Path(spatialdino_core.__file__).parent
ROOMS = ["kernels", "movies", "geometry", "quality", "crops", "encoder", "pretrain", "sinder", "features"]
ROOMS += ["segment", "track", "report"]
APART = {"simulate", "score"}


def imported(path: Path) -> set[str]:
    """Names of our modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("spatialdino_core.")}


def room_of(module: str) -> str | None:
    part = module.split(".")[1]
    return part if (CORE / part).is_dir() else None


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda p: str(p.relative_to(CORE)))
def test_a_room_imports_only_from_rooms_below(path: Path) -> None:
    own = path.relative_to(CORE).parts[0]
    if own not in ROOMS and own not in APART:
        return
    for module in imported(path):
        other = room_of(module)
        if other is None:
            assert not module.startswith("spatialdino_core.config"), "config stands above the rooms"
        elif own in APART:
            assert other in {own, "movies"}
        else:
            assert other not in APART
            assert ROOMS.index(other) <= ROOMS.index(own)


def test_planning_a_run_imports_nothing_heavy() -> None:
    light = "spatialdino_core.config spatialdino_core.movies.sheet spatialdino_core.movies.provenance"
    light += " spatialdino_core.quality.decisions"
    code = "; ".join(f"import {name}" for name in light.split()) + "; import sys; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "zarr", "monai", "scipy", "pandas", "matplotlib", "sklearn"} & set(modules)


def test_the_core_does_not_know_snakemake() -> None:
    for path in CORE.rglob("*.py"):
        assert not any(
            "snakemake" in line
            for line in path.read_text().splitlines()
            if line.startswith(("import", "from"))
        )


def test_torchvision_is_absent() -> None:
    """No build of it fits the pinned torch; a package that drags it in breaks at import."""
    with pytest.raises(ModuleNotFoundError):
        __import__("torchvision")
