"""Faults end in the tracks of an undisturbed run, and no finished frame is computed again.

SPATIALDINO_KILLS=20 tries more moments, SPATIALDINO_FULL_DISKS=all every stage that writes.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.workflow import faults
from tests.workflow.conftest import FRAMES, Project

pytestmark = pytest.mark.workflow
KILLS = int(os.environ.get("SPATIALDINO_KILLS", "3"))
DISKS = {"deskew": 30_000, "segment": 8_000, "track": 4_000}
if os.environ.get("SPATIALDINO_FULL_DISKS") == "all":
    DISKS |= {"shard": 30_000, "features": 8_000, "repair": 8_000, "report": 8_000, "summary": 8_000}


def can_mount(folder: Path) -> bool:
    folder.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True).returncode == 0
    )
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)
    return mounted


@pytest.fixture
def mounting(tmp_path: Path) -> None:
    if not can_mount(tmp_path / "probe"):
        pytest.skip("file systems cannot be mounted here (root only)")


@pytest.mark.timeout(1800)
def test_jobs_killed_at_random_moments(finished: Project, fresh: Project) -> None:
    choice = random.Random(1).choices(range(len(faults.STAGES)), k=KILLS)
    stages = [faults.STAGES[n] for n in sorted(choice)]
    for outcome in faults.kill_jobs(fresh, finished, stages, seed=1):
        assert outcome.same_tracks, outcome
        assert (outcome.recomputed, outcome.missing) == (0, 0), outcome


def test_jobs_that_outlive_their_run_are_named_and_waited_for(finished: Project, fresh: Project) -> None:
    said = faults.kill_the_run(fresh)
    assert "processes of a run that was killed" in said
    assert "Wait for them to end, or end them (kill " in said
    fresh.run()
    outcome = faults.Outcome("kill -9 of Snakemake", "deskew", 1).judge(fresh, finished)
    assert outcome.same_tracks
    assert (outcome.recomputed, outcome.missing) == (0, 0)


@pytest.mark.parametrize("stage", DISKS)
def test_a_full_disk_is_told_and_forgotten(
    finished: Project, copy: Project, mounting: None, stage: str
) -> None:
    outcome = faults.run_out_of_disk(copy, finished, stage, DISKS[stage])
    assert outcome.messages
    assert outcome.same_tracks
    assert (outcome.recomputed, outcome.missing) == (0, 0)


def test_a_read_only_results_folder_is_told_at_once(copy: Project, mounting: None) -> None:
    copy.set("track", max_gap_frames=1)
    subprocess.run(["mount", "--bind", str(copy.results), str(copy.results)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(copy.results)], check=True)
        done = copy.run(check=False)
    finally:
        subprocess.run(["umount", str(copy.results)], check=True)
    assert done.returncode != 0
    assert "Write-protected output files" in done.stdout


def test_a_second_run_on_the_same_results_is_refused(copy: Project) -> None:
    copy.set("segment", mask_level=0.45)
    first = copy.start()
    mark = copy.results / ".running.json"
    while not mark.exists() and first.poll() is None:
        pass
    second = copy.run(check=False)
    assert second.returncode != 0
    assert "expected no other run on these results" in second.stdout
    assert first.wait() == 0
    for movie in faults.MOVIES:
        assert copy.computed("segment", movie) == 2 * FRAMES


def test_a_truncated_raw_file_that_is_repaired_later(finished: Project, fresh: Project) -> None:
    path = sorted((fresh.folder / "raw" / "series").glob("*.tif"))[4]
    whole = path.read_bytes()
    path.write_bytes(whole[:-5000])
    rows = fresh.rows()
    rows["train"] = "yes"  # so that there is a model without the bad movie
    fresh.write_rows(rows)
    done = fresh.run("--keep-going", check=False)
    assert done.returncode != 0
    assert path.name in done.stdout
    assert "truncated" in done.stdout
    computed = {stage: fresh.computed(stage, "single") for stage in faults.FRAME_STAGES}
    path.write_bytes(whole)
    rows["train"] = finished.rows()["train"]
    fresh.write_rows(rows)
    shutil.rmtree(fresh.results / "model")
    fresh.run()
    assert computed["deskew"] == fresh.computed("deskew", "single") == FRAMES
    for movie in faults.MOVIES:
        ours, theirs = (p.results / movie / "tracks.csv" for p in (fresh, finished))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_damaged_chunk_is_noticed_named_and_computed_anew(finished: Project, copy: Project) -> None:
    shard = faults.damage_chunk(copy, frame=3)
    tracks = (finished.results / "series" / "tracks.csv").read_bytes()
    (copy.results / "series" / "labels.json").unlink()
    shutil.rmtree(copy.results / "series" / "labels.ome.zarr")
    done = copy.run("--forcerun", "segment", check=False)
    assert done.returncode != 0
    assert "series/deskewed.ome.zarr/0/c/3: found frame 3 damaged on disk" in done.stdout
    shutil.rmtree(shard.parents[3])
    (copy.results / "series" / "deskewed.json").unlink()
    copy.run()
    assert copy.computed("deskew", "series") == FRAMES + 1
    assert copy.computed("features", "series") == FRAMES
    assert (copy.results / "series" / "tracks.csv").read_bytes() == tracks


def test_a_stage_that_failed_is_not_forgotten(copy: Project) -> None:
    """Pages of before the change are still there; Snakemake alone would find nothing left to do."""
    sound = faults.shard_of(copy, frame=3).read_bytes()
    shard = faults.damage_chunk(copy, frame=3)
    copy.set("segment", mask_level=0.45)
    assert copy.run(check=False).returncode != 0
    shard.write_bytes(sound)
    copy.run()
    assert copy.record("labels", "series")["about"]["parameters"]["mask_level"] == 0.45  # type: ignore[index]
    assert copy.computed("segment", "series") == 2 * FRAMES
