"""The contact sheet in a real browser: filter, sort, decide by keyboard, export; the plan that follows."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tests.browser.conftest import SHEET, Browser
from tests.workflow.conftest import Project

pytestmark = pytest.mark.workflow
MOVIES = ["series", "single", "third"]
SELECTED = "document.querySelector('.card.selected')?.dataset.movie"
CARDS = "Array.from(document.querySelectorAll('.card'))"
SHOWN = f"{CARDS}.filter(card => card.checkVisibility()).map(card => card.dataset.movie)"
COUNTS = "Array.from(document.querySelectorAll('[data-count]'), e => Number(e.textContent))"
FOCUS = "document.activeElement.closest('.card, #why, #who, #search, dialog')?.id"


def standing(browser: Browser, movie: str) -> str:
    return str(browser.run(f"document.querySelector('[data-movie={movie}]').dataset.standing"))


def sheet(project: Project) -> Path:
    return project.folder / SHEET


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["movie"]: row for row in csv.DictReader(file, delimiter="\t")}


def planned(project: Project) -> dict[str, int]:
    """Jobs that a run would do, by rule."""
    lines = project.run("--dry-run", "--quiet", "rules").stdout.splitlines()
    pairs = [line.split() for line in lines]
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].isdigit() and p[0] != "total"}


def set_name(browser: Browser, name: str) -> None:
    browser.find("#who").click()
    browser.press(name)
    browser.run("document.activeElement.blur()")


def choose(browser: Browser, selector: str, value: str) -> None:
    """Choose an option of a list, then leave the list, which takes keys for itself."""
    Select(browser.find(selector)).select_by_value(value)
    browser.run("document.activeElement.blur()")


def export(browser: Browser) -> Path:
    """Export by keyboard and take the download."""
    (browser.downloads / "decisions.tsv").unlink(missing_ok=True)
    browser.press("e")
    return browser.downloaded("decisions.tsv")


def feed_back(browser: Browser, project: Project) -> None:
    shutil.copy(export(browser), project.results / "qc" / "decisions.tsv")


def test_the_page_loads_whole_from_disk(browser: Browser, reviewed: Project) -> None:
    browser.open(sheet(reviewed))
    assert browser.run(SHOWN) == MOVIES
    browser.wait(
        "Array.from(document.images).filter(i => i.src).every(i => i.complete && i.naturalWidth > 50)"
    )
    assert browser.run(COUNTS) == [3, 0, 0, 0, 3]
    assert browser.complaints() == []


def test_arrows_move_the_selection(browser: Browser, reviewed: Project) -> None:
    browser.open(sheet(reviewed))
    assert browser.run(SELECTED) == "series"
    seen = []
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.HOME, Keys.END):
        browser.press(key)
        seen.append(browser.run(SELECTED))
    assert seen == ["single", "third", "third", "single", "series", "third"]
    browser.set_window_size(500, 900)  # one column
    browser.press(Keys.ARROW_UP)
    assert browser.run(SELECTED) == "single"
    browser.press(Keys.ARROW_DOWN)
    assert browser.run(SELECTED) == "third"
    assert browser.run("document.activeElement.dataset.movie") == "third"


def test_sorting_and_filtering(browser: Browser, project: Project) -> None:
    metrics = pd.read_csv(project.results / "qc" / "metrics.tsv", sep="\t")
    browser.open(sheet(project))
    for measure in ("snr", "signal", "drift_um", "focus"):
        choose(browser, "#sort", measure)
        expected = metrics.sort_values(measure, kind="stable", na_position="last")["movie"]
        assert browser.run(SHOWN) == list(expected), measure
    choose(browser, "#sort", "movie")
    browser.find("#reverse").click()
    assert browser.run(SHOWN) == MOVIES[::-1]
    browser.press("/", "sing")
    assert browser.run(SHOWN) == ["single"]
    assert browser.run(SELECTED) == "single"
    assert browser.run("document.querySelector('[data-count=shown]').textContent") == "1"
    browser.press(Keys.ESCAPE)
    assert len(browser.run(SHOWN)) == 3
    choose(browser, "#filter", "reject")
    assert browser.run(SHOWN) == []
    assert browser.run("document.querySelector('#nothing').checkVisibility()")
    choose(browser, "#filter", "")
    browser.press(Keys.HOME, "r", Keys.ENTER)
    for value, shown in (
        ("reject", ["third"]),
        ("accept", ["single", "series"]),
        ("human", ["third"]),
        ("automatic", ["single", "series"]),
        ("pending", ["third"]),
    ):
        choose(browser, "#filter", value)
        assert browser.run(SHOWN) == shown, value
    assert browser.complaints() == []


def test_a_movie_without_the_measure_comes_last_either_way(browser: Browser, project: Project) -> None:
    text = sheet(project).read_text()
    assert "&#34;snr&#34;" in text
    sheet(project).write_text(text.replace("&#34;snr&#34;", "&#34;none&#34;", 1))
    browser.open(sheet(project))
    choose(browser, "#sort", "snr")
    assert browser.run(SHOWN)[-1] == "series"
    browser.find("#reverse").click()
    assert browser.run(SHOWN)[-1] == "series"


def test_deciding_by_keyboard_and_undoing(browser: Browser, reviewed: Project) -> None:
    browser.open(sheet(reviewed))
    browser.press(Keys.ARROW_RIGHT, "r")
    assert browser.run(FOCUS) == "why"
    browser.press("a 3 r")  # letters in the reason are no commands
    browser.press(Keys.ENTER)
    assert browser.run("document.activeElement.dataset.movie") == "single"
    assert standing(browser, "single") == "reject"
    assert browser.run("document.querySelector('[data-movie=single] .decided').textContent") == "a 3 r"
    assert browser.run(COUNTS) == [2, 0, 1, 0, 3]
    browser.press("a")
    assert standing(browser, "single") == "accept"
    assert browser.run("document.querySelector('[data-movie=single] .badge').classList.contains('human')")
    browser.press("u")
    assert browser.run("document.querySelector('[data-movie=single] .by').textContent") == "automatic"
    for expected in ("accept", "reject"):
        browser.press("z")
        assert standing(browser, "single") == expected
    assert browser.run("document.querySelector('[data-movie=single] .decided').textContent") == "a 3 r"
    browser.press("z")
    assert standing(browser, "single") == "accept"
    assert browser.run("document.querySelector('#undo').disabled")
    browser.press("r", Keys.ESCAPE)
    assert standing(browser, "single") == "reject"
    assert browser.run("document.querySelector('[data-movie=single] .decided').hidden")
    browser.find("[data-movie=single] [data-decision=auto]").click()
    assert standing(browser, "single") == "accept"
    assert browser.complaints() == []


def test_the_large_view_shows_all_panels_and_decides(browser: Browser, reviewed: Project) -> None:
    browser.open(sheet(reviewed))
    browser.press(Keys.ENTER)
    picture = "document.querySelector('#large img')"
    browser.wait(f"{picture}.complete && {picture}.naturalWidth > 0")
    assert browser.run(f"{picture}.getAttribute('src')") == "previews/series.png"
    assert browser.run(f"{picture}.naturalWidth") == 3 * 72 + 12
    assert (
        browser.run("document.querySelector('#large .panels').textContent")
        == "frame 0frame 5middle plane of frame 0"
    )
    browser.press(Keys.ARROW_RIGHT, "r", "dim", Keys.ENTER)
    assert browser.run("document.querySelector('#large').open")
    assert standing(browser, "single") == "reject"
    browser.press(Keys.ARROW_DOWN, Keys.ESCAPE)
    assert not browser.run("document.querySelector('#large').open")
    assert browser.run(SELECTED) == "third"
    assert browser.complaints() == []


def test_a_copied_page_without_previews_still_shows_pictures(
    browser: Browser, reviewed: Project, tmp_path: Path
) -> None:
    shutil.copy(sheet(reviewed), tmp_path / "copy.html")
    browser.open(tmp_path / "copy.html")
    browser.press(Keys.ENTER)
    browser.wait("document.querySelector('#large img').src.startsWith('data:image/jpeg')")
    browser.wait("document.querySelector('#large img').naturalWidth > 0")


def test_decisions_survive_a_reload_until_the_data_change(browser: Browser, project: Project) -> None:
    browser.open(sheet(project))
    set_name(browser, "Kim")
    browser.press("r", "out of focus", Keys.ENTER)
    browser.open(sheet(project))
    assert standing(browser, "series") == "reject"
    assert browser.run("document.querySelector('#who').value") == "Kim"
    assert "1 new" in browser.run("document.querySelector('#export').textContent")
    text = sheet(project).read_text()
    judged = re.search(r'data-movie="series".*?data-judged="(\w+)"', text)
    assert judged
    sheet(project).write_text(text.replace(judged[1], "0" * 16))
    browser.open(sheet(project))
    assert standing(browser, "series") == "accept"


def test_without_local_storage_the_page_works_until_it_is_closed(browser: Browser, reviewed: Project) -> None:
    denied = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('denied'); }})"
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": denied})
    browser.open(sheet(reviewed))
    set_name(browser, "Kim")
    browser.press("r", Keys.ENTER)
    assert standing(browser, "series") == "reject"
    row = rows(export(browser))["series"]
    assert (row["decision"], row["who"]) == ("reject", "Kim")
    assert browser.complaints() == []


def test_the_export_asks_for_a_name_once(browser: Browser, reviewed: Project) -> None:
    browser.open(sheet(reviewed))
    browser.press("a", "e")
    browser.wait("document.querySelector('#ask').open")
    browser.press("Ada", Keys.ENTER)
    row = rows(browser.downloaded("decisions.tsv"))["series"]
    assert (row["decision"], row["who"], row["why"]) == ("accept", "Ada", "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["when"])
    assert "new" not in browser.run("document.querySelector('#export').textContent")
    browser.press(Keys.ARROW_RIGHT, "r", Keys.ENTER)
    assert rows(export(browser))["single"]["who"] == "Ada"


def test_the_export_keeps_every_row_and_column_that_was_there(browser: Browser, project: Project) -> None:
    written = project.results / "qc" / "decisions.tsv"
    written.write_text(
        "movie\tdecision\twho\twhen\twhy\tnotes\n"
        "gone\treject\tLee\t1 May\tleft the sheet\tkeep me\n"
        'series\taccept\tLee\t\t"""sharp"" enough"\t\n'
        "single\tauto\t\t\t\t\nthird\tauto\n"
    )
    before = rows(written)
    project.run("--", SHEET)
    assert rows(written) == before
    browser.open(sheet(project))
    assert (
        browser.run("document.querySelector('[data-movie=series] .decided').textContent") == '"sharp" enough'
    )
    set_name(browser, "Kim")
    browser.press(Keys.END, "r")
    # As pasted: the tab key would leave the field.
    browser.execute_cdp_cmd("Input.insertText", {"text": 'said "no"\tto it'})
    browser.press(Keys.ENTER)
    after = rows(export(browser))
    assert list(after) == ["gone", "series", "single", "third"]
    for movie in ("gone", "series", "single"):
        assert after[movie] == before[movie] | {"notes": before[movie]["notes"] or ""}
    assert after["third"]["decision"] == "reject"
    assert after["third"]["why"] == 'said "no" to it'


