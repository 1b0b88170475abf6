"""The preview of one movie: look at a few frames of every channel, keep measures and a picture."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import published, read_json, write_json
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.register import as_counts, check_content, open_channels
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.movies.source import FrameSource
from spatialdino_core.progress import progress
from spatialdino_core.quality.channel import (
    FrameLook,
    channel_metrics,
    frames_to_look_at,
    lasting_hot_pixels,
    look_at,
)
from spatialdino_core.quality.pictures import Picture, grey, grey_range, tiled

NO_PICTURE = np.zeros((64, 64), np.uint8)
SIGNIFICANT_DIGITS = 6


def preview_movie(
    rows: Sequence[SheetRow],
    record: MovieRecord,
    measures: Path | str,
    picture: Path | str,
    reading: ReadingParameters,
    *,
    frames: int,
    skip_bad: bool,
) -> None:
    """Measure a few frames of every channel of a movie, and draw the first and the last.

    A movie that cannot be used is no error here: its problem is passed on to the review.

    Parameters
    ----------
    rows
        The movie's rows of the sample sheet.
    record
        What the register knows of it.
    measures, picture
        JSON and PNG file to publish.
    reading
        How files are put in order.
    frames
        How many frames to look at, evenly spread; the second comes in addition.
    skip_bad
        Whether bad frames may be passed over (``on_bad_frame: skip``).
    """
    found: dict[str, Any] = {"movie": record.movie, "problem": record.problem}
    image = NO_PICTURE
    try:
        acquisition = record.usable()
        sources = open_channels(rows, reading)
        looks, missing = _look(sources, record, frames, skip_bad)
        found |= {
            "frames": record.frames,
            "missing_frames": missing,
            "looked_at": [look.frame for look in looks[0]],
            "channels": {
                channel: _numbers(asdict(channel_metrics(own, acquisition)))
                for channel, own in zip(record.channels, looks, strict=True)
            },
            "hot_pixels": {
                channel: lasting_hot_pixels(own) for channel, own in zip(record.channels, looks, strict=True)
            },
            "no_data": {channel: own[0].no_data for channel, own in zip(record.channels, looks, strict=True)},
            "panels": _panel_titles(looks[0]),
        }
        image = tiled([_panels(own) for own in looks])
    except BadInputError as error:
        found["problem"] = record.problem or str(error)
    write_json(measures, found)
    with published(picture) as temporary:
        Image.fromarray(image).save(temporary, format="png", optimize=True)


def check_preview(path: Path | str) -> None:
    """Refuse a movie in whose frames the preview found a problem.

    Parameters
    ----------
    path
        JSON file that `preview_movie` published.

    Raises
    ------
    BadInputError
        With the problem.
    """
    preview = read_json(path)
    if preview["problem"]:
        raise BadInputError(
            f"movie '{preview['movie']}'",
            found=f"it unusable ({preview['problem']})",
            expected="a movie of which every frame looked at can be used",
            remedy="Correct it and run again, or reject the movie in qc/decisions.tsv.",
        )


def _look(
    sources: Sequence[FrameSource], record: MovieRecord, number: int, skip_bad: bool
) -> tuple[list[list[FrameLook]], int]:
    """Looks at each channel's frames, and how many frames are left out as bad."""
    usable = [frame for frame in range(record.frames) if frame not in record.skipped]
    looks: list[list[FrameLook]] = [[] for _ in sources]

    def add(frame: int) -> bool:
        try:
            seen = [look_at(frame, _counts(source, frame, record.movie)) for source in sources]
        except BadInputError:
            if not skip_bad:
                raise
            return False
        for own, look in zip(looks, seen, strict=True):
            own.append(look)
        return True

    def from_the_first_good(frames: list[int]) -> list[int]:
        return list(itertools.dropwhile(lambda frame: not add(frame), frames))

    usable = from_the_first_good(usable)
    if not usable:
        raise BadInputError(
            f"movie '{record.movie}'",
            found="no usable frame",
            expected="at least one",
            remedy="Reject the movie.",
        )
    bad = 0
    if number > 1:
        usable = [usable[0], *from_the_first_good(usable[1:])]
        others = frames_to_look_at(usable, number)[2:]
        for frame in progress(others, f"preview {record.movie}", "frame", total=len(others) + 2, done=2):
            bad += not add(frame)
    left_out = record.frames - len(usable) + bad
    return looks, left_out


def _counts(source: FrameSource, frame: int, movie: str) -> np.ndarray:
    """A raw stack (z, y, x) that can be an image of camera counts."""
    where = f"movie '{movie}'"
    return as_counts(check_content(frame, source.read(frame), where), f"{where}, frame {frame}")


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
