"""The house rules that a machine can check: who imports whom, and who stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spatialdino_core
from spatialdino_core import versions
from spatialdino_core.movies import provenance

CORE = Path(spatialdino_core.__file__).parent
ROOT = CORE.parent
ROOMS = [
    "kernels",
    "movies",
    "geometry",
    "plant",
    "quality",
    "crops",
    "encoder",
    "pretrain",
    "sinder",
    "features",
]
ROOMS += ["segment", "track", "audit", "report"]
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


@pytest.mark.parametrize("wing", ["detect", "measure"])
def test_a_wing_of_segmentation_is_not_led_by_what_comes_after_it(wing: str) -> None:
    """Believing rests on both others, whose statistics it calibrates; detection on neither."""
    after = {"detect": ("measure", "believe"), "measure": ("believe",)}[wing]
    for path in (CORE / "segment" / wing).glob("*.py"):
        for other in (*after, "frame", "stage"):
            assert not any(f"segment.{other}" in module for module in imported(path)), path


LEARNING = {"encoder", "pretrain", "sinder"}
UPPER = {"crops", "features", "segment", "track", "report"} | LEARNING
PLOTS = {"matplotlib", "sklearn"}
HEAVY = {"torch", "triton", "monai", "numba"} | PLOTS
STAGES: dict[str, tuple[set[str], set[str]]] = {
    "register": ({"kernels", "geometry", "quality"} | UPPER, {"scipy", "pandas"} | HEAVY),
    "preview": ({"kernels"} | UPPER, {"pandas"} | HEAVY),
    "review": ({"kernels", "geometry"} | UPPER, {"zarr", "scipy", "pandas"} | HEAVY),
    "deskew": ({"quality"} | UPPER, {"monai", "pandas"} | PLOTS),
    "shard": (UPPER - {"crops"}, {"monai", "numba", "matplotlib"}),
    "pretrain": ({"sinder", "features", "segment", "track", "report"}, {"monai", "numba"}),
    "repair": ({"segment", "track", "report"}, {"monai", "numba", "pandas"} | PLOTS),
    "features": ({"pretrain", "sinder", "segment", "track", "report"}, set()),
    "segment": ({"crops", "track", "report"} | LEARNING, {"skimage", "torch", "triton", "monai"} | PLOTS),
    "track": (UPPER - {"track"}, {"zarr", "torch", "monai"} | PLOTS),
    "report": (UPPER - {"report"}, {"torch", "monai", "numba"}),
    "summary": ({"sinder", "features", "segment", "track"}, {"torch", "monai", "numba", "sklearn"}),
}
"""Stage, rooms that its code does not depend on, and packages that starting it does not load: what a change
costs (``provenance.code_hash``), and what every job pays before it reads a voxel."""


def loaded_by(*modules: str) -> set[str]:
    """Names of all modules that a fresh interpreter has loaded after importing these."""
    code = "".join(f"import {name}\n" for name in modules) + "import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_depends_on(stage: str) -> None:
    apart, _ = STAGES[stage]
    ours = {name.split(".")[1] for name in provenance._closure(versions.STAGES[stage].module) if "." in name}
    assert not ours & (apart | APART)


@pytest.mark.parametrize("stage", STAGES)
def test_starting_a_stage_loads_only_what_it_needs(stage: str) -> None:
    _, unneeded = STAGES[stage]
    assert not loaded_by(f"workflow_scripts.{stage}") & unneeded


def test_every_stage_is_in_the_table() -> None:
    """A stage is a rule file with a script of its name."""
    rules = {path.stem for path in (ROOT / "rules").glob("*.smk")}
    assert set(STAGES) == rules & {path.stem for path in (ROOT / "workflow_scripts").glob("*.py")}


def test_summary_knows_of_the_training_only_what_it_shows() -> None:
    ours = provenance._closure(versions.STAGES["summary"].module)
    assert {name for name in ours if name.split(".")[1:2] == ["pretrain"]} == {
        "spatialdino_core.pretrain",
        "spatialdino_core.pretrain.alarms",
    }
    assert "spatialdino_core.encoder.vit" not in ours


def test_planning_a_run_imports_nothing_heavy() -> None:
    """What the Snakefile and its rules import; every job plans anew."""
    files = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    found = {
        name
        for path in files
        for name in re.findall(
            r"^\s*from ((?:spatialdino_core|workflow_scripts)[.\w]*) import", path.read_text(), re.M
        )
    }
    assert {"spatialdino_core.config", "spatialdino_core.movies.sheet"} <= found
    assert not loaded_by(*found) & ({"zarr", "scipy", "pandas", "skimage"} | HEAVY)


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
