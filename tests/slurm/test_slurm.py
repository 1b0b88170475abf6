"""The workflow on a real Slurm: partitions, GPUs, lost jobs and nodes, little memory or time, a lost run."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.conftest import ClusterProject
from tests.workflow import faults
from tests.workflow.conftest import FRAMES, ROOT, Project

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(1500)]
GPU_RULES = {"pretrain", "repair", "features"}
# In the profile: too little for Python at first, enough on the second attempt.
SHORT_OF_MEMORY = "set-resources:\n  track:\n    mem_mb: 150*10**(attempt-1)\n"
# Slurm looks at time limits twice a minute: the warning comes 20 to 50 s after the start.
SHORT_OF_TIME = "  pretrain: &gpu\n    runtime: 1\n    slurm_extra: --signal=USR1@10 --gpus-per-node=1\n"


def wait_until(
    found: Callable[[], object],
    process: subprocess.Popen[str],
    log: Path,
    seconds: float = 600,
    pause: float = 0.1,
) -> None:
    end = time.monotonic() + seconds
    while not found():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"the run did not come so far:\n{log.read_text()}")
        time.sleep(pause)


def jobs_of(cluster: Cluster, project: Project, rule: str) -> list[dict[str, str]]:
    """What Slurm knows of the jobs of a rule (or a rule and its movie) in a project, in order."""
    found = [job for job in cluster.past().values() if job.get("WorkDir") == str(project.folder)]
    return [job for job in found if job["Comment"] in (f"rule_{rule}", *_of_movies(project, rule))]


def _of_movies(project: Project, rule: str) -> list[str]:
    stage, _, movie = rule.partition("/")
    return [f"rule_{stage}_wildcards_{name}" for name in ([movie] if movie else project.rows()["movie"])]


def with_profile(project: ClusterProject, where: str, then: str) -> None:
    """Give a project a profile of its own, with a change."""
    shutil.copytree(ROOT / "profiles", project.folder / "profiles")
    profile = project.folder / "profiles" / "slurm" / "config.yaml"
    assert where in profile.read_text()
    profile.write_text(profile.read_text().replace(where, then, 1))


def clone(finished: Project, folder: Path) -> ClusterProject:
    shutil.copytree(finished.folder, folder, symlinks=True)
    return ClusterProject(folder)


@pytest.fixture(scope="module")
def whole(cluster: Cluster, finished: Project, tmp_path_factory: pytest.TempPathFactory) -> ClusterProject:
    """A project from its raw files to the end, through accidents; some jobs get too little memory first."""
    folder = tmp_path_factory.mktemp("whole") / "project"
    shutil.copytree(finished.folder, folder, ignore=shutil.ignore_patterns("results", ".snakemake"))
    project = ClusterProject(folder)
    with_profile(project, "set-resources:\n", SHORT_OF_MEMORY)
    with project.launched() as run:
        go_through_accidents(cluster, project, run)
        assert run.wait(900) == 0, project.log.read_text()
    return project


def go_through_accidents(cluster: Cluster, project: ClusterProject, run: subprocess.Popen[str]) -> None:
    """Drain the node of one job, fail that of another, cancel a third: in the middle of their frames."""
    job, process = held(cluster, project, run, "deskew")
    cluster.set_node(job["BatchHost"], "drain")
    project.facts["drained"] = job["BatchHost"]
    process.resume()
    job, _ = held(cluster, project, run, "features")
    project.facts["failed"] = job["BatchHost"]
    cluster.set_node(project.facts["drained"], "resume")
    cluster.set_node(project.facts["failed"], "down")
    job, _ = held(cluster, project, run, "segment")
    cluster.set_node(project.facts["failed"], "resume")
    subprocess.run(["scancel", job["JobId"]], check=True)


def held(
    cluster: Cluster, project: ClusterProject, run: subprocess.Popen[str], stage: str
) -> tuple[dict[str, str], psutil.Process]:
    """The job of a stage on the movie ``single``, stopped between its first frame and its last."""
    found: list[psutil.Process] = []
    ledger = project.results / "single" / "ledger" / f"{stage}.jsonl"

    def started() -> bool:
        for process in psutil.process_iter(["cmdline", "cwd"]):
            line = process.info["cmdline"] or []
            ours = process.info["cwd"] == str(project.folder) and f"workflow_scripts.{stage}" in line
            if ours and any("results/single/" in word for word in line):
                found.append(process)
        return bool(found)

    wait_until(started, run, project.log)
    wait_until(lambda: ledger.exists() and ledger.read_text(), run, project.log, pause=0.005)
    found[0].suspend()
    assert project.computed(stage, "single") < FRAMES, "the job was too quick to be caught in the middle"
    return jobs_of(cluster, project, f"{stage}/single")[-1], found[0]


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
    for rule in ("preview", "deskew"):
        # The least that is asked for: more would be that of a movie whose shape is not known.
        assert jobs_of(cluster, whole, f"{rule}/series")[0]["MinMemoryNode"] == "1000M"


def test_a_job_on_a_node_that_is_drained_goes_on_and_the_next_go_elsewhere(
    whole: ClusterProject, cluster: Cluster
) -> None:
    drained = whole.facts["drained"]
    (job,) = jobs_of(cluster, whole, "deskew/single")
    assert (job["JobState"], job["BatchHost"], job["Restarts"]) == ("COMPLETED", drained, "0")
    assert whole.facts["failed"] != drained  # where features went while the node was drained


def test_a_job_whose_node_fails_is_started_on_another_by_slurm(
    whole: ClusterProject, cluster: Cluster
) -> None:
    """By Slurm alone: a second job of Snakemake's would write to the same stores."""
    (job,) = jobs_of(cluster, whole, "features/single")
    assert (job["JobState"], job["BatchHost"], job["Restarts"]) == ("COMPLETED", whole.facts["drained"], "1")


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
    # Else they may have ended before anybody looks.
    with cluster.waiting():
        with project.launched() as run:
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


