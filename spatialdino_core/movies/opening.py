"""From what a row of the sample sheet matches to images: one for each position, frames in order of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats import czi, ome_zarr, tiff
from spatialdino_core.movies.formats.image import (
    FileMetadata,
    Image,
    Piece,
    Place,
    Readable,
)
from spatialdino_core.movies.formats.settings_file import (
    TIFF_ENDINGS,
    read_settings,
    settings_beside,
)
from spatialdino_core.movies.names import mentions, natural, normalised, words
from spatialdino_core.movies.order import Key, Series, UncertainOrderError, series_of
from spatialdino_core.movies.sheet import SheetRow

COMPANION_ENDINGS = (".ome", ".ome.xml")
SHOWN = 8
MOST_CHANNELS = 8
VISIBLE_NM = (350, 900)
LEAST_APART_NM = 10
ANOTHER_CHANNEL = "another channel, by its name"
OTHER_FORMATS = (".nd2", ".lif", ".ims", ".h5", ".hdf5", ".sld", ".sldy", ".oib", ".oif", ".zip")


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
    name_clock_s
        When each time point was taken, s, where file names say; else empty.
    beside
        What settings files beside the files say.
    unused
        Files that the path matches and that are no part of it, with the reason.
    files
        How many files hold it, the first and the last.
    """

    images: tuple[Image, ...]
    points: tuple[int, ...]
    counted: bool
    by: str
    keys: tuple[Key, ...] = ()
    name_clock_s: tuple[float, ...] = ()
    beside: tuple[FileMetadata, ...] = ()
    unused: dict[str, str]
    files: tuple[Path, ...]


def open_row(row: SheetRow, others: Sequence[str], time_point: str | None) -> Opened:
    """Open what a row names.

    Parameters
    ----------
    row
        Of the sample sheet.
    others
        Other channels of the movie for which the sheet names the same path.
    time_point
        Pattern of the settings; that of the row comes first.

    Raises
    ------
    BadInputError
        Naming what is wrong, or what is uncertain with the cell that decides.
    """
    files, unused = _members(row)
    first = files[0]
    if first.is_dir():
        images = ome_zarr.images_of(_only(row, files), row.axes, row.missing_chunks)
        return _of_one(row, files, images, unused, "the time axis of the store")
    if first.suffix.lower() == ".czi":
        return _of_one(
            row,
            files,
            czi.images_of(_only(row, files)),
            unused,
            "the time dimension of the file",
        )
    if _kind(first) == "companion file":
        with Readable(first):
            xml = first.read_text(encoding="utf-8-sig")
        return _of_set(row, first, xml, files, unused)
    return _of_tiffs(row, files, unused, others, row.time_point or time_point)


def _members(row: SheetRow) -> tuple[list[Path], dict[str, str]]:
    """Files that can be a movie, of those that the path matches or that lie in the folder that it names."""
    matched = row.files()
    if len(matched) == 1 and matched[0].is_dir() and not ome_zarr.is_store(matched[0]):
        with Readable(matched[0]):
            matched = sorted(matched[0].iterdir(), key=lambda path: natural(path.name))
    files, unused = [], {}
    for path in matched:
        # A file that stands alone is what its content says, whatever it is called.
        reason = None if len(matched) == 1 and path.is_file() else _unfit(path)
        if reason is None:
            files.append(path)
        elif not path.name.startswith("."):
            unused[str(path)] = reason
    kinds = {_kind(path) for path in files}
    if kinds == {"companion file", "TIFF"}:
        files = [path for path in files if _kind(path) == "companion file"]
    elif len(kinds) > 1:
        listed = ", ".join(f"{path.name} ({_kind(path)})" for path in files[:SHOWN])
        raise BadInputError(
            row.path,
            found=f"files of several kinds: {listed}",
            expected="one movie: a TIFF series, a TIFF file, a CZI file or an OME-Zarr store",
            remedy="Make the path match one kind, e.g. folder/*.tif.",
        )
    if not files:
        seen = "".join(f"; {Path(file).name}: {why}" for file, why in list(unused.items())[:SHOWN])
        raise BadInputError(
            row.path,
            found=f"no file that matches{seen}",
            expected="a TIFF series, a TIFF file, a CZI file or an OME-Zarr store",
            remedy="Correct 'path' in the sample sheet; relative paths start at the sheet's folder. Of a "
            "folder, only the files directly in it count: name a folder within it, or use a pattern.",
        )
    return files, unused


