"""A measurement in a process of its own, one thread: processor seconds and peak memory. Not what is measured.

No library but the standard one, since peers may need another interpreter than ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ONE_THREAD = dict.fromkeys(
    (
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
        *("POCL_MAX_PTHREAD_COUNT", "POCL_MAX_CPU_CU_COUNT"),
    ),
    "1",
)
LOAD_NAMES = "load_before", "load_after"
Row = dict[str, Any]


def measured(prepare: Callable[[], Callable[[], Any]]) -> None:
    """Prepare, warm-up included; then print what one call takes, as a line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        call = prepare()
        started, busy = time.perf_counter(), time.process_time()
        found = call()
        row = {"cpu_s": time.process_time() - busy, "s": time.perf_counter() - started}
        print(json.dumps(row | {"peak_mb": peak_mb(), "found": found}), file=answers)
    except (ImportError, RuntimeError) as error:
        print(json.dumps({"missing": f"{type(error).__name__}: {error}"}), file=answers)


def peak_mb() -> float:
    """Peak memory of this process so far, libraries and warm-up included, in 10⁶ bytes.

    Not ``ru_maxrss``, which a process that another one starts inherits from it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def run(script: str, case: Row, python: str = sys.executable, **environment: str) -> Row:
    """What ``script`` prints of a case: a measurement, or why there is none."""
    command = [python, str(Path(__file__).with_name(script)), "--case", json.dumps(case)]
    load = os.getloadavg()[0]
    done = subprocess.run(
        command, env=os.environ | ONE_THREAD | environment, text=True, stdout=subprocess.PIPE
    )
    if done.returncode or not done.stdout.strip():
        raise SystemExit(f"{script} {case} ended with {done.returncode}")
    row = json.loads(done.stdout.splitlines()[-1])
    return case | row | dict(zip(LOAD_NAMES, (load, os.getloadavg()[0]), strict=True))
