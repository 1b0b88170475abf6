"""What all movies took, stage by stage, and a forecast of what a change will cost.

Not how the times of one movie are read: that is in `timings.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from spatialdino_core.report.timings import SHARED_STAGES, STAGES, Timing, duration, size, timings
from spatialdino_core.versions import STAGES as IN_ORDER
from spatialdino_core.versions import followers

NEW_FRAMES = 5
CHANGES = {
    "another setting of tracking": "track",
    "another setting of segmentation": "segment",
    "another setting of deskew": "deskew",
    "another model": "repair",
}
"""What people change, and the first stage that runs again."""
OF_A_MOVIE = (*STAGES, "report")
OF_ALL = ("review", *SHARED_STAGES)
UNMEASURED = "summary"
"""The page that the forecast is on; it cannot know what it takes itself."""


@dataclass(frozen=True)
class Cost:
    """A sum of processor times, s, and the stages that could not be added."""

    seconds: float
    unknown: tuple[str, ...] = ()
    known: bool = True

    @classmethod
    def of(cls, parts: Iterable[tuple[str, float | None]]) -> Cost:
        """Of stages with their processor times."""
        listed = list(parts)
        unknown = dict.fromkeys(stage for stage, seconds in listed if seconds is None)
        known = [seconds for _, seconds in listed if seconds is not None]
        return cls(sum(known), tuple(unknown), bool(known))

    @property
    def text(self) -> str:
        """For people: a lower bound where something could not be added, a dash where nothing could."""
        if not self.known:
            return "–"
        return f"{'at least ' if self.unknown else ''}{duration(self.seconds)}"


@dataclass(frozen=True)
class Forecast:
    """What a change will cost."""

    change: str
    stages: tuple[str, ...]
    cost: Cost


@dataclass(frozen=True)
class Spending:
    """What is on the page: a row per stage, a row per movie, and what changes cost."""

    stages: list[list[str]]
    movies: list[tuple[str, list[str]]]
    forecasts: list[Forecast]


def spending(benchmarks: Path | str, folders: Mapping[str, Path]) -> Spending:
    """What the movies took and what changes will cost.

    Parameters
    ----------
    benchmarks
        Folder of Snakemake's benchmark tables.
    folders
        Movie to the folder of its results.
    """
    movies = {movie: timings(benchmarks, movie, folder, OF_A_MOVIE, ()) for movie, folder in folders.items()}
    shared = timings(benchmarks, "", "", (), OF_ALL) if movies else []
    by_stage: dict[str, list[Timing]] = {}
    for timing in (each for own in [*movies.values(), shared] for each in own):
        by_stage.setdefault(timing.stage, []).append(timing)
    return Spending(
        stages=[_stage_row(stage, by_stage[stage]) for stage in IN_ORDER if stage in by_stage],
        movies=[(movie, _movie_row(own)) for movie, own in movies.items() if own],
        forecasts=[*_forecasts(movies, shared), *_growth(movies, shared)] if by_stage else [],
    )


def _stage_row(stage: str, found: Sequence[Timing]) -> list[str]:
    frames = [each.frames for each in found if each.frames and each.frames.processor_s is not None]
    spent = sum(each.number * (each.processor_s or 0.0) for each in frames)
    number = sum(each.number for each in frames)
    return [
        stage,
        "all" if found[0].shared else str(len(found)),
        _whole(found).text,
        duration(spent / number if number else None),
        *_resources(found),
    ]


def _movie_row(found: Sequence[Timing]) -> list[str]:
    return [_whole(found).text, *_resources(found)]


def _whole(found: Iterable[Timing]) -> Cost:
    return Cost.of((each.stage, each.whole_s) for each in found)


def _resources(found: Sequence[Timing]) -> list[str]:
    """Most memory of any job, and what all read and wrote."""
    memory = [each.memory_mb for each in found if each.memory_mb is not None]
    moved = [
        [value for value in values if value is not None]
        for values in ([each.read_mb for each in found], [each.written_mb for each in found])
    ]
    return [size(max(memory, default=None)), *(size(sum(each) if each else None) for each in moved)]


def _forecasts(movies: Mapping[str, Sequence[Timing]], shared: Sequence[Timing]) -> list[Forecast]:
    """Changes that concern all movies."""
    everything = [*(each for own in movies.values() for each in own), *shared]
    present = {each.stage for each in everything}
    found = []
    for change, first in CHANGES.items():
        if first not in present:
            continue
        again = followers(first, present)
        parts = [each for each in shared if each.stage in again]
        for own in movies.values():
            parts += [each for each in own if _runs_again(each, own, first, again)]
        found.append(_forecast(change, [(each.stage, each.whole_s) for each in parts]))
    return found


def _runs_again(timing: Timing, own: Sequence[Timing], first: str, again: Sequence[str]) -> bool:
    """Whether a stage of a movie does. Whether features are left out rests on segmentation, and what follows
    on no model then.
    """
    without = any(each.left_out for each in own)
    if first == "segment" and timing.left_out:
        return True
    return timing.stage in again and not (first == "repair" and without)


def _growth(movies: Mapping[str, Sequence[Timing]], shared: Sequence[Timing]) -> list[Forecast]:
    """What more data cost: nothing of the model, which stays as it is."""
    again = set(followers("register", {*OF_A_MOVIE, "review"})) - {"shard"}
    reviewed = [(each.stage, each.whole_s) for each in shared if each.stage in again]
    measured = {movie: [e for e in own if e.stage in again] for movie, own in movies.items()}
    return [
        _forecast(f"{NEW_FRAMES} more frames of a movie", _mean(measured, _of_new_frames) + reviewed),
        _forecast("one more movie", _mean(measured, lambda timing: timing.whole_s) + reviewed),
    ]


def _of_new_frames(timing: Timing) -> float | None:
    frames = timing.frames
    if frames is None:
        return 0.0 if timing.left_out else timing.whole_s
    if frames.processor_s is None:
        return None
    return frames.processor_s * (NEW_FRAMES + min(frames.reach, frames.number))


def _mean(
    movies: Mapping[str, Sequence[Timing]], cost: Callable[[Timing], float | None]
) -> list[tuple[str, float | None]]:
    """Mean cost of each stage over the movies of which it is known."""
    found: dict[str, list[float]] = {}
    for timing in (each for own in movies.values() for each in own):
        known = found.setdefault(timing.stage, [])
        if (seconds := cost(timing)) is not None:
            known.append(seconds)
    return [(stage, fmean(known) if known else None) for stage, known in found.items()]


def _forecast(change: str, parts: Sequence[tuple[str, float | None]]) -> Forecast:
    stages = {stage for stage, _ in parts}
    again = [stage for stage in IN_ORDER if stage in stages]
    return Forecast(change, (*again, UNMEASURED), Cost.of(parts))
