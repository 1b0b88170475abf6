"""What is done with an input: everything that the workflow does with such files before it computes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import fuzz_seeds
import yaml
from raw_inputs import sheet_row

from spatialdino_core.config import check_files, load_config
from spatialdino_core.encoder.header import read_header
from spatialdino_core.encoder.weights import load_encoder
from spatialdino_core.errors import BadInputError
from spatialdino_core.files import read_json
from spatialdino_core.geometry.camera import Camera
from spatialdino_core.geometry.registration import read_registration
from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.ledger import Entry, FrameLedger, remembered
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.part import collected
from spatialdino_core.movies.raw_files import places, state
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import read_sheet
from spatialdino_core.movies.source import open_channels
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.quality.decisions import add_new_movies, standings
from spatialdino_core.quality.preview import preview_movie

Trial = Callable[[Path], bool]
"""Whether an input, a folder, is accepted. Raises nothing but `BadInputError`."""


@contextlib.contextmanager
def refusal(refused: list[str]) -> Iterator[None]:
    try:
        yield
    except BadInputError as error:
        refused.append(str(error))


def movie(rows_of: fuzz_seeds.Rows) -> Trial:
    """Register, preview and read a movie, as the jobs of a run do."""

    def trial(folder: Path) -> bool:
        rows = rows_of(folder)
        state(rows), places(rows)
        record, table = register_movie(rows, ReadingParameters(), "skip")
        table.write(folder / "acquisition.tsv", record.skipped)
        record.write(folder / "movie.json")
        record = MovieRecord.read(folder / "movie.json")
        table = AcquisitionTable.read(folder / "acquisition.tsv")
        measures = folder / "measures.json"
        how = dict(optics=OpticsParameters(), frames=1, skip_bad=True, state="")
        preview_movie(rows, record, table, measures, folder / "picture.png", **how)  # type: ignore[arg-type]
        problems = [text for text in (record.problem, read_json(measures)["problem"]) if text]
        if record.problem is None:
            for channel in open_channels(record.movie, table):
                for frame in range(min(record.frames, 4)):
                    channel.stamp(frame)
                    with refusal(problems):
                        channel.read(frame)
                        channel.read(frame, (slice(1, 2), slice(2, 5), slice(None, 3)))
        # Where memory ran out, more was asked for than the files can hold.
        assert not any("MemoryError" in text for text in problems), problems
        print("\n".join(problems))
        return not problems

    return trial


def sheet(folder: Path) -> bool:
    """What a plan does with a sample sheet: read it, look for the files, register a movie."""
    for rows in read_sheet(folder / "movies.tsv").values():
        state(rows), places(rows)
        for row in rows:
            row.model_dump_json()
        register_movie(rows, ReadingParameters(), "fail")
    return True


def settings(folder: Path) -> bool:
    """What a plan does with settings, from where Snakemake has read them as YAML."""
    refused: list[str] = []
    for path in (folder / "config.yaml", folder / "other.yaml"):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, OSError, ValueError):  # Snakemake refuses it
            continue
        if isinstance(content, dict):
            with refusal(refused):
                load_config(content, check_files([path]))
    print("\n".join(refused))
    return not refused


def weights(folder: Path) -> bool:
    path = folder / "model.safetensors"
    read_header(path)
    load_encoder(path)
    return True


def calibrations(folder: Path) -> bool:
    """What deskewing reads beside the raw files."""
    refused: list[str] = []
    dark, flat = str(folder / "dark.tif"), str(folder / "flat.tif")
    for bad in ("bad.tif", "bad.tsv"):
        with refusal(refused):
            row = sheet_row(folder / "a.tif", dark=dark, flat=flat, bad_pixels=str(folder / bad))
            Camera.of(row, fuzz_seeds.SHAPE[1:])
    with refusal(refused):
        read_registration(folder / "shift.json")
    print("\n".join(refused))
    return not refused


def records(folder: Path) -> bool:
    """What later jobs and a second run do with what stages wrote."""
    refused: list[str] = []
    ledger = FrameLedger(folder / "deskew.jsonl")
    ledger.add(Entry(frame=9, key="k", stamp="s"))
    for frame in list(ledger.entries):
        ledger.reopen(frame)
    assert FrameLedger(folder / "deskew.jsonl").entries == ledger.entries
    collected(ledger)
    with refusal(refused):
        MovieRecord.read(folder / "movie.json")
    with refusal(refused):
        AcquisitionTable.read(folder / "acquisition.tsv")
    with refusal(refused):
        StageRecord.read(folder / "deskewed.json")
    with refusal(refused):
        remembered(folder / "calibration.json", "k", lambda: {"low": 1.0})
    with refusal(refused):
        standings(folder)
        add_new_movies(folder / "decisions.tsv", ["cell", "other"])
    print("\n".join(refused))
    return not refused


TRIALS: dict[Callable[[Path], None], Trial] = {
    **{seed: movie(rows) for seed, rows in fuzz_seeds.MOVIES.items()},
    fuzz_seeds.sheet: sheet,
    fuzz_seeds.settings: settings,
    fuzz_seeds.weights: weights,
    fuzz_seeds.calibrations: calibrations,
    fuzz_seeds.records: records,
}
"""What builds a sound input, and what is done with it."""
