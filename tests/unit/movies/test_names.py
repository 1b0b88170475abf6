"""Names of the files of a series: every scheme that laboratories use, and what must not be guessed."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatialdino_core.movies.hints import globs_of, pattern_of
from spatialdino_core.movies.names import mentions, normalised
from spatialdino_core.movies.number_columns import UncertainOrderError
from spatialdino_core.movies.order import series_of

LLSM = "{prefix}_ch0_stack{n:04d}_488nm_{ms:07d}msec_{abs:010d}msecAbs_000x_000y_000z_0000t.tif"


def order(names: list[str], pattern: str | None = None) -> list[str]:
    """The names in order of time, given in any order."""
    shuffled = random.Random(0).sample(names, len(names))
    point = dict(zip(shuffled, series_of(shuffled, pattern).point, strict=True))
    assert len(set(point.values())) == len(names)
    return sorted(shuffled, key=lambda name: point[name])


SCHEMES = {
    "padded": [f"cell_t{n:03d}.tif" for n in range(12)],
    "not padded": [f"cell_t{n}.tif" for n in range(12)],
    "capital": [f"Cell1 T{n}.tif" for n in range(1, 12)],
    "folder per time point": [f"t{n}/img.tif" for n in range(1, 13)],
    "folder and file": [f"t{n}/cell_t{n}.tif" for n in range(12)],
    "any number": [f"20240131_cell7_{n}.tif" for n in range(12)],
    "temperature": [f"cell_T37_{n:03d}.tif" for n in range(4)],
    "seconds": [f"cell_{0.25 * n:g}s.tif" for n in range(8)],
    "minutes and seconds": ["c_0min58s.tif", "c_0min59s.tif", "c_1min00s.tif", "c_1min10s.tif"],
    "a dash that stays": [f"bregma_-2_t{n}.tif" for n in range(3)],
    "tens": [f"a_488_{n:03d}.tif" for n in (0, 10, 20, 30)],
    "mixed units": ["c_0s.tif", "c_500ms.tif", "c_1s.tif", "c_90s.tif", "c_2min.tif"],
    "time stamp": [f"20240131T1205{2 * n:02d}_cell.tif" for n in range(4)],
    "time stamp over midnight": ["a_2024-01-31_23-59-58.tif", "a_2024-02-01_00-00-01.tif"],
    "llsm": [LLSM.format(prefix="Cell", n=n, ms=2000 * n, abs=99000 + 2000 * n) for n in range(4)],
    "number in front": [LLSM.format(prefix="t17_00", n=n, ms=2000 * n, abs=2000 * n) for n in range(4)],
    "front changes": [f"t{n // 3}_ch0_stack{n:04d}_488nm.tif" for n in range(5)],
    "front turned": ["t1_ch0_stack0000.tif", "t0_ch0_stack0001.tif"],
    "stack stands still": [f"cell_t{n + 3}_ch0_stack0000_488nm.tif" for n in range(4)],
    "iterations": [
        f"Scan_Iter_{n:04d}_0000_CamA_ch0_stack0000_{2000 * n:07d}msec_{9000 + 2000 * n:010d}msecAbs.tif"
        for n in range(4)
    ],
    "two loops and a clock": [
        f"Iter{i}_stack{n:04d}_{1000 * (3 * i + n)}msecAbs.tif" for i in range(2) for n in range(3)
    ],
    "a day that changes at midnight": [f"2024013{d}_stack{n}.tif" for d, n in ((0, 0), (0, 1), (1, 2))],
    "a day in another order": ["31012024_t0.tif", "31012024_t1.tif", "01022024_t2.tif"],
    "a day with dashes": ["2024-01-31_t0.tif", "2024-02-01_t1.tif", "2024-02-01_t2.tif"],
    "days only": ["img_30012024.tif", "img_31012024.tif"],
    "hours and minutes that stand still": [f"h{n // 2:02d}_m{n % 2 * 30:02d}_t{n}.tif" for n in range(5)],
    "a day that goes on": [f"day{n // 3}/t{n}.tif" for n in range(6)],
    "a minute that stands still": ["t0_11-58-58.tif", "t1_11-59-05.tif", "t2_11-59-30.tif"],
    "time of day beside a number": ["t0_23-59-58.tif", "t1_00-00-01.tif", "t2_00-01-05.tif"],
    "time of day in one number": ["a_095958.tif", "a_100001.tif", "a_100004.tif"],
    "minutes of a day": [f"c_{n}.tif" for n in ("0958", "0959", "1000", "1001")],
    "over midnight, numbered": ["t0_235958.tif", "t1_000001.tif"],
    "over midnight with dates": ["20240131_a_235958.tif", "20240131_a_235959.tif", "20240201_a_000001.tif"],
    "over midnight with short dates": ["240131_235958.tif", "240201_000001.tif"],
    "two nights": [f"202401{d}_c_{h}0000.tif" for d, h in ((30, 22), (31, 10), (31, 22))],
    "loops that go on": [f"Iter{n // 3}_stack{n}.tif" for n in range(6)],
    "within a day": ["c_12-59-56.tif", "c_12-59-58.tif", "c_13-00-00.tif", "c_13-00-02.tif"],
    "elapsed": ["c_00-00-56.tif", "c_00-00-58.tif", "c_00-01-00.tif", "c_00-01-02.tif"],
    "elapsed, with letters": ["c_00h00m58s.tif", "c_00h01m00s.tif", "c_00h01m30s.tif", "c_01h00m00s.tif"],
    "days, hours and minutes": ["c_00d00h30m.tif", "c_00d01h00m.tif", "c_01d00h00m.tif"],
    "hours and minutes with letters": [f"c_{n // 2}h{n % 2 * 30:02d}m.tif" for n in range(5)],
    "minutes and seconds with letters": [f"c_{n // 2}m{n % 2 * 30:02d}s.tif" for n in range(5)],
    "a counter before times over midnight": ["0_235956.tif", "1_235958.tif", "2_000000.tif"],
    "date and time, all low lines": [
        f"c_2024_01_31_12_{n}.tif" for n in ("05_56", "05_58", "06_00", "06_02")
    ],
    "date and minutes": [f"c_2024_01_31_{n}.tif" for n in ("11_50", "11_55", "12_00", "12_05")],
    "date and minutes, compact": [f"20240131_{n}.tif" for n in ("1150", "1155", "1200", "1205")],
    "date and minutes, dash": [f"2024-01-31 {n}.tif" for n in ("11-50", "11-55", "12-00", "12-05")],
    "date, dot, time": [f"c_2024-01-31.{n}.tif" for n in ("12-59-58", "13-00-00", "13-00-02")],
    "date at time": [f"Image 2024-01-31 at 12.{n}.tif" for n in ("05.54", "05.58", "06.02", "06.30")],
    "a counter that begins again, and a clock": [
        f"c_stack{(9998 + n) % 10000:04d}_{2000 * n:07d}msec.tif" for n in range(4)
    ],
    **{
        f"date and time over midnight {sign!r}": [
            f"c_2024.{day}{sign}{time}.tif"
            for day, time in (("01.31", "23.59.58"), ("02.01", "00.00.00"), ("02.01", "00.00.02"))
        ]
        for sign in "_-T ."
    },
    "day.month.year and time": [
        f"{day}.2024 {time}.tif"
        for day, time in (("31.01", "23-59-58"), ("01.02", "00-00-00"), ("01.02", "00-00-02"))
    ],
    "days apart with times": [
        f"2024.03.{n}.tif" for n in ("14_18_01_07", "16_02_26_30", "17_04_37_39", "18_10_30_01")
    ],
    "short dates, the year first": ["241130_c.tif", "241201_c.tif", "241202_c.tif"],
    "decimals of one length": ["c_0.10.tif", "c_0.20.tif", "c_1.20.tif"],
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_order_of_time(scheme: str) -> None:
    assert order(SCHEMES[scheme]) == SCHEMES[scheme]


UNCERTAIN = {
    "no number": (["a.tif", "b.tif"], "without a number"),
    "two channels": ([f"c_ch{c}_stack{n:04d}.tif" for c in (0, 1) for n in range(3)], "'ch': 0, 1"),
    "two loops": ([f"Iter{i}_stack{n:04d}.tif" for i in (0, 1) for n in range(3)], "none is certain"),
    "decimals or versions": (["c_0.5.tif", "c_0.25.tif", "c_0.75.tif"], "different orders"),
    "clock runs backwards": ([f"c_stack{n}_{9 - n}msec.tif" for n in range(3)], "disagree"),
    "two numbers that disagree": ([f"a{n}_b{9 - n}.tif" for n in range(3)], "different orders"),
    "hours and minutes after words": (
        ["hour0_min0.tif", "hour0_min30.tif", "hour1_min0.tif", "hour1_min30.tif"],
        "none is certain",
    ),
    "hours and minutes": (["a_00h30.tif", "a_01h00.tif", "a_01h15.tif"], "different orders"),
    "days and months": (["c_30-01.tif", "c_31-01.tif", "c_01-02.tif"], "different orders"),
    "signs": (["c_t-3.tif", "c_t-2.tif", "c_t-1.tif"], "a sign"),
    "two makes": (["CamA_stack0000.tif", "CamB_stack0001.tif"], "without a number"),
    "no count": ([f"c_t{n}.tif" for n in (0, 1, 99999999)], "run from 0 to 99999999"),
    "scenes": ([f"a_scene{n}.tif" for n in range(3)], "'scene'"),
    "tiles apart from their word": ([f"a_tile_{n}.tif" for n in range(3)], "'tile'"),
    "positions apart from their word": ([f"img_xy_{n}.tif" for n in range(3)], "'xy'"),
    "positions only": ([f"cell_pos{n}.tif" for n in range(3)], "'pos'"),
    "cells": ([f"cell{n // 3}_t{n}.tif" for n in range(6)], "after 'cell': 0 .0 to 2., 1 .3 to 5."),
    "cells, each once": ([f"cell{n}_t{n}.tif" for n in range(3)], "after 'cell': 0"),
    "mice": ([f"m{n // 2}_t{n}.tif" for n in range(4)], "after 'm': 0"),
    "days by turns": ([f"day{n % 2}_t{n}.tif" for n in range(4)], "after 'day': 0"),
    "days apart": (["20240110_t0.tif", "20240110_t1.tif", "20240131_t2.tif"], "a number: 20240110"),
    "channels of Fiji": ([f"x.lif - Series007 - C={n}.tif" for n in range(3)], "after 'c': 0, 1, 2"),
    "places of Fiji": ([f"x - S={n}.tif" for n in range(3)], "after 's': 0, 1, 2"),
    "tiles": ([f"exp_m{n}.tif" for n in range(3)], "after 'm': 0, 1, 2"),
    "lasers": ([f"exp_laser {n}.tif" for n in range(3)], "after 'laser'"),
    "points": ([f"exp_multipoint{n}.tif" for n in range(3)], "after 'multipoint'"),
    "positions, each once": ([f"pos{n}_t{n}.tif" for n in range(3)], "after 'pos': 0"),
    "channels by turns": ([f"ch{n % 2}_stack{n}.tif" for n in range(4)], "after 'ch': 0"),
    "wells": ([f"A{n}.tif" for n in range(3)], "wells of a plate: 0, 1, 2"),
    "makes with a clock": (["ctrl_0s.tif", "ctrl_2s.tif", "drug_4s.tif"], "without a number"),
    "cells with a clock": (["cell1_0s.tif", "cell1_2s.tif", "cell2_4s.tif"], "after 'cell'"),
    "parts": ([f"part{n // 2}_{n:03d}.tif" for n in range(4)], "after 'part': 0"),
    "over midnight": (["a_235958.tif", "a_000001.tif"], "over midnight"),
    "over midnight, a few": ([f"a_{n}.tif" for n in ("235956", "235958", "000000", "000003")], "midnight"),
    "over midnight after t": (["t235958.tif", "t000001.tif"], "over midnight"),
    "over midnight with dashes": (["a_23-59-58.tif", "a_00-00-01.tif"], "over midnight"),
    "over midnight in hours": (["a_23h59min58s.tif", "a_00h00min01s.tif"], "over midnight"),
    "over midnight in minutes": ([f"{n}.tif" for n in ("2358", "2359", "0000", "0001")], "over midnight"),
    "over midnight with thousandths": (["a_235959123.tif", "a_000001456.tif"], "over midnight"),
    "one day for two": (["20240131_a_235958.tif", "20240131_a_000001.tif"], "over midnight"),
    "days turned round": (["img_31012024.tif", "img_01022024.tif"], "different orders"),
    "a number against the time of day": (["3_a_095958.tif", "2_a_100002.tif", "1_a_100005.tif"], "different"),
    "dates with dots": (["30.11.2024.tif", "01.12.2024.tif", "02.12.2024.tif"], "different orders"),
    "dates with dots, not padded": (["c_30.11.2024.tif", "c_1.12.2024.tif"], "different orders"),
    "dates with dots, short": (["30.11.24.tif", "01.12.24.tif"], "different orders"),
    "dates of folders": (["30.11.2024/c.tif", "01.12.2024/c.tif"], "different orders"),
    "dates with dots and one time": (["30.11.2024 12.00.00.tif", "01.12.2024 12.00.00.tif"], "different"),
    "day.month": (["c_30.11.tif", "c_03.12.tif", "c_09.12.tif"], "different orders"),
    "day and month": (["c_3011.tif", "c_0112.tif", "c_0212.tif"], "different orders"),
    "month and day over new year": (["c_1230.tif", "c_1231.tif", "c_0101.tif"], "over noon"),
    "month and day over new year, dash": (["c_12-30.tif", "c_12-31.tif", "c_01-01.tif"], "different orders"),
    "times with a dot over midnight": (
        [f"c_{n}.tif" for n in ("23.40", "23.50", "0.00")],
        "different orders",
    ),
    "times with a dot over noon": ([f"c_{n}.tif" for n in ("12.40", "12.50", "1.00")], "different orders"),
    "times after t over noon": ([f"t_{n}.tif" for n in ("12.40", "12.50", "1.00")], "different orders"),
    "times over noon": ([f"c_{n}.tif" for n in ("1240", "1250", "0100", "0110")], "over noon"),
    "times over noon, to the second": ([f"c_{n}.tif" for n in ("12-59-58", "01-00-00")], "over noon"),
    "times over noon, letters": ([f"c_{n}.tif" for n in ("12h59m", "1h00m", "1h01m")], "over noon"),
    "times over midnight, letters": ([f"c_{n}.tif" for n in ("23h59m58s", "0h00m00s")], "over midnight"),
    "times with dots over midnight": ([f"c_{n}.tif" for n in ("23.59.58", "00.00.00")], "over midnight"),
    "a counter that begins again": ([f"c_{n}.tif" for n in ("98", "99", "00", "01")], "different orders"),
    "times over the hour": ([f"c_{n}.tif" for n in ("59-50", "59-58", "00-06")], "different orders"),
    "one date, times over noon": ([f"2024-01-31_{n}.tif" for n in ("125956", "125958", "010000")], "noon"),
    "dates and times without a sign": (
        [f"img_{n}.tif" for n in ("30122024.2350", "02012025.0037", "04012025.0358")],
        "different orders",
    ),
    "days and months with times": (
        [f"{n}.2024_12-05-00.tif" for n in ("05.06", "07.06", "06.07")],
        "different orders|another number",
    ),
    "two of one time": (["c_stack0001.tif", "c_stack0001_again.tif"], "without a number"),
}


@pytest.mark.parametrize("case", UNCERTAIN)
def test_what_is_not_certain_is_refused_with_its_readings(case: str) -> None:
    names, found = UNCERTAIN[case]
    with pytest.raises(UncertainOrderError, match=found):
        series_of(names)


COUNTED = [
    *(
        "cell{}",
        "Cell {} 488nm",
        "wt{}",
        "embryo_{}",
        "replicate_{}",
        "dish{}",
        "sample{}",
        "fish{}",
        "worm{}",
    ),
    *("mouse{}", "nucleus{}", "coverslip{}", "area{}", "region{}", "Point000{}", "section{}", "layer{}"),
    *("stage{}", "exp{}", "c_v{}", "organoid{}", "m_p{}", "m_f{}", "cell{}/488", "cell{}_t000"),
    *(
        "cell{}_ch0_stack0000",
        "run{}_stack0000",
        "cell_{}0pct",
        "cell_3{}C",
        "{}uM",
        "cell_{}um",
        "cell_{}deg",
    ),
    *("cell_{}0mW", "{}x", "c_{}00nm", "scan_00{}x_000y_000z_0000t", "c_{}0ms", "c_{}0ms_stack0000"),
]


@pytest.mark.parametrize("scheme", COUNTED)
def test_what_counts_or_measures_a_thing_is_no_movie(scheme: str) -> None:
    names = [f"{scheme.format(n)}.tif" for n in (1, 2, 5)]
    with pytest.raises(UncertainOrderError) as uncertain:
        series_of(names)
    # Both remedies work: a movie of each, and one of all.
    assert len(uncertain.value.globs) == len(names)
    assert order(names, uncertain.value.pattern) == names


THINGS_WITH_TIMES = {
    "cells": [f"cell{n}_ch0_stack0000_488nm_0000000msec_{10000 * n:010d}msecAbs.tif" for n in range(3)],
    "tiles": [
        LLSM.format(prefix="c", n=0, ms=0, abs=2000 * n).replace("000x", f"{n:03d}x") for n in range(3)
    ],
    "exposures": [f"exp{10 + n // 3 * 10}ms_t{n}.tif" for n in range(6)],
    "doses": [f"{10 + n // 3 * 10}s_{n:04d}.tif" for n in range(6)],
    "uneven durations": [f"bead_{n}s.tif" for n in (1, 2, 5, 10, 20)],
}


@pytest.mark.parametrize("kind", THINGS_WITH_TIMES)
def test_things_each_with_a_time_are_no_movie(kind: str) -> None:
    names = THINGS_WITH_TIMES[kind]
    with pytest.raises(UncertainOrderError) as uncertain:
        series_of(names)
    assert uncertain.value.globs or kind == "tiles"
    assert order(names, uncertain.value.pattern) == names


def test_names_that_differ_in_case_are_two_things() -> None:
    names = [f"{name}_t{n}.tif" for n, name in enumerate(("wt", "wt", "WT", "WT"))]
    with pytest.raises(UncertainOrderError, match="without a number") as uncertain:
        series_of(names)
    assert uncertain.value.globs == ["wt_t*.tif", "WT_t*.tif"]
    assert order(["c_t0.tif", "c_t1.TIF", "c_t2.tif"]) == ["c_t0.tif", "c_t1.TIF", "c_t2.tif"]


@pytest.mark.parametrize(
    "scheme",
    [
        *("img{}", "image_00{}", "frame{}", "t{}", "stack{}", "time{}", "movie_000{}", "a_{}", "{}"),
        *("cell00{}.nd2", "time_point_{}", "cell_t{}_37C", "fish_2{}hpf", "cell_488_{}s", "volume_{}"),
        "c_{}_512x512x101",
    ],
)
def test_what_may_count_time_is_a_movie(scheme: str) -> None:
    names = [f"{scheme.format(n)}.tif" for n in range(4)]
    assert order(names) == names


def test_a_pattern_decides_what_names_leave_open() -> None:
    loops = [f"Iter{i}_stack{n:04d}.tif" for i in (0, 1) for n in range(3)]
    assert order(loops, r"Iter(\d+)_stack(\d+)") == loops
    decimals = ["c_0.25.tif", "c_0.5.tif", "c_0.75.tif"]
    assert order(decimals, r"c_([\d.]+)\.tif") == decimals
    folders = [f"scan{n}/x.tif" for n in range(3)]
    assert order(folders, r"scan(\d+)/") == folders
    with pytest.raises(UncertainOrderError, match="finds no number"):
        series_of(loops, "frame(\\d+)")
    with pytest.raises(UncertainOrderError, match="both time point 0"):
        series_of(loops, r"Iter(\d+)")


@pytest.mark.parametrize(
    "names",
    [
        ["c_12-59.tif", "c_13-00.tif", "c_13-01.tif"],
        ["c_00h30.tif", "c_01h00.tif", "c_01h15.tif"],
        ["c_09-00-00.tif", "c_09-58-10.tif", "c_09-59-11.tif", "c_10-00-05.tif"],
        ["c_2024_01_31_09_00_00.tif", "c_2024_01_31_09_58_10.tif", "c_2024_01_31_10_00_05.tif"],
    ],
)
def test_the_pattern_of_a_time_has_all_of_its_numbers(names: list[str]) -> None:
    with pytest.raises(UncertainOrderError, match="different orders") as uncertain:
        series_of(names)
    assert order(names, uncertain.value.pattern) == names


@pytest.mark.parametrize(
    "names",
    [
        [f"cell_{n}.tif" for n in ("00_59_58", "01_00_28", "01_03_58", "01_09_10", "01_09_12")],
        ["c02112024-2350.tif", "c05112024-0150.tif", "c03122024-0250.tif"],
        [f"c_{n}.tif" for n in ("11-58", "12-28", "12-58", "1-28", "1-58")],
    ],
)
def test_no_pattern_is_offered_that_gives_another_order(names: list[str]) -> None:
    with pytest.raises(UncertainOrderError) as uncertain:
        series_of(names)
    pattern = uncertain.value.pattern
    assert not pattern or order(names, pattern) == names


@pytest.mark.parametrize("pattern", [r"_\d+-\d+-(\d+)", r"_\d+-\d+-(?P<order>\d+)"])
def test_a_pattern_for_the_seconds_alone_is_refused(pattern: str) -> None:
    names = ["c_12-05-56.tif", "c_12-05-58.tif", "c_12-06-00.tif"]
    with pytest.raises(UncertainOrderError, match="one part of what may be a time") as uncertain:
        series_of(names, pattern)
    assert order(names, uncertain.value.pattern) == names
    # Within a minute it tells the order.
    assert order(names[:2], pattern) == names[:2]


def test_numbers_that_count_frames_show_what_is_missing() -> None:
    assert series_of(["t0.tif", "t1.tif", "t4.tif"]).point == (0, 1, 4)
    # Every second one may be missing, or was never meant: the user must say so.
    second = [f"t{n:03d}.tif" for n in (0, 2, 4)]
    assert series_of(second).point == (0, 2, 4)
    assert series_of(second, r"t(\d+)").point == (0, 2, 4)
    assert series_of(second, r"t(?P<order>\d+)").point == (0, 1, 2)
    assert series_of([f"img_{n:03d}.tif" for n in (1, 2, 3, 500)]).point == (1, 2, 3, 500)
    assert series_of([f"img_{n:03d}.tif" for n in (0, 10, 30)]).point == (0, 1, 3)
    # Six digits that could be times of day, and are numbers.
    assert series_of([f"a_{n:06d}.tif" for n in (0, 1, 2, 3, 500)]).point == (0, 1, 2, 3, 500)
    # Time stamps of a computer and the like are in order, but do not count.
    stamps = series_of(["img_170000000.tif", "img_170002031.tif", "img_170004007.tif"])
    assert (stamps.point, stamps.counted) == ((0, 1, 2), False)


def test_globs_and_patterns_work() -> None:
    cells = [f"cell{c}_{n:03d}.tif" for c in (1, 2) for n in range(3 * c, 3 * c + 3)]
    with pytest.raises(UncertainOrderError) as uncertain:
        series_of(cells)
    assert uncertain.value.globs == ["cell1_*.tif", "cell2_*.tif"]
    assert order(cells, uncertain.value.pattern) == cells
    loops = [f"Iter{i}_stack{n:04d}.tif" for i in (0, 1) for n in range(3)]
    with pytest.raises(UncertainOrderError) as uncertain:
        series_of(loops)
    assert (uncertain.value.globs, uncertain.value.pattern) == ([], r"Iter(\d+)_stack(\d+)")
    same = [f"cell{c}_t{n}.tif" for c in (1, 2) for n in range(3)]
    with pytest.raises(UncertainOrderError) as uncertain:
        series_of(same)
    assert uncertain.value.globs == ["cell1_t*.tif", "cell2_t*.tif"]
    colours = [f"{nm}_a{n}.tif" for nm in (488, 560) for n in range(3)]
    with pytest.raises(UncertainOrderError) as uncertain:
        series_of(colours)
    assert uncertain.value.globs == ["488_a*.tif", "560_a*.tif"]
    # A pattern that would find another number first is not shown.
    assert pattern_of(["part1_t0.tif", "part2_t1.tif"], [1]) == r"_t(\d+)"
    assert globs_of(["a1.tif", "a11.tif", "b1.tif"]) == ["a*.tif", "b1.tif"]
    # Nor is a glob that would match files of another kind.
    assert globs_of(["a1.tif", "a2.tif", "a1_x1.tif"]) == ["a?.tif", "a1_x1.tif"]
    assert globs_of(["a1.tif", "a22.tif", "a1_x1.tif"]) == []


def test_clock_times_are_seconds() -> None:
    dated = series_of(["20240131_a_235958.tif", "20240201_a_000001.tif"]).clock_s
    assert dated[1] - dated[0] == 3
    names = [LLSM.format(prefix="c", n=n, ms=0, abs=9000 + t) for n, t in enumerate((0, 2000, 64000))]
    assert series_of(names).clock_s == pytest.approx((9, 11, 73))
    assert series_of(["a_0.5min.tif", "a_2s.tif"]).clock_s == (30, 2)
    stamps = series_of(["20240131T235959.tif", "20240201T000001.tif"]).clock_s
    assert stamps[1] - stamps[0] == 2
    assert series_of(["20241331T235959_t0.tif", "20241331T235959_t1.tif"]).clock_s == ()


THOUSANDTHS = [
    *("c_%Y%m%d_%H%M%S_{ms:03d}", "c_%Y%m%d_%H%M%S-{ms:03d}", "c_%Y-%m-%d_%H-%M-%S-{ms:03d}"),
    *("c_%Y%m%dT%H%M%S.{ms:03d}", "c_%H-%M-%S-{ms:03d}", "c_%H%M%S_{ms:03d}", "c %H.%M.%S.{ms:03d}"),
]


@pytest.mark.parametrize("scheme", THOUSANDTHS)
@pytest.mark.parametrize(("step_s", "frames"), [(2.34, 4), (2.34, 40), (2.5, 8), (0.25, 8), (30.1, 12)])
def test_thousandths_after_a_time(scheme: str, step_s: float, frames: int) -> None:
    moments = [
        datetime(2024, 1, 31, 11, 30, 0, 500_000) + timedelta(seconds=step_s * n) for n in range(frames)
    ]
    names = [m.strftime(scheme).format(ms=m.microsecond // 1000) + ".tif" for m in moments]
    assert order(names) == names
    if "%Y" in scheme:
        times = series_of(names).clock_s
        assert [t - times[0] for t in times] == pytest.approx([step_s * n for n in range(frames)], abs=2e-3)
    part = r"[-_.](\d{3})\.tif$"
    if step_s == 2.34:
        with pytest.raises(UncertainOrderError, match="one part of"):
            series_of(names, part)


def test_thousandths_of_an_even_clock() -> None:
    late = (500, 501, 499, 500, 501, 500, 499, 499)
    names = [f"c_20240131_1130{2 * n:02d}_{ms}.tif" for n, ms in enumerate(late)]
    times = series_of(names).clock_s
    assert [t - times[0] for t in times] == pytest.approx([2 * n + late[n] / 1000 - 0.5 for n in range(8)])


@pytest.mark.parametrize(
    "names",
    [
        [f"c_20240131_1130{2 * n:02d}_{n:03d}.tif" for n in range(8)],
        [f"c_20240131_1130{2 * n:02d}_{n % 3:03d}.tif" for n in range(8)],
        [f"c_20240131_1130{2 * n:02d}_{(488, 561)[n % 2]}.tif" for n in range(8)],
        [f"c_20240131_1130{2 * (n // 2):02d}_{(488, 561)[n % 2]}.tif" for n in range(8)],
        [f"c_20240131_1130{n:02d}_{(998 + n) % 1000:03d}.tif" for n in range(8)],
    ],
)
def test_three_digits_after_a_time_that_count_are_no_thousandths(names: list[str]) -> None:
    try:
        times = series_of(names).clock_s
    except UncertainOrderError:
        return
    assert all(float(t).is_integer() for t in times)


def test_a_pattern_against_the_clock_is_worth_a_word() -> None:
    names = [f"c_stack{n}_{9 - n}msec.tif" for n in range(3)]
    with pytest.raises(UncertainOrderError, match="disagree") as uncertain:
        series_of(names)
    assert order(names, uncertain.value.pattern) == names
    assert "disagree" in series_of(names, uncertain.value.pattern).warnings[0]


def test_names_of_channels() -> None:
    assert normalised("488 nm") == normalised("488nm") == normalised("488") == "488"
    assert normalised("AF488") != normalised("488")
    assert mentions("cell_ch0_488nm_stack01.tif", "488 nm")
    assert not mentions("cell_ch0_stack0488.tif", "488nm")


@given(
    st.lists(st.integers(0, 1000), min_size=2, max_size=30, unique=True),
    st.sampled_from(["cell_t{}.tif", "x7_stack{}_488nm.tif", "a/{}/b.tif", "{}.tif", "t{}/t{}.tif"]),
)
def test_any_running_number_gives_its_order(numbers: list[int], scheme: str) -> None:
    names = [scheme.format(n, n) for n in numbers]
    assert order(names) == [scheme.format(n, n) for n in sorted(numbers)]
