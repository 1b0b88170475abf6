"""OME-XML: images, sizes, where each plane is, when it was taken.

Parsed with the standard library: the eight elements that count are read from any version of the schema, also
where a program wrote a unit or an attribute that the schema does not know (ome-types refuses such a document,
and takes seconds for ten thousand planes; measured in docs/methods/reading.md).
Source: Open Microscopy Environment, OME model 2016-06, and the OME-TIFF specification.
"""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.image import (
    S_PER_UNIT,
    UM_PER_UNIT,
    FileMetadata,
    Place,
    quantity,
)

ROOT_UUID = re.compile(r"<(?:\w+:)?OME\b[^>]*?\bUUID\s*=\s*[\"']([^\"']+)[\"']")


@dataclass(frozen=True)
class Block:
    """Planes that lie one after the other in one file (``TiffData``).

    Attributes
    ----------
    first
        Time point, channel and plane (t, c, z) of the first of them.
    page
        Its page; of those that follow, the pages that follow.
    planes
        How many; ``None``: all that the file holds.
    uuid, file_name
        The file; both ``None``: the one with this XML.
    """

    first: tuple[int, int, int]
    page: int
    planes: int | None
    uuid: str | None
    file_name: str | None


@dataclass(frozen=True, kw_only=True)
class OmeImage:
    """One ``Image``.

    Attributes
    ----------
    name
        As the file calls it.
    order
        The axes before y and x, slowest first.
    counts
        Lengths along T, C and Z.
    channel_names
        Names; where there are none, excitation wavelengths; else empty strings.
    blocks
        Where the planes are.
    clock_s, took_s
        When the first plane of each stack was taken (``DeltaT``), and how long after it the last one, s.
    started
        ``AcquisitionDate``, as it stands there; empty where there is none.
    metadata
        Sizes and interval.
    """

    name: str
    order: str
    counts: dict[str, int]
    channel_names: tuple[str, ...]
    blocks: tuple[Block, ...]
    clock_s: dict[Place, float]
    took_s: dict[Place, float]
    started: str
    metadata: FileMetadata

    def places(self, block: Block, available: int) -> Iterator[tuple[tuple[int, int, int], int]]:
        """(t, c, z) and page of each plane of a block, in a file of so many pages."""
        number = available - block.page if block.planes is None else block.planes
        fastest = self.order[::-1]
        start = dict(zip("TCZ", block.first, strict=True))
        total = self.counts["T"] * self.counts["C"] * self.counts["Z"]
        first = 0
        for axis in self.order:
            first = first * self.counts[axis] + start[axis]
        for k in range(min(number, total - first, available - block.page)):
            rest, position = first + k, {}
            for axis in fastest:
                rest, position[axis] = divmod(rest, self.counts[axis])
            yield (position["T"], position["C"], position["Z"]), block.page + k


def ome_images(xml: str, origin: str) -> list[OmeImage]:
    """All images of a document; none in one that only points to another file.

    Raises
    ------
    BadInputError
        If its planes or time points are several things in turn, such as phases of structured illumination.
    """
    root = ElementTree.fromstring(xml)
    for along in ("ModuloAlongZ", "ModuloAlongT"):
        divided = root.find(f".//{{*}}{along}")
        if divided is not None and _modulo(divided) != 1:
            raise _several_in_turn(origin, along, divided)
    return [
        _image(image, pixels, origin)
        for image in root.iterfind("{*}Image")
        if (pixels := image.find("{*}Pixels")) is not None
    ]


def _modulo(divided: ElementTree.Element) -> int | None:
    """How many things an axis runs through in turn, by its labels or by its steps; ``None``: not known."""
    labels = divided.findall("{*}Label")
    start, end, step = (_finite(divided.get(name)) for name in ("Start", "End", "Step"))
    if labels:
        return len(labels)
    if start is None or end is None:
        return None
    return 1 + round((end - start) / (step or 1.0))


def _several_in_turn(origin: str, along: str, divided: ElementTree.Element) -> BadInputError:
    number = _modulo(divided)
    several = f"{number or 'several'} of type '{divided.get('Type', 'unknown')}' in turn ({along})"
    in_planes = along == "ModuloAlongZ"
    example = f"t4z12c{number or 5}yx" if in_planes else f"t4c{number or 5}z12yx"
    return BadInputError(
        origin,
        found=f"{'planes' if in_planes else 'time points'} that are {several}",
        expected="one stack per time point and channel",
        remedy="Reconstruct or separate them, and save the result. To read one of them as it is, say in the "
        f"sample sheet's column 'axes' what the planes are, with c for these, e.g. {example}, and in "
        "'file_channel' its number, from 1.",
    )


