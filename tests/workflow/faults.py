"""Faults on purpose: jobs killed, disks full, files damaged; each function says what came of it.

Used by tests/workflow/test_faults.py (a few) and benchmarks/faults.py (all).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.workflow.conftest import FRAMES, Project

MOVIES = ("series", "single")
FRAME_STAGES = ("deskew", "features", "segment")
STAGES = (
    "register",
    "preview",
    "review",
    "deskew",
    "shard",
    "pretrain",
    "repair",
    "features",
    "segment",
    "track",
)
STAGES += ("report", "summary")
# Bytes that are left on the disk where a stage runs out of space: less than it writes, enough to begin.
DISKS = {
    "preview": 8_000,
    "deskew": 30_000,
    "shard": 30_000,
    "pretrain": 300_000,
    "repair": 8_000,
    "features": 8_000,
    "segment": 8_000,
    "track": 4_000,
    "report": 8_000,
    "summary": 8_000,
}
OUTPUTS = {
    "preview": ["qc/previews"],
    "deskew": ["{movie}/deskewed.json", "{movie}/deskewed.ome.zarr", "{movie}/ledger/deskew.jsonl"],
    "shard": ["shards", "model/repair.json"],
    "pretrain": ["model/pretrained.safetensors", "model/checkpoints", "model/repair.json"],
    "repair": ["model/repaired.safetensors", "model/repair.json"],
    "features": ["{movie}/features.json", "{movie}/features.zarr", "{movie}/ledger/features.jsonl"],
    "segment": ["{movie}/labels.json", "{movie}/labels.ome.zarr", "{movie}/ledger/segment.jsonl"],
    "track": ["{movie}/tracks.csv"],
    "report": ["{movie}/report.html"],
    "summary": ["summary.html"],
}


@dataclass
class Outcome:
    """What came of a fault, after the same command was run again.

    Attributes
    ----------
    recomputed
        Frames that were finished and computed once more, over all stages.
    missing
        Frames without a finished entry at the end.
    same_tracks
        Whether the tracks of all movies are byte for byte those of an undisturbed run.
    """

    fault: str
    stage: str
    tried: int
    recomputed: int = 0
    missing: int = 0
    same_tracks: bool = False
    messages: list[str] = field(default_factory=list)

    def judge(self, project: Project, undisturbed: Project, computed_before: int = 0) -> Outcome:
        """Count, at the end."""
        frames = {
            (stage, movie): project.computed(stage, movie) for stage in FRAME_STAGES for movie in MOVIES
        }
        self.recomputed = sum(max(0, n - FRAMES) for n in frames.values()) - computed_before
        self.missing = sum(max(0, FRAMES - n) for n in frames.values())
        self.same_tracks = all(
            (project.results / m / "tracks.csv").read_bytes()
            == (undisturbed.results / m / "tracks.csv").read_bytes()
            for m in MOVIES
        )
        return self


def kill_jobs(project: Project, undisturbed: Project, stages: list[str], seed: int) -> list[Outcome]:
    """``kill -9`` of one job of each stage in the list, at a random moment of it; last, a run to the end.

    Stages have to be in the order in which they are run; one may be in the list several times.
    """
    moments = random.Random(seed)
    killed: dict[str, int] = {}
    run = project.start()
    for stage in stages:
        if run.poll() is not None:
            run = project.start()
        job = _job_of(stage, run)
        if job is None:
            continue  # its last job ended before the moment came
        if _killed_after(job, moments.uniform(0, 0.9) * _processor_seconds(undisturbed, stage)):
            killed[stage] = killed.get(stage, 0) + 1
        else:
            _stop(run)  # or the jobs of the stages that follow would come to their end, too
        run.wait()
    run.wait()
    project.run()
    return [Outcome("kill -9 of a job", stage, n).judge(project, undisturbed) for stage, n in killed.items()]


def _stop(run: subprocess.Popen[bytes]) -> None:
    """Let a run finish the jobs that it has begun, and begin no others."""
    asked = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]:
            if "snakemake" in process.cmdline():
                process.terminate()
                asked.append(process)
    # Snakemake waits for itself for ever when it is asked while it chooses jobs.
    for process in psutil.wait_procs(asked, timeout=60)[1]:
        process.kill()


def _killed_after(job: psutil.Process, processor_seconds: float) -> bool:
    """Kill a process when it has worked so long; False if it has come to its end before."""
    try:
        while job.is_running() and sum(job.cpu_times()[:2]) < processor_seconds:
            time.sleep(0.01)
        job.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def _processor_seconds(undisturbed: Project, stage: str) -> float:
    """How long a job of the stage worked in the undisturbed run."""
    folder = undisturbed.results / "benchmarks"
    table = folder / f"{stage}.tsv"
    path = table if table.exists() else folder / stage / "series.tsv"
    names, values = (line.split("\t") for line in path.read_text().splitlines())
    return float(dict(zip(names, values, strict=True))["cpu_time"])


def _job_of(stage: str, run: subprocess.Popen[bytes]) -> psutil.Process | None:
    """The first process of a stage of a run, when it is there; None if the run ends or goes past it."""
    passed = {f"workflow_scripts.{later}" for later in STAGES[STAGES.index(stage) + 1 :]}
    while run.poll() is None:
        for process in psutil.Process(run.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                line = process.cmdline()
                if f"workflow_scripts.{stage}" in line and "python" in Path(line[0]).name:
                    return process
                if passed & set(line):
                    return None
        time.sleep(0.02)
    return None


def kill_the_run(project: Project) -> str:
    """``kill -9`` of Snakemake alone, while jobs run; returns what the next run says."""
    run = project.start()
    job = _job_of("deskew", run)
    assert job is not None
    job.suspend()  # so that it surely outlives the run
    for process in [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if "snakemake" in process.cmdline():
                process.kill()
    run.wait()
    said = project.run(check=False).stdout
    job.kill()
    _wait_for_end(project)
    return said


def _wait_for_end(project: Project) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        folders = [p.info for p in psutil.process_iter(["cwd", "cmdline"])]
        if not any(i["cwd"] == str(project.folder) and "-m" in (i["cmdline"] or []) for i in folders):
            return
        time.sleep(0.1)


@contextlib.contextmanager
def small_disk(project: Project, megabytes: int = 64) -> Iterator[None]:
    """The results on a file system of their own, with little room. Needs the right to mount."""
    kept = project.folder / "kept"
    project.results.rename(kept)
    project.results.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(project.results)], check=True
    )
    try:
        shutil.copytree(kept, project.results, dirs_exist_ok=True)
        yield
        shutil.rmtree(kept)
        shutil.copytree(project.results, kept)
    finally:
        subprocess.run(["umount", str(project.results)], check=True)
        project.results.rmdir()
        kept.rename(project.results)


def remove_results(project: Project, stage: str) -> None:
    """Take away what a stage has made, its ledger included."""
    for pattern in OUTPUTS[stage]:
        for movie in MOVIES:
            path = project.results / pattern.format(movie=movie)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def fill(folder: Path, leave_bytes: int) -> Path:
    """A file that leaves so little room."""
    ballast = folder / "ballast"
    free = shutil.disk_usage(folder).free - leave_bytes
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free)
    return ballast


def run_out_of_disk(project: Project, undisturbed: Project, stage: str, leave_bytes: int) -> Outcome:
    """A stage that finds little room; then there is room again."""
    outcome = Outcome("no space left", stage, 1)
    with small_disk(project):
        remove_results(project, stage)
        ballast = fill(project.results, leave_bytes)
        # What lies between raw files and finished pages is not missed unless it is asked for.
        done = project.run("--forcerun", stage, check=False)
        assert done.returncode != 0, "there was room enough"
        # Some know beforehand what they will write.
        outcome.messages = lines_with(done.stdout, "No space left") + lines_with(done.stdout, "GB free on")
        ballast.unlink()
        project.run()
    return outcome.judge(project, undisturbed)


def make_read_only(project: Project, undisturbed: Project) -> Outcome:
    """The results may not be written to for a while. Needs the right to mount."""
    project.set("track", max_gap_frames=1)
    subprocess.run(["mount", "--bind", str(project.results), str(project.results)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(project.results)], check=True)
        done = project.run(check=False)
    finally:
        subprocess.run(["umount", str(project.results)], check=True)
    outcome = Outcome("read-only results", "track", 1, messages=lines_with(done.stdout, "Write-protected"))
    shutil.copy(undisturbed.folder / "settings.yaml", project.folder)
    project.run()
    return outcome.judge(project, undisturbed)


def run_twice_at_once(project: Project, undisturbed: Project) -> Outcome:
    """A second run on the same results while one is going on."""
    (project.results / "single" / "tracks.csv").unlink()
    first = project.start()
    while not (project.results / ".running.json").exists() and first.poll() is None:
        time.sleep(0.01)
    second = project.run(check=False)
    said = lines_with(second.stdout, "expected no other run on these results")
    assert second.returncode != 0
    assert first.wait() == 0
    return Outcome("a second run at once", "track", 1, messages=said).judge(project, undisturbed)


def truncate_raw_file(project: Project, undisturbed: Project) -> Outcome:
    """A raw file of a movie ends too early, and is mended after a run. Nothing must have been run before."""
    path = sorted((project.folder / "raw" / "series").glob("*.tif"))[4]
    whole = path.read_bytes()
    path.write_bytes(whole[:-5000])
    rows = project.rows()
    rows["train"] = "yes"  # so that there is a model without the bad movie
    project.write_rows(rows)
    done = project.run()
    outcome = Outcome("truncated raw file", "register", 1, messages=lines_with(done.stdout, "truncated)"))
    assert project.computed("deskew", "single") == FRAMES, "the other movie waits for the bad one"
    path.write_bytes(whole)
    project.write_rows(undisturbed.rows())
    shutil.rmtree(project.results / "model")
    project.run()
    # With the model that was meant, features and segment of the other movie are another result.
    return outcome.judge(project, undisturbed, computed_before=2 * FRAMES)


def corrupt_chunk(project: Project, undisturbed: Project) -> Outcome:
    """Bytes of a finished store change on disk; one frame has to be computed again."""
    damage_chunk(project, frame=3)
    (project.results / "series" / "labels.json").unlink()
    shutil.rmtree(project.results / "series" / "labels.ome.zarr")
    (project.results / "series" / "ledger" / "segment.jsonl").unlink()
    done = project.run("--forcerun", "segment", check=False)
    assert done.returncode != 0
    said = lines_with(done.stdout, "found frame 3 damaged on disk")
    # As the message says.
    project.run("--config", "verify=true")
    return Outcome("corrupt chunk", "deskew", 1, messages=said).judge(project, undisturbed)


def lines_with(text: str, part: str) -> list[str]:
    """The first lines that contain ``part``."""
    return [line.strip() for line in text.splitlines() if part in line][:3]


def shard_of(project: Project, frame: int) -> Path:
    """The file of a frame in the deskewed store."""
    store = project.results / "series" / "deskewed.ome.zarr"
    return store / "0" / "c" / str(frame) / "0" / "0" / "0" / "0"


def damage_chunk(project: Project, frame: int) -> Path:
    """Change bytes in the middle of a shard of the deskewed store."""
    shard = shard_of(project, frame)
    content = bytearray(shard.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 16] = bytes(byte ^ 0xFF for byte in content[middle : middle + 16])
    shard.write_bytes(content)
    return shard
