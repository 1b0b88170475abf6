"""Golden values of the register: what a sheet, the files and what lies beside them are taken to say.

Also of what other stages rest on: the ledger, parts of a movie, stores. Not of messages and origins.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from golden import Stage
from raw_inputs import (
    CziPlane,
    CziText,
    blank_row,
    counts,
    outcome,
    settings_text,
    sheet_row,
    write_czi,
    write_listed_tiff,
    write_mm_stack,
    write_ndtiff,
    write_settings,
)

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies import provenance
from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.formats.image import FileMetadata, positive, quantity
from spatialdino_core.movies.formats.settings_file import read_settings, settings_beside
from spatialdino_core.movies.ledger import Entry, FrameJob, FrameLedger, FrameResult, remembered
from spatialdino_core.movies.names import mentions, natural, normalised
from spatialdino_core.movies.number_columns import UncertainOrderError
from spatialdino_core.movies.order import series_of
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.part import WHOLE, Part, beside, collected
from spatialdino_core.movies.raw_files import check_files, fingerprint, places, state
from spatialdino_core.movies.record import Acquisition, MovieRecord
from spatialdino_core.movies.register import as_counts, check_content, register_movie
from spatialdino_core.movies.resolve import Resolved, resolve, times_of, usual_interval
from spatialdino_core.movies.settle import settle_acquisition
from spatialdino_core.movies.sheet import SheetRow, read_sheet
from spatialdino_core.movies.source import FrameSource, open_channels
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore, StoreLayout, checksum, ome_metadata
from spatialdino_core.versions import STAGES

STAGE = Stage("register", ["movies/*.py", "movies/formats/*.py"])
READING = ReadingParameters()
PART = (slice(1, 3), slice(3, 17), slice(2, 9))
SHAPE = (4, 20, 23)


def said_of(metadata: FileMetadata) -> dict[str, Any]:
    """What a file says, without where it says so."""
    return {name: value for name, value in asdict(metadata).items() if name != "origin" and value is not None}


def seen(found: Resolved, source: FrameSource, region: Any = PART) -> dict[str, Any]:
    """Everything that a source gives, and what was settled of it."""
    frames = range(found.table.frames)
    return {
        "frames": len(frames),
        "said": [said_of(metadata) for metadata in found.said],
        "form": [list(found.shape_zyx), found.dtype],
        "clock": [[frame, seconds] for frame, seconds in sorted(found.clock_s.items())],
        "left out": sorted(map(list, found.table.left_out)),
        "announced": sorted(found.table.announced),
        "unused": sorted(Path(file).name for file in found.table.unused),
        "missing": [n for n in frames if source.stamp(n) is None],
        "whole": joined([outcome(source.read, n) for n in frames]),
        "part": joined([outcome(source.read, n, region) for n in frames]),
    }


def once(values: list[Any]) -> Any:
    """What all frames have in common, or what each has."""
    return values[0] if all(value == values[0] for value in values) else values


def joined(frames: Sequence[Any]) -> Any:
    """Frames as one array, if they are all there and of one shape."""
    alike = len({getattr(frame, "shape", None) for frame in frames}) == 1
    return np.stack(frames) if alike and not isinstance(frames[0], str) else frames


def opened(rows: Sequence[SheetRow], region: Any = PART) -> Any:
    """Every channel of a movie, or that it is refused."""
    found = outcome(resolve, rows, READING)
    return found if isinstance(found, str) else [seen(found, source, region) for source in sources(found)]


def sources(found: Resolved) -> list[FrameSource]:
    return open_channels("a", found.table)


def registered(rows: Sequence[SheetRow], policy: Any = "fail") -> dict[str, Any]:
    """What the register makes of a movie, without texts."""
    record = told(register_movie(rows, READING, policy)[0])
    if record["problem"]:
        return {"problem": True} | {name: record[name] for name in ("movie", "channels", "train")}
    record["acquisition"]["sources"] = sorted(record["acquisition"]["sources"])
    record["paths"] = [Path(path).name for path in record["paths"]]
    del record["reading"]
    return record | {
        "skipped": sorted(record["skipped"]),
        "warnings": len(record["warnings"]),
    }


def dated(path: Path, time_ns: int) -> Path:
    os.utime(path, ns=(time_ns, time_ns))
    return path


@STAGE.scene
def rows_of_a_sheet(folder: Path) -> dict[str, Any]:
    """Which cells are taken, and for what."""
    good = {"movie": "m", "channel": "488nm", "path": "a_*.tif", "scan": "stage", "angle_deg": "31.5"}
    good |= {"step_um": "0.4", "pixel_um": "0.104", "interval_s": "2.5", "skew_axis": "x", "scan_sign": "+1"}
    good |= {"train": "yes", "roi_um": "", "flip": "", "dark": "", "flat": "", "registration": ""}
    good |= dict.fromkeys(
        ["bad_pixels", "position", "file_channel", "axes", "time_point", "missing_chunks"], ""
    )
    cells: dict[str, Sequence[str]] = {
        "movie": ["a-B_9", "a b", "a.b", "", "-", "qc", "a" * 200, "a" * 201],
        "channel": ["488nm", "GFP.1+", "488 nm", "Mäuse", ""],
        "path": ["", "/data/x.tif", "sub/x_[ab].tif"],
        "scan": ["objective", "z-stage", "none", "", "Stage"],
        "angle_deg": ["0", "0.01", "89.9", "90", "-31", "", "nan", "x"],
        "step_um": ["0", "-1", "0.001", ""],
        "pixel_um": ["0", "0.001", ""],
        "interval_s": ["0", "0.001", ""],
        "skew_axis": ["y", "z", ""],
        "scan_sign": ["1", "-1", "+1", "-2", "0", ""],
        "train": ["no", "YES", "No", "", "true", "1"],
        "roi_um": [
            "0:1,2:3,4:5.5",
            "-1:1, 2:3 ,4:5",
            "0:1,2:3",
            "1:1,2:3,4:5",
            "2:1,2:3,4:5",
            "0:inf,2:3,4:5",
            "-inf:1,2:3,4:5",
            "0:1:2,2:3,4:5",
            "0,2:3,4:5",
            "a:1,2:3,4:5",
            "0:b,2:3,4:5",
            "0:1,2:3,4:5,6:7",
        ],
        "flip": ["x", "y", "xy", "yx", ""],
        "dark": ["0", "100.5", "-1", "nan", "inf", "dark.tif", "/d/dark.tif"],
        "flat": ["flat.tif", "7"],
        "registration": ["to_first.json"],
        "bad_pixels": ["hot.tif"],
        "position": ["Pos 1", "0"],
        "file_channel": ["2", "GFP (cyan)"],
        "axes": ["t4z24yx", "TZYX", "z24c2yx", "tzy", "zzyx", "t0zyx", "t4 zyx", "szyx"],
        "time_point": [r"_(\d+)s", r"_\d+s", "_(", r"(a)(b)"],
        "missing_chunks": ["zeros", "ones"],
    }

    def read(*lines: str) -> Any:
        path = folder / "movies.tsv"
        path.write_bytes("\n".join(lines).encode("utf-8-sig"))
        movies = outcome(read_sheet, path)
        if isinstance(movies, str):
            return movies
        return [
            {name: str(v).replace(str(folder), "~") for name, v in row.model_dump().items() if v is not None}
            | {"calibrations": sorted(row.calibrations())}
            for rows in movies.values()
            for row in rows
        ]

    header = "\t".join(good)

    def cell_of(name: str, cell: str) -> Any:
        rows = read(header, "\t".join((good | {name: cell}).values()))
        if isinstance(rows, str):
            return rows
        value = rows[0].get(name)
        return [value if value is None or len(value) < 50 else len(value), *rows[0]["calibrations"]]

    changed = {name: {cell: cell_of(name, cell) for cell in options} for name, options in cells.items()}
    sheets = {
        "comments": [
            "# all",
            "",
            "movie\tchannel\tpath ",
            "a\tx\tp",
            "  ",
            "#b\tx\tp",
            "b\t x\tp",
            "a\ty\tq",
        ],
        "quoted": ["movie\tchannel\tpath", 'a\tx\t"p q"', "a\ty\tq"],
        "only a header": ["movie\tchannel\tpath"],
        "one row": ["movie\tchannel\tpath", "a\tx\tp"],
        "twice": ["movie\tchannel\tpath", "a\tx\tp", "a\tx\tq"],
        "no path": ["movie\tchannel", "a\tx"],
        "unknown": ["movie\tchannel\tpath\tpixel", "a\tx\tp\t1"],
        "repeated": ["movie\tchannel\tpath\tpath", "a\tx\tp\tq"],
        "short": ["movie\tchannel\tpath\tscan", "a\tx\tp"],
        "long": ["movie\tchannel\tpath", "a\tx\tp\tq"],
        "blank columns": ["movie\tchannel\tpath\t\t", "a\tx\tp\t\t", "\t\t\t\t", "b\tx\tq\t\t\t"],
        "quoted header": ['"movie"\t"channel"\t"path"', '"a"\t"x"\t"p\t""1""\n# q"', "# b", "b\tx\tq"],
        "same but for its unit": ["movie\tchannel\tpath", "a\t488\tp", "a\t488 NM\tq"],
        "commas": ["movie,channel,path", "a,x,p"],
        "no end": ["movie\tchannel\tpath", 'a\tx\t"p'],
        "many mistakes": ["movie\tchannel\tpath", *(f"a b\tx\t{n}" for n in range(15))],
    }
    for name, (one, other) in {
        "scan": ("stage", "none"), "angle_deg": ("30", "31"), "step_um": ("0.4", "0.5"), "flat": ("a", "b"),
        "pixel_um": ("0.1", "0.11"), "interval_s": ("1", "2"), "skew_axis": ("x", "y"),
        "train": ("yes", "no"),
        "scan_sign": ("1", "-1"), "roi_um": ("0:1,0:1,0:1", "0:1,0:1,0:2"), "flip": ("x", "y"),
    }.items():  # fmt: skip
        sheets[f"{name} differs"] = [f"movie\tchannel\tpath\t{name}", f"a\tx\tp\t{one}", f"a\ty\tp\t{other}"]
        sheets[f"{name} agrees"] = [f"movie\tchannel\tpath\t{name}", f"a\tx\tp\t{one}", f"a\ty\tp\t{one}"]
    saved = {}
    for encoding in ("utf-8", "utf-16", "cp1252", "latin-1", "utf-32"):
        (folder / "saved.tsv").write_bytes("movie\tchannel\tpath\r\na\tx\tMäuse\r\n".encode(encoding))
        found = outcome(read_sheet, folder / "saved.tsv")
        saved[encoding] = found if isinstance(found, str) else Path(found["a"][0].path).name
    for name, content in {"half": b"\xff\xfea", "undefined": b"movie\tchannel\tpath\na\tx\t\x81"}.items():
        (folder / "saved.tsv").write_bytes(content)
        found = outcome(read_sheet, folder / "saved.tsv")
        saved[name] = found if isinstance(found, str) else len(found)
    return {
        "saved": saved,
        "good": read(header, "\t".join(good.values())),
        "cells": changed,
        "sheets": {name: read(*lines) for name, lines in sheets.items()},
        "no sheet": outcome(read_sheet, folder / "other.tsv"),
    }


@STAGE.scene
def files_of_a_row(folder: Path) -> dict[str, Any]:
    """Globs, names with brackets, and what a movie's files are recognised by."""
    for name in ("day [1]", "day 1", "day 1/deep.zarr/0/c"):
        (folder / name).mkdir(parents=True)
    names = ["day 1/a_t2.tif", "day 1/a_t1.tif", "day 1/b_t1.tif", "day [1]/a [x]_t1.tif", "day [1]/c_t1.tif"]
    names += [
        "day [1]/a_Settings.txt",
        "day 1/a_Settings.txt",
        "day 1/deep.zarr/0/c/1",
        "day 1/deep.zarr/z.json",
    ]
    names += ["dark.tif", "shift.json"]
    names += [
        f"set/{name}" for name in ("s.ome.tif", "s_1.ome.tif", "s1.ome.tif", "s.companion.ome", "o.txt")
    ]
    (folder / "set/below").mkdir(parents=True)
    (folder / "set/below/file").touch()
    (folder / "links").mkdir()
    (folder / "links/a_t1.tif").symlink_to("nowhere.tif")
    for number, name in enumerate(names):
        (folder / name).write_bytes(bytes(10 + number))
        dated(folder / name, 1000 * (number + 1))

    def found(pattern: str) -> list[str]:
        return [str(path.relative_to(folder)) for path in sheet_row(folder / pattern).files()]

    def stamps(rows: Sequence[SheetRow]) -> list[list[Any]]:
        # The same but for the way there: nothing that could move.
        assert [len(said) for said in state(rows)] == [5] * len(rows)
        assert all(Path(place).is_dir() for place in places(rows))
        return [[str(Path(path).relative_to(folder)), size, time] for path, size, time in fingerprint(rows)]

    patterns = [
        "day 1/a_t*.tif",
        "day 1/[ab]_t1.tif",
        "day [1]/a [x]_t*.tif",
        "day [1]/[ac]*.tif",
        "day*/a*.tif",
    ]
    patterns += ["day 1", "day 1/deep.zarr", "day 2/x.tif", "day 1/none*.tif", "day 1/a_t1.tif"]
    calibrated = dict(dark=str(folder / "dark.tif"), registration=str(folder / "shift.json"))
    return {
        "files": {pattern: found(pattern) for pattern in patterns},
        "series": stamps([sheet_row(folder / "day 1/a_t*.tif", **calibrated)]),
        "store": stamps([sheet_row(folder / "day 1/deep.zarr"), sheet_row(folder / "day [1]/c_t1.tif")]),
        "gone": stamps([sheet_row(folder / "day 1/a_t1.tif", dark=str(folder / "no.tif"))]),
        "sets": {
            name: stamps([sheet_row(folder / "set" / name)])
            for name in ("s.ome.tif", "s*.ome.tif", "s.companion.ome", "o.txt", "")
        },
        "link": stamps([sheet_row(folder / "links/*.tif")]),
        "checked": {
            name: outcome(check_files, [sheet_row(folder / name)])
            for name in ("day 1/a_t1.tif", "links/*.tif", "none/a.tif", "day 1/" + "a" * 300, "day 1")
        },
    }


