"""A whole run of the workflow against truth: one row per movie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.store import FrameStore
from spatialdino_core.progress import progress
from spatialdino_core.score.cell_tracking import score_cell_tracking
from spatialdino_core.score.detection import score_detections
from spatialdino_core.score.events import NOBODY, score_events, true_events
from spatialdino_core.score.links import score_links
from spatialdino_core.score.segmentation import LabelPair, score_labels
from spatialdino_core.score.tables import check_positions, check_tracks
from spatialdino_core.score.tracking import score_tracks

GATE_VOXELS = 3.0
EVENT_GATE_VOXELS = 6.0
"""Twice that of positions: where one blob becomes two, both were at half their distance just before."""
EVENT_GATE_FRAMES = 2
COUNTS = ["frames", "tracks", "id_switches"]


def score_run(
    truth: Path, results: Path, *, gate_um: float | None = None, gate_voxels: float = GATE_VOXELS
) -> pd.DataFrame:
    """Score every movie that has a truth table.

    Tracks come from ``{results}/{movie}/tracks.csv``; its interpolated positions (``gap``) count for
    tracking only. Detections are the tracks' other positions: ``objects.parquet`` also has candidates that
    tracking did not confirm. Of the truth, invisible positions are not asked of detection, and tracks run
    from their first to their last visible position. A movie without results gets a row without scores.

    Parameters
    ----------
    truth
        Folder of ``{movie}.csv``, see `spatialdino_core.simulate.scene.truth_table`.
    results
        Folder of results, see ``docs``.
    gate_um
        How close a position must be to count (µm), in 3D.
    gate_voxels
        Instead: the same in lateral pixels, whose size follows from the truth table.

    Returns
    -------
    pandas.DataFrame
        One row per movie. ``minutes`` sums the run times in ``{results}/benchmarks/*/{movie}.tsv``.

    Raises
    ------
    BadInputError
        When there is no truth, no results at all, or a table is unusable.
    """
    tables = _truth_tables(truth)
    if not any((results / table.stem / "tracks.csv").exists() for table in tables):
        raise BadInputError(
            results,
            found="no tracks.csv of any of " + ", ".join(table.stem for table in tables),
            expected="{movie}/tracks.csv",
            remedy="Run the workflow first, or name its results folder.",
        )
    rows = [_row(path, results, gate_um, gate_voxels) for path in progress(tables, "score", "movie")]
    # Nullable integers: a movie without results must not turn the counts of all others into floats.
    return pd.DataFrame(rows).astype(dict.fromkeys(COUNTS, "Int64"))


def score_movie(
    truth: pd.DataFrame, detections: pd.DataFrame, tracks: pd.DataFrame, gate_um: float
) -> dict[str, float]:
    """Scores of one movie's detections and tracks; what counts for what is said in `score_run`."""
    expected = observable(truth).rename(columns={"particle": "track_id"})
    detection = score_detections(detections, truth[truth["visible"]], gate_um)
    tracking = score_tracks(tracks, expected, gate_um)
    links = score_links(tracks, expected, gate_um)
    return {
        "tracks": tracking.found_tracks,
        "precision": detection.precision,
        "recall": detection.recall,
        "f1": detection.f1,
        "rmse_um": detection.rmse_um,
        "alpha": tracking.alpha,
        "beta": tracking.beta,
        "jsc": tracking.jsc,
        "jsc_theta": tracking.jsc_theta,
        "link_f1": links.link_f1,
        "id_switches": links.id_switches,
        "complete": links.complete_fraction,
    }


def observable(truth: pd.DataFrame) -> pd.DataFrame:
    """Truth from each particle's first visible position to its last, dark ones between them included."""
    seen = truth[truth["visible"]].groupby("particle")["frame"].agg(["min", "max"])
    spans = truth.join(seen, on="particle")
    return truth[(spans["frame"] >= spans["min"]) & (spans["frame"] <= spans["max"])]


def score_run_events(
    truth: Path,
    results: Path,
    *,
    gate_um: float | None = None,
    gate_voxels: float = EVENT_GATE_VOXELS,
    gate_frames: int = EVENT_GATE_FRAMES,
) -> pd.DataFrame:
    """Score the events of every movie that has a truth table and ``{results}/{movie}/events.csv``.

    Parameters
    ----------
    truth, results
        As in `score_run`.
    gate_um, gate_voxels, gate_frames
        How close an event must be to count, in space (µm, or instead lateral pixels) and time.

    Returns
    -------
    pandas.DataFrame
        One row per movie and kind of event.

    Raises
    ------
    BadInputError
        When there is no truth, or a table is unusable.
    """
    rows = []
    for path in _truth_tables(truth):
        events = results / path.stem / "events.csv"
        if not events.exists():
            continue
        table = pd.read_csv(path)
        gate = gate_um if gate_um is not None else gate_voxels * _pixel_um(table, path)
        expected = true_events(table, int(table["frame"].max()) + 1)
        for kind, score in score_events(pd.read_csv(events), expected, gate, gate_frames).items():
            about = {"movie": path.stem, "event": kind, "found": score.found, "expected": score.expected}
            rows.append(about | {"precision": score.precision, "recall": score.recall, "f1": score.f1})
    return pd.DataFrame(rows)


def score_run_labels(truth: Path, results: Path) -> pd.DataFrame:
    """Score the labels of every movie with ``{truth}/{movie}_truth_labels.ome.tif``, on the same grid.

    Returns
    -------
    pandas.DataFrame
        One row per movie: foreground and instances, and the measures of the Cell Tracking Challenge.

    Raises
    ------
    BadInputError
        When there is no truth, a table is unusable or py-ctcmetrics is not installed.
    """
    rows = []
    for path in _truth_tables(truth):
        movie, folder = path.stem, results / path.stem
        stack = truth / f"{movie}_truth_labels.ome.tif"
        if not stack.exists() or not (folder / "labels.ome.zarr").exists():
            continue
        tracks = pd.read_csv(folder / "tracks.csv")
        table = pd.read_csv(path)
        frames = int(table["frame"].max()) + 1
        instances = score_labels(_labels(folder / "labels.ome.zarr", stack, frames))
        true_tracks = table[table["visible"]].assign(label=table["particle"], track_id=table["particle"])
        splits = true_tracks[true_tracks["parent"] != NOBODY].drop_duplicates("particle")
        events = pd.read_csv(folder / "events.csv")
        measures = score_cell_tracking(
            _labels(folder / "labels.ome.zarr", stack, frames),
            tracks,
            true_tracks,
            events[events["event"] == "fission"],
            splits.rename(columns={"parent": "other_track_id"}),
        )
        agreement = {"dice": instances.dice, "instance_f1": instances.f1, "iou": instances.mean_iou}
        rows.append({"movie": movie} | agreement | asdict(measures))
    return pd.DataFrame(rows)


def _labels(store: Path, stack: Path, frames: int) -> Iterator[LabelPair]:
    """Found and true labels of each frame."""
    found = FrameStore(store)
    with tifffile.TiffFile(stack) as file:
        planes = len(file.pages) // frames
    for frame in range(frames):
        true_labels = tifffile.imread(stack, key=range(frame * planes, (frame + 1) * planes))
        yield found.read(frame), true_labels.reshape(planes, *true_labels.shape[-2:])


def _truth_tables(truth: Path) -> list[Path]:
    tables = sorted(truth.glob("*.csv"))
    if not tables:
        raise BadInputError(
            truth, found="no *.csv", expected="{movie}.csv", remedy="Name the folder of truth."
        )
    return tables


def _row(path: Path, results: Path, gate_um: float | None, gate_voxels: float) -> dict[str, object]:
    movie = path.stem
    truth = pd.read_csv(path)
    check_positions(truth, path, ["particle", "frame", "x", "visible"])
    gate = gate_um if gate_um is not None else gate_voxels * _pixel_um(truth, path)
    visible = truth[truth["visible"]]
    row: dict[str, object] = {
        "movie": movie,
        "frames": int(truth["frame"].max()) + 1 if len(truth) else 0,
        "particles_per_frame": len(visible) / max(visible["frame"].nunique(), 1),
        "gate_um": gate,
    }
    tracks_path = results / movie / "tracks.csv"
    if not tracks_path.exists():
        return row
    tracks = pd.read_csv(tracks_path)
    check_tracks(tracks, tracks_path)
    return row | score_movie(truth, _detections(tracks), tracks, gate) | {"minutes": _minutes(results, movie)}


def _detections(tracks: pd.DataFrame) -> pd.DataFrame:
    return tracks[~tracks["gap"].astype(bool)] if "gap" in tracks else tracks


def _pixel_um(truth: pd.DataFrame, path: Path) -> float:
    """Lateral pixel of the deskewed store: the ratio of a position in µm to the same in voxels."""
    x, x_um = truth["x"].to_numpy(float), truth["x_um"].to_numpy(float)
    scale = float(np.dot(x, x))
    if scale == 0:
        raise BadInputError(
            path,
            found="no position to infer the pixel size from",
            expected="columns x and x_um",
            remedy="Give the gate in µm.",
        )
    return round(float(np.dot(x, x_um)) / scale, 6)


def _minutes(results: Path, movie: str) -> float:
    """Run time of all benchmarked jobs of a movie; NaN where none is recorded."""
    files = sorted((results / "benchmarks").glob(f"*/{movie}.tsv"))
    if not files:
        return float("nan")
    return sum(float(pd.read_csv(file, sep="\t")["s"].sum()) for file in files) / 60
