"""What a run that was killed has left running: jobs in Slurm's queue, processes on this machine."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess

import psutil


def slurm_jobs() -> list[str]:
    """Waiting and running jobs that the plugin has submitted from this folder."""
    if shutil.which("squeue") is None:
        return []
    query = ["squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%Z|%k"]
    lines = subprocess.run(query, text=True, capture_output=True).stdout.splitlines()
    jobs = [line.split("|", 2) for line in lines]
    # Its jobs run in the folder of the run, and its comments begin like this.
    return [
        number for number, folder, comment in jobs if folder == os.getcwd() and comment.startswith("rule_")
    ]


def processes(results: str) -> list[str]:
    """Our scripts that write to these results on this machine."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        ours = any(part.startswith("workflow_scripts.") for part in line)
        if (
            ours
            and process.info["cwd"] == os.getcwd()
            and any(part.startswith(f"{results}/") for part in line)
        ):
            found.append(str(process.info["pid"]))
    return found
