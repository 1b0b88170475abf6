"""Whether the clocks of several files are one, or begin anew with each of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from spatialdino_core.movies.formats.image import Image

RESOLUTION_S = 1.5
"""Dates are stated in whole seconds, cut or rounded."""
CERTAIN_S = 10.0
"""Dates that lie so far apart tell whether a clock runs with them."""


def begins_with_each_file(images: Sequence[Image]) -> bool:
    """Whether the clock of each file counts from the file's own start, by what the files say.

    It does if a stack would begin before the one before it was over, and if the files state different dates,
    unless their clocks run as their dates do.

    Parameters
    ----------
    images
        Of files in order of time, one of each.
    """
    clocked = [image for image in images if image.clock_s]
    begins = [min(image.clock_s.items()) for image in clocked]
    ends = [max(s + image.took_s.get(place, 0.0) for place, s in image.clock_s.items()) for image in clocked]
    if any(end > begin for end, (_, begin) in zip(ends[:-1], begins[1:], strict=True)):
        return True
    if len({image.started for image in clocked} - {""}) < 2:
        return False
    try:
        dates = [datetime.fromisoformat(image.started) for image in clocked]
        apart = [(b - a).total_seconds() for a, b in pairwise(dates)]
    except (ValueError, TypeError):
        return True
    steps = [b - a for (_, a), (_, b) in pairwise(begins)]
    alike = all(abs(one - other) <= RESOLUTION_S for one, other in zip(apart, steps, strict=True))
    return not alike or sum(apart) < CERTAIN_S
