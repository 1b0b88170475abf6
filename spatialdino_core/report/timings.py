"""How long the stages of a movie took, from Snakemake's benchmark tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

STAGES = ("register", "preview", "deskew", "shard", "features", "segment", "track")
SHARED_STAGES = ("pretrain", "repair")


@dataclass(frozen=True)
class Timing:
    """Last run of one stage; the sum over its jobs where a movie was split over several.

    Attributes
    ----------
    stage
        Its name.
    seconds
        Wall time, s.
    memory_mb
        Peak resident memory, MB; None where Snakemake could not measure it.
    shared
        Whether all movies share it.
    share
        Fraction of the longest stage, for a bar.
    """

    stage: str
    seconds: float
    memory_mb: float | None
    shared: bool
    share: float

    @property
    def duration(self) -> str:
        """Wall time in words."""
        if self.seconds < 60:
            return f"{self.seconds:.3g} s"
        if self.seconds < 3600:
            minutes, seconds = divmod(int(self.seconds), 60)
            return f"{minutes} min {seconds} s"
        hours, minutes = divmod(round(self.seconds / 60), 60)
        return f"{hours} h {minutes} min"


def timings(benchmarks: Path | str, movie: str) -> list[Timing]:
    """Timings of the stages that have a benchmark, in the order in which they run."""
    folder = Path(benchmarks)
    jobs = [
        (stage, [folder / stage / f"{movie}.tsv", *sorted((folder / stage).glob(f"{movie}.*-*.tsv"))], False)
        for stage in STAGES
    ]
    jobs += [(stage, [folder / f"{stage}.tsv"], True) for stage in SHARED_STAGES]
    rows = [(stage, *_together(paths), shared) for stage, paths, shared in jobs if paths[0].exists()]
    longest = max((seconds for _, seconds, _, _ in rows), default=0.0) or 1.0
    return [
        Timing(stage, seconds, memory, shared, seconds / longest) for stage, seconds, memory, shared in rows
    ]


def _together(paths: list[Path]) -> tuple[float, float | None]:
    """Seconds of all jobs, and the most memory of any."""
    runs = [_last_run(path) for path in paths]
    memory = [each for _, each in runs if each is not None]
    return sum(seconds for seconds, _ in runs), max(memory, default=None)


def _last_run(path: Path) -> tuple[float, float | None]:
    # Snakemake writes "-" or NA for what it could not measure in a short job.
    table = pd.read_csv(path, sep="\t", na_values=["-"])
    row = table.iloc[-1]
    memory = float(row["max_rss"])
    return float(row["s"]), None if pd.isna(memory) else memory
