"""A series of TIFF files as images: a file for each time point, each plane, or each part of a movie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.choosing import files_of_channel
from spatialdino_core.movies.file_clocks import begins_with_each_file
from spatialdino_core.movies.formats import tiff
from spatialdino_core.movies.formats.image import Image, Piece, Place
from spatialdino_core.movies.formats.settings_file import read_settings, settings_beside
from spatialdino_core.movies.formats.tiff_content import TiffContent
from spatialdino_core.movies.names import OTHER_LABELS, columns_of, template, written_out
from spatialdino_core.movies.number_columns import UncertainOrderError
from spatialdino_core.movies.opened import Opened, below_common_folder
from spatialdino_core.movies.order import series_of
from spatialdino_core.movies.plane_files import files_of_planes, starred
from spatialdino_core.movies.series_units import Unit, differs, form_of, is_plane, stack_of_planes, words_of
from spatialdino_core.movies.settle import DISAGREEMENT
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.movies.time_points import MOST_THINGS, Series

SHOWN = 8
PART_LABELS = ("part", "parts", "file", "chunk", "segment", "split", "piece")
"""Words before the number of a part of a movie."""
SIZES = {"pixel_um": "pixel_um", "pixel_y_um": "pixel_um", "plane_spacing_um": "step_um"}
"""What files say of sizes, and the column of the sheet that decides."""
Contents = dict[Path, TiffContent | str]


def open_series(
    row: SheetRow, contents: Contents, unused: dict[str, str], others: Sequence[str], pattern: str | None
) -> Opened:
    """Open several TIFF files that are one movie.

    Parameters
    ----------
    row
        Of the sample sheet.
    contents
        Every file, or why it cannot be opened; at least one can.
    unused
        Other files that the path matches, with the reason.
    others
        Other channels of the movie for which the sheet names the same path.
    pattern
        Where the user says that names carry the time point.

    Raises
    ------
    BadInputError
        Naming what is wrong, or what is uncertain with the cell that decides.
    """
    images = {
        path: content if isinstance(content, str) else tiff.images_of(content, row.axes, one_stack=True)
        for path, content in contents.items()
    }
    files = list(contents)
    whole = [own for own in images.values() if not isinstance(own, str)]
    if all(image.channels == 1 for image in whole[0]):
        files, unused = files_of_channel(row, files, unused, others)
    if len(files) == 1:
        return _of_one(row, files[0], contents[files[0]], unused)
    names = dict(zip(files, below_common_folder(files), strict=True))
    by_plane = all(is_plane(own) for path in files if not isinstance(own := images[path], str))
    units = (
        [stack_of_planes(*group, images) for group in files_of_planes(row, names)]
        if by_plane
        else [Unit(name, (path,), images[path]) for path, name in names.items()]
    )
    try:
        series = series_of([unit.name for unit in units], pattern)
    except UncertainOrderError as error:
        raise _uncertain(row, error, pattern, starred if by_plane else str) from None
    order = sorted(range(len(units)), key=lambda number: series.point[number])
    ordered = [units[number] for number in order]
    warnings = [*series.warnings, *_differing_sizes(row, ordered)]
    if not by_plane:
        warnings += _differing_names(row, ordered, contents, pattern)
    if any(image.times > 1 for own in whole for image in own):
        return _in_parts(row, ordered, series, unused, warnings, pattern)
    usable = [unit.images for unit in ordered if not isinstance(unit.images, str)]
    if not usable:
        raise _no_whole_stack(row, ordered)
    positions = Counter(map(len, usable)).most_common(1)[0][0]
    by = f"{series.by}; one plane in each file" if by_plane else series.by
    merged = [_merged(ordered, position) for position in range(positions)]
    if series.doubt is not None and not any(image.clock_s for image in merged):
        if len(units) <= MOST_THINGS:
            raise _uncertain(row, series.doubt, pattern, starred if by_plane else str)
        warnings.append(f"{series.doubt.found}; it is read as one movie")
    if any(image.clock_s for own in usable for image in own) and not any(image.clock_s for image in merged):
        warnings.append("the clock of each file begins with the file, so that it is none of the movie")
    return _opened(
        merged,
        ordered,
        unused,
        warnings,
        points=tuple(series.point[number] for number in order),
        counted=series.counted,
        by=by,
        pattern=series.pattern,
        keys=tuple(series.key[number] for number in order) if series.key else (),
        numbers=tuple(series.numbers[number] for number in order) if series.numbers else (),
        name_clock_s=tuple(series.clock_s[number] for number in order) if series.clock_s else (),
    )


def _of_one(row: SheetRow, path: Path, content: TiffContent | str, unused: dict[str, str]) -> Opened:
    """The only file that is of the row's channel."""
    unit = Unit(path.name, (path,), content if isinstance(content, str) else [])
    if isinstance(content, str):
        raise _no_whole_stack(row, [unit])
    images = tiff.images_of(content, row.axes, one_stack=False)
    points = tuple(range(max(image.times for image in images)))
    return _opened(images, [unit], unused, [], points=points, counted=False, by="the file")


