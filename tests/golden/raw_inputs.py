"""Small raw files for golden tests: rows of a sheet, TIFF stacks, settings files, CZI files.

Only what the scenes of several stages share; the unit tests have builders of their own.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.sheet import SheetRow

REFUSED = "refused"


def outcome(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a call returns, or that it refused its input; why it did is a message, not a result."""
    try:
        return call(*arguments, **options)
    except BadInputError:
        return REFUSED


def counts(seed: int, shape: Sequence[int], low: int = 90, high: int = 200) -> np.ndarray:
    """Camera counts that differ from voxel to voxel, uint16."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.uint16)


def sheet_row(path: Path | str, **changes: object) -> SheetRow:
    """A row with a whole geometry."""
    values = dict(movie="cell", channel="488nm", path=str(path), scan="stage", angle_deg=31.5, step_um=0.4)
    values |= dict(pixel_um=0.104, interval_s=2.0, skew_axis="x", scan_sign=1, train="no")
    return SheetRow(**(values | changes))  # type: ignore[arg-type]


def blank_row(path: Path | str, **changes: object) -> SheetRow:
    """A row that leaves its geometry to the files."""
    return SheetRow(**({"movie": "cell", "channel": "488nm", "path": str(path)} | changes))  # type: ignore[arg-type]


def settings_text(
    motion: str | None = "Sample piezo",
    devices: Mapping[str, Sequence[str]] | None = None,
    angle: str | None = "31.5",
    model: str | None = "C11440-22C",
    binning: str | None = None,
    magnification: str | None = "62.5",
) -> str:
    """Settings of a lattice light-sheet instrument; a device has an interval for each of its channels."""
    stars = "***** ***** *****"
    waveforms = "\n".join(
        f"{device} Offset, Interval (um), # of Pixels for Excitation ({n}) :\t50.5\t{interval}\t141"
        for device, intervals in (devices or {"S PZT": ("0.4", "0.4")}).items()
        for n, interval in enumerate(intervals)
    )
    return "\n".join(
        [
            f"{stars}   General   {stars}",
            "Model :\tC99999",
            "Comment :\tcaf\u00e9",
            f"{stars}   Waveform   {stars}",
            "X Galvo Offset, Interval (um), # of Pixels for Excitation (0) :\t0\t0.1\t51",
            waveforms,
            "Cycle lasers :\tper Z",
            *([f"Z motion :\t{motion}"] if motion is not None else []),
            f"{stars}   Camera   {stars}",
            *([f"Model :\t{model}"] if model else []),
            *([f"Binning :\t{binning}x{binning}"] if binning else []),
            f"{stars}   .ini File   {stars}",
            "[SLM]",
            "Magnification = 2",
            "Angle between stage and bessel beam (deg) = 11",
            "[Detection optics]",
            "Magnification from SLM to back pupil = 0.5",
            *([f'Magnification = "{magnification}"'] if magnification else []),
            "[Sample stage]",
            *([f"Angle between stage and bessel beam (deg) = {angle}"] if angle is not None else []),
            "",
        ]
    )


def write_settings(path: Path, **changes: Any) -> Path:
    """A settings file as the instrument writes it."""
    path.write_bytes(settings_text(**changes).replace("\n", "\r\n").encode("latin-1"))
    return path


@dataclass
class CziPlane:
    """A plane of a CZI file: its voxels, where it lies, and its bytes in the file if they are compressed."""

    voxels: np.ndarray
    place: Mapping[str, int]
    compression: int = 0
    stored: bytes | None = None
    pyramid: int = 0
    position: int | None = None


@dataclass
class CziText:
    """What the metadata of a CZI file say."""

    shear: str = "Skew60"
    xyz_m: tuple[float, ...] = (1e-7, 1e-7, 2e-7)
    interval: str = "2.5"
    channels: Sequence[str] = ("488nm", "560nm")
    scenes: Sequence[str] = field(default_factory=tuple)

    def xml(self) -> bytes:
        """As ZEN writes it."""
        distances = "".join(
            f'<Distance Id="{axis}"><Value>{m!r}</Value></Distance>'
            for axis, m in zip("XYZ", self.xyz_m, strict=False)
        )
        channels = "".join(f'<Channel Name="{name}"/>' for name in self.channels)
        scenes = "".join(f'<Scene Index="{n}" Name="{name}"/>' for n, name in enumerate(self.scenes))
        return (
            f"<ImageDocument><Metadata><Information><Image><Dimensions><Z><ZAxisShear>{self.shear}"
            f"</ZAxisShear></Z><T><Positions><Interval><Increment>{self.interval}</Increment></Interval>"
            f"</Positions></T><Channels>{channels}</Channels><S><Scenes>{scenes}</Scenes></S></Dimensions>"
            f"</Image></Information><Scaling><Items>{distances}</Items></Scaling></Metadata></ImageDocument>"
        ).encode()


def write_czi(path: Path, planes: Sequence[CziPlane], text: CziText | None) -> Path:
    """Segments with a 32-byte head, little-endian: planes, their directory, metadata."""
    body = bytearray(_segment("ZISRAWFILE", bytes(512)))
    entries = []
    for plane in planes:
        entry = _entry(plane, len(body) if plane.position is None else plane.position)
        entries.append(entry)
        data = plane.stored if plane.stored is not None else plane.voxels.tobytes()
        head = struct.pack("<iiq", 0, 0, len(data)) + entry
        body += _segment("ZISRAWSUBBLOCK", head + bytes(max(0, 256 - len(head))) + data)
    directory = len(body)
    body += _segment("ZISRAWDIRECTORY", struct.pack("<i", len(entries)) + bytes(124) + b"".join(entries))
    metadata = len(body)
    if text is not None:
        body += _segment("ZISRAWMETADATA", struct.pack("<ii", len(text.xml()), 0) + bytes(248) + text.xml())
    guid = bytes(range(16))
    header = struct.pack(
        "<iiii16s16siqqiq", 1, 0, 0, 0, guid, guid, 0, directory, metadata if text is not None else 0, 0, 0
    )
    body[32 : 32 + len(header)] = header
    path.write_bytes(bytes(body))
    return path


def _segment(name: str, data: bytes) -> bytes:
    padded = data + bytes(-len(data) % 32)
    return struct.pack("<16sqq", name.encode(), len(padded), len(data)) + padded


def _entry(plane: CziPlane, position: int) -> bytes:
    kind = {"uint8": 0, "uint16": 1, "float32": 2}[str(plane.voxels.dtype)]
    dimensions = [("X", 0, plane.voxels.shape[1]), ("Y", 0, plane.voxels.shape[0])]
    dimensions += [(name, start, 1) for name, start in plane.place.items()]
    head = struct.pack(
        "<2siqiiB5xi", b"DV", kind, position, 0, plane.compression, plane.pyramid, len(dimensions)
    )
    return head + b"".join(
        struct.pack("<4siifi", name.encode(), start, size, 0.0, size) for name, start, size in dimensions
    )


def write_listed_tiff(path: Path, head: bytes, planes: Sequence[np.ndarray], bits: int = 16) -> list[int]:
    """A TIFF with Micro-Manager's head between its header and its pages; where their directories begin.

    Each directory takes 126 bytes, and the voxels follow.
    """
    content = bytearray(struct.pack("<2sHI", b"II", 42, 0) + head)
    link, directories = 4, []
    for plane in planes:
        content += bytes(len(content) % 2)
        start = len(content) + 126
        directories.append(len(content))
        struct.pack_into("<I", content, link, len(content))
        tags = {256: plane.shape[1], 257: plane.shape[0], 258: bits, 259: 1, 262: 1, 273: start, 277: 1}
        tags |= {278: plane.shape[0], 279: plane.nbytes, 51123: start + plane.nbytes}
        content += struct.pack("<H", len(tags))
        for tag, value in tags.items():
            kind, count = (2, 8) if tag == 51123 else (4, 1)
            content += struct.pack("<HHII", tag, kind, count, value)
        link = len(content)
        content += bytes(4) + plane.astype("<u2").tobytes() + b"{      }"
    path.write_bytes(content)
    return directories


def write_ndtiff(
    folder: Path, planes: Sequence[tuple[Mapping[str, object], np.ndarray]], per_file: int
) -> None:
    """An acquisition with its index, of files of so many planes."""
    folder.mkdir()
    index = b""
    for number, first in enumerate(range(0, len(planes), per_file)):
        name = f"acq_NDTiffStack_{number}.tif"
        own = planes[first : first + per_file]
        head = struct.pack("<IIIII", 483729, 3, 3, 2355492, 2) + b"{}"
        offsets = write_listed_tiff(folder / name, head, [plane for _, plane in own])
        for (axes, plane), offset in zip(own, offsets, strict=True):
            words = json.dumps(axes).encode()
            index += struct.pack("<I", len(words)) + words + struct.pack("<I", len(name)) + name.encode()
            index += struct.pack("<IiiiiIii", offset + 126, plane.shape[1], plane.shape[0], 1, 0, 0, 0, 0)
    (folder / "NDTiff.index").write_bytes(index)


def write_mm_stack(path: Path, planes: Sequence[tuple[Sequence[int], np.ndarray]], **summary: object) -> None:
    """A file with an index map; each plane with its channel, z, time and position. None without planes'
    places: it was not finished."""
    said = json.dumps({"MicroManagerVersion": "2.0.0"} | summary).encode()
    head = struct.pack("<IIIIIIII", 54773648, 0, 0, 0, 0, 0, 2355492, len(said)) + said
    offsets = write_listed_tiff(path, head, [plane for _, plane in planes])
    content = bytearray(path.read_bytes())
    if all(place for place, _ in planes):
        struct.pack_into("<I", content, 12, len(content))
        content += struct.pack("<II", 3453623, len(planes))
        for (place, _), offset in zip(planes, offsets, strict=True):
            content += struct.pack("<5I", *place, offset)
    path.write_bytes(content)
