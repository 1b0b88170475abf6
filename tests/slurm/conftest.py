"""The cluster that these tests share, and projects that run on it as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    """A project that is run with the profile for Slurm.

    Attributes
    ----------
    facts
        What a test has seen while it ran, for others to judge.
    """

    facts: dict[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        link = self.folder / "profiles"
        if not link.exists():
            link.symlink_to(ROOT / "profiles")
        common = [
            "--snakefile",
            str(ROOT / "Snakefile"),
            "--profile",
            "profiles/slurm",
            "--latency-wait",
            "5",
        ]
        return [sys.executable, "-m", "snakemake", *common, "--configfile", "settings.yaml", *arguments]

    def environment(self) -> dict[str, str]:
        paths = [str(Path(__file__).with_name("impatient")), os.environ.get("PYTHONPATH", "")]
        return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}

    @contextmanager
    def launched(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A run whose output goes to ``run.log``, and that does not outlive the test."""
        with self.log.open("a") as log:
            run = subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env=self.environment(),
                text=True,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield run
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)

    @property
    def log(self) -> Path:
        return self.folder / "run.log"
