"""The workflow's configuration: every key of ``config.yaml`` checked before anything runs.

Composes the stage parameters of the rooms. Imports neither torch nor zarr: the front door reads it
each time the workflow is planned.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_type_hints

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from spatialdino_core.crops.parameters import CropParameters, NormalisationParameters
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.errors import BadInputError
from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.provenance import RerunOn
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.parameters import SHARED, STRICT, without_braces
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.sinder.parameters import RepairParameters
from spatialdino_core.track.parameters import TrackParameters


def _number_as_name(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _folder(path: str) -> str:
    """A folder that is there or can be made, and not the one in which the workflow runs."""
    path = os.path.normpath(path)
    if path == ".":
        raise ValueError("a folder of its own, such as 'results'")
    for place in (Path(path), *Path(path).parents):
        if os.path.lexists(place) and not place.is_dir():
            raise ValueError(f"a folder; {place} is none")
    return path


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelParameters:
    """Where the encoder comes from."""

    source: Annotated[
        Literal["auto", "train", "bundled", "file"],
        Field(
            description="train on the movies marked 'train: yes', the bundled encoder, or a file; auto: a "
            "file that is named or a trained model that is there, else training if movies are marked and "
            "there is a GPU, else the bundled encoder"
        ),
    ] = "auto"
    file: Annotated[
        str, Field(description="weights (safetensors); empty: none"), AfterValidator(without_braces)
    ] = ""
    version: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_.-]+$",
            description="name of the trained model; with 'source: train', a new name trains anew",
        ),
        BeforeValidator(_number_as_name),
    ] = "1"

    @model_validator(mode="after")
    def _file_is_named(self) -> ModelParameters:
        if self.source == "file" and not self.file:
            raise ValueError("source is 'file': 'file' names none")
        if self.source in ("train", "bundled") and self.file:
            raise ValueError(f"source is '{self.source}', and 'file' names {self.file}: leave one out")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WorkflowConfig:
    """All settings of a run; one section per stage."""

    movies: Annotated[
        str, Field(min_length=1, description="sample sheet"), AfterValidator(os.path.expanduser)
    ]
    results: Annotated[
        str,
        Field(min_length=1, description="output folder"),
        AfterValidator(without_braces),
        AfterValidator(_folder),
    ]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="seed of every random choice")] = 0
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="where tensors are computed")] = (
        "auto"
    )
    verify: Annotated[
        bool, Field(description="read all finished frames, and compute again what is not as it was written")
    ] = False
    on_bad_frame: Annotated[
        Literal["fail", "skip"], Field(description="a bad frame ends its movie, or is recorded and left out")
    ] = "fail"
    rerun_on: Annotated[
        RerunOn,
        Field(
            description="what of a stage makes its results anew, beside settings and inputs: another version "
            "of its results, or any change of its code (for people who change the science; whoever switches "
            "computes all once)"
        ),
    ] = "version"
    frames_per_job: Annotated[
        int,
        Field(
            ge=0,
            le=10**6,
            description="deskew, features and segment split a movie into jobs of so many frames; 0: one job",
        ),
    ] = 0
    optics: OpticsParameters = Field(default_factory=OpticsParameters)
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

    @model_validator(mode="after")
    def _sections_that_stages_share(self) -> WorkflowConfig:
        object.__setattr__(self, "segment", replace(self.segment, optics=self.optics))
        return self


MOVED: Mapping[str, str] = MappingProxyType(
    {
        "segment.sigma_lateral_um": "optics.sigma_lateral_um",
        "segment.sigma_axial_um": "optics.sigma_axial_um",
        "segment.optics": "optics",
        "features.streaming.precision": "features.precision",
    }
    | {"quality.min_snr": "quality.reject_p_value"}
    | {
        f"features.streaming.{name}": ""
        for name in ("attention", "clusters", "tolerance", "sampled_queries", "seed")
    }
)
"""Keys of earlier releases, and where they stand now; empty: nowhere."""


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
    # A section with nothing under it has its defaults.
    content = {name: value for name, value in content.items() if value is not None or not _is_section(name)}
    try:
        problems = [_moved(key) for key, _ in _keys_of(content) if key in MOVED]
        if not problems:
            config = TypeAdapter(WorkflowConfig).validate_python(content)
            problems = [_odd(key, value) for key, value in _keys_of(content) if _is_odd(config, key, value)]
        if not problems:
            return config
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors()]
    raise BadInputError(
        where,
        found="; ".join(found for found, _ in problems),
        expected="; ".join(expected for _, expected in problems),
        remedy="See docs/settings.md for every key, its unit, range and default.",
    )


def check_files(paths: Sequence[Path | str]) -> str:
    """Refuse settings files that say a key twice: YAML would keep the last. Returns what to call them.

    Raises
    ------
    BadInputError
        Naming the file, the key and its lines.
    """
    for path in paths:
        with contextlib.suppress(yaml.YAMLError):  # what is no YAML Snakemake has refused before
            _check_node(str(path), yaml.compose(Path(path).read_text(encoding="utf-8")))
    own = Path(__file__).resolve().parents[1] / "config.yaml"
    given = [str(path) for path in paths if Path(path).resolve() != own]
    return "settings" + (f" ({', '.join(given)})" if given else "")


def _check_node(path: str, node: yaml.Node | None) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value in lines:
            raise BadInputError(
                path,
                found=f"'{key.value}' in line {lines[key.value]} and again in line {line}",
                expected="each key once",
                remedy="Put what belongs together under one key.",
            )
        lines[key.value] = line
        _check_node(path, value)


def _is_odd(config: Any, key: str, value: Any) -> bool:
    """Whether a number was given as yes or no, or as infinity."""
    for name in key.split("."):
        config = getattr(config, name)
    truth = isinstance(value, bool) and not isinstance(config, bool)
    return truth or (isinstance(value, float) and not math.isfinite(value))


def _odd(key: str, value: Any) -> tuple[str, str]:
    return f"{key} = {value!r}", f"{key}: a finite number or a word, as docs/settings.md says"


def _keys_of(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        yield f"{above}{name}", value
        if isinstance(value, Mapping):
            yield from _keys_of(value, f"{above}{name}.")


def _moved(key: str) -> tuple[str, str]:
    place = MOVED[key]
    return f"'{key}' of an earlier release", f"'{place}' instead" if place else f"no '{key}': it is gone"


def _describe(problem: Any) -> tuple[str, str]:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "unexpected_keyword_argument":
        allowed = settings_of(problem["loc"][:-1])
        name = str(problem["loc"][-1])
        if "." in name:
            section, _, rest = name.partition(".")
            return f"unknown key '{name}'", f"a setting in its section: {section}: {{{rest}: …}}"
        near = _elsewhere(name) or difflib.get_close_matches(name, allowed, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        return f"unknown key '{key}'{hint}", f"one of {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"no key '{key}'", f"'{key}' to be set"
    return f"{key} = {problem['input']!r}", f"{key}: {problem['msg'].removeprefix('Value error, ')}"


def _elsewhere(name: str) -> list[str]:
    """Full keys of the sections that have a setting of this name."""
    return [f"{section}.{name}" for section in settings_of(()) if name in settings_of((section,))]


def _is_section(name: Any) -> bool:
    return is_dataclass(get_type_hints(WorkflowConfig).get(name))


def settings_of(path: tuple[Any, ...]) -> list[str]:
    """Names of the settings in the section at ``path``."""
    section: Any = WorkflowConfig
    for name in path:
        section = get_type_hints(section).get(name, section)
    return [name for name, _ in fields_of(section)] if is_dataclass(section) else []


def fields_of(section: Any) -> Iterator[tuple[str, FieldInfo]]:
    """Settings of a section that a configuration gives there: not the sections that stages share."""
    for name, field in section.__pydantic_fields__.items():
        if field.description != SHARED:
            yield name, field
