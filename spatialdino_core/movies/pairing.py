"""Which stacks of several channels are one frame: those of one time point, unless their clocks say otherwise.

Cameras that count for themselves count on where one of them lost a stack: numbers then put stacks together
that were taken at other times. Not what a frame is made of: that is :mod:`.resolve`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.channel import Channel
from spatialdino_core.movies.names import ORDER

TOGETHER = 0.2
"""Stacks nearer than this to the usual delay of their channel are of one frame (steps)."""
APART = 0.5
"""And those farther than this of none; in between it is not certain (steps)."""
DELAYS = np.arange(-9, 11) / 20
"""Delays of a channel behind the first that are tried (steps)."""
LONGEST_DELAY = 0.9
"""And the longest of stacks of the same number, where channels take turns (steps)."""

Indices = dict[int, int]
"""Number of a time point, on a scale that all channels share, to the index in a channel's image."""


@dataclass(frozen=True)
class Pairing:
    """How the stacks of channels go together.

    Attributes
    ----------
    indices
        For each channel.
    by_clock
        Whether clocks decided, against the numbers.
    warnings
        What neither tells.
    """

    indices: list[Indices]
    by_clock: bool = False
    warnings: tuple[str, ...] = ()


def paired(channels: Sequence[Channel], stated: bool) -> Pairing:
    """Put stacks of channels together.

    Parameters
    ----------
    channels
        Of one movie.
    stated
        Whether the user has said which numbers count frames: then they decide.

    Raises
    ------
    BadInputError
        If neither numbers nor clocks are certain.
    """
    clocks = _clocks(channels)
    if _share_keys(channels):
        return Pairing(_by_key(channels, clocks))
    numbered = _by_number(channels)
    if len(channels) == 1 or (stated and all(channel.opened.counted for channel in channels)):
        return Pairing(numbered)
    if clocks is None:
        for other in channels[1:]:
            _refuse_other_keys(channels[0], other)
            _refuse_other_numbers(channels[0], other)
        return Pairing(numbered, warnings=tuple(map(_one_is_shorter, channels[1:], repeat(channels[0]))))
    if _agree(numbered, clocks):
        return Pairing(numbered)
    in_turns = _in_turns(channels)
    if in_turns and _agree(in_turns, clocks):
        return Pairing(in_turns, by_clock=True)
    return Pairing(_by_clock(channels, clocks), by_clock=True)


def _by_key(channels: Sequence[Channel], clocks: Sequence[NDArray[np.float64]] | None) -> list[Indices]:
    """Stacks that were put in order by the same values, or nearly so by clocks that show whole seconds."""
    keys = [channel.opened.keys for channel in channels]
    every = sorted({key for own in keys for key in own})
    if clocks is not None and len(set(map(len, keys))) == 1 and any(set(own) != set(keys[0]) for own in keys):
        ranks = [{n: n for n in range(len(own))} for own in keys]
        if _agree(ranks, clocks):
            return ranks
    if clocks is not None:
        common = set.intersection(*map(set, keys))
        alone = sorted((key[0], channel) for channel, own in enumerate(keys) for key in {*own} - common)
        for (a, one), (b, other) in pairwise(alone):
            if one != other and b > a and b - a <= APART * _step(clocks):
                raise _uncertain(channels, max(one, other))
    return [{every.index(key): n for n, key in enumerate(own)} for own in keys]


def _one_is_shorter(channel: Channel, first: Channel) -> str:
    """A word on channels of which one has fewer time points, without clocks; empty where that is not so."""
    a, b = (one.opened.numbers or one.points for one in (first, channel))
    gaps = any(own[-1] - own[0] >= len(own) for own in (a, b))
    if gaps or a[0] != b[0] or len(a) == len(b):
        return ""
    return (
        f"channels '{first.row.channel}' and '{channel.row.channel}' have {len(a)} and {len(b)} time points; "
        "no clock tells whether the shorter one ended earlier, or lost a stack before and counted on"
    )


def _share_keys(channels: Sequence[Channel]) -> bool:
    """Whether time points that are not counted were put in order by the same values in all channels."""
    keys = [set(channel.opened.keys) for channel in channels]
    if len(channels) == 1 or not all(keys) or _take_turns(channels):
        return False
    return all(2 * len(keys[0] & own) > min(len(keys[0]), len(own)) for own in keys[1:])


