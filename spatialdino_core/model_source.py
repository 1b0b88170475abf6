"""Where a run's encoder comes from and why, and where sheet and settings contradict each other.

Decided from what the plan knows before the first job; nothing is opened here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spatialdino_core.config import ModelParameters, WorkflowConfig
from spatialdino_core.encoder.contract import (
    check_basis,
    check_images,
    cut_channels,
    entering,
    trained_images,
)
from spatialdino_core.encoder.header import read_header
from spatialdino_core.errors import BadInputError

IDLE = {"bundled": ("crops", "encoder", "pretrain", "repair"), "file": ("encoder", "pretrain")}
"""Sections of the settings that a model from elsewhere does not look at."""
NAMES = {"train": "trained here", "bundled": "the bundled encoder", "file": "a file"}


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a plan sees of sheet, results and machine.

    Attributes
    ----------
    marked
        Movies with ``train: yes``, and the number of channels of each.
    trained
        Whether a trained model lies in the results.
    current
        Whether it is the one that settings and sheet ask for.
    gpu
        Whether training would have a GPU.
    pixel_um
        Pixel size of marked movies, µm, as far as it is known.
    """

    marked: Mapping[str, int] = field(default_factory=dict)
    trained: bool = False
    current: bool = False
    gpu: bool = False
    pixel_um: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelSource:
    """Where the encoder comes from; ``kept``: it is there, and no job may make it anew."""

    source: Literal["train", "bundled", "file"]
    why: str
    kept: bool = False

    def __str__(self) -> str:
        return f"Model: {NAMES[self.source]} ({self.why})."


def model_source(model: ModelParameters, now: Situation) -> ModelSource:
    """Settle ``model.source: auto``; what the user chose stays.

    Examples
    --------
    >>> model_source(ModelParameters(), Situation(marked={"cell_1": 1}, gpu=True)).source
    'train'
    >>> print(model_source(ModelParameters(), Situation()))
    Model: the bundled encoder (no movie is marked 'train: yes').
    """
    if model.source != "auto":
        return ModelSource(model.source, "as model.source says")
    if model.file:
        return ModelSource("file", f"model.file names {model.file}")
    if now.trained:
        return ModelSource("train", "a trained model is there", kept=True)
    if not now.marked:
        return ModelSource("bundled", "no movie is marked 'train: yes'")
    marked = f"{len(now.marked)} of the movies {'is' if len(now.marked) == 1 else 'are'} marked 'train: yes'"
    if not now.gpu:
        return ModelSource(
            "bundled", f"{marked}, but no GPU is found; 'model: {{source: train}}' trains without"
        )
    return ModelSource("train", f"{marked}, and there is a GPU")


def check_training(config: WorkflowConfig, chosen: ModelSource, now: Situation, sheet: str) -> None:
    """Refuse what training could not do, before the first job.

    Raises
    ------
    BadInputError
        If no movie is marked, or if a marked one lacks the channel that crops are cut from.
    """
    if chosen.source != "train" or chosen.kept or now.current:
        return
    if not now.marked:
        raise BadInputError(
            sheet,
            found="no movie with train = yes",
            expected="at least one for model.source: train",
            remedy="Mark a typical movie in the sheet, or set model.source to auto, bundled or file.",
        )
    if config.encoder.channels > 1 and config.crops.channels != "random":
        raise BadInputError(
            "encoder.channels",
            found=f"{config.encoder.channels}, and crops.channels: {config.crops.channels}, which cuts one",
            expected="encoder.channels: 1, or crops.channels: random, which keeps all",
            remedy="Correct one of the two.",
        )
    wanted = config.crops.channel if config.crops.channels == "single" else 0
    for movie, channels in now.marked.items():
        if wanted >= channels:
            raise BadInputError(
                sheet,
                found=f"{channels} channel(s) of the training movie '{movie}', and crops.channel = {wanted}",
                expected=f"crops.channel from 0 to {channels - 1}",
                remedy="Correct crops.channel, or set train to no for this movie.",
            )


def check_weights(config: WorkflowConfig, chosen: ModelSource, now: Situation) -> None:
    """Open the weights that the settings name, before the first job.

    Raises
    ------
    BadInputError
        If a file is absent or no weights file of ours, if it is one that the run itself writes, if crops
        would be cut for its basis that are not what it was trained on, or if it needs a basis and none will
        be.
    """
    named = {"model.file": config.model.file if chosen.source == "file" else ""}
    named["pretrain.start_from"] = config.pretrain.start_from if chosen.source == "train" else ""
    for key, path in named.items():
        if path and Path(path).resolve().is_relative_to(Path(config.results, "model").resolve()):
            raise BadInputError(
                key,
                found=f"{path}, which this run itself writes",
                expected="weights from elsewhere",
                remedy="'model: {source: auto}' keeps a trained model that is there; else copy the file.",
            )
        if path:
            header = read_header(Path(path))
            if key == "model.file" and now.marked:
                own = config.crops.voxel_um
                for voxel_um in [own] if own else [None, *now.pixel_um.values()]:
                    check_images(header, voxel_um, config.normalisation, path)
            elif key == "model.file":
                check_basis(Path(path))


