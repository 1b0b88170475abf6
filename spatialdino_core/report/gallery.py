"""Which micrographs a movie's report shows: a few frames, a closer look, the tracks, further channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from spatialdino_core.progress import progress
from spatialdino_core.report.facts import count
from spatialdino_core.report.figures import Illustration, illustrate
from spatialdino_core.report.overlays import TAIL_FRAMES, object_outlines, track_paths, track_tails
from spatialdino_core.report.pictures import ColourBar, Lines, draw_pair, draw_projections
from spatialdino_core.report.projections import Projections, project, robust_limits
from spatialdino_core.report.results import MovieResults
from spatialdino_core.statistics import evenly_spread

CLOSER_UM = 12.0
MOST_TIME_FRAMES = 60
MOST_POINTS = 20_000


def project_frames(results: MovieResults) -> dict[int, Projections]:
    """Projections of the frames that are shown, first channel."""
    return {frame: project(results.image, frame) for frame in results.shown}


def particle_pictures(results: MovieResults, images: dict[int, Projections]) -> list[Illustration]:
    """First, middle and last frame with outlines and tails of tracks, and a closer look at the middle one."""
    limits = robust_limits([image.xy for image in images.values()])
    lines = {frame: _lines(results, frame) for frame in images}
    found = [_frame_picture(results, frame, image, limits, lines[frame]) for frame, image in images.items()]
    objects = results.objects[results.objects["frame"] == results.middle]
    if len(objects):
        image = images[results.middle]
        part = image.part(_busiest(objects, image), CLOSER_UM)
        found.append(
            illustrate(
                draw_pair(part, robust_limits([image.xy]), lines[results.middle]),
                title=f"Closer look, {results.when(results.middle)}",
                caption="The busiest part of the xy projection at full resolution: as it is, and with "
                "outlines (blue) and recent tracks (orange).",
                alt="The part of the middle frame with most particles, bare and with outlines and tracks.",
            )
        )
    return found


def _frame_picture(
    results: MovieResults,
    frame: int,
    image: Projections,
    limits: tuple[float, float],
    lines: list[Lines],
) -> Illustration:
    z, y, x = image.extent_um
    particles = count(int((results.objects["frame"] == frame).sum()), "particle")
    over_time = (
        f" Orange: tracks over the last {TAIL_FRAMES} frames. The frames shown share one contrast."
        if len(results.shown) > 1
        else ""
    )
    return illustrate(
        draw_projections(image, limits, lines),
        title=results.when(frame).capitalize(),
        caption=f"Maximum projections along z (xy) and along y (xz), {x:.3g} × {y:.3g} × {z:.3g} µm. "
        f"Blue: outlines of {particles}.{over_time}",
        alt=f"Maximum projections of {results.when(frame)} with {particles} outlined.",
    )


def track_pictures(results: MovieResults) -> list[Illustration]:
    """All tracks over the maximum over time, whole and from close; nothing without a single step."""
    tracks = results.tracks
    path = track_paths(tracks, results.image.voxel_um, results.time(tracks["frame"].to_numpy()))
    if not len(path.xy):
        return []
    frames = [results.frames[index] for index in evenly_spread(len(results.frames), MOST_TIME_FRAMES)]
    longest = _maximum_over_time(results, frames)
    low, high = robust_limits([longest.xy])
    # Half as bright as alone: the tracks are the subject.
    limits = (low, 2 * high - low)
    ends = results.time(np.array([results.frames[0], results.frames[-1]]))
    bar = ColourBar("time (s)", float(ends[0]), float(ends[1]))
    seen = (
        "all frames" if len(frames) == len(results.frames) else f"{len(frames)} frames spread over the movie"
    )
    found = [
        illustrate(
            draw_projections(longest, limits, [path], bar),
            title="Tracks over time",
            caption=f"All tracks, coloured by time, over the maximum projection of {seen}. A track that "
            "keeps one colour is short; one that runs through all colours was followed throughout.",
            alt=f"{results.tracks_count()} tracks drawn over the maximum projection over time.",
        )
    ]
    if max(longest.extent_um[1:]) > 1.5 * CLOSER_UM:
        part = longest.part(_busiest(tracks, longest), CLOSER_UM)
        found.append(
            illustrate(
                draw_projections(part, limits, [replace(path, width_pt=1.4)], bar),
                title="Closer look at the tracks",
                caption="Where most positions lie, from above: tracks at different depths may seem to cross.",
                alt="The busiest part of the picture of all tracks, enlarged.",
            )
        )
    return found


def channel_pictures(results: MovieResults) -> list[Illustration]:
    """The middle frame of every further channel; tracks belong to the first."""
    found = []
    for channel, name in list(enumerate(results.record.channels))[1 : results.image.shape[1]]:
        image = project(results.image, results.middle, channel)
        found.append(
            illustrate(
                draw_projections(image, robust_limits([image.xy])),
                title=f"Channel {name}, {results.when(results.middle)}",
                caption="Maximum projections at this channel's own contrast. It was deskewed, but particles "
                f"were searched for in {results.record.channels[0]} only.",
                alt=f"Maximum projections of channel {name}.",
            )
        )
    return found


def _lines(results: MovieResults, frame: int) -> list[Lines]:
    shown = results.objects.loc[results.objects["frame"] == frame, "label"].to_numpy()
    labels = project(results.labels, frame, labels=shown)
    return [object_outlines(labels), track_tails(results.tracks, frame, labels.voxel_um)]


def _maximum_over_time(results: MovieResults, frames: list[int]) -> Projections:
    found = project(results.image, frames[0])
    for frame in progress(frames[1:], f"project {results.record.movie}", "frame", total=len(frames), done=1):
        found = found.maximum(project(results.image, frame))
    return found


def _busiest(table: pd.DataFrame, image: Projections) -> tuple[float, float]:
    """Position (y, x), µm, of the row with most others in the square around it."""
    points = table[["y", "x"]].to_numpy(np.float64) * image.voxel_um[1:]
    points = points[:: -(-len(points) // MOST_POINTS)]
    counts = cKDTree(points).query_ball_point(points, CLOSER_UM / 2, p=np.inf, return_length=True)
    y, x = points[int(np.argmax(counts))]
    return float(y), float(x)