@STAGE.scene
def settings_files(folder: Path) -> dict[str, Any]:
    """What the instrument's settings say, and to which files they belong."""
    pair = lambda device, *intervals: {device: intervals}  # noqa: E731
    variants: dict[str, dict[str, Any]] = {
        "sample piezo": {},
        "s piezo": dict(devices=pair("S Piezo", "0.5", "0.5")),
        "backwards": dict(devices=pair("S  PZT", "-0.3", "-0.3")),
        "x stage": dict(motion="X Stage", devices=pair("X Stage", "-.4")),
        "piezo rests": dict(devices={"S PZT": ("0", "0"), "X stage": ("0.7",)}),
        "piezo first": dict(devices={"X stage": ("0.7",), "S PZT": ("0.2",), "Z PZT": ("0.3",)}),
        "galvo": dict(motion="Z galvo & piezo", devices={"S PZT": ("0.4",), "Z PZT": ("0.25", "0.25")}),
        "xz stage": dict(motion="XZ  stage ", devices={"XZ stage": ("-0.6",), "X stage": ("0.4",)}),
        "unnamed x": dict(motion=None, devices={"X stage": ("1e-1",), "XZ stage": ("0",)}),
        "unnamed xz": dict(motion="", devices={"X stage": ("0",), "XZ stage": ("0.4",)}),
        "unnamed both": dict(motion="", devices={"X stage": ("0.3",), "XZ stage": ("0.4",)}),
        "unnamed two": dict(motion="", devices={"X stage": ("0", "0.3")}),
        "unknown motion": dict(motion="X galvo"),
        "nothing moves": dict(devices=pair("S PZT", "0")),
        "channels differ": dict(devices=pair("S PZT", "0.4", "0.5")),
        "negative angle": dict(angle="-32.45"),
        "wide angle": dict(angle="147.55"),
        "right angle": dict(angle="90"),
        "steep": dict(angle="89.9"),
        "no angle": dict(angle=None),
        "zero angle": dict(angle="0"),
        "bad angle": dict(angle="?"),
        "other camera": dict(model="Prime95B"),
        "fusion": dict(model="C14440-20UP", binning="2", magnification="50"),
        "c13440": dict(model="c13440"),
        "c15440": dict(model="C15440"),
        "no camera": dict(model=None),
        "no magnification": dict(magnification=None),
        "zero magnification": dict(magnification="0"),
    }
    said = {
        name: said_of(read_settings([write_settings(folder / "a_Settings.txt", **changes)])[0])
        for name, changes in variants.items()
    }
    (folder / "a_Settings.txt").write_text("nothing")
    said["empty"] = said_of(read_settings([folder / "a_Settings.txt"])[0])
    (folder / "a_Settings.txt").write_text(settings_text().replace("*****   Camera", "     Camera"))
    said["no camera section"] = said_of(read_settings([folder / "a_Settings.txt"])[0])

    def belonging(present: Sequence[str], tiffs: Sequence[str]) -> list[str]:
        place = folder / "beside"
        shutil.rmtree(place, ignore_errors=True)
        for name in present:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).touch()
        return [str(p.relative_to(place)) for p in settings_beside([place / name for name in tiffs])]

    both = [
        "one_Settings.txt",
        "one_more_Settings.txt",
        "two_Settings.txt",
        "Settings.txt",
        "sub/x_Settings.txt",
    ]
    write_settings(folder / "a_Settings.txt")
    write_settings(folder / "b_Settings.txt")
    write_settings(folder / "c_Settings.txt", angle="30")
    a, b, c = (folder / f"{name}_Settings.txt" for name in "abc")

    return {
        "said": said,
        "belonging": {
            "shorter": belonging(both, ["one_t1.tif", "one_t2.tif"]),
            "longest": belonging(both, ["one_more_t1.tif"]),
            "none fits": belonging(both, ["three_t1.tif"]),
            "no separator": belonging(both, ["onemore.tif"]),
            "folders": belonging(both, ["sub/x_1.TIFF", "two_1.tf8"]),
            "no tiff": belonging(both, ["one_1.czi", "two_1"]),
            "endings": belonging(both, ["one_1.btf", "two_1.tf2"]),
        },
        "agree": [said_of(metadata) for metadata in read_settings([a, b])],
        "differ": outcome(read_settings, [a, b, c]),
        "none": read_settings([]),
        "numbers": [
            [positive(value, 2.0) for value in (0, -1, 1e-9, "3", "x", None, float("inf"), float("nan"))],
            [quantity(3, unit, {"nm": 1e-3, "s": 60.0}) for unit in ("nm", "s", "µm", None)],
        ],
    }


@STAGE.scene
def names_of_files(folder: Path) -> dict[str, Any]:
    """Which time point each file is, and when it was taken."""
    clock = [f"s_t{n}_000{n * n}0msec_00{9000 + 7 * n * n}msecAbs.tif" for n in range(5)]
    series: dict[str, Sequence[str]] = {
        "clock": clock,
        "relative": [name.replace("Abs", "") for name in clock],
        "standing": ["a_00010msecAbs_00020msec_1", "a_00010msecAbs_00050msec_2"],
        "backwards": ["a_t1_20msec", "a_t2_10msec"],
        "units": ["c_0s.tif", "c_500ms.tif", "c_1,5s.tif", "c_2min.tif", "c_1h.tif"],
        "stamps": ["a_20240131T235959.5.tif", "a_2024-02-01_00-00-01.tif"],
        "no stamp": ["a_20241331T235959_t0.tif", "a_20241331T235959_t1.tif"],
        "loops": [f"Iter{i}_stack{n}.tif" for i in (0, 1) for n in range(3)],
        "loops with a clock": [f"Iter{i}_stack{n}_{9 * i + n}s.tif" for i in (0, 1) for n in range(3)],
        "front": [f"t{n // 3}_stack{n}.tif" for n in range(5)],
        "letters": ["a.tif", "b.tif"],
        "decimals": ["c_0.5.tif", "c_0.25.tif"],
        "decimals alike": ["c_0.50.tif", "c_0.25.tif", "c_1.00.tif"],
        "tens": [f"t{n}.tif" for n in (0, 10, 30)],
        "sparse": ["img_170000000.tif", "img_170002031.tif", "img_170004007.tif"],
        "apart": [f"c_{n}.tif" for n in range(3)],
        "one": ["a_7.tif"],
        "cells": [f"cell{n // 3}_t{n}.tif" for n in range(6)],
        "wells": [f"A{n}.tif" for n in range(3)],
        "cells with a clock": [f"cell{n // 2}_{n}s.tif" for n in range(4)],
        "cells with stamps": [f"cell{n // 2}_20240131T12000{n}.tif" for n in range(4)],
        "channels": [f"c_w{w}_t{n}.tif" for w in (1, 2) for n in range(2)],
        "makes": ["CamA_stack0.tif", "CamB_stack1.tif", "CamB_stack2.tif"],
        "signs": ["c_t-2.tif", "c_t-1.tif"],
        "midnight": ["a_235958.tif", "a_000001.tif"],
        "midnight with dashes": ["a_23-59-58.tif", "a_00-00-01.tif"],
        "midnight in hours": ["a_23h59min58s.tif", "a_00h00min01s.tif"],
        "midnight in minutes": [f"{n}.tif" for n in ("2358", "2359", "0000", "0001")],
        "midnight, numbered": ["t0_23-59-58.tif", "t1_00-00-01.tif", "t2_00-01-05.tif"],
        "midnight, numbered, in one": ["t0_235958.tif", "t1_000001.tif"],
        "midnight with dates": ["20240131_a_235958.tif", "20240201_a_000001.tif"],
        "time of day": ["a_095958.tif", "a_100001.tif", "a_100004.tif"],
        "one time of day": ["20240130_a_100000.tif", "20240131_a_100000.tif"],
        "dates": [f"2024013{d}_stack{n}.tif" for d, n in ((0, 0), (0, 1), (1, 2))],
        "dates apart": ["20240110_t0.tif", "20240110_t1.tif", "20240131_t2.tif"],
        "dates turned": ["img_31012024.tif", "img_01022024.tif"],
        "dates only": ["img_20240131.tif", "img_20240201.tif", "img_20240205.tif"],
        "fields": ["a_00h30.tif", "a_01h00.tif", "a_01h15.tif"],
        "hours": [f"h{n // 2:02d}_m{n % 2 * 30:02d}_t{n}.tif" for n in range(5)],
        "too many": ["c_t0.tif", "c_t1.tif", "c_t99999999.tif"],
    }
    found: dict[str, Any] = {}
    for name, names in series.items():
        for pattern in (None, r"(\d+)", r"(\d+)_stack(\d+)", r"c_([\d.]+)\.tif"):
            try:
                one = series_of(names, pattern)
            except UncertainOrderError:
                found[f"{name} {pattern}"] = "refused"
            else:
                found[f"{name} {pattern}"] = [list(one.point), one.counted, list(one.clock_s)]
    words = ["488 nm", "488nm", "AF488-T1", "GFP+", "ch0"]
    found["channels"] = [normalised(word) for word in words]
    found["mentions"] = [mentions("cell_ch0_488nm_GFP+.tif", word) for word in words]
    found["natural"] = sorted(["t10/b", "t9/a", "T1/a", "x"], key=natural)
    found["times"] = [
        times_of(5, clock, interval)
        for clock, interval in (({}, 2.0), ({1: 3.0, 3: 9.0}, 2.0), ({0: 1.0, 1: 0.5}, 2.0), ({}, None))
    ]
    found["usual"] = [
        usual_interval(clock) for clock in ({}, {0: 0.0, 2: 5.0}, {0: 0.0, 1: 2.0, 2: 7.0, 3: 9.0})
    ]
    return found


