"""The sample sheet ``movies.tsv``: one row per movie and channel, validated before anything runs.

Only the sheet itself is judged here; whether the files are fit to use is the register's business.
"""

from __future__ import annotations

import glob
import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.names import normalised
from spatialdino_core.movies.parameters import with_groups
from spatialdino_core.movies.tables import HOW_TO_SAVE, read_cells

Scan = Literal["stage", "objective", "z-stage", "none"]
Bounds = tuple[float, float]
REQUIRED_COLUMNS = ("movie", "channel", "path")
GEOMETRY_COLUMNS = ("scan", "angle_deg", "step_um", "pixel_um", "interval_s", "skew_axis", "scan_sign")
# What all channels of a movie share.
MOVIE_COLUMNS = (*GEOMETRY_COLUMNS, "train", "roi_um", "position")
# How the files of a row are to be read, where they do not say it themselves.
READING_COLUMNS = ("file_channel", "axes", "time_point", "missing_chunks")
CALIBRATION_COLUMNS = ("dark", "flat", "registration", "bad_pixels")
OPTIONAL_COLUMNS = (*MOVIE_COLUMNS, "flip", *READING_COLUMNS, *CALIBRATION_COLUMNS)
# A file name has 255 bytes at most; what is made of a movie's identifier adds up to 50 of them.
LONGEST_MOVIE = 200
# Folders of the results that belong to all movies.
TAKEN = ("benchmarks", "logs", "model", "qc", "shards")
LINES_SHOWN = 10


