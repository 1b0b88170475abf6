"""Small raw files for golden tests: rows of a sheet, TIFF stacks, settings files, CZI files.

Only what the scenes of several stages share; the unit tests have builders of their own.
"""

from __future__ import annotations

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
