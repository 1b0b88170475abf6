"""TIFF files as images: OME-TIFF (one file, or a set that one XML describes), ImageJ, plain stacks.

Which file is which time point of a series is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.axes import parsed, plane_axes, planes_announced
from spatialdino_core.movies.formats.image import (
    MOST_COMPRESSION,
    MOST_PLANES,
    FileMetadata,
    Image,
    Piece,
    Place,
    check_announced,
    opening,
    ranges,
)
from spatialdino_core.movies.formats.imagej import imagej_axes, imagej_metadata
from spatialdino_core.movies.formats.ome_xml import (
    Block,
    OmeImage,
    companion,
    ome_images,
    own_uuid,
)
from spatialdino_core.movies.formats.tiff_planes import Planes, directories_alike, planes_of


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the planes of a file are, by its own account.

    Attributes
    ----------
    name
        Of the series.
    order, counts
        The axes before y and x, slowest first, and their lengths.
    numbers
        Of its planes in the file, in the order of its axes.
    """

    name: str
    order: str
    counts: tuple[int, ...]
    numbers: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class TiffContent:
    """What was found in a file on opening it.

    Attributes
    ----------
    path, planes
        The file and where its planes lie.
    layouts
        Its series, for files that are no OME-TIFF.
    xml
        OME-XML, or ``None``.
    metadata
        Sizes and interval that ImageJ wrote.
    """

    path: Path
    planes: Planes
    layouts: tuple[Layout, ...]
    xml: str | None
    metadata: FileMetadata


def opened(path: Path) -> TiffContent:
    """Open a file, read its headers, and close it; no other file is opened."""
    with opening(path), tifffile.TiffFile(path, is_ome=False) as tif:
        first = tif.pages.first
        xml = first.description if first.is_ome else None
        return TiffContent(
            path=path,
            planes=planes_of(tif),
            layouts=() if xml else tuple(_layouts(tif)),
            xml=xml,
            metadata=(
                imagej_metadata(tif, f"ImageJ metadata of {path.name}")
                if tif.is_imagej
                else FileMetadata(origin=f"file metadata of {path.name}")
            ),
        )


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


def _layouts(tif: tifffile.TiffFile) -> Iterable[Layout]:
    imagej = imagej_axes(tif.imagej_metadata or {}) if tif.is_imagej else None
    if imagej:
        yield Layout(name="", order=imagej[0], counts=imagej[1], numbers=range(math.prod(imagej[1])))
        return
    # A single page beside a stack is a thumbnail or a label; thumbnails of all planes say that they are.
    stacks = [s for s in tif.series if math.prod(s.shape[:-2]) > 1 and not s.keyframe.is_reduced]
    stacks = [s for s in stacks if not s.axes.endswith("S")] or stacks  # nor is a picture in colour
    if not stacks and _written_plane_by_plane(tif):
        yield Layout(name="", order="Q", counts=(len(tif.pages),), numbers=range(len(tif.pages)))
        return
    for series in stacks or tif.series:
        flat = series.axes.endswith("YX")
        counts = tuple(int(n) for n in (series.shape[:-2] if flat else series.shape))
        yield Layout(
            name=series.name,
            order=series.axes[:-2] if flat else series.axes,
            counts=counts,
            numbers=_plane_numbers(tif, series, math.prod(counts)),
        )


def _written_plane_by_plane(tif: tifffile.TiffFile) -> bool:
    """Whether each plane was appended as an image of its own."""
    alike = len({(one.shape, one.dtype, one.axes) for one in tif.series}) == 1
    return alike and len(tif.series) == len(tif.pages) > 1


def _plane_numbers(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, planes: int) -> Sequence[int]:
    """Planes of a series, counted through the file: others, such as thumbnails, may lie between them."""
    if len(series.pages) == len(tif.pages) or len(series.pages) in (0, 1):
        first = series.pages[0].index if len(series.pages) and series.pages[0] is not None else 0
        return range(int(first), int(first) + planes)
    pages = [int(page.index) for page in series.pages if page is not None]
    per_page = planes // len(pages)
    return [page * per_page + k for page in pages for k in range(per_page)]


