"""What a row of the sample sheet names, once it was opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spatialdino_core.movies.formats.image import FileMetadata, Image
from spatialdino_core.movies.time_points import Key


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What a row of the sheet names.

    Attributes
    ----------
    images
        One for each position.
    points
        Number of each time point of an image.
    counted
        Whether these numbers come from names, so that those of several channels can be compared.
    by
        What told the order, in words.
    keys
        What time points that are not counted were put in order by; the same in another channel is the same
        time.
    numbers
        Of names, which told the order, as they stand there; else empty.
    name_clock_s
        When each time point was taken, s, where file names say; else empty.
    pattern
        Of the column ``time_point``, which says that the numbers of names count no frames.
    named
        Whether the names of all files, or of their folders, mention the row's channel.
    beside
        What settings files beside the files say.
    unused
        Files that the path matches and that are no part of it, with the reason.
    files
        Those that hold it, in order of time.
    warnings
        What is odd.
    """

    images: tuple[Image, ...]
    points: tuple[int, ...]
    counted: bool
    by: str
    keys: tuple[Key, ...] = ()
    numbers: tuple[float, ...] = ()
    name_clock_s: tuple[float, ...] = ()
    pattern: str = ""
    named: bool = False
    beside: tuple[FileMetadata, ...] = ()
    unused: dict[str, str]
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def below_common_folder(files: Sequence[Path]) -> list[str]:
    """Paths below the folder that all files have in common."""
    folders = [path.parent.parts for path in files]
    common = 0
    while all(len(parts) > common and parts[common] == folders[0][common] for parts in folders):
        common += 1
    return ["/".join(path.parts[common:]) for path in files]
