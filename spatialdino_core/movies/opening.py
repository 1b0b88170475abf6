"""From what a row of the sample sheet matches to images: one for each position, frames in order of time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats import czi, ome_zarr, tiff
from spatialdino_core.movies.formats.image import Image, Readable, opening
from spatialdino_core.movies.formats.micro_manager import INDEX
from spatialdino_core.movies.formats.settings_file import (
    TIFF_ENDINGS,
    read_settings,
    settings_beside,
)
from spatialdino_core.movies.formats.tiff_content import TiffContent, opened
from spatialdino_core.movies.formats.tiff_sets import FileSet, images_of_set, set_of
from spatialdino_core.movies.names import mentions, natural, template
from spatialdino_core.movies.opened import Opened
from spatialdino_core.movies.series import open_series
from spatialdino_core.movies.sheet import SheetRow

COMPANION_ENDINGS = (".ome", ".ome.xml")
SHOWN = 8
NOWHERE = "link to a file that is not there"
UNFINISHED = (".part", ".crdownload", ".tmp", ".filepart", ".gz", ".zst", ".bz2")
OTHER_FORMATS = (
    *(
        ".nd2",
        ".lif",
        ".lof",
        ".xlef",
        ".ims",
        ".h5",
        ".hdf5",
        ".sld",
        ".sldy",
        ".oib",
        ".oif",
        ".vsi",
        ".ets",
    ),
    *(
        ".dcimg",
        ".klb",
        ".mrc",
        ".npy",
        ".npz",
        ".n5",
        ".raw",
        ".sif",
        ".spe",
        ".zvi",
        ".ics",
        ".ids",
        ".nrrd",
    ),
    *(".mhd", ".nii", ".jp2", ".png", ".jpg", ".jpeg", ".avi", ".mov", ".mp4", ".zip", ".tar", ".7z"),
)
"""Endings of image files that are not read, and of packed ones."""
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


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
    found = _opened(row, others, row.time_point or time_point)
    channel = row.file_channel or row.channel
    named = all(mentions(f"{file.parent.name}/{file.name}", channel) for file in found.files)
    return replace(found, named=named)


def _opened(row: SheetRow, others: Sequence[str], pattern: str | None) -> Opened:
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
        with opening(first):
            xml = first.read_text(encoding="utf-8-sig")
        return _of_set(row, images_of_set(first, xml, files), files, unused)
    return _of_tiffs(row, files, unused, others, pattern)


def _members(row: SheetRow) -> tuple[list[Path], dict[str, str]]:
    """Files that can be a movie, of those that the path matches or that lie in the folder that it names."""
    matched = row.files()
    if len(matched) == 1 and matched[0].is_dir() and not ome_zarr.is_store(matched[0]):
        if matched[0].suffix.lower() in OTHER_FORMATS:
            raise _other_format(matched[0])
        with Readable(matched[0]):
            matched = sorted(matched[0].iterdir(), key=lambda path: natural(path.name))
    files, unused = [], {}
    for path in matched:
        # A file that stands alone is what its content says, whatever it is called.
        reason = None if len(matched) == 1 and path.is_file() else _unfit(path)
        if reason is None:
            files.append(path)
        elif not path.name.startswith(".") and path.name != INDEX:
            unused[str(path)] = reason
    # A link that leads nowhere, called as the files of the series, is a time point that cannot be read.
    makes = {template(path.name) for path in files if _kind(path) == "TIFF"}
    lost = [
        Path(name) for name, why in unused.items() if why == NOWHERE and template(Path(name).name) in makes
    ]
    files += lost
    unused = {name: why for name, why in unused.items() if Path(name) not in lost}
    _check_names(row, files, unused)
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
    other = [path for path in map(Path, unused) if path.suffix.lower() in OTHER_FORMATS]
    if not files and other:
        raise _other_format(other[0])
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
        return NOWHERE if path.is_symlink() else "no file"
    fit = (*TIFF_ENDINGS, ".czi", *COMPANION_ENDINGS)
    return None if path.name.lower().endswith(fit) else "not an image file"


def _is_other_format(path: Path) -> bool:
    """Whether a file is of a format that is not read, by its ending, or by what it begins with."""
    ending = path.suffix.lower()
    if ending in (*OTHER_FORMATS, *TIFF_ENDINGS, ""):
        return ending in OTHER_FORMATS
    with Readable(path), path.open("rb") as file:
        return file.read(4) not in TIFF_MARKS


def _other_format(path: Path) -> BadInputError:
    return BadInputError(
        path,
        found=f"a {path.suffix} file, which is not read",
        expected="a TIFF series, a TIFF file, a CZI file or an OME-Zarr store",
        remedy="Convert it to TIFF or OME-Zarr: with the program that wrote it, with Fiji, or, if it knows "
        "the format, with bioformats2raw.",
    )


def _check_names(row: SheetRow, files: Sequence[Path], unused: Mapping[str, str]) -> None:
    """Refuse a series with a copy that is not finished among it, and one with a file under two names.

    Raises
    ------
    BadInputError
        Naming the file.
    """
    for name in unused:
        bare, ending = os.path.splitext(name)
        if ending.lower() in UNFINISHED and bare.lower().endswith(TIFF_ENDINGS):
            raise BadInputError(
                name,
                found="a file whose ending says that it is not finished or packed",
                expected="whole files",
                remedy="Finish or unpack it; if it is no part of the movie, use a pattern, e.g. *.tif.",
            )
    seen: dict[tuple[int, int], Path] = {}
    for file in files if len(files) > 1 else ():
        status = file.stat() if file.exists() else None
        if status is None:
            continue
        other = seen.setdefault((status.st_dev, status.st_ino), file)
        if other is not file:
            raise BadInputError(
                f"movie '{row.movie}' ({row.path})",
                found=f"{other.name} and {file.name}, which are the same file under two names",
                expected="another file for each time point",
                remedy="Remove the link, or put the file that is meant in its place.",
            )


def _only(row: SheetRow, files: Sequence[Path]) -> Path:
    if len(files) > 1:
        raise BadInputError(
            row.path,
            found=f"{len(files)} stores or CZI files: {', '.join(path.name for path in files[:SHOWN])}",
            expected="one OME-Zarr store or CZI file with the whole movie per row",
            remedy="Make the path match a single one. A movie of one store or CZI file for each time point "
            "is not read as such: export each time point as a TIFF stack, and name those.",
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


def _of_set(row: SheetRow, found: FileSet, files: Sequence[Path], unused: dict[str, str]) -> Opened:
    """A set of TIFF files that one list describes; others that the path matches must be further positions."""
    images, used, by = list(found.images), set(found.files), found.by
    contents, _ = _opened_all([file for file in files if file not in used and _kind(file) == "TIFF"])
    for file, content in contents.items():
        if file in used:
            continue
        more = None if isinstance(content, str) else set_of(content, files)
        if more is None:
            unused[str(file)] = content if isinstance(content, str) else f"{by} does not name it"
            continue
        images, used = [*images, *more.images], used | more.files
    beyond = len(used - set(files)) if len(files) > 1 else 0
    wider = f", with {beyond} files of its set that the path does not match" if beyond else ""
    return _of_one(row, sorted(used), images, unused, by + wider)


def _of_tiffs(
    row: SheetRow,
    files: Sequence[Path],
    unused: dict[str, str],
    others: Sequence[str],
    pattern: str | None,
) -> Opened:
    if len(files) == 1 and _is_other_format(files[0]):
        raise _other_format(files[0])
    contents, error = _opened_all(files)
    content = next((one for one in contents.values() if not isinstance(one, str)), None)
    if content is None:
        assert error is not None
        remedy = error.remedy.replace(", or set on_bad_frame: skip", "")  # it leaves no frame
        raise BadInputError(files[0], found=error.found, expected=error.expected, remedy=remedy)
    if row.axes is None:
        for one in contents.values():
            # A pattern says that names count, whatever OME-XML says; planes without their list are none.
            if isinstance(one, str) or (pattern is not None and one.header is None):
                continue
            found = set_of(one, files)
            if found is not None:
                return _of_set(row, found, files, unused)
    if len(files) == 1:
        images = tiff.images_of(content, row.axes, one_stack=False)
        return _of_one(row, files, images, unused, "the file")
    return open_series(row, contents, unused, others, pattern)


def _opened_all(files: Sequence[Path]) -> tuple[dict[Path, TiffContent | str], BadInputError | None]:
    """Every file, or why it cannot be opened; and what is wrong with the first of these."""
    contents: dict[Path, TiffContent | str] = {}
    errors: list[BadInputError] = []
    for path in files:
        try:
            contents[path] = opened(path)
        except BadInputError as error:
            contents[path] = f"{path.name}: {error.found}"
            errors.append(error)
    return contents, errors[0] if errors else None