def _kind(path: Path) -> str:
    if path.is_dir():
        return "Zarr store"
    if path.suffix.lower() == ".czi":
        return "CZI"
    if (
        path.name.lower().endswith(COMPANION_ENDINGS)
        and path.read_bytes()[:4].lstrip(b"\xef\xbb\xbf")[:1] == b"<"
    ):
        return "companion file"
    return "TIFF"


def _unfit(path: Path) -> str | None:
    """Why a file among others cannot be part of a movie; ``None`` if it can."""
    if path.name.startswith("."):
        return "hidden file"
    if path.is_dir():
        return None if ome_zarr.is_store(path) else "folder that is no Zarr store"
    if not path.is_file():
        return "link to a file that is not there" if path.is_symlink() else "no file"
    fit = (*TIFF_ENDINGS, ".czi", *COMPANION_ENDINGS)
    return None if path.name.lower().endswith(fit) else "not an image file"


def _only(row: SheetRow, files: Sequence[Path]) -> Path:
    if len(files) > 1:
        raise BadInputError(
            row.path,
            found=f"{len(files)} stores or CZI files: {', '.join(path.name for path in files[:SHOWN])}",
            expected="one OME-Zarr store or CZI file per row",
            remedy="Make the path match a single one.",
        )
    return files[0]


def _of_one(
    row: SheetRow,
    files: Sequence[Path],
    images: Sequence[Image],
    unused: dict[str, str],
    by: str,
) -> Opened:
    return Opened(
        images=tuple(images),
        points=tuple(range(max(image.times for image in images))),
        counted=False,
        by=by,
        beside=tuple(read_settings(settings_beside(files))),
        unused=unused,
        files=tuple(files),
    )


def _of_set(row: SheetRow, path: Path, xml: str, files: Sequence[Path], unused: dict[str, str]) -> Opened:
    """A set of OME-TIFF files; others that the path matches must be further positions of it."""
    images, used = tiff.images_of_set(path, xml, files)
    rest = [file for file in files if file not in used and _kind(file) == "TIFF"]
    for file in rest:
        if file in used:
            continue
        more = tiff.described_set(file, tiff.opened(file).xml)
        if more is None:
            unused[str(file)] = f"the OME-XML of {path.name} does not name it"
            continue
        others, also = tiff.images_of_set(file, more, files)
        images, used = images + others, used | also
    return _of_one(row, sorted(used - {path}) or [path], images, unused, f"OME-XML of {path.name}")


def _of_tiffs(
    row: SheetRow,
    files: Sequence[Path],
    unused: dict[str, str],
    others: Sequence[str],
    pattern: str | None,
) -> Opened:
    if len(files) == 1 and files[0].suffix.lower() in OTHER_FORMATS:
        raise BadInputError(
            files[0],
            found=f"a {files[0].suffix} file, which is not read",
            expected="a TIFF series, a TIFF file, a CZI file or an OME-Zarr store",
            remedy="Convert it, for example with bioformats2raw.",
        )
    contents = _opened_all(files)
    path, content = next(
        ((p, c) for p, c in contents.items() if not isinstance(c, str)),
        (files[0], None),
    )
    if content is None:
        raise BadInputError(
            path,
            found=str(contents[path]).removeprefix(f"{path.name}: "),
            expected="a complete TIFF file, CZI file or OME-Zarr store",
            remedy="Copy it again from the microscope.",
        )
    described = tiff.described_set(path, content.xml) if row.axes is None and pattern is None else None
    if described is not None:
        return _of_set(row, path, described, files, unused)
    if len(files) == 1:
        opened = _of_one(
            row,
            files,
            tiff.images_of(content, row.axes, one_stack=False),
            unused,
            "the file",
        )
        name = series_of([path.name])
        return replace(opened, name_clock_s=()) if not name.clock_s else opened
    return _of_series(row, contents, unused, others, pattern)


