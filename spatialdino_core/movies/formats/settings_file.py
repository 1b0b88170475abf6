"""Acquisition settings that lattice light-sheet control software writes beside the TIFF files.

``*_Settings.txt`` says how the stack was scanned. Light enough for planning a run: reads text, never images.

The layout is that of the Janelia lattice light-sheet and MOSAIC instruments: sections between lines of
asterisks (General, Waveform, Camera), then the instrument's .ini file with ``[Section]`` headers. The tilted
axis of the camera image is not in it.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.image import FileMetadata, opening, positive

ENDING = "_Settings.txt"
TIFF_ENDINGS = (".tif", ".tiff", ".tf2", ".tf8", ".btf", ".stk")

# Z motion -> scan of the sample sheet, and the devices whose interval is the step, the first that moved.
# MOSAIC's combined "XZ stage" travels along the detection axis: an objective scan.
MOTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "sample piezo": ("stage", ("s pzt", "s piezo", "x stage")),
    "x stage": ("stage", ("x stage",)),
    "z galvo & piezo": ("objective", ("z pzt",)),
    "xz stage": ("objective", ("xz stage",)),
}

# Cameras of these models have pixels of 6.5 µm (Hamamatsu ORCA-Flash4.0 and ORCA-Fusion).
CAMERA_PIXEL_UM = {"C11440": 6.5, "C13440": 6.5, "C14440": 6.5, "C15440": 6.5}

# No two quantifiers beside each other take the same letters: else time would grow faster than the text.
_WAVEFORM = re.compile(
    r"(?<=\s)Offset,\s*Interval \(um\),\s*# of Pixels for Excitation\s*\(\d+\)\s*:"
    r"\s*\S+\s+(?P<interval>[-+]?[\d.]+(?:[eE][-+]?\d+)?)\s+\d+",
    re.IGNORECASE,
)
MOST_BYTES = 2**24
"""Of a settings file; those of instruments have some ten thousand."""


def settings_beside(files: Sequence[Path]) -> list[Path]:
    """Settings files that belong to TIFF files, by their names; other files have none.

    Each TIFF file belongs to the settings file in its folder with the longest name before
    ``_Settings.txt`` that the TIFF file's name begins with. Where no name fits, every settings file of the
    folder counts: one is then the right one, and several must agree. None does if one is called as the TIFF
    file is but for a number (``cell1`` beside ``cell10_t0.tif``): they are of other movies.
    """
    tiffs: dict[str, list[str]] = {}
    for file in files:
        folder, name = os.path.split(file)
        if name.lower().endswith(TIFF_ENDINGS):
            tiffs.setdefault(folder, []).append(name)
    chosen: set[Path] = set()
    for folder, names in tiffs.items():
        # Unlike a path's own method, this raises nothing for a folder that may not be read.
        present = [Path(folder, name) for name in glob.glob(f"*{ENDING}", root_dir=folder)]
        for name in names if present else ():
            fitting = [p for p in present if name.startswith(p.name.removesuffix(ENDING) + "_")]
            if fitting:
                chosen.add(max(fitting, key=lambda p: len(p.name)))
            elif not any(_counts_otherwise(p.name.removesuffix(ENDING), name) for p in present):
                chosen |= set(present)
    return sorted(chosen)


def _counts_otherwise(stem: str, name: str) -> bool:
    """Whether a name begins as a settings file's does, but with other numbers."""
    begins = re.sub(r"\d+", r"\\d+", re.escape(stem))
    return stem != begins and re.match(rf"{begins}(?![0-9A-Za-z])", name) is not None


def read_settings(paths: Sequence[Path]) -> list[FileMetadata]:
    """What the settings files of one movie say; empty if there are none.

    Raises
    ------
    BadInputError
        If several files differ in what they say.
    """
    said = [_read(path) for path in paths]
    for path, other in zip(paths[1:], said[1:], strict=True):
        if replace(other, origin="") != replace(said[0], origin=""):
            raise BadInputError(
                path.parent,
                found=f"{paths[0].name} and {path.name}, which differ, for the same movie",
                expected="one settings file that the names of the TIFF files begin with, or files that agree",
                remedy="Move the settings files of other movies to another folder.",
            )
    return said[:1]


