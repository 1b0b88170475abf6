"""The second plan of a run: the same command in the place of the first, once the review has been done."""

from __future__ import annotations

import os
import sys


def plan_again(folder: str) -> None:
    """Replace this process by the same command, started from the folder that the user started it from.

    The process keeps its number: signals reach it, and its exit status is the user's.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(folder)
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *sys.argv[1:]])
