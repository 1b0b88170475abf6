"""What an encoder was trained on against what it is given: channels by name, voxel size, intensity scale.

An encoder answers whatever it is shown. So what it is shown is compared with its header, and refused where
the two differ. Imports neither torch nor zarr: a plan asks as well as the stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spatialdino_core.crops.parameters import CropParameters, NormalisationParameters
from spatialdino_core.encoder.header import BASIS_TENSORS, WeightsHeader, read_metadata
from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.names import normalised

Images = tuple[tuple[str, ...], ...]
"""Names of the channels of each image; several names are their average."""
VOXEL_TOLERANCE = 0.01


def cut_channels(names: Sequence[str], crops: CropParameters) -> list[str]:
    """Those of a movie's channels that its crops are cut from."""
    return list(names) if crops.channels != "single" else list(names[crops.channel : crops.channel + 1])


def trained_images(cut: Mapping[str, Sequence[str]], mode: str, channels: int) -> Images:
    """The images that an encoder is trained on, for its header.

    Parameters
    ----------
    cut
        Movie to the names of the channels that its crops have.
    mode
        ``single``, ``average`` or ``random``: `CropParameters.channels`.
    channels
        How many channels enter the encoder together.

    Raises
    ------
    BadInputError
        If several channels enter together, and not the same ones in all movies.
    """
    if channels > 1:
        orders = {_key(names): tuple(names) for names in cut.values()}
        if len(orders) > 1 or any(len(names) != channels for names in orders.values()):
            raise BadInputError(
                "training movies",
                found=f"channels {'; '.join(', '.join(names) for names in orders.values())}",
                expected=f"the same {channels} channels in the same order in all, as they enter together",
                remedy="Set encoder.channels to 1, or leave the others out (train: no).",
            )
        return tuple((name,) for names in orders.values() for name in names)
    several = [tuple(names) for names in cut.values()]
    images = several if mode == "average" else [(name,) for names in several for name in names]
    return tuple({frozenset(_key(image)): image for image in sorted(images)}.values())


def entering(trained: Images, channels: int, names: Sequence[str], where: str) -> tuple[tuple[int, ...], ...]:
    """Which channels of a movie enter an encoder.

    An encoder of one channel sees the first, which is tracked; the average of all if it was trained on that.

    Parameters
    ----------
    trained
        ``channels`` of the header; empty: any channel will do.
    channels
        How many channels enter together.
    names
        Of the movie's channels.
    where
        The movie, for messages.

    Returns
    -------
    tuple of tuple of int
        For each channel of the encoder the movie's channels that are averaged, from 0.

    Raises
    ------
    BadInputError
        If it was trained on other channels.
    """
    if channels not in (1, len(names)):
        raise BadInputError(
            where,
            found=f"{len(names)} channel(s)",
            expected=f"the {channels} channels of the weights",
            remedy="Use weights of one channel, or a movie of the channels that they were trained on.",
        )
    known = {frozenset(_key(image)) for image in trained}
    if channels == 1 and len(names) > 1 and frozenset(_key(names)) in known:
        return (tuple(range(len(names))),)
    seen = names if channels > 1 else names[:1]
    together = channels > 1 and _key(names) != _key([name for image in trained for name in image])
    if trained and (together or not all(frozenset(_key([name])) in known for name in seen)):
        raise BadInputError(
            where,
            found=f"channel {' and '.join(seen)}, which would be encoded",
            expected=f"{described(trained, channels)}, which the weights are trained on",
            remedy="Put the row of that channel first in the sheet, train on this one (crops.channel, "
            "train), or set features.channels to any.",
        )
    return tuple((number,) for number in range(len(seen)))


def described(trained: Images, channels: int = 1) -> str:
    """The images that an encoder was trained on, in words."""
    said = [image[0] if len(image) == 1 else f"the average of {' and '.join(image)}" for image in trained]
    return (" and " if channels > 1 else " or ").join(said)


def check_crops(header: WeightsHeader, abouts: Iterable[Mapping[str, Any]], weights: Path | str) -> None:
    """Refuse crops that are not what weights were trained on.

    Parameters
    ----------
    abouts
        What the indices of shards say about their crops.

    Raises
    ------
    BadInputError
        Naming the weights and the setting of crops to change.
    """
    for about in abouts:
        check_images(header, about["voxel_um"][0], NormalisationParameters(**about["normalisation"]), weights)
        mode, names = about["crops"]["channels"], list(about["bounds"])
        if header.channels and header.architecture.channels == 1:
            known = {frozenset(_key(image)) for image in header.channels}
            images = trained_images({about["movie"]: names}, mode, 1)
            if other := [image for image in images if frozenset(_key(image)) not in known]:
                raise BadInputError(
                    weights,
                    found=f"crops of movie '{about['movie']}' that show {described(tuple(other))}",
                    expected=f"{described(header.channels)}, which the weights are trained on",
                    remedy="Set crops.channel and crops.channels to cut that, or train: no for this movie.",
                )
        elif header.channels:
            entering(
                header.channels, header.architecture.channels, names, f"crops of movie '{about['movie']}'"
            )


def check_images(
    header: WeightsHeader,
    voxel_um: float | None,
    normalisation: NormalisationParameters,
    weights: Path | str,
) -> None:
    """Refuse a voxel size (µm; None: not known yet) or an intensity scale that is not the weights' own.

    Raises
    ------
    BadInputError
        Naming the weights and the setting to change.
    """
    own = header.voxel_um[0]
    if voxel_um is not None and abs(own - voxel_um) > VOXEL_TOLERANCE * voxel_um:
        raise BadInputError(
            weights,
            found=f"weights for voxels of {own:g} µm",
            expected=f"{voxel_um:g} µm, as the crops have",
            remedy=f"Set crops.voxel_um to {own:g}.",
        )
    scale = NormalisationParameters(**header.normalisation)
    differing = {name: value for name, value in vars(scale).items() if value != getattr(normalisation, name)}
    if differing:
        theirs = {name: getattr(normalisation, name) for name in differing}
        raise BadInputError(
            weights,
            found=f"weights for intensities of {_written(differing)}",
            expected=f"{_written(theirs)}, as the crops have",
            remedy=f"Set 'normalisation: {_written(differing)}'.",
        )


def check_basis(weights: Path) -> None:
    """Refuse weights without a feature basis where no training movie will give them one.

    Raises
    ------
    BadInputError
        Naming them.
    """
    if not set(BASIS_TENSORS) <= set(read_metadata(weights)["extra"]):
        raise BadInputError(
            weights,
            found="weights without a feature basis, and no training movie to fit one on",
            expected=f"tensors {', '.join(BASIS_TENSORS)}, or a movie with train = yes",
            remedy="Mark a typical movie with train = yes in the sample sheet.",
        )


def _key(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(normalised(name) for name in names)


def _written(values: Mapping[str, Any]) -> str:
    """Settings as YAML has them, in braces."""
    said = {name: "null" if value is None else value for name, value in values.items()}
    return "{" + ", ".join(f"{name}: {value}" for name, value in said.items()) + "}"
