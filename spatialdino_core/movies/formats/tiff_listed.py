"""Images of TIFF files of which a list says where each plane is: OME-XML, or a list of Micro-Manager."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.image import MOST_PLANES, Image, Piece, Place, check_announced, ranges
from spatialdino_core.movies.formats.micro_manager import AXES, Listed, along, positions, unlisted
from spatialdino_core.movies.formats.ome_xml import Block, OmeImage
from spatialdino_core.movies.formats.tiff_content import TiffContent

Taken = dict[tuple[Path, int], tuple[int, tuple[int, int, int]]]
"""Pages of files, and the image and the place (time, channel, z) that a list gives each of them to."""


def images_by_xml(
    images: Sequence[OmeImage], file_of: Callable[[Block], TiffContent | str], model: TiffContent
) -> list[Image]:
    """Images of which the XML says where each plane is.

    Parameters
    ----------
    images
        What the XML says.
    file_of
        The opened file of a block of planes, or why there is none.
    model
        A file that has the shape and dtype of all.

    Raises
    ------
    BadInputError
        If the XML gives a page to two planes, or leaves pages out.
    """
    taken: Taken = {}
    found = [_image_by_xml(number, image, file_of, model, taken) for number, image in enumerate(images)]
    files = [file_of(block) for image in images for block in image.blocks]
    for path, content in {one.path: one for one in files if not isinstance(one, str)}.items():
        alike = enumerate(content.planes.alike)
        refuse_more_planes(content, sum(is_alike and (path, page) in taken for page, is_alike in alike))
    return found


def _image_by_xml(
    number: int,
    image: OmeImage,
    file_of: Callable[[Block], TiffContent | str],
    model: TiffContent,
    taken: Taken,
) -> Image:
    times, channels, depth = (image.counts[axis] for axis in "TCZ")
    check_announced(model.path, times, channels, depth)
    listed = sum(block.planes or 0 for block in image.blocks)
    if listed > MOST_PLANES:
        raise ValueError(f"an OME-XML that lists {listed} planes")
    planes: dict[Place, dict[int, tuple[TiffContent, int]]] = {}
    lost: dict[Place, str] = {}
    for block in image.blocks:
        content = file_of(block)
        if isinstance(content, str):
            for (t, c, _), _ in image.places(block, block.page + (block.planes or depth)):
                lost[t, c] = content
            continue
        if content.planes.per_page > 1:
            raise BadInputError(
                content.path,
                found=f"{content.planes.per_page} samples or planes in one page",
                expected="an OME-TIFF with one plane per page",
                remedy="Export it as an OME-TIFF with axes TCZYX.",
            )
        available = len(content.planes.ends)
        for (t, c, z), page in image.places(block, available):
            other = taken.setdefault((content.path, page), (number, (t, c, z)))
            if other != (number, (t, c, z)):
                raise _claimed_twice(content, page, other, (number, (t, c, z)))
            if page < available and planes.setdefault((t, c), {}).setdefault(z, (content, page)) != (
                content,
                page,
            ):
                raise BadInputError(
                    content.path,
                    found=f"two planes for time point {t}, channel {c}, z {z} in the OME-XML",
                    expected="one",
                    remedy="Say in the sample sheet's column 'axes' what the planes are, e.g. t4z24yx.",
                )
    found = _placed(planes, lost, (times, channels, depth), model)
    return replace(
        found,
        name=image.name,
        channel_names=image.channel_names,
        clock_s=image.clock_s,
        took_s=image.took_s,
        started=image.started,
        metadata=image.metadata,
    )


def _claimed_twice(
    content: TiffContent, page: int, *claims: tuple[int, tuple[int, int, int]]
) -> BadInputError:
    (image, place), (other_image, other_place) = claims
    one, other = str(place), str(other_place)
    remedy = "Say in the sample sheet's column 'axes' what the planes are, e.g. t4z24yx."
    if image != other_image:
        one, other = f"{one} of image {image}", f"{other} of image {other_image}"
        remedy = (
            "If its images lie one after the other, say so in the sample sheet's column 'axes', with c for "
            "the image, e.g. c2t4z24yx, and in 'file_channel' the number of the image, from 1."
        )
    return BadInputError(
        content.path,
        found=f"page {page} for {one} and {other} (time, channel, z) in the OME-XML",
        expected="another page for each plane",
        remedy=remedy,
    )


def _placed(
    planes: Mapping[Place, Mapping[int, tuple[TiffContent, int]]],
    lost: Mapping[Place, str],
    counts: tuple[int, int, int],
    model: TiffContent,
) -> Image:
    """An image of which it is known where each plane is.

    Parameters
    ----------
    planes
        Of each stack: z to the file and the page.
    lost
        Stacks that cannot be read, with the reason.
    counts
        Of time points, channels and planes of a stack.
    model
        A file that has the shape and dtype of all.
    """
    times, channels, depth = counts
    stacks: dict[Place, tuple[Piece, ...]] = {}
    faults: dict[Place, str] = {}
    for place in np.ndindex(times, channels):
        own = planes.get(place, {})
        fault = lost.get(place) or _fault(own, depth, model)
        if fault:
            faults[place] = fault
        else:
            stacks[place] = _pieces([own[z] for z in range(depth)])
    return Image(
        name="",
        times=times,
        channels=channels,
        channel_names=(),
        shape_zyx=(depth, *model.planes.shape_yx),
        dtype=model.planes.dtype_of_values,
        stacks=stacks,
        faults=faults,
        absent=frozenset(place for place in faults if place not in planes and place not in lost),
        metadata=model.metadata,
    )


def _fault(own: Mapping[int, tuple[TiffContent, int]], depth: int, model: TiffContent) -> str | None:
    if len(own) < depth:
        names = {content.path.name for content, _ in own.values()}
        where = f"{names.pop()}: " if len(names) == 1 else ""
        return f"{where}{len(own)} of {depth} planes (the acquisition stopped here, or the file is truncated)"
    for content in {id(content): content for content, _ in own.values()}.values():
        form = (content.planes.shape_yx, content.planes.dtype_of_values)
        if form != (model.planes.shape_yx, model.planes.dtype_of_values):
            return f"{content.path.name}: planes of {form[0]} {form[1]}, not as the others"
        fault = content.planes.fault([page for other, page in own.values() if other is content])
        if fault:
            return f"{content.path.name}: {fault}"
    return None


def _pieces(planes: Sequence[tuple[TiffContent, int]]) -> tuple[Piece, ...]:
    """Neighbouring planes of the same file together."""
    pieces: list[tuple[Path, list[int]]] = []
    for content, page in planes:
        if not pieces or pieces[-1][0] != content.path:
            pieces.append((content.path, []))
        pieces[-1][1].append(page)
    return tuple(Piece(path, ranges(pages), len(pages)) for path, pages in pieces)


def images_by_list(
    listed: Sequence[Listed] | None, contents: Mapping[Path, TiffContent | str], first: TiffContent
) -> list[Image]:
    """Images of a Micro-Manager acquisition: one for each position.

    Parameters
    ----------
    listed
        All of its planes.
    contents
        Its files, or why they cannot be opened.
    first
        The file whose header counts.
    """
    header = first.header
    assert header is not None
    if not listed:
        raise unlisted(header)
    pages = {
        file: {
            offset: page
            for page, offset in enumerate(
                (one.planes.offsets or ()) if header.has_index else one.planes.directories
            )
        }
        for file, one in contents.items()
        if not isinstance(one, str)
    }
    images = []
    for name, own in positions(listed).items():
        times, channels, depths = (along(own, axis, header.announced(axis)) for axis in AXES)
        check_announced(first.path, len(times), len(channels), len(depths))
        place_of = [{value: n for n, value in enumerate(values)} for values in (times, channels, depths)]
        planes: dict[Place, dict[int, tuple[TiffContent, int]]] = {}
        lost: dict[Place, str] = {}
        for one in own:
            t, c, z = (where[one.axes.get(axis, 0)] for where, axis in zip(place_of, AXES, strict=True))
            content = contents[one.file]
            if isinstance(content, str):
                lost[t, c] = content
                continue
            page = pages[one.file].get(one.offset)
            stack = planes.setdefault((t, c), {})
            if z in stack:
                raise _twice(stack[z][0].path, one)
            if page is not None:
                stack[z] = (content, page)
        found = _placed(planes, lost, (len(times), len(channels), len(depths)), first)
        names = tuple(header.channel_name(channel) for channel in channels)
        images.append(replace(found, name=name, channel_names=names))
    return images


def _twice(file: Path, listed: Listed) -> BadInputError:
    return BadInputError(
        listed.file,
        found=f"a plane that {file.name} has, too: {', '.join(f'{k} {v}' for k, v in listed.axes.items())}",
        expected="each plane once in the files of an acquisition",
        remedy="Put the files of each acquisition into a folder of their own.",
    )


def refuse_more_planes(content: TiffContent, counted: int) -> None:
    """Refuse a file with more planes than it counts: nobody knows what the others are."""
    alike = sum(content.planes.alike)
    if counted and alike > counted:
        raise BadInputError(
            content.path,
            found=f"{alike} planes, of which its metadata count {counted}",
            expected="as many as it counts",
            remedy="Say in the sample sheet's column 'axes' what the planes are, e.g. t4z24yx.",
        )
