"""What is worth knowing of a movie in words and numbers: facts with their sources, and warnings.

Not how they are laid out on the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from spatialdino_core.movies.provenance import software
from spatialdino_core.report.motion import POSITION_UM, displacements_um, gap_rows, track_lengths
from spatialdino_core.report.particle_curves import signal_quartiles
from spatialdino_core.report.results import MovieResults

LEAST_SEPARATION = 2.0
BLEACHED = 0.5
DOUBTFUL = 0.5
GEOMETRY = {
    "scan": "scan",
    "angle_deg": "angle of the image plane to the travel (°)",
    "step_um": "scan step (µm)",
    "pixel_um": "pixel size (µm)",
    "interval_s": "time between frames (s)",
    "skew_axis": "tilted axis",
    "scan_sign": "scan direction",
}


@dataclass(frozen=True)
class Fact:
    """One line of a table: what, how much, and where the value comes from."""

    name: str
    value: str
    source: str = ""


def facts(results: MovieResults) -> dict[str, list[Fact]]:
    """Tables of facts by heading, the ones people ask for first."""
    return {
        "Acquisition": _acquisition(results),
        "Deskewed movie": _deskewed(results),
        "Particles and tracks": _counts(results),
        "Detection": _detection(results),
        "Model": _model(results),
    }


def details(results: MovieResults) -> dict[str, list[Fact]]:
    """Tables of everything that the stages noted about themselves."""
    stages = {
        "Deskewing": results.deskewed.about,
        "Features and foreground": results.features.about,
        "Segmentation and calibration": results.segmented.about,
        "Tracking": results.tracking,
        "Report": software("report"),
    }
    return {heading: list(flatten(about)) for heading, about in stages.items()}


def headline(results: MovieResults) -> str:
    """The movie in one sentence."""
    if not len(results.objects):
        return f"{count(len(results.frames), 'frame')}, no particle found."
    sentence = (
        f"{count(len(results.frames), 'frame')}, {results.objects_per_frame().mean():.3g} particles per frame"
    )
    if len(results.frames) > 1 and len(results.tracks):
        lengths = track_lengths(results.tracks)
        sentence += f", {count(len(lengths), 'track')} with a median length of {np.median(lengths):g} frames"
    return sentence + "."


def warnings(results: MovieResults) -> list[str]:
    """What deserves a look before the numbers are trusted, most serious first."""
    return [
        *_particle_warnings(results),
        *results.looked_at["warnings"],
        *results.deskewed.about["warnings"],
        *_raw_warnings(results),
        *_frame_warnings(results),
        *_track_warnings(results),
    ]


def _particle_warnings(results: MovieResults) -> Iterator[str]:
    separation = results.features.about.get("foreground", {}).get("separation")
    if results.objects.empty:
        yield "No particle was found. Look at the frames and at the activation map below."
    elif empty := int((results.objects_per_frame() == 0).sum()):
        yield f"No particle was found in {count(empty, 'frame')} of {len(results.frames)}."
    if separation is not None and separation < LEAST_SEPARATION:
        yield (
            f"What foreground rests on is not bimodal (separation {separation:.2f}, below "
            f"{LEAST_SEPARATION:g}): the foreground probability says little about this movie."
        )
    evidence = results.segmented.about.get("calibration", {}).get("evidence", {})
    if len(results.objects) and (f1 := evidence.get("expected_f1", 1.0)) < DOUBTFUL:
        yield (
            f"Particles hardly stand out from noise (expected F1 score {f1:.2f}): many detections may be "
            "false, many particles missed."
        )
    if len(results.objects) and results.objects["frame"].nunique() > 1:
        median = signal_quartiles(results.objects)[0.5]
        if median.iloc[0] > 0 and (left := median.iloc[-1] / median.iloc[0]) < BLEACHED:
            yield f"Particles of the last frame are {left:.0%} as bright as those of the first: bleaching."


def _raw_warnings(results: MovieResults) -> Iterator[str]:
    about = results.deskewed.about
    for channel, number in about.get("bad_pixels", {}).items():
        if number:
            yield f"Channel {channel}: {count(number, 'hot or bad pixel')} of the camera replaced."
    for channel, value in about.get("no_data", {}).get("values", {}).items():
        if value is not None:
            yield (
                f"Channel {channel}: another program filled borders with {value}; they are taken as without "
                "data."
            )


def _frame_warnings(results: MovieResults) -> Iterator[str]:
    if len(results.frames) == 1:
        yield "A single frame: there is nothing to track, and all figures are of this frame alone."
    if results.skipped:
        listed = ", ".join(map(str, list(results.skipped)[:8])) + (" …" if len(results.skipped) > 8 else "")
        yield f"{count(len(results.skipped), 'frame')} left out ({listed}); the reasons are below."


def _track_warnings(results: MovieResults) -> Iterator[str]:
    if len(results.frames) < 2 or results.objects.empty:
        return
    steps = np.linalg.norm(displacements_um(results.tracks), axis=1)
    if not len(steps):
        yield "No particle was linked from one frame to the next."
        return
    distance = neighbour_distance_um(results)
    if distance is not None and np.median(steps) > distance / 2:
        yield (
            f"Particles move {np.median(steps):.2g} µm per frame and lie {distance:.2g} µm apart: "
            "many links are ambiguous. A shorter interval between frames would help."
        )
    confidence = results.tracks["link_confidence"].dropna()
    if len(confidence) and (doubtful := float((confidence < DOUBTFUL).mean())) > 1 / 3:
        yield f"{doubtful:.0%} of the links have a confidence below {DOUBTFUL:g}."


def neighbour_distance_um(results: MovieResults) -> float | None:
    """Median distance of the tracked particles of the middle frame to their nearest neighbours, µm."""
    tracks = results.tracks[~gap_rows(results.tracks)]
    points = tracks.loc[tracks["frame"] == results.middle, POSITION_UM].to_numpy(np.float64)
    if len(points) < 2:
        return None
    distances, _ = cKDTree(points).query(points, k=2)
    return float(np.median(distances[:, 1]))


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[Fact]:
    """Nested JSON as lines ``outer · inner``; long lists shortened."""
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name} · ")
        else:
            yield Fact(f"{prefix}{name}", text(value))


def text(value: Any) -> str:
    """A JSON value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        if len(value) > 6 or any(isinstance(each, list | tuple) for each in value):
            return f"{len(value)} values"
        return ", ".join(text(each) for each in value)
    return str(value)


