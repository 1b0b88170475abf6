"""What all stage parameters have in common.

Each room keeps its stage parameters in ``parameters.py`` as one frozen pydantic dataclass. These
modules import neither torch nor zarr, so that the front door can validate a configuration quickly.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError
from pydantic_core import ArgsKwargs

STRICT = ConfigDict(extra="forbid")
"""Pydantic settings of every parameter dataclass: an unknown key is an error, never ignored."""
SHARED = "the section of this name"
"""Mark of a stage's parameters that a configuration gives in a section of its own, for several stages."""
Precision = Literal["auto", "float32", "bfloat16"]
"""In what arithmetic an encoder computes; see :mod:`.encoder.precision`."""


def without_braces(path: str) -> str:
    """A path that the workflow may write to or make things from; ``~`` is the home folder. Raw data may lie
    anywhere.
    """
    if re.search(r"[{}\x00-\x1f]", path) or path.startswith("-"):
        raise ValueError("a path without {, }, line breaks or tabs that does not begin with '-'")
    return os.path.expanduser(path)


def shared(section: type) -> Any:
    """Field of a stage's parameters for a section that several stages share, such as the optics."""
    return Field(default_factory=section, description=SHARED)


def problems_of(error: ValidationError) -> tuple[str, str]:
    """What was found and what is expected, in one line each, of values that a dataclass refuses."""
    found, expected = [], []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        value = (
            "" if isinstance(problem["input"], dict | ArgsKwargs) else f"{name} = {problem['input']!r:.80}"
        )
        found.append(value or name or "values that contradict each other")
        expected.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}".removeprefix(": "))
    return "; ".join(found), "; ".join(expected)


def parameters_json(parameters: Any) -> str:
    """Canonical JSON of a parameter dataclass: sorted keys, so equal parameters give equal text."""
    return json.dumps(asdict(parameters), sort_keys=True)


def digest(*parts: object) -> str:
    """Short hexadecimal fingerprint (16 characters of BLAKE2b) of the JSON form of ``parts``.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}), digest(1) == digest(1.0)
    (True, False)
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
