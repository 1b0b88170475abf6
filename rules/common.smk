"""Helpers of the rules: what the sheet, the config and the review say. Nothing heavy is imported here."""

import functools
import json
import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))

from spatialdino_core.config import load_config
from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.provenance import identity
from spatialdino_core.movies.sheet import fingerprint, read_sheet
from spatialdino_core.parameters import digest
from spatialdino_core.pretrain.parameters import recipe_of
from spatialdino_core.quality.decisions import standings
from workflow_scripts.environment import share_environment
from workflow_scripts.failures import show_failures
from workflow_scripts.memory import check_memory, remember
from workflow_scripts.preflight import enter_run, leave_run

share_environment(ROOT)
STARTED = time.time()

try:
    CONFIG = load_config(config)
    SHEET = read_sheet(CONFIG.movies)
    STANDINGS = standings(f"{CONFIG.results}/qc")
    check_memory(CONFIG.results)
except BadInputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = CONFIG.results


def version_of(stage):
    """What a stage's results are current for, beside settings and inputs."""
    return identity(stage)


def settings(*sections):
    """The config sections that a stage may see, as JSON: a change elsewhere does not touch it."""
    chosen = {name: getattr(CONFIG, name) for name in sections}
    plain = {
        name: asdict(value) if hasattr(value, "__dataclass_fields__") else value
        for name, value in chosen.items()
    }
    return json.dumps(plain, sort_keys=True)


@functools.cache
def raw_state(movie):
    """Changes when the movie's raw files or its rows of the sheet change."""
    rows = [row.model_dump_json(exclude={"train"}) for row in SHEET[movie]]
    return digest(rows, fingerprint(SHEET[movie]))


@functools.cache
def judgement(movie):
    """What the review of a movie depends on; recorded beside the verdict."""
    return digest(
        raw_state(movie),
        settings("quality", "reading", "on_bad_frame"),
        [version_of(stage) for stage in ("register", "preview", "review")],
    )


UNREVIEWED = [
    m for m in SHEET if m not in STANDINGS or STANDINGS[m].judged != judgement(m)
]
# A movie that was not reviewed yet is only planned for if one of its results is asked for by name.
ACCEPTED = [m for m in SHEET if m not in STANDINGS or STANDINGS[m].verdict == "accept"]
PROBLEMS = [m for m in SHEET if m in STANDINGS and STANDINGS[m].verdict == "problem"]
# Movies whose crops train or repair the model and set its feature basis. The bundled encoder is finished.
TRAINING = (
    [m for m in ACCEPTED if SHEET[m][0].train]
    if CONFIG.model.source != "bundled"
    else []
)


def stamp(path):
    """Size and modification time of a file, or None."""
    return (
        (path, os.stat(path).st_size, os.stat(path).st_mtime_ns)
        if path and os.path.exists(path)
        else None
    )


MODEL = f"{RESULTS}/model/repaired.safetensors"
MODEL_REPORT = f"{RESULTS}/model/repair.json"


def model_key(training):
    """What the model is made from by choice: settings, code, the list of training movies. Not their data: a model is
    an artefact, and a training movie that grows or is mended does not make a new one.
    """
    # Whether TIFFs are written beside the stores does not make another model.
    deskew = {name: v for name, v in asdict(CONFIG.deskew).items() if name != "tiff"}
    return digest(
        deskew,
        settings("crops", "normalisation", "model", "encoder", "repair", "seed"),
        recipe_of(CONFIG.pretrain),
        [row.model_dump_json() for movie in training for row in SHEET[movie]],
        stamp(CONFIG.model.file),
        stamp(CONFIG.pretrain.start_from),
    )


def model_is_current():
    """Whether the model that these choices ask for is there. Then the plan holds no job that could remake it.

    A training movie that has become unreadable since does not outdate it either.
    """
    made = Path(MODEL_REPORT)
    if not Path(MODEL).exists() or not made.exists():
        return False
    listed = [
        m for m in SHEET if m in TRAINING or (m in PROBLEMS and SHEET[m][0].train)
    ]
    return json.loads(made.read_text()).get("key") in (
        model_key(TRAINING),
        model_key(listed),
    )


if (
    not UNREVIEWED
    and ACCEPTED
    and CONFIG.model.source == "train"
    and not TRAINING
    and not model_is_current()
):
    raise WorkflowError(
        f"{CONFIG.movies}: found no accepted movie with train = yes; expected at least one for "
        "model.source: train. Mark a movie in the sheet, or set model.source to bundled or file."
    )


RECORDS = (
    *("movie.json", "deskewed.json", "features.json", "labels.json", "objects.parquet"),
    *("tracks.csv", "events.csv", "tracks.json", "report.html"),
)


def final_targets():
    """What a complete run has: every stage's record of each accepted movie, the model, the summary of all.

    Not the last pages alone: a stage that fails loses its record, and Snakemake does not miss a file between others
    that are there. The pages of before the change would stay, and nothing would seem left to do.
    """
    records = [f"{RESULTS}/{movie}/{name}" for movie in ACCEPTED for name in RECORDS]
    model = [MODEL, MODEL_REPORT] if ACCEPTED and not model_is_current() else []
    refused = [f"{RESULTS}/{movie}/usable.json" for movie in PROBLEMS]
    return [
        f"{RESULTS}/qc/contact_sheet.html",
        *refused,
        *records,
        *model,
        f"{RESULTS}/summary.html",
    ]


@functools.cache
def parts(movie):
    """Jobs that a stage splits a movie into, as frames from-to; the first, of none, prepares what they share.

    None as long as the movie is not registered: its results are planned for after that.
    """
    record = Path(RESULTS, movie, "movie.json")
    frames = json.loads(record.read_text())["frames"] if record.exists() else 0
    step = CONFIG.frames_per_job
    if not 0 < step < frames:
        return []
    return ["0-0"] + [f"{n}-{min(n + step, frames)}" for n in range(0, frames, step)]


def part_records(name):
    """What the jobs of a movie's parts leave behind."""
    return lambda wildcards: [
        f"{RESULTS}/{wildcards.movie}/{name}.{part}.json"
        for part in parts(wildcards.movie)
    ]


def opened(name):
    """What a part waits for: the one without frames, which opens stores and calibrates."""
    return lambda wildcards: (
        []
        if wildcards.frames == "0-0"
        else f"{RESULTS}/{wildcards.movie}/{name}.0-0.json"
    )


def same_command():
    """The command line of this run, for the run that follows the review."""
    return shlex.join([sys.executable, "-m", "snakemake", *sys.argv[1:], "--nolock"])


def model_source():
    """Weights that the model starts from."""
    if CONFIG.model.source == "train":
        return f"{RESULTS}/model/pretrained.safetensors"
    return (
        CONFIG.model.file
        if CONFIG.model.source == "file"
        else str(ROOT / "weights" / "bundled.safetensors")
    )