class SheetRow(BaseModel):
    """One movie and channel. ``None`` means blank: then the file's own metadata must say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    movie: str
    channel: str
    path: Annotated[str, Field(min_length=1)]
    scan: Scan | None = None
    angle_deg: Annotated[float, Field(ge=2, lt=90)] | None = None  # below: radians
    step_um: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    pixel_um: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    interval_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    skew_axis: Literal["x", "y"] | None = None
    scan_sign: Literal[1, -1] | None = None
    train: bool = False
    roi_um: tuple[Bounds, Bounds, Bounds] | None = None
    flip: Literal["x", "y", "xy"] | None = None
    dark: float | str | None = None
    flat: str | None = None
    registration: str | None = None
    bad_pixels: str | None = None
    position: str | None = None
    file_channel: str | None = None
    axes: str | None = None
    time_point: str | None = None
    missing_chunks: Literal["zeros"] | None = None

    @field_validator("movie")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", value) or len(value) > LONGEST_MOVIE:
            raise ValueError(f"at most {LONGEST_MOVIE} letters A to Z, digits, '_' and '-'")
        if value in TAKEN:
            raise ValueError(f"another name than {', '.join(TAKEN)}, which folders of the results have")
        return value

    @field_validator("channel")
    @classmethod
    def _names_a_channel(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_.+ -]+", value):
            raise ValueError("letters A to Z, digits, spaces, '_', '.', '+' and '-'")
        return value

    @field_validator("axes")
    @classmethod
    def _axes_of_a_stack(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = re.findall(r"([tczyx])([0-9]*)", value.lower())
        names = [name for name, _ in parts]
        complete = "".join(name + count for name, count in parts) == value.lower()
        if not (complete and len(set(names)) == len(names) and {"y", "x"} <= set(names)):
            raise ValueError("t, c, z, y and x, each once at most, slowest first, such as t4z24yx or tzyx")
        if any(count and int(count) == 0 for _, count in parts):
            raise ValueError("counts of 1 or more, such as t4z24yx")
        return value.lower()

    @field_validator("time_point")
    @classmethod
    def _finds_a_number(cls, value: str | None) -> str | None:
        return None if value is None else with_groups(value)

    @field_validator("train", mode="before")
    @classmethod
    def _yes_or_no(cls, value: object) -> object:
        words = {"yes": True, "no": False, None: False}
        if isinstance(value, str) and value.lower() in ("yes", "no"):
            return words[value.lower()]
        if value is None:
            return False
        raise ValueError("'yes' or 'no'")

    @field_validator("scan_sign", mode="before")
    @classmethod
    def _sign(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value in ("+1", "1", "-1") else value

    @field_validator("dark", mode="before")
    @classmethod
    def _counts_or_path(cls, value: object) -> object:
        counts = _as_number(value)
        if counts is not None and not (math.isfinite(counts) and counts >= 0):
            raise ValueError("a number of counts (0 or more), or the path of a TIFF")
        return value if counts is None else counts

    @field_validator("roi_um", mode="before")
    @classmethod
    def _bounds(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = [[_as_number(bound) for bound in part.split(":")] for part in value.split(",")]
        if len(parts) != 3 or not all(_is_interval(part) for part in parts):
            raise ValueError("z0:z1,y0:y1,x0:x1 in µm, each from low to high")
        return tuple((low, high) for low, high in parts)

    def files(self) -> list[Path]:
        """Paths that the glob in ``path`` matches, sorted by name; empty when there are none.

        Folders that exist under their very name are taken as they are, and where nothing else matches,
        brackets in file names are, too: ``[`` is a sign of globs, but also one that people use in names.
        ``**`` stands for any number of folders.
        """
        folder, pattern = without_glob(Path(self.path))
        if pattern is None:
            return [folder]
        # Names with accents are spelled in two ways, of which one program writes this and another that.
        spelled = [pattern, *(unicodedata.normalize(form, pattern) for form in ("NFC", "NFD"))]
        spelled += [with_brackets(text) for text in spelled]
        matches = next((found for text in spelled if (found := _matches(folder, text))), [])
        return [folder / match for match in sorted(matches, key=lambda match: match.split(os.sep))]

    def brackets(self) -> tuple[list[str], list[str]]:
        """Names that ``path`` matches as a glob, and those where its brackets are signs of names."""
        folder, pattern = without_glob(Path(self.path))
        if pattern is None or with_brackets(pattern) == pattern:
            return [], []
        return _matches(folder, pattern), _matches(folder, with_brackets(pattern))

    def calibrations(self) -> dict[str, str]:
        """Column to path, for the calibration files that the row names."""
        named = {column: getattr(self, column) for column in CALIBRATION_COLUMNS}
        return {column: path for column, path in named.items() if isinstance(path, str)}


def with_brackets(pattern: str) -> str:
    """A glob whose opening brackets stand for themselves.

    Examples
    --------
    >>> with_brackets("cell[1]_t*.tif")
    'cell[[]1]_t*.tif'
    """
    return re.sub(r"\[(?!\[\])", "[[]", pattern) if "[[]" not in pattern else pattern


def _matches(folder: Path, pattern: str) -> list[str]:
    return glob.glob(pattern, root_dir=folder, recursive=True)


def _as_number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _is_interval(bounds: Sequence[float | None]) -> bool:
    if len(bounds) != 2 or bounds[0] is None or bounds[1] is None:
        return False
    return math.isfinite(bounds[0]) and math.isfinite(bounds[1]) and bounds[0] < bounds[1]


def without_glob(path: Path) -> tuple[Path, str | None]:
    """The leading part of a path that exists, and the rest, which is a glob; ``None`` if all of it exists."""
    existing = Path(path.anchor)
    parts = path.parts[1:] if path.anchor else path.parts
    for position, part in enumerate(parts):
        # Unlike a path's own method, this raises nothing for a forbidden folder or too long a name.
        if not os.path.exists(existing / part):
            return existing, str(Path(*parts[position:]))
        existing /= part
    return existing, None


def read_sheet(path: Path | str) -> dict[str, list[SheetRow]]:
    """Read and validate the sample sheet.

    Parameters
    ----------
    path
        Tab-separated file with a header line. Globs in its ``path`` column are relative to the
        folder of the sheet. Lines that are empty or start with ``#`` are passed over.

    Returns
    -------
    dict
        Movie identifier to its rows (channels), both in the order of the sheet.

    Raises
    ------
    BadInputError
        For a missing or unknown column, a bad value, a duplicate or an empty sheet; the message
        names the line and lists every bad value in it.
    """
    sheet = Path(path)
    if not sheet.is_file():
        raise BadInputError(
            sheet,
            found="no such file",
            expected="a tab-separated sample sheet",
            remedy="Set the config key 'movies', e.g. --config movies=movies.tsv.",
        )
    numbered = list(read_cells(sheet))
    header = [name.strip() for name in numbered[0][1]] if numbered else []
    while header and not header[-1]:  # columns that a spreadsheet has once seen
        header.pop()
    if header:
        _check_header(sheet, header)
    if len(numbered) < 2:
        raise BadInputError(
            sheet,
            found="no movie (the sheet is empty)",
            expected="a header line and one line per movie and channel",
            remedy="See docs/sample_sheet.md for an example.",
        )
    movies: dict[str, list[SheetRow]] = {}
    lines: dict[str, list[int]] = {}
    wrong: list[BadInputError] = []
    for number, cells in numbered[1:]:
        try:
            row = _read_row(sheet, number, header, cells)
            _check_against(sheet, number, row, movies.get(row.movie, []))
        except BadInputError as error:
            wrong.append(error)
            continue
        movies.setdefault(row.movie, []).append(row)
        lines.setdefault(row.movie, []).append(number)
    wrong += _same_files(sheet, movies, lines)
    if wrong:
        raise _all_in_one(sheet, wrong)
    return movies


def _same_files(
    sheet: Path, movies: Mapping[str, Sequence[SheetRow]], lines: Mapping[str, Sequence[int]]
) -> list[BadInputError]:
    """Lines that were copied for another movie of the same channels, and differ in nothing but its name."""
    known: dict[object, str] = {}
    wrong = []
    for movie, rows in movies.items():
        channels = frozenset(normalised(row.channel) for row in rows)
        for row, number in zip(rows, lines[movie], strict=True):
            cells = row.model_dump(exclude={"movie", "train", "path"})
            own = (channels, *cells.values(), os.path.normpath(row.path))
            other = known.setdefault(own, movie)
            if other != movie:
                wrong.append(
                    BadInputError(
                        f"{sheet}, line {number}",
                        found=f"the files of movie '{other}' a second time, as '{movie}'",
                        expected="other files for each movie",
                        remedy="Correct 'path', or remove the line.",
                    )
                )
    return wrong


def _all_in_one(sheet: Path, wrong: Sequence[BadInputError]) -> BadInputError:
    if len(wrong) == 1:
        return wrong[0]
    lines = [f"{e.where.removeprefix(f'{sheet}, ')}: found {e.found}; expected {e.expected}" for e in wrong]
    if len(lines) > LINES_SHOWN:
        lines[LINES_SHOWN:] = [f"and {len(lines) - LINES_SHOWN} more"]
    return BadInputError(
        sheet,
        found="\n  ".join([f"{len(wrong)} lines with mistakes:", *lines]) + "\n",
        expected="what docs/sample_sheet.md says",
        remedy="Correct these lines.",
    )


def _check_header(sheet: Path, header: Sequence[str]) -> None:
    for sign, name in ((",", "commas"), (";", "semicolons")):
        if len(header) == 1 and sign in header[0]:
            raise BadInputError(
                f"{sheet}, header",
                found=f"columns separated by {name}",
                expected="tabs",
                remedy=HOW_TO_SAVE,
            )
    allowed = REQUIRED_COLUMNS + OPTIONAL_COLUMNS
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    unknown = [name for name in header if name not in allowed]
    repeated = sorted({name for name in header if list(header).count(name) > 1})
    if missing or unknown or repeated:
        raise BadInputError(
            f"{sheet}, header",
            found=f"missing columns {missing}, unknown columns {unknown}, repeated columns {repeated}",
            expected=f"the columns {list(REQUIRED_COLUMNS)}, any of {list(OPTIONAL_COLUMNS)}, and tabs",
            remedy="Correct the header line.",
        )


def _read_row(sheet: Path, number: int, header: Sequence[str], cells: Sequence[str]) -> SheetRow:
    where = f"{sheet}, line {number}"
    if not any(cell.strip() for cell in cells[len(header) :]):
        cells = cells[: len(header)]
    if len(cells) != len(header):
        raise BadInputError(
            where,
            found=f"{len(cells)} cells",
            expected=f"{len(header)} cells, one for each column of the header",
            remedy="Separate cells by single tabs; leave a cell empty where a value is not known.",
        )
    values: dict[str, Any] = {name: cell.strip() or None for name, cell in zip(header, cells, strict=True)}
    for column in ("path", *CALIBRATION_COLUMNS):
        cell = values.get(column)
        if cell is not None and not (column == "dark" and _as_number(cell) is not None):
            values[column] = str(sheet.parent / cell)
    try:
        return SheetRow(**values)
    except ValidationError as error:
        problems = error.errors()
        raise BadInputError(
            where,
            found="; ".join(f"{_column(e)} = {e['input']!r}" for e in problems),
            expected="; ".join(f"{_column(e)}: {_allowed(e)}" for e in problems),
            remedy="Correct these cells.",
        ) from None


def _column(problem: Any) -> str:
    return str(problem["loc"][0]) if problem["loc"] else "row"


def _allowed(problem: Any) -> str:
    if problem["input"] is None:
        return "no blank cell"
    if problem["type"] == "float_parsing" and "," in problem["input"]:
        return "a number with a decimal point"
    return str(problem["msg"]).removeprefix("Value error, ")


def _check_against(sheet: Path, number: int, row: SheetRow, known: Sequence[SheetRow]) -> None:
    for other in known:
        if normalised(other.channel) == normalised(row.channel):
            again = "" if other.channel == row.channel else f" (before as '{other.channel}')"
            raise BadInputError(
                f"{sheet}, line {number}",
                found=f"movie '{row.movie}', channel '{row.channel}' a second time{again}",
                expected="each movie and channel once",
                remedy="Give each movie an identifier of its own.",
            )
    for other in known[:1]:
        differing = [name for name in MOVIE_COLUMNS if getattr(other, name) != getattr(row, name)]
        if differing:
            raise BadInputError(
                f"{sheet}, line {number}",
                found=f"'{other.channel}' and '{row.channel}' of '{row.movie}' differ in {differing}",
                expected="the same geometry, interval, region, position and 'train' in all channels",
                remedy="Correct the row, or give the channel a movie identifier of its own.",
            )