def test_a_rejected_movie_leaves_the_plan_and_comes_back(browser: Browser, project: Project) -> None:
    """The whole way: reject by keyboard, export, put the file in place; then take it back."""
    all_movies = planned(project)
    assert {all_movies[stage] for stage in ("deskew", "features", "segment", "track", "report")} == {3}

    browser.open(sheet(project))
    set_name(browser, "Kim")
    browser.press(Keys.ARROW_RIGHT, "r", "cell is dying", Keys.ENTER)
    feed_back(browser, project)
    fewer = planned(project)
    assert {fewer[stage] for stage in ("deskew", "features", "segment", "track", "report")} == {2}
    assert "results/single/" not in project.run("--dry-run").stdout.replace("results/single/movie.json", "")

    # Another review draws the decision, which is now the file's, and changes nothing in the file.
    decisions = project.results / "qc" / "decisions.tsv"
    text = decisions.read_text()
    project.run("--force", "--", SHEET)
    assert decisions.read_text() == text
    browser.open(sheet(project))
    assert standing(browser, "single") == "reject"
    assert "Kim" in browser.run("document.querySelector('[data-movie=single] .by').textContent")
    assert "new" not in browser.run("document.querySelector('#export').textContent")
    assert project.run("--dry-run", "--", SHEET).stdout.count("Nothing to be done") == 1

    browser.press(Keys.ARROW_RIGHT, "u")
    assert standing(browser, "single") == "accept"
    feed_back(browser, project)
    again = planned(project)
    assert {again[stage] for stage in ("deskew", "features", "segment", "track", "report")} == {3}


def test_the_summary_shows_who_left_a_movie_out_and_why(browser: Browser, project: Project) -> None:
    browser.open(sheet(project))
    set_name(browser, "Kim")
    browser.press(
        Keys.ARROW_RIGHT,
        "r",
        "cell is dying",
        Keys.ENTER,
        Keys.ARROW_RIGHT,
        "r",
        "twin of series",
        Keys.ENTER,
    )
    feed_back(browser, project)
    project.run()
    summary = pd.read_csv(project.results / "summary.tsv", sep="\t").set_index("movie")
    assert list(summary["verdict"]) == ["accept", "reject", "reject"]
    assert summary.loc["single", "reason"] == "cell is dying"
    assert summary.loc["third", "reason"] == "twin of series"
    assert "Kim" in summary.loc["single", "decided_by"]
    page = (project.results / "summary.html").read_text()
    assert "cell is dying" in page
    assert not (project.results / "single" / "tracks.csv").exists()
