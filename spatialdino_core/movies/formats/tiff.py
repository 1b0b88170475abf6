"""TIFF files that stand alone as images: OME-TIFF, Micro-Manager, ImageJ, plain stacks.

Which file is which time point of a series is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.axes import (
    MOST_NAMELESS,
    in_this_order,
    parsed,
    plane_axes,
    planes_announced,
    written,
)
from spatialdino_core.movies.formats.image import (
    MOST_COMPRESSION,
    Image,
    Piece,
    Place,
    check_announced,
    opening,
    ranges,
)
from spatialdino_core.movies.formats.ome_xml import OmeImage, companion, ome_images
from spatialdino_core.movies.formats.tiff_content import Layout, TiffContent
from spatialdino_core.movies.formats.tiff_listed import images_by_list, images_by_xml, refuse_more_planes
from spatialdino_core.movies.formats.tiff_planes import Planes, directories_alike


def calibration_image(path: Path | str) -> np.ndarray:
    """All of a TIFF file that is no part of a movie: a dark or flat image, a mask of pixels.

    Raises
    ------
    BadInputError
        If it cannot be read, or claims more voxels than any compression can make of its bytes.
    """
    path = Path(path)
    with opening(path), tifffile.TiffFile(path, is_ome=False) as tif:
        directories_alike(tif)
        claimed = tif.series[0].nbytes
        if claimed > MOST_COMPRESSION * path.stat().st_size:
            raise ValueError(f"{claimed} bytes of voxels announced, in {path.stat().st_size} bytes")
        return np.asarray(tif.asarray())


def images_of(content: TiffContent, axes: str | None, one_stack: bool) -> list[Image]:
    """Images of a file that stands alone, or of one of a series.

    Parameters
    ----------
    content
        The opened file.
    axes
        What its planes are, by the sample sheet; it then counts, whatever the file says.
    one_stack
        Whether it is one of a series: a single axis before y and x is then z, whatever a program called it,
        unless it gave time points an interval.
    """
    if axes is not None:
        return [_plain_image(content, _by_hand(content, axes))]
    if content.header is not None:
        return images_by_list(content.header.own, {content.path: content}, content)
    if content.xml is not None:
        images = ome_images(content.xml, f"OME-XML of {content.path.name}")
        if images:
            images = [_with_planes(image) for image in images]
            found = images_by_xml(images, lambda block: content, content)
            axes_of = [written((axis, image.counts[axis]) for axis in image.order) for image in images]
            return [replace(image, axes=own) for image, own in zip(found, axes_of, strict=True)]
        pointed = companion(content.xml)
        if pointed is not None and len(content.planes.ends) > 1:
            raise _without_metadata(content, pointed)
        every = range(len(content.planes.ends))
        return [_plain_image(content, Layout(name="", order="Z", counts=(len(every),), numbers=every))]
    counted = sum(math.prod(layout.counts) for layout in content.layouts)
    if len(content.layouts) < 2:
        refuse_more_planes(content, counted)
    return [_plain_image(content, _understood(content, layout, one_stack)) for layout in content.layouts]


def _without_metadata(content: TiffContent, pointed: str) -> BadInputError:
    planes = len(content.planes.ends)
    return BadInputError(
        content.path,
        found=f"{planes} planes that {Path(pointed).name} describes, which is not there",
        expected="the file with the metadata of an OME-TIFF set beside it",
        remedy=f"Copy {Path(pointed).name} into its folder. Without it, say in the sample sheet's column "
        f"'axes' what the planes of each file are, slowest first: z{planes}yx if they are one stack, else t, "
        "c and z, each with its number.",
    )


def _with_planes(image: OmeImage) -> OmeImage:
    """Many channels without names, of one plane and one time point, are the planes of a stack."""
    counts = image.counts
    if counts["C"] <= MOST_NAMELESS or any(image.channel_names) or counts["Z"] * counts["T"] > 1:
        return image
    blocks = [replace(block, first=(block.first[0], 0, block.first[1])) for block in image.blocks]
    return replace(
        image,
        counts={"T": 1, "C": 1, "Z": counts["C"]},
        channel_names=(),
        blocks=tuple(blocks),
        clock_s={},
        took_s={},
    )


def _by_hand(content: TiffContent, axes: str) -> Layout:
    several_open = [count for _, count in parsed(axes)[:-2]].count(None) > 1
    stored = _stored(content) if several_open else []
    # A page of another shape beside the planes, such as a thumbnail, is none of them.
    numbers = [number for number, alike in enumerate(content.planes.alike) if alike]
    planes, odd = len(numbers), len(content.planes.alike) - len(numbers)
    found = plane_axes(axes, planes, stored)
    if found is None:
        announced = planes_announced(axes)
        if planes < announced < planes + announced / max(1, int(parsed(axes)[0][1] or 1)):
            # The last time point was not finished: its planes are missing, as in a file that says so itself.
            numbers += range(len(content.planes.alike), len(content.planes.alike) + announced - planes)
            found = plane_axes(axes, announced)
    if found is None:
        beside = f", and {odd} pages of another shape or type" if odd else ""
        known = len(stored) > 1 and {axis for axis, _ in stored} <= set("TCZ")
        beside += f" ({written(stored)}, by the file's own account)" if known else ""
        example = in_this_order(axes, stored) or "t4z24yx"
        raise BadInputError(
            content.path,
            found=f"{planes} planes{beside}",
            expected=f"planes as 'axes' of the sample sheet says: {axes}",
            remedy="Correct 'axes': t, c and z, slowest first, each with its number (one may be left out), "
            f"e.g. {example}.",
        )
    return Layout(name="", order=found[0], counts=found[1], numbers=numbers)


def _stored(content: TiffContent) -> list[tuple[str, int]]:
    """Axes before y and x of a file of one image by its own account, slowest first, those of one left out."""
    axes = [list(zip(layout.order, layout.counts, strict=False)) for layout in content.layouts]
    if content.xml is not None:
        images = ome_images(content.xml, f"OME-XML of {content.path.name}")
        axes = [[(axis, image.counts[axis]) for axis in image.order] for image in images]
    return [(axis, count) for axis, count in axes[0] if count > 1] if len(axes) == 1 else []


def _understood(content: TiffContent, layout: Layout, one_stack: bool) -> Layout:
    """The layout in T, C and Z. Plain stacks carry no axes: tifffile names them Q (unknown), I (pages) or
    S (planar samples)."""
    order, counts = layout.order, layout.counts
    several = [axis for axis, count in zip(order, counts, strict=False) if count > 1]
    nameless, many = several == ["C"], math.prod(counts) > MOST_NAMELESS
    if one_stack and several == ["T"] and content.metadata.interval_s:
        raise _times_or_planes(content, math.prod(counts))
    if (nameless and many) or (one_stack and sum(count > 1 for count in counts) <= 1):
        order, counts = "Z", (math.prod(counts),)
    for unknown in "QIS":
        if "Z" not in order:
            order = order.replace(unknown, "Z", 1)
    if not set(order) <= set("TCZ") or len(content.planes.shape_yx) != 2 or len(order) != len(counts):
        raise BadInputError(
            content.path,
            found=f"axes {layout.order or 'none'} of {layout.counts} before y and x",
            expected="planes in z, y, x, with time and channels at most",
            remedy="Say in the sample sheet's column 'axes' what they are, e.g. tzyx; pictures in colour "
            "cannot be used.",
        )
    return replace(layout, order=order, counts=counts)


def _times_or_planes(content: TiffContent, frames: int) -> BadInputError:
    return BadInputError(
        content.path,
        found=f"one of a series of files, each with {frames} frames that are {content.metadata.interval_s:g} "
        "s apart by its ImageJ metadata",
        expected="one stack of planes for each time point",
        remedy=f"If they are the planes of a stack, say in the sample sheet's column 'axes': z{frames}yx. If "
        "each file is a time series of one plane, join the files, in order of z, into one TIFF file, and say "
        f"in 'axes': zt{frames}yx.",
    )


def _plain_image(content: TiffContent, layout: Layout) -> Image:
    """An image whose planes lie in the file in the order of its axes."""
    size = dict(zip(layout.order, layout.counts, strict=True))
    check_announced(content.path, size.get("T", 1), size.get("C", 1), size.get("Z", 1))
    numbers = np.array(layout.numbers).reshape(layout.counts)
    for axis in "TCZ":
        if axis not in size:
            numbers = numbers[..., None]
    order = layout.order + "".join(axis for axis in "TCZ" if axis not in size)
    numbers = numbers.transpose([order.index(axis) for axis in "TCZ"])
    times, channels, _ = numbers.shape
    stacks: dict[Place, tuple[Piece, ...]] = {}
    faults: dict[Place, str] = {}
    for place in np.ndindex(times, channels):
        own = numbers[place].tolist()
        fault = content.planes.fault(own)
        if fault:
            faults[place] = f"{content.path.name}: {fault}"
        else:
            stacks[place] = (Piece(content.path, ranges(own), len(own)),)
    absent = frozenset(place for place in faults if not _any_there(content.planes, numbers[place].tolist()))
    if content.planes.open_ended and not faults:
        faults[times - 1, channels - 1] = (
            f"{content.path.name}: it announces more planes than it holds (truncated)"
        )
        stacks.pop((times - 1, channels - 1))
    return Image(
        name=layout.name,
        times=times,
        channels=channels,
        channel_names=(),
        shape_zyx=(numbers.shape[2], *content.planes.shape_yx),
        dtype=content.planes.dtype_of_values,
        stacks=stacks,
        faults=faults,
        absent=absent,
        metadata=content.metadata,
        axes=written(zip(layout.order, layout.counts, strict=True)),
    )


def _any_there(planes: Planes, numbers: Sequence[int]) -> bool:
    return any(number < len(planes.ends) for number in numbers)
