"""TIFF files as images: OME-TIFF (one file, or a set that one XML describes), ImageJ, plain stacks.

Which file is which time point of a series is not known here.
"""

from __future__ import annotations

import itertools
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
from spatialdino_core.movies.formats.micro_manager import (
    AXES,
    INDEX,
    Listed,
    StackHeader,
    along,
    positions,
    stack_header,
    unlisted,
)
from spatialdino_core.movies.formats.ome_xml import (
    Block,
    OmeImage,
    companion,
    ome_images,
    own_uuid,
)
from spatialdino_core.movies.formats.tiff_planes import Planes, directories_alike, planes_of

SHOWN = 8


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
    header
        What Micro-Manager wrote, in a file without OME-XML.
    """

    path: Path
    planes: Planes
    layouts: tuple[Layout, ...]
    xml: str | None
    metadata: FileMetadata
    header: StackHeader | None = None


def opened(path: Path) -> TiffContent:
    """Open a file, read its headers, and close it; no other file is opened."""
    with opening(path), tifffile.TiffFile(path, is_ome=False) as tif:
        first = tif.pages.first
        xml = first.description if first.is_ome else None
        header = None if xml else stack_header(tif, path)
        planes = planes_of(tif)
        # The library looks at a few pages, and takes the rest for pages like these.
        tif.is_uniform = tif.is_uniform and all(planes.alike)
        return TiffContent(
            path=path,
            planes=planes,
            layouts=() if xml or header else tuple(_layouts(tif)),
            xml=xml,
            header=header,
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
    if content.header is not None:
        return _listed_images(content.header.own, {content.path: content}, content)
    if content.xml is not None:
        images = ome_images(content.xml, f"OME-XML of {content.path.name}")
        if images:
            return _ome_images(images, lambda block: content, content)
        every = range(len(content.planes.ends))
        return [_plain_image(content, Layout(name="", order="Z", counts=(len(every),), numbers=every))]
    counted = sum(math.prod(layout.counts) for layout in content.layouts)
    if len(content.layouts) < 2:
        _refuse_more_planes(content, counted)
    return [_plain_image(content, _understood(content, layout, one_stack)) for layout in content.layouts]


def _refuse_more_planes(content: TiffContent, counted: int) -> None:
    """Refuse a file with more planes than it counts: nobody knows what the others are."""
    alike = sum(content.planes.alike)
    if counted and alike > counted:
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


Taken = dict[tuple[Path, int], tuple[int, tuple[int, int, int]]]
"""Pages of files, and the image and the place (time, channel, z) that a list gives each of them to."""


def _ome_images(
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
    found = [_ome_image(number, image, file_of, model, taken) for number, image in enumerate(images)]
    files = [file_of(block) for image in images for block in image.blocks]
    for path, content in {one.path: one for one in files if not isinstance(one, str)}.items():
        alike = enumerate(content.planes.alike)
        _refuse_more_planes(content, sum(is_alike and (path, page) in taken for page, is_alike in alike))
    return found


def _ome_image(
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


@dataclass(frozen=True, kw_only=True)
class FileSet:
    """Several files that one list describes.

    Attributes
    ----------
    images
        One for each position.
    files
        Those that the list names, also those that cannot be opened.
    by
        Which list, in words.
    """

    images: tuple[Image, ...]
    files: frozenset[Path]
    by: str


def set_of(content: TiffContent, files: Sequence[Path]) -> FileSet | None:
    """The set to which a file belongs; ``None`` if it stands alone.

    Parameters
    ----------
    content
        The file.
    files
        All that the path matches: those of the set may have been renamed.

    Raises
    ------
    BadInputError
        If the files of the set are not there, or not under the names that the list knows.
    """
    if content.header is not None:
        return _listed_set(content, content.header)
    xml = _xml_of_set(content.path, content)
    return None if xml is None else images_of_set(content.path, xml, files)


def _xml_of_set(path: Path, content: TiffContent) -> str | None:
    """The XML that describes a set of files to which a file belongs; ``None`` if it stands alone."""
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
    images = ome_images(content.xml, f"OME-XML of {path.name}")
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


def images_of_set(path: Path, xml: str, files: Sequence[Path]) -> FileSet:
    """A set of files that one XML describes.

    A file is found by its name beside ``path``; where files were renamed, by the identifier that each of the
    ``files`` carries.
    """
    contents: dict[Path, TiffContent | str] = {}
    renamed: dict[str, Path] = {}
    known: dict[tuple[str | None, str | None], TiffContent | str] = {}
    used: set[Path] = set()

    def content(file: Path) -> TiffContent | str:
        if file not in contents:
            contents[file] = _opened_or_why(file)
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
    images = tuple(_ome_images(found, file_of, model))
    return FileSet(images=images, files=frozenset(used), by=f"OME-XML of {path.name}")


def _listed_images(
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


def _listed_set(content: TiffContent, header: StackHeader) -> FileSet | None:
    """The Micro-Manager acquisition to which a file belongs; ``None`` if it stands alone."""
    files = header.files() if header.own else []
    if files in ([], [content.path]):
        return None
    if content.path not in files:
        names = ", ".join(file.name for file in files[:SHOWN])
        raise BadInputError(
            content.path,
            found=f"{INDEX} beside it that names other files: {names}",
            expected="the files of an acquisition under the names that they were written with",
            remedy="Give them their names back, and leave all in one folder.",
        )
    contents = {file: content if file == content.path else _opened_or_why(file) for file in files}
    listed, by = header.own, INDEX
    if not header.has_index:
        headers = {f: one.header for f, one in contents.items() if not isinstance(one, str) and one.header}
        own = {file: one.own or () for file, one in headers.items() if one.summary == header.summary}
        contents = {file: contents[file] for file in own}
        listed, by = tuple(itertools.chain(*own.values())), f"the index maps of {len(own)} files"
    return FileSet(images=tuple(_listed_images(listed, contents, content)), files=frozenset(contents), by=by)


def _opened_or_why(file: Path) -> TiffContent | str:
    """A file, or why it cannot be opened."""
    if not file.is_file():
        return f"no file {file.name}"
    try:
        return opened(file)
    except BadInputError as error:
        return f"{file.name}: {error.found}"