def count(number: int, noun: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _acquisition(results: MovieResults) -> list[Fact]:
    record, acquisition = results.record, results.record.usable()
    geometry = [
        Fact(words, text(getattr(acquisition, name)), acquisition.sources.get(name, ""))
        for name, words in GEOMETRY.items()
    ]
    planes, y, x = record.shape_zyx
    raw = [
        Fact("channels", ", ".join(record.channels)),
        Fact("raw stack", f"{planes} planes of {y} × {x} pixels (y × x), {record.dtype}"),
        Fact("trains the model", text(record.train)),
    ]
    return raw + geometry


def _deskewed(results: MovieResults) -> list[Fact]:
    z, y, x = results.image.voxel_um
    frames = f"{len(results.frames)} of {results.record.frames}"
    shape = " × ".join(str(n) for n in results.image.shape[2:])
    size = " × ".join(f"{n * v:.4g}" for n, v in zip(results.image.shape[2:], (z, y, x), strict=True))
    return [
        Fact("voxel size (z, y, x)", f"{z:.4g} × {y:.4g} × {x:.4g} µm"),
        Fact("volume (z, y, x)", f"{shape} voxels, {size} µm"),
        Fact("frames", frames),
        *(Fact(f"frame {frame} left out", reason) for frame, reason in results.skipped.items()),
    ]


def _model(results: MovieResults) -> list[Fact]:
    features = results.features.about
    if "unused" in features:
        return [Fact("features", f"left out: {features['unused']}")]
    noted = {
        "weights": features.get("weights"),
        "intensity bounds (counts)": list(features.get("bounds", {}).values()),
        "separation of foreground and background": features.get("foreground", {}).get("separation"),
    }
    return list(flatten(noted))


def _detection(results: MovieResults) -> list[Fact]:
    """What segmentation expects of its detections; it has no label to compare them with."""
    calibration = results.segmented.about.get("calibration", {})
    evidence = calibration.get("evidence", {})
    if not evidence:
        return []
    found = [Fact("frames that help to detect in a frame", _neighbours(calibration))]
    if not evidence["expected_f1"]:
        return [*found, Fact("expected detections", "no particles told from noise when calibrating")]
    return [
        *found,
        Fact("expected precision", f"{evidence['expected_precision']:.0%} of the detections are real"),
        Fact("expected recall", f"{evidence['expected_recall']:.0%} of the visible particles are found"),
        Fact("expected F1 score", f"{evidence['expected_f1']:.2f} (1 is best)"),
        Fact("least confidence of a detection", f"{evidence['threshold']:.0%}"),
    ]


def _neighbours(calibration: Mapping[str, Any]) -> str:
    alone = f"with an expected F1 score of {calibration['single_frame_f1']:.2f}"
    if reach := calibration["reach"]:
        return f"up to {reach} before and {reach} after it; on its own, {alone}"
    return f"only itself, {alone}"


def _counts(results: MovieResults) -> list[Fact]:
    counts = results.objects_per_frame()
    found = [
        Fact("detections in tracks", text(len(results.objects))),
        Fact("candidates in no track", text(results.candidates)),
    ]
    if len(results.objects):
        found += [
            Fact("particles per frame", f"{counts.mean():.4g} (from {counts.min()} to {counts.max()})"),
            Fact("median signal-to-noise ratio", f"{results.objects['snr'].median():.3g}"),
        ]
    found.append(Fact("tracks", text(results.tracks_count())))
    if len(results.tracks):
        found += [
            Fact("median track length", f"{np.median(track_lengths(results.tracks)):g} frames"),
            Fact("positions that fill a gap", text(int(gap_rows(results.tracks).sum()))),
        ]
    events = results.events["event"].value_counts().sort_index()
    return found + [Fact(f"events: {name}", str(number)) for name, number in events.items()]
