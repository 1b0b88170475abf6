"""What config, sheet and review say: settings of a stage, movies, who is accepted. Nothing heavy is imported here."""

import functools
import json
import os
import sys
import time
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))

from spatialdino_core.config import check_files, load_config
from spatialdino_core.errors import BadInputError
from spatialdino_core.files import sound_json
from spatialdino_core.movies.provenance import identity
from spatialdino_core.movies.raw_files import places, state
from spatialdino_core.movies.sheet import read_sheet
from spatialdino_core.parameters import digest
from spatialdino_core.quality.decisions import judgement, remember_too_large, standings
from workflow_scripts.environment import share_environment
from workflow_scripts.again import plan_again
from spatialdino_core.made import Plan
from workflow_scripts.messages import say_first, show_left_out, unusable
from workflow_scripts.preflight import enter_run, leave_run
from workflow_scripts.reports import of_other_software

share_environment(ROOT)
STARTED = time.time()

try:
    CONFIG = load_config(config, where=check_files(workflow.configfiles))
    SHEET = read_sheet(CONFIG.movies)
    STANDINGS = standings(f"{CONFIG.results}/qc", too_large={})
except BadInputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = CONFIG.results
PLAN = Plan(RESULTS)
RECIPES = {}


def settings(*sections):
    """The config sections that a stage may see, as JSON: a change elsewhere does not touch it."""
    chosen = {name: getattr(CONFIG, name) for name in sections}
    plain = {
        n: asdict(value) if is_dataclass(value) else value
        for n, value in chosen.items()
    }
    return json.dumps(plain, sort_keys=True)


def version_of(stage):
    """What a stage's results are current for, beside settings and inputs."""
    return identity(stage, CONFIG.rerun_on)


def recipe(rule, *parts):
    """All that a rule's results depend on, but its inputs; parts may be functions of the wildcards."""
    RECIPES[rule] = parts
    return lambda wildcards: recipe_now(rule, wildcards)


def recipe_now(rule, wildcards):
    return digest_of(RECIPES[rule], wildcards)


def digest_of(parts, wildcards):
    return digest([part(wildcards) if callable(part) else part for part in parts])


def changed(rule, always=False):
    """An input of each job whose results are not those of its recipe and its inputs, or of every job. Snakemake's own
    memory, of times and of the folder that it is started in, decides nothing.
    """

    def asked(wildcards):
        if not workflow.is_main_process:
            return []
        named = dict(wildcards.items())
        asked_of = getattr(rules, rule)
        *outputs, benchmark = (
            str(path).format(**named) for path in (*asked_of.output, asked_of.benchmark)
        )
        return PLAN.tell(
            outputs, benchmark, None if always else recipe_now(rule, wildcards)
        )

    return asked


@functools.cache
def raw_state(movie):
    """Changes when the movie's raw files or its rows of the sheet change, but not with the way to the files."""
    if movie not in SHEET:
        raise WorkflowError(f"{CONFIG.movies}: found no movie '{movie}'.")
    return digest(state(SHEET[movie]))


@functools.cache
def places_of(movie):
    """Where the movie's raw files lie."""
    return places(SHEET[movie])


# What the register knows: the acquisition table says where files are.
REGISTER = (
    lambda wildcards: raw_state(wildcards.movie),
    lambda wildcards: places_of(wildcards.movie),
    settings("reading", "on_bad_frame"),
    version_of("register"),
)
# What frames depend on, beside inputs.
DESKEW = (
    lambda wildcards: raw_state(wildcards.movie),
    settings("deskew", "on_bad_frame", "device"),
    version_of("deskew"),
    # What it takes of the preview depends on these; the measures of more frames must not deskew anything anew.
    [version_of("preview"), CONFIG.quality.frames > 1],
)
SEGMENT = (settings("segment", "device"), version_of("segment"))
FEATURES = (
    settings("features", "device"),
    version_of("features"),
    # How well particles are found without features decides.
    SEGMENT if CONFIG.features.use == "auto" else [],
)


@functools.cache
def state_of(movie):
    """What a preview shows, and how it was made; kept in it."""
    return digest(
        raw_state(movie),
        settings("reading", "on_bad_frame", "optics"),
        CONFIG.quality.frames,
        [version_of(stage) for stage in ("register", "preview")],
    )


def judged_now(movie):
    """What the review of a movie depends on; recorded beside the verdict."""
    return judgement(state_of(movie), CONFIG.quality, version_of("review"))


def is_reviewed(movie):
    """Whether the verdict on a movie is current. One without a result is tried again when its record is deleted."""
    standing = STANDINGS.get(movie)
    if standing is None or standing.judged != judged_now(movie):
        return False
    if standing.verdict == "problem":
        return record_of(movie).exists()
    return is_registered(movie)


def is_registered(movie, plan=PLAN):
    """Whether what the register knows is so: if not, what follows is planned once it is."""
    known = [f"{RESULTS}/{movie}/{name}" for name in ("movie.json", "acquisition.tsv")]
    return plan.is_current(known, digest_of(REGISTER, SimpleNamespace(movie=movie)))


def record_of(movie):
    """What the register knows of a movie."""
    return Path(RESULTS, movie, "movie.json")


# A job of a cluster, for which all of this is read again, has nothing to plan.
UNREVIEWED = (
    [m for m in SHEET if not is_reviewed(m)] if workflow.is_main_process else []
)


def reviewed_now():
    """Movies that this run has reviewed: for them, and only once, there is more to plan."""
    now, plan = standings(f"{RESULTS}/qc"), Plan(RESULTS)
    judged = [m for m in UNREVIEWED if m in now and now[m].judged == judged_now(m)]
    # A verdict may be older than a record that was lost, and is not asked for.
    return [m for m in judged if is_registered(m, plan)]


# A movie that was not reviewed yet is only planned for if one of its results is asked for by name.
ACCEPTED = [m for m in SHEET if m not in STANDINGS or STANDINGS[m].goes_on]
PROBLEMS = [m for m in SHEET if m in STANDINGS and STANDINGS[m].verdict == "problem"]