def features_of(config: WorkflowConfig, chosen: ModelSource, now: Situation, made: str, bundled: str) -> int:
    """How many features the encoder has, as the model says that is there or is taken, or as settings say.

    Parameters
    ----------
    made, bundled
        Where the run keeps its model, and where the bundled encoder is.
    """
    paths = {"file": config.model.file, "bundled": bundled, "train": config.pretrain.start_from}
    path = made if chosen.source == "train" and (chosen.kept or now.current) else paths[chosen.source]
    return (read_header(Path(path)).architecture if path else config.encoder).embed_dim


def check_maps(config: WorkflowConfig, features: int) -> None:
    """Refuse maps of components that are not stored, before the first job.

    Raises
    ------
    BadInputError
        Naming them.
    """
    asked = [name for name in config.features.high_resolution if name.startswith("component_")]
    stored = min(config.features.components, features) if config.features.keep == "components" else 0
    if wrong := [name for name in asked if int(name.removeprefix("component_")) >= stored]:
        raise BadInputError(
            "features.high_resolution",
            found=", ".join(wrong),
            expected=f"activation, foreground, component_0 to component_{stored - 1}"
            if stored
            else "activation or foreground, as with features.keep: all no components are stored",
            remedy="Leave them out, or store more (features.components)."
            if stored
            else "Leave them out, or set features.keep: components.",
        )


def check_channels(
    config: WorkflowConfig,
    chosen: ModelSource,
    now: Situation,
    movies: Mapping[str, Sequence[str]],
    made: str,
) -> None:
    """Refuse movies whose tracked channel is none that the model is trained on, before the first job.

    Parameters
    ----------
    movies
        Movies to encode, and the names of the channels of each, the tracked one first.
    made
        Where the run keeps its model.

    Raises
    ------
    BadInputError
        Naming the movies, or if several channels are to enter together and differ between movies.
    """
    if chosen.source == "bundled" or config.features.channels == "any":
        return
    if chosen.source == "file" or chosen.kept or now.current:
        header = read_header(Path(made if chosen.source == "train" else config.model.file))
        trained, channels = header.channels, header.architecture.channels
    else:
        start = config.pretrain.start_from
        channels = (read_header(Path(start)).architecture if start else config.encoder).channels
        cut = {movie: cut_channels(movies[movie], config.crops) for movie in now.marked if movie in movies}
        trained = trained_images(cut, config.crops.channels, channels)
    refused = []
    for movie, names in movies.items():
        try:
            entering(trained, channels, names, f"{config.movies}, movie '{movie}'")
        except BadInputError as error:
            refused.append(error)
    if refused:
        first, others = refused[0], f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise BadInputError(
            f"{first.where}{others}", found=first.found, expected=first.expected, remedy=first.remedy
        )


def contradictions(
    config: WorkflowConfig, chosen: ModelSource, now: Situation, features: int = 0
) -> Iterator[str]:
    """What sheet and settings say against each other without keeping the run from being useful.

    Parameters
    ----------
    features
        How many the encoder has; 0: not known.
    """
    if chosen.source == "bundled" and now.marked and config.model.source != "auto":
        yield (
            f"{len(now.marked)} of the movies say 'train: yes', and none trains the model: it is "
            f"{NAMES[chosen.source]}."
        )
    if given := [name for name in IDLE.get(chosen.source, ()) if _is_set(config, name)]:
        yield f"Settings under {', '.join(given)} have no effect: the model is {NAMES[chosen.source]}."
    if chosen.kept and not now.current:
        yield (
            "The trained model that is there was made with other settings, movies or another version; it is "
            "kept. 'model: {source: train}' makes it anew."
        )
    if now.trained and chosen.source != "train":
        replaced = f"The trained model that is there is replaced by {NAMES[chosen.source]}."
        yield f"{replaced} 'model: {{source: auto}}' keeps it."
    if chosen.source == "train" and not chosen.kept and now.trained and not now.current:
        yield (
            "The trained model that is there was made with other settings, movies or another version: it is "
            "made anew, from what differs on. 'model: {source: auto}' keeps it."
        )
    if 0 < features < config.features.components and config.features.keep == "components":
        yield (
            f"features.components is {config.features.components}, and the encoder has {features} features: "
            f"{features} are stored."
        )
    if config.device == "cuda" and not now.gpu:
        yield "The device is cuda, and no GPU is found here."


def _is_set(config: WorkflowConfig, section: str) -> bool:
    return getattr(config, section) != type(getattr(config, section))()