def images_of(content: TiffContent, axes: str | None, one_stack: bool) -> list[Image]:
    """Images of a file that stands alone, or of one of a series.

    Parameters
    ----------
    content
        The opened file.
    axes
        What its planes are, by the sample sheet; it then counts, whatever the file says.
    one_stack
        Whether it is one of a series: a single axis before y and x is then z, whatever a program called it.
    """
    if axes is not None:
        return [_plain_image(content, _by_hand(content, axes))]
    _refuse_more_planes(content)
    if content.xml is None:
        return [_plain_image(content, _understood(content, layout, one_stack)) for layout in content.layouts]
    name = f"OME-XML of {content.path.name}"
    return [_ome_image(image, lambda block: content, content) for image in ome_images(content.xml, name)] or [
        _plain_image(
            content,
            Layout(
                name="",
                order="Z",
                counts=(len(content.planes.ends),),
                numbers=range(len(content.planes.ends)),
            ),
        )
    ]


def _refuse_more_planes(content: TiffContent) -> None:
    """Refuse a file with more planes than it counts: nobody knows what the others are."""
    if content.xml is not None:
        images = ome_images(content.xml, "")
        counted = sum(math.prod(image.counts.values()) for image in images)
    else:
        counted = sum(math.prod(layout.counts) for layout in content.layouts) if content.layouts else 0
    alike = sum(content.planes.alike)
    if counted and alike > counted and len(content.layouts) < 2:
        raise BadInputError(
            content.path,
            found=f"{alike} planes, of which its metadata count {counted}",
            expected="as many as it counts",
            remedy="Say in the sample sheet's column 'axes' what the planes are, e.g. t4z24yx.",
        )


def _by_hand(content: TiffContent, axes: str) -> Layout:
    stored = content.layouts[0].counts if len(content.layouts) == 1 else ()
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
        raise BadInputError(
            content.path,
            found=f"{planes} planes{beside}",
            expected=f"planes as 'axes' of the sample sheet says: {axes}",
            remedy="Correct 'axes': t, c and z, slowest first, each with its number (one may be left out), "
            "e.g. t4z24yx.",
        )
    return Layout(name="", order=found[0], counts=found[1], numbers=numbers)


def _understood(content: TiffContent, layout: Layout, one_stack: bool) -> Layout:
    """The layout in T, C and Z. Plain stacks carry no axes: tifffile names them Q (unknown), I (pages) or
    S (planar samples)."""
    order, counts = layout.order, layout.counts
    if one_stack and sum(count > 1 for count in counts) <= 1:
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
    )


def _any_there(planes: Planes, numbers: Sequence[int]) -> bool:
    return any(number < len(planes.ends) for number in numbers)


def _ome_image(image: OmeImage, file_of: Callable[[Block], TiffContent | str], model: TiffContent) -> Image:
    """An image of which the XML says where each plane is.

    Parameters
    ----------
    image
        What the XML says.
    file_of
        The opened file of a block of planes, or why there is none.
    model
        A file that has the shape and dtype of all.
    """
    times, channels, depth = (image.counts[axis] for axis in "TCZ")
    check_announced(model.path, times, channels, depth)
    listed = sum(block.planes or 0 for block in image.blocks)
    if listed > MOST_PLANES:
        raise ValueError(f"an OME-XML that lists {listed} planes")
    planes: dict[Place, dict[int, tuple[TiffContent, int]]] = {}
    lost: dict[Place, str] = {}
    taken: dict[tuple[Path, int], tuple[int, int, int]] = {}
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
            if taken.setdefault((content.path, page), (t, c, z)) != (t, c, z) and page < available:
                raise BadInputError(
                    content.path,
                    found=f"page {page} for {taken[content.path, page]} and {t, c, z} (time, channel, z) in "
                    "the OME-XML",
                    expected="another page for each plane",
                    remedy="Say in the sample sheet's column 'axes' what the planes are, e.g. t4z24yx.",
                )
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
    stacks: dict[Place, tuple[Piece, ...]] = {}
    faults: dict[Place, str] = {}
    for place in np.ndindex(times, channels):
        own = planes.get(place, {})
        fault = lost.get(place) or _fault(own, depth)
        if fault:
            faults[place] = fault
        else:
            stacks[place] = _pieces([own[z] for z in range(depth)])
    return Image(
        name=image.name,
        times=times,
        channels=channels,
        channel_names=image.channel_names,
        shape_zyx=(depth, *model.planes.shape_yx),
        dtype=model.planes.dtype_of_values,
        stacks=stacks,
        faults=faults,
        absent=frozenset(place for place in faults if place not in planes and place not in lost),
        clock_s=image.clock_s,
        metadata=image.metadata,
    )


