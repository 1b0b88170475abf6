"""The cluster that these tests share, and projects that run on it as a user would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, why_not
from tests.workflow.conftest import ROOT, Project, finished, fresh

__all__ = ["finished", "fresh"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with Cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@dataclass
class ClusterProject(Project):
    """A project that is run with the profile for Slurm."""

    def command(self, *arguments: str) -> list[str]:
        link = self.folder / "profiles"
        if not link.exists():
            link.symlink_to(ROOT / "profiles")
        # As in the profile, but asking for the state of jobs sooner.
        hurry = ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]
        common = ["--snakefile", str(ROOT / "Snakefile"), "--profile", "profiles/slurm", *hurry]
        return [sys.executable, "-m", "snakemake", *common, "--configfile", "settings.yaml", *arguments]

    def launch(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the workflow; its output goes to ``run.log``."""
        with self.log.open("a") as log:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                text=True,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> Path:
        return self.folder / "run.log"
