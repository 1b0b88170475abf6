"""Whole-or-nothing files: written beside, flushed to disk, then renamed over the old one.

The one place that publishes files. Zarr stores are not published here; their frames belong to the
ledger (``movies/ledger.py``).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from spatialdino_core.errors import BadInputError
from spatialdino_core.parameters import problems_of

SAMPLE = 2**16  # bytes


@contextlib.contextmanager
def published(path: Path | str) -> Iterator[Path]:
    """Yield a private temporary path; on success it replaces ``path``, on failure it is removed.

    The temporary file lies in the same folder (a rename must not cross file systems), keeps the
    suffix (writers choose formats by it), and its name is unique to the attempt, so that two
    attempts, one of them an orphan of a killed run, never write to the same file.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.stem}.{uuid.uuid4().hex[:12]}{final.suffix}")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, final)
        flush(final.parent)
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Ask the operating system to bring a file or folder to disk (``fsync``)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sampled(path: Path | str, largest: int) -> str:
    """Size and digest of a file: up to ``largest`` bytes of all of it, else of head, middle and tail."""
    total = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        pieces = [(0, size)] if size <= largest else [(n * (size - SAMPLE) // 2, SAMPLE) for n in range(3)]
        for start, length in pieces:
            file.seek(max(start, 0))
            total.update(file.read(length))
    return f"{size:x}-{total.hexdigest()}"


def write_text(path: Path | str, text: str) -> None:
    """Publish a UTF-8 text file."""
    with published(path) as temporary:
        # Names of files may hold bytes that are no text; as JSON writes them they are read again.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path | str, content: Any) -> None:
    """Publish a JSON file, indented, with keys in the order given."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def sound_json(path: Path | str) -> dict[str, Any]:
    """What a JSON file of this software says; nothing if it is not there or is damaged."""
    try:
        content = read_json(path)
    except (OSError, BadInputError):
        return {}
    return content if isinstance(content, dict) else {}


def read_json(path: Path | str, kind: type | None = None) -> Any:
    """Read a JSON file that this software wrote.

    Parameters
    ----------
    kind
        Dataclass of which it holds the fields, and no others; the result is one.

    Raises
    ------
    BadInputError
        If it is not there, or damaged.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return content if kind is None else _adapter(kind).validate_python(content)
    except FileNotFoundError:
        raise _damaged(path, "no such file") from None
    except ValidationError as error:
        raise _damaged(path, "; ".join(problems_of(error))) from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"damaged text ({error})") from error


def _damaged(path: Path | str, found: str) -> BadInputError:
    return BadInputError(
        path,
        found=found,
        expected="JSON that this software wrote",
        remedy="Delete it, if it is there: the next run makes it again.",
    )


@functools.cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
