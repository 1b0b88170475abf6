"""Curves of particles: how many, how bright, how clear, and what happens to them. Not how they move."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from spatialdino_core.report.figures import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    VERMILION,
    Illustration,
    add_legend,
    curve_axes,
    illustrate,
)
from spatialdino_core.report.results import MovieResults

MOST_BINS = 60
EVENT_COLOURS = {"appearance": GREEN, "disappearance": VERMILION, "fission": BLUE, "fusion": ORANGE}


def particle_curves(results: MovieResults) -> list[Illustration]:
    """Every curve that the movie has data for."""
    found = []
    over_time = len(results.frames) > 1
    if over_time:
        found.append(counts_over_time(results))
    if over_time and len(results.objects):
        found.append(intensity_over_time(results))
    if len(results.objects):
        found.append(snr_histogram(results.objects["snr"].to_numpy(np.float64)))
    if over_time and len(results.events):
        found.append(events_over_time(results))
    return found


def counts_over_time(results: MovieResults) -> Illustration:
    """Number of particles in every frame."""
    counts = results.objects_per_frame()
    figure, axes = curve_axes("time (s)", "particles")
    axes.plot(results.time(np.array(results.frames)), counts, color=BLUE, marker=".", ms=4, lw=1.2)
    axes.set_ylim(0, max(counts.max() * 1.1, 1))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return illustrate(
        figure,
        title="Particles per frame",
        caption="A sudden step or a steady fall speaks of focus, bleaching or drift rather than of biology.",
        alt=f"Particles per frame: median {np.median(counts):g}, from {counts.min()} to {counts.max()}.",
    )


def intensity_over_time(results: MovieResults) -> Illustration:
    """Brightness of the particles, by frame; the table's intensities are above the local background."""
    quartiles = signal_quartiles(results.objects)
    time = results.time(quartiles.index.to_numpy())
    figure, axes = curve_axes("time (s)", "intensity (counts)")
    axes.fill_between(
        time, quartiles[0.25], quartiles[0.75], color=GREEN, alpha=0.3, lw=0, label="middle half"
    )
    axes.plot(time, quartiles[0.5], color=GREEN, lw=1.5, label="median")
    axes.set_ylim(bottom=0)
    add_legend(axes)
    first, last = quartiles[0.5].iloc[0], quartiles[0.5].iloc[-1]
    return illustrate(
        figure,
        title="Intensity over time",
        caption="Mean intensity of each particle above its local background; a steady fall is bleaching.",
        alt=f"Median intensity of particles above background: {first:.4g} in the first frame, "
        f"{last:.4g} in the last.",
    )


def signal_quartiles(objects: pd.DataFrame) -> pd.DataFrame:
    """Quartiles per frame (columns 0.25, 0.5, 0.75) of mean intensity above background, counts."""
    return objects.groupby("frame")["intensity_mean"].quantile(np.array([0.25, 0.5, 0.75])).unstack()


def snr_histogram(snr: np.ndarray) -> Illustration:
    """Signal-to-noise ratios of all objects."""
    return histogram(
        snr[np.isfinite(snr)],
        "signal-to-noise ratio",
        "objects",
        BLUE,
        title="Signal-to-noise ratio",
        caption="Of every object in every frame. A peak at the lower end means that many particles are near "
        "the detection threshold, where some are missed.",
    )


def events_over_time(results: MovieResults) -> Illustration:
    """Candidate events per frame, by kind."""
    counts = pd.crosstab(results.events["frame"], results.events["event"])
    counts = counts.reindex(range(results.frames[0], results.frames[-1] + 1), fill_value=0)
    width = float(np.diff(results.time(counts.index.to_numpy())).min())
    figure, axes = curve_axes("time (s)", "events")
    time, bottom = results.time(counts.index.to_numpy()), np.zeros(len(counts))
    for name in counts.columns:
        colour = EVENT_COLOURS.get(str(name), INK)
        axes.bar(time, counts[name], 0.9 * width, bottom, color=colour, label=str(name))
        bottom += counts[name].to_numpy()
    axes.set_xlim(time[0] - width / 2, time[-1] + width / 2)
    axes.set_ylim(0, max(bottom.max() * 1.35, 1))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.legend(frameon=False, labelcolor=INK, fontsize=8, ncols=2, loc="upper center")
    totals = ", ".join(f"{count} × {name}" for name, count in counts.sum().items())
    return illustrate(
        figure,
        title="Candidate events",
        caption="Where tracks begin, end, merge or divide; candidates for review, listed in events.csv.",
        alt=f"Events over time: {totals}.",
    )


def histogram(
    values: np.ndarray,
    x_label: str,
    y_label: str,
    colour: str,
    *,
    title: str,
    caption: str,
    whole: bool = False,
    share: bool = False,
) -> Illustration:
    """A histogram with its median; the longest hundredth of a tail is gathered in the last bin.

    Parameters
    ----------
    whole
        Whether the values are whole numbers: then bins are centred on them.
    share
        Whether they are shares: then bins span 0 to 1, the same for every movie.
    """
    figure, axes = curve_axes(x_label, y_label)
    if len(values):
        edges = np.linspace(0, 1, 21) if share else bin_edges(values, whole=whole)
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.75)
        middle = float(np.median(values))
        axes.axvline(middle, color=INK, lw=1, ls="--", label=f"median {middle:.3g}")
        axes.set_ylim(0, counts.max() * 1.15)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        if whole:
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        add_legend(axes)
    return illustrate(
        figure,
        title=title,
        caption=caption,
        alt=f"Histogram of {x_label}: {spread_in_words(values, y_label)}.",
    )


def bin_edges(values: np.ndarray, *, whole: bool) -> np.ndarray:
    """Edges of equal bins up to percentile 99 and a bit: Freedman & Diaconis' width (1981), 10 to 60 bins."""
    low, high = float(values.min()), float(min(values.max(), 1.05 * np.percentile(values, 99)))
    if whole:
        step = max(1, int(np.ceil((high - low + 1) / MOST_BINS)))
        return np.arange(low - 0.5, max(np.floor(high), low) + step, step)
    if high <= low:
        return np.array([low - 0.5, low + 0.5])
    bins = np.histogram_bin_edges(values, "fd", (low, high))
    return np.linspace(low, high, min(max(len(bins), 11), MOST_BINS + 1))


def spread_in_words(values: np.ndarray, name: str) -> str:
    """Number, median and middle nine tenths."""
    if not len(values):
        return f"no {name}"
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"{len(values)} {name}, median {middle:.3g}, nine tenths between {low:.3g} and {high:.3g}"
