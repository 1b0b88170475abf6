"""Lets Snakemake ask Slurm for its jobs every second: on the path of these tests alone.

The plugin's pauses grow whenever no job has ended, which suits a cluster of many users and makes tests wait.
"""

import sys

if "--profile" in sys.orig_argv and "snakemake" in sys.orig_argv:
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
