"""Peers of `particles.py`: detectors and linkers at their best, threshold and radius chosen by the truth.

Detectors run once per frame and radius with a low threshold and keep their response; the threshold and the
radius that serve are those of the highest F1 over the movie. Linkers get these detections and choose their
search radius by α. Detections outside the imaged region, in the corners that deskewing fills, are taken away
from the peers beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import trackpy
from laptrack import LapTrack
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.feature import blob_log, peak_local_max
from skimage.segmentation import watershed

from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.score.detection import score_detections
from spatialdino_core.score.run import observable
from spatialdino_core.score.tracking import score_tracks
from spatialdino_core.statistics import MAD_TO_SIGMA

POSITION = ["z_um", "y_um", "x_um"]
PSF_UM = np.array([0.32, 0.14, 0.14])
LEAST_Z = 1.5
"""Lowest response that a detector keeps, in robust standard deviations of its filtered frame."""
COARSE, FINE = 14, 8
REACHES_UM = (0.4, 0.6, 0.8, 1.0, 1.3)
MEMORY = 2

Volume = np.ndarray
Table = pd.DataFrame
EVENT = ["event", "frame", *POSITION]
NO_EVENTS = pd.DataFrame(columns=EVENT)
NO_PAIRS = pd.DataFrame(columns=["parent_track_id", "child_track_id"])


@dataclass(frozen=True)
class Frames:
    """The deskewed frames of a movie, the same that our segmentation reads."""

    movie: DeskewedMovie

    def __iter__(self) -> Iterator[tuple[int, Volume]]:
        for frame in range(self.movie.frames):
            yield frame, self.movie.store.read(frame)

    def table(self, frame: int, voxels: np.ndarray, response: np.ndarray) -> Table:
        """Positions (n, 3) in voxels with their response as a table in µm, without those outside."""
        nearest = tuple(np.round(voxels).astype(int).clip(0, np.array(self.movie.valid.shape) - 1).T)
        inside = self.movie.valid[nearest]
        um = voxels[inside] * self.movie.voxel_um + self.movie.store.origin_um
        found = pd.DataFrame(um, columns=POSITION)
        return found.assign(frame=frame, response=response[inside])


def floor_of(filtered: Volume, valid: np.ndarray) -> float:
    """Median plus `LEAST_Z` robust standard deviations of a filtered frame."""
    values = filtered[valid][::7]
    middle = np.median(values)
    return float(middle + LEAST_Z * MAD_TO_SIGMA * np.median(np.abs(values - middle)))


def trackpy_locate(frames: Frames, diameter: tuple[int, int, int]) -> Table:
    """trackpy.locate without a threshold on mass, which is its response."""
    parts = []
    for frame, volume in frames:
        found = trackpy.locate(volume, diameter, minmass=0, engine="numba")
        voxels = found[["z", "y", "x"]].to_numpy(float)
        parts.append(frames.table(frame, voxels, found["mass"].to_numpy(float)))
    return pd.concat(parts, ignore_index=True)


def log_blobs(frames: Frames, scale: float) -> Table:
    """scikit-image's blob_log at one scale; the response is read off the same Laplacian."""
    sigma = scale * PSF_UM / frames.movie.voxel_um
    parts = []
    for frame, volume in frames:
        image = volume.astype(np.float32)
        laplacian = -ndimage.gaussian_laplace(image, sigma) * np.mean(sigma) ** 2
        least = floor_of(laplacian, frames.movie.valid)
        blobs = blob_log(image, sigma, sigma, num_sigma=1, threshold=least, overlap=1)[:, :3]
        parts.append(frames.table(frame, blobs, laplacian[tuple(blobs.astype(int).T)]))
    return pd.concat(parts, ignore_index=True)


def voronoi_spots(frames: Frames, scale: float) -> Table:
    """Seeds of Voronoi-Otsu labelling: maxima of the smoothed frame."""
    parts = []
    for frame, volume in frames:
        smooth = ndimage.gaussian_filter(volume.astype(np.float32), scale * PSF_UM / frames.movie.voxel_um)
        least = floor_of(smooth, frames.movie.valid)
        seeds = peak_local_max(smooth, min_distance=1, threshold_abs=least, exclude_border=False)
        parts.append(frames.table(frame, seeds.astype(float), smooth[tuple(seeds.T)]))
    return pd.concat(parts, ignore_index=True)