def ome_set(folder: Path, data: np.ndarray, files: int, announced: int, own: bool = True) -> list[str]:
    """A set of OME-TIFF files, each with the XML of all; the planes of a frame may lie in two files."""
    frames, depth = data.shape[:2]
    names = [f"set_{n}.ome.tif" for n in range(files)]
    per_file = -(-frames * depth // files)
    places = [(n // depth, n % depth, n // per_file, n % per_file) for n in range(frames * depth)]
    blocks = "".join(
        f'<TiffData FirstT="{t}" FirstZ="{z}" IFD="{page}">'
        f'<UUID FileName="{names[file]}">urn:{file}</UUID></TiffData>'
        for t, z, file, page in places
    )
    clock = "".join(
        f'<Plane TheT="{t}" TheC="0" TheZ="{z}" DeltaT="{3000 * t + z}" DeltaTUnit="ms"/>'
        for t, z, _, _ in places
    )
    for number, name in enumerate(names):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:{number}">'
            '<Image ID="Image:0"><Pixels DimensionOrder="XYZCT" Type="uint16" SizeX="23" SizeY="20" '
            f'SizeZ="{depth}" SizeC="1" SizeT="{announced}"><Channel ExcitationWavelength="488"/>{blocks}'
            f"{clock}</Pixels></Image></OME>"
        )
        if not own:
            (folder / "set.companion.ome").write_text(xml)
            xml = (
                f'<OME UUID="urn:{number}"><BinaryOnly MetadataFile="set.companion.ome" UUID="urn:x"/></OME>'
            )
        planes = np.array([data[t, z] for t, z, file, _ in places if file == number])
        tifffile.imwrite(folder / name, planes, photometric="minisblack", description=xml, metadata=None)
    return names


@STAGE.scene
def meaning_of_files(folder: Path) -> dict[str, Any]:
    """Sets, positions, channels that count differently, planes that the sheet explains, collections."""
    data = counts(0, (4, *SHAPE))
    found: dict[str, Any] = {}
    for name, own, announced in (("set", True, 4), ("companion", False, 4), ("stopped", True, 7)):
        place = folder / name
        place.mkdir()
        names = ome_set(place, data, 3, announced, own)
        found[name] = opened([sheet_row(place / "*.tif")])
        found[f"{name} by one"] = opened([sheet_row(place / ("set.companion.ome" if not own else names[0]))])
        found[f"{name} registered"] = registered([sheet_row(place, interval_s=None)], "skip")
        (place / names[1]).rename(place / "other.tif")
        found[f"{name} renamed"] = opened([sheet_row(place / "*.tif")])
        (place / "other.tif").unlink()
        found[f"{name} lost"] = [
            registered([sheet_row(place / "*.tif")], policy) for policy in ("fail", "skip")
        ]
        (place / names[0]).unlink()
        (place / names[2]).unlink()
        found[f"{name} gone"] = opened([sheet_row(place / "*")])
    with tifffile.TiffWriter(folder / "two.ome.tif", ome=True) as writer:
        for n, name in enumerate(("left", "right")):
            metadata = dict(axes="TZYX", Name=name)
            writer.write(data[n : n + 2], photometric="minisblack", metadata=metadata)
    for position in (None, "Right", "0", "9"):
        found[f"position {position}"] = opened([sheet_row(folder / "two.ome.tif", position=position)])
    flat = folder / "flat.tif"
    tifffile.imwrite(flat, data.reshape(-1, 20, 23), photometric="minisblack", metadata=None)
    for axes in ("t4z4yx", "tz4yx", "z4c4yx", "t3zyx", "tzyx", "zyx"):
        found[f"axes {axes}"] = opened(
            [sheet_row(flat, axes=axes, file_channel="2" if "c" in axes else None)]
        )
    for n, stack in enumerate(data):
        for camera, first, late in (("A", 0, 0), ("B", 1, 300)):
            when, colour = 9000 + 2000 * n + late, 488 + 154 * first
            name = f"cam{camera}_stack{n + first}_{when}msecAbs_{colour}nm.tif"
            tifffile.imwrite(folder / name, stack + first, photometric="minisblack")
            tifffile.imwrite(folder / f"no{camera}_stack{n + first}.tif", stack, photometric="minisblack")
    pairs = {
        "clock": ("camA*.tif", "camB*.tif"),
        "no clock": ("noA*.tif", "noB*.tif"),
        "one path": ("cam*.tif", "cam*.tif"),
        "file and series": ("flat.tif", "camB*.tif"),
        "exchanged": ("camB*.tif", "camA*.tif"),
    }
    for name, (one, other) in pairs.items():
        axes = "t4z4yx" if one == "flat.tif" else None
        rows = [sheet_row(folder / one, axes=axes), sheet_row(folder / other, channel="642 nm")]
        found[name] = opened(rows)
    found["same file twice"] = opened([sheet_row(flat, channel=c) for c in "ab"])
    found["several kinds"] = opened([sheet_row(folder / "*")])
    (folder / "odd").mkdir()
    for name in ("notes.txt", ".hidden.tif"):
        (folder / "odd" / name).write_text("x")
    (folder / "odd" / "lost.tif").symlink_to(folder / "nowhere.tif")
    found["nothing in it"] = opened([sheet_row(folder / "odd")])
    for n in range(2):
        tifffile.imwrite(folder / "odd" / f"a_t{n}.tif", data[n], photometric="minisblack")
    found["other things in it"] = opened([sheet_row(folder / "odd")])
    return found


@STAGE.scene
def lists_of_planes(folder: Path) -> dict[str, Any]:
    """Micro-Manager's lists in one file and several, with gaps, positions and channels; lists that err."""
    data = counts(0, (4, *SHAPE))
    planes = [((t, z), data[t, z]) for t in range(4) for z in range(SHAPE[0])]
    planes = [planes[n] for n in np.random.default_rng(0).permutation(len(planes))]
    indexed = [({"time": t, "z": z}, plane) for (t, z), plane in planes]
    gaps = [({"time": 2 * t, "z": z, "channel": "488"}, plane) for (t, z), plane in planes[:-1]]
    tiles = [
        ({"time": t, "z": z, "row": r, "column": c, "channel": 2 + r}, plane + 10 * r + c)
        for (t, z), plane in planes
        for r in range(2)
        for c in range(2)
    ]
    found: dict[str, Any] = {}
    sets = {"one": (indexed, 99), "split": (indexed, 5), "gaps": (gaps, 7), "tiles": (tiles, 99)}
    for name, (listed, per_file) in sets.items():
        write_ndtiff(folder / name, listed, per_file)
        found[f"index {name}"] = opened([sheet_row(folder / name / "*.tif")])
    found["index by one"] = opened([sheet_row(folder / "split" / "acq_NDTiffStack_2.tif")])
    found["tile"] = opened([sheet_row(folder / "tiles", position="row 1, column 0")])
    write_ndtiff(folder / "different", [*indexed[:3], ({"z": 0}, indexed[3][1])], 99)
    write_ndtiff(folder / "endless", [*indexed[:3], ({"time": 10**9, "z": 0}, indexed[3][1])], 99)
    for name in ("different", "endless"):
        found[f"index {name}"] = opened([sheet_row(folder / name)])
    (folder / "split" / "acq_NDTiffStack_1.tif").unlink()
    found["index lacks a file"] = opened([sheet_row(folder / "split")])
    (folder / "split" / "acq_NDTiffStack_2.tif").rename(folder / "split" / "a_t0.tif")
    found["index renamed"] = opened([sheet_row(folder / "split" / "a_t0.tif")])
    (folder / "one" / "NDTiff.index").unlink()
    found["no index"] = opened([sheet_row(folder / "one")])
    said = dict(Frames=4, Slices=SHAPE[0], Channels=1, Positions=1, ChNames=["488nm"])
    mapped = [((0, z, t, 0), plane) for (t, z), plane in planes]
    maps = {"a_MMStack.tif": mapped, "b_MMStack.tif": mapped[:6], "b_MMStack_1.tif": mapped[6:]}
    maps |= {"c_MMStack.tif": [((), plane) for _, plane in mapped]}
    for name, listed in maps.items():
        write_mm_stack(folder / name, listed, **said)
    for name in ("a_MMStack.tif", "b_MMStack.tif", "b_*.tif", "c_MMStack.tif"):
        found[f"map {name}"] = opened([sheet_row(folder / name)])
    stamps = fingerprint([sheet_row(folder / "b_MMStack.tif")])
    found["stamps"] = [Path(path).name for path, _, _ in stamps]
    write_mm_stack(folder / "b_MMStack_1.tif", mapped[5:], **said)
    found["map twice"] = opened([sheet_row(folder / "b_*.tif")])
    write_listed_tiff(folder / "bits.tif", b"", list(data[0]), bits=12)
    found["12 bits in 16"] = opened([sheet_row(folder / "bits.tif", axes="zyx")])
    return found


def own_ome(path: Path, planes: np.ndarray, *images: str, more: str = "") -> None:
    """An OME-TIFF whose images, each with its date and its clock, are as long as all planes."""
    frames = planes.size // np.prod([*SHAPE])
    pixels = (
        '<Pixels DimensionOrder="XYZCT" Type="uint16" SizeX="23" SizeY="20" SizeZ="4" SizeC="1" '
        f'SizeT="{frames}">'
    )
    xml = "".join(
        f"<Image><AcquisitionDate>2024-01-31T12:00:0{n}</AcquisitionDate>{pixels}{image}</Pixels></Image>"
        for n, image in enumerate(images, int(planes.flat[0]) % 10)
    )
    xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{xml}{more}</OME>'
    pages = planes.reshape(-1, 20, 23)
    tifffile.imwrite(path, pages, photometric="minisblack", description=xml, metadata=None)


@STAGE.scene
def ome_xml_that_errs(folder: Path) -> dict[str, Any]:
    """Pages of several images or of none, phases beside planes, old names, clocks of single files."""
    data = counts(0, (4, *SHAPE))
    found: dict[str, Any] = {}
    phases = '<ModuloAlongZ Type="phase" Start="0" End="1"/>'
    documents = {"two images": (["", ""], ""), "phases": ([""], phases), "steps": ([""], "<ModuloAlongT/>")}
    documents |= {"pages of none": (['<TiffData IFD="4" PlaneCount="4"/>'], "")}
    documents |= {"labels": ([""], "<ModuloAlongT><Label/><Label/></ModuloAlongT>")}
    for name, (images, more) in documents.items():
        own_ome(folder / f"{name}.ome.tif", data, *images, more=more)
        found[name] = opened([sheet_row(folder / f"{name}.ome.tif")])
    for k, stack in enumerate(data):
        clock = f'<Plane TheT="0" TheC="0" TheZ="0" DeltaT="{0.1 * k}"/>'
        old = '<TiffData><UUID FileName="old.tif"/></TiffData>'
        own_ome(folder / f"clock_t{k}.ome.tif", stack, old + clock)
    found["clock of each file"] = opened([sheet_row(folder / "clock_t*.ome.tif")])
    return found


@STAGE.scene
def planes_called_otherwise(folder: Path) -> dict[str, Any]:
    """Files of programs that were told no axes, clocks that cannot be, normalised values."""
    data = counts(0, (3, 5, 20, 23))
    found: dict[str, Any] = {}
    for name, kind in (("a.ome.tif", {}), ("a.tif", {"imagej": True})):
        tifffile.imwrite(folder / name, data, photometric="minisblack", **kind)  # type: ignore[arg-type]
        for cells in ({}, {"axes": "tzyx"}, {"axes": "czyx"}, {"axes": "zcyx", "file_channel": "2"}):
            found[f"{name} {' '.join(cells.values())}"] = opened([sheet_row(folder / name, **cells)])
        tifffile.imwrite(folder / f"one_{name}", data[0], photometric="minisblack", **kind)  # type: ignore[arg-type]
        found[f"one {name}"] = opened([sheet_row(folder / f"one_{name}")])
        tifffile.imwrite(folder / f"few_{name}", data[:, :2], photometric="minisblack", **kind)  # type: ignore[arg-type]
        found[f"few {name}"] = opened([sheet_row(folder / f"few_{name}")])
    timed: dict[str, Any] = {"imagej": True, "metadata": {"axes": "TYX", "finterval": 2.0}}
    for z, planes in enumerate(data.swapaxes(0, 1)):
        tifffile.imwrite(folder / f"times_{z}.tif", planes, **timed)
        tifffile.imwrite(folder / "images.tif", planes, photometric="minisblack", append=z > 0)
    for path in ("times_*.tif", "images.tif"):
        found[path] = opened([sheet_row(folder / path)])
    pointer = '<OME><BinaryOnly MetadataFile="lost.companion.ome" UUID="urn:x"/></OME>'
    tifffile.imwrite(folder / "lost.ome.tif", data[0], description=pointer, metadata=None)
    found["lost"] = opened([sheet_row(folder / "lost.ome.tif")])
    for name, times in {"back": (0, 2, 0, 2), "equal": (0, 2, 2, 4), "zero": (0, 0, 0, 0)}.items():
        clock = "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{s}"/>' for t, s in enumerate(times))
        own_ome(folder / f"{name}.ome.tif", counts(0, (4, *SHAPE)), f"<TiffData/>{clock}")
        row = sheet_row(folder / f"{name}.ome.tif")
        found[name] = [registered([row]), registered([row.model_copy(update={"interval_s": None})])]
    store = zarr.create_array(folder / "a.zarr", shape=(6, 5, 20, 23), chunks=(1, 5, 20, 23), dtype="u2")
    store[:2], store[3] = data[:2], data[2]
    for cells in ({}, {"missing_chunks": "zeros"}):
        row = sheet_row(folder / "a.zarr", axes="tzyx", **cells)
        found[f"stopped {' '.join(cells)}"] = [registered([row], policy) for policy in ("fail", "skip")]
    scores = ((data[0] - 130.0) / 40).astype(np.float32)
    found["normalised"] = outcome(as_counts, scores, "here")
    return found


@STAGE.scene
def files_of_planes_and_parts(folder: Path) -> dict[str, Any]:
    """One plane per file, several time points per file, files that say different things of themselves."""
    data = counts(3, (4, *SHAPE))
    found: dict[str, Any] = {}
    names = {
        "planes": "a_t{t}_z{z}.tif",
        "micro-manager": "img_00000000{t}_488_00{z}.tif",
        "unnamed planes": "a_{t}_{z}.tif",
        "one of each": "a_z{z}_t{t}_c{t}{z}.tif",
    }
    for name, form in names.items():
        (folder / name).mkdir()
        for t, z in np.ndindex(4, SHAPE[0]):
            path = folder / name / form.format(t=t, z=z)
            tifffile.imwrite(path, data[t, z], photometric="minisblack")
        found[name] = opened([sheet_row(folder / name / "*.tif")])
    place = folder / "planes"
    found["of one"] = opened([sheet_row(place / "a_t1_z*.tif")])
    (place / "a_t1_z1.tif").unlink()
    (place / "a_t2_z1.tif").write_bytes(b"II*")
    tifffile.imwrite(place / "a_t3_z1.tif", data[0, 0, :5], photometric="minisblack")
    tifffile.imwrite(place / "a_t0_z4.tif", data[0, 0], photometric="minisblack")
    found["lost planes"] = [registered([sheet_row(place / "*.tif")], policy) for policy in ("fail", "skip")]
    (place / "a_t0_z4.tif").unlink()
    found["a lost plane"] = [registered([sheet_row(place / "*.tif")], policy) for policy in ("fail", "skip")]
    tifffile.imwrite(place / "a_t0_z00.tif", data[0, 0], photometric="minisblack")
    found["twice"] = opened([sheet_row(place / "*.tif")])

    def parts(name: str, files: Sequence[str], **metadata: Any) -> Path:
        (folder / name).mkdir()
        for n, file in enumerate(files):
            own = {key: value[n] for key, value in metadata.items()}
            path = folder / name / file
            single = bool({"Name", "PhysicalSizeX"} & set(own))
            axes = dict(axes="ZYX" if single else "TZYX")
            stack = data[n] if single else data[2 * n : 2 * n + 2] if n < 2 else data[:2, :3]
            tifffile.imwrite(path, stack, ome=True, photometric="minisblack", metadata=axes | own)
        return folder / name / "*.tif"

    def clock(first: float) -> dict[str, list[float]]:
        return dict(DeltaT=[first + 3 * (plane // SHAPE[0]) for plane in range(2 * SHAPE[0])])

    two = ["part1.ome.tif", "part2.ome.tif"]
    found["parts"] = opened([sheet_row(parts("parts", two))])
    found["clock goes on"] = opened(
        [sheet_row(parts("on", ["m1.ome.tif", "m2.ome.tif"], Plane=[clock(0), clock(6)]))]
    )
    found["clock again"] = opened([sheet_row(parts("again", two, Plane=[clock(0), clock(0)]))])
    alone = parts("alone", ["m1.ome.tif", "m2.ome.tif"])
    found["alone"] = [opened([sheet_row(alone, time_point=p)]) for p in (None, r"m(?P<order>\d)", r"m(\d)")]
    found["parts missing"] = opened([sheet_row(parts("missing", ["part1.ome.tif", "part3.ome.tif"]))])
    found["part of another shape"] = opened([sheet_row(parts("odd", [*two, "part3.ome.tif"]))])
    (folder / "parts" / two[1]).write_bytes(b"II*")
    found["a wreck"] = opened([sheet_row(folder / "parts" / "*.tif")])
    found["of its channel"] = opened([sheet_row(parts("channel", ["a_488.ome.tif", "a_642.ome.tif"]))])
    sizes = parts("sizes", ["a_t0.ome.tif", "a_t1.ome.tif"], PhysicalSizeX=[0.1, 0.2])
    found["sizes"] = [registered([sheet_row(sizes, pixel_um=um)]) for um in (None, 0.1)]
    files = [f"a_t{n}.ome.tif" for n in range(3)]
    for name, called in (
        ("shared", ["a", "a", "b"]),
        ("counted", ["a0", "a1", "a2"]),
        ("each", ["a", "b", "c"]),
    ):
        path = parts(name, files, Name=called)
        found[f"names {name}"] = [registered([sheet_row(path, time_point=p)]) for p in (None, r"t(\d)")]
    return found


@STAGE.scene
def stores_of_all_kinds(folder: Path) -> dict[str, Any]:
    """Collections, plates, bare arrays, old versions, chunks that are not there."""
    data = counts(0, (3, *SHAPE))

    def image(path: Path, axes: Any = ("t", "z", "y", "x"), **options: Any) -> Path:
        group = zarr.open_group(path, mode="w", zarr_format=2)
        named = {} if axes is None else {"axes": list(axes)}
        group.attrs["multiscales"] = [{"datasets": [{"path": "0"}], **named}]
        voxels = data[:, None] if axes is None else data
        chunks = (1,) * (voxels.ndim - 2) + (10, 12)
        group.create_array("0", shape=voxels.shape, dtype=">u2", chunks=chunks, **options)[:] = voxels
        return path

    collection, plate = folder / "bf.zarr", folder / "plate.zarr"
    zarr.open_group(collection, mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    image(collection / "0")
    found: dict[str, Any] = {"collection": opened([sheet_row(collection)])}
    image(collection / "1")
    group = zarr.open_group(collection / "OME", mode="w", zarr_format=2)
    group.attrs["series"] = ["1", "0"]
    deltas = "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{7 * t}"/>' for t in range(3))
    (collection / "OME" / "METADATA.ome.xml").write_text(
        f'<OME><Image Name="a"><Pixels SizeT="3" SizeC="1" SizeZ="4">{deltas}</Pixels></Image></OME>'
    )
    found["series"] = [opened([sheet_row(collection, position=p)]) for p in (None, "0", "#0", "#1")]
    zarr.open_group(plate, mode="w", zarr_format=2).attrs["plate"] = {
        "wells": [{"path": "A/1"}, {"path": "B/2"}]
    }
    well = zarr.open_group(plate / "A" / "1", mode="w", zarr_format=2)
    well.attrs["well"] = {"images": [{"path": "0"}]}
    image(plate / "A" / "1" / "0")
    image(plate / "B" / "2" / "0")
    found["plate"] = [opened([sheet_row(plate, position=p)]) for p in (None, "B/2/0")]
    found["old"] = [opened([sheet_row(image(folder / "old.zarr", axes))]) for axes in (None, "tzyx", "tzy?")]
    zarr.create_array(folder / "bare.zarr", data=data)
    zarr.create_array(folder / "named.zarr", data=data, dimension_names=["t", "z", "y", "x"])
    found["bare"] = [
        opened([sheet_row(folder / name, axes=axes)])
        for name, axes in (
            ("bare.zarr", None),
            ("bare.zarr", "t3zyx"),
            ("bare.zarr", "t4zyx"),
            ("named.zarr", None),
        )
    ]
    (folder / "empty.zarr").mkdir()
    zarr.open_group(folder / "empty.zarr", mode="w", zarr_format=2)
    found["empty"] = opened([sheet_row(folder / "empty.zarr")])
    lossy = image(folder / "lossy.zarr")
    (lossy / "0" / "1.2.1.0").unlink()
    found["lost chunk"] = [
        registered([sheet_row(lossy, **changes)], policy)
        for policy, changes in (("fail", {}), ("skip", {}), ("fail", {"missing_chunks": "zeros"}))
    ]
    zarr.open_group(lossy, mode="r+").attrs["write_empty_chunks"] = False
    found["declared"] = registered([sheet_row(lossy)])
    return found


@STAGE.scene
def shards_and_odd_pages(folder: Path) -> dict[str, Any]:
    """Chunks that shards lack, signed counts of ImageJ, appended planes, links, a time point cut short."""
    data = counts(3, (3, *SHAPE))
    found: dict[str, Any] = {}
    options: dict[str, Any] = dict(chunks=(1, 2, 10, 12), shards=(1, 4, 20, 24), dtype=data.dtype)
    for name, harmed in (("whole", False), ("lacking", True)):
        array = zarr.create_array(
            folder / f"{name}.zarr", shape=data.shape, dimension_names=["t", "z", "y", "x"], **options
        )
        array[:] = data
        if harmed:
            array[1, :2, :10, :12] = 0
        found[name] = [
            opened([sheet_row(folder / f"{name}.zarr", missing_chunks=m)]) for m in (None, "zeros")
        ]
    (folder / "lacking.zarr" / "c" / "2" / "0" / "0" / "0").write_bytes(b"short")
    found["cut"] = opened([sheet_row(folder / "lacking.zarr")])
    signs = dict(axes="ZYX", cf=0, c0=-32768, c1=1)
    tifffile.imwrite(folder / "signed.tif", data[0] + np.uint16(32768), imagej=True, metadata=signs)
    found["signed"] = opened([sheet_row(folder / "signed.tif", interval_s=None)])
    for plane in data[0]:
        tifffile.imwrite(folder / "appended.tif", plane, append=True, photometric="minisblack")
    found["appended"] = opened([sheet_row(folder / "appended.tif", interval_s=None)])
    flat = data.reshape(-1, 20, 23)[:-1]
    tifffile.imwrite(folder / "stopped.tif", flat, photometric="minisblack", metadata=None)
    found["stopped"] = registered([sheet_row(folder / "stopped.tif", axes="t3z4yx")], "skip")
    for n, stack in enumerate(data):
        tifffile.imwrite(folder / f"s_t{n}.tif", stack, photometric="minisblack", metadata=None)
    (folder / "s_t3.tif").symlink_to("nowhere.tif")
    found["link"] = registered([sheet_row(folder / "s_t*.tif")], "skip")
    (folder / "s_t3.tif").unlink()
    (folder / "s_t3.tif").symlink_to("s_t0.tif")
    found["twice"] = opened([sheet_row(folder / "s_t*.tif")])
    return found


@STAGE.scene
def the_table(folder: Path) -> dict[str, Any]:
    """What is written is what is read."""
    (folder / "a\tb").mkdir()
    for n in range(3):
        tifffile.imwrite(folder / "a\tb" / f"x_t{n}.tif", counts(n, SHAPE), photometric="minisblack")
    (folder / "a\tb" / "x_t1.tif").write_bytes(b"II*")
    record, table = register_movie([sheet_row(folder / "a\tb" / "*.tif")], READING, "skip")
    table.write(folder / "acquisition.tsv", record.skipped)
    again = AcquisitionTable.read(folder / "acquisition.tsv")
    sources = open_channels("a", again)
    (folder / "bad.tsv").write_text("frame\tchannel\n0\ta\n")
    return {
        "same": [again.stacks == table.stacks, sorted(again.left_out) == sorted(table.left_out)],
        "form": [again.frames, list(again.channels)],
        "times": list(table.times_s),
        "read": [outcome(sources[0].read, frame) for frame in range(3)],
        "bad": outcome(AcquisitionTable.read, folder / "bad.tsv"),
        "none": outcome(AcquisitionTable.read, folder / "none.tsv"),
    }


KINDS: dict[str, dict[str, Any]] = {
    "plain": dict(metadata=None),
    "big": dict(bigtiff=True, byteorder=">", metadata=None),
    "big-endian": dict(byteorder=">"),
    "strips": dict(rowsperstrip=8, metadata=None),
    "tiles": dict(tile=(16, 16)),
    "zlib": dict(compression="zlib", byteorder=">", rowsperstrip=7),
    "imagej": dict(imagej=True, metadata=dict(axes="ZYX"), truncate=True),
    "ome": dict(ome=True, metadata=dict(axes="ZYX")),
}


@STAGE.scene
def tiff_stacks(folder: Path) -> dict[str, Any]:
    """One file per time point, and single files, of every layout."""
    found: dict[str, Any] = {}
    for kind, options in KINDS.items():
        place = folder / kind
        place.mkdir()
        for frame in (2, 4):
            name = place / f"a_t{frame}.tif"
            tifffile.imwrite(name, counts(frame, SHAPE), photometric="minisblack", **options)
        rows = [sheet_row(place / "a_t*.tif")]
        found[kind] = [registered(rows, "skip"), *opened(rows), *opened([sheet_row(place / "a_t4.tif")])]
    two = folder / "two"
    two.mkdir()
    for frame in range(2):
        data = counts(frame, (4, 2, 20, 23))
        tifffile.imwrite(two / f"m_t{frame}.tif", data, imagej=True, metadata=dict(axes="ZCYX"))
        tifffile.imwrite(
            two / f"n_t{frame}.tif", data, compression="zlib", metadata=dict(axes="ZCYX"), ome=True
        )
        tifffile.imwrite(two / f"t_t{frame}.tif", data[:, 0], imagej=True, metadata=dict(axes="TYX"))
        tifffile.imwrite(two / f"c_t{frame}.ome.tif", data[:, 1], metadata=dict(axes="CYX"))
        tifffile.imwrite(two / f"w_t{frame}.ome.tif", data, metadata=dict(axes="TZYX"))
    for name in "mn":
        found[f"two channels {name}"] = opened(
            [sheet_row(two / f"{name}_t*.tif", channel=c, file_channel=c) for c in "12"]
        )
    found["a third channel"] = opened([sheet_row(two / "m_t*.tif", channel=c) for c in "abc"])
    for name in ("t_t*.tif", "c_t*.ome.tif", "w_t*.ome.tif"):
        found[name] = opened([sheet_row(two / name)])
    return found


@STAGE.scene
def tiff_movies(folder: Path) -> dict[str, Any]:
    """A whole movie in one file: axes, channels by name and by place, what the metadata say."""
    lengths = dict(T=3, Z=4, C=2, Y=20, X=23)
    found: dict[str, Any] = {}
    for axes in ("TZCYX", "CTZYX", "ZTCYX"):
        data = counts(0, [lengths[axis] for axis in axes])
        for compression in (None, "zlib"):
            path = folder / f"{axes}{compression}.ome.tif"
            metadata: dict[str, Any] = dict(
                axes=axes, PhysicalSizeX=110, PhysicalSizeXUnit="nm", TimeIncrement=3
            )
            metadata |= dict(PhysicalSizeY=0.11, PhysicalSizeZ=0.25, TimeIncrementUnit="min")
            metadata |= {"Channel": {"Name": ["488nm", "560nm"]}}
            tifffile.imwrite(path, data, compression=compression, ome=True, metadata=metadata)
            names = ("560nm", "488nm") if compression else ("560 nm",)
            found[path.name] = opened([blank_row(path, channel=c) for c in names])
    rows = [blank_row(path, channel=c, scan="none") for c in ("560nm", "488nm")]
    found["registered"] = registered(rows)
    found["no such channel"] = opened([sheet_row(path, channel=c) for c in ("488nm", "b", "c")])
    hyper = folder / "hyper.tif"
    for n, (unit, per) in enumerate(
        {"\\u00B5m": 1 / 0.1, "nm": 0.01, "inch": 3, "micron": 0, "um": 1 / 0.2}.items()
    ):
        options: dict[str, Any] = dict(
            axes="TZCYX", unit=unit, spacing=0.25 * (n + 1), finterval=1.5, tunit="ms"
        )
        options |= {} if n % 2 else dict(tunit="sec")
        data = counts(3, (3, 4, 2, 20, 23))
        tifffile.imwrite(
            hyper, data, imagej=True, resolution=(per, per * (0.9 if unit == "um" else 1)), metadata=options
        )
        rows = [blank_row(hyper, channel=c, file_channel=c, scan="objective") for c in "12"]
        found[f"imagej {unit}"] = [opened(rows), registered(rows)]
    with tifffile.TiffWriter(folder / "thumbnail.tif") as writer:
        writer.write(counts(0, SHAPE), photometric="minisblack", metadata=None)
        writer.write(counts(1, (10, 12)), photometric="minisblack", metadata=None)
    tifffile.imwrite(folder / "rgb.tif", counts(0, (20, 23, 3)).astype(np.uint8), photometric="rgb")
    tifffile.imwrite(folder / "planar.tif", counts(0, (3, 20, 23)), photometric="rgb", compression="zlib")
    for name in ("thumbnail", "rgb", "planar"):
        found[name] = opened([sheet_row(folder / f"{name}.tif")])
        found[f"{name} registered"] = registered([sheet_row(folder / f"{name}.tif")])
    empty = (slice(3, 3), slice(None), slice(4))
    tifffile.imwrite(folder / "packed.tif", counts(0, SHAPE), compression="zlib", metadata=None)
    found["empty parts"] = [
        opened([sheet_row(folder / name)], empty)[0]["part"] for name in ("packed.tif", "thumbnail.tif")
    ]
    return found


@STAGE.scene
def names_in_doubt(folder: Path) -> dict[str, Any]:
    """Runs that were begun again, thousandths after a time, copies beside a series, two of one number."""
    stamps = [f"20240131_11300{s}_{ms}" for s, ms in ((0, "500"), (2, "840"), (5, "180"), (7, "520"))]
    dashes = ["11-30-00-500", "11-30-02-840", "11-30-05-180", "11-30-07-520"]
    series = {
        "run again": [f"c_stack{n}_{9 * i + n}msecAbs.tif" for i in (0, 1) for n in range(3)],
        "run again, bare": [f"c_{n:03d}_20240131_1{i}000{n}.tif" for i in (0, 1) for n in range(2 + i)],
        "run again, in turn": [f"c_{n:03d}_20240131_1{i}000{n}.tif" for i in (0, 1) for n in range(2)],
        "comes to its end": [f"c_stack{(8 + n) % 10}_{n}s.tif" for n in range(4)],
        "thousandths": [f"c_{stamp}.tif" for stamp in stamps],
        "thousandths with dashes": [f"c_{time}.tif" for time in dashes],
        "thousandths without a date": [f"c_{stamp[9:]}.tif" for stamp in stamps],
        "channels after a stamp": [f"c_20240131_11300{n}_{(488, 561)[n % 2]}.tif" for n in range(4)],
        "copy": ["c_t0.tif", "c_t1.tif", "c_t1 (1).tif"],
        "masks": [f"c_t{n}{mask}.tif" for n in (0, 1) for mask in ("", "_mask")],
        "signs of some": ["c_t-1.tif", "c_t0.tif", "c_t1.tif"],
        "twice": ["c_t1.tif", "c_t001.tif", "c_t2.tif"],
        "both endings": ["c_t1.tif", "c_t1.tiff"],
        "two endings": ["c_t1.tif", "c_t2.tiff"],
    }
    found: dict[str, Any] = {}
    for name, names in series.items():
        for pattern in (None, r"(\d{3})\.tif"):
            try:
                one = series_of(names, pattern)
            except UncertainOrderError:
                found[f"{name} {pattern}"] = "refused"
            else:
                found[f"{name} {pattern}"] = [list(one.point), one.counted, list(one.clock_s)]
    return found


@STAGE.scene
def two_counters(folder: Path) -> dict[str, Any]:
    """Two channels whose numbers or clocks differ: of every second time point, in turns, from 1, late."""
    alternate = [f"_stack{n:04d}_{n}s" for n in range(6)]
    pairs = {
        "every second": ([f"_{n}" for n in range(5)], ["_0", "_2", "_4"]),
        "every third": ([f"_{n}" for n in range(7)], ["_0", "_3", "_6"]),
        "from 1": ([f"_t{n}" for n in range(3)], [f"_t{n}" for n in range(1, 4)]),
        "in turns": (["_t0", "_t2", "_t4"], ["_t1", "_t3", "_t5"]),
        "in turns, with a clock": (alternate[::2], alternate[1::2]),
        "shorter": ([f"_t{n}" for n in range(4)], [f"_t{n}" for n in range(3)]),
        "late": (
            [f"_20240131_12000{s}" for s in (0, 2, 4, 6)],
            [f"_20240131_12000{s}" for s in (0, 2, 5, 6)],
        ),
        "late or lost": (
            [f"_20240131_12000{s}" for s in (0, 2, 4, 6)],
            ["_20240131_120000", "_20240131_120005"],
        ),
        "people's numbers": (["_1", "_2", "_3"], ["_1", "_2", "_3"]),
    }
    found: dict[str, Any] = {}
    for name, names in pairs.items():
        for channel, own in zip("ab", names, strict=True):
            for n, text in enumerate(own):
                path = folder / f"{name} {channel}" / f"c{text}.tif"
                path.parent.mkdir(exist_ok=True)
                tifffile.imwrite(path, np.full((2, 3, 5), n + 1, np.uint16), photometric="minisblack")
        rows = [sheet_row(folder / f"{name} {channel}", channel=channel) for channel in "ab"]
        resolved = outcome(resolve, rows, READING)
        if isinstance(resolved, str):
            found[name] = resolved
            continue
        frames = range(resolved.table.frames)
        found[name] = [
            [outcome(lambda n, s=source: int(s.read(n).max()), n) for n in frames]
            for source in sources(resolved)
        ]
        found[f"{name} warnings"] = len(resolved.warnings)
    return found


@STAGE.scene
def tiff_order(folder: Path) -> dict[str, Any]:
    """Time points from names: gaps, a beginning that is not 0, natural order, doubles."""
    series = {
        "gap": [f"Cell1 T{n}.tif" for n in (3, 10, 4, 7)],
        "stacks": [f"a_stack000{n}_t{n + 4}.tif" for n in (2, 1)],
        "natural": [f"a_t{n}.tif" for n in (10, 9, 100)],
        "partly": ["a_t2.tif", "b_9.tif", "b_10.tif"],
        "double": ["a_t1.tif", "b_t01.tif"],
        "after a letter": ["a4_t5.tif", "a4_t4.tif"],
        "two things": ["cat1_t5.tif", "cat2_t4.tif"],
    }
    found: dict[str, Any] = {}
    for name, files in series.items():
        (folder / name).mkdir()
        for n, file in enumerate(files):
            tifffile.imwrite(
                folder / name / file, np.full((2, 3, 5), n + 1, np.uint16), photometric="minisblack"
            )
        resolved = outcome(resolve, [sheet_row(folder / name / "*.tif")], READING)
        if isinstance(resolved, str):
            found[name] = resolved
            continue
        source, frames = sources(resolved)[0], range(resolved.table.frames)
        found[name] = [outcome(lambda n, s=source: int(s.read(n).max()), n) for n in frames]
        found[f"{name} missing"] = [source.stamp(n) is None for n in frames]
    stamped = dated(folder / "gap" / "Cell1 T3.tif", 1000)
    stamp = sources(resolve([sheet_row(stamped)], READING))[0].stamp(0)
    found["stamp"] = stamp == f"{stamped.stat().st_size}:1000"
    return found


@STAGE.scene
def tiff_wrecks(folder: Path) -> dict[str, Any]:
    """Files that are cut, promise more than they hold, or are none."""
    found: dict[str, Any] = {}

    def looked_at(name: str, path: Path) -> None:
        found[name] = [
            registered([sheet_row(path)]).get("problem", False),
            opened([sheet_row(path)]) == "refused",
        ]

    for kind, options in KINDS.items():
        whole = folder / f"{kind}.tif"
        tifffile.imwrite(whole, counts(0, SHAPE), photometric="minisblack", **options)
        content = whole.read_bytes()
        for name, size in {"last byte": len(content) - 1, "half": len(content) // 2, "whole": None}.items():
            whole.write_bytes(content[:size])
            looked_at(f"{kind} {name}", whole)
        whole.write_bytes(content)
        with tifffile.TiffFile(whole) as tif:
            description = tif.pages.first.description
        for planes in (3, 4):
            with tifffile.TiffWriter(folder / "short.tif", bigtiff=kind == "big") as writer:
                for n, plane in enumerate(counts(0, SHAPE)[:planes]):
                    said = description if n == 0 and kind in ("imagej", "ome") else None
                    writer.write(
                        plane, contiguous=False, photometric="minisblack", metadata=None, description=said
                    )
            looked_at(f"{kind} {planes} planes", folder / "short.tif")
    for kind, (big, order) in {"little": (False, "<"), "big": (True, ">")}.items():
        path = folder / f"cut_{kind}.tif"
        with tifffile.TiffWriter(path, bigtiff=big, byteorder=order) as writer:
            for plane in counts(0, SHAPE):
                writer.write(plane, contiguous=False, photometric="minisblack", metadata=None)
        with tifffile.TiffFile(path) as tif:
            end = max(page.dataoffsets[0] + page.databytecounts[0] for page in map(tif.pages.get, range(3)))
            fourth = tif.pages[3].offset
        content = path.read_bytes()
        for name, size in {"after three planes": max(end, fourth), "in the fourth": fourth + 20}.items():
            path.write_bytes(content[:size])
            looked_at(f"{kind} {name}", path)
    for number, content in enumerate([b"", b"no tiff", b"II*\x00\x08\x00\x00\x00"]):
        (folder / "none.tif").write_bytes(content)
        looked_at(f"no tiff {number}", folder / "none.tif")
    for frame in range(3):
        tifffile.imwrite(folder / f"w_t{frame}.tif", counts(frame, SHAPE), metadata=None)
    (folder / "w_t0.tif").write_bytes(b"II*")
    found["first is a wreck"] = [registered([sheet_row(folder / "w_t*.tif")], p) for p in ("skip", "fail")]
    for frame in range(3):
        (folder / f"w_t{frame}.tif").write_bytes(b"II*")
    found["all are"] = registered([sheet_row(folder / "w_t*.tif")], "skip")
    return found


@STAGE.scene
def czi_movies(folder: Path) -> dict[str, Any]:
    """Planes of CZI files in every compression, from whichever time, channel and plane they start."""
    data = counts(0, (2, 2, 3, 20, 24), 90, 4000)
    places = [(t, c, z) for t in range(2) for c in range(2) for z in range(3)]
    planes = [CziPlane(data[t, c, z], dict(T=t + 1, C=c, Z=z + 5, S=1)) for t, c, z in places]

    def packed(plane: np.ndarray, kind: str) -> dict[str, Any]:
        if kind == "jpeg xr":
            return dict(compression=4, stored=imagecodecs.jpegxr_encode(plane))
        if kind == "zstd":
            return dict(compression=5, stored=imagecodecs.zstd_encode(plane.tobytes()))
        if kind == "lzw":
            return dict(compression=2, stored=bytes(64))
        apart = np.frombuffer(plane.tobytes(), np.uint8).reshape(-1, 2).T.tobytes()
        head, content = {
            "header of 1": (bytes([1]), plane.tobytes()),
            "header of 3": (bytes([3, 1, 0]), plane.tobytes()),
            "bytes apart": (bytes([3, 1, 1]), apart),
        }[kind]
        return dict(compression=6, stored=head + imagecodecs.zstd_encode(content))

    def rows(path: Path, **changes: object) -> list[SheetRow]:
        return [blank_row(path, channel=c, **changes) for c in ("560nm", "488nm")]

    path = folder / "a.czi"
    found: dict[str, Any] = {}
    write_czi(path, planes, CziText())
    found["skewed"] = [opened(rows(path)), registered(rows(path))]
    found["in part"] = opened(rows(path)[:1], (slice(2, None), slice(None, 3), slice(20, 40)))
    for kind in ("jpeg xr", "zstd", "header of 1", "header of 3", "bytes apart", "lzw"):
        write_czi(path, [replace(p, **packed(p.voxels, kind)) for p in planes[:3]], CziText())
        found[kind] = opened(rows(path)[1:])
    small = data[0, 0].astype(np.uint8)
    head = bytes([3, 1, 1]) + imagecodecs.zstd_encode(small[0].tobytes())
    write_czi(path, [CziPlane(small[0], dict(Z=0), compression=6, stored=head)], CziText(channels=()))
    found["bytes of one"] = opened(rows(path)[1:])
    pyramid = CziPlane(data[0, 0, 0, :5, :6], dict(T=1, C=0, Z=5), pyramid=1)
    write_czi(path, [*planes, pyramid], CziText())
    found["pyramid"] = registered(rows(path))
    for shear in ("None", "Skew0", "Skew01", "Skew89", "Skew90", " Skew45 ", "Skew4x"):
        write_czi(path, planes[:3], CziText(shear=shear, interval="0"))
        found[f"shear {shear}"] = [said_of(resolve(rows(path)[1:], READING).said[0])]
        found[f"shear {shear}"].append(registered(rows(path, scan="none", interval_s=1)[1:]))
    write_czi(path, planes, CziText(xyz_m=(1e-7, 1.1e-7, 2e-7)))
    found["oblong"] = [said_of(resolve(rows(path), READING).said[0]), registered(rows(path))]
    write_czi(path, planes[:3], CziText(xyz_m=(2e-7,), channels=()))
    found["little is said"] = [said_of(resolve(rows(path)[1:], READING).said[0])]
    write_czi(path, planes[:3], None)
    found["nothing is said"] = opened(rows(path)[1:])
    write_czi(path, [], CziText())
    found["no planes"] = opened(rows(path))
    write_czi(path, [replace(p, place={**p.place, "S": p.place["T"]}) for p in planes], CziText(scenes="ab"))
    found["scenes"] = opened(rows(path))
    write_czi(path, [*planes, replace(planes[0], place={**planes[0].place, "M": 1})], CziText())
    found["mosaic"] = opened(rows(path))
    write_czi(path, planes[:-4] + planes[-3:], CziText())
    found["a plane is missing"] = [registered(rows(path), "skip"), registered(rows(path)), opened(rows(path))]
    other = replace(planes[-1], voxels=planes[-1].voxels[:7])
    write_czi(path, [*planes[:-1], other], CziText())
    found["a plane of another shape"] = registered(rows(path), "skip")
    write_czi(path, [*planes[:-1], replace(planes[-1], voxels=planes[-1].voxels.astype(np.uint8))], CziText())
    found["a plane of another dtype"] = registered(rows(path), "skip")
    write_czi(path, planes, CziText())
    size = path.stat().st_size
    for name, where in {"at": size, "before": size - 1, "after": size + 1}.items():
        write_czi(path, [*planes[:-1], replace(planes[-1], position=where)], CziText())
        found[f"a plane {name} the end"] = registered(rows(path), "skip").get("skipped")
    shutil.copy(path, folder / "b.czi")
    found["two files"] = opened(rows(folder / "?.czi"))
    stamped = resolve(rows(dated(write_czi(folder / "C.CZI", planes, CziText()), 7000)), READING)
    found["stamp"] = [stamped.table.frames, str(sources(stamped)[0].stamp(1)).endswith(":7000")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "czifile", None)
        found["without the package"] = opened(rows(path))
    return found


@STAGE.scene
def ome_zarr_movies(folder: Path) -> dict[str, Any]:
    """Stores of both versions: axes, scales of levels and of all, units, channel names."""

    def written(name: str, axes: str, image: dict[str, Any], extra: dict[str, Any], version: int) -> Path:
        lengths = dict(t=3, c=2, z=4, y=20, x=23)
        group = zarr.create_group(folder / name, zarr_format=2 if version == 4 else 3)
        data = counts(len(axes), [lengths[axis] for axis in axes])
        group.create_array("s0", data=data)
        group.create_array("s1", data=data[..., ::2])
        units = dict(t="second", z="micrometer", y="micrometer", x="nanometer", c=None)
        described = [{"name": a} | ({"unit": units[a]} if units[a] else {}) for a in axes]
        ome = {"multiscales": [{"axes": described, **image}], **extra}
        group.attrs.update(ome if version == 4 else {"ome": ome})
        return folder / name

    def scaled(*scales: Sequence[float]) -> list[dict[str, Any]]:
        return [{"type": "scale", "scale": list(scale)} for scale in scales]

    levels = [
        {"path": "s0", "coordinateTransformations": scaled((2, 1, 0.3, 0.11, 110.0))},
        {"path": "s1", "coordinateTransformations": scaled((2, 1, 0.3, 0.11, 220.0))},
    ]
    whole: dict[str, Any] = {"datasets": levels, "coordinateTransformations": scaled((1.5, 1, 2, 1, 1))}
    shift = [{"type": "translation", "translation": [0, 5, 5, 5]}]
    named = {"omero": {"channels": [{"label": "488nm"}, {"label": "560nm"}]}}
    five = written("five.ome.zarr", "tczyx", whole, named, 5)
    four = written(
        "four.zarr", "tzyx", {"datasets": [{"path": "s0", "coordinateTransformations": shift}]}, {}, 4
    )
    upside = written("upside.zarr", "zcxy", {"datasets": [{"path": "s1"}]}, {"omero": {"channels": [{}]}}, 4)
    found: dict[str, Any] = {
        name: [opened([blank_row(path, channel=c, scan="none", file_channel=n) for c, n in channels])]
        for name, path, channels in (
            ("five", five, [("560nm", None), ("488nm", None)]),
            ("four", four, [("a", None)]),
            ("upside", upside, [("a", "1"), ("b", "2")]),
        )
    }
    found["registered"] = registered([blank_row(five, scan="none")])
    found["too many channels"] = opened([blank_row(four, channel=c) for c in "ab"])
    found["two"] = opened([blank_row(folder / "f*zarr")])
    found["none"] = opened([blank_row(folder / "none*.zarr")])
    (folder / "empty").mkdir()
    found["no store"] = opened([blank_row(folder / "empty")])
    members = [p for p in four.rglob("*") if p.is_file()]
    for number, member in enumerate(members):
        dated(member, 1000 + number)
    source = sources(resolve([blank_row(four)], READING))[0]
    found["stamp"] = source.stamp(0) != source.stamp(1)
    return found


@STAGE.scene
def geometry_of_a_movie(folder: Path) -> dict[str, Any]:
    """Which of sheet and files counts, what they disagree in, and what is missing."""
    full = FileMetadata(
        pixel_um=0.2, pixel_y_um=0.2, plane_spacing_um=0.6, step_um=0.5, interval_s=4.0, scan="stage",
        angle_deg=40.0, skew_axis="y", scan_sign=-1, origin="one",
    )  # fmt: skip
    ome = FileMetadata(pixel_um=0.3, pixel_y_um=0.3, plane_spacing_um=0.7, interval_s=5.0, origin="two")
    bare = blank_row("x.tif")
    cases: dict[str, tuple[SheetRow, list[FileMetadata], int]] = {
        "sheet": (sheet_row("x.tif"), [], 2),
        "sheet and files": (sheet_row("x.tif"), [full, ome], 2),
        "files": (bare, [full, ome], 2),
        "files, other order": (bare, [ome, full], 2),
        "no interval for one": (bare, [replace(full, interval_s=None)], 1),
        "no interval for two": (bare, [replace(full, interval_s=None)], 2),
        "spacing is no step": (bare, [replace(full, step_um=None)], 2),
        "nothing": (bare, [], 2),
        "only a spacing": (bare, [ome], 1),
        "round": (bare, [replace(full, pixel_y_um=0.2 * 1.0009)], 2),
        "oblong": (bare, [replace(full, pixel_y_um=0.2 * 1.0012)], 2),
        "oblong beside": (sheet_row("x.tif"), [replace(full, pixel_um=0.104, pixel_y_um=0.11)], 2),
        "oblong second": (bare, [full, replace(ome, pixel_y_um=0.31)], 2),
        "no y": (bare, [replace(full, pixel_y_um=None)], 2),
        "only y": (bare, [replace(full, pixel_um=None), ome], 2),
        "nearly": (sheet_row("x.tif", pixel_um=0.2, interval_s=4.0036, angle_deg=40.0), [full], 2),
        "barely": (sheet_row("x.tif", pixel_um=0.2, interval_s=4.0044, angle_deg=40.0), [full], 2),
        "of the larger": (sheet_row("x.tif", pixel_um=0.2, interval_s=1000.0, angle_deg=40.0, step_um=0.5), [
            replace(full, interval_s=1001.0005)], 2),
    }  # fmt: skip
    for scan in ("stage", "objective", "z-stage", "none"):
        cases[f"{scan} in the sheet"] = (blank_row("x.tif", scan=scan), [full, ome], 2)
        cases[f"{scan} in a file"] = (bare, [replace(full, scan=scan), ome], 2)
        cases[f"{scan} alone"] = (blank_row("x.tif", scan=scan, pixel_um=0.1), [], 1)
        for absent in ("pixel_um", "step_um", "angle_deg", "skew_axis", "scan_sign", "interval_s"):
            cases[f"{scan} without {absent}"] = (sheet_row("x.tif", scan=scan, **{absent: None}), [], 2)

    def settled(row: SheetRow, said: list[FileMetadata], frames: int) -> Any:
        acquisition, warnings = settle_acquisition(row, said, frames)
        about = asdict(acquisition)
        return about | {"sources": sorted(about["sources"]), "warnings": len(warnings)}

    return {name: outcome(settled, *case) for name, case in cases.items()}


@STAGE.scene
def registered_movies(folder: Path) -> dict[str, Any]:
    """Frames that are missing or odd, channels that differ, calibrations that are not there."""

    def series(name: str, stacks: Sequence[np.ndarray | None]) -> str:
        (folder / name).mkdir()
        for frame, stack in enumerate(stacks):
            if stack is not None:
                tifffile.imwrite(folder / name / f"a_t{frame}.tif", stack, photometric="minisblack")
        return f"{name}/a_t*.tif"

    usual, small = counts(0, (3, 6, 7)), counts(1, (3, 5, 7))
    movies = {
        "good": [usual] * 3,
        "gap": [usual, None, usual, None, usual],
        "odd shape": [small, usual, usual],
        "tie": [small, usual],
        "odd dtype": [usual, usual.astype(np.uint8), usual],
        "float": [usual.astype(np.float32)] * 2,
        "int": [usual.astype(np.int32)] * 2,
        "double": [usual.astype(np.float64)] * 2,
        "byte": [usual.astype(np.uint8)] * 2,
        "two planes": [usual[:2]] * 2,
        "one plane": [usual[:1]] * 2,
        "flat": [usual[0]],
        "four": [counts(0, (2, 2, 6, 7))] * 2,
    }
    paths = {name: series(name, stacks) for name, stacks in movies.items()}
    found = {
        name: [registered([sheet_row(folder / path)], policy) for policy in ("fail", "skip")]
        for name, path in paths.items()
    }

    def together(one: str, other: str, policy: str = "skip", **changes: object) -> dict[str, Any]:
        rows = [sheet_row(folder / paths[one]), sheet_row(folder / paths[other], channel="560nm", **changes)]
        return registered(rows, policy)

    (folder / "dark.tif").touch()
    write_settings(folder / "good" / "a_Settings.txt", angle="33", devices={"S PZT": ("0.4",)})
    return found | {
        "two channels": together("good", "tie"),
        "channels differ": together("tie", "two planes"),
        "dtypes differ": together("good", "odd dtype"),
        "one frame less": together("good", "gap"),
        "dark is there": together("good", "odd dtype", dark=str(folder / "dark.tif")),
        "flat is not": together("good", "good", dark="5", flat=str(folder / "flat.tif")),
        "settings": registered([blank_row(folder / paths["good"], skew_axis="y", interval_s=3)]),
        "no axis": registered([blank_row(folder / paths["good"], interval_s=3)]),
        "no file": registered([sheet_row(folder / "none_*.tif")]),
    }


@STAGE.scene
def counts_of_a_stack(folder: Path) -> dict[str, Any]:
    """What is an image of camera counts, and which counts it becomes."""
    stacks: dict[str, np.ndarray] = {
        "bytes": np.array([0, 7, 255], np.uint8),
        "counts": np.array([0, 7, 65535], np.uint16),
        "halves": np.array([0.5, 1.5, 2.5, 2.51, 99.49], np.float32),
        "just below 0": np.array([-0.5, 5], np.float32),
        "below 0": np.array([-0.51, 5], np.float32),
        "top": np.array([1, 65535], np.float32),
        "above": np.array([1, 65535.5], np.float64),
        "two": np.array([0, 2], np.float32),
        "fractions": np.array([0, 1.99], np.float32),
        "integers": np.array([-3, 7, 70000], np.int32),
        "zeros": np.zeros(3, np.uint16),
        "one not zero": np.array([0, 0, 1], np.uint16),
        "nan": np.array([1, np.nan, 5], np.float32),
        "inf": np.array([1, np.inf, 5], np.float32),
        "ones": np.array([1, 1, 1], np.int64),
    }
    return {
        name: [outcome(check_content, 0, stack, "here"), outcome(as_counts, stack, "here")]
        for name, stack in stacks.items()
    }


def told(record: MovieRecord) -> dict[str, Any]:
    """All of a record but the software that made it."""
    return {name: value for name, value in asdict(record).items() if name != "made"}


@STAGE.scene
def records(folder: Path) -> dict[str, Any]:
    """A movie's record, written and read again."""
    acquisition = Acquisition(
        scan="stage", angle_deg=31.5, step_um=0.4, pixel_um=0.1, interval_s=None, skew_axis="x", scan_sign=-1
    )
    record = MovieRecord(
        movie="a", channels=["x"], paths=["p"], train=True, acquisition=acquisition, frames=3,
        shape_zyx=(3, 4, 5), dtype="uint16", skipped={2: "gone"}, warnings=["w"],
    )  # fmt: skip
    bad = replace(record, problem="no", acquisition=None)
    found: dict[str, Any] = {}
    for name, one in {"good": record, "bad": bad, "odd": replace(record, problem="no")}.items():
        one.write(folder / f"{name}.json")
        again = MovieRecord.read(folder / f"{name}.json")
        found[name] = [told(again), again == one, outcome(again.usable)]
    found["bare"] = outcome(MovieRecord(movie="a", channels=[], paths=[], train=False).usable)
    patterns = [r"t(\d+)", r"t\d+", r"(t)(\d+)", r"t(\d+"]
    found["time points"] = [_is_valid(pattern) for pattern in patterns]
    return found


def _is_valid(pattern: str) -> bool:
    try:
        return ReadingParameters(time_point=pattern).time_point == pattern
    except ValueError:
        return False


class _Outputs(set[int]):
    """Frames that are there."""

    def identity(self, frame: int) -> str | None:
        return "there" if frame in self else None

    def is_intact(self, frame: int) -> bool:
        return frame in self


@STAGE.scene
def frames_of_a_ledger(folder: Path) -> dict[str, Any]:
    """Which frames are computed, for which reason, and what is kept of them."""
    path = folder / "ledger" / "frames.jsonl"
    computed: list[int] = []
    asked: list[int] = []
    outputs = _Outputs()

    def first(frame: int) -> int:
        if frame == 3:
            raise BadInputError("x", found="a", expected="b", remedy="c")
        computed.append(frame)
        return frame * 10

    def second(value: int) -> FrameResult:
        outputs.add(value // 10)
        return FrameResult(output=f"out {value}", content=f"in {value}", facts={"value": value})

    def unchanged(frame: int, entry: Entry) -> bool:
        asked.append(frame)
        return frame == 1 and entry.content == "in 10"

    def run(key: str = "k", stamps: str = "aaaaa", skip_bad: bool = True) -> dict[str, Any]:
        computed.clear()
        asked.clear()
        job = FrameJob(
            ledger=FrameLedger(path), description="", key=key, stamps=dict(enumerate(stamps)),
            steps={"first": first, "second": second}, stores=[outputs], unchanged=unchanged,
            skip_bad=skip_bad,
        )  # fmt: skip
        entries = outcome(job.run)
        lines = path.read_text().splitlines()
        if isinstance(entries, str):
            return {"entries": entries, "computed": len(computed) < 5}
        kept = [
            [
                *(e.frame, e.key, e.stamp, e.content, e.output, e.skipped is not None, e.facts),
                len(e.seconds.keys() & {"first", "second"}),
            ]
            for e in entries
        ]
        return {
            "entries": kept,
            "computed": sorted(computed),
            "asked": sorted(asked),
            "lines": len(lines),
            "record": sorted(StageRecord.of(["s"], entries, {"a": 1}).checksums),
        }

    found: dict[str, Any] = {"new": run(), "again": run(), "touched": run(stamps="abbba")}
    found["touched again"] = run(stamps="abbba")
    found["longer"] = run(stamps="abbbac")
    outputs -= {0, 5}
    found["gone"] = run(stamps="abbbac")
    found["other key"] = run(key="l", stamps="abbbac")
    with path.open("a") as file:
        file.write('{"frame": 0, "key": "torn')
    found["torn"] = run(key="l", stamps="abbbac")
    found["fewer"] = run(key="l", stamps="ab")
    FrameLedger(path).reopen(1)
    found["reopened"] = run(key="l", stamps="abbbac")
    found["a bad frame ends it"] = run(key="m", skip_bad=False)
    torn = folder / "torn.jsonl"
    torn.write_text('{"frame": 7}\n[]\n{"frame": 1, "key": "k", "stamp": "s"}\n{"frame"')
    ledger = FrameLedger(
        torn, known={0: Entry(frame=0, key="x", stamp="y"), 1: Entry(frame=1, key="x", stamp="y")}
    )
    ledger.add(Entry(frame=2, key="k", stamp="s"))
    found["torn lines"] = [ledger.entries, FrameLedger(torn).entries, len(torn.read_text().splitlines())]
    record = StageRecord(stores=["s"], checksums={1: "a"}, skipped={0: "b"}, about={"n": 1})
    record.write(folder / "record.json")
    found["record"] = [
        StageRecord.read(folder / "record.json"),
        StageRecord.read(folder / "record.json") == record,
    ]
    skipping = [
        Entry(frame=n, key="k", stamp="s", output=str(n), skipped="bad" if n else None) for n in range(3)
    ]
    found["skipping"] = StageRecord.of(["s"], skipping, {})
    calls: list[int] = []

    def calibration() -> dict[str, Any]:
        calls.append(1)
        return {"value": 10 * len(calls)}

    found["remembered"] = [remembered(folder / "c.json", key, calibration) for key in ("a", "a", "b", "a")]
    return found


@STAGE.scene
def parts_of_a_movie(folder: Path) -> dict[str, Any]:
    """Which frames a job has, which ledger it writes to, and how ledgers come together."""
    texts = ("all", "0-50", "3-6", "6-9", "0-0", "4-4")
    parts = {text: Part.parse(text) for text in texts}
    found: dict[str, Any] = {
        text: [asdict(part), part.completes, part.prepares, part.of(range(12)), part == WHOLE]
        for text, part in parts.items()
    }
    path = folder / "deskew.jsonl"
    entry = lambda frame, key="k": Entry(frame=frame, key=key, stamp="s")  # noqa: E731
    common = parts["all"].ledger(path)
    common.add(entry(0))
    common.add(entry(3, "old"))
    found["ledgers"] = {text: part.ledger(path).path.name for text, part in parts.items()}
    first = parts["3-6"].ledger(path)
    found["known"] = sorted(first.entries)
    first.add(entry(3))
    first.add(entry(4, "of the part"))
    beside(first, "-7").add(entry(4, "of a process"))
    parts["6-9"].ledger(path).add(entry(6))
    (folder / "deskewed.jsonl").write_text("")
    together = collected(parts["all"].ledger(path))
    found["together"] = {frame: each.key for frame, each in sorted(together.entries.items())}
    found["left"] = sorted(p.name for p in folder.iterdir())
    found["lines"] = len(path.read_text().splitlines())
    found["again"] = FrameLedger(path).entries == together.entries
    return found


LAYOUT = StoreLayout(
    shape_czyx=(2, 3, 100, 203), dtype="uint16", voxel_um=(0.3, 0.1, 0.1), origin_um=(1.0, 2.0, 3.0),
    interval_s=2.5, channels=("488nm", "560nm"),
)  # fmt: skip


@STAGE.scene
def stores(folder: Path) -> dict[str, Any]:
    """Levels, voxels and metadata of stores, and when one is begun anew."""

    def about(layout: StoreLayout) -> dict[str, Any]:
        metadata = ome_metadata(layout)
        image = metadata["multiscales"][0]
        channels = metadata.get("omero", {}).get("channels", [])
        return {
            "factors": layout.level_factors(),
            "axes": image["axes"],
            "levels": [dataset["coordinateTransformations"] for dataset in image["datasets"]],
            "windows": [channel["window"] for channel in channels],
            "colours": [len(channel["color"]) for channel in channels],
            "is labels": "image-label" in metadata,
        }

    layouts = {
        "image": LAYOUT,
        "tall": replace(
            LAYOUT, shape_czyx=(3, 300, 96, 97), channels=("a", "640", "GFP 405/488"), dtype="uint8"
        ),
        "fine z": replace(
            LAYOUT, shape_czyx=(1, 200, 100, 200), voxel_um=(0.1, 0.16, 0.149), channels=("a",)
        ),
        "flat": replace(LAYOUT, shape_czyx=(1, 2, 500, 400), channels=("a",), interval_s=None),
        "labels": replace(LAYOUT, shape_czyx=(1, 3, 9, 9), dtype="uint32", channels=("a",), kind="labels"),
        "map": replace(LAYOUT, shape_czyx=(2, 3, 100, 300), dtype="float16", kind="map"),
        "features": replace(LAYOUT, shape_czyx=(2, 40, 100, 30), dtype="float16", kind="features"),
    }
    found: dict[str, Any] = {name: about(layout) for name, layout in layouts.items()}
    for name, layout in layouts.items():
        store = FrameStore.prepare(folder / name, layout, 2, {"n": 1})
        arrays = [zarr.open_array(folder / name / str(n)) for n in range(len(layout.level_factors()))]
        found[f"{name} arrays"] = [[a.shape, a.chunks, a.shards, str(a.dtype)] for a in arrays]
        found[f"{name} store"] = [store.shape, store.voxel_um, store.origin_um, sorted(store.about)]
    path = folder / "image"
    store = FrameStore.prepare(path, LAYOUT, 2, {"n": 2})
    data = np.stack([counts(0, (3, 100, 203)), counts(1, (3, 100, 203), 0, 9)])
    written = store.write(1, data)
    found["levels"] = [
        zarr.open_array(path / str(n))[1][..., :7, -8:] for n in range(len(LAYOUT.level_factors()))
    ]
    found["whole levels"] = [zarr.open_array(path / str(n))[1] for n in range(len(LAYOUT.level_factors()))]
    found["has"] = [store.has(0), store.has(1)]
    (path / "0/c/1/1/0/0/0").unlink()
    found["has one channel"] = store.has(1)
    store.write(1, data)
    box = (slice(1, 3), slice(5), slice(7, 9))
    found["read"] = [store.read(1), store.read(1, 1, box), store.read(1, slice(None), box)]
    store.set_display([(1, 20), (3.5, 40)])
    store.write(0, np.zeros_like(data))
    found["zeros are there"] = store.has(0)
    shown: Any = zarr.open_group(path).attrs["ome"]
    found["shown"] = [channel["window"] for channel in shown["omero"]["channels"]]
    longer = FrameStore.prepare(path, LAYOUT, 3, {"n": 3})
    found["longer"] = [longer.shape, longer.has(1), longer.has(2), longer.about["n"], longer.read(1, 0, box)]
    changes: dict[str, dict[str, Any]] = {
        "same": {}, "interval": dict(interval_s=3.0), "voxel": dict(voxel_um=(0.3, 0.1, 0.11)),
        "origin": dict(origin_um=(0.0, 2.0, 3.0)), "names": dict(channels=("488nm", "561nm")),
        "dtype": dict(dtype="uint8"), "shape": dict(shape_czyx=(2, 3, 100, 204)), "kind": dict(kind="map"),
    }  # fmt: skip
    for name, change in changes.items():
        shutil.copytree(path, folder / "copy")
        found[f"kept with {name}"] = FrameStore.prepare(
            folder / "copy", replace(LAYOUT, **change), 3, {}
        ).has(1)
        shutil.rmtree(folder / "copy")
    part = Part(1, 2)
    found["parts"] = [
        outcome(lambda f, at: FrameStore.prepare(path, at, f, {}, part).has(1), frames, layout)
        for frames, layout in ((3, LAYOUT), (2, LAYOUT), (3, layouts["map"]))
    ]
    found["no store for a part"] = (
        outcome(FrameStore.prepare, folder / "none", LAYOUT, 1, {}, part) == "refused"
    )
    floats = FrameStore.prepare(folder / "floats", replace(LAYOUT, dtype="float32"), 1, {})
    floats.write(0, data.astype(np.float32) + 0.25)
    found["floats"] = zarr.open_array(folder / "floats" / "1")[0][..., :3, :4]
    shard = path / "0/c/1/0/0/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 255
    shard.write_bytes(bytes(content))
    found["damaged"] = outcome(FrameStore(path).read, 1, 0)
    same = checksum(data.copy()) == checksum(data)
    views = [data.view(np.int16), data.reshape(3, 2, 100, 203), data[:, ::-1], data[..., ::-1].copy()]
    found["checksums"] = [
        same,
        written == checksum(data),
        len(written),
        *(checksum(v) == written for v in views),
    ]
    return found


@STAGE.scene
def what_made_a_result(folder: Path) -> dict[str, Any]:
    """The version of results decides; the hash of the code sees what a module imports, not its documents."""
    stage = "deskew"
    version = str(STAGES[stage].version)
    texts = {
        "toy/__init__.py": "",
        "toy/one.py": '"""One."""\nfrom toy import two\n\n\ndef g():\n    return 1\n',
        "toy/two.py": "import os\nimport toy.three\nA = 1\n",
        "toy/three.py": 'def f():\n    """Three."""\n    return 1\n',
        "toy/four.py": "A = 1\n",
        "toy/templates/page.html": "<p>1</p>",
    }
    changes = {
        "documents": ("toy/one.py", '"""One."""', '"""Uno."""  # so'),
        "of a function": ("toy/three.py", '"""Three."""', '"""Tre."""'),
        "itself": ("toy/one.py", "return 1", "return 2"),
        "imported": ("toy/two.py", "A = 1", "A = 2"),
        "imported by an imported one": ("toy/three.py", "return 1", "return 2"),
        "not imported": ("toy/four.py", "A = 1", "A = 2"),
        "a package": ("toy/__init__.py", "", "A = 1"),
        "a template": ("toy/templates/page.html", "1", "2"),
    }
    caches = [provenance.code_hash, provenance._module_hash, provenance._imports, provenance._folder]
    caches += [provenance._file, provenance._tree]

    def hashed() -> str:
        for cache in caches:
            cache.cache_clear()
        return provenance.code_hash("toy.one")

    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "PACKAGES", ("toy",))
        patch.syspath_prepend(str(folder))
        before = hashed()
        seen_changes = {}
        for name, (file, old, new) in changes.items():
            (folder / file).write_text(texts[file].replace(old, new, 1))
            seen_changes[name] = hashed() != before
            (folder / file).write_text(texts[file])
        again = hashed() == before
        unknown = []
        for module in ("toy.none", "json"):
            with pytest.raises(ModuleNotFoundError):
                provenance.code_hash(module)
            unknown.append(module)
        patch.setattr(provenance, "PACKAGES", ("toy", "no_such_package"))
        with pytest.raises(ModuleNotFoundError):
            provenance.code_hash("no_such_package.one")
    for cache in caches:
        cache.cache_clear()
    return {
        "changes": seen_changes,
        "again": again,
        "unknown": unknown,
        "software": sorted(provenance.software()),
        "of a stage": sorted(provenance.software(stage)),
        "version": provenance.identity(stage) == version,
        "code": provenance.identity(stage, "code") == f"{version}-{provenance.stage_code(stage)}",
        "length": len(provenance.stage_code(stage)),
    }


def test_results_of_the_register(tmp_path: Path, write_golden: bool) -> None:
    STAGE.check(tmp_path, write=write_golden)
