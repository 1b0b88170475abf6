"""Whether the voxels of a movie can be what its sample sheet and its files say: refusals and warnings.

Judged on the frames that the preview looks at. What cannot be told from them is not held against the movie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, cos, radians
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.background import Histogram, intensity_histogram
from spatialdino_core.movies.formats.ome_zarr import is_store
from spatialdino_core.movies.record import Acquisition, MovieRecord
from spatialdino_core.movies.rounding import Rounding, rounding_of
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.quality.planes import (
    CHANNELS,
    FRAMES_IN_A_ROW,
    Covariance,
    Texture,
    alike_throughout,
    ends_and_neighbours,
    frames_move_as_planes,
    pass_through_focus,
    returning,
)
from spatialdino_core.quality.seams import (
    FRAMES_IN_TURNS,
    in_turns,
    likeness_of_neighbours,
    stacks_in_one,
    unlike,
)

LEAST_VALUES = 16  # different counts; fewer may all be even by chance


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is kept of the voxels of one frame of one channel.

    Attributes
    ----------
    returning
        Distance at which planes grow alike again: `spatialdino_core.quality.planes.returning`.
    ends
        Of `spatialdino_core.quality.planes.ends_and_neighbours`.
    occupied
        Counts that occur, bool of 65,536.
    rounding
        What rounding does to fractions; ``None`` where there are none.
    neighbours
        Of `spatialdino_core.quality.seams.likeness_of_neighbours`.
    digest
        Of the counts: equal ones are the same voxels.
    follows
        Whether the frame before looks like the plane before of a skewed scan; sure only of more frames.
    alone
        Whether the frame has little of the one before: `spatialdino_core.quality.seams.unlike`.
    """

    returning: int | None
    ends: Covariance
    occupied: NDArray[np.bool_]
    rounding: Rounding | None
    neighbours: Covariance = field(default_factory=lambda: np.full((0, 1), np.nan))
    digest: int = 0
    follows: bool = False
    alone: bool = False


def evidence_of(
    raw: NDArray[Any],
    counts: NDArray[np.uint16],
    seen: Texture,
    acquisition: Acquisition,
    before: Texture | None = None,
) -> Evidence:
    """Look at a raw stack (z, y, x): as read, as counts, its texture, and that of the frame before."""
    histogram: Histogram = intensity_histogram(counts)
    return Evidence(
        returning=returning(seen, *_skew(acquisition)),
        ends=ends_and_neighbours(seen),
        occupied=histogram > 0,
        rounding=rounding_of(raw),
        neighbours=likeness_of_neighbours(seen, *_skew(acquisition)),
        digest=crc32(np.ascontiguousarray(counts).data),
        alone=before is not None and unlike(before, seen),
        follows=before is not None
        and acquisition.skew_axis is not None
        and frames_move_as_planes([before, seen], *_skew(acquisition), sure=False),
    )


def _skew(acquisition: Acquisition) -> tuple[float, str]:
    return _shift_pixels(acquisition), acquisition.skew_axis or "x"


def _shift_pixels(acquisition: Acquisition) -> float:
    """By how much the image moves along the tilted axis from plane to plane, at most."""
    if acquisition.scan not in ("stage", "z-stage") or acquisition.angle_deg is None:
        return 0.0
    angle = radians(acquisition.angle_deg if acquisition.scan == "stage" else 90 - acquisition.angle_deg)
    return acquisition.step_um * cos(angle) / acquisition.pixel_um


def frames_in_a_row(usable: Sequence[int], number: int = FRAMES_IN_A_ROW) -> list[int]:
    """Frames in the middle of a movie that tell what frames are; none if it is too short."""
    start = (len(usable) - number) // 2
    row = list(usable[start : start + number]) if start >= 0 else []
    return row if row and row[-1] - row[0] == number - 1 else []


