"""What jobs ask for follows from the register's record, and grows from attempt to attempt."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.workflow.conftest import ROOT
from workflow_scripts.one_of_several_nodes import rendezvous

MOVIE = SimpleNamespace(movie="cell")


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the rules see: the helpers, with one movie in the sheet, on a cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    columns = "movie channel path scan angle_deg step_um pixel_um interval_s skew_axis scan_sign train"
    values = "cell 488nm raw/*.tif stage 31.5 0.4 0.104 2.0 x +1 no"
    Path("movies.tsv").write_text("\n".join("\t".join(line.split()) for line in (columns, values)) + "\n")
    return load()


def load(**changes: Any) -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config |= {"movies": "movies.tsv", "results": "results"}
    for section, values in changes.items():
        config[section] = config.get(section, {}) | values if isinstance(values, dict) else values
    workflow = SimpleNamespace(
        basedir=str(ROOT),
        is_main_process=True,
        resource_settings=SimpleNamespace(nodes=None),
        global_resources={"mem_mb": SimpleNamespace(value=100_000)},
        configfiles=[],
    )
    names: dict[str, Any] = {"workflow": workflow, "config": config}
    for name in ("sheet", "resources", "model", "parts"):
        exec(compile((ROOT / "rules" / f"{name}.smk").read_text(), name, "exec"), names)
    return names


def register(frames: int, planes: int, channels: int = 1) -> None:
    record = {
        "frames": frames,
        "shape_zyx": [planes, 500, 600],
        "channels": ["a"] * channels,
        "dtype": "uint16",
        "acquisition": {
            **{"scan": "stage", "angle_deg": 30.0, "step_um": 0.5, "pixel_um": 0.1, "interval_s": 2.0},
            **{"skew_axis": "x", "scan_sign": 1},
        },
    }
    Path("results/cell").mkdir(parents=True, exist_ok=True)
    Path("results/cell/movie.json").write_text(json.dumps(record))


def test_the_shape_is_that_of_the_deskewed_frames(scope: dict[str, Any]) -> None:
    """100 planes 0.25 µm apart travel 43 µm along the tilted axis: 99 · 0.5 cos 30° / 0.1 = 428.7 pixels."""
    register(frames=40, planes=100, channels=2)
    shape = scope["shape_of"]("cell")
    assert (shape.frames, shape.channels, shape.raw) == (40, 2, (100, 500, 600))
    assert shape.deskewed == (100, 500, 600 + 429)
    assert shape.filled == pytest.approx(429 / 1029, abs=0.002)


def test_memory_and_time_grow_with_the_movie_and_the_attempt(scope: dict[str, Any]) -> None:
    register(frames=40, planes=100)
    time = scope["minutes_for"](90)
    voxels = 100 * 500 * 1029
    assert time(MOVIE, attempt=1) == round(20 + 3 * 40 * voxels / 1e9 * 90 / 60)
    assert time(MOVIE, attempt=2) == pytest.approx(2 * time(MOVIE, attempt=1), abs=1)
    for stage in ("preview", "deskew", "shard", "features", "segment", "track", "report"):
        memory = scope["memory_mb"](stage)
        first = memory(MOVIE, attempt=1)
        assert first > 1.2 * scope["needs"]().memory_mb(stage, scope["shape_of"]("cell"))
        assert memory(MOVIE, attempt=2) == 2 * first
    register(frames=40, planes=200)
    assert memory(MOVIE, attempt=1) >= first


def test_no_job_asks_for_less_than_a_gigabyte(scope: dict[str, Any]) -> None:
    register(frames=1, planes=2)
    assert scope["memory_mb"]("register")(MOVIE, attempt=1) == 1000


def test_a_movie_is_split_when_it_is_registered_and_longer_than_a_part(scope: dict[str, Any]) -> None:
    split = load(frames_per_job=20)
    assert split["parts"]("cell") == []
    register(frames=45, planes=100)
    split = load(frames_per_job=20)
    assert split["parts"]("cell") == ["0-0", "0-20", "20-40", "40-45"]
    assert split["part_records"]("labels")(MOVIE)[1] == "results/cell/labels.0-20.json"
    assert split["opened"]("labels")(SimpleNamespace(movie="cell", frames="20-40")) == (
        "results/cell/labels.0-0.json"
    )
    assert split["opened"]("labels")(SimpleNamespace(movie="cell", frames="0-0")) == []
    assert load(frames_per_job=45)["parts"]("cell") == []
    assert load()["parts"]("cell") == []


def test_time_of_a_part_is_that_of_its_frames(scope: dict[str, Any]) -> None:
    register(frames=45, planes=100)
    part = SimpleNamespace(movie="cell", frames="0-20")
    voxels = 20 * 100 * 500 * 1029
    assert scope["minutes_for"](900)(part, attempt=1) == round(20 + 3 * voxels / 1e9 * 900 / 60)


def test_a_guess_is_not_remembered(scope: dict[str, Any]) -> None:
    """A plan that is made before the register has run must not decide what jobs ask for after it."""
    assert scope["shape_of"]("cell").frames == 100
    register(frames=4, planes=10)
    assert scope["shape_of"]("cell").frames == 4


def test_no_gpu_is_asked_for_where_all_is_computed_on_the_cpu(scope: dict[str, Any]) -> None:
    assert scope["gpus"]() == 1
    assert load(device="cpu")["gpus"](4) == 0


def test_training_on_one_node(scope: dict[str, Any]) -> None:
    asked = load(pretrain={"processes": 4})
    assert asked["training_resources"]() == {"gpu": 4, "nodes": 1, "slurm_extra": "--signal=USR1@300"}
    assert asked["launcher"]() == "torchrun --standalone --nproc-per-node=4"
    assert scope["launcher"]() == "python"


def test_training_on_two_nodes(scope: dict[str, Any], tmp_path: Path) -> None:
    asked = load(pretrain={"processes": 4, "nodes": 2})
    resources = asked["training_resources"]()
    assert (resources["gpu"], resources["nodes"], resources["tasks"], resources["mpi"]) == (8, 2, 2, "srun")
    assert resources["slurm_extra"] == "--signal=USR1@300 --gpus-per-node=4"
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    assert asked["launcher"]().startswith("srun --nodes=2 --ntasks=2 ")
    assert asked["launcher"]().endswith("--nnodes=2 --nproc-per-node=4")


def test_several_nodes_without_slurm_are_refused(
    scope: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = load(pretrain={"nodes": 2})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Exception, match="no srun here; expected 1 without Slurm"):
        asked["launcher"]()


def test_nodes_meet_at_the_first_one_at_a_port_of_their_job() -> None:
    slurm = {"SLURM_JOB_ID": "1007", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7", "SLURM_NODEID": "0"}
    first, second = rendezvous(slurm), rendezvous(slurm | {"SLURM_NODEID": "1"})
    assert "--rdzv-endpoint=10.0.0.7:21007" in first
    assert first[:-1] == second[:-1]
    assert (first[-1], second[-1]) == ("--rdzv-conf=is_host=1", "--rdzv-conf=is_host=0")
