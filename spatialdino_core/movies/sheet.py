"""The sample sheet ``movies.tsv``: one row per movie and channel, validated before anything runs.

Only the sheet itself is judged here; whether the files are fit to use is the register's business.
"""

from __future__ import annotations

import csv
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from spatialdino_core.errors import BadInputError

Scan = Literal["stage", "objective", "z-stage", "none"]
REQUIRED_COLUMNS = ("movie", "channel", "path", "scan")
OPTIONAL_COLUMNS = ("angle_deg", "step_um", "pixel_um", "interval_s", "skew_axis", "scan_sign", "train")


class SheetRow(BaseModel):
    """One movie and channel. ``None`` means blank: then the file's own metadata must say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    movie: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    channel: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]+$")]
    path: Annotated[str, Field(min_length=1)]
    scan: Scan
    angle_deg: Annotated[float, Field(gt=0, lt=90)] | None = None
    step_um: Annotated[float, Field(gt=0)] | None = None
    pixel_um: Annotated[float, Field(gt=0)] | None = None
    interval_s: Annotated[float, Field(gt=0)] | None = None
    skew_axis: Literal["x", "y"] | None = None
    scan_sign: Literal[1, -1] | None = None
    train: bool = False

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

    def files(self) -> list[Path]:
        """Paths that the glob in ``path`` matches, sorted by name; empty when there are none."""
        return sorted(Path(match) for match in glob.glob(self.path))


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
    lines = sheet.read_text(encoding="utf-8-sig").splitlines()
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if len(numbered) < 2:
        raise BadInputError(
            sheet,
            found="no movie (the sheet is empty)",
            expected="a header line and one line per movie and channel",
            remedy="See docs/sample_sheet.md for an example.",
        )
    header = [name.strip() for name in numbered[0][1].split("\t")]
    _check_header(sheet, header)
    movies: dict[str, list[SheetRow]] = {}
    for number, cells in zip(
        (n for n, _ in numbered[1:]),
        csv.reader((line for _, line in numbered[1:]), delimiter="\t"),
        strict=True,
    ):
        row = _read_row(sheet, number, header, cells)
        known = movies.setdefault(row.movie, [])
        _check_against(sheet, number, row, known)
        known.append(row)
    return movies


def _check_header(sheet: Path, header: Sequence[str]) -> None:
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
    if len(cells) != len(header):
        raise BadInputError(
            where,
            found=f"{len(cells)} cells",
            expected=f"{len(header)} cells, one for each column of the header",
            remedy="Separate cells by single tabs; leave a cell empty where a value is not known.",
        )
    values: dict[str, Any] = {name: cell.strip() or None for name, cell in zip(header, cells, strict=True)}
    if values["path"] is not None and not Path(values["path"]).is_absolute():
        values["path"] = str(sheet.parent / values["path"])
    try:
        return SheetRow(**values)
    except ValidationError as error:
        problems = error.errors()
        raise BadInputError(
            where,
            found="; ".join(f"{_column(e)} = {e['input']!r}" for e in problems),
            expected="; ".join(f"{_column(e)}: {e['msg']}" for e in problems),
            remedy="Correct these cells.",
        ) from None


def _column(problem: Any) -> str:
    return str(problem["loc"][0]) if problem["loc"] else "row"


def _check_against(sheet: Path, number: int, row: SheetRow, known: Sequence[SheetRow]) -> None:
    if any(other.channel == row.channel for other in known):
        raise BadInputError(
            f"{sheet}, line {number}",
            found=f"movie '{row.movie}', channel '{row.channel}' a second time",
            expected="each movie and channel once",
            remedy="Give each movie an identifier of its own.",
        )
    shared = ("scan", "angle_deg", "step_um", "pixel_um", "interval_s", "skew_axis", "scan_sign", "train")
    for other in known[:1]:
        differing = [name for name in shared if getattr(other, name) != getattr(row, name)]
        if differing:
            raise BadInputError(
                f"{sheet}, line {number}",
                found=f"'{other.channel}' and '{row.channel}' of '{row.movie}' differ in {differing}",
                expected="the same geometry, interval and 'train' for all channels of a movie",
                remedy="Correct the row, or give the channel a movie identifier of its own.",
            )


def fingerprint(rows: Sequence[SheetRow]) -> list[tuple[str, int, int]]:
    """Name, size (bytes) and modification time (ns) of every raw file of a movie: what it takes to
    notice that a movie grew or was rewritten, without reading it.

    For an OME-Zarr store (a folder) every file in it counts.
    """
    stamps = []
    for row in rows:
        for match in row.files():
            members = sorted(p for p in match.rglob("*") if p.is_file()) if match.is_dir() else [match]
            stamps += [(str(p), (s := p.stat()).st_size, s.st_mtime_ns) for p in members]
    return stamps
