"""What the camera did to a raw stack: mirrored it, added its dark image, saw uneven light, had bad pixels.

Corrected counts are ``(raw - dark) / flat + pedestal``, with the flat field normalised to a mean of 1 and
the pedestal the mean of the dark image: without it, noise below the dark level would be clipped to 0 and
raise the background. Bad pixels are replaced before that, in the stack and in both images: what a dark image
says of a hot pixel must not be taken from what is put in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.bad_pixels import Repair, mask_of, named_pixels
from spatialdino_core.movies.formats.image import Region
from spatialdino_core.movies.formats.tiff import calibration_image
from spatialdino_core.movies.sheet import SheetRow

FLAT_FLOOR = 0.4
"""Lowest relative illumination that is divided by: darker corners would be little but amplified noise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """Corrections of one channel.

    Attributes
    ----------
    flip
        Image axes that the camera mirrored: ``""``, ``x``, ``y`` or ``xy``.
    dark
        Dark image (y, x) in the orientation of the flipped planes, counts; ``None``: no correction.
    gain
        What differences from the dark image are multiplied with, likewise.
    bad
        Bad pixels (y, x), bool, in the orientation of the raw files; ``None``: there are none.
    """

    flip: str = ""
    dark: NDArray[np.float32] | None = None
    gain: NDArray[np.float32] | None = None
    bad: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, row: SheetRow, shape_yx: tuple[int, int], hot: Sequence[tuple[int, int]] = ()) -> Camera:
        """What a row of the sample sheet says.

        Parameters
        ----------
        row
            The channel. Its dark and flat images have the orientation of the raw files.
        shape_yx
            Shape of a raw plane.
        hot
            Hot pixels (y, x) of the raw files, besides the bad ones that the row names.

        Raises
        ------
        BadInputError
            For an image of another shape, a flat field without a dark image, or one that holds no light; for
            bad pixels outside the plane.
        """
        flip = row.flip or ""
        named = named_pixels(row.bad_pixels, shape_yx) if row.bad_pixels else []
        bad = mask_of([*hot, *named], shape_yx) if hot or named else None
        if row.flat is None:
            if row.dark is None:
                return cls(flip=flip, bad=bad)
            dark = _without(bad, _dark(row.dark, shape_yx))
            return cls(flip=flip, dark=_flipped(dark, flip), gain=np.ones_like(dark), bad=bad)
        if row.dark is None:
            raise BadInputError(
                row.flat,
                found="a flat field without a dark image",
                expected="'dark' beside 'flat'",
                remedy="Give the dark image or the camera offset in the sample sheet.",
            )
        dark = _without(bad, _dark(row.dark, shape_yx))
        light = _without(bad, _image(row.flat, shape_yx)) - dark
        if not light.mean() > 0:
            raise BadInputError(
                row.flat,
                found=f"a flat field of mean {light.mean():.1f} above the dark image",
                expected="an image of even fluorescence",
                remedy="Correct 'flat' or 'dark' in the sample sheet.",
            )
        gain = 1 / np.maximum(light / light.mean(), FLAT_FLOOR)
        gain = _flipped(gain.astype(np.float32), flip)
        return cls(flip=flip, dark=_flipped(dark, flip), gain=gain, bad=bad)

    def region(self, region: Region, shape: tuple[int, int, int]) -> Region:
        """Where a region of the flipped stack lies in the file."""
        axes = [None, "y", "x"]
        z, y, x = (
            slice(n - s.stop, n - s.start) if axis is not None and axis in self.flip else s
            for s, n, axis in zip(region, shape, axes, strict=True)
        )
        return z, y, x

    def oriented(self, stack: NDArray[Any]) -> NDArray[Any]:
        """A raw stack (z, y, x) with the camera's mirroring undone; a view."""
        return _flipped(stack, self.flip)

    def corrected(self, part: NDArray[Any], y: slice, x: slice) -> NDArray[np.float32]:
        """Corrected counts of a part of a stack.

        Parameters
        ----------
        part
            (z, y, x), oriented.
        y, x
            Which rows and columns of the oriented plane it holds.
        """
        assert self.dark is not None
        assert self.gain is not None
        counts = part.astype(np.float32)
        counts -= self.dark[y, x]
        counts *= self.gain[y, x]
        counts += self.dark.mean(dtype=np.float64).astype(np.float32)
        return counts


def _without(bad: NDArray[np.bool_] | None, image: NDArray[np.float32]) -> NDArray[np.float32]:
    return image if bad is None else Repair.of(bad)(image[None])[0]


def _flipped(image: NDArray[Any], flip: str) -> NDArray[Any]:
    for axis, name in ((-2, "y"), (-1, "x")):
        if name in flip:
            image = np.flip(image, axis)
    return image


def _dark(dark: float | str, shape_yx: tuple[int, int]) -> NDArray[np.float32]:
    return _image(dark, shape_yx) if isinstance(dark, str) else np.full(shape_yx, dark, np.float32)


def _image(path: str, shape_yx: tuple[int, int]) -> NDArray[np.float32]:
    if not Path(path).is_file():
        raise BadInputError(
            path, found="no such file", expected="a TIFF image", remedy="Correct the sample sheet."
        )
    image = np.asarray(calibration_image(path), np.float32)
    if image.ndim == 3:
        image = image.mean(0)  # a stack of repeated exposures
    if image.shape != tuple(shape_yx):
        raise BadInputError(
            path,
            found=f"an image of shape {image.shape}",
            expected=f"{tuple(shape_yx)}, as a raw plane",
            remedy="Crop it as the camera was cropped.",
        )
    return image