def _opened_all(files: Sequence[Path]) -> dict[Path, tiff.TiffContent | str]:
    """Every file, or why it cannot be opened."""
    contents: dict[Path, tiff.TiffContent | str] = {}
    for path in files:
        try:
            contents[path] = tiff.opened(path)
        except BadInputError as error:
            contents[path] = f"{path.name}: {error.found}"
    return contents


def _of_series(
    row: SheetRow,
    contents: dict[Path, tiff.TiffContent | str],
    unused: dict[str, str],
    others: Sequence[str],
    pattern: str | None,
) -> Opened:
    files = list(contents)
    several_in_file = any(
        image.channels > 1
        for content in [next(c for c in contents.values() if not isinstance(c, str))]
        for image in tiff.images_of(content, row.axes, one_stack=True)
    )
    if not several_in_file:
        files, unused = _of_channel(row, files, unused, others)
    try:
        series = series_of(below_common_folder(files), pattern)
    except UncertainOrderError as error:
        raise _uncertain(row, error, pattern) from None
    return _ordered(row, files, contents, series, unused)


def _of_channel(
    row: SheetRow, files: Sequence[Path], unused: dict[str, str], others: Sequence[str]
) -> tuple[list[Path], dict[str, str]]:
    """Files whose names mention the row's channel; all if none does."""
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


def _uncertain(row: SheetRow, error: UncertainOrderError, pattern: str | None) -> BadInputError:
    readings = f"; it can be read {' or '.join(error.readings)}" if error.readings else ""
    remedy = (
        "Correct the pattern 'time_point' (sample sheet, or reading in the config)."
        if pattern is not None
        else "Make the path match one channel, position and acquisition only, or say in the sample sheet's "
        "column 'time_point' where a name carries its time point, e.g. stack(\\d+) or _t(\\d+)."
    )
    return BadInputError(
        f"movie '{row.movie}' ({row.path})",
        found=error.found + readings,
        expected="names from which the order in time is certain",
        remedy=remedy,
    )


def below_common_folder(files: Sequence[Path]) -> list[str]:
    """Paths below the folder that all files have in common."""
    folders = [path.parent.parts for path in files]
    common = 0
    while all(len(parts) > common and parts[common] == folders[0][common] for parts in folders):
        common += 1
    return ["/".join(path.parts[common:]) for path in files]


def _ordered(
    row: SheetRow,
    files: Sequence[Path],
    contents: dict[Path, tiff.TiffContent | str],
    series: Series,
    unused: dict[str, str],
) -> Opened:
    order = sorted(range(len(files)), key=lambda number: series.point[number])
    ordered = [files[number] for number in order]
    stacks: list[list[Image] | str] = []
    for path in ordered:
        content = contents[path]
        stacks.append(content if isinstance(content, str) else _single_stacks(row, content))
    whole = [images for images in stacks if not isinstance(images, str)]
    positions = Counter(len(images) for images in whole).most_common(1)[0][0]
    return Opened(
        images=tuple(_merged(stacks, position) for position in range(positions)),
        points=tuple(series.point[number] for number in order),
        counted=series.counted,
        by=series.by,
        keys=tuple(series.key[number] for number in order) if series.key else (),
        name_clock_s=(tuple(series.clock_s[number] for number in order) if series.clock_s else ()),
        beside=tuple(read_settings(settings_beside(ordered))),
        unused=unused,
        files=tuple(ordered),
    )


def _single_stacks(row: SheetRow, content: tiff.TiffContent) -> list[Image]:
    images = tiff.images_of(content, row.axes, one_stack=True)
    for image in images:
        if image.times > 1:
            raise BadInputError(
                content.path,
                found=f"{image.times} time points in one file of a series",
                expected="one stack (z, y, x) per file, or one file with the whole movie",
                remedy="Make the path match that single file, or export one stack per time point.",
            )
    return images


