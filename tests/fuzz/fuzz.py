"""Damaged inputs of every kind against everything that reads them: python tests/fuzz/fuzz.py --seconds 60

They are read in child processes, under limits of time and memory. Each must end in success or in a
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
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
BATCH = 8
"""Inputs of a kind that one child process reads."""
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
    ((code, log),) = in_child([lambda: build(folder) is None], folder.with_suffix(".log"), 300.0)
    assert code == ACCEPTED, log
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def in_child(calls: Sequence[Callable[[], bool]], log: Path, limit_s: float) -> list[tuple[int, str]]:
    """Call one after the other in a child process: a fork costs as much as a call.

    Returns
    -------
    list
        How each ended: `ACCEPTED`, `REFUSED`, `FOUND`, or a signal as a negative number, with what it
        printed; none after a signal, which is ``SIGKILL`` for what took longer than the limit.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_the_child(calls, log, writing, limit_s)
    os.close(writing)
    outcomes: list[tuple[int, str]] = []
    while len(outcomes) < len(calls):
        ready, _, _ = select.select([reading], [], [], limit_s)
        if not ready:
            os.kill(child, signal.SIGKILL)
            break
        code = os.read(reading, 1)
        if not code:  # it has ended
            break
        outcomes.append((code[0], _log(log, len(outcomes)).read_text(errors="replace")))
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if len(outcomes) < len(calls):
        said = _log(log, len(outcomes)).read_text(errors="replace")
        outcomes.append((os.waitstatus_to_exitcode(status), said))
    return outcomes


def _log(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")


def _be_the_child(calls: Sequence[Callable[[], bool]], log: Path, told: int, limit_s: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY_LIMIT,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number, call in enumerate(calls):
        descriptor = os.open(_log(log, number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        faulthandler.dump_traceback_later(0.8 * limit_s)  # where a hang is
        try:
            code = ACCEPTED if call() else REFUSED
        except BadInputError as error:
            print(error)
            code = REFUSED
        except BaseException:
            traceback.print_exc()
            code = FOUND
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(told, bytes([code]))
    os._exit(0)


def tried(kind: str, inputs: Mapping[int, Files], trial: Trial, place: Path) -> dict[int, Finding | bool]:
    """What becomes of numbered inputs of one kind: accepted or not, or a finding."""
    found: dict[int, Finding | bool] = {}
    while waiting := [number for number in inputs if number not in found]:
        calls = [partial(_written_and_tried, inputs[number], trial, place / "input") for number in waiting]
        outcomes = in_child(calls, place / "log", TIME_LIMIT_S)
        for number, (code, log) in zip(waiting, outcomes, strict=False):
            what = ""
            if code == -signal.SIGKILL:
                what = f"hang: not done within {TIME_LIMIT_S:g} s"
            elif code < 0:
                what = f"crash: {signal.Signals(-code).name}"
            elif code == FOUND or "Traceback (most recent call last)" in log:
                what = "traceback"
            found[number] = Finding(kind, number, what, log) if what else code == ACCEPTED
    return found


def _written_and_tried(files: Files, trial: Trial, folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return trial(folder)


def fuzz(
    trials: Mapping[Callable[[Path], None], Trial], seed: int, seconds: float, most: int = 10**9
) -> Outcome:
    """Try damaged inputs of all kinds in turn; the same seed makes the same ones.

    Parameters
    ----------
    seconds, most
        It ends after so long, or when so many inputs were tried, in whole batches.
    """
    outcome = Outcome()
    for stage in ("register", "preview"):  # known once, and not in each child
        software(stage)
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if os.path.isdir(IN_MEMORY) else None) as temporary:
        place = Path(temporary)
        seeds = {build: sound(build, place / build.__name__) for build in trials}
        for build, trial in trials.items():
            accepted = tried(build.__name__, {0: seeds[build]}, trial, place)[0]
            assert accepted is True, f"{build.__name__}: a sound input is refused: {accepted}"
        end = time.monotonic() + seconds
        number = 0
        while number < most and time.monotonic() < end:
            build = list(trials)[number // BATCH % len(trials)]
            inputs = {n: damaged(seeds[build], Random(f"{seed}:{n}")) for n in range(number, number + BATCH)}
            for n, found in tried(build.__name__, inputs, trials[build], place).items():
                outcome.inputs[build.__name__] += 1
                outcome.accepted[build.__name__] += found is True
                if isinstance(found, Finding):
                    outcome.findings.append(found)
                    keep(found, inputs[n], seed)
            number += BATCH
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