def check_plausible(
    row: SheetRow,
    record: MovieRecord,
    looks: Sequence[Evidence],
    in_a_row: Callable[[int], Sequence[Texture]],
) -> None:
    """Refuse what the voxels of a channel contradict.

    Parameters
    ----------
    row
        Its row of the sample sheet: ``axes`` there says what the planes are, and is believed.
    record
        What the register knows.
    looks
        Evidence of the frames looked at.
    in_a_row
        Reads the textures of so many `frames_in_a_row`; asked only where these may be planes, or take turns.

    Raises
    ------
    BadInputError
        If rounding to counts would lose the signal of every frame looked at; if planes are those of several
        time points or channels; if planes and time points are exchanged; if frames are those of several
        channels or positions.
    """
    where = f"movie '{row.movie}', channel '{row.channel}'"
    lossy = [look.rounding for look in looks if look.rounding is not None and look.rounding.loses]
    # Of all frames: one with less signal, such as a dark one, is no reason to refuse a movie.
    if len(lossy) == len(looks):
        raise BadInputError(
            where,
            found=f"fractions that rounding to whole counts would destroy ({lossy[0]})",
            expected="camera counts",
            remedy=f"{_scaled(lossy)}, or export the movie unscaled.",
        )
    if row.axes is not None:
        return
    planes = record.shape_zyx[0]
    (period, seen), *_ = Counter(look.returning for look in looks).most_common(1)
    if period is not None and 2 * seen >= len(looks):
        raise _several(where, planes, period)
    stacks = stacks_in_one([look.neighbours for look in looks])
    if stacks is not None:
        raise _one_after_the_other(where, planes, stacks)
    turns = in_turns(in_a_row(FRAMES_IN_TURNS)) if any(look.alone for look in looks) else None
    if turns is not None:
        raise _frames_in_turns(where, record.frames, planes, turns, in_one_file=_in_one_file(row))
    if _frames_are_planes(record, looks, in_a_row):
        raise _exchanged(where, record.frames, planes, in_one_file=_in_one_file(row))


def _frames_are_planes(
    record: MovieRecord, looks: Sequence[Evidence], in_a_row: Callable[[int], Sequence[Texture]]
) -> bool:
    alike = alike_throughout([look.ends for look in looks])
    follows = any(look.follows for look in looks)
    row = in_a_row(FRAMES_IN_A_ROW) if alike or follows else []
    if follows and frames_move_as_planes(row, *_skew(record.usable())):
        return True
    return alike and pass_through_focus([seen.mean for seen in row])


def _scaled(frames: Sequence[Rounding]) -> str:
    factor = min(rounding.factor for rounding in frames)
    return f"Multiply all frames by {factor} and save them as 16-bit stacks"


def _in_one_file(row: SheetRow) -> bool:
    """Whether a movie lies in one file or Zarr store; a path may name the folder of several."""
    files = row.files()
    return len(files) == 1 and (files[0].is_file() or is_store(files[0]))


def _exchanged(where: str, frames: int, planes: int, *, in_one_file: bool) -> BadInputError:
    """Refusal of a movie whose frames are planes; it may be one file or one for each of them."""
    remedy = (
        f"Set axes in the sample sheet to z{frames}t{planes}yx (slowest first); if the file is right as it "
        f"is, to t{frames}z{planes}yx."
        if in_one_file
        else "Export one file per time point; if the files are right as they are, set axes in the sample "
        f"sheet to z{planes}yx."
    )
    return BadInputError(
        where,
        found=f"{frames} frames of {planes} planes, where frames differ as neighbouring planes do, and "
        "planes as time points",
        expected="frames that are time points, of planes that are depths",
        remedy=remedy,
    )


def _several(where: str, planes: int, period: int) -> BadInputError:
    """Refusal of a stack that holds more than one."""
    times, over = divmod(planes, period)
    if period in CHANNELS:
        found = f"{period} channels that take turns from plane to plane"
        remedy = (
            f"Set axes in the sample sheet to z{times}c{period}yx (slowest first) and give each channel a "
            f"row with its file_channel, 1 to {period}; if these are time points of {period} planes, set "
            f"axes to t{times}z{period}yx;"
        )
    else:
        found = f"{times} time points of {period} planes one after the other"
        cut = f" once the last {over} planes, of an incomplete time point, are removed" if over else ""
        remedy = f"Set axes in the sample sheet to t{times}z{period}yx (slowest first){cut};"
        if times in CHANNELS and not over:
            remedy += f" {_as_channels(times, period)}"
    return BadInputError(
        where,
        found=f"stacks of {planes} planes that are alike {period} apart and less so in between: {found}",
        expected="stacks of one channel at one time",
        remedy=f"{remedy} if the stack is right as it is, to z{planes}yx.",
    )


