"""What a weights file says about itself, read without its tensors. How those are written: ``weights.py``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open

from spatialdino_core.crops.parameters import NormalisationParameters, VoxelSize
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.errors import BadInputError
from spatialdino_core.parameters import STRICT, problems_of

FORMAT_VERSION = 1
METADATA_KEY = "spatialdino"
REMEDY = "Use weights that this software wrote, or copy the file again."
Side = Annotated[int, Field(ge=1, le=2048)]
IMPORT = (
    "Weights of another program are brought into this format once, with python -m "
    "spatialdino_core.encoder.importers: see docs/weights.md. Of this one, copy the file again."
)
BASIS_TENSORS = ("pca.mean", "pca.components", "pca.explained_variance")
"""Tensors beside those of an encoder: its feature basis."""
LATER_KEYS = frozenset({"channels"})
"""Keys that files of earlier releases lack."""


def _isotropic(voxel_um: tuple[float, float, float]) -> tuple[float, float, float]:
    if max(voxel_um) - min(voxel_um) > 1e-6 * max(voxel_um):
        raise ValueError("three equal voxel sizes")
    return voxel_um


def _scale(normalisation: dict[str, Any]) -> dict[str, Any]:
    """As it is written, if it is an intensity scale."""
    NormalisationParameters(**normalisation)
    return normalisation


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WeightsHeader:
    """What a weights file says about itself.

    Attributes
    ----------
    architecture
        Architecture of the encoder; fields that an older file does not name have their defaults.
    voxel_um
        (z, y, x) voxel size in µm of the images it was trained on; isotropic.
    normalisation
        How intensities were brought to [0, 1]: `NormalisationParameters` as JSON values.
    field_of_view_voxels
        (z, y, x) size of the training crops: the context in which the features are known to hold; a cube of
        whole patches.
    provenance
        Where the weights come from (versions, hashes, training parameters), as JSON values.
    format_version
        Version of this file format.
    channels
        Names of the channels of movies that it was trained on. For an encoder of one channel each item is an
        image that it saw, several names in one being their average; for one of several channels each is what
        enters there. Empty: it is for any.

    Raises
    ------
    pydantic.ValidationError
        If a value has another type or lies outside its range.
    """

    architecture: EncoderParameters
    voxel_um: Annotated[tuple[VoxelSize, VoxelSize, VoxelSize], AfterValidator(_isotropic)]
    normalisation: Annotated[dict[str, Any], AfterValidator(_scale)]
    field_of_view_voxels: tuple[Side, Side, Side]
    provenance: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    channels: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = ()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> WeightsHeader:
        side, patch = self.field_of_view_voxels[0], self.architecture.patch_voxels
        if set(self.field_of_view_voxels) != {side} or side % patch:
            raise ValueError(f"field_of_view_voxels must be a cube of whole patches of {patch} voxels")
        if self.channels and self.architecture.channels not in (1, len(self.channels)):
            raise ValueError(f"channels must be none or {self.architecture.channels}, as enter together")
        return self


_HEADER = TypeAdapter(WeightsHeader)
_NAMES = TypeAdapter(list[str])


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
        refuse(path, f"no readable safetensors file ({error})", "a complete safetensors file", IMPORT)
    try:
        metadata = json.loads(text)
        found = {key: metadata[key] for key in ("header", "extra", "blake2b")}
        return found | {"extra": _NAMES.validate_python(found["extra"])}
    except (TypeError, KeyError, ValueError, RecursionError):
        expected = f"metadata {METADATA_KEY!r} with header, extra, blake2b"
        refuse(path, "no SpatialDINO header", expected, IMPORT)


def header_of(path: Path, metadata: Mapping[str, Any]) -> WeightsHeader:
    """The header in the metadata of a file, checked."""
    raw = metadata["header"]
    if not isinstance(raw, dict) or raw.get("format_version") != FORMAT_VERSION:
        version = raw.get("format_version") if isinstance(raw, dict) else None
        refuse(path, f"weights format {version}", f"weights format {FORMAT_VERSION}")
    keys = {item.name for item in fields(WeightsHeader)}
    if set(raw) | LATER_KEYS != keys:
        refuse(path, f"header keys {sorted(raw)}", str(sorted(keys)))
    try:
        return _HEADER.validate_python(raw)
    except ValidationError as error:
        found, expected = problems_of(error)
        refuse(path, f"an invalid header, {found}", expected)


def refuse(path: Path, found: str, expected: str, remedy: str = REMEDY) -> NoReturn:
    """Refuse a weights file."""
    raise BadInputError(path, found=found, expected=expected, remedy=remedy)
