"""Which files, which image and which channel of what its path names a row of the sample sheet means."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.axes import MOST_NAMELESS, with_planes_for_channels
from spatialdino_core.movies.formats.image import Image, numbers_of
from spatialdino_core.movies.names import VISIBLE_NM, mentions, normalised, words
from spatialdino_core.movies.opened import below_common_folder
from spatialdino_core.movies.sheet import SheetRow

SHOWN = 8
MOST_CHANNELS = 8
LEAST_APART_NM = 10
ANOTHER_CHANNEL = "another channel, by its name"


def files_of_channel(
    row: SheetRow, files: Sequence[Path], unused: dict[str, str], others: Sequence[str]
) -> tuple[list[Path], dict[str, str]]:
    """Files whose names mention the row's channel, and why others are not used; all if none does."""
    names = dict(zip(files, below_common_folder(files), strict=True))
    channel = row.file_channel or row.channel
    own = [file for file in files if mentions(names[file], channel)]
    # A name of another make is no other channel's: it is left to be refused.
    if not own or len({len(words(name)) for name in names.values()}) > 1:
        return list(files), unused
    # Where the channel stands, other files name a few other channels; a number that counts is no channel.
    places = [n for n, word in enumerate(words(names[own[0]])) if normalised(word) == normalised(channel)]
    if not any(_are_channels({words(name)[n] for name in names.values()}, others) for n in places):
        return list(files), unused
    return own, unused | {str(file): ANOTHER_CHANNEL for file in files if file not in own}


def _are_channels(found: set[str], others: Sequence[str]) -> bool:
    """Whether words at one place of the names are channels: a few, and of bare numbers those that the sheet
    names, or wavelengths that lie apart as those of dyes do."""
    if len(found) > MOST_CHANNELS:
        return False
    if not all(word.isdigit() for word in found) or any(normalised(o) in found for o in others):
        return True
    numbers = sorted(map(int, found))
    apart = all(b - a >= LEAST_APART_NM for a, b in pairwise(numbers))
    return apart and VISIBLE_NM[0] <= numbers[0] and numbers[-1] <= VISIBLE_NM[1]


def channel_number(row: SheetRow, image: Image, named_by_file: bool = False) -> int:
    """Which channel of an image a row of the sheet means, by its name, never by its place in the sheet.

    Raises
    ------
    BadInputError
        If the names leave it open, with the cell that decides.
    """
    if named_by_file and image.channels == 1:
        return 0  # the channel was found in the names of the files
    nameless = not any(image.channel_names)
    if nameless and image.channels > MOST_NAMELESS and image.axes and row.axes is None:
        raise _rather_planes(row, image)
    wanted = normalised(row.file_channel or row.channel)
    named = [n for n, name in enumerate(image.channel_names) if name and normalised(name) == wanted]
    if row.file_channel is not None:
        found = _one_reading(row, "file_channel", row.file_channel, named, image.channels, first=1)
        if found is not None:
            return found
    elif len(named) == 1:
        return named[0]
    elif image.channels == 1:
        return 0
    else:
        alike = [n for n, name in enumerate(image.channel_names) if mentions(name, row.channel)]
        if len(alike) == 1:
            return alike[0]
    shown = [name for name in image.channel_names if name]
    sign = "#" if any(_number(name) is not None for name in shown) else ""
    what = f"the channels {shown}" if shown else f"{image.channels} channels without names"
    planes = with_planes_for_channels(image.axes, has_times=False) if image.times == 1 and image.axes else []
    hint = f" If they are planes, say in the column 'axes': {' or '.join(planes)}." if planes else ""
    raise BadInputError(
        f"movie '{row.movie}', channel '{row.channel}' ({row.path})",
        found=what,
        expected=f"a channel '{row.file_channel or row.channel}' among them",
        remedy="Say in the sample sheet's column 'file_channel' which it is: its name in the file, or its "
        f"number from {sign}1 to {sign}{image.channels}.{hint if nameless else ''}",
    )


