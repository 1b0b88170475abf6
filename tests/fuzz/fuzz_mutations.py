"""Damage done to files at random: bytes, numbers, words, lines, the structure of JSON, whole files."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from random import Random
from typing import Any

Files = dict[str, bytes]
"""Path below the folder of an input to content."""
WHOLE_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 4096, 32767, 65535, 65536, 10**6, 10**9, 2**31 - 1)
NUMBERS = (*map(str, WHOLE_NUMBERS), "-1", "0.5", "1e999", "nan", "-0.0", "1e-300", "9" * 400, "9" * 14)
WORDS = (
    "",
    " ",
    "\t",
    "\n",
    "\0",
    "null",
    "[]",
    "{}",
    "x" * 300,
    "é",
    "²",
    "\ufeff",
    '"',
    "'",
    "*",
    "[",
    "(+)+",
)
VALUES: tuple[Any, ...] = (None, True, -1, 0, 1, 10**9, 10**12, 1e300, "", "x", "é" * 50, [], {}, [[]])
EDITS = (1, 1, 1, 1, 2, 3)
TEXT = re.compile(r"[\x09\x0a\x0d\x20-\x7e\x80-\xff]*")


def damaged(files: Files, random: Random) -> Files:
    """A copy with a few edits."""
    files = dict(files)
    for _ in range(random.choice(EDITS)):
        if not files:
            break
        name = random.choice(sorted(files))
        if random.random() < 0.03:
            random.choice((_delete, _empty, _exchange))(files, name, random)
            continue
        edit = random.choice(_edits_of(name, files[name]))
        files[name] = edit(files[name], random)
    return files


def _delete(files: Files, name: str, random: Random) -> None:
    del files[name]


def _empty(files: Files, name: str, random: Random) -> None:
    files[name] = b""


def _exchange(files: Files, name: str, random: Random) -> None:
    other = random.choice(sorted(files))
    files[name], files[other] = files[other], files[name]


def _edits_of(name: str, content: bytes) -> list[Callable[[bytes, Random], bytes]]:
    edits: list[Callable[[bytes, Random], bytes]] = [
        _flip,
        _flip,
        _number,
        _number,
        _cut,
        _remove,
        _repeat,
        _shuffle,
    ]
    if re.search(rb"<OME|<Image|ImageJ=|\"shape\"", content):
        edits += [_number_in_text] * 6
    if TEXT.fullmatch(content.decode("latin-1")):
        edits += [_number_in_text, _word, _line] * 3
        edits += [_json] * 12 if content[:1] in b"{[" else []
    if name.endswith(".safetensors"):
        edits += [_header] * 12
    return edits


def _flip(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 8)) if changed else 0):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def _number(content: bytes, random: Random) -> bytes:
    """A whole number of 1 to 8 bytes, mostly near the head, where formats keep them."""
    changed = bytearray(content)
    size, order = random.choice("bhiq"), random.choice("<>")
    width = struct.calcsize(size)
    if len(changed) < width:
        return content
    value = random.choice((*WHOLE_NUMBERS, -1, -32, len(content), random.randrange(max(1, len(content)))))
    value = value if value < 2 ** (8 * width - 1) else -1
    last = len(changed) - width
    place = random.randint(0, min(last, 1024) if random.random() < 0.5 else last)
    struct.pack_into(order + size, changed, place, value)
    return bytes(changed)


def _span(content: bytes, random: Random) -> tuple[int, int]:
    start = random.randint(0, len(content))
    return start, min(len(content), start + random.choice((1, 2, 4, 16, 64, 1024)))


def _cut(content: bytes, random: Random) -> bytes:
    return content[: random.randint(0, len(content))]


def _remove(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random)
    return content[:start] + content[end:]


def _repeat(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random)
    return content[:start] + content[start:end] * random.choice((2, 2, 3, 50)) + content[end:]


def _shuffle(content: bytes, random: Random) -> bytes:
    """A span overwritten by another."""
    start, end = _span(content, random)
    other = random.randint(0, max(0, len(content) - (end - start)))
    return content[:start] + content[other : other + end - start] + content[end:]


def _number_in_text(content: bytes, random: Random) -> bytes:
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", content))
    if not found:
        return content
    match = random.choice(found)
    return content[: match.start()] + random.choice(NUMBERS).encode() + content[match.end() :]


def _word(content: bytes, random: Random) -> bytes:
    found = list(re.finditer(rb"\w+", content))
    if not found:
        return content
    match, other = random.choice(found), random.choice(found)
    word = other[0] if random.random() < 0.5 else random.choice(WORDS).encode()
    return content[: match.start()] + word + content[match.end() :]


def _line(content: bytes, random: Random) -> bytes:
    lines = content.splitlines(keepends=True)
    if not lines:
        return content
    place, other = random.randrange(len(lines)), random.choice(lines)
    lines[place : place + random.randint(0, 1)] = [other] * random.choice((0, 1, 2))
    return b"".join(lines)


def _json(content: bytes, random: Random) -> bytes:
    """JSON, or lines of it, with one value, key or item changed."""
    try:
        lines = content.splitlines() if b"\n{" in content else [content]
        place = random.randrange(len(lines))
        lines[place] = json.dumps(_changed(json.loads(lines[place]), random)).encode()
        return b"\n".join(lines)
    except (ValueError, IndexError):
        return content


def _changed(value: Any, random: Random) -> Any:
    if isinstance(value, dict | list) and value and random.random() < 0.85:
        copy: Any = value.copy()
        key = random.choice(list(value)) if isinstance(value, dict) else random.randrange(len(value))
        fate = random.random()
        if fate < 0.1:
            del copy[key]
        elif fate < 0.2 and isinstance(copy, dict):
            copy[random.choice(("", "x", "0", "shape"))] = copy.pop(key)
        elif fate < 0.25 and isinstance(copy, list):
            copy.append(copy[key])
        else:
            copy[key] = _changed(value[key], random)
        return copy
    return random.choice(VALUES)


def _header(content: bytes, random: Random) -> bytes:
    """The JSON at the head of safetensors, or that within its metadata, changed; the length of it fits."""
    try:
        length = struct.unpack("<Q", content[:8])[0]
        head = json.loads(content[8 : 8 + length])
        metadata = head.get("__metadata__", {})
        if metadata and random.random() < 0.7:
            name = random.choice(list(metadata))
            metadata[name] = json.dumps(_changed(json.loads(metadata[name]), random))
        else:
            head = _changed(head, random)
        text = json.dumps(head).encode()
    except (ValueError, struct.error, AttributeError, TypeError):
        return content
    return struct.pack("<Q", len(text)) + text + content[8 + length :]