def _opened(
    images: Sequence[Image],
    units: Sequence[Unit],
    unused: dict[str, str],
    warnings: list[str],
    **order: object,
) -> Opened:
    files = [file for unit in units for file in unit.files]
    return Opened(
        images=tuple(images),
        beside=tuple(read_settings(settings_beside(files))),
        unused=unused,
        files=tuple(files),
        warnings=tuple(warnings),
        **order,  # type: ignore[arg-type]
    )


def _uncertain(
    row: SheetRow, error: UncertainOrderError, pattern: str | None, shown: Callable[[str], str]
) -> BadInputError:
    """What names leave open, with what decides it."""
    readings = f"; it can be read {' or '.join(error.readings)}" if error.readings else ""
    ways = []
    if pattern is not None:
        ways.append("Correct the pattern 'time_point' (sample sheet, or reading in the config).")
    if error.globs:
        listed = "; ".join(shown(glob) for glob in error.globs[:SHOWN])
        more = "; …" if len(error.globs) > SHOWN else ""
        ways.append(f"Make 'path' end in one of these: {listed}{more}.")
    if error.remedy:
        ways.append(error.remedy)
    if error.pattern:
        ways.append(f"If all of it is one movie, say in the column 'time_point': {error.pattern}")
    if not ways:
        ways.append(
            "Rename the files, so that one number runs through all names, such as t0000; make the path match "
            "one channel, position and acquisition only."
        )
    return BadInputError(
        f"movie '{row.movie}' ({row.path})",
        found=error.found + readings,
        expected="names from which the order in time is certain",
        remedy=" ".join(ways),
    )


def _no_whole_stack(row: SheetRow, units: Sequence[Unit]) -> BadInputError:
    return BadInputError(
        f"movie '{row.movie}' ({row.path})",
        found=f"no stack that is whole ({units[0].images})",
        expected="at least one",
        remedy="Copy the missing files again from the microscope.",
    )


def _merged(units: Sequence[Unit], position: int) -> Image:
    """One image of a series of stacks, of the shape and type that most of them have."""
    own = [_at(unit, position) for unit in units]
    whole = [image for image in own if not isinstance(image, str)]
    usual, _ = Counter(form_of(image) for image in whole).most_common(1)[0]
    model = next(image for image in whole if form_of(image) == usual)
    pieces: dict[Place, tuple[Piece, ...]] = {}
    faults: dict[Place, str] = {}
    clock: dict[Place, float] = {}
    for t, image in enumerate(own):
        for c in range(model.channels):
            if isinstance(image, str):
                faults[t, c] = image
            elif (0, c) in image.faults:
                faults[t, c] = image.faults[0, c]
            elif form_of(image) != usual:
                faults[t, c] = differs(image, model)
            else:
                pieces[t, c] = image.stacks[0, c]
                clock |= {(t, c): image.clock_s[0, c]} if (0, c) in image.clock_s else {}
    if begins_with_each_file(whole):
        clock = {}
    return replace(model, times=len(own), stacks=pieces, faults=faults, clock_s=clock, absent=frozenset())


def _at(unit: Unit, position: int) -> Image | str:
    if isinstance(unit.images, str):
        return unit.images
    return unit.images[position] if position < len(unit.images) else f"{unit.name}: it holds no such image"


def _in_parts(
    row: SheetRow,
    units: Sequence[Unit],
    series: Series,
    unused: dict[str, str],
    warnings: list[str],
    pattern: str | None,
) -> Opened:
    """Files that each hold several time points: parts of a movie, one after the other."""
    parts: list[list[Image]] = []
    for unit in units:
        if isinstance(unit.images, str):
            found = f"{unit.images}, so that its number of time points is not known"
            raise _unfit_parts(row, found, "Copy it again, or leave it out of the path.")
        parts.append(unit.images)
    forms = {
        tuple(map(form_of, images)): f"{unit.name}: {words_of(images[0])}"
        for unit, images in zip(units, parts, strict=True)
    }
    if len(forms) > 1:
        found = f"parts that differ: {'; '.join(forms.values())}"
        raise _unfit_parts(row, found, "Make the path match the parts of one movie.")
    numbers = sorted(series.numbers) if pattern is None else []
    if numbers and (numbers[0] > 1 or numbers[-1] - numbers[0] + 1 > len(numbers)):
        listed = ", ".join(map(written_out, numbers[:SHOWN]))
        raise _unfit_parts(
            row,
            f"{len(numbers)} parts with the numbers {listed}: others are missing",
            f"Bring them back, or say in the column 'time_point' that these go on: {series.pattern}",
        )
    joined = [_joined([images[position] for images in parts]) for position in range(len(parts[0]))]
    has_clock = any(image.clock_s for images in parts for image in images)
    anew = any(
        begins_with_each_file([images[position] for images in parts]) for position in range(len(joined))
    )
    goes_on = has_clock and not anew and all(_runs(image) for image in joined)
    if not (goes_on or pattern is not None or series.label in PART_LABELS):
        names = [unit.name for unit in units]
        raise BadInputError(
            f"movie '{row.movie}' ({row.path})",
            found=f"{len(names)} files with {parts[0][0].times} time points in the first; they can be movies "
            "of their own, or parts of one that goes on",
            expected="one movie: one file, one stack per file, or parts whose names say so (part1, part2, …)",
            remedy=f"For movies of their own, make 'path' end in one of these: {'; '.join(names[:SHOWN])}"
            f"{'; …' if len(names) > SHOWN else ''}. If they are parts, say in the column 'time_point': "
            + series.pattern,
        )
    if has_clock and not goes_on:
        joined = [replace(image, clock_s={}) for image in joined]
        warnings = [
            *warnings,
            "the clock of the files begins again in each part: the pauses between parts are not known, and "
            "frames are taken to be one interval apart",
        ]
    times = max(image.times for image in joined)
    by = f"{series.by}: {len(parts)} parts, one after the other"
    return _opened(joined, units, unused, warnings, points=tuple(range(times)), counted=False, by=by)


