"""Parameters of reading raw movies. Not their geometry, which the sheet or the files give."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT

TIME_POINT = r"(?:stack|(?<![A-Za-z])[tT])(\d+)"


def with_one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from None
    if groups != 1:
        raise ValueError("a regular expression with exactly one group, the number of the time point")
    return pattern


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReadingParameters:
    """How the files of a movie are put in order."""

    time_point: Annotated[
        str,
        AfterValidator(with_one_group),
        Field(
            description="where a file name of a TIFF series carries its time point: a regular expression "
            "with one group; stack0012, _t12 and T12 by default"
        ),
    ] = TIME_POINT