def _fault(own: Mapping[int, tuple[TiffContent, int]], depth: int) -> str | None:
    if len(own) < depth:
        names = {content.path.name for content, _ in own.values()}
        where = f"{names.pop()}: " if len(names) == 1 else ""
        return f"{where}{len(own)} of {depth} planes (the acquisition stopped here, or the file is truncated)"
    for content in {id(content): content for content, _ in own.values()}.values():
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


def described_set(path: Path, content: TiffContent) -> str | None:
    """The XML that describes a set of files to which a file belongs; ``None`` if it stands alone.

    Parameters
    ----------
    path, content
        A file with OME-XML.

    Raises
    ------
    BadInputError
        If its XML points to a companion file that is not there.
    """
    if content.xml is None:
        return None
    name = companion(content.xml)
    if name is not None:
        beside = path.with_name(Path(name).name)
        if not beside.is_file():
            return None
        with opening(beside):
            return beside.read_text(encoding="utf-8-sig")
    return None if _describes_itself(path, content) else content.xml


def _describes_itself(path: Path, content: TiffContent) -> bool:
    """Whether all planes that the XML of a file names lie in that file, whatever it was called before."""
    assert content.xml is not None
    images = ome_images(content.xml, "")
    named = {(block.uuid, block.file_name) for image in images for block in image.blocks}
    if len({name for _, name in named} - {None}) > 1:
        return False
    own = own_uuid(content.xml)
    if all(uuid == own if uuid else name in (None, path.name) for uuid, name in named):
        return True
    # Another name or identifier, and as many planes as it has itself: its own ones of another day.
    uuid, name = next(iter(named))
    counted = sum(math.prod(image.counts.values()) for image in images)
    gone = uuid is None or name is None or not path.with_name(Path(name).name).is_file()
    return len(named) == 1 and gone and counted == sum(content.planes.alike)


def images_of_set(path: Path, xml: str, files: Sequence[Path]) -> tuple[list[Image], set[Path]]:
    """Images of a set of files that one XML describes, and the files that it names, also those that cannot be
    opened.

    A file is found by its name beside ``path``; where files were renamed, by the identifier that each of the
    ``files`` carries.
    """
    contents: dict[Path, TiffContent | str] = {}
    renamed: dict[str, Path] = {}
    known: dict[tuple[str | None, str | None], TiffContent | str] = {}
    used: set[Path] = set()

    def content(file: Path) -> TiffContent | str:
        if file not in contents:
            try:
                contents[file] = opened(file)
            except BadInputError as error:
                contents[file] = f"{file.name}: {error.found}"
        return contents[file]

    def by_identifier(uuid: str | None) -> Path | None:
        if not renamed:
            for file in files:
                found = content(file)
                if not isinstance(found, str) and found.xml and (own := own_uuid(found.xml)):
                    renamed[own] = file
            renamed.setdefault("", path)
        return renamed.get(uuid or "")

    def file_of(block: Block) -> TiffContent | str:
        key = (block.uuid, block.file_name)
        if key not in known:  # a block is often a single plane
            known[key] = searched(block)
        return known[key]

    def searched(block: Block) -> TiffContent | str:
        file = place_of(block)
        if file is None:
            return f"no file {block.file_name or block.uuid}"
        used.add(file)
        return content(file)

    def place_of(block: Block) -> Path | None:
        beside = path.with_name(Path(block.file_name).name) if block.file_name else None
        if beside is None and block.uuid is None:
            beside = path
        named = content(beside) if beside is not None and beside.is_file() else None
        own = own_uuid(named.xml) if isinstance(named, TiffContent) and named.xml else None
        if named is None or (block.uuid and own and own != block.uuid):
            # Files that were renamed say themselves which they are.
            beside = by_identifier(block.uuid) or (beside if named is not None else None)
        return beside

    found = ome_images(xml, f"OME-XML of {path.name}")
    first = [file_of(block) for image in found for block in image.blocks]
    model = next((one for one in first if not isinstance(one, str)), None)
    if model is None:
        raise BadInputError(
            path,
            found=f"none of the files that its OME-XML names ({first[0] if first else 'it names none'})",
            expected="the files of the set beside it, under their own names",
            remedy="Copy them into this folder.",
        )
    return [_ome_image(image, file_of, model) for image in found], used
