"""What a user can write in the sample sheet to decide what file names leave open: globs and patterns.

Each is tried on the names before it is shown.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Sequence

from spatialdino_core.movies.names import ORDER, Token, columns_of, matched, template, tokens


def globs_of(names: Sequence[str], apart: Collection[int] = ()) -> list[str]:
    """Globs that take names of different kinds apart, each kind with all of its numbers; empty if none do.

    Parameters
    ----------
    names
        Paths below the folder that all have in common.
    apart
        Places of the numbers that tell kinds apart, among names that differ in nothing but numbers.

    Examples
    --------
    >>> globs_of(["a_s1_t1.tif", "a_s1_t2.tif", "a_s2_t1.tif", "a_s2_t2.tif"], [0])
    ['a_s1_t*.tif', 'a_s2_t*.tif']
    """
    kinds: dict[tuple[object, ...], list[str]] = {}
    for name in names:
        own = tokens(name)
        key = (template(name), *(own[place].text for place in apart))
        kinds.setdefault(key, []).append(name)
    globs = [_glob(own) for own in kinds.values()]
    pairs = zip(globs, kinds.values(), strict=True)
    exact = all(_matching(glob, names) == set(own) for glob, own in pairs)
    return globs if exact and len(globs) > 1 else []


def _glob(names: Sequence[str]) -> str:
    """Names that are alike but for numbers, with ``*`` for those that vary."""
    first, place = names[0], 0
    text = ""
    for column in columns_of(names):
        # What stands between numbers is alike, but for the unit of a time and the case of letters.
        token = column[0]
        text += first[place : token.start]
        varies = len({(t.text, t.unit) for t in column}) > 1
        text += "*" if varies else first[token.start : token.end]
        place = token.end
    return text + first[place:]


def _matching(glob: str, names: Sequence[str]) -> set[str]:
    """Names that a glob of the sheet matches; ``*`` ends with a folder."""
    parts = glob.replace("[", "[[]").split("/")
    return {
        name
        for name in names
        if len(name.split("/")) == len(parts)
        and all(fnmatch.fnmatchcase(n, p) for n, p in zip(name.split("/"), parts, strict=True))
    }


def pattern_of(names: Sequence[str], places: Sequence[int], counts: bool = True) -> str:
    """A pattern for the column ``time_point`` that finds the numbers at some places of all names.

    Parameters
    ----------
    places
        Of the numbers, ascending, among names that differ in nothing but numbers.
    counts
        Whether the number counts frames; else it puts files in order only.

    Returns
    -------
    str
        The shortest that works; empty if none does.

    Examples
    --------
    >>> pattern_of(["part1_t0.tif", "part2_t1.tif"], [1])
    '_t(\\\\d+)'
    """
    columns = columns_of(names)
    if any(not _is_number(token.text) for p in places for token in columns[p]):
        return ""
    wanted = [tuple(float(columns[p][n].text) for p in places) for n in range(len(names))]
    opening = "(" if counts else f"(?P<{ORDER}>"
    inner = _between(names[0], columns, places, opening)
    before = names[0][columns[places[0] - 1][0].end if places[0] else 0 : columns[places[0]][0].start]
    after = names[0][_end(names[0], columns[places[-1]][0]) :]
    lead = re.escape(before.rpartition("/")[2])
    word = re.search(r"[A-Za-z]*[^A-Za-z0-9/]*$", before)
    prefixes = [re.escape(word[0]) if word else "", lead, f"{_whole(names[0], columns, places[0])}{lead}"]
    for suffix in ("", re.escape(after) + "$"):
        for prefix in prefixes:
            pattern = prefix + inner + suffix
            if [matched(pattern, name) for name in names] == wanted:
                return pattern
    return ""


def _between(name: str, columns: Sequence[Sequence[Token]], places: Sequence[int], opening: str) -> str:
    """From the first of the numbers to the last, each in a group."""
    text = ""
    for place in range(places[0], places[-1] + 1):
        token = columns[place][0]
        number = r"[\d.]+" if any("." in t.text for t in columns[place]) else r"\d+"
        text += f"{opening}{number})" if place in places else number
        if place < places[-1]:
            text += re.escape(name[_end(name, token) : columns[place + 1][0].start])
    return text


def _whole(name: str, columns: Sequence[Sequence[Token]], until: int) -> str:
    """The name from its beginning to the number before a place."""
    text, end = "^", 0
    for column in columns[:until]:
        text += re.escape(name[end : column[0].start]) + r"[\d.]+"
        end = _end(name, column[0])
    return text + re.escape(name[end : columns[until - 1][0].end] if until else "")


def _is_number(text: str) -> bool:
    """Whether a text is digits, of a decimal too, and no time stamp."""
    return re.fullmatch(r"[\d.,]+", text) is not None and text.count(".") + text.count(",") < 2


def _end(name: str, token: Token) -> int:
    """Where the digits of a number end, before its unit."""
    return token.start + len(token.text) if name.startswith(token.text, token.start) else token.end
