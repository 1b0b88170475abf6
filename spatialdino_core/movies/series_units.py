"""What a series is put together of: single files, or the planes of one stack in files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spatialdino_core.movies.formats.image import Image


@dataclass(frozen=True)
class Unit:
    """What is put in order: a file, or all files of planes of one time point.

    Attributes
    ----------
    name
        Below the folder that all have in common.
    files
        Its files.
    images
        What it holds, or why it cannot be used.
    """

    name: str
    files: tuple[Path, ...]
    images: list[Image] | str


def is_plane(images: Sequence[Image]) -> bool:
    """Whether a file holds a single plane."""
    return len(images) == 1 and (images[0].times, images[0].channels, images[0].shape_zyx[0]) == (1, 1, 1)


def stack_of_planes(
    name: str, files: Sequence[Path], missing: str, images: dict[Path, list[Image] | str]
) -> Unit:
    """The stack of one time point, whose planes lie in files of their own, in order of z."""
    planes = [images[file] for file in files]
    bad = missing or next((own for own in planes if isinstance(own, str)), "")
    whole = [own[0] for own in planes if not isinstance(own, str)]
    bad = bad or next((fault for image in whole for fault in image.faults.values()), "")
    if whole and not bad:
        odd = next((image for image in whole if form_of(image) != form_of(whole[0])), None)
        bad = differs(odd, whole[0]) if odd is not None else ""
    if bad or not whole:
        return Unit(name, tuple(files), bad)
    pieces = tuple(piece for image in whole for piece in image.stacks[0, 0])
    shape = (len(whole), *whole[0].shape_zyx[1:])
    return Unit(name, tuple(files), [replace(whole[0], shape_zyx=shape, stacks={(0, 0): pieces})])


def form_of(image: Image) -> tuple[object, ...]:
    """What the files of a series have in common."""
    return image.shape_zyx, image.dtype.str, image.channels, image.channel_names


def differs(image: Image, model: Image) -> str:
    names = [piece.file.name for pieces in image.stacks.values() for piece in pieces]
    return f"{names[0] if names else 'the file'}: {words_of(image)}, not {words_of(model)} as the others"


def words_of(image: Image) -> str:
    named = f" {list(image.channel_names)}" if any(image.channel_names) else ""
    return f"{image.channels} channels{named} of {image.shape_zyx} {image.dtype}"