def _share_numbers(channels: Sequence[Channel]) -> bool:
    """Whether channels have whole numbers of names in common, of which some leave out others."""
    numbers = [set(channel.opened.numbers) for channel in channels]
    if len(channels) == 1 or not all(own and all(float(n).is_integer() for n in own) for own in numbers):
        return False
    gaps = any(max(own) - min(own) >= len(own) for own in numbers)
    return gaps and all(len(own & numbers[0]) > 1 for own in numbers[1:])


def _take_turns(channels: Sequence[Channel]) -> bool:
    """Whether one counter from 0 goes from channel to channel: 0, 2, 4, … and 1, 3, 5, …"""
    every = len(channels)
    begins = sorted(min(channel.opened.keys) for channel in channels)
    return begins == [(n,) for n in range(every)] and all(
        list(channel.opened.keys) == [(min(channel.opened.keys)[0] + n * every,) for n in range(frames)]
        for frames in [len(channels[0].opened.keys)]
        for channel in channels
    )


def _in_turns(channels: Sequence[Channel]) -> list[Indices]:
    """Where one counter goes from channel to channel, and some stacks are lost or none; else nothing."""
    every, numbers = len(channels), [channel.opened.numbers for channel in channels]
    if not all(numbers) or len({tuple({n % every for n in own}) for own in numbers}) < every:
        return []
    first = min(map(min, numbers))
    return [{int(n - first) // every: index for index, n in enumerate(own)} for own in numbers]


def _by_number(channels: Sequence[Channel]) -> list[Indices]:
    """Where one channel counts in its names and another in its file, both begin with the first time point."""
    first = channels[0]
    if not all(channel.opened.numbers == channel.points for channel in channels) and _share_numbers(channels):
        # One of them has files for a few of the time points only, in steps that count for themselves.
        numbers = [[int(n) for n in channel.opened.numbers] for channel in channels]
        base = min(map(min, numbers))
        step = math.gcd(*(n - base for own in numbers for n in own))
        base = base if step > 1 else 0
        return [{(n - base) // step: index for index, n in enumerate(own)} for own in numbers]
    shifts = [
        0 if channel.opened.counted == first.opened.counted else first.points[0] - channel.points[0]
        for channel in channels
    ]
    return [
        {point + shift: index for index, point in enumerate(channel.points)}
        for channel, shift in zip(channels, shifts, strict=True)
    ]


def _clocks(channels: Sequence[Channel]) -> list[NDArray[np.float64]] | None:
    """Times (s) of all stacks of each channel, by clocks that can be compared; None without them."""
    times = [np.array([clock[p] for p in c.points if p in clock]) for c in channels for clock in [c.clock]]
    complete = all(len(own) == len(c.points) > 1 for own, c in zip(times, channels, strict=True))
    one_kind = len({"names" in channel.clock_source for channel in channels}) == 1
    # Clocks that never show the same times count from elsewhere, or channels were taken one after the other.
    if not complete or not one_kind or max(own.min() for own in times) > min(own.max() for own in times):
        return None
    return times


def _step(clocks: Sequence[NDArray[np.float64]]) -> float:
    """Usual time between the stacks of the fastest channel, s."""
    return float(min(np.median(np.diff(own)) for own in clocks))


def _agree(numbered: Sequence[Indices], clocks: Sequence[NDArray[np.float64]]) -> bool:
    """Whether the stacks of each channel are as far behind those of the same numbers of the first as ever."""
    first = numbered[0]
    for other, own in zip(numbered[1:], clocks[1:], strict=True):
        step = _step([clocks[0], own])
        late = np.array([own[other[p]] - clocks[0][first[p]] for p in first if p in other]) / step
        # Times in whole seconds are cut: equal delays differ by one.
        whole = all(bool(np.all(times == np.round(times))) for times in (clocks[0], own))
        cut = min(1 / step, APART) if whole else 0.0
        most = APART if _is_later(list(first), list(other)) else LONGEST_DELAY
        if len(late) == 0 or np.ptp(late) - cut >= APART or abs(float(np.median(late))) >= most:
            return False
    return True


def _is_later(points: Sequence[int], others: Sequence[int]) -> bool:
    """Whether numbers begin and end later, or both earlier, than others: they may count from elsewhere."""
    return (others[0] - points[0]) * (others[-1] - points[-1]) > 0


def _by_clock(channels: Sequence[Channel], clocks: Sequence[NDArray[np.float64]]) -> list[Indices]:
    """Stacks that were taken together, by their clocks; gaps in the numbers of the first channel stay."""
    step = _step(clocks)
    delays = [_delay(channels, clocks, number, step) for number in range(1, len(channels))]
    late = [0.0, *delays]
    stacks = sorted(
        (float(seconds) - late[channel], channel, index)
        for channel, own in enumerate(clocks)
        for index, seconds in enumerate(own)
    )
    indices: list[Indices] = [{} for _ in channels]
    point, begun = -1, -math.inf
    for seconds, channel, index in stacks:
        if seconds - begun >= APART * step:
            point, begun = point + 1, seconds
        if channel == 0 and channels[0].opened.counted:
            # Numbers of its own that the first channel leaves out are stacks that no channel has.
            since = channels[0].points[index] - channels[0].points[0]
            point = max(point, min(indices[0], default=point) + since)
        if point in indices[channel]:
            raise _uncertain(channels, channel)
        indices[channel][point] = index
    return indices


def _delay(
    channels: Sequence[Channel], clocks: Sequence[NDArray[np.float64]], number: int, step: float
) -> float:
    """How much later (s) a channel is taken than the first, in the frames that both have."""
    begins = (clocks[number][0] - clocks[0][0]) / step
    tried = [*([begins] if abs(begins) < LONGEST_DELAY else []), *sorted(DELAYS, key=abs)]
    apart = [_distances(clocks[0], clocks[number] - late * step) / step for late in tried]
    together = [int(np.count_nonzero(one < TOGETHER)) for one in apart]
    best = int(np.argmax(together))
    if together[best] == 0 or np.any((apart[best] >= TOGETHER) & (apart[best] <= APART)):
        raise _uncertain(channels, number)
    return float(tried[best]) * step


def _distances(times: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each of some times from the nearest of others, rising."""
    after = np.clip(np.searchsorted(times, others), 1, len(times) - 1)
    return np.minimum(np.abs(others - times[after - 1]), np.abs(others - times[after]))


def _uncertain(channels: Sequence[Channel], number: int) -> BadInputError:
    first, other = channels[0], channels[number]
    patterns = {c.row.channel: c.opened.pattern.replace(f"?P<{ORDER}>", "") for c in (first, other)}
    how = "; ".join(f"{pattern} ('{channel}')" for channel, pattern in patterns.items() if pattern)
    return BadInputError(
        f"movie '{first.row.movie}'",
        found=f"channels '{first.row.channel}' and '{other.row.channel}' of which numbers and clocks "
        "disagree, and the clocks do not tell what was taken together",
        expected="the same time points in both, or clock times in one rhythm",
        remedy="Remove the stacks that one channel alone has"
        + (f", or say in the column 'time_point' that the numbers are right: {how}." if how else "."),
    )


def _refuse_other_keys(first: Channel, other: Channel) -> None:
    """Refuse two channels that are put in order by other values, without clocks."""
    if first.opened.keys and other.opened.keys and not _take_turns([first, other]):
        raise BadInputError(
            f"movie '{first.row.movie}'",
            found=f"names of channel '{first.row.channel}' and '{other.row.channel}' that are put in order "
            f"by {first.opened.by}, and by other values in each",
            expected="the same time points in both, or clock times in one rhythm",
            remedy="Name the files of both channels alike, or say in 'time_point' which number counts.",
        )


def _refuse_other_numbers(first: Channel, other: Channel) -> None:
    """Refuse time points that begin and end later in one channel, without clocks."""
    a, b = first.points, other.points
    if first.opened.counted != other.opened.counted or not _is_later(a, b):
        return
    apart = math.gcd(*(y - x for x, y in pairwise(a))) > 1 and len(a) == len(b)
    order = other.opened.pattern
    patterns = {c.row.channel: c.opened.pattern.replace(f"?P<{ORDER}>", "") for c in (first, other)}
    said = "say in the column 'time_point' of"
    ways = ["Rename the files of one channel"]
    if apart and order:
        ways.append(f"if one counter goes from channel to channel, {said} each: {order}")
    elif all(patterns.values()):
        listed = "; ".join(f"{pattern} ('{channel}')" for channel, pattern in patterns.items())
        ways.append(f"or, if the numbers are right, {said} each: {listed}")
        if all(own[-1] - own[0] < len(own) for own in (a, b)):
            ways.append(f"if each begins with its first, {said} '{other.row.channel}' alone: {order}")
    raise BadInputError(
        f"movie '{first.row.movie}'",
        found=f"time points {a[0]}–{a[-1]} in channel '{first.row.channel}' and {b[0]}–{b[-1]} in "
        f"'{other.row.channel}': read by number, or each from its first ({b[0] - a[0]} apart)",
        expected="the same numbers, or clock times that tell",
        remedy="; ".join(ways),
    )
