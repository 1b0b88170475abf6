"""The second plan of a run: the same command in the place of the first, once the review has been done."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path


def plan_again() -> None:
    """Replace this process by the same command, given in the same folder.

    The process keeps its number: signals reach it, and its exit status is the user's.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(given_in(sys.argv[1:], Path.cwd(), os.environ.get("PWD", "")))
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *sys.argv[1:]])


def given_in(arguments: Sequence[str], now: Path, shell: str) -> Path:
    """The folder that a command was given in; for ``--directory`` Snakemake has left it.

    Parameters
    ----------
    arguments
        Of the command.
    now
        The folder that Snakemake works in.
    shell
        The shell's own, where the command comes from one.

    Examples
    --------
    >>> given_in(["--directory", "cells/today", "--cores", "2"], Path("/data/cells/today"), "").as_posix()
    '/data'
    >>> given_in(["--cores", "2"], Path("/data"), "/home").as_posix()
    '/data'
    """
    directory = _directory(arguments)
    if directory is None:
        return now
    upwards = now
    for _ in Path(directory).parts:
        upwards = upwards.parent
    candidates = [Path(shell)] if shell and Path(shell).is_dir() else []
    candidates.append(upwards)
    fitting = [folder for folder in candidates if (folder / directory).resolve() == now.resolve()]
    return fitting[0] if fitting else now


def _directory(arguments: Sequence[str]) -> str | None:
    for number, name in enumerate(arguments):
        if name == "-d":
            return arguments[number + 1]
        long, equals, value = name.partition("=")
        if len(long) > len("--d") and "--directory".startswith(long):
            return value if equals else arguments[number + 1]
        if name.startswith("-d") and not name.startswith("--"):
            return name.removeprefix("-d")
    return None