def voronoi_objects(frames: Frames, scale: float, threshold: float) -> Table:
    """Centres of the Voronoi regions of all seeds within the mask of a threshold, in place of Otsu's."""
    parts = []
    for frame, volume in frames:
        smooth = ndimage.gaussian_filter(volume.astype(np.float32), scale * PSF_UM / frames.movie.voxel_um)
        seeds = peak_local_max(smooth, min_distance=1, threshold_abs=threshold, exclude_border=False)
        markers = np.zeros(smooth.shape, np.int32)
        markers[tuple(seeds.T)] = np.arange(1, len(seeds) + 1)
        labels = watershed(-smooth, markers, mask=smooth >= threshold)
        weights = np.maximum(smooth - threshold, 1e-6)
        centres = ndimage.center_of_mass(weights, labels, np.arange(1, len(seeds) + 1))
        parts.append(frames.table(frame, np.reshape(centres, (-1, 3)), smooth[tuple(seeds.T)]))
    return pd.concat(parts, ignore_index=True)


def best_threshold(found: Table, truth: Table, gate_um: float) -> tuple[float, float]:
    """Highest F1 and the response it is reached at: numbers on a coarse scale, then on a finer one."""
    responses = np.sort(found["response"].to_numpy())[::-1]
    if len(responses) == 0:
        return 0.0, np.inf
    tried: dict[int, float] = {}

    def f1(number: int) -> float:
        if number not in tried:
            kept = found[found["response"] >= responses[number - 1]]
            tried[number] = score_detections(kept, truth, gate_um).f1
        return tried[number]

    ends = (min(max(len(truth) // 20, 1), len(responses)), min(20 * len(truth), len(responses)))
    coarse = np.unique(np.geomspace(*ends, COARSE).round().astype(int))
    best = int(np.argmax([f1(int(number)) for number in coarse]))
    around = (coarse[max(best - 1, 0)], coarse[min(best + 1, len(coarse) - 1)])
    for number in np.unique(np.geomspace(*around, FINE).round().astype(int)):
        f1(int(number))
    number = max(tried, key=lambda key: tried[key])
    return tried[number], float(responses[number - 1])


def detect(
    detector: Callable[[Frames, object], Table],
    radii: tuple[object, ...],
    frames: Frames,
    truth: Table,
    gate_um: float,
) -> tuple[Table, object, float]:
    """Detections of a detector at its best radius and threshold, with both."""
    best: tuple[float, Table, object, float] | None = None
    for radius in radii:
        found = detector(frames, radius)
        f1, threshold = best_threshold(found, truth, gate_um)
        if best is None or f1 > best[0]:
            best = (f1, found[found["response"] >= threshold], radius, threshold)
    assert best is not None
    return best[1].reset_index(drop=True), best[2], best[3]


@dataclass(frozen=True)
class Linked:
    """Tracks with splits and merges, and the tracks whose start or end they explain."""

    tracks: Table
    splits_and_merges: Table
    starts: frozenset[int] = frozenset()
    ends: frozenset[int] = frozenset()

    def events(self, frames: int) -> Table:
        """Splits and merges, with an appearance and a disappearance at each other end of a track."""
        order = self.tracks.sort_values("frame").groupby("track_id")
        first, last = order.first(), order.last()
        born = first[(first["frame"] > 0) & ~first.index.isin(self.starts)]
        gone = last[(last["frame"] < frames - 1) & ~last.index.isin(self.ends)]
        parts = [self.splits_and_merges, born.assign(event="appearance"), gone.assign(event="disappearance")]
        return pd.concat([part[EVENT] for part in parts], ignore_index=True)


def link_trackpy(found: Table, reach: float) -> Linked:
    """trackpy.link with memory."""
    options = {"memory": MEMORY, "adaptive_stop": 0.2, "adaptive_step": 0.9}
    tracks = trackpy.link(found, reach, pos_columns=POSITION, **options)
    return Linked(tracks.rename(columns={"particle": "track_id"}), NO_EVENTS)


def link_laptrack(found: Table, reach: float) -> Linked:
    """laptrack with gap closing."""
    return Linked(_laptrack(found, reach, False)[0], NO_EVENTS)


def link_laptrack_splits(found: Table, reach: float) -> Linked:
    """laptrack with splitting and merging; it ends a track at both, and lists its parents and children."""
    tracks, split, merged = _laptrack(found, reach, (1.5 * reach) ** 2)
    pairs = [table if len(table) else NO_PAIRS for table in (split, merged)]
    order = tracks.sort_values("frame").groupby("track_id")
    born = order.first().loc[pairs[0].drop_duplicates("parent_track_id")["child_track_id"]]
    gone = order.last().loc[pairs[1].drop_duplicates("child_track_id")["parent_track_id"]]
    both = pd.concat(pairs)
    return Linked(
        tracks,
        pd.concat([born.assign(event="fission"), gone.assign(event="fusion")]),
        frozenset(both["child_track_id"].astype(int)),
        frozenset(both["parent_track_id"].astype(int)),
    )


def _laptrack(found: Table, reach: float, between: float | Literal[False]) -> tuple[Table, Table, Table]:
    linker = LapTrack(
        cutoff=reach**2,
        gap_closing_cutoff=(1.5 * reach) ** 2,
        gap_closing_max_frame_count=MEMORY,
        splitting_cutoff=between,
        merging_cutoff=between,
    )
    tracks, split, merged = linker.predict_dataframe(
        found, POSITION, frame_col="frame", only_coordinate_cols=False
    )
    return tracks.reset_index(drop=True).rename(columns={"frame_y": "frame"}), split, merged


def link_greedy(found: Table, reach: float) -> Linked:
    """Nearest pairs first, between neighbouring frames only."""
    found = found.sort_values("frame", kind="stable").reset_index(drop=True)
    track = np.arange(len(found))
    position, frame = found[POSITION].to_numpy(), found["frame"].to_numpy()
    for now in np.unique(frame)[1:]:
        here, before = np.flatnonzero(frame == now), np.flatnonzero(frame == now - 1)
        if len(before) == 0:
            continue
        near = cKDTree(position[here]).sparse_distance_matrix(
            cKDTree(position[before]), reach, output_type="ndarray"
        )
        taken: set[tuple[str, int]] = set()
        for i, j, _ in np.sort(near, order=["v", "i", "j"]).tolist():
            if not taken & {("here", i), ("before", j)}:
                taken |= {("here", i), ("before", j)}
                track[here[i]] = track[before[j]]
    return Linked(found.assign(track_id=track), NO_EVENTS)


def link(
    linker: Callable[[Table, float], Linked], found: Table, truth: Table, gate_um: float
) -> tuple[Linked, float]:
    """What a linker makes at its best search radius, with it."""
    results = {reach: linker(found, reach) for reach in REACHES_UM}
    best = max(results, key=lambda reach: score_tracks(results[reach].tracks, truth, gate_um).alpha)
    return results[best], best


DIAMETERS = ((5, 5, 5), (5, 7, 7), (7, 9, 9))
SCALES = (1.0, 1.3, 1.7, 2.2)
DETECTORS: dict[str, tuple[Callable[..., Table], tuple[object, ...]]] = {
    "trackpy": (trackpy_locate, DIAMETERS),
    "blob_log": (log_blobs, SCALES),
    "otsu_voronoi": (voronoi_spots, (0.6, 1.0, 1.3)),
}


def best_of_peers(
    frames: Frames, truth: Table, gate_um: float
) -> dict[str, tuple[tuple[Table, Table, Table], dict[str, object]]]:
    """For each peer its detections, tracks and events, and what was chosen for it by the truth."""
    visible = truth[truth["visible"]]
    expected = observable(truth).rename(columns={"particle": "track_id"})
    detected: dict[str, tuple[Table, dict[str, object]]] = {}
    for name, (detector, radii) in DETECTORS.items():
        found, radius, threshold = detect(detector, radii, frames, visible, gate_um)
        if name == "otsu_voronoi":
            found = _better(found, voronoi_objects(frames, radius, threshold), visible, gate_um)
        detected[name] = (found, {"radius": str(radius), "threshold": threshold})
    best = max(detected, key=lambda name: score_detections(detected[name][0], visible, gate_um).f1)
    linkers = {
        "trackpy": ("trackpy", link_trackpy),
        "blob_log + laptrack": ("blob_log", link_laptrack),
        "otsu_voronoi + laptrack": ("otsu_voronoi", link_laptrack),
        "greedy": (best, link_greedy),
    }
    if (truth["parent"] >= 0).any() or (truth["merged_into"] >= 0).any():
        linkers["laptrack with splits"] = (best, link_laptrack_splits)
    peers: dict[str, tuple[tuple[Table, Table, Table], dict[str, object]]] = {}
    for name, (detector_name, linker) in linkers.items():
        found, chosen = detected[detector_name]
        linked, reach = link(linker, found, expected, gate_um)
        tables = (found, linked.tracks, linked.events(frames.movie.frames))
        peers[name] = (tables, chosen | {"detector": detector_name, "reach_um": reach})
    return peers


def _better(first: Table, second: Table, truth: Table, gate_um: float) -> Table:
    """That of both with the higher F1."""
    return max(first, second, key=lambda table: score_detections(table, truth, gate_um).f1)
