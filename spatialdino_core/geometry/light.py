"""How bright each frame of a movie is, and which frames hold no image at all.

A frame is measured when it is computed, and judged beside the others when all are known: the shutter that was
closed, the camera that stood still. What frames look like otherwise is the review's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.geometry.background import histogram_mode, histogram_quantile, intensity_histogram
from spatialdino_core.movies.rounding import Rounding

BRIGHT_FRACTION = 0.9999
LEAST_WIDTH = 0.5  # counts, of the background's peak: it may be a single count
SIGNAL_WIDTHS = 5.0  # normal noise alone reaches 3.7
DARK_SHARE = 1 / 3  # of the neighbours' brightness
NEIGHBOURS = 3
LISTED = 8
DARK = "no signal (dark). Tracks bridge short gaps; look after shutter and laser."
CONSTANT = "a single value (no image). Tracks bridge short gaps; look after camera and file transfer."
LOST = "rounding to whole counts loses the signal. Multiply the movie and save it as 16-bit stacks."


@dataclass(frozen=True, kw_only=True)
class FrameLight:
    """Light of one frame of one channel, counts.

    Attributes
    ----------
    background
        Most frequent intensity.
    width
        Half-width of its peak, to the dark side, as a standard deviation: the noise of the background.
    bright
        99.99th percentile of the intensities above the background.
    constant
        Whether all voxels have one value.
    """

    background: float
    width: float
    bright: float
    constant: bool

    @property
    def has_signal(self) -> bool:
        """Whether anything stands out of the noise."""
        return not self.constant and self.bright >= SIGNAL_WIDTHS * max(self.width, LEAST_WIDTH)


def frame_light(raw: NDArray[np.uint16]) -> FrameLight:
    """Light of a raw stack, of any shape, off its histogram."""
    histogram = intensity_histogram(raw)
    background = histogram_mode(histogram)
    below = histogram[: round(background) + 1][::-1].copy()
    below[-1:] = 0  # dropped planes and padding, since a camera has an offset
    return FrameLight(
        background=float(background),
        width=histogram_quantile(below, 0.5) / 0.6745,
        bright=float(max(histogram_quantile(histogram, BRIGHT_FRACTION) - background, 0)),
        constant=int(np.count_nonzero(histogram)) == 1,
    )


def dark_frames(lights: Mapping[int, FrameLight]) -> list[int]:
    """Frames without signal between frames with one: the shutter was closed, or the laser off.

    A frame is dark if nothing stands out of its noise and it is not a third as bright as its neighbours with
    signal: the median of the nearest three on either side, of which the lower counts. So a movie that
    bleaches darkens frame by frame without any being dark, and one bright frame makes no other one dark.

    Parameters
    ----------
    lights
        Frame number to its light, of one channel; constant frames are named elsewhere.
    """
    bright = [frame for frame in sorted(lights) if lights[frame].has_signal]
    dark = []
    for frame, light in sorted(lights.items()):
        if light.has_signal or light.constant:
            continue
        sides = (
            [other for other in bright if other < frame][-NEIGHBOURS:],
            [other for other in bright if other > frame][:NEIGHBOURS],
        )
        references = [np.median([lights[other].bright for other in side]) for side in sides if side]
        if references and light.bright < DARK_SHARE * min(references):
            dark.append(frame)
    return dark


def frame_warnings(facts: Mapping[int, Mapping[str, Any]], channels: Sequence[str]) -> list[str]:
    """One line for each thing that is wrong with frames, by channel.

    Parameters
    ----------
    facts
        Frame number to what the ledger keeps of it: ``light`` (and, for stacks of fractions, ``rounding``),
        one per channel.
    channels
        Their names.
    """
    lines = []
    for number, channel in enumerate(channels):
        lights = {
            frame: FrameLight(**kept["light"][number]) for frame, kept in facts.items() if kept.get("light")
        }
        rounded = {frame: kept["rounding"][number] for frame, kept in facts.items() if kept.get("rounding")}
        found = {
            DARK: dark_frames(lights),
            CONSTANT: [frame for frame in sorted(lights) if lights[frame].constant],
            LOST: [frame for frame in sorted(rounded) if rounded[frame] and Rounding(**rounded[frame]).loses],
        }
        lines += [f"{channel}, {listed(frames)}: {what}" for what, frames in found.items() if frames]
    return lines


def listed(frames: Sequence[int]) -> str:
    """``frame 4``, ``frames 4, 7 to 9``.

    Examples
    --------
    >>> listed([4, 7, 8, 9])
    'frames 4, 7 to 9'
    """
    runs: list[list[int]] = []
    for frame in frames:
        if runs and frame == runs[-1][-1] + 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    more = f" and {len(words) - LISTED} more" if len(words) > LISTED else ""
    return ("frame " if len(frames) == 1 else "frames ") + ", ".join(words[:LISTED]) + more
