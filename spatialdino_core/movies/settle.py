"""Sizes and times of a movie: each from the sheet, else from its files; never from a default.

What a file says is held against what a light-sheet can be: placeholders and slips of units are not taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.image import FileMetadata
from spatialdino_core.movies.record import Acquisition
from spatialdino_core.movies.sheet import SheetRow

SHEET = "sample sheet"
SKEWED = ("stage", "z-stage")
DISAGREEMENT = 1e-3  # relative difference from which two numbers are not the same value, differently rounded
INTERVAL_DISAGREEMENT = 0.05  # a clock and the interval that was set never agree to a millisecond
PLAUSIBLE_UM = {"pixel_um": (0.02, 2.0), "step_um": (0.02, 5.0)}
"""What a file may say; the sheet may say otherwise, within what follows."""
POSSIBLE_UM = {"pixel_um": (0.005, 10.0), "step_um": (0.005, 20.0)}
"""Beyond these a number in the sheet is in another unit."""
PLACEHOLDER = 1.0
"""What programs write for sizes and intervals that they do not know (Bio-Formats, Andor iQ)."""


def settle_acquisition(
    row: SheetRow, said: Sequence[FileMetadata], frames: int, odd_clock: str = ""
) -> tuple[Acquisition, list[str]]:
    """Take each value from the sheet, else from the files; never from a default.

    Parameters
    ----------
    row
        The movie's first row of the sample sheet.
    said
        What its files say, the most trusted first.
    frames
        Number of time points; a single one needs no interval.
    odd_clock
        Why their clock gives none.

    Returns
    -------
    Acquisition
        With the source of each value.
    list of str
        Where sheet and files, or two files, disagree.

    Raises
    ------
    BadInputError
        Listing every value that none of them gives, for pixels that are not square, or for sizes that no
        light-sheet has.
    """
    said, placeholders = _without_placeholders(said)
    stated = {name: _stated(row, said, name) for name in ("scan", "pixel_um", "interval_s")}
    scan = stated["scan"][0][0] if stated["scan"] else None
    if scan in (*SKEWED, None):
        stated["step_um"] = _stated(row, said, "step_um")
        stated |= {name: _stated(row, said, name) for name in ("angle_deg", "skew_axis", "scan_sign")}
        needed = ["scan", "pixel_um", "step_um", "angle_deg", "skew_axis", "scan_sign"]
    else:
        # The plane spacing of a file is not the step of a stage; without a skew it is what is meant.
        stated["step_um"] = _stated(row, said, "step_um", "plane_spacing_um")
        stated["scan_sign"] = _stated(row, said if scan == "objective" else [], "scan_sign")
        needed = ["scan", "pixel_um", "step_um"]
    needed += ["interval_s"] if frames > 1 else []
    missing = [name for name in needed if not stated[name]]
    if missing:
        origins = " or the ".join(["sample sheet", *dict.fromkeys(metadata.origin for metadata in said)])
        odd = f"; {odd_clock}" if odd_clock and "interval_s" in missing else ""
        raise BadInputError(
            f"movie '{row.movie}' ({row.path})",
            found=f"no value for {', '.join(missing)} in the {origins}" + "".join(placeholders) + odd,
            expected=(
                f"{', '.join(needed)} for scan '{scan}'"
                if scan
                else f"{', '.join(needed)}; without skew (scan 'objective' or 'none') no angle, axis or sign"
            ),
            remedy="Fill in these columns of the sample sheet.",
        )
    chosen = {name: values[0] for name, values in stated.items() if values}
    warnings = _disagreements(stated) + _oblong_pixels(row, said, chosen["pixel_um"][1])
    warnings += _implausible(row, chosen)
    acquisition = Acquisition(
        scan=str(scan),
        angle_deg=_value(chosen, "angle_deg"),
        step_um=_value(chosen, "step_um"),
        pixel_um=_value(chosen, "pixel_um"),
        interval_s=_value(chosen, "interval_s"),
        skew_axis=_value(chosen, "skew_axis"),
        scan_sign=_value(chosen, "scan_sign") or 1,
        sources={name: origin for name, (_, origin) in chosen.items()},
    )
    return acquisition, warnings


def _without_placeholders(
    said: Sequence[FileMetadata],
) -> tuple[list[FileMetadata], list[str]]:
    """Sizes of exactly 1 × 1 µm, and what is exactly 1 beside them, say nothing; with words of that."""
    kept, found = [], []
    for metadata in said:
        sizes = {metadata.pixel_um, metadata.pixel_y_um} - {None}
        if sizes == {PLACEHOLDER}:
            names = ("pixel_um", "pixel_y_um", "plane_spacing_um", "interval_s")
            blank = {name: None for name in names if getattr(metadata, name) == PLACEHOLDER}
            metadata = replace(metadata, **blank)  # type: ignore[arg-type]
            found.append(f" (sizes of 1.0 in the {metadata.origin} are placeholders)")
        kept.append(metadata)
    return kept, found


def _implausible(row: SheetRow, chosen: dict[str, tuple[Any, str]]) -> list[str]:
    """Warn of odd sizes; refuse those of files that the sheet does not confirm, and slips of units."""
    warnings = []
    for name, (low, high) in PLAUSIBLE_UM.items():
        value, origin = chosen[name]
        if low <= value <= high:
            continue
        possible = POSSIBLE_UM[name] if origin == SHEET else (low, high)
        if not possible[0] <= value <= possible[1]:
            raise BadInputError(
                f"movie '{row.movie}' ({row.path})",
                found=f"{name} = {value:g} µm ({origin})",
                expected=f"{possible[0]:g} to {possible[1]:g} µm",
                remedy=(
                    _remedy(name, value) if origin == SHEET else f"State {name} in the sample sheet, in µm."
                ),
            )
        warnings.append(f"{name}: {value:g} µm ({origin}) is unusual for a light-sheet")
    interval, origin = chosen.get("interval_s", (None, ""))
    if interval == PLACEHOLDER and origin != SHEET and "clock" not in origin:
        warnings.append(f"interval_s: exactly 1 s ({origin}) may be a placeholder; the sample sheet can say")
    return warnings


def _remedy(name: str, value: float) -> str:
    """What the number would be in another unit."""
    low, high = PLAUSIBLE_UM[name]
    for unit, um in (("nm", 1e-3), ("mm", 1e3), ("cm", 1e4), ("m", 1e6)):
        if low <= value * um <= high:
            return f"Sizes are in µm: {value:g} {unit} are {value * um:g}."
    return "Sizes are in µm: correct the sample sheet."


def _stated(
    row: SheetRow, said: Sequence[FileMetadata], name: str, in_files: str | None = None
) -> list[tuple[Any, str]]:
    """Every stated value with its source, the one that counts first."""
    values = [(getattr(row, name), SHEET)]
    values += [(getattr(metadata, in_files or name), metadata.origin) for metadata in said]
    return [(value, origin) for value, origin in values if value is not None]


def _value(chosen: dict[str, tuple[Any, str]], name: str) -> Any:
    return chosen[name][0] if name in chosen else None


def _disagreements(stated: dict[str, list[tuple[Any, str]]]) -> list[str]:
    return [
        f"{name}: {values[0][0]} ({values[0][1]}) is used, not {value} ({origin})"
        for name, values in stated.items()
        for value, origin in values[1:]
        if _differ(
            values[0][0],
            value,
            INTERVAL_DISAGREEMENT if name == "interval_s" else DISAGREEMENT,
        )
    ]


def _differ(one: Any, other: Any, tolerance: float = DISAGREEMENT) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return bool(one != other)
    return bool(abs(one - other) > tolerance * max(abs(one), abs(other)))


def _oblong_pixels(row: SheetRow, said: Sequence[FileMetadata], pixel_source: str) -> list[str]:
    """Warn of metadata with pixels that are not square; refuse to take the pixel size from it."""
    warnings = []
    for metadata in said:
        x, y = metadata.pixel_um, metadata.pixel_y_um
        if x is None or y is None or not _differ(x, y):
            continue
        if metadata.origin == pixel_source:
            raise BadInputError(
                f"movie '{row.movie}' ({row.path})",
                found=f"pixels of {x} × {y} µm in the {metadata.origin}",
                expected="square pixels",
                remedy="Give pixel_um in the sample sheet if the file's metadata is wrong.",
            )
        warnings.append(
            f"pixel_um: square pixels ({pixel_source}) are used, not {x} × {y} µm ({metadata.origin})"
        )
    return warnings
