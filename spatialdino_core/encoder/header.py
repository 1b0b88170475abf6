"""What a weights file says about itself, read without its tensors. How those are written: ``weights.py``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.errors import BadInputError

FORMAT_VERSION = 1
METADATA_KEY = "spatialdino"
REMEDY = "Use weights that this software wrote, or copy the file again."


@dataclass(frozen=True, kw_only=True)
class WeightsHeader:
    """What a weights file says about itself.

    Attributes
    ----------
    architecture
        Architecture of the encoder; fields that an older file does not name have their defaults.
    voxel_um
        (z, y, x) voxel size in µm of the images it was trained on; isotropic.
    normalisation
        How intensities were brought to [0, 1], as JSON values.
    field_of_view_voxels
        (z, y, x) size of the training crops: the context in which the features are known to hold.
    provenance
        Where the weights come from (versions, hashes, training parameters), as JSON values.
    format_version
        Version of this file format.
    """

    architecture: EncoderParameters
    voxel_um: tuple[float, float, float]
    normalisation: dict[str, Any]
    field_of_view_voxels: tuple[int, int, int]
    provenance: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if min(self.voxel_um) <= 0 or max(self.voxel_um) - min(self.voxel_um) > 1e-6 * max(self.voxel_um):
            raise BadInputError(
                "weights header, voxel_um",
                found=str(self.voxel_um),
                expected="three equal, positive voxel sizes in µm",
                remedy="Train and encode on isotropic, deskewed images.",
            )


_HEADER = TypeAdapter(WeightsHeader)


def read_header(path: Path) -> WeightsHeader:
    """Read only the header: architecture, voxel size, normalisation and provenance.

    Raises
    ------
    BadInputError
        If the file is missing, truncated, or has no header of this format.
    """
    return header_of(Path(path), read_metadata(Path(path)))


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a file: ``header``, names of ``extra`` tensors, checksum ``blake2b``."""
    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(METADATA_KEY, "")
    except (SafetensorError, OSError) as error:
        refuse(path, f"no readable safetensors file ({error})", "a complete safetensors file")
    try:
        metadata = json.loads(text)
        return {key: metadata[key] for key in ("header", "extra", "blake2b")}
    except (TypeError, KeyError, json.JSONDecodeError):
        refuse(path, "no SpatialDINO header", f"metadata {METADATA_KEY!r} with header, extra, blake2b")


def header_of(path: Path, metadata: Mapping[str, Any]) -> WeightsHeader:
    """The header in the metadata of a file, checked."""
    raw = metadata["header"]
    if not isinstance(raw, dict) or raw.get("format_version") != FORMAT_VERSION:
        version = raw.get("format_version") if isinstance(raw, dict) else None
        refuse(path, f"weights format {version}", f"weights format {FORMAT_VERSION}")
    if set(raw) != {item.name for item in fields(WeightsHeader)}:
        refuse(path, f"header keys {sorted(raw)}", str(sorted(item.name for item in fields(WeightsHeader))))
    try:
        return _HEADER.validate_python(raw)
    except ValidationError as error:
        refuse(path, f"an invalid header ({error})", "a header written by this software")


def refuse(path: Path, found: str, expected: str, remedy: str = REMEDY) -> NoReturn:
    """Refuse a weights file."""
    raise BadInputError(path, found=found, expected=expected, remedy=remedy)
