"""What a user can write in the sample sheet to decide what file names leave open: globs and patterns.

Each is tried on the names before it is shown.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Sequence
from itertools import takewhile

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
    globs = [_exact(own, names) for own in kinds.values()]
    return globs if all(globs) and len(globs) > 1 else []


def globs_of_kinds(kinds: Sequence[Sequence[str]], names: Sequence[str]) -> list[str]:
    """A glob for each kind that it takes apart from all other names."""
    return [glob for own in kinds if (glob := _exact(own, names))]


def _exact(own: Sequence[str], names: Sequence[str]) -> str:
    """A glob that matches some names and none of the others; empty if there is none."""
    ways = (_glob(own), _glob(own, last="*[0-9]"), _glob(own, fixed=True))
    return next((glob for glob in ways if _matching(glob, names) == set(own)), "")


def globs_of_groups(groups: Sequence[Sequence[str]], place: int) -> list[str]:
    """Globs that take groups of names apart by how the number at a place begins; empty if they do not."""
    globs = [_glob(own, place) for own in groups]
    every = [name for own in groups for name in own]
    exact = all(_matching(glob, every) == set(own) for glob, own in zip(globs, groups, strict=True))
    return globs if exact else []


def _glob(names: Sequence[str], begins: int = -1, last: str = "*", fixed: bool = False) -> str:
    """Names that are alike but for numbers, with ``*`` for those that vary.

    Parameters
    ----------
    begins
        Place of a number of which only the end varies.
    last
        What stands for the last that varies.
    fixed
        Whether ``?`` stands for each sign of numbers that are all of one length.
    """
    first, place = names[0], 0
    text = ""
    columns = columns_of(names)
    varying = [n for n, column in enumerate(columns) if len({(t.text, t.unit) for t in column}) > 1]
    for number, column in enumerate(columns):
        # What stands between numbers is alike, but for the unit of a time and the case of letters.
        token = column[0]
        text += first[place : token.start]
        widths = {t.end - t.start for t in column}
        if number not in varying:
            text += first[token.start : token.end]
        elif fixed and len(widths) == 1:
            text += "?" * widths.pop()
        else:
            text += _beginning(column) if number == begins else ""
            text += last if number == varying[-1] else "*"
        place = token.end
    endings = {name[columns[-1][n].end if columns else 0 :] for n, name in enumerate(names)}
    return text + (first[place:] if len(endings) == 1 else first[place:].rpartition(".")[0] + ".*")


def _beginning(column: Sequence[Token]) -> str:
    """What numbers have in common from the left."""
    low, high = min(token.text for token in column), max(token.text for token in column)
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False)))


def _matching(glob: str, names: Sequence[str]) -> set[str]:
    """Names that a glob of the sheet matches; ``*`` ends with a folder."""
    parts = (glob if "*[0-9]" in glob else glob.replace("[", "[[]")).split("/")
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
    if any(not _are_stamps(columns[p]) and not _is_number(t.text) for p in places for t in columns[p]):
        return ""
    wanted = [tuple(v for p in places for v in _values(columns[p], n)) for n in range(len(names))]
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


def clock_pattern(names: Sequence[str]) -> str:
    """A pattern that puts files in order by the clock in their names, where one number is the clock."""
    for place, column in enumerate(columns_of(names)):
        unique = len({token.value for token in column}) == len(column)
        if unique and (
            _are_stamps(column) or (column[0].clock and len({token.unit for token in column}) == 1)
        ):
            return pattern_of(names, [place], counts=False)
    return ""


def _are_stamps(column: Sequence[Token]) -> bool:
    """Whether all are dates with times of day, written alike."""
    stamps = all(token.clock == "absolute" and not token.unit for token in column)
    return stamps and len({len(token.text) for token in column}) == 1


def _between(name: str, columns: Sequence[Sequence[Token]], places: Sequence[int], opening: str) -> str:
    """From the first of the numbers to the last, each in a group."""
    text = ""
    for place in range(places[0], places[-1] + 1):
        token = columns[place][0]
        number = r"[\d.]+" if any("." in t.text for t in columns[place]) else r"\d+"
        if place in places and _are_stamps(columns[place]):
            text += opening + r"(\d+)".join(re.split(r"\d+", re.escape(token.text))).removeprefix("(")
        else:
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


def _values(column: Sequence[Token], number: int) -> list[float]:
    text = column[number].text
    return [float(part) for part in (re.findall(r"\d+", text) if _are_stamps(column) else [text])]


def _is_number(text: str) -> bool:
    """Whether a text is digits, of a decimal too, and no time stamp."""
    return re.fullmatch(r"[\d.,]+", text) is not None and text.count(".") + text.count(",") < 2


def _end(name: str, token: Token) -> int:
    """Where the digits of a number end, before its unit."""
    return token.start + len(token.text) if name.startswith(token.text, token.start) else token.end
