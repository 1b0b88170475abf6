"""Names of different makes in one series, and two names of one number: what is not of it, or there twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath

from spatialdino_core.movies.hints import globs_of_kinds
from spatialdino_core.movies.names import NUMBER, template, tokens
from spatialdino_core.movies.number_columns import SHOWN, UncertainOrderError

MOST_OFFERED = 10
"""Makes of names for which a glob is looked for."""
RENAME = (
    "If all of it is one movie, rename the files, so that one number runs through all names, such as t0000."
)


def refuse_kinds(names: Sequence[str]) -> None:
    """Refuse names that differ in more than numbers, with those of the rarer makes and a glob for each make.

    Raises
    ------
    UncertainOrderError
        Of copies, masks, projections and the like that lie beside files of the same name, or of others.
    """
    own: dict[str, list[str]] = {}
    for name in names:
        own.setdefault(template(name), []).append(name)
    if len(own) == 1:
        return
    if len({make.replace(f"-{NUMBER}", NUMBER) for make in own}) == 1:
        raise signs(names)
    kinds = sorted(own.values(), key=lambda kind: (-len(kind), len(kind[0])))
    usual, others = kinds[0], kinds[1:] if len(kinds[0]) > 1 else []
    stems = {PurePath(name).stem: name for name in usual}
    beside = {kind[0]: name for kind in others if (name := _beside(stems, kind[0]))}
    listed = [f"{len(kind)} as {kind[0]}" if len(kind) > SHOWN else ", ".join(kind) for kind in kinds[:SHOWN]]
    said = "".join(f", and {other} lies beside {name}" for other, name in list(beside.items())[:1])
    # What lies beside a file of the same name is no further time point, and a single one is no movie.
    offered = [kind for kind in kinds if len(kind) > 1 or kind[0] not in beside]
    globs = globs_of_kinds(offered[:MOST_OFFERED], names)
    remedy = RENAME if not beside else "" if globs else "Move those that are no part of it elsewhere."
    raise UncertainOrderError(
        f"{len(names)} files without a number that runs through all names ({'; '.join(listed)}"
        f"{'; …' if len(kinds) > SHOWN else ''}){said}",
        globs=globs,
        remedy=remedy,
    )


def signs(names: Sequence[str]) -> UncertainOrderError:
    """What to say of numbers that may be negative."""
    signed = next(name for name in names if any(token.signed for token in tokens(name)))
    return UncertainOrderError(
        f"numbers with a dash before them, which may be a sign: {signed}",
        remedy="Rename the files with numbers from 0, such as t0000.",
    )


def _beside(usual: Mapping[str, str], other: str) -> str:
    """The file whose name is the beginning or the end of another's: ``c_t1.tif`` of ``c_t1 (1).tif``.

    Parameters
    ----------
    usual
        Names without their endings, and with them.
    """
    stem = PurePath(other).stem
    for place in range(len(stem) - 1, 0, -1):
        goes_on = stem[place - 1 : place + 1].isdigit()  # another number
        if (stem[:place] in usual and not goes_on) or (stem[place - 1] in " _" and stem[place:] in usual):
            return usual.get(stem[:place]) or usual[stem[place:]]
    return ""


def refuse_twins(names: Sequence[str]) -> None:
    """Refuse two files with the same numbers: ``t1`` and ``t001``, ``.tif`` and ``.TIF``.

    Raises
    ------
    UncertainOrderError
        With a glob for each ending, if each has all of its time points once.
    """
    numbers = {name: tuple(token.value for token in tokens(name)) for name in names}
    seen: dict[tuple[float, ...], str] = {}
    for name, own in numbers.items():
        other = seen.setdefault(own, name)
        if other != name:
            endings: dict[str, list[str]] = {}
            for one in names:
                endings.setdefault(PurePath(one).suffix, []).append(one)
            every = set(numbers.values())
            kinds = [*endings.values()]
            whole = [kind for kind in kinds if sorted(numbers[one] for one in kind) == sorted(every)]
            globs = [glob for glob in globs_of_kinds(kinds, names) if _matches_one(glob, whole)]
            raise UncertainOrderError(
                f"two files for one time point: {other} and {name}",
                globs=globs,
                remedy="" if globs else "Remove one of them, or make 'path' match one of them only.",
            )


def _matches_one(glob: str, kinds: Sequence[Sequence[str]]) -> bool:
    return any(fnmatchcase(kind[0], glob) for kind in kinds)
