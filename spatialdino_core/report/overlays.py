"""Lines over micrographs: outlines of objects, tails of tracks, whole tracks. In µm, voxel 0 centred at 0."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spatialdino_core.report.figures import ORANGE, SKY
from spatialdino_core.report.pictures import Lines
from spatialdino_core.report.projections import Projections, outlines

TAIL_FRAMES = 8


def object_outlines(labels: Projections) -> Lines:
    """Borders of projected labels."""
    z, y, x = labels.voxel_um
    return Lines(outlines(labels.xy, (y, x)), outlines(labels.xz, (z, x)), SKY)


def track_tails(tracks: pd.DataFrame, frame: int, voxel_um: tuple[float, float, float]) -> Lines:
    """The last steps of every track that is there in ``frame``."""
    present = tracks.loc[tracks["frame"] == frame, "track_id"]
    recent = (tracks["frame"] <= frame) & (tracks["frame"] > frame - TAIL_FRAMES)
    path = track_paths(tracks[recent & tracks["track_id"].isin(present)], voxel_um, times=None)
    return Lines(path.xy, path.xz, ORANGE, width_pt=1.1)


def track_paths(
    tracks: pd.DataFrame, voxel_um: tuple[float, float, float], times: np.ndarray | None
) -> Lines:
    """All steps of all tracks, gaps bridged by straight lines.

    Parameters
    ----------
    tracks
        Columns track_id, frame and, in voxels, z, y, x.
    voxel_um
        Voxel size (z, y, x), µm.
    times
        Per row of ``tracks``: a number that colours the step that ends there; or none.
    """
    order = np.lexsort((tracks["frame"].to_numpy(), tracks["track_id"].to_numpy()))
    identity = tracks["track_id"].to_numpy()[order]
    position = tracks[["z", "y", "x"]].to_numpy(np.float64)[order] * np.array(voxel_um)
    end = np.flatnonzero(identity[1:] == identity[:-1]) + 1
    steps = np.stack([position[end - 1], position[end]], axis=1)
    colour = ORANGE if times is None else np.asarray(times, np.float64)[order][end]
    return Lines(steps[:, :, [2, 1]], steps[:, :, [2, 0]], colour)
