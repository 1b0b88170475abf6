"""What ImageJ writes into a TIFF file: the order of its planes, sizes and their units.

Source: ij.io.TiffEncoder and TiffDecoder (ImageJ 1, public domain): planes are stored with channels fastest,
then z, then time; a resolution counts pixels per ``unit`` of the description, which the tag only repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tifffile

from spatialdino_core.movies.formats.image import (
    S_PER_UNIT,
    UM_PER_UNIT,
    FileMetadata,
    positive,
    quantity,
)

PLAUSIBLE_PIXEL_UM = (0.005, 10.0)
UM_PER_TIFF_UNIT = {2: 25400.0, 3: 10_000.0}


def imagej_axes(metadata: Mapping[str, Any]) -> tuple[str, tuple[int, ...]] | None:
    """Axes before y and x and their lengths; ``None`` where the numbers do not come to ``images``."""
    counts = tuple(int(metadata.get(name, 1)) for name in ("frames", "slices", "channels"))
    images = int(metadata.get("images", 0))
    if images < 1 or counts[0] * counts[1] * counts[2] != images or images == 1:
        return None
    return "TZC", counts


def imagej_metadata(tif: tifffile.TiffFile, origin: str) -> FileMetadata:
    """Sizes and interval, each in its own unit (``unit``, ``yunit``, ``zunit``)."""
    metadata: Mapping[str, Any] = tif.imagej_metadata or {}
    units = {axis: _unit(metadata, name) for axis, name in (("x", "unit"), ("y", "yunit"), ("z", "zunit"))}
    x, y = tif.pages.first.get_resolution()
    tag = tif.pages.first.tags.get("ResolutionUnit")
    tag_um = UM_PER_TIFF_UNIT.get(int(tag.value)) if tag is not None else None
    return FileMetadata(
        pixel_um=_pixel(x, units["x"], tag_um),
        pixel_y_um=_pixel(y, units["y"], tag_um),
        plane_spacing_um=quantity(metadata.get("spacing"), units["z"], UM_PER_UNIT),
        interval_s=quantity(metadata.get("finterval"), str(metadata.get("tunit", "sec")), S_PER_UNIT),
        origin=origin,
    )


def _unit(metadata: Mapping[str, Any], name: str) -> str | None:
    """A unit as written; that of x for the other axes unless they have their own."""
    text = metadata.get(name, metadata.get("unit"))
    return None if text is None else str(text).replace("\\u00B5", "µ").replace("\\u00C5", "Å").strip()


def _pixel(per_unit: float, unit: str | None, tag_um: float | None) -> float | None:
    """Pixel size, µm: by the unit of the description, and where that cannot be, by that of the TIFF tag.

    Programs that are not ImageJ count the resolution per centimetre of the tag and write ``unit=um`` beside.
    """
    if not per_unit:
        return None
    um = UM_PER_UNIT.get(unit) if unit is not None else None
    if um is None:
        return None
    readings = [um / per_unit] + ([tag_um / per_unit] if tag_um is not None else [])
    low, high = PLAUSIBLE_PIXEL_UM
    plausible = [pixel for pixel in readings if low <= pixel <= high]
    return positive(plausible[0] if plausible else readings[0])
