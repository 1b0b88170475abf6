"""What the jobs inherit: where our packages are, the interpreter of the run, and a signal to ignore."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def share_environment(root: Path) -> None:
    """Let ``python -m workflow_scripts.…`` work from any folder, with this interpreter.

    A job that runs in a conda environment puts that environment's interpreter in front again.
    """
    # Before a time limit Slurm sends USR1 to every process of a job, Snakemake's own included. Training takes
    # it and writes a checkpoint; the others would die of it, and the job with them. Ignoring is inherited.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
