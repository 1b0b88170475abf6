"""A project folder with small simulated movies, on which the real Snakefile is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters
from spatialdino_core.simulate.write import write_ome_tiff, write_tiff_series

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 6
COLUMNS = ["movie", "channel", "path", "scan", "angle_deg", "step_um", "pixel_um", "interval_s"]
COLUMNS += ["skew_axis", "scan_sign", "train"]
DEMO = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text())
SETTINGS = {
    "movies": "movies.tsv",
    "results": "results",
    "model": {"source": "train"},
    # What features cost is tested even where they gain nothing.
    "features": {"use": "always"},
    "crops": DEMO["crops"] | {"crop_voxels": 32, "crops_per_frame": 4, "frames_per_movie": 3},
    "encoder": DEMO["encoder"] | {"embed_dim": 24, "depth": 2, "heads": 2},
    "pretrain": DEMO["pretrain"]
    | {
        "steps": 6,
        "batch_size": 4,
        "global_crop_voxels": 24,
        "local_crop_voxels": 16,
        "warmup_steps": 2,
        "checkpoint_interval_steps": 2,
    },
}


@dataclass
class Project:
    """A folder with movies, a sample sheet and settings."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the workflow as a user does; the output is in ``stdout``."""
        command, folder = self.command(*arguments), self.folder
        done = subprocess.run(command, cwd=folder, env=self.environment(), text=True, stdout=-1, stderr=-2)
        if check and done.returncode:
            pytest.fail(done.stdout)
        return done

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the workflow in a process group of its own."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            self.command(*arguments), cwd=self.folder, stdout=quiet, stderr=quiet, start_new_session=True
        )

    def command(self, *arguments: str) -> list[str]:
        common = ["--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles" / "default")]
        return [sys.executable, "-m", "snakemake", *common, "--configfile", "settings.yaml", *arguments]

    def environment(self) -> dict[str, str] | None:
        """What the workflow inherits; None: all that the tests have."""
        return None

    def computed(self, stage: str, movie: str) -> int:
        """Frames that a stage has computed so far: lines of its ledger that do not just reopen one."""
        lines = (self.results / movie / "ledger" / f"{stage}.jsonl").read_text().splitlines()
        return sum(json.loads(line)["key"] != "" for line in lines)

    def rows(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "movies.tsv", sep="\t", dtype=str, keep_default_na=False)

    def write_rows(self, rows: pd.DataFrame) -> None:
        rows.to_csv(self.folder / "movies.tsv", sep="\t", index=False)

    def set(self, section: str, **values: object) -> None:
        """Change settings."""
        settings = yaml.safe_load((self.folder / "settings.yaml").read_text())
        settings[section] = settings.get(section, {}) | values
        (self.folder / "settings.yaml").write_text(yaml.safe_dump(settings))

    def record(self, name: str, movie: str) -> dict[str, object]:
        content: dict[str, object] = json.loads((self.results / movie / f"{name}.json").read_text())
        return content


def movie_parameters(seed: int) -> MovieParameters:
    return MovieParameters(
        seed=seed,
        scene=SceneParameters(frames=FRAMES, particles=12, snr=6.0, lifetime_s=60.0),
        acquisition=AcquisitionParameters(planes=20, rows=64, columns=72),
    )


def make_project(folder: Path) -> Project:
    """Two movies: ``series`` (TIFF files, trains) and ``single`` (one OME-TIFF)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed, (name, path) in enumerate(
        {"series": "raw/series/*.tif", "single": "raw/single.ome.tif"}.items()
    ):
        movie = simulate_movie(movie_parameters(seed))
        frames = (movie.raw_frame(t)[None] for t in range(FRAMES))
        if name == "series":
            write_tiff_series(folder / "raw" / name, name, frames, ["488nm"], 2.0)
        else:
            write_ome_tiff(
                folder / path,
                frames,
                (FRAMES, 1, *movie.raw.grid.shape),
                np.dtype(np.uint16),
                channels=["488nm"],
                pixel_um=0.104,
                plane_spacing_um=None,
                interval_s=2.0,
            )
        rows.append(
            [name, "488nm", path, "stage", 31.5, 0.4, 0.104, 2.0, "x", "+1", "yes" if seed == 0 else "no"]
        )
    project = Project(folder)
    project.write_rows(pd.DataFrame(rows, columns=COLUMNS))
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has been run to its end. Tests that change it work on a copy.

    Run once for all folders of tests that ask for it.
    """
    folder = tmp_path_factory.getbasetemp() / "finished" / "project"
    if not (folder / "results" / "summary.html").exists():
        make_project(folder).run()
    return Project(folder)


@pytest.fixture
def copy(finished: Project, tmp_path: Path) -> Project:
    """A private copy of the finished project, file times and Snakemake's memory included."""
    shutil.copytree(finished.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


@pytest.fixture
def fresh(finished: Project, tmp_path: Path) -> Project:
    """The same movies and settings, nothing run yet."""
    shutil.copytree(
        finished.folder, tmp_path / "project", ignore=shutil.ignore_patterns("results", ".snakemake")
    )
    return Project(tmp_path / "project")


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 300) -> None:
    """Wait until something is true while a run goes on."""
    import time

    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail("the run ended before it came so far")
        time.sleep(0.02)


os.environ["COLUMNS"] = "200"
