"""Where the encoder comes from, and whether the model that is there is the one that is asked for."""

from spatialdino_core.model_source import (
    Situation,
    check_channels,
    check_training,
    check_maps,
    check_weights,
    contradictions,
    features_of,
    model_source,
)
from spatialdino_core.pretrain.parameters import recipe_of
from workflow_scripts.machine import content_of, gpu_is_found
from workflow_scripts.model_report import made_model

MODEL = f"{RESULTS}/model/repaired.safetensors"
MODEL_REPORT = f"{RESULTS}/model/repair.json"
BUNDLED = str(ROOT / "weights" / "bundled.safetensors")
MARKED = [movie for movie in SHEET if SHEET[movie][0].train]
MADE = made_model(MODEL, MODEL_REPORT)

ON_CLUSTER = workflow.resource_settings.nodes is not None


# Columns that say where data are, and when frames were taken, which no crop shows.
NOT_OF_CROPS = {"train", "path", "interval_s", "time_point"}


def cut_from(training, unseen=NOT_OF_CROPS):
    """The movies that a model is trained on, and what their crops are made with, by choice."""
    # Whether TIFFs are written beside the stores does not make another model.
    deskew = {name: v for name, v in asdict(CONFIG.deskew).items() if name != "tiff"}
    rows = [row for movie in training for row in SHEET[movie]]
    # Of calibrations the files may move.
    return deskew, [
        row.model_dump_json(exclude={*unseen, *(row.calibrations() if unseen else ())})
        for row in rows
    ]


def model_key(source, training, unseen=NOT_OF_CROPS):
    """What the model is made from by choice: settings, versions, the list of training movies. Not their data: a model
    is an artefact, and a training movie that grows or is mended does not make a new one.
    """
    if source == "bundled":
        return digest(source, content_of(BUNDLED), version_of("repair"))
    deskew, rows = cut_from(training, unseen)
    return digest(
        [source, deskew, CONFIG.model.version, recipe_of(CONFIG.pretrain)],
        settings("crops", "normalisation", "encoder", "repair", "seed"),
        rows,
        [version_of(stage) for stage in ("shard", "pretrain", "repair")],
        content_of(CONFIG.model.file),
        content_of(CONFIG.pretrain.start_from),
    )


def is_made_from(source):
    """Whether the model that is there was made from what settings and sheet ask for.

    A training movie that has become unreadable since does not outdate it. Earlier releases looked at all columns.
    """
    marked = [m for m in MARKED if m in ACCEPTED]
    listed = [m for m in MARKED if m in ACCEPTED or m in PROBLEMS]
    keys = [
        model_key(source, movies, unseen)
        for movies in (marked, listed)
        for unseen in (NOT_OF_CROPS, ())
    ]
    return MADE is not None and MADE.key in keys


def pixels(movies):
    """Pixel sizes (µm), of the sheet or, once they are registered, of the files."""
    sizes = {}
    for movie in movies:
        known = sound_json(record_of(movie)).get("acquisition") or {}
        sizes[movie] = SHEET[movie][0].pixel_um or known.get("pixel_um")
    return {movie: size for movie, size in sizes.items() if size}


NOW = Situation(
    marked={movie: len(SHEET[movie]) for movie in MARKED},
    trained=MADE is not None and MADE.source == "train",
    current=is_made_from("train"),
    gpu=gpu_is_found(
        CONFIG.device, on_cluster=ON_CLUSTER, settle=workflow.is_main_process
    ),
)
SOURCE = model_source(CONFIG.model, NOW)
# Movies that this machine has no memory for are left out like those with a problem.
TOO_LARGE = refused(local_memory_mb())
if workflow.is_main_process:
    try:
        STANDINGS = standings(f"{RESULTS}/qc", TOO_LARGE)
    except BadInputError as error:
        raise WorkflowError(str(error)) from None
    ACCEPTED = [m for m in ACCEPTED if m not in TOO_LARGE]
    PROBLEMS = [*PROBLEMS, *TOO_LARGE]
# There is nothing that could remake a model that is as it is asked for: the plan holds no job of it.
MODEL_IS_CURRENT = SOURCE.kept or is_made_from(SOURCE.source)
NEEDS_MODEL = CONFIG.features.use != "never"
# Movies whose crops train or repair the model and set its feature basis. The bundled encoder is finished.
TRAINING = [m for m in MARKED if m in ACCEPTED] if SOURCE.source != "bundled" else []

try:
    FEATURES_OF_ENCODER = features_of(CONFIG, SOURCE, NOW, MODEL, BUNDLED)
    if NEEDS_MODEL:
        check_training(CONFIG, SOURCE, NOW, CONFIG.movies)
        # Of those that the review has not seen yet it is taken that they will do.
        TO_CUT = {m: n for m, n in NOW.marked.items() if m in ACCEPTED}
        check_weights(
            CONFIG, SOURCE, replace(NOW, marked=TO_CUT, pixel_um=pixels(TO_CUT))
        )
        check_maps(CONFIG, FEATURES_OF_ENCODER)
        check_channels(
            CONFIG,
            SOURCE,
            NOW,
            {m: [row.channel for row in SHEET[m]] for m in ACCEPTED},
            MODEL,
        )
except BadInputError as error:
    raise WorkflowError(str(error)) from None

if (
    workflow.is_main_process
    and SOURCE.source == "train"
    and NEEDS_MODEL
    and ACCEPTED
    and not (UNREVIEWED or TRAINING or MODEL_IS_CURRENT)
):
    raise WorkflowError(
        f"{CONFIG.movies}: found no accepted movie with train = yes; expected at least one for a model that is trained. "
        "Mark a movie that the review accepts, or set model.source to bundled or file."
    )


def weights_to_start_from():
    """Weights that the model is made from."""
    made = {
        "train": f"{RESULTS}/model/pretrained.safetensors",
        # Their content is looked at, and when they were copied here is nobody's business.
        "bundled": ancient(BUNDLED),
        "file": ancient(CONFIG.model.file),
    }
    return made[SOURCE.source]
