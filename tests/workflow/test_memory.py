"""A local run keeps to the memory of its machine: jobs wait for it, and a movie that cannot fit is left out.

Register, preview and review are the real ones. The jobs after them only take time; what they ask for is real.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import tifffile

from spatialdino_core.config import load_config
from spatialdino_core.files import read_json
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.needs import Needs, encoder_shape, movie_shape
from spatialdino_core.quality.decisions import standings
from tests.workflow.conftest import ROOT, Project
from tests.workflow.small_movies import SETTINGS, row, stack, write_project, write_series

pytestmark = pytest.mark.workflow
SLOW = ("deskew", "features", "segment", "track", "report", "repair", "summary")
STUB = """
import json, sys, time
from pathlib import Path
begin, given = time.time(), sys.argv
makes = given[given.index("--makes") + 1 :]
makes = makes[: next((n for n, word in enumerate(makes) if word.startswith("--")), len(makes))]
time.sleep(0.4)
for path in makes:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("{}")
with open("ran.jsonl", "a") as file:
    file.write(json.dumps([Path(given[0]).stem, Path(makes[0]).parent.name, begin, time.time()]) + "\\n")
"""
MACHINE = """
import os, psutil
if "AVAILABLE_MB" in os.environ:
    real = psutil.virtual_memory
    psutil.virtual_memory = lambda: real()._replace(available=int(os.environ["AVAILABLE_MB"]) * 10**6)
"""
LARGE = (24, 96, 128)


@dataclass
class SmallMachine(Project):
    """A project on a machine with so much free memory (MB)."""

    available_mb: int = 10**6
    profile: str = "default"

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": str(self.folder / "machine"),
            "AVAILABLE_MB": str(self.available_mb),
        }

    def command(self, *arguments: str) -> list[str]:
        common = ["--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles" / self.profile)]
        return [sys.executable, "-m", "snakemake", *common, *arguments, "--configfile", "settings.yaml"]

    def plan(self, *arguments: str) -> tuple[str, dict[str, dict[str, str]]]:
        """What a dry run says, and the resources of each of its jobs by the name of its log."""
        said = self.run("-n", "--quiet", "host", *arguments).stdout
        found = {}
        for job in re.split(r"\n(?:local)?rule ", said)[1:]:
            log, asked = re.search(r"log: \S*logs/(\S+)", job), re.search(r"resources: (.*)", job)
            if log and asked:
                found[log[1]] = dict(re.findall(r"(\w+)=([^,\n]*)", asked[1]))
        return said, found

    def needs(self) -> Needs:
        config = load_config(SETTINGS)
        return Needs(
            config=config, encoder=encoder_shape(config, str(ROOT / "weights" / "bundled.safetensors"))
        )

    def memory_mb(self, stage: str, movie: str) -> float:
        shape = movie_shape(read_json(self.results / movie / "movie.json"), DeskewParameters())
        return self.needs().memory_mb(stage, shape)


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three movies that are reviewed, one of them larger; the jobs that follow are stubs."""
    folder = tmp_path_factory.mktemp("memory") / "project"
    for number, movie in enumerate(("a", "b")):
        write_series(folder / "raw" / movie, name=movie, seed=number)
    (folder / "raw" / "large").mkdir()
    for frame in range(2):
        image = stack(frame, LARGE)
        tifffile.imwrite(folder / f"raw/large/l_stack{frame:04}.tif", image, photometric="minisblack")
    write_project(folder, [row(movie, f"raw/{movie}/*.tif") for movie in ("a", "b", "large")])
    stubs = folder / "workflow_scripts"
    stubs.mkdir()
    (stubs / "__init__.py").write_text(f"__path__.append({str(ROOT / 'workflow_scripts')!r})\n")
    for stage in SLOW:
        (stubs / f"{stage}.py").write_text(STUB)
    (folder / "machine").mkdir()
    (folder / "machine" / "sitecustomize.py").write_text(MACHINE)
    SmallMachine(folder).run("results/qc/metrics.tsv")
    return folder


@pytest.fixture
def project(reviewed: Path, tmp_path: Path) -> SmallMachine:
    shutil.copytree(reviewed, tmp_path / "project")
    return SmallMachine(tmp_path / "project")


def ran(project: Project) -> pd.DataFrame:
    """Stage, movie, begin and end of each job that ran."""
    lines = (project.folder / "ran.jsonl").read_text().splitlines()
    return pd.DataFrame(map(json.loads, lines), columns=["stage", "movie", "begin", "end"])


def test_three_movies_never_take_more_than_there_is(project: SmallMachine) -> None:
    """Half of what their features would ask for together: one at a time of these, and of others no more."""
    movies = ("a", "b", "large")
    asked = {
        (stage, movie): project.needs().request_mb(
            stage, movie_shape(read_json(project.results / movie / "movie.json"), DeskewParameters())
        )
        for stage in ("deskew", "features", "segment")
        for movie in movies
    }
    project.available_mb = sum(asked["features", movie] for movie in movies) // 2
    project.run("--cores", "12")
    jobs = ran(project)
    assert len(jobs) == 5 * 3 + 2
    for begin in jobs["begin"]:
        together = jobs[(jobs["begin"] <= begin) & (jobs["end"] > begin)]
        pairs = zip(together["stage"], together["movie"], strict=True)
        assert sum(asked.get(pair, 1000) for pair in pairs) <= project.available_mb


def test_a_movie_that_cannot_fit_is_left_out_and_the_others_go_on(project: SmallMachine) -> None:
    needed = {movie: project.memory_mb("features", movie) for movie in ("a", "large")}
    project.available_mb = round(sum(needed.values()) / 2)
    said = project.run("--cores", "4").stdout
    assert set(ran(project)["movie"]) == {"a", "b", "model", "results"}
    message = re.search(r"movie 'large': found .*", said)
    assert message
    assert "24 × 96 × 128 voxels" in message[0]
    assert f"features takes {needed['large'] / 1000:.3g} GB" in message[0]
    assert f"no more than the {project.available_mb / 1000:.3g} GB" in message[0]
    standing = standings(project.results / "qc")["large"]
    assert (standing.verdict, standing.reason) == ("problem", message[0])
    assert "1 of 3 movies cannot be used:" in said


def test_the_memory_that_a_user_names_is_what_there_is(project: SmallMachine) -> None:
    project.available_mb = 100
    said, planned = project.plan("--resources", "mem_mb=64000")
    assert "features/large.log" in planned
    assert "cannot be used" not in said


def test_both_profiles_ask_for_the_same(project: SmallMachine) -> None:
    _, here = project.plan()
    project.profile = "slurm"
    _, there = project.plan()
    assert {job: asked["mem_mb"] for job, asked in here.items()} == {
        job: asked["mem_mb"] for job, asked in there.items()
    }
    assert set(here) >= {f"{stage}/{movie}.log" for stage in SLOW[:5] for movie in ("a", "b", "large")}
    # Keys of the default profile, which is loaded beside, have not erased these.
    assert there["deskew/a.log"]["slurm_partition"] == "cpu"
    assert there["features/a.log"]["slurm_partition"] == "gpu"
    assert "slurm_partition" not in here["deskew/a.log"]


def test_a_cluster_is_not_kept_to_the_memory_of_its_front_end(project: SmallMachine) -> None:
    project.profile, project.available_mb = "slurm", 100
    assert "features/large.log" in project.plan()[1]