def _read(path: Path) -> FileMetadata:
    with opening(path):
        if path.stat().st_size > MOST_BYTES:
            raise BadInputError(
                path,
                found=f"{path.stat().st_size} bytes",
                expected=f"settings of a microscope, {MOST_BYTES} bytes at most",
                remedy=f"If it is something else, call it otherwise: files that end in {ENDING} are read.",
            )
        return _said(path, path.read_bytes().decode("latin-1"))


def _said(path: Path, text: str) -> FileMetadata:
    scan, step = _scan_and_step(text)
    angle = _number(_ini(text, "Sample stage", "Angle between stage and bessel beam (deg)"))
    tilted = angle is not None and 0 < abs(angle) < 90
    return FileMetadata(
        pixel_um=_pixel_um(text),
        plane_spacing_um=abs(step) if step and scan == "objective" else None,
        step_um=abs(step) if step and scan == "stage" else None,
        scan=scan,
        angle_deg=abs(angle) if tilted and angle else None,
        # With a negative angle it is not clear which of the two signs turns the scan around.
        scan_sign=((1 if step > 0 else -1) if step and not (angle and angle < 0) else None),
        origin=f"settings file {path.name}",
    )


def _scan_and_step(text: str) -> tuple[str | None, float | None]:
    """Scan and signed step, µm; ``None`` where the file does not say or its channels differ."""
    intervals: dict[str, set[float]] = {}
    motions: list[str] = []
    for line in text.splitlines():
        match = _WAVEFORM.search(line)
        interval = _number(match["interval"]) if match else None
        if match and interval is not None:
            device = " ".join(line[: match.start()].lower().split())
            intervals.setdefault(device, set()).add(interval)
        key, colon, value = line.partition(":")
        if colon and key.rstrip().lower() == "z motion":
            motions.append(" ".join(value.lower().split()))
    named = motions[0] if motions else ""
    if named not in MOTIONS:
        stages = [device for device in ("x stage", "xz stage") if intervals.get(device, {0.0}) != {0.0}]
        if len(stages) != 1:
            return None, None
        named = stages[0]
    scan, devices = MOTIONS[named]
    for device in devices:
        steps = intervals.get(device, set())
        if len(steps) == 1 and steps != {0.0}:
            return scan, steps.pop()
    return scan, None


def _pixel_um(text: str) -> float | None:
    """Camera pixel over magnification, for camera models whose pixel is known."""
    camera = _section(text, "Camera")
    model = re.search(r"^Model\s*:\s*(\w+)", camera, re.MULTILINE | re.IGNORECASE)
    binning = re.search(r"^Binning\s*:\s*(\d{1,3})", camera, re.MULTILINE | re.IGNORECASE)
    magnification = positive(_ini(text, "Detection optics", "Magnification"))
    camera_um = CAMERA_PIXEL_UM.get(model[1].upper()) if model else None
    if camera_um is None or magnification is None:
        return None
    return camera_um * (int(binning[1]) if binning else 1) / magnification


def _section(text: str, name: str) -> str:
    """Text between the asterisks of a section's heading and the next asterisks."""
    match = re.search(rf"\*\s+{re.escape(name)}\s+\*[*\s]*\n([^*]*)", text)
    return match[1] if match else ""


def _ini(text: str, section: str, key: str) -> str | None:
    """Value of a key in the part that is an .ini file."""
    here = False
    for line in text.splitlines():
        heading = re.fullmatch(r"\s*\[(.+)\]\s*", line)
        if heading:
            here = heading[1].lower() == section.lower()
        elif here and "=" in line:
            name, _, value = line.partition("=")
            if name.strip().lower() == key.lower():
                return value.strip().strip('"')
    return None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
