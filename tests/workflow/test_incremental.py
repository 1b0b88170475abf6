"""What a change costs, as the table in docs/architecture.md says: jobs in plans, frames in ledgers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import safetensors.torch

from spatialdino_core import versions
from tests.workflow.conftest import ROOT, Project

pytestmark = pytest.mark.workflow
TRACKING = {"track": 2, "report": 2, "summary": 1}
SEGMENTING = {"segment": 2} | TRACKING
FEATURES = {"features": 2} | SEGMENTING
REPAIR = {"repair": 1} | FEATURES
MODEL = {"pretrain": 1} | REPAIR
CROPS = {"shard": 1} | MODEL
STAGES = ("deskew", "features", "segment")


def jobs(project: Project, *arguments: str) -> dict[str, int]:
    """Jobs that a run would do, by rule."""
    return counted(project.run("--dry-run", "--quiet", "rules", *arguments).stdout)


def counted(plan: str) -> dict[str, int]:
    pairs = [line.split() for line in plan.splitlines()]
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].isdigit() and p[0] not in ("total", "all")}


@pytest.mark.parametrize(
    ("section", "change", "cost"),
    [
        ("quality", {"frames": 4}, {"preview": 2, "review": 1}),
        ("quality", {"min_focus": 0.01}, {"review": 1}),
        ("deskew", {"fill": 100}, {"deskew": 2} | CROPS),
        ("normalisation", {"tail_fraction": 0.0003}, CROPS),
        ("crops", {"crops_per_frame": 5}, CROPS),
        ("model", {"version": "2"}, CROPS),
        ("encoder", {"layer_scale": 0.5}, MODEL),
        ("pretrain", {"learning_rate": 0.0004}, MODEL),
        ("pretrain", {"processes": 2, "nodes": 2, "log_interval_steps": 3}, {}),
        ("repair", {"max_crops": 64}, REPAIR),
        ("features", {"overlap": 0.25}, FEATURES),
        ("features", {"use": "never"}, FEATURES),
        ("segment", {"mask_level": 0.4}, SEGMENTING),
        ("track", {"border_um": 0.4}, TRACKING),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_parameter_costs_its_stage_and_what_follows(
    planned: Project, section: str, change: dict[str, object], cost: dict[str, int]
) -> None:
    planned.set(section, **change)
    assert jobs(planned) == cost


@pytest.fixture(scope="module")
def shared_copy(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the finished project of which only settings are changed, and nothing is run."""
    folder = tmp_path_factory.mktemp("planned") / "project"
    shutil.copytree(finished.folder, folder, symlinks=True)
    return Project(folder)


@pytest.fixture
def planned(shared_copy: Project, finished: Project) -> Project:
    shutil.copy2(finished.folder / "settings.yaml", shared_copy.folder)
    return shared_copy


def test_another_model_file_costs_features_and_what_follows(copy: Project) -> None:
    path = copy.results / "model" / "repaired.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    other = {name: tensor * 1.01 if name.endswith("weight") else tensor for name, tensor in tensors.items()}
    safetensors.torch.save_file(other, path, metadata=header)
    assert jobs(copy) == FEATURES


def test_a_movie_that_is_removed_costs_the_pages_that_show_all(copy: Project) -> None:
    rows = copy.rows()
    copy.write_rows(rows[rows["movie"] != "single"])
    before = written(copy, "series") | written(copy, "single") | written(copy, "model")
    assert set(jobs(copy)) <= {"review", "summary"}
    copy.run()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "single" not in (copy.results / "summary.tsv").read_text()


def written(project: Project, folder: str) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in (project.results / folder).rglob("*") if p.is_file()}


def test_a_decision_costs_the_movie_that_it_is_about(copy: Project) -> None:
    decisions = copy.results / "qc" / "decisions.tsv"
    accepted = decisions.read_text()
    decisions.write_text(accepted.replace("single\tauto", "single\treject"))
    assert jobs(copy) == {"review": 1, "summary": 1}
    decisions.write_text(accepted.replace("single\tauto", "single\taccept"))
    assert jobs(copy) == {"review": 1, "summary": 1}


@pytest.fixture
def software(tmp_path: Path) -> Path:
    """A checkout of its own, which a test may edit."""
    folder = tmp_path / "software"
    for name in ("rules", "envs", "profiles", "spatialdino_core", "workflow_scripts", "weights"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


def append(path: str, text: str) -> Callable[[Path], None]:
    def edit(software: Path) -> None:
        with (software / path).open("a") as file:
            file.write(text)

    return edit


def touch_all(software: Path) -> None:
    for path in software.rglob("*"):
        os.utime(path)


def raise_version(stage: str) -> Callable[[Path], None]:
    def edit(software: Path) -> None:
        path = software / "spatialdino_core" / "versions.py"
        now, text = versions.STAGES[stage], path.read_text()
        raised = re.sub(rf'("{re.escape(now.module)}",\s*){now.version}\b', rf"\g<1>{now.version + 1}", text)
        assert raised != text
        path.write_text(raised)

    return edit


CODE = append("spatialdino_core/segment/detect/blobs.py", "\n\nNEW = 1\n")


@pytest.mark.parametrize(
    ("edit", "cost", "says"),
    [
        (touch_all, {}, ""),
        (append("rules/deskew.smk", "\n\n# A comment.\n"), {}, ""),
        (append("spatialdino_core/segment/detect/blobs.py", "\n\n# A comment.\n"), {}, ""),
        (CODE, {}, "The code of segment is not what made the results"),
        (raise_version("track"), TRACKING, "track: results of 2 movie(s) are computed again"),
        (raise_version("segment"), SEGMENTING, "segment: results of 2"),
        (raise_version("features"), FEATURES, "features: results of 2"),
        (raise_version("deskew"), {"deskew": 2} | FEATURES, "deskew: results of 2"),
        (raise_version("repair"), REPAIR, "it is made anew"),
        (raise_version("pretrain"), MODEL, "it is made anew"),
        (raise_version("preview"), {"preview": 2, "review": 1}, ""),
        (raise_version("summary"), {"summary": 1}, ""),
    ],
)
def test_a_version_costs_its_stage_and_code_nothing(
    planned: Project, software: Path, edit: Callable[[Path], None], cost: dict[str, int], says: str
) -> None:
    edit(software)
    plan = planned_by(software, planned)
    assert counted(plan) == cost
    assert says in plan
    assert any(word in plan for word in ("is not what made", "again", "made anew")) == bool(says)


def planned_by(software: Path, project: Project) -> str:
    """What another checkout would do, and says."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(software / "Snakefile")]
    command += ["--profile", str(software / "profiles" / "default"), "--configfile", "settings.yaml"]
    done = subprocess.run(
        [*command, "--dry-run", "--quiet", "rules"],
        cwd=project.folder,
        env=os.environ | {"PYTHONPATH": str(software)},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_code_counts_on_request(planned: Project, software: Path) -> None:
    """Whoever switches computes all once; what differs is said."""
    settings = planned.folder / "settings.yaml"
    settings.write_text(settings.read_text() + "rerun_on: code\n")
    plan = planned_by(software, planned)
    assert counted(plan) == {"register": 2, "preview": 2, "review": 1}
    assert "again" not in plan
    CODE(software)
    assert "segment: results of 2 movie(s) are computed again" in planned_by(software, planned)
