"""Parameters of reading raw movies. Not their geometry, which the sheet or the files give."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


def with_groups(pattern: str | None) -> str | None:
    try:
        groups = 1 if pattern is None else re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a regular expression ({error})") from None
    if groups < 1:
        raise ValueError("a regular expression with a group: the number of the time point")
    return pattern


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReadingParameters:
    """How the files of a movie are put in order, where their names leave it open."""

    time_point: Annotated[
        str | None,
        AfterValidator(with_groups),
        Field(
            description="where the name of a file of a TIFF series carries its time point: a regular "
            "expression whose groups are its numbers, the slowest first; null: by the evidence of all names. "
            "The sample sheet can say it for each movie"
        ),
    ] = None
