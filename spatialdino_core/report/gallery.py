"""Which micrographs a movie's report shows: a few frames, a closer look, the tracks, further channels."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from spatialdino_core.progress import progress
from spatialdino_core.report.figures import Illustration, illustrate
from spatialdino_core.report.overlays import TAIL_FRAMES, object_outlines, track_paths, track_tails
from spatialdino_core.report.pictures import ColourBar, draw_closer_look, draw_projections
from spatialdino_core.report.projections import Projections, project, robust_limits
from spatialdino_core.report.results import MovieResults

CLOSER_UM = 12.0
MOST_TIME_FRAMES = 60


def project_frames(results: MovieResults) -> dict[int, Projections]:
    """Projections of the frames that are shown, first channel."""
    return {frame: project(results.image, frame) for frame in results.shown}


def frame_pictures(results: MovieResults, images: dict[int, Projections]) -> list[Illustration]:
    """First, middle and last frame at one contrast, with outlines and tails of tracks."""
    limits = robust_limits([image.xy for image in images.values()])
    counts = dict(zip(results.frames, results.objects_per_frame(), strict=True))
    found = []
    for frame, image in images.items():
        labels = project(results.labels, frame)
        lines = [object_outlines(labels), track_tails(results.tracks, frame, image.voxel_um)]
        z, y, x = image.extent_um
        found.append(
            illustrate(
                draw_projections(image, limits, lines),
                title=results.when(frame).capitalize(),
                caption=f"Maximum projections along z (xy) and along y (xz), {x:.3g} × {y:.3g} × {z:.3g} µm. "
                f"Blue: outlines of the {_objects(counts[frame])}. Orange: tracks over the last "
                f"{TAIL_FRAMES} frames. All frames share one contrast.",
                alt=f"Maximum projections of {results.when(frame)} with {_objects(counts[frame])} outlined.",
            )
        )
    return found


def closer_look(results: MovieResults, image: Projections) -> list[Illustration]:
    """The busiest part of the middle frame at full resolution; nothing without objects there."""
    frame = results.middle
    objects = results.objects[results.objects["frame"] == frame]
    if objects.empty:
        return []
    _, y, x = image.voxel_um
    side = min(CLOSER_UM, max(image.extent_um[1:]))
    centre = _busiest(objects[["y", "x"]].to_numpy(np.float64) * (y, x), side)
    corner = _corner(centre / (y, x), np.array([side / y, side / x]), image.xy.shape)
    lines = [object_outlines(project(results.labels, frame)), track_tails(results.tracks, frame, image.voxel_um)]
    figure = draw_closer_look(image, corner, robust_limits([image.xy]), lines, side)
    return [
        illustrate(
            figure,
            title=f"Closer look, {results.when(frame)}",
            caption="The busiest part of the xy projection at full resolution: as it is, and with outlines "
            "(blue) and recent tracks (orange).",
            alt="The part of the middle frame with most objects, bare and with outlines and tracks.",
        )
    ]


def tracks_picture(results: MovieResults) -> list[Illustration]:
    """All tracks over the maximum over time; nothing without a track of two positions."""
    tracks = results.tracks
    path = track_paths(tracks, results.image.voxel_um, results.time(tracks["frame"].to_numpy()))
    if not len(path.xy):
        return []
    frames = _spread(results.frames, MOST_TIME_FRAMES)
    longest: Projections | None = None
    for frame in progress(frames, f"project {results.record.movie}", "frame"):
        image = project(results.image, frame)
        longest = image if longest is None else longest.maximum(image)
    assert longest is not None, "tracks have frames"
    low, high = robust_limits([longest.xy])
    ends = results.time(np.array([results.frames[0], results.frames[-1]]))
    # Half as bright as alone: the tracks are the subject.
    limits, bar = (low, 2 * high - low), ColourBar(results.time_label, float(ends[0]), float(ends[1]))
    seen = "all frames" if len(frames) == len(results.frames) else f"{len(frames)} frames spread over the movie"
    return [
        illustrate(
            draw_projections(longest, limits, [path], bar),
            title="Tracks over time",
            caption=f"All tracks, coloured by time, over the maximum projection of {seen}. A track that keeps "
            "one colour is short; one that runs through all colours was followed throughout.",
            alt=f"{results.tracks_count()} tracks drawn over the maximum projection over time.",
        )
    ]


def channel_pictures(results: MovieResults) -> list[Illustration]:
    """The middle frame of every further channel; tracks belong to the first."""
    found = []
    for channel, name in list(enumerate(results.record.channels))[1 : results.image.shape[1]]:
        image = project(results.image, results.middle, channel)
        found.append(
            illustrate(
                draw_projections(image, robust_limits([image.xy])),
                title=f"Channel {name}, {results.when(results.middle)}",
                caption="Maximum projections at this channel's own contrast. It was deskewed, but particles were "
                f"searched for in {results.record.channels[0]} only.",
                alt=f"Maximum projections of channel {name}.",
            )
        )
    return found


def _busiest(points_um: np.ndarray, side_um: float) -> np.ndarray:
    """The point (y, x) with most others within half a side."""
    tree = cKDTree(points_um)
    counts = tree.query_ball_point(points_um, side_um / 2, return_length=True)
    return points_um[int(np.argmax(counts))]


def _corner(centre: np.ndarray, size: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int]:
    """First row and column of a window around ``centre`` that lies inside the image."""
    row, column = np.clip(centre - size / 2, 0, np.maximum(np.array(shape) - size, 0)).round().astype(int)
    return int(row), int(column)


def _spread(frames: list[int], most: int) -> list[int]:
    """At most so many frames, evenly spread, first and last among them."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int))
    return [frames[index] for index in chosen]


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"
