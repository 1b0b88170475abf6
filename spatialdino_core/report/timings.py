"""What the stages of a movie took: Snakemake's benchmark tables, and the phases and frames of the ledgers.

A table is of the last run of a job, which may have had nothing to do but for a few frames; a ledger knows
what each frame took when it was computed. What all of a stage takes is therefore told by both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from spatialdino_core.files import sound_json
from spatialdino_core.movies.ledger import FrameLedger
from spatialdino_core.phases import PHASES

STAGES = ("register", "preview", "deskew", "shard", "features", "segment", "track")
SHARED_STAGES = ("pretrain", "repair")
RECORDS = {"deskew": "deskewed.json", "features": "features.json", "segment": "labels.json"}
"""Stages with a ledger, and their completion records."""


@dataclass(frozen=True)
class Frames:
    """What a ledger knows of a stage's finished frames, each as it was last computed.

    Attributes
    ----------
    number
        How many there are.
    processor_s
        Processor time of one, s; None where earlier releases computed them all.
    phases
        Wall time of all, s, by phase; empty where earlier releases computed them all.
    reach
        Frames before a new one that are computed again with it.
    """

    number: int = 0
    processor_s: float | None = None
    phases: dict[str, float] = field(default_factory=dict)
    reach: int = 0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Last run of one stage; the sum over its jobs where a movie was split over several.

    What Snakemake could not measure, as in a short job, is None.

    Attributes
    ----------
    stage
        Its name.
    seconds, processor_s
        Wall time and processor time, s.
    memory_mb
        Peak resident memory of any job, MB.
    read_mb, written_mb
        What went through to disks, MB.
    shared
        Whether all movies share it.
    left_out
        Whether there are no results of it by choice.
    share
        Fraction of the longest stage, for a bar.
    frames
        Of its ledger; None for a stage without.
    """

    stage: str
    seconds: float
    processor_s: float | None
    memory_mb: float | None
    read_mb: float | None
    written_mb: float | None
    shared: bool
    left_out: bool
    share: float
    frames: Frames | None

    @property
    def whole_s(self) -> float | None:
        """Processor time (s) of all that the stage did for its results; None where it is not known.

        The last run's, unless it did little: then what all frames took.
        """
        if self.frames is None:
            return self.processor_s
        if self.frames.processor_s is None:
            return None
        return max(self.processor_s or 0.0, self.frames.processor_s * self.frames.number)

    @property
    def cells(self) -> list[str]:
        """Its row of a page: times, memory and I/O of the last run, then the phases of all frames."""
        phases = self.frames.phases if self.frames else {}
        return [
            *(duration(self.seconds), duration(self.processor_s)),
            *(size(self.memory_mb), size(self.read_mb), size(self.written_mb)),
            *(duration(phases.get(name)) for name in PHASES),
        ]


def timings(
    benchmarks: Path | str,
    movie: str,
    folder: Path | str,
    stages: Sequence[str] = STAGES,
    shared: Sequence[str] = SHARED_STAGES,
) -> list[Timing]:
    """Timings of the stages that have a benchmark, in the order in which they run.

    Parameters
    ----------
    benchmarks
        Folder of Snakemake's benchmark tables.
    movie, folder
        Name of the movie and folder of its results.
    stages, shared
        Stages to look for: of the movie, and of all movies.
    """
    tables = Path(benchmarks)
    jobs = [
        (stage, [tables / stage / f"{movie}.tsv", *sorted((tables / stage).glob(f"{movie}.*-*.tsv"))])
        for stage in stages
    ] + [(stage, [tables / f"{stage}.tsv"]) for stage in shared]
    runs = {stage: _together(paths) for stage, paths in jobs if paths[0].exists()}
    longest = max((run["s"] or 0.0 for run in runs.values()), default=0.0) or 1.0
    records = {stage: sound_json(Path(folder) / name) for stage, name in RECORDS.items()}
    return [
        Timing(
            stage=stage,
            seconds=run["s"] or 0.0,
            processor_s=run["cpu_time"],
            memory_mb=run["max_rss"],
            read_mb=run["io_in"],
            written_mb=run["io_out"],
            shared=stage in shared,
            left_out="unused" in records.get(stage, {}).get("about", {}),
            share=(run["s"] or 0.0) / longest,
            frames=_frames(Path(folder), stage, records[stage]) if stage in records else None,
        )
        for stage, run in runs.items()
    ]


def _together(paths: Iterable[Path]) -> dict[str, float | None]:
    """Sums over all jobs, and the most memory of any."""
    # Snakemake writes "-" or NA for what it could not measure in a short job.
    runs = pd.DataFrame([pd.read_csv(path, sep="\t", na_values=["-"]).iloc[-1] for path in paths])
    columns = ("s", "cpu_time", "max_rss", "io_in", "io_out")
    known = {name: pd.to_numeric(runs[name]).dropna() for name in columns if name in runs}
    return {
        name: None
        if name not in known or known[name].empty
        else float(known[name].max() if name == "max_rss" else known[name].sum())
        for name in columns
    }


def _frames(folder: Path, stage: str, record: dict[str, Any]) -> Frames | None:
    """Of the frames that a completion record is of; None where none were computed frame by frame."""
    about, path = record.get("about", {}), folder / "ledger" / f"{stage}.jsonl"
    if "key" not in about or not path.exists():
        return None
    entries = [e for e in FrameLedger(path).entries.values() if e.key == about["key"] and not e.skipped]
    timed = [e.seconds for e in entries if "processor" in e.seconds]
    if not timed:
        return Frames(len(entries))
    return Frames(
        len(entries),
        sum(seconds["processor"] for seconds in timed) / len(timed),
        {name: sum(seconds.get(name, 0.0) for seconds in timed) for name in PHASES},
        int(about.get("calibration", {}).get("reach", 0)),
    )


def duration(seconds: float | None) -> str:
    """Seconds for people, in s, min or h; a dash for what is not known."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        minutes, rest = divmod(int(seconds), 60)
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def size(megabytes: float | None) -> str:
    """Megabytes for people; a dash for what is not known."""
    if megabytes is None:
        return "–"
    return f"{megabytes:.3g} MB" if megabytes < 999.5 else f"{megabytes / 1000:.3g} GB"
