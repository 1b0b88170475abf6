"""The workflow on a real Slurm: partitions, GPUs, lost jobs, too little memory, a killed run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.conftest import ClusterProject
from tests.workflow.conftest import FRAMES, ROOT, Project

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(1500)]
GPU_RULES = {"pretrain", "repair", "features"}
# In the profile: too little for Python at first, enough on the second attempt.
SHORT_OF_MEMORY = "set-resources:\n  track:\n    mem_mb: 150*10**(attempt-1)\n"


def wait_until(
    found: Callable[[], object], process: subprocess.Popen[str], log: Path, seconds: float = 600
) -> None:
    end = time.monotonic() + seconds
    while not found():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"the run did not come so far:\n{log.read_text()}")
        time.sleep(0.2)


def jobs_of(cluster: Cluster, project: Project, rule: str) -> list[dict[str, str]]:
    """What Slurm knows of the jobs of a rule (or a rule and its movie) in a project, in order."""
    found = [job for job in cluster.past().values() if job.get("WorkDir") == str(project.folder)]
    return [job for job in found if job["Comment"] in (f"rule_{rule}", *_of_movies(project, rule))]


def _of_movies(project: Project, rule: str) -> list[str]:
    stage, _, movie = rule.partition("/")
    return [f"rule_{stage}_wildcards_{name}" for name in ([movie] if movie else project.rows()["movie"])]


def clone(finished: Project, folder: Path) -> ClusterProject:
    shutil.copytree(finished.folder, folder, symlinks=True)
    return ClusterProject(folder)


@pytest.fixture(scope="module")
def whole(cluster: Cluster, finished: Project, tmp_path_factory: pytest.TempPathFactory) -> ClusterProject:
    """A project from its raw files to the end; one job is cancelled, another gets too little memory."""
    folder = tmp_path_factory.mktemp("whole") / "project"
    shutil.copytree(finished.folder, folder, ignore=shutil.ignore_patterns("results", ".snakemake"))
    project = ClusterProject(folder)
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    profile = folder / "profiles" / "slurm" / "config.yaml"
    profile.write_text(profile.read_text().replace("set-resources:\n", SHORT_OF_MEMORY, 1))
    run = project.launch()
    wait_until(lambda: jobs_of(cluster, project, "segment/single"), run, project.log)
    subprocess.run(["scancel", jobs_of(cluster, project, "segment/single")[0]["JobId"]], check=True)
    assert run.wait(900) == 0, project.log.read_text()
    return project


def test_the_tracks_are_those_of_a_local_run(whole: ClusterProject, finished: Project) -> None:
    for movie in ("series", "single"):
        for name in ("tracks.csv", "events.csv"):
            ours, local = (p.results / movie / name for p in (whole, finished))
            assert ours.read_bytes() == local.read_bytes()
        for stage in ("deskew", "features", "segment"):
            assert whole.computed(stage, movie) == FRAMES


def test_jobs_that_use_gpus_get_one_in_the_partition_for_them(
    whole: ClusterProject, cluster: Cluster
) -> None:
    for rule in (
        "register",
        "preview",
        "deskew",
        "shard",
        *GPU_RULES,
        "segment",
        "track",
        "report",
        "summary",
    ):
        for job in jobs_of(cluster, whole, rule):
            assert job["Partition"] == ("gpu" if rule in GPU_RULES else "cpu")
            assert ("gpu" in job.get("TresPerJob", "")) == (rule in GPU_RULES)


def test_memory_follows_the_record_of_the_movie(whole: ClusterProject, cluster: Cluster) -> None:
    """Also that of the first job after the register, which was planned before the record was there."""
    planes, y, x = whole.record("movie", "series")["shape_zyx"]  # type: ignore[misc]
    travel = planes * 0.4 / 0.104
    megabytes = round(4e-6 * planes * y * (x + travel))
    for rule, frames in {"preview": 4, "deskew": 6}.items():
        assert (
            jobs_of(cluster, whole, f"{rule}/series")[0]["MinMemoryNode"] == f"{1500 + frames * megabytes}M"
        )


def test_a_cancelled_job_is_tried_again_with_more(whole: ClusterProject, cluster: Cluster) -> None:
    first, second = jobs_of(cluster, whole, "segment/single")
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    assert megabytes(second) == 2 * megabytes(first)


def test_a_job_beyond_its_memory_is_tried_again_with_more(whole: ClusterProject, cluster: Cluster) -> None:
    for movie in ("series", "single"):
        first, *_, last = jobs_of(cluster, whole, f"track/{movie}")
        assert first["JobState"] in ("FAILED", "OUT_OF_MEMORY")
        assert last["JobState"] == "COMPLETED"
        assert megabytes(first) < megabytes(last)


def megabytes(job: dict[str, str]) -> float:
    text = job["MinMemoryNode"]
    return float(text[:-1]) * {"M": 1, "G": 1024}[text[-1]]


def test_there_is_nothing_left_to_do_and_a_log_for_each_movie(whole: ClusterProject) -> None:
    assert "Nothing to be done" in whole.run("--quiet", "progress").stdout
    for stage in ("register", "preview", "deskew", "features", "segment", "track", "report"):
        for movie in ("series", "single"):
            assert (whole.results / "logs" / stage / f"{movie}.log").exists()


def test_jobs_that_outlive_a_killed_run_are_named(
    cluster: Cluster, finished: Project, tmp_path: Path
) -> None:
    project = clone(finished, tmp_path / "project")
    project.set("track", max_gap_frames=1)
    run = project.launch()
    wait_until(lambda: len(jobs_of(cluster, project, "track")) == 2, run, project.log)
    for member in [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]:
        os.kill(member.pid, signal.SIGKILL)
    run.wait()
    orphans = [job["JobId"] for job in jobs_of(cluster, project, "track")]
    again = project.run(check=False)
    assert again.returncode != 0
    assert f"Slurm jobs of a run that was killed: {' '.join(orphans)}" in again.stdout
    subprocess.run(["scancel", *orphans], check=True)
    wait_gone(cluster, orphans)
    project.run()
    for movie in ("series", "single"):
        assert (project.results / movie / "report.html").exists()
        assert project.computed("segment", movie) == FRAMES


def wait_gone(cluster: Cluster, numbers: list[str]) -> None:
    end = time.monotonic() + 60
    while set(numbers) & set(cluster.jobs()) and time.monotonic() < end:
        time.sleep(0.2)
