"""A TIFF file as it was opened: where its planes lie, and what they are by its own account."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tifffile

from spatialdino_core.movies.formats.image import FileMetadata, opening
from spatialdino_core.movies.formats.imagej import imagej_axes, imagej_metadata
from spatialdino_core.movies.formats.micro_manager import StackHeader, stack_header
from spatialdino_core.movies.formats.tiff_planes import Planes, planes_of


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
