"""Results are current by content: not by times, names of folders, or what Snakemake remembers."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow import faults
from tests.workflow.conftest import FRAMES, Project
from tests.workflow.test_incremental import FEATURES, STAGES, TRACKING, counted, jobs

pytestmark = pytest.mark.workflow
YEAR = 3e7  # s


def copied(project: Project, folder: Path) -> Project:
    """A copy that keeps no times but those of the raw files, and nothing that Snakemake remembers."""
    shutil.copytree(
        project.folder, folder, copy_function=shutil.copy, ignore=shutil.ignore_patterns(".snakemake")
    )
    shutil.copytree(project.folder / "raw", folder / "raw", dirs_exist_ok=True)
    return Project(folder)


@pytest.fixture(scope="module")
def moved(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copied(finished, tmp_path_factory.mktemp("moved") / "project")


def date(project: Project, when: Callable[[], float]) -> None:
    for path in project.results.rglob("*"):
        if path.is_file():
            os.utime(path, (when(), when()))


@pytest.mark.parametrize("dates", ["copied", "past", "future", "shuffled"])
def test_times_tell_nothing(moved: Project, dates: str) -> None:
    now, drawn = time.time(), random.Random(0)
    date_of = {"past": lambda: now - YEAR, "future": lambda: now + YEAR}
    if dates != "copied":
        date(moved, date_of.get(dates, lambda: now + drawn.uniform(-YEAR, YEAR)))
    assert jobs(moved) == {}


@pytest.mark.parametrize("spelling", ["./elsewhere/", "link", "{folder}/elsewhere"])
def test_names_of_folders_tell_nothing(moved: Project, spelling: str) -> None:
    if moved.results.exists():
        moved.results.rename(moved.folder / "elsewhere")
        (moved.folder / "link").symlink_to("elsewhere")
    results = spelling.format(folder=moved.folder)
    sheet = f"{moved.folder}/../{moved.folder.name}/movies.tsv"
    assert jobs(moved, "--config", f"results={results}", f"movies={sheet}") == {}


def test_raw_files_elsewhere_cost_the_register_and_no_training(copy: Project) -> None:
    (copy.folder / "disk").mkdir()
    (copy.folder / "raw").rename(copy.folder / "disk" / "raw")
    rows = copy.rows()
    rows["path"] = [f"{copy.folder}/disk/{path}" for path in rows["path"]]
    rows["interval_s"] = "4.0"
    copy.write_rows(rows)
    plan = copy.run("--dry-run", "--quiet", "rules").stdout
    assert counted(plan) == {"register": 2, "preview": 2, "review": 1}
    assert "anew" not in plan


def test_new_settings_count_for_results_of_another_place_and_date(finished: Project, tmp_path: Path) -> None:
    project = copied(finished, tmp_path / "project")
    date(project, lambda: time.time() + YEAR)
    before = {movie: (project.results / movie / "tracks.csv").read_bytes() for movie in ("series", "single")}
    project.set("features", bright_percentile=80.0)
    assert jobs(project) == FEATURES
    project.run()
    for movie, tracks in before.items():
        assert [project.computed(stage, movie) for stage in STAGES] == [FRAMES, 2 * FRAMES, 2 * FRAMES]
        assert (project.results / movie / "tracks.csv").read_bytes() != tracks
    assert jobs(project) == {}


def test_harmed_records_are_made_again(finished: Project, copy: Project) -> None:
    movie = copy.results / "series"
    before = tables(copy)
    (movie / "deskewed.json").unlink()
    (movie / "labels.json").write_bytes(b"")
    # As if the wrong folder had been copied.
    shutil.copy(copy.results / "single" / "tracks.csv", movie)
    shutil.rmtree(copy.results / "single" / "labels.ome.zarr")
    plan = copy.run("--dry-run", "--quiet", "rules").stdout
    assert "lack a record" not in plan
    shutil.rmtree(movie / ".made")
    assert "Results of 1 movie(s) lack a record" in copy.run("--dry-run", "--quiet", "rules").stdout
    shutil.copytree(finished.results / "series" / ".made", movie / ".made")
    assert jobs(copy) == {"deskew": 1, "features": 1, "segment": 2} | TRACKING
    copy.run()
    assert tables(copy) == before
    assert copy.computed("segment", "single") == 2 * FRAMES
    assert [copy.computed(stage, "series") for stage in ("deskew", "features", "segment")] == [FRAMES] * 3
    assert jobs(copy) == {}


def shards(project: Project) -> list[Path]:
    """A file of each store of a movie, each of another frame."""
    names = ("deskewed.ome.zarr", "features.zarr", "foreground.ome.zarr", "labels.ome.zarr")
    stores = [project.results / "series" / name for name in names]
    return [store / "0" / "c" / str(frame) / "0" / "0" / "0" / "0" for frame, store in enumerate(stores)]


def test_files_of_stores_that_are_lost_emptied_or_of_another_movie(copy: Project) -> None:
    before = tables(copy)
    lost, emptied, foreign, gone = shards(copy)
    lost.unlink()
    emptied.write_bytes(b"")
    shutil.copy(str(foreign).replace("/series/", "/single/"), foreign)
    gone.unlink()
    copy.set("segment", mask_level=0.45)
    refused = copy.run(check=False)
    assert refused.returncode != 0
    assert "verify=true" in refused.stdout
    copy.set("segment", mask_level=0.5)
    copy.run("--config", "verify=true")
    # A frame for each file, in the stage that wrote it; the others are as they were.
    assert [copy.computed(stage, "series") - FRAMES for stage in ("deskew", "features")] == [1, 2]
    assert tables(copy) == before
    assert jobs(copy) == {}


def tables(project: Project) -> list[bytes]:
    return [(project.results / movie / "tracks.csv").read_bytes() for movie in ("series", "single")]


def test_what_is_lost_below_current_results_is_missed(copy: Project) -> None:
    """Snakemake has listed the folder of the results, for what is current, before the plan finds this."""
    faults.remove_results(copy, "pretrain")
    assert {"pretrain", "repair"} <= set(jobs(copy, "--forcerun", "pretrain"))


def test_other_training_movies_train_anew_whatever_shards_are_there(copy: Project) -> None:
    rows = copy.rows()
    rows["train"] = "yes"
    copy.write_rows(rows)
    copy.run("--until", "shard")
    date(copy, lambda: time.time() - YEAR)
    assert "pretrain" in jobs(copy)
    rows["train"] = ["no" if movie == "series" else "yes" for movie in rows["movie"]]
    copy.write_rows(rows)
    assert "pretrain" in jobs(copy)


@pytest.mark.parametrize("name", ["repaired.safetensors", "repair.json"])
def test_an_emptied_model_is_made_again(copy: Project, name: str) -> None:
    (copy.results / "model" / name).write_bytes(b"")
    planned = jobs(copy)
    assert "repair" in planned
    assert "pretrain" not in planned
