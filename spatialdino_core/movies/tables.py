"""Tab-separated tables as people save them: the encodings of spreadsheets, quoted cells, lines to pass over.

Not what stands in them: that is for who reads them.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path

from spatialdino_core.errors import BadInputError

HOW_TO_SAVE = (
    "Save it as tab-separated text: in Excel 'Text (Tab delimited)' or 'Unicode Text', in LibreOffice 'Text "
    "CSV' with {Tab} between fields."
)
UTF_16_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def read_text(path: Path | str) -> tuple[str, str]:
    """Text of a table, and its encoding: UTF-16 where a mark says so, else UTF-8, else Windows-1252 or
    Latin-1, which is what Excel writes.

    Returns
    -------
    str, str
        Without the mark, and with ``\\n`` at the end of lines, whatever the file has; name of the encoding.

    Raises
    ------
    BadInputError
        If the file is no text, such as an Excel workbook, or cannot be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise _no_table(path, f"a file that cannot be read ({error.strerror})") from None
    for mark, encoding in UTF_16_MARKS.items():
        if data.startswith(mark):
            try:
                return _lines(data.removeprefix(mark).decode(encoding)), encoding
            except UnicodeDecodeError as error:
                raise _no_table(path, f"damaged text ({error})") from None
    if b"\0" in data or data.startswith(b"PK\x03\x04"):
        raise _no_table(path, "a file that is no text, perhaps a spreadsheet's own format")
    data = data.removeprefix(codecs.BOM_UTF8)
    for encoding in ("utf-8", "cp1252"):
        try:
            return _lines(data.decode(encoding)), encoding
        except UnicodeDecodeError:
            continue
    return _lines(data.decode("latin-1")), "latin-1"


def _lines(text: str) -> str:
    return io.StringIO(text, newline=None).read()


def _no_table(path: Path | str, found: str) -> BadInputError:
    return BadInputError(path, found=found, expected="a table as tab-separated text", remedy=HOW_TO_SAVE)


def read_cells(path: Path | str) -> Iterator[tuple[int, list[str]]]:
    """Number of the line that a row begins in, and its cells; quoted ones may hold tabs, quotes and line
    ends. Rows without content and lines that start with ``#`` are passed over.

    Raises
    ------
    BadInputError
        If the file cannot be read as a table, e.g. for a quote that does not end.
    """
    text, _ = read_text(path)
    first = 0
    between = True  # whether the next line begins a row; within a quoted cell it does not

    def lines() -> Iterator[str]:
        nonlocal first, between
        for number, line in enumerate(io.StringIO(text), 1):
            if between and line.startswith("#"):
                continue
            first, between = (number, False) if between else (first, False)
            yield line

    try:
        for cells in csv.reader(lines(), delimiter="\t", strict=True):
            between = True
            if any(cell.strip() for cell in cells):
                yield first, cells
    except csv.Error as error:
        raise BadInputError(
            f"{path}, line {first}",
            found=f"a row that cannot be read ({error})",
            expected="cells without quotes, or with one at both ends and those within doubled",
            remedy="Correct the line.",
        ) from None
