"""The files that a movie is made of, from outside: where they lie, whether they changed, why none is read.

Looks at names and states only; what is in the files is the register's business.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.image import MARKS
from spatialdino_core.movies.formats.micro_manager import INDEX
from spatialdino_core.movies.formats.settings_file import settings_beside
from spatialdino_core.movies.sheet import SheetRow, with_brackets, without_glob

COMPANION = ".companion.ome"
OF_A_SET = re.compile(r"(.+)(\.ome\.tiff?|\.companion\.ome)")
OF_A_STACK = re.compile(r".*_(?:NDTiff|MM)Stack(?=.*\.tiff?$)")
Stamp = tuple[str, int, int]
"""Path, size (bytes) and time of change (ns) of a file; −1 and the error's number where it cannot be read."""


def fingerprint(rows: Sequence[SheetRow]) -> list[Stamp]:
    """Name, size and modification time of every file that a movie is made of: what it takes to notice that it
    grew, was rewritten or can be read again, without reading it. Raises nothing, whatever is wrong.

    These are the raw files (for an OME-Zarr store every file in it, for another folder every file directly in
    it, for a file of an OME-TIFF set those beside it whose names begin in the same way), the microscope's
    settings files beside them, and the calibration files that the rows name.
    """
    return [stamp for row in rows for path in _paths(row) for stamp in _stamps_of(path)]


def state(rows: Sequence[SheetRow]) -> list[Any]:
    """What the sheet says of a movie and the `fingerprint` of its files, JSON-able: the same wherever they
    lie, and however the way there is spelled.

    Of the names of folders those count that a reader looks at: the one that all files of a row have in
    common, and those below it.
    """
    paths = [row.path for row in rows]
    return [[paths.index(row.path), *_state(row)] for row in rows]


def _state(row: SheetRow) -> list[Any]:
    raw = row.files()
    alone = len(raw) == 1 and os.path.isdir(raw[0]) and not _is_store(str(raw[0]))
    folders = [str(path) if alone else os.path.dirname(path) for path in raw]
    common = os.path.commonpath([os.path.abspath(folder) for folder in dict.fromkeys(folders)] or ["/"])
    above = os.path.join(os.path.dirname(common), "")

    def below(stamps: Sequence[Stamp]) -> list[tuple[Any, ...]]:
        return sorted((os.path.abspath(path).removeprefix(above), *rest) for path, *rest in stamps)

    named = [stamp for path in map(str, raw) for stamp in _stamps_of(path)]
    # A folder is more than the files in it, but where it stands for these.
    named += [(str(path), 0, 0) for path in raw if not alone and os.path.isdir(path)]
    beside = [stamp for path in map(str, _beside(raw)) for stamp in _stamps_of(path)]
    calibrations = row.calibrations()
    files = {
        column: [(os.path.basename(name), size, when) for name, size, when in _stamps_of(path)]
        for column, path in calibrations.items()
    }
    said = row.model_dump_json(exclude={"train", *calibrations, *(["path"] if raw else [])})
    return [said, below(named), below(beside), files]


def places(rows: Sequence[SheetRow]) -> list[str]:
    """Folders in which the files of a movie lie, as `nearest` names them."""
    folders = {
        str(path) if len(raw) == 1 and os.path.isdir(path) else os.path.dirname(path)
        for raw in (row.files() for row in rows)
        for path in raw
    }
    return sorted({os.path.dirname(nearest(os.path.join(folder, "any"))) for folder in folders})


def nearest(path: Path | str) -> str:
    """A file in the real folder that it lies in: from the working folder on, if that is above, else from the
    root on. No link on the way there changes it, nor does moving the working folder with all that is in it.
    """
    folder, name = os.path.split(path)
    real, here = os.path.join(os.path.realpath(folder), name), os.getcwd()
    return os.path.relpath(real, here) if os.path.commonpath([real, here]) == here else real


def _paths(row: SheetRow) -> list[str]:
    raw = row.files()
    return [*map(str, [*raw, *_beside(raw)]), *row.calibrations().values()]


def _beside(raw: list[Path]) -> list[Path]:
    return [*settings_beside(raw), *_rest_of_the_set(raw)]


def _is_store(path: str) -> bool:
    return path.endswith(".zarr") or any(os.path.exists(os.path.join(path, name)) for name in MARKS)


def _stamps_of(path: str) -> list[Stamp]:
    """Stamps of a file, or of the files of a folder."""
    stamp = _stamp(path)
    if stamp is not None:
        return [stamp]
    is_store = _is_store(path)
    stamps: list[Stamp | None] = []
    forbidden: list[OSError] = []
    for folder, folders, names in os.walk(path, onerror=forbidden.append):
        stamps += [_stamp(os.path.join(folder, name)) for name in names]
        if not is_store:
            within = [os.path.join(folder, name) for name in sorted(folders)]
            stamps += [stamp for store in within if _is_store(store) for stamp in _stamps_of(store)]
            folders.clear()
    stamps += [_unreadable(path, error) for error in forbidden]
    return sorted(stamp for stamp in stamps if stamp is not None)