def _unfit_parts(row: SheetRow, found: str, remedy: str) -> BadInputError:
    return BadInputError(
        f"movie '{row.movie}' ({row.path})",
        found=found,
        expected="the parts of one movie, each whole, of one shape, with the same channels",
        remedy=remedy,
    )


def _joined(images: Sequence[Image]) -> Image:
    """Parts of one image, one after the other."""
    stacks: dict[Place, tuple[Piece, ...]] = {}
    faults: dict[Place, str] = {}
    absent: set[Place] = set()
    clock: dict[Place, float] = {}
    first = 0
    for image in images:
        stacks |= {(first + t, c): pieces for (t, c), pieces in image.stacks.items()}
        faults |= {(first + t, c): fault for (t, c), fault in image.faults.items()}
        absent |= {(first + t, c) for t, c in image.absent}
        clock |= {(first + t, c): seconds for (t, c), seconds in image.clock_s.items()}
        first += image.times
    return replace(
        images[0], times=first, stacks=stacks, faults=faults, absent=frozenset(absent), clock_s=clock
    )


def _runs(image: Image) -> bool:
    """Whether every time point of the first channel that has a time is later than the one before."""
    times = [seconds for (_, c), seconds in sorted(image.clock_s.items()) if c == 0]
    return len(times) > 1 and all(b > a for a, b in pairwise(times))


def _differing_sizes(row: SheetRow, units: Sequence[Unit]) -> list[str]:
    """Warn of files that say different sizes; refuse them where the sheet does not decide."""
    warnings = []
    for attribute, column in SIZES.items():
        said: dict[float, str] = {}
        for unit in units:
            for image in [] if isinstance(unit.images, str) else unit.images[:1]:
                size = getattr(image.metadata, attribute)
                if size is not None and not any(_is_same(size, other) for other in said):
                    said[size] = unit.name
        if len(said) < 2:
            continue
        listed = ", ".join(f"{written_out(size)} µm ({name})" for size, name in list(said.items())[:SHOWN])
        if getattr(row, column) is None:
            raise BadInputError(
                f"movie '{row.movie}' ({row.path})",
                found=f"files of one series with different {attribute}: {listed}",
                expected="the files of one acquisition",
                remedy=f"Make the path match one acquisition; if it does, state {column} in the sheet.",
            )
        warnings.append(f"{column}: the files differ in their {attribute}: {listed}")
    return warnings


def _is_same(one: float, other: float) -> bool:
    return abs(one - other) <= DISAGREEMENT * max(one, other)


def _differing_names(
    row: SheetRow, units: Sequence[Unit], contents: Contents, pattern: str | None
) -> list[str]:
    """Warn of files whose images have different names; refuse them where several files share each."""
    named: dict[str, list[str]] = {}
    for unit in units:
        content = contents[unit.files[0]]
        if not isinstance(unit.images, str) and not isinstance(content, str) and content.xml is not None:
            named.setdefault(unit.images[0].name, []).append(unit.name)
    if len(named) < 2:
        return []
    listed = ", ".join(f"'{name}' ({files[0]})" for name, files in list(named.items())[:SHOWN])
    more = ", …" if len(named) > SHOWN else ""
    if len(named) < len(units) and pattern is None:
        raise BadInputError(
            f"movie '{row.movie}' ({row.path})",
            found=f"files whose images have {len(named)} names: {listed}{more}",
            expected="the files of one position of one acquisition",
            remedy="Make the path match the files of one of them. If they are one movie all the same, say in "
            f"the column 'time_point' which number of the file names counts, e.g. {_any_pattern(units)}",
        )
    names = list(named)
    alike = len({template(name) for name in names}) == 1
    counted = alike and not any(
        column[0].label in OTHER_LABELS and len({token.value for token in column}) > 1
        for column in columns_of(names)
    )
    return [] if counted else [f"the images of the files have different names: {listed}{more}"]


def _any_pattern(units: Sequence[Unit]) -> str:
    return series_of([unit.name for unit in units]).pattern.replace("?P<order>", "")
