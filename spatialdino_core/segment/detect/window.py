"""A movie: its frames with what is known of them, each seen through a window in time.

Not what is made of the frames around one: the groups and their weights are in :mod:`.observer`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from spatialdino_core.segment.detect.observer import NEAR_FRAMES, TimeGroups
from spatialdino_core.segment.volume import Foreground, Volume, Voxel


class SegmentMovie:
    """Frames of a movie and means of groups of frames.

    Going forward one frame at a time reads three frames, whatever the reach: the one that enters the window,
    the one that leaves it, and a new near one. The sum over the window is kept, in whole numbers for
    whole-numbered frames, so that it does not depend on where one started.

    Parameters
    ----------
    read
        Gives the intensities (z, y, x) of a frame, uint16 or float32.
    frames
        Numbers of the frames that exist, rising.
    voxel_um
        Voxel size (z, y, x) in µm.
    valid
        Boolean mask broadcastable to every frame, or None.
    foreground
        Gives the foreground probability of a frame on its grid, within 0..1; None without.
    name
        For error messages.
    """

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        frames: Sequence[int],
        voxel_um: Voxel,
        *,
        valid: np.ndarray | None = None,
        foreground: Callable[[int], Foreground] | None = None,
        name: str = "movie",
    ) -> None:
        self.frames, self.voxel_um, self.valid, self.name = list(frames), voxel_um, valid, name
        self._read, self._foreground = read, foreground
        self._kept: OrderedDict[int, Volume] = OrderedDict()
        self._sum: np.ndarray | None = None
        self._summed: frozenset[int] = frozenset()

    def frame(self, number: int) -> Volume:
        """One frame."""
        if number not in self._kept:
            name = f"{self.name}, frame {number}"
            self._kept[number] = Volume(self._read(number), self.voxel_um, self.valid, name)
            while len(self._kept) > 2 * NEAR_FRAMES + 1:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]

    @property
    def has_foreground(self) -> bool:
        """Whether there is a foreground probability."""
        return self._foreground is not None

    def foreground(self, number: int) -> Foreground | None:
        """Foreground probability (z, y, x) of a frame, or None."""
        if self._foreground is None:
            return None
        probability = self._foreground(number)
        self.frame(number).check_foreground(probability)
        return probability

    def groups(self, number: int, reach: int) -> TimeGroups:
        """The groups of frames that help in a frame."""
        return TimeGroups.around(number, self.frames, reach)

    def seen(self, number: int, groups: TimeGroups) -> list[Volume]:
        """The frame itself, as it is, and the mean frame (float32) of every other group."""
        itself = self.frame(number)
        first, *others = groups.lags
        near = [group for group in others if abs(group[0]) <= NEAR_FRAMES]
        means = [self._mean([number + lag for lag in group]) for group in near]
        far = [number + lag for group in others if group not in near for lag in group]
        if far:
            close = [number + lag for group in (first, *near) for lag in group]
            total = self._total(frozenset([*far, *close]))
            means.append(_mean_of_rest(total, [self.frame(one).image for one in close], len(far)))
        return [itself, *map(itself.with_image, means)]

    def _mean(self, numbers: list[int]) -> np.ndarray:
        images = [self.frame(one).image for one in numbers]
        return weighted_sum(images, np.full(len(numbers), 1 / len(numbers)))

    def _once(self, number: int) -> np.ndarray:
        """A frame that is not needed again soon."""
        kept = self._kept.get(number)
        return self._read(number) if kept is None else kept.image

    def _total(self, wanted: frozenset[int]) -> np.ndarray:
        """Sum over frames, from the last sum where that is less to read."""
        changes = len(wanted ^ self._summed)
        if self._sum is None or changes >= len(wanted):
            self._sum, self._summed = None, frozenset()
        for one in sorted(wanted - self._summed):
            frame = self._once(one)
            if self._sum is None:
                self._sum = np.zeros(frame.shape, np.uint32 if frame.dtype == np.uint16 else np.float64)
            self._sum += frame
        for one in sorted(self._summed - wanted):
            assert self._sum is not None
            self._sum -= self._once(one)
        self._summed = wanted
        assert self._sum is not None
        return self._sum


def weighted_sum(images: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Weighted sum of images (z, y, x) of one shape, float32, plane by plane: no other array is as large."""
    total = np.empty(images[0].shape, np.float32)
    for z, plane in enumerate(total):
        np.multiply(images[0][z], np.float32(weights[0]), out=plane, casting="unsafe")
        for image, weight in zip(images[1:], weights[1:], strict=True):
            plane += np.float32(weight) * image[z]
    return total


def _mean_of_rest(total: np.ndarray, others: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Mean of the ``count`` frames that are in a sum but not among ``others``, float32, plane by plane."""
    mean = np.empty(total.shape, np.float32)
    for z, plane in enumerate(mean):
        rest = total[z].copy()
        for other in others:
            rest -= other[z]
        np.divide(rest, count, out=plane, casting="unsafe")
    return mean
