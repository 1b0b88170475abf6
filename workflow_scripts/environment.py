"""What the jobs inherit: where our packages are, and the interpreter that planned the run."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def share_environment(root: Path) -> None:
    """Let ``python -m workflow_scripts.…`` work from any folder, with this interpreter.

    A job that runs in a conda environment puts that environment's interpreter in front again.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
