"""The preview of one movie: look at a few frames of every channel, keep measures and a picture."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spatialdino_core.errors import BadInputError, as_bad_input
from spatialdino_core.files import published, write_json
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.clock import Clock
from spatialdino_core.movies.record import Acquisition, MovieRecord
from spatialdino_core.movies.register import as_counts, check_content
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.movies.source import FrameSource, open_channels
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.progress import progress
from spatialdino_core.quality.channel import (
    FrameLook,
    channel_metrics,
    frames_to_look_at,
    lasting_hot_pixels,
    look_at,
)
from spatialdino_core.quality.geometry_check import (
    as_recorded,
    compare,
    of_one_movie,
    shift_measures,
)
from spatialdino_core.quality.pictures import Picture, grey, grey_range, tiled
from spatialdino_core.quality.plane_correlation import PlaneCorrelations, added
from spatialdino_core.quality.plane_shift import PlaneShift, plane_shift
from spatialdino_core.quality.planes import Texture, texture
from spatialdino_core.quality.plausibility import (
    Evidence,
    check_plausible,
    copied_channels,
    evidence_of,
    frames_in_a_row,
    plausibility_warnings,
)

NO_PICTURE = np.zeros((64, 64), np.uint8)
SIGNIFICANT_DIGITS = 6


def preview_movie(
    rows: Sequence[SheetRow],
    record: MovieRecord,
    table: AcquisitionTable,
    measures: Path | str,
    picture: Path | str,
    *,
    optics: OpticsParameters,
    frames: int,
    skip_bad: bool,
    state: str,
) -> None:
    """Measure a few frames of every channel of a movie, and draw the first and the last.

    A movie that cannot be used is no error here: its problem is passed on to the review.

    Parameters
    ----------
    rows
        The movie's rows of the sample sheet.
    record
        What the register knows of it.
    table
        Where its stacks are.
    measures, picture
        JSON and PNG file to publish.
    optics
        The point spread function.
    frames
        How many frames to look at, evenly spread; the second comes in addition.
    skip_bad
        Whether bad frames may be passed over (``on_bad_frame: skip``).
    state
        Digest of what was looked at, and how, for the review.
    """
    found: dict[str, Any] = {"movie": record.movie, "state": state, "problem": record.problem}
    found |= {"warnings": record.warnings, "reading": record.reading}
    image = NO_PICTURE
    try:
        acquisition, clock = record.usable(), Clock.of(record)
        sources = open_channels(record.movie, table)
        flips = [row.flip or "" for row in rows]
        seen = _look(sources, flips, record, acquisition, optics, frames, skip_bad)
        looks, evidence, planes, missing = seen
        shifts = [None if own is None else plane_shift(own) for own in planes]
        found |= {
            "frames": record.frames,
            "missing_frames": missing,
            "looked_at": [look.frame for look in looks[0]],
            "channels": {
                channel: _numbers(
                    asdict(channel_metrics(own, acquisition.pixel_um, clock.times_s)) | shift_measures(shift)
                )
                for channel, own, shift in zip(record.channels, looks, shifts, strict=True)
            },
            "geometry": _geometry(record.channels, flips, acquisition, shifts),
            "hot_pixels": {
                channel: lasting_hot_pixels(own) for channel, own in zip(record.channels, looks, strict=True)
            },
            "no_data": {channel: own[0].no_data for channel, own in zip(record.channels, looks, strict=True)},
            "panels": _panel_titles(looks[0]),
        }
        image = tiled([_panels(own) for own in looks])
        of_channels = list(zip(rows, sources, evidence, strict=True))
        uneven = clock.unevenness()
        lines = [
            *record.warnings,
            *([f"{uneven}; motion is measured with the times of frames"] if uneven else []),
        ]
        lines += [line for row, _, own in of_channels for line in plausibility_warnings(row, record, own)]
        lines += copied_channels(record.channels, evidence)
        found["warnings"] = list(dict.fromkeys(lines))
        for row, source, own in of_channels:
            check_plausible(row, record, own, partial(_in_a_row, source, record))
    except Exception as error:
        found["problem"] = record.problem or str(as_bad_input(error, f"movie '{record.movie}'"))
    write_json(measures, found)
    with published(picture) as temporary:
        Image.fromarray(image).save(temporary, format="png", optimize=True)


def _geometry(
    channels: Sequence[str],
    flips: Sequence[str],
    acquisition: Acquisition,
    shifts: Sequence[PlaneShift | None],
) -> dict[str, dict[str, str]]:
    """What the planes of each channel say of the declared geometry."""
    declared = ScanGeometry.of(acquisition)
    found = {
        channel: compare(shift, declared, flip)
        for channel, flip, shift in zip(channels, flips, shifts, strict=True)
    }
    return {channel: asdict(one) for channel, one in of_one_movie(found).items()}


def _look(
    sources: Sequence[FrameSource],
    flips: Sequence[str],
    record: MovieRecord,
    acquisition: Acquisition,
    optics: OpticsParameters,
    number: int,
    skip_bad: bool,
) -> tuple[list[list[FrameLook]], list[list[Evidence]], list[PlaneCorrelations | None], int]:
    """Looks at each channel's frames, evidence from them, how all its planes correlate, and how many frames
    are left out as bad."""
    usable, declared = _usable(record), ScanGeometry.of(acquisition)
    geometries = [as_recorded(declared, flip) for flip in flips]
    planes: list[PlaneCorrelations | None] = [None for _ in sources]
    looks: list[list[FrameLook]] = [[] for _ in sources]
    evidence: list[list[Evidence]] = [[] for _ in sources]

    before: dict[FrameSource, tuple[int, Texture]] = {}
    reasons: list[str] = []

    def see(source: FrameSource, geometry: ScanGeometry, frame: int) -> tuple[FrameLook, Evidence]:
        raw, counts = _read(source, frame, record.movie)
        number, last = before.get(source, (-1, None))
        seen = texture(counts)
        before[source] = frame, seen
        found = evidence_of(raw, counts, seen, acquisition, last if number == frame - 1 else None)
        return look_at(frame, counts, geometry, optics), found

    def add(frame: int) -> bool:
        try:
            seen = [see(source, how, frame) for source, how in zip(sources, geometries, strict=True)]
        except BadInputError as error:
            if not skip_bad:
                raise
            reasons.append(str(error))
            return False
        for channel, (look, found) in enumerate(seen):
            looks[channel].append(replace(look, planes=None))
            planes[channel] = added(planes[channel], look.planes)
            evidence[channel].append(found)
        return True

    def from_the_first_good(frames: list[int]) -> list[int]:
        return list(itertools.dropwhile(lambda frame: not add(frame), frames))

    usable = from_the_first_good(usable)
    if not usable:
        raise BadInputError(
            f"movie '{record.movie}'",
            found=f"no usable frame; the first: {reasons[0] if reasons else 'left out by the register'}",
            expected="at least one",
            remedy="Mend them as that says, or reject the movie.",
        )
    bad = 0
    if number > 1:
        usable = [usable[0], *from_the_first_good(usable[1:])]
        others = frames_to_look_at(usable, number)[2:]
        for frame in progress(others, f"preview {record.movie}", "frame", total=len(others) + 2, done=2):
            bad += not add(frame)
    left_out = record.frames - len(usable) + bad
    return looks, evidence, planes, left_out


def _usable(record: MovieRecord) -> list[int]:
    return [frame for frame in range(record.frames) if frame not in record.skipped]


def _read(source: FrameSource, frame: int, movie: str) -> tuple[np.ndarray, np.ndarray]:
    """A raw stack (z, y, x) that can be an image, and its camera counts."""
    where = f"movie '{movie}'"
    raw = check_content(frame, source.read(frame), where)
    return raw, as_counts(raw, f"{where}, frame {frame}")


def _in_a_row(source: FrameSource, record: MovieRecord, number: int) -> list[Texture]:
    """Textures of frames in the middle of the movie; none if one of them is bad."""
    try:
        frames = frames_in_a_row(_usable(record), number)
        return [texture(_read(source, frame, record.movie)[1]) for frame in frames]
    except BadInputError:
        return []


def _numbers(measures: Mapping[str, float | None]) -> dict[str, float | None]:
    return {
        name: None if value is None else float(f"{value:.{SIGNIFICANT_DIGITS}g}")
        for name, value in measures.items()
    }


def _panels(looks: Sequence[FrameLook]) -> list[Picture]:
    """Maximum projections of the first and, on its scale, of the last frame; middle plane of the first."""
    scale = grey_range(looks[0].projection)
    projections = [looks[0].projection] + ([looks[-1].projection] if len(looks) > 1 else [])
    middle = looks[0].middle
    return [*(grey(image, scale) for image in projections), grey(middle, grey_range(middle))]


def _panel_titles(looks: Sequence[FrameLook]) -> list[str]:
    first, last = looks[0].frame, looks[-1].frame
    projections = [f"frame {first}"] + ([f"frame {last}"] if len(looks) > 1 else [])
    return [*projections, f"middle plane of frame {first}"]