def _as_channels(channels: int, planes: int) -> str:
    return (
        f"if they are channels one after the other, to c{channels}z{planes}yx, and give each a row with its "
        f"file_channel, 1 to {channels};"
    )


def _one_after_the_other(where: str, planes: int, stacks: int) -> BadInputError:
    """Refusal of a stack that holds several that have nothing in common."""
    depth = planes // stacks
    return BadInputError(
        where,
        found=f"stacks of {planes} planes of which neighbours are alike, but not where the first of {stacks} "
        f"stacks of {depth} planes would end and the next begin",
        expected="stacks of one channel at one time",
        remedy=f"Set axes in the sample sheet (slowest first): {_as_channels(stacks, depth)} if they are "
        f"time points, to t{stacks}z{depth}yx; if the stack is right as it is, to z{planes}yx.",
    )


def _frames_in_turns(where: str, frames: int, planes: int, turns: int, *, in_one_file: bool) -> BadInputError:
    """Refusal of a movie whose frames are those of several series."""
    remedy = (
        "Put the files of each into a folder of its own: channels are rows of one movie, positions movies of "
        f"their own. If the movie is right as it is, set axes in the sample sheet to z{planes}yx."
        if not in_one_file
        else f"Set axes in the sample sheet to t{ceil(frames / turns)}c{turns}z{planes}yx (slowest first) "
        f"and give each a row with its file_channel, 1 to {turns}: channels are rows of one movie, positions "
        f"movies of their own. If the movie is right as it is, set axes to t{frames}z{planes}yx."
    )
    return BadInputError(
        where,
        found=f"frames that are alike {turns} apart and less so in between: {turns} series that take turns "
        "(channels, positions, or directions of the scan)",
        expected="frames of one channel at one position",
        remedy=remedy,
    )


def copied_channels(channels: Sequence[str], looks: Sequence[Sequence[Evidence]]) -> list[str]:
    """A line for each channel of a movie that holds the voxels of another."""
    digests = [[look.digest for look in own] for own in looks]
    return [
        f"{channel}: the same voxels as {channels[first]} in every frame looked at. Give the path of its own "
        "files."
        for number, channel in enumerate(channels)
        if (first := digests.index(digests[number])) < number
    ]


def plausibility_warnings(row: SheetRow, record: MovieRecord, looks: Sequence[Evidence]) -> list[str]:
    """What is odd about a channel, one line each, with what to do."""
    lines = []
    acquisition = record.usable()
    if record.frames == 1 and acquisition.interval_s is not None and row.axes is None:
        source = acquisition.sources.get("interval_s", "sample sheet")
        lines.append(
            f"One time point, but an interval of {acquisition.interval_s:g} s is given ({source}): if the "
            "stack holds several, set axes in the sample sheet, as in t4z24yx."
        )
    counts = np.flatnonzero(np.any([look.occupied for look in looks], axis=0))
    factor = int(np.bitwise_or.reduce(counts))
    factor &= -factor  # the lowest bit that any count has
    if factor > 1 and len(counts) >= LEAST_VALUES:
        lines.append(
            f"{row.channel}: all counts are multiples of {factor}: fewer bits were stretched to 16. Tracks "
            f"do not mind; divide intensities by {factor} to have the camera's counts."
        )
    lost = [look.rounding for look in looks if look.rounding is not None and look.rounding.loses]
    if lost:
        lines.append(
            f"{row.channel}: rounding to whole counts loses the signal of some frames ({lost[0]}). "
            f"{_scaled([look.rounding for look in looks if look.rounding is not None])}."
        )
    return lines
