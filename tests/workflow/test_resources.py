"""What jobs ask for follows from the register's record, and grows from attempt to attempt."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from snakemake.exceptions import WorkflowError

from spatialdino_core import budget
from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.needs import GPU_MB, Candidate, check_disk, movie_shape, too_large
from tests.workflow.conftest import ROOT
from workflow_scripts.free_memory import available_memory_mb
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


def test_a_model_that_does_not_fit_is_refused_before_it_is_begun(
    scope: dict[str, Any],
) -> None:
    """Not where nothing of it is to be made, and not on a cluster."""
    sheet = Path("movies.tsv").read_text()
    Path("movies.tsv").write_text(sheet.replace("\tno\n", "\tyes\n"))
    training = load(model={"source": "train"}, device="cpu")
    weights = SimpleNamespace(weights="results/model/pretrained.safetensors")
    shards = SimpleNamespace(index="results/shards/{movie}/index.json")
    training["rules"] = SimpleNamespace(
        pretrain=SimpleNamespace(output=weights), shard=SimpleNamespace(output=shards)
    )
    training["RECIPES"] |= {"pretrain": [], "shard": []}
    with pytest.raises(WorkflowError, match="pretrain takes 7"):
        training["check_memory_of_model"]()
    for stands in ({"TRAINING": []}, {"ON_CLUSTER": True}):
        before = {name: training[name] for name in stands}
        training.update(stands)
        training["check_memory_of_model"]()
        training.update(before)
    training["PLAN"] = SimpleNamespace(is_current=lambda outputs, recipe: "model" in outputs[0])
    training["check_memory_of_model"]()


def test_a_guess_is_not_remembered(scope: dict[str, Any]) -> None:
    """A plan that is made before the register has run must not decide what jobs ask for after it."""
    assert scope["shape_of"]("cell").frames == 100
    register(frames=4, planes=10)
    assert scope["shape_of"]("cell").frames == 4


def test_no_gpu_is_asked_for_where_all_is_computed_on_the_cpu(scope: dict[str, Any]) -> None:
    assert scope["gpus"]() == 1
    assert load(device="cpu")["gpus"](4) == 0


@pytest.mark.parametrize(
    ("device", "found", "cluster", "asked"),
    [("auto", True, False, 0), ("auto", False, False, 0), ("auto", True, True, 0), ("cuda", True, True, 1)],
)
def test_segmentation_asks_for_a_gpu_where_settings_insist_and_for_memory_where_it_finds_one(
    scope: dict[str, Any], device: str, found: bool, cluster: bool, asked: int
) -> None:
    register(frames=4, planes=10)
    without = load(device="cpu")
    assert without["gpus_of_segment"]() == 0
    names = load(device=device)
    names.update(NOW=SimpleNamespace(gpu=found), ON_CLUSTER=cluster)
    assert names["gpus_of_segment"]() == asked
    memory = [each["needs"]().memory_mb("segment", each["shape_of"]("cell")) for each in (names, without)]
    used = asked or (found and not cluster)
    assert memory[0] - memory[1] == pytest.approx(GPU_MB * used)


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


def candidate(config: dict[str, Any], roi_um: object = None) -> Candidate:
    """A movie of 400 planes of 1600 × 800 pixels, 5 frames."""
    register(frames=5, planes=400)
    record = json.loads(Path("results/cell/movie.json").read_text()) | {"shape_zyx": [400, 1600, 800]}
    row = config["SHEET"]["cell"][0].model_copy(update={"roi_um": roi_um})
    return Candidate(movie="cell", rows=[row], record=record)


@pytest.mark.parametrize(
    ("room_mb", "settings", "remedy"),
    [
        (100_000, {"deskew": {"isotropic": True}}, ("deskew", "isotropic", False)),
        (150_000, {"features": {"processes": 3}}, ("features", "processes", 1)),
        (60_000, {"segment": {"calibration_frames": 5}}, ("segment", "temporal_reach_frames", 0)),
    ],
)
def test_what_a_refusal_recommends_helps(
    scope: dict[str, Any], room_mb: int, settings: dict[str, Any], remedy: tuple[str, str, Any]
) -> None:
    """The setting that it names, and a region of interest as large as it says."""
    stages = [remedy[0]] if remedy[0] != "deskew" else ["deskew", "segment"]
    asked = load(**settings)
    found = too_large(candidate(asked), asked["needs"](), room_mb, stages)
    assert found is not None
    section, key, value = remedy
    assert f"{section}.{key}: {str(value).lower()}" in found.remedy
    changed = load(**settings | {section: settings.get(section, {}) | {key: value}})
    assert too_large(candidate(changed), changed["needs"](), room_mb, stages) is None
    share = int(found.remedy.partition("at most ")[2].partition("%")[0])
    whole = ((-1e3, 1e3), (0.0, 160.0 * share / 100 - 0.1), (-1e3, 1e3))
    assert too_large(candidate(asked, whole), asked["needs"](), room_mb, stages) is None
    over = ((-1e3, 1e3), (0.0, 160.0 * (share + 2) / 100), (-1e3, 1e3))
    assert too_large(candidate(asked, over), asked["needs"](), room_mb, stages) is not None


def test_free_disk_space_is_looked_at_before_a_movie_is_deskewed(tmp_path: Path) -> None:
    register_in = {"frames": 10, "channels": ["a", "b"], "dtype": "uint16", "shape_zyx": [20, 300, 400]}
    upright = {"scan": "none", "angle_deg": None, "step_um": 0.1, "pixel_um": 0.1, "interval_s": 1.0}
    shape = movie_shape(
        register_in | {"acquisition": upright | {"skew_axis": None, "scan_sign": 1}}, DeskewParameters()
    )
    # A level of half the size along each axis has an eighth of the voxels; along two, a quarter.
    voxels = 2 * 10 * 2 * 20 * 300 * 400
    needed = 1.1 * budget.deskewed_bytes(shape)
    assert 1.1 * voxels * 8 / 7 < needed < 1.15 * voxels * 4 / 3
    check_disk("cell", tmp_path / "cell", shape, tiff=False, free_bytes=int(needed) + 1)
    with pytest.raises(BadInputError, match=r"found 0\.1 GB free .* expected 0\.142 GB for 10 frames"):
        check_disk("cell", tmp_path / "cell", shape, tiff=False, free_bytes=10**8)
    # What an attempt before has written is not written again.
    for frame in range(3):
        (tmp_path / "cell" / "deskewed.ome.zarr" / "0" / "c" / str(frame)).mkdir(parents=True)
    check_disk("cell", tmp_path / "cell", shape, tiff=False, free_bytes=10**8)


def test_memory_is_that_of_the_group_around_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control groups of both versions, nested; files that the kernel keeps in memory can be dropped."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=64 * 10**9))
    own = tmp_path / "own"
    own.write_text("0::/slurm/job\n")
    job = tmp_path / "slurm" / "job"
    job.mkdir(parents=True)

    def write(folder: Path, **values: object) -> None:
        for name, value in values.items():
            (folder / name.replace("__", ".")).write_text(f"{value}\n")

    write(job, memory__max="max", memory__current=10**9, memory__stat="inactive_file 5")
    assert available_memory_mb(tmp_path, own) == 64_000
    write(job.parent, memory__max=8 * 10**9, memory__current=3 * 10**9, memory__stat=f"inactive_file {10**9}")
    assert available_memory_mb(tmp_path, own) == 6_000
    own.write_text("4:memory:/outside/of/the/container\n1:cpu:/\n")
    (tmp_path / "memory").mkdir()
    old = {"memory__limit_in_bytes": 4 * 10**9, "memory__usage_in_bytes": 10**9}
    write(tmp_path / "memory", **old, memory__stat="total_inactive_file 0")
    assert available_memory_mb(tmp_path, own) == 3_000
    own.unlink()
    assert available_memory_mb(tmp_path, own) == 64_000
