"""What the rows of a movie mean: which stack is which frame and channel, and when it was taken.

Evidence comes in a fixed order: the sample sheet, what files say of themselves, their names. Channels are put
together by the time points that their files carry, and where these are numbered differently by the clock;
never by their place in a list.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.channel import (
    Channel,
    names_of_other_channels,
    odd_names,
    refuse_names_of_other_rows,
    refuse_one_channel_twice,
    runs,
)
from spatialdino_core.movies.choosing import channel_number, chosen_image
from spatialdino_core.movies.formats.image import FileMetadata, Piece, Readable
from spatialdino_core.movies.opened import below_common_folder
from spatialdino_core.movies.opening import open_row
from spatialdino_core.movies.pairing import paired
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.movies.unused_files import with_unused_files

OTHERWISE = "channels were put together by their clocks: the numbers of their time points say otherwise"
DECIMALS = 6  # of times in s: a microsecond


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A movie whose stacks are known.

    Attributes
    ----------
    table
        Where they are; its times are settled later, with the interval.
    shape_zyx, dtype
        Of every stack that is not left out.
    said
        What the files say of sizes and times, the most trusted first.
    clock_s
        Frame to the time it was taken, s, where something says; and what says so.
    by
        What told the order of the files.
    files
        Number of files, the first and the last.
    odd_clock
        Why a clock of the files is not taken.
    warnings
        What is odd.
    """

    table: AcquisitionTable
    shape_zyx: tuple[int, int, int]
    dtype: str
    said: tuple[FileMetadata, ...]
    clock_s: Mapping[int, float]
    by: str
    files: tuple[int, str, str]
    odd_clock: str
    warnings: tuple[str, ...]


def resolve(rows: Sequence[SheetRow], reading: ReadingParameters) -> Resolved:
    """Settle what the rows of a movie mean.

    Parameters
    ----------
    rows
        One per channel.
    reading
        Settings of reading; those of a row come first.

    Raises
    ------
    BadInputError
        For what is wrong, and for what is uncertain, with the readings and the cell that decides.
    """
    channels = _opened_channels(rows, reading)
    refuse_one_channel_twice(channels)
    refuse_names_of_other_rows(channels)
    pairing = paired(channels, stated=all(row.time_point or reading.time_point for row in rows))
    aligned = pairing.indices
    points = sorted({point for own in aligned for point in own})
    frames = list(range(points[0], points[-1] + 1)) if _is_counted(channels) else points
    recorded = [
        p for p in frames if any(_is_there(c, own.get(p)) for c, own in zip(channels, aligned, strict=True))
    ]
    if not recorded:
        raise _no_stack(channels[0])
    # What was announced and never recorded at the end is no frame.
    announced = [point for point in frames if point > recorded[-1]]
    frames = frames[: len(frames) - len(announced)]
    stacks: dict[tuple[int, int], tuple[Piece, ...]] = {}
    left_out: dict[tuple[int, int], str] = {}
    for frame, point in enumerate(frames):
        for number, (channel, own) in enumerate(zip(channels, aligned, strict=True)):
            key = (own[point], channel.number) if point in own else None
            if key is not None and key in channel.image.stacks:
                stacks[frame, number] = channel.image.stacks[key]
            else:
                left_out[frame, number] = _reason(channel, key, point, pairing.by_clock)
    shape, dtype = _common_form(channels)
    clock, source = _clock(channels, aligned, frames)
    names = below_common_folder(list(dict.fromkeys(file for c in channels for file in c.opened.files)))
    table = AcquisitionTable(
        channels=tuple(row.channel for row in rows),
        frames=len(frames),
        stacks=stacks,
        left_out=left_out,
        announced={
            point: f"time point {point} is announced, but was never recorded (the acquisition stopped after "
            f"{len(frames)} time points)"
            for point in announced
        },
        clock=source,
        position=channels[0].image.name if len(channels[0].opened.images) > 1 else "",
    )
    table = with_unused_files(table, [channel.opened for channel in channels])
    return Resolved(
        table=table,
        shape_zyx=shape,
        dtype=dtype,
        said=_said(channels, clock, source),
        clock_s=clock,
        by=channels[0].opened.by,
        files=(len(names), names[0], names[-1]),
        odd_clock=next((channel.odd_clock for channel in channels if channel.odd_clock), ""),
        warnings=(
            *(warning for channel in channels for warning in channel.opened.warnings),
            *odd_names(channels),
            *names_of_other_channels(channels),
            *dict.fromkeys(c.odd_clock for c in channels if c.odd_clock and not c.has_constant_clock),
            *([OTHERWISE] if pairing.by_clock else []),
            *filter(None, pairing.warnings),
        ),
    )


