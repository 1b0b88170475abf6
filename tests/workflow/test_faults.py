"""Faults end in the tracks of an undisturbed run, and no finished frame is computed again.

SPATIALDINO_KILLS=20 tries more moments, SPATIALDINO_FULL_DISKS=all every stage that writes.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.workflow import faults
from tests.workflow.conftest import FRAMES, Project

pytestmark = pytest.mark.workflow
KILLS = int(os.environ.get("SPATIALDINO_KILLS", "3"))
EVERY_DISK = os.environ.get("SPATIALDINO_FULL_DISKS") == "all"
FULL = [*faults.DISKS] if EVERY_DISK else ["segment", "track"]


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


def unharmed(outcome: faults.Outcome, recomputed: int = 0) -> None:
    assert outcome.same_tracks, outcome
    assert (outcome.recomputed, outcome.missing) == (recomputed, 0), outcome


@pytest.mark.timeout(1800)
def test_jobs_killed_at_random_moments(finished: Project, fresh: Project) -> None:
    choice = random.Random(1).choices(range(len(faults.STAGES)), k=KILLS)
    stages = [faults.STAGES[n] for n in sorted(choice)]
    for outcome in faults.kill_jobs(fresh, finished, stages, seed=1):
        unharmed(outcome)


def test_jobs_that_outlive_their_run_are_named_and_waited_for(fresh: Project) -> None:
    said = faults.kill_the_run(fresh)
    assert "processes of a run that was killed" in said
    assert "Wait for them to end, or end them (kill " in said
    fresh.run("--until", "deskew")
    assert [fresh.computed("deskew", movie) for movie in faults.MOVIES] == [FRAMES, FRAMES]


@pytest.mark.parametrize("stage", FULL)
def test_a_full_disk_is_told_and_forgotten(
    finished: Project, copy: Project, mounting: None, stage: str
) -> None:
    outcome = faults.run_out_of_disk(copy, finished, stage, faults.DISKS[stage])
    assert outcome.messages
    unharmed(outcome)


def test_a_read_only_results_folder_is_told_at_once(finished: Project, copy: Project, mounting: None) -> None:
    outcome = faults.make_read_only(copy, finished)
    assert outcome.messages
    unharmed(outcome)


def test_a_second_run_on_the_same_results_is_refused(finished: Project, copy: Project) -> None:
    outcome = faults.run_twice_at_once(copy, finished)
    assert outcome.messages
    unharmed(outcome)


def test_a_truncated_raw_file_that_is_repaired_later(finished: Project, fresh: Project) -> None:
    outcome = faults.truncate_raw_file(fresh, finished)
    assert ".tif" in outcome.messages[0]
    unharmed(outcome)


def test_a_damaged_chunk_is_noticed_named_and_computed_anew(finished: Project, copy: Project) -> None:
    outcome = faults.corrupt_chunk(copy, finished)
    assert "series/deskewed.ome.zarr/0/c/3: found frame 3 damaged on disk" in outcome.messages[0]
    assert copy.computed("deskew", "series") == FRAMES + 1
    unharmed(outcome, recomputed=1)


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
