"""Damaged inputs of every kind against everything that reads them: python tests/fuzz/fuzz.py --seconds 60

Each is read in a child process of its own, under limits of time and memory. It must end in success or in a
`BadInputError`; a traceback, a hang, a crash, or more memory than files can ask for is a finding: it is
printed, and its files are kept.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzz_mutations import Files, damaged
from fuzz_trials import TRIALS, Trial

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.provenance import software

TIME_LIMIT_S = 30.0
MEMORY_LIMIT = 2 * 2**30
"""Bytes that a child may ask for beyond what its parent has."""
ACCEPTED, REFUSED, FOUND = 0, 1, 2
KEPT = Path("build/fuzz")
IN_MEMORY = "/dev/shm"


@dataclass(frozen=True)
class Finding:
    """An input that ended in neither success nor a clear refusal: its number and what happened."""

    kind: str
    number: int
    what: str
    log: str

    @property
    def place(self) -> str:
        """What findings of one cause have in common: how it ended, and the last line of code of ours."""
        lines = re.findall(r'File ".*?(spatialdino_core/\S+?)", line (\d+)', self.log)
        last = self.log.strip().splitlines()[-1][:100] if self.log.strip() else ""
        error = re.match(r"[\w.]+(?:Error|Exception)", last)
        return f"{self.what} {':'.join(lines[-1]) if lines else ''} {error[0] if error else ''}".strip()


@dataclass
class Outcome:
    """What became of the inputs of a run."""

    inputs: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def sound(build: Callable[[Path], None], folder: Path) -> Files:
    """The files of a sound input; made in a process of its own, for what builds it may start threads."""
    folder.mkdir()
    code, log = in_child(lambda: build(folder) is None, folder.with_suffix(".log"), 300.0)
    assert code == ACCEPTED, log
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def in_child(call: Callable[[], bool], log: Path, limit_s: float) -> tuple[int, str]:
    """How a call in a child process ended: `ACCEPTED`, `REFUSED`, `FOUND`, or a signal as a negative number;
    and what it printed."""
    child = os.fork()
    if child == 0:
        _be_the_child(call, log)
    waiting = os.pidfd_open(child)
    ready, _, _ = select.select([waiting], [], [], limit_s)
    os.close(waiting)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), log.read_text(errors="replace")


def _be_the_child(call: Callable[[], bool], log: Path) -> None:
    code = FOUND
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY_LIMIT,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.dump_traceback_later(0.8 * TIME_LIMIT_S)  # where a hang is
        code = ACCEPTED if call() else REFUSED
    except BadInputError as error:
        print(error)
        code = REFUSED
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def tried(kind: str, number: int, files: Files, trial: Trial, place: Path) -> tuple[bool, Finding | None]:
    """Whether an input is accepted; and the finding, if it is one."""
    folder = place / "input"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    code, log = in_child(lambda: trial(folder), place / "log", TIME_LIMIT_S)
    if code == -signal.SIGKILL:
        return False, Finding(kind, number, f"hang: not done within {TIME_LIMIT_S:g} s", log)
    if code < 0:
        return False, Finding(kind, number, f"crash: {signal.Signals(-code).name}", log)
    if code == FOUND or "Traceback (most recent call last)" in log:
        return False, Finding(kind, number, "traceback", log)
    return code == ACCEPTED, None


def fuzz(
    trials: Mapping[Callable[[Path], None], Trial], seed: int, seconds: float, most: int = 10**9
) -> Outcome:
    """Try damaged inputs of all kinds in turn; the same seed makes the same ones.

    Parameters
    ----------
    seconds, most
        It ends after so long, or so many inputs.
    """
    outcome = Outcome()
    for stage in ("register", "preview"):  # known once, and not in each child
        software(stage)
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if os.path.isdir(IN_MEMORY) else None) as temporary:
        place = Path(temporary)
        seeds = {build: sound(build, place / build.__name__) for build in trials}
        for build, trial in trials.items():
            accepted, _ = tried(build.__name__, -1, seeds[build], trial, place)
            assert accepted, f"{build.__name__}: a sound input is refused: {(place / 'log').read_text()}"
        end = time.monotonic() + seconds
        number = 0
        while number < most and time.monotonic() < end:
            build = list(trials)[number % len(trials)]
            files = damaged(seeds[build], Random(f"{seed}:{number}"))
            accepted, finding = tried(build.__name__, number, files, trials[build], place)
            outcome.inputs[build.__name__] += 1
            outcome.accepted[build.__name__] += accepted
            if finding is not None:
                outcome.findings.append(finding)
                keep(finding, files, seed)
            number += 1
    return outcome


def keep(finding: Finding, files: Files, seed: int) -> None:
    """Keep the files of a finding, and what it said."""
    folder = KEPT / f"{finding.kind}-{seed}-{finding.number}"
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "finding.txt").write_text(f"{finding.what}\n{finding.log}")


def report(outcome: Outcome, seed: int, seconds: float) -> str:
    """What was tried and found, in lines."""
    tried_in_all = sum(outcome.inputs.values())
    lines = [f"{tried_in_all} inputs in {seconds:.0f} s ({tried_in_all / max(seconds, 1e-9):.1f} a second)"]
    lines += [
        f"  {kind:16} {number:6} inputs, {outcome.accepted[kind]:6} accepted"
        for kind, number in outcome.inputs.items()
    ]
    places: dict[str, list[Finding]] = {}
    for finding in outcome.findings:
        places.setdefault(finding.place, []).append(finding)
    for place, findings in sorted(places.items(), key=lambda item: -len(item[1])):
        last = (findings[0].log.strip().splitlines() or [""])[-1]
        names = ", ".join(f"{f.kind}-{seed}-{f.number}" for f in findings[:4])
        lines += [f"FOUND {len(findings)} times: {place}", f"    {last[:300]}", f"    {KEPT}/{names}"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="default: by the clock")
    options = parser.parse_args()
    seed = int(time.time()) if options.seed is None else options.seed
    print(f"Seed {seed}", flush=True)
    outcome = fuzz(TRIALS, seed, options.seconds)
    print(report(outcome, seed, options.seconds))
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