TRAINING_STEPS = 200


@pytest.fixture(scope="module")
def training(cluster: Cluster, finished: Project, tmp_path_factory: pytest.TempPathFactory) -> ClusterProject:
    """Training alone, on two nodes; held at its first checkpoint until its time limit of a minute is near."""
    project = clone(finished, tmp_path_factory.mktemp("training") / "project")
    faults.remove_results(project, "pretrain")
    project.set(
        "pretrain",
        nodes=2,
        steps=TRAINING_STEPS,
        checkpoint_interval_steps=10,
        log_interval_steps=10,
        monitor_interval_steps=TRAINING_STEPS,
    )
    with_profile(project, "  pretrain: &gpu\n", SHORT_OF_TIME)
    checkpoints = project.results / "model" / "checkpoints"
    with project.launched("--until", "pretrain") as run:
        wait_until(lambda: list(checkpoints.rglob("step-*.pt")), run, project.log)
        hold_until_warned(project)
        assert run.wait(900) == 0, project.log.read_text()
    return project


def hold_until_warned(project: ClusterProject) -> None:
    """Stop all processes that train until Slurm has sent them its warning, or ended them."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        ours = process.info["cwd"] == str(project.folder) and "workflow_scripts.pretrain" in line
        if ours and "python" in Path(line[0]).name and "torch.distributed.run" not in line:
            process.suspend()
            found.append(process)
    assert len(found) == 2
    while not all(has_ended(process) or is_warned(process) for process in found):
        time.sleep(0.1)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def is_warned(process: psutil.Process) -> bool:
    """Whether SIGUSR1 waits for a stopped process."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return True
    pending = re.search(r"^ShdPnd:\s*(\w+)", status, re.MULTILINE)
    return pending is not None and bool(int(pending[1], 16) & 1 << (signal.SIGUSR1 - 1))


def test_training_on_two_nodes_goes_on_after_its_time_limit(
    training: ClusterProject, cluster: Cluster
) -> None:
    *stopped, last = jobs_of(cluster, training, "pretrain")
    assert last["JobState"] == "COMPLETED"
    ends = [job["JobState"] for job in stopped]
    assert ends
    assert set(ends) <= {"FAILED", "TIMEOUT"}
    for job in (*stopped, last):
        assert (job["NumNodes"], job["Partition"]) == ("2", "gpu")
    # Where the warning comes before the first step, since all is slow, it is the limit that ends the job.
    said = [path.read_text() for path in (training.folder / ".snakemake" / "slurm_logs").rglob("*.log")]
    # The first process of the job may hear of it before its own warning comes.
    stops = [
        re.search(r"pretrain: stopped at step \d+ by (SIGUSR1|a signal to another)", text) for text in said
    ]
    warned = [stop for stop in stops if stop]
    assert len(warned) == ends.count("FAILED")


def test_it_took_every_step_once(training: ClusterProject) -> None:
    table = pd.read_csv(training.results / "model" / "metrics.csv")
    assert table["step"].tolist() == list(range(10, TRAINING_STEPS + 1, 10))
    assert table["loss"].notna().all()
    assert (training.results / "model" / "pretrained.safetensors").is_file()
