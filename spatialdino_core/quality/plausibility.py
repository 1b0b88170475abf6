"""Whether the voxels of a movie can be what its sample sheet and its files say: refusals and warnings.

Judged on the frames that the preview looks at. What cannot be told from them is not held against the movie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, radians
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.background import Histogram, intensity_histogram
from spatialdino_core.geometry.rounding import Rounding, rounding_of
from spatialdino_core.movies.record import Acquisition, MovieRecord
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
    follows
        Whether the frame before looks like the plane before of a skewed scan; sure only of more frames.
    """

    returning: int | None
    ends: Covariance
    occupied: NDArray[np.bool_]
    rounding: Rounding | None
    follows: bool = False


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


def frames_in_a_row(usable: Sequence[int]) -> list[int]:
    """Frames in the middle of a movie that tell whether frames are planes; none if it is too short."""
    start = (len(usable) - FRAMES_IN_A_ROW) // 2
    row = list(usable[start : start + FRAMES_IN_A_ROW]) if start >= 0 else []
    return row if row and row[-1] - row[0] == FRAMES_IN_A_ROW - 1 else []


def check_plausible(
    row: SheetRow, record: MovieRecord, looks: Sequence[Evidence], in_a_row: Callable[[], Sequence[Texture]]
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
        Reads the textures of `frames_in_a_row`; asked only where frames may be planes.

    Raises
    ------
    BadInputError
        If rounding to counts would lose the signal of every frame looked at; if planes are those of several
        time points or channels; if planes and time points are exchanged.
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
    if _frames_are_planes(record, looks, in_a_row):
        raise _exchanged(where, record.frames, planes, files=len(row.files()))


def _frames_are_planes(
    record: MovieRecord, looks: Sequence[Evidence], in_a_row: Callable[[], Sequence[Texture]]
) -> bool:
    alike = alike_throughout([look.ends for look in looks])
    follows = any(look.follows for look in looks)
    row = in_a_row() if alike or follows else []
    if follows and frames_move_as_planes(row, *_skew(record.usable())):
        return True
    return alike and pass_through_focus([seen.mean for seen in row])


def _scaled(frames: Sequence[Rounding]) -> str:
    factor = min(rounding.factor for rounding in frames)
    return f"Multiply all frames by {factor} and save them as 16-bit stacks"


def _exchanged(where: str, frames: int, planes: int, files: int) -> BadInputError:
    """Refusal of a movie whose frames are planes; it may be one file or one for each of them."""
    remedy = (
        f"Set axes in the sample sheet to z{frames}t{planes}yx (slowest first); if the file is right as it "
        f"is, to t{frames}z{planes}yx."
        if files == 1
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
    return BadInputError(
        where,
        found=f"stacks of {planes} planes that are alike {period} apart and less so in between: {found}",
        expected="stacks of one channel at one time",
        remedy=f"{remedy} if the stack is right as it is, to z{planes}yx.",
    )


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
