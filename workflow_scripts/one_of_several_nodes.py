"""One node's part of a training on several: start torchrun there, told by Slurm where the others are.

Arguments are torchrun's. Meant to be started by srun, one task on each node.
"""

from __future__ import annotations

import os
import signal
import sys


def rendezvous(slurm: dict[str, str]) -> list[str]:
    """Where and as whom torchrun meets the others, from the environment of a Slurm task.

    The node that started the tasks is the first one of the job. The port depends on the job, so that two jobs
    on one node do not meet.
    """
    job = slurm["SLURM_JOB_ID"]
    return [
        "--rdzv-backend=c10d",
        f"--rdzv-id={job}",
        f"--rdzv-endpoint={slurm['SLURM_LAUNCH_NODE_IPADDR']}:{20000 + int(job) % 20000}",
        f"--rdzv-conf=is_host={int(slurm['SLURM_NODEID'] == '0')}",
    ]


if __name__ == "__main__":
    # The warning before the time limit is for the training processes; torchrun would die of it.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.execv(
        sys.executable,
        [sys.executable, "-m", "torch.distributed.run", *rendezvous(dict(os.environ)), *sys.argv[1:]],
    )
