"""A minimal writer of CZI files for tests: uncompressed planes, a directory and metadata.

The layout is that of the public descriptions of ZISRAW: segments with a 32-byte head, little-endian, each
plane with the list of its dimensions. ZEISS's own library reads what this writes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

PIXEL_TYPES = {"uint8": 0, "uint16": 1, "float32": 2}
Place = tuple[int, int, int]


def metadata_xml(
    shear: str = "None", xyz_m: tuple[float, float, float] = (1e-7, 1e-7, 2e-7), scenes: tuple[str, ...] = ()
) -> str:
    """Metadata with the elements that ZEN writes for scaling, skew, interval, channels and scenes."""
    distances = "".join(
        f'<Distance Id="{axis}"><Value>{m!r}</Value></Distance>' for axis, m in zip("XYZ", xyz_m, strict=True)
    )
    named = "".join(f'<Scene Index="{n}" Name="{name}"/>' for n, name in enumerate(scenes))
    return f"""<ImageDocument><Metadata><Information><Image><Dimensions>
<Z><ZAxisShear>{shear}</ZAxisShear></Z>
<T><Positions><Interval><Increment>2.5</Increment></Interval></Positions></T>
<Channels><Channel Id="Channel:0" Name="488nm"/><Channel Id="Channel:1" Name="560nm"/></Channels>
<S><Scenes>{named}</Scenes></S>
</Dimensions></Image></Information><Scaling><Items>{distances}</Items></Scaling></Metadata></ImageDocument>"""


def write_czi(
    path: Path,
    planes: Mapping[Place, np.ndarray],
    xml: str,
    scene_of: Mapping[Place, int] | None = None,
    *,
    part: int = 0,
    parts_of: Mapping[Place, int] | None = None,
) -> None:
    """Write planes (y, x), keyed by (t, c, z): of one part of a file that was split, if so; ``parts_of`` says
    in which part each plane lies, by the file's directory."""
    body = bytearray(_segment("ZISRAWFILE", bytes(512)))
    entries = []
    for (t, c, z), plane in planes.items():
        scene = (scene_of or {}).get((t, c, z), 0)
        entry = _entry(
            plane, {"S": scene, "Z": z, "C": c, "T": t}, len(body), (parts_of or {}).get((t, c, z), part)
        )
        entries.append(entry)
        head = struct.pack("<iiq", 0, 0, plane.nbytes) + entry
        head += bytes(max(0, 16 + 240 - len(head)))
        body += _segment("ZISRAWSUBBLOCK", head + plane.astype(plane.dtype.newbyteorder("<")).tobytes())
    directory = len(body)
    body += _segment("ZISRAWDIRECTORY", struct.pack("<i", len(entries)) + bytes(124) + b"".join(entries))
    metadata = len(body)
    text = xml.encode()
    body += _segment("ZISRAWMETADATA", struct.pack("<ii", len(text), 0) + bytes(248) + text)
    guid = bytes(range(16))
    header = struct.pack(
        "<iiii16s16siqqiq",
        1,
        0,
        0,
        0,
        guid,
        bytes(15) + bytes([part]) if part else guid,
        part,
        directory,
        metadata,
        0,
        0,
    )
    body[32 : 32 + len(header)] = header
    path.write_bytes(bytes(body))


def _segment(name: str, data: bytes) -> bytes:
    padded = data + bytes(-len(data) % 32)
    return struct.pack("<16sqq", name.encode(), len(padded), len(data)) + padded


def _entry(plane: np.ndarray, starts: Mapping[str, int], position: int, part: int = 0) -> bytes:
    dimensions = [("X", 0, plane.shape[1]), ("Y", 0, plane.shape[0])]
    dimensions += [(name, start, 1) for name, start in starts.items()]
    head = struct.pack(
        "<2siqiiB5xi", b"DV", PIXEL_TYPES[str(plane.dtype)], position, part, 0, 0, len(dimensions)
    )
    return head + b"".join(
        struct.pack("<4siifi", name.encode(), start, size, 0.0, size) for name, start, size in dimensions
    )