def _opened_channels(rows: Sequence[SheetRow], reading: ReadingParameters) -> list[Channel]:
    channels = []
    for row in rows:
        others = [other.channel for other in rows if other.path == row.path and other is not row]
        with Readable(Path(row.path)):
            opened = open_row(row, others, reading.time_point)
        image = chosen_image(row, opened.images)
        number = channel_number(row, image, opened.named)
        channels.append(Channel(row=row, opened=opened, image=image, number=number))
        if not channels[-1].points:
            raise _no_stack(channels[-1])
    return channels


def _no_stack(channel: Channel) -> BadInputError:
    return BadInputError(
        channel.row.path,
        found=next(iter(channel.image.faults.values()), "no stack"),
        expected="at least one whole stack",
        remedy="Copy it again from the microscope.",
    )


def _is_counted(channels: Sequence[Channel]) -> bool:
    return all(channel.opened.counted for channel in channels)


def _is_there(channel: Channel, index: int | None) -> bool:
    """Whether anything of a stack was recorded."""
    return index is not None and (index, channel.number) not in channel.image.absent


def _reason(channel: Channel, key: tuple[int, int] | None, point: int, by_clock: bool) -> str:
    if key is None and by_clock:
        return f"{channel.row.path}: no stack of channel '{channel.row.channel}' at this time, by the clocks"
    if key is None:
        text = f"{channel.row.path}: no file for time point {point} of channel '{channel.row.channel}'"
        steps = [b - a for a, b in pairwise(channel.points)]
        often = channel.points[-1] - channel.points[0] + 1 >= 2 * len(channel.points)
        if not steps or not (math.gcd(*steps) > 1 or often):
            return text
        even = (
            f"all go in steps of {steps[0]}"
            if len(set(steps)) == 1
            else "as many are missing as are there, or more"
        )
        how = f": {channel.opened.pattern}" if channel.opened.pattern else ""
        return f"{text}; {even}; if the numbers count no frames, say so in the column 'time_point'{how}"
    return channel.image.faults.get(key, "no stack")


def _common_form(channels: Sequence[Channel]) -> tuple[tuple[int, int, int], str]:
    forms = {(c.image.shape_zyx, c.image.dtype.name): c.row.channel for c in channels}
    if len(forms) > 1:
        listed = "; ".join(f"'{channel}': {shape} {dtype}" for (shape, dtype), channel in forms.items())
        raise BadInputError(
            f"movie '{channels[0].row.movie}'",
            found=f"channels that differ in shape or type: {listed}",
            expected="stacks of one shape and type in all channels",
            remedy="Correct the paths, or give the channels movies of their own.",
        )
    return next(iter(forms))


def _clock(
    channels: Sequence[Channel],
    aligned: Sequence[Mapping[int, int]],
    frames: Sequence[int],
) -> tuple[dict[int, float], str]:
    """Time of each frame by the first channel that has a clock."""
    for channel, own in zip(channels, aligned, strict=True):
        if not channel.clock:
            continue
        index = {i: point for point, i in own.items()}
        by_index = {channel.points.index(point): seconds for point, seconds in channel.clock.items()}
        times = {index[i]: seconds for i, seconds in by_index.items() if i in index}
        found = {frame: times[point] for frame, point in enumerate(frames) if point in times}
        if runs(found):
            return found, channel.clock_source
    return {}, ""


def _said(channels: Sequence[Channel], clock: Mapping[int, float], source: str) -> tuple[FileMetadata, ...]:
    """What files say, the most trusted first: settings files, the clock, the files themselves."""
    beside = [said for channel in channels for said in channel.opened.beside]
    interval = usual_interval(clock)
    measured = [FileMetadata(interval_s=interval, origin=source)] if interval else []
    return tuple(dict.fromkeys([*beside, *measured, *(channel.image.metadata for channel in channels)]))


def usual_interval(clock: Mapping[int, float]) -> float | None:
    """Median time between neighbouring frames, s."""
    steps = [clock[frame + 1] - clock[frame] for frame in clock if frame + 1 in clock]
    return round(statistics.median(steps), DECIMALS) if steps else None


def times_of(frames: int, clock: Mapping[int, float], interval_s: float | None) -> list[float]:
    """Time of every frame, s after frame 0: by the clock; between and beyond its frames by the interval."""
    if frames < 2 or interval_s is None:
        return []
    if not runs(clock):
        return [interval_s * frame for frame in range(frames)]
    known = np.array(sorted(clock))
    seconds = np.array([clock[frame] for frame in known])
    numbers = np.arange(frames)
    times = np.interp(numbers, known, seconds)
    times += interval_s * (np.minimum(numbers - known[0], 0) + np.maximum(numbers - known[-1], 0))
    return [round(float(t), DECIMALS) for t in times - times[0]]
