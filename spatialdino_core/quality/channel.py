"""Measures of one channel of a movie, from a few of its frames and from what changes between them.

Reads no files, and judges nothing.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.geometry.background import estimate_background
from spatialdino_core.geometry.bad_pixels import Repair, mask_of
from spatialdino_core.geometry.no_data import inner_parts, no_data_region, no_data_value
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.quality.bleaching import signal_trend
from spatialdino_core.quality.coherence import SpotMaxima, noise_p_value, spot_maxima
from spatialdino_core.quality.hot_pixels import hot_pixels
from spatialdino_core.quality.metrics import FrameMetrics, frame_metrics
from spatialdino_core.quality.motion import motion_image, rigid_shift
from spatialdino_core.quality.pictures import max_projection, middle_plane
from spatialdino_core.quality.plane_correlation import PlaneCorrelations, plane_correlations
from spatialdino_core.statistics import evenly_spread

S_PER_MIN = 60.0


@dataclass(frozen=True, kw_only=True)
class FrameLook:
    """What is kept of a frame once its voxels are gone.

    Attributes
    ----------
    frame
        Its number.
    metrics
        Its measures.
    content
        Digest of its voxels, to tell identical frames.
    motion
        Image (y, x) that motion is read from.
    projection, middle
        Small maximum projection and middle plane, float32 (y, x).
    spots
        Maxima that tell a movie from noise; ``None`` where it has too few planes.
    hot_pixels
        Set of (y, x).
    no_data
        Value that fills its borders; ``None`` where they are data.
    no_data_fraction
        Share of the voxels that are filled.
    planes
        How its planes correlate; ``None`` where they do not tell. It adds up over frames, and is large.
    """

    frame: int
    metrics: FrameMetrics
    content: bytes
    motion: NDArray[np.float32]
    projection: NDArray[np.float32]
    middle: NDArray[np.float32]
    spots: SpotMaxima | None
    hot_pixels: frozenset[tuple[int, int]]
    no_data: int | None
    no_data_fraction: float
    planes: PlaneCorrelations | None


@dataclass(frozen=True, kw_only=True)
class ChannelMetrics:
    """Measures of one channel of a movie; ``None`` where its frames do not tell.

    Attributes
    ----------
    snr, background, noise, signal, focus, lowest, highest, percentile_1, percentile_50, percentile_99
        Of the first frame looked at; see `spatialdino_core.quality.metrics.FrameMetrics`.
    saturated_fraction, empty_planes, repeated_planes
        Of the worst of the frames looked at.
    snr_last, focus_last
        Of the last frame looked at.
    repeated_frames
        Frames identical to the one looked at before: a camera or a file transfer that stood still.
    background_change
        Background of the last frame looked at less that of the first, counts.
    signal_change, signal_slope_per_frame, half_life_s
        See `spatialdino_core.quality.bleaching.SignalTrend`.
    motion_um, motion_um_per_min
        Rigid shift of the sample from the first to the second usable frame, in the image plane: its
        length, µm, and its speed, µm/min.
    drift_um, drift_um_per_min
        The same from the first to the last frame looked at.
    noise_p_value, mirrored_p_value
        Of the hypotheses that all frames looked at hold noise alone, and that they would if the scan had gone
        the other way; see `spatialdino_core.quality.coherence.noise_p_value`.
    hot_pixels
        How many pixels of the camera are hot; see `lasting_hot_pixels`.
    no_data_fraction
        Share of the voxels of the first frame that another program filled with one value. They count in no
        other measure.
    """

    snr: float
    background: float
    noise: float
    signal: float
    focus: float
    saturated_fraction: float
    empty_planes: int
    repeated_planes: int
    repeated_frames: int
    snr_last: float
    focus_last: float
    background_change: float | None
    signal_change: float | None
    signal_slope_per_frame: float | None
    half_life_s: float | None
    motion_um: float | None
    motion_um_per_min: float | None
    drift_um: float | None
    drift_um_per_min: float | None
    lowest: float
    highest: float
    percentile_1: float
    percentile_50: float
    percentile_99: float
    noise_p_value: float | None
    mirrored_p_value: float | None
    hot_pixels: int
    no_data_fraction: float


def frames_to_look_at(usable: Sequence[int], number: int) -> list[int]:
    """Frames evenly spread from the first to the last, and the second, which the first is compared with.

    Parameters
    ----------
    usable
        Frames that can be read, increasing; at least one.
    number
        How many evenly spread frames; 1 gives the first alone.

    Examples
    --------
    >>> frames_to_look_at(range(0, 100, 10), 3)
    [0, 10, 40, 90]
    """
    if number == 1:
        return [usable[0]]
    spread = evenly_spread(len(usable), number).tolist()
    return [usable[place] for place in sorted({*spread, min(1, len(usable) - 1)})]


def look_at(frame: int, stack: NDArray[Any], geometry: ScanGeometry, optics: OpticsParameters) -> FrameLook:
    """Measure a raw stack (z, y, x) of camera counts, uint16, but for hot pixels and filled borders."""
    content = hashlib.blake2b(np.ascontiguousarray(stack).data, digest_size=16).digest()
    no_data, region = no_data_value(stack), None
    if no_data is not None:
        region = no_data_region(stack, no_data)
        # An edge that stands still would hide motion.
        stack = np.where(region, np.uint16(round(estimate_background(stack, no_data))), stack)
    hot = [(y, x) for y, x in hot_pixels(stack).tolist()]
    stack = Repair.of(mask_of(hot, (stack.shape[1], stack.shape[2])))(stack)
    data = stack if region is None else inner_parts(stack, region) or stack
    return FrameLook(
        frame=frame,
        metrics=frame_metrics(data),
        content=content,
        motion=motion_image(stack),
        projection=max_projection(stack),
        middle=middle_plane(stack),
        spots=spot_maxima(frame, stack, geometry, optics, region),
        hot_pixels=frozenset(hot),
        no_data=no_data,
        no_data_fraction=0.0 if region is None else float(region.mean()),
        planes=plane_correlations(frame, stack, geometry, optics, region),
    )


def lasting_hot_pixels(looks: Sequence[FrameLook]) -> list[tuple[int, int]]:
    """Hot pixels (y, x) of both the first and the second usable frame, in order.

    Of no other frames, so that they stay the same when a movie grows.
    """
    return sorted(frozenset.intersection(*(look.hot_pixels for look in looks[:2])))


def channel_metrics(
    looks: Sequence[FrameLook], pixel_um: float, times_s: NDArray[np.float64]
) -> ChannelMetrics:
    """Put the looks at a channel's frames, in order of time, together.

    Parameters
    ----------
    looks
        At least one; the second, if any, is that at the second usable frame.
    pixel_um
        Pixel size, µm.
    times_s
        (frames,) time of every frame of the movie, s.
    """
    first, last = looks[0].metrics, looks[-1].metrics
    frames = [look.frame for look in looks]
    signals = [look.metrics.signal for look in looks]
    trend = signal_trend(frames, signals, times_s[frames].tolist(), last.least_signal)
    motion_um, motion_um_per_min = _motion(looks[0], looks[min(1, len(looks) - 1)], pixel_um, times_s)
    drift_um, drift_um_per_min = _motion(looks[0], looks[-1], pixel_um, times_s)
    spots = [look.spots for look in looks if look.spots is not None]
    return ChannelMetrics(
        snr=first.snr,
        background=first.background,
        noise=first.noise,
        signal=first.signal,
        focus=first.focus,
        saturated_fraction=max(look.metrics.saturated_fraction for look in looks),
        empty_planes=max(look.metrics.empty_planes for look in looks),
        repeated_planes=max(look.metrics.repeated_planes for look in looks),
        repeated_frames=sum(look.content == before.content for before, look in itertools.pairwise(looks)),
        snr_last=last.snr,
        focus_last=last.focus,
        background_change=last.background - first.background if len(looks) > 1 else None,
        signal_change=trend.signal_change,
        signal_slope_per_frame=trend.signal_slope_per_frame,
        half_life_s=trend.half_life_s,
        motion_um=motion_um,
        motion_um_per_min=motion_um_per_min,
        drift_um=drift_um,
        drift_um_per_min=drift_um_per_min,
        lowest=first.lowest,
        highest=first.highest,
        percentile_1=first.percentile_1,
        percentile_50=first.percentile_50,
        percentile_99=first.percentile_99,
        noise_p_value=noise_p_value(spots) if spots else None,
        mirrored_p_value=noise_p_value(spots, mirrored=True) if spots else None,
        hot_pixels=len(lasting_hot_pixels(looks)),
        no_data_fraction=looks[0].no_data_fraction,
    )


def _motion(
    before: FrameLook, after: FrameLook, pixel_um: float, times_s: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """Rigid shift between two frames, µm and µm/min."""
    shift = rigid_shift(before.motion, after.motion) if after.frame > before.frame else None
    if shift is None:
        return None, None
    length_um = shift.length_um(pixel_um)
    return length_um, length_um / float(times_s[after.frame] - times_s[before.frame]) * S_PER_MIN
