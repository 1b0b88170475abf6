"""Curves of tracks: how long, how far per frame, how they spread, how sure the links are."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from spatialdino_core.report.figures import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    VERMILION,
    Illustration,
    add_legend,
    curve_axes,
    illustrate,
)
from spatialdino_core.report.motion import (
    Diffusion,
    MeanSquaredDisplacement,
    displacements_um,
    fit_diffusion,
    mean_squared_displacement,
    track_lengths,
)
from spatialdino_core.report.particle_curves import histogram
from spatialdino_core.report.results import MovieResults


def motion_curves(results: MovieResults) -> list[Illustration]:
    """Every curve that the movie's tracks have data for."""
    tracks = results.tracks
    if len(results.frames) < 2 or tracks.empty:
        return []
    found = [length_histogram(track_lengths(tracks))]
    steps = np.linalg.norm(displacements_um(tracks), axis=1)
    if len(steps):
        found.append(step_histogram(steps))
    msd = mean_squared_displacement(tracks, results.clock.usual_s)
    if len(msd.lag):
        found.append(msd_curve(msd, dimensions(results)))
    confidence = tracks["link_confidence"].to_numpy(np.float64)
    if np.isfinite(confidence).any():
        found.append(confidence_histogram(confidence[np.isfinite(confidence)]))
    return found


def dimensions(results: MovieResults) -> int:
    """Along how many axes particles can be seen to move: 2 in a single plane."""
    return 3 if results.image.shape[2] > 1 else 2


def length_histogram(lengths: np.ndarray) -> Illustration:
    """Frames from the beginning to the end of each track."""
    return histogram(
        lengths.astype(np.float64),
        "track length (frames)",
        "tracks",
        GREEN,
        title="Track length",
        caption="From first to last position of each track, gaps included. Many tracks of one or two frames "
        "are false detections or broken tracks.",
        whole=True,
    )


def step_histogram(steps_um: np.ndarray) -> Illustration:
    """Distances from frame to frame."""
    return histogram(
        steps_um,
        "step (µm)",
        "steps",
        ORANGE,
        title="Step displacement",
        caption="Distance that a particle moves from one frame to the next, in 3D. If it ends abruptly, the "
        "tracker's search radius cuts it off.",
    )


def confidence_histogram(confidence: np.ndarray) -> Illustration:
    """How sure the tracker is of each link."""
    return histogram(
        confidence,
        "link confidence",
        "links",
        PURPLE,
        title="Link confidence",
        caption="How clearly each link is better than its alternatives: 1 is beyond doubt.",
        share=True,
    )


def msd_curve(msd: MeanSquaredDisplacement, dimensions: int) -> Illustration:
    """Mean squared displacement over lag, log-log, with the line of free diffusion where it can be fitted."""
    time_s = msd.time_s
    fit = fit_diffusion(msd, dimensions)
    figure, axes = curve_axes("lag (s)", "MSD (µm²)")
    axes.loglog(time_s, msd.msd_um2, "o", ms=4, color=BLUE, label="all tracks")
    if fit:
        line = 2 * dimensions * fit.coefficient_um2_per_s * time_s + fit.offset_um2
        axes.loglog(time_s[line > 0], line[line > 0], color=VERMILION, lw=1.2, label="free diffusion")
        # Directed motion at the first lag's distance, to compare slopes with.
        axes.loglog(
            time_s, msd.msd_um2[0] * (time_s / time_s[0]) ** 2, color=INK, lw=1, ls=":", label="slope 2"
        )
        axes.set_ylim(msd.msd_um2.min() / 2, msd.msd_um2.max() * 3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axis.set_minor_locator(NullLocator())
    add_legend(axes)
    return illustrate(
        figure,
        title="Mean squared displacement",
        caption=f"Over all tracks and pairs of frames. {describe_fit(fit, dimensions)}",
        alt=f"Mean squared displacement from {msd.msd_um2[0]:.3g} µm² at {time_s[0]:.3g} s to "
        f"{msd.msd_um2[-1]:.3g} µm² at {time_s[-1]:.3g} s.",
    )


def describe_fit(fit: Diffusion | None, dimensions: int) -> str:
    """The fit in words."""
    if fit is None:
        return "Too few lags, or no motion, to fit a diffusion coefficient."
    return (
        f"Fit of {2 * dimensions} D t + offset to the first {fit.lags} lags: "
        f"D = {fit.coefficient_um2_per_s:.3g} µm²/s, offset {fit.offset_um2:.2g} µm²; "
        f"slope on these axes {fit.exponent:.2f} (1: free diffusion, 2: directed)."
    )
