"""The workflow's configuration: every key of ``config.yaml`` checked before anything runs.

Composes the stage parameters of the rooms. Imports neither torch nor zarr: the front door reads it
each time the workflow is planned.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from spatialdino_core.crops.parameters import CropParameters, NormalisationParameters
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.errors import BadInputError
from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.parameters import STRICT
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.sinder.parameters import RepairParameters
from spatialdino_core.track.parameters import TrackParameters


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelParameters:
    """Where the encoder comes from."""

    source: Annotated[
        Literal["train", "bundled", "file"],
        Field(description="train on the movies marked 'train: yes', use the bundled encoder, or a file"),
    ] = "bundled"
    file: Annotated[str, Field(description="weights (safetensors) for 'source: file'")] = ""
    version: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.-]+$", description="name of the trained model; a new name retrains")
    ] = "1"

    @model_validator(mode="after")
    def _file_is_named(self) -> ModelParameters:
        if (self.source == "file") != bool(self.file):
            raise ValueError("'file' is given exactly when source is 'file'")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WorkflowConfig:
    """All settings of a run; one section per stage."""

    movies: Annotated[str, Field(min_length=1, description="sample sheet")]
    results: Annotated[str, Field(min_length=1, description="output folder")]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="seed of every random choice")] = 0
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="where tensors are computed")] = (
        "auto"
    )
    on_bad_frame: Annotated[
        Literal["fail", "skip"], Field(description="a bad frame ends its movie, or is recorded and left out")
    ] = "fail"
    frames_per_job: Annotated[
        int,
        Field(
            ge=0,
            description="deskew, features and segment split a movie into jobs of so many frames; 0: one job",
        ),
    ] = 0
    reading: ReadingParameters = Field(default_factory=ReadingParameters)
    quality: QualityParameters = Field(default_factory=QualityParameters)
    deskew: DeskewParameters = Field(default_factory=DeskewParameters)
    normalisation: NormalisationParameters = Field(default_factory=NormalisationParameters)
    crops: CropParameters = Field(default_factory=CropParameters)
    model: ModelParameters = Field(default_factory=ModelParameters)
    encoder: EncoderParameters = Field(default_factory=EncoderParameters)
    pretrain: PretrainParameters = Field(default_factory=PretrainParameters)
    repair: RepairParameters = Field(default_factory=RepairParameters)
    features: FeatureParameters = Field(default_factory=FeatureParameters)
    segment: SegmentParameters = Field(default_factory=SegmentParameters)
    track: TrackParameters = Field(default_factory=TrackParameters)


def load_config(content: Mapping[str, Any], where: str = "config.yaml") -> WorkflowConfig:
    """Check a configuration and fill in the defaults.

    Parameters
    ----------
    content
        Nested mapping, as YAML gives it.
    where
        Name of its origin, for messages.

    Raises
    ------
    BadInputError
        Naming every bad key, what was found there and what is allowed.
    """
    try:
        return TypeAdapter(WorkflowConfig).validate_python(dict(content))
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors()]
    raise BadInputError(
        where,
        found="; ".join(found for found, _ in problems),
        expected="; ".join(expected for _, expected in problems),
        remedy="See the comments in config.yaml for every key, its unit and range.",
    )


def _describe(problem: Any) -> tuple[str, str]:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "unexpected_keyword_argument":
        allowed = _keys_at(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), allowed, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        return f"unknown key '{key}'{hint}", f"one of {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"no key '{key}'", f"'{key}' to be set"
    return f"{key} = {problem['input']!r}", f"{key}: {problem['msg']}"


def _keys_at(path: tuple[Any, ...]) -> list[str]:
    """Names allowed in the section at ``path``."""
    section: Any = WorkflowConfig
    for name in path:
        section = next((f.type for f in fields(section) if f.name == name), section)
        section = globals().get(section, section) if isinstance(section, str) else section
    return [f.name for f in fields(section)] if is_dataclass(section) else []
