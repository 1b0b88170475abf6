"""The summary of a run: every movie with its numbers, or the reason why it was left out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spatialdino_core.files import read_json
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.page import write_page
from spatialdino_core.quality.decisions import write_table
from spatialdino_core.report.facts import Fact, flatten, text
from spatialdino_core.report.figures import BLUE, FONT_PT, GREEN, INK, Illustration, illustrate, style_axes
from spatialdino_core.report.motion import displacements_um, track_lengths
from spatialdino_core.report.results import TRACK_COLUMNS, in_tracks, read_table
from spatialdino_core.report.spending import spending
from spatialdino_core.report.training import read_training

LENGTH_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What was found in one movie; medians are None where there is nothing to take them of.

    Attributes
    ----------
    frames, skipped_frames
        Finished and left-out time points.
    particles_per_frame
        Mean number of objects in tracks.
    median_snr
        Over these.
    tracks
        How many.
    median_track_length_frames
        From first to last position, both included.
    median_step_um
        Distance from one frame to the next, µm.
    """

    frames: int
    skipped_frames: int
    particles_per_frame: float
    median_snr: float | None
    tracks: int
    median_track_length_frames: float | None
    median_step_um: float | None


HEADINGS = {
    "frames": "frames",
    "skipped_frames": "left out",
    "particles_per_frame": "particles per frame",
    "median_snr": "median SNR",
    "tracks": "tracks",
    "median_track_length_frames": "median length (frames)",
    "median_step_um": "median step (µm)",
}
"""Columns of the table and what the page calls them."""


@dataclass(frozen=True)
class _Movie:
    """Numbers of a movie and the distributions behind them."""

    numbers: Numbers
    counts: pd.Series
    lengths: np.ndarray


def summarise(
    standings: Mapping[str, Sequence[str]],
    tracks: Sequence[Path | str],
    repair: Path | str | None,
    page: Path | str,
    table: Path | str,
    training: Path | str | None = None,
    benchmarks: Path | str | None = None,
) -> None:
    """Publish the page and the table of all movies.

    Parameters
    ----------
    standings
        Movie to its verdict, the reason, and who decided.
    tracks
        ``tracks.csv`` of every accepted movie, in the movie's results folder.
    repair
        JSON report of the model; ``None`` where no movie was accepted and none was needed.
    page, table
        HTML page and tab-separated table to publish.
    training
        ``metrics.csv`` of the model's training, which is shown with whatever else lies beside it; ``None``
        where the model was not trained in this run.
    benchmarks
        Folder of Snakemake's benchmark tables; ``None`` to show no times.
    """
    movies = {Path(path).parent.name: _read_movie(Path(path)) for path in tracks}
    links = {
        Path(path).parent.name: Path(
            os.path.relpath(Path(path).with_name("report.html"), Path(page).parent)
        ).as_posix()
        for path in tracks
    }
    rows = [
        {"movie": movie, "verdict": verdict, "reason": " ".join(reason.split()), "decided_by": decided_by}
        | (_cells(movies[movie].numbers) if movie in movies else {})
        for movie, (verdict, reason, decided_by) in standings.items()
    ]
    write_table(table, ["movie", "verdict", "reason", "decided_by", *HEADINGS], rows)
    write_page(
        page,
        Path(__file__).with_name("templates") / "summary.html",
        headings=list(HEADINGS.values()),
        found=[(row, [row[name] for name in HEADINGS]) for row in rows if row["movie"] in movies],
        left_out=[row for row in rows if row["movie"] not in movies],
        pictures=_small_multiples(movies),
        links=links,
        model=_model_facts(read_json(repair)) if repair else [],
        training=read_training(Path(training)) if training else None,
        spent=spending(benchmarks, {Path(path).parent.name: Path(path).parent for path in tracks})
        if benchmarks
        else None,
    )


def _model_facts(report: Mapping[str, Any]) -> list[Fact]:
    """What a reader wants of the model's report; all of it is in the file."""
    facts = {name: report[name] for name in ("decision", "reasons", "steps", "weights") if report.get(name)}
    return [*flatten(facts), Fact("whole report", "model/repair.json")]


def _read_movie(tracks: Path) -> _Movie:
    record = StageRecord.read(tracks.with_name("labels.json"))
    frames = sorted(record.checksums)
    rows = read_table(tracks, TRACK_COLUMNS)
    objects = in_tracks(read_table(tracks.with_name("objects.parquet"), ["frame", "label", "snr"]), rows)
    counts = objects["frame"].value_counts().reindex(frames, fill_value=0)
    lengths = track_lengths(rows)
    raw = read_json(tracks.with_name("movie.json"))
    numbers = Numbers(
        frames=len(frames),
        skipped_frames=raw["frames"] - len(frames),
        particles_per_frame=float(counts.mean()) if frames else 0.0,
        median_snr=_median(objects["snr"].to_numpy(np.float64)),
        tracks=len(lengths),
        median_track_length_frames=_median(lengths),
        median_step_um=_median(np.linalg.norm(displacements_um(rows), axis=1)),
    )
    return _Movie(numbers, counts, lengths)


def _median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else None


def _cells(numbers: Numbers) -> dict[str, str]:
    return {name: "" if value is None else text(value) for name, value in asdict(numbers).items()}


def _small_multiples(movies: Mapping[str, _Movie]) -> list[Illustration]:
    """One small picture per movie, all on the same axes, so that they compare at a glance."""
    most = max((int(movie.counts.max()) for movie in movies.values() if len(movie.counts)), default=0)
    last = max((int(movie.counts.index.max()) for movie in movies.values() if len(movie.counts)), default=0)
    longest = max((int(movie.lengths.max()) for movie in movies.values() if movie.lengths.size), default=1)
    edges = np.arange(0.5, longest + 1, max(1, -(-longest // LENGTH_BINS)))
    edges = np.append(edges, edges[-1] + np.diff(edges)[-1]) if edges[-1] < longest else edges
    return [
        illustrate(
            _small_multiple(movie, last, most, edges),
            title=name,
            caption="",
            alt=f"{name}: particles per frame over time, and how long its tracks are.",
        )
        for name, movie in movies.items()
    ]


def _small_multiple(movie: _Movie, last: int, most: int, edges: np.ndarray) -> Figure:
    figure = Figure(figsize=(4.4, 1.5), facecolor="none", layout="constrained")
    counts, lengths = figure.subplots(1, 2)
    style_axes(counts, "frame", "particles")
    counts.plot(movie.counts.index, movie.counts, color=BLUE, lw=1.2, marker=".", ms=3)
    counts.set_xlim(-0.5, last + 0.5)
    counts.set_ylim(0, max(1.1 * most, 1))
    style_axes(lengths, "track length (frames)", "share")
    share = np.histogram(movie.lengths, edges)[0] / max(len(movie.lengths), 1)
    lengths.stairs(share, edges, fill=True, color=GREEN, alpha=0.75)
    lengths.set_xlim(edges[0], edges[-1])
    lengths.set_ylim(0, 1)
    for axes in (counts, lengths):
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(colors=INK, labelsize=FONT_PT - 2)
    return figure