def _rather_planes(row: SheetRow, image: Image) -> BadInputError:
    """Refusal of many channels without names, whatever the row says of channels."""
    in_a_series = image.times > 1 and "t" not in image.axes
    planes = " or ".join(with_planes_for_channels(image.axes, in_a_series))
    channels = " (c: channels, each a row with its number in 'file_channel')" if "c" in planes else ""
    return BadInputError(
        f"movie '{row.movie}', channel '{row.channel}' ({row.path})",
        found=f"{image.channels} channels without names, which are rather the planes of stacks "
        f"({image.axes} by the file's own account)",
        expected="planes that are called planes",
        remedy=f"Say in the sample sheet's column 'axes' what they are, slowest first: {planes}{channels}; "
        f"if they are channels all the same, {image.axes}, and in 'file_channel' the number of this one, "
        f"from 1 to {image.channels}.",
    )


def chosen_image(row: SheetRow, images: Sequence[Image]) -> Image:
    """The position that a row of the sheet means.

    Raises
    ------
    BadInputError
        If there are several and the row does not say which.
    """
    if row.position is None:
        if len(images) == 1:
            return images[0]
    else:
        named = [n for n, image in enumerate(images) if image.name.casefold() == row.position.casefold()]
        found = _one_reading(row, "position", row.position, named, len(images), first=0)
        if found is not None:
            return images[found]
    listed = "; ".join(
        f"{n} '{image.name}' ({image.times} time points of {image.channels} channels)"
        for n, image in enumerate(images[:SHOWN])
    )
    more = "; …" if len(images) > SHOWN else ""
    raise BadInputError(
        f"movie '{row.movie}' ({row.path})",
        found=f"{len(images)} images (positions): {listed}{more}",
        expected=("one" if row.position is None else f"position '{row.position}' among them"),
        remedy="Say in the sample sheet's column 'position' which, by name or number; one movie for each."
        f"{_as_one(images)}",
    )


def _as_one(images: Sequence[Image]) -> str:
    """How several images are one movie: with ``axes`` only in one TIFF file, where they lie one after the
    other."""
    axes = {image.axes for image in images}
    if "" in axes:
        return " If they are time points of one, join them into one image with a time axis."
    pages = [
        [page for piece in itertools.chain(*image.stacks.values()) for page in numbers_of(piece.where)]
        for image in images
    ]
    in_order = all(pages) and all(max(one) < min(other) for one, other in pairwise(pages))
    if len(axes) > 1 or not in_order or any("t" in own for own in axes):
        return ""
    return f" If they are time points of one, say so in 'axes': t{len(images)}{axes.pop()}."


def _one_reading(
    row: SheetRow, column: str, cell: str, named: Sequence[int], number_of: int, *, first: int
) -> int | None:
    """Which of several a cell means, by name or by number; None if it is neither.

    Parameters
    ----------
    named
        Those that are called so.
    first
        Number of the first; ``#`` before a number says that it is no name.

    Raises
    ------
    BadInputError
        If one is called so, and another has this number.
    """
    number = _number(cell.removeprefix("#"))
    counted = number - first if number is not None and 0 <= number - first < number_of else None
    if cell.startswith("#") or len(named) != 1:
        return counted
    if counted not in (None, named[0]):
        raise BadInputError(
            f"movie '{row.movie}', channel '{row.channel}' ({row.path})",
            found=f"{column} '{cell}', the name of number {named[0] + first} and the number of another",
            expected="one of them",
            remedy=f"Write '#{named[0] + first}' for the one that is called so, '#{cell}' for the other.",
        )
    return named[0]


def _number(cell: str) -> int | None:
    """A whole number in a cell, also as a spreadsheet writes it: ``1.0``."""
    match = re.fullmatch(r"(\d+)(?:[.,]0*)?", cell)
    return int(match[1]) if match else None