def _stamp(path: str) -> Stamp | None:
    """None for a folder."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        return _unreadable(path, error)
    if stat.S_ISDIR(status.st_mode):
        return None
    # A file that everybody may read, as most are, needs no second look.
    if status.st_mode & 0o444 != 0o444 and not os.access(path, os.R_OK):
        return path, -1, errno.EACCES
    return path, status.st_size, status.st_mtime_ns


def _unreadable(path: str, error: Exception) -> Stamp:
    return str(getattr(error, "filename", None) or path), -1, getattr(error, "errno", None) or 0


def _rest_of_the_set(files: Sequence[Path]) -> list[Path]:
    """What belongs to OME-TIFF and Micro-Manager files and lies beside them: the other files of the set that
    one of them stands for, and the file that holds the metadata of several.
    """
    named = OF_A_SET.fullmatch(files[0].name) if files else None
    listed = OF_A_STACK.match(files[0].name) if files else None
    if named is None and listed is None:
        return []
    try:
        beside = sorted(os.listdir(files[0].parent))
    except OSError:
        return []
    own = files[0].name
    if named is None:
        assert listed is not None
        names = [n for n in beside if n.startswith(listed[0]) or n == INDEX]
    else:
        names = [n for n in beside if n.endswith(COMPANION) and own.startswith(n.removesuffix(COMPANION))]
        if len(files) == 1:
            # cell1.ome.tif goes on in cell1_1.ome.tif, not in cell10.ome.tif, which is another movie.
            begins = re.compile(re.escape(named[1]) + ("" if named[2] == COMPANION else r"[^0-9A-Za-z]"))
            names += [n for n in beside if begins.match(n)]
    return [files[0].with_name(name) for name in dict.fromkeys(names) if name != own]


def check_files(rows: Sequence[SheetRow]) -> None:
    """Refuse a movie of which a row matches nothing that could be read, with what stands in the way.

    Raises
    ------
    BadInputError
        For the first such row: no such folder, one that may not be read, a link that leads nowhere, a name
        that is too long.
    """
    for row in rows:
        found = _nothing_there(row)
        if found:
            raise BadInputError(
                row.path,
                found=found,
                expected="a TIFF series, a TIFF file, a CZI file or an OME-Zarr store",
                remedy="Correct 'path' in the sample sheet (relative paths start at the sheet's folder), or "
                "bring the files back.",
            )
        _refuse_brackets(row)


def _refuse_brackets(row: SheetRow) -> None:
    """Refuse a glob with brackets that matches other files if these are signs of their names."""
    as_glob, as_names = row.brackets()
    if as_glob and as_names:
        raise BadInputError(
            row.path,
            found=f"brackets that may choose letters ({as_glob[0]}) or signs of names ({as_names[0]})",
            expected="one reading",
            remedy=f"Write {Path(with_brackets(row.path)).name} for names with brackets; a glob without them "
            "for the others.",
        )


def _nothing_there(row: SheetRow) -> str | None:
    """Why the path of a row leads to nothing that can be read; None where something can."""
    files = [str(path) for path in row.files()]
    states = map(_stamp, files)
    if files and all(state is not None and state[1] < 0 for state in states):
        return f"{len(files)} file(s) that cannot be read: {_why(files[0])}"
    if files:
        return None
    folder, pattern = without_glob(Path(row.path))
    missing = pattern or ""
    try:
        os.listdir(folder)
        os.lstat(folder / missing)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            return f"'{os.strerror(error.errno or 0)}' for {error.filename}"
    return f"no file that matches ({folder} is there, and nothing like {missing} in it{_foreign(missing)})"


def _foreign(path: str) -> str:
    """What in a path is understood elsewhere, in words: signs of Windows, the shell's home folder, a URL."""
    parts = path.split("/")
    if "\\" in path or re.fullmatch(r"[A-Za-z]:", parts[0]):
        return "; write / in place of \\, and where a drive or server of Windows is found here, e.g. /mnt/…"
    if parts[0].startswith("~"):
        return "; ~ is no home folder here: write the whole path, from /"
    if parts[0].endswith(":") and len(parts) > 1:
        return "; write the path of a folder of this machine in place of the address"
    return ""


def _why(path: str) -> str:
    if os.path.islink(path) and not os.path.exists(path):
        return f"{path} is a link to {os.readlink(path)}, where nothing is"
    state = _stamp(path)
    return f"'{os.strerror(state[2])}' for {path}" if state else path