def companion(xml: str) -> str | None:
    """Name of the file that holds the metadata instead of this one (``BinaryOnly``)."""
    pointer = ElementTree.fromstring(xml).find("{*}BinaryOnly")
    return None if pointer is None else pointer.get("MetadataFile")


def own_uuid(xml: str) -> str | None:
    """The file's own identifier; not parsed as a whole, for there may be many such files."""
    found = ROOT_UUID.search(xml[:4000])
    return found[1] if found else None


def _image(image: ElementTree.Element, pixels: ElementTree.Element, origin: str) -> OmeImage:
    channels = pixels.findall("{*}Channel")
    samples = max([int(channel.get("SamplesPerPixel", "1")) for channel in channels] or [1])
    counts = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in "TCZ"}
    counts["C"] = max(1, counts["C"] // samples)
    order = "".join(reversed(pixels.get("DimensionOrder", "XYCZT"))).replace("Y", "").replace("X", "")

    def stated(attribute: str, default_unit: str) -> float | None:
        per_unit = S_PER_UNIT if attribute == "TimeIncrement" else UM_PER_UNIT
        return quantity(
            pixels.get(attribute),
            pixels.get(f"{attribute}Unit", default_unit),
            per_unit,
        )

    clock_s, took_s = _clock(pixels)
    return OmeImage(
        name=image.get("Name", "") or image.get("ID", ""),
        order=order,
        counts=counts,
        channel_names=tuple(_channel_name(channel) for channel in channels[: counts["C"]]),
        blocks=tuple(itertools.chain.from_iterable(_blocks(data) for data in pixels.iterfind("{*}TiffData")))
        or (Block((0, 0, 0), 0, None, None, None),),
        clock_s=clock_s,
        took_s=took_s,
        started=(image.findtext("{*}AcquisitionDate") or "").strip(),
        metadata=FileMetadata(
            pixel_um=stated("PhysicalSizeX", "µm"),
            pixel_y_um=stated("PhysicalSizeY", "µm"),
            plane_spacing_um=stated("PhysicalSizeZ", "µm"),
            interval_s=stated("TimeIncrement", "s"),
            origin=origin,
        ),
    )


def _channel_name(channel: ElementTree.Element) -> str:
    name = channel.get("Name", "")
    wavelength = channel.get("ExcitationWavelength")
    return name if name or wavelength is None else f"{float(wavelength):g}nm"


def _blocks(data: ElementTree.Element) -> Iterator[Block]:
    count = data.get("PlaneCount", data.get("NumPlanes", "1" if "IFD" in data.attrib else None))
    first = (
        int(data.get("FirstT", 0)),
        int(data.get("FirstC", 0)),
        int(data.get("FirstZ", 0)),
    )
    page = int(data.get("IFD", 0))
    if min(page, *first) < 0:
        raise ValueError(f"planes that begin at page {page}, (t, c, z) = {first}")
    uuid = data.find("{*}UUID")
    yield Block(
        first=first,
        page=page,
        planes=None if count is None else int(count),
        uuid=None if uuid is None or uuid.text is None else uuid.text.strip(),
        file_name=None if uuid is None else uuid.get("FileName"),
    )


def _finite(text: str | None) -> float | None:
    """A number; ``None`` for what is none."""
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _clock(pixels: ElementTree.Element) -> tuple[dict[Place, float], dict[Place, float]]:
    """``DeltaT`` of the first plane of each stack that has one, and from there to the last plane, s."""
    known: dict[Place, list[tuple[int, float]]] = {}
    for plane in pixels.iterfind("{*}Plane"):
        per_unit = S_PER_UNIT.get(plane.get("DeltaTUnit", "s"))
        seconds = _finite(plane.get("DeltaT"))
        if seconds is None or per_unit is None:
            continue
        place = (int(plane.get("TheT", 0)), int(plane.get("TheC", 0)))
        known.setdefault(place, []).append((int(plane.get("TheZ", 0)), seconds * per_unit))
    first = {place: min(planes)[1] for place, planes in known.items()}
    return first, {place: max(s for _, s in planes) - first[place] for place, planes in known.items()}