def _merged(stacks: Sequence[list[Image] | str], position: int) -> Image:
    """One image of a series of stacks, of the shape and type that most of them have."""
    own: list[Image | str] = []
    for images in stacks:
        if isinstance(images, str):
            own.append(images)
        else:
            own.append(images[position] if position < len(images) else "no such image in this file")
    whole = [image for image in own if not isinstance(image, str)]
    usual, _ = Counter(_form(image) for image in whole).most_common(1)[0]
    model = next(image for image in whole if _form(image) == usual)
    pieces: dict[Place, tuple[Piece, ...]] = {}
    faults: dict[Place, str] = {}
    clock: dict[Place, float] = {}
    for t, image in enumerate(own):
        for c in range(model.channels):
            if isinstance(image, str):
                faults[t, c] = image
            elif (0, c) in image.faults:
                faults[t, c] = image.faults[0, c]
            elif _form(image) != usual:
                faults[t, c] = _differs(image, model)
            else:
                pieces[t, c] = image.stacks[0, c]
                clock |= {(t, c): image.clock_s[0, c]} if (0, c) in image.clock_s else {}
    return replace(
        model,
        times=len(own),
        stacks=pieces,
        faults=faults,
        clock_s=clock,
        absent=frozenset(),
    )


def _form(image: Image) -> tuple[object, ...]:
    """What the files of a series have in common."""
    return image.shape_zyx, image.dtype.str, image.channels, image.channel_names


def _differs(image: Image, model: Image) -> str:
    names = [piece.file.name for pieces in image.stacks.values() for piece in pieces]
    return f"{names[0] if names else 'the file'}: {_words_of(image)}, not {_words_of(model)} as the others"


def _words_of(image: Image) -> str:
    named = f" {list(image.channel_names)}" if any(image.channel_names) else ""
    return f"{image.channels} channels{named} of {image.shape_zyx} {image.dtype}"


def channel_number(row: SheetRow, image: Image, named_by_file: bool = False) -> int:
    """Which channel of an image a row of the sheet means, by its name, never by its place in the sheet.

    Raises
    ------
    BadInputError
        If the names leave it open, with the cell that decides.
    """
    if named_by_file and image.channels == 1:
        return 0  # the channel was found in the names of the files
    names = [normalised(name) for name in image.channel_names]
    wanted = normalised(row.file_channel or row.channel)
    if names.count(wanted) == 1 and wanted:
        return names.index(wanted)
    if row.file_channel is not None:
        if row.file_channel.isdigit() and 1 <= int(row.file_channel) <= image.channels:
            return int(row.file_channel) - 1
    elif image.channels == 1:
        return 0
    else:
        alike = [n for n, name in enumerate(image.channel_names) if mentions(name, row.channel)]
        if len(alike) == 1:
            return alike[0]
    shown = [name for name in image.channel_names if name]
    named = f"the channels {shown}" if shown else f"{image.channels} channels without names"
    raise BadInputError(
        f"movie '{row.movie}', channel '{row.channel}' ({row.path})",
        found=named,
        expected=f"a channel '{row.file_channel or row.channel}' among them",
        remedy="Say in the sample sheet's column 'file_channel' which it is: its name in the file, or its "
        f"number from 1 to {image.channels}.",
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
        named = [image for image in images if image.name.casefold() == row.position.casefold()]
        if len(named) == 1:
            return named[0]
        if row.position.isdigit() and int(row.position) < len(images):
            return images[int(row.position)]
    listed = "; ".join(
        f"{n} '{image.name}' ({image.times} time points of {image.channels} channels)"
        for n, image in enumerate(images[:SHOWN])
    )
    more = "; …" if len(images) > SHOWN else ""
    raise BadInputError(
        f"movie '{row.movie}' ({row.path})",
        found=f"{len(images)} images (positions): {listed}{more}",
        expected=("one" if row.position is None else f"position '{row.position}' among them"),
        remedy="Say in the sample sheet's column 'position' which, by name or number; one movie for each.",
    )
