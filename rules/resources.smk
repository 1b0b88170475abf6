"""What jobs ask of a machine or a cluster: memory and time from the size of the movie, GPUs, several nodes; and which
movies the machine has no memory for. Not where jobs run: that stands in profiles/slurm alone.
"""

import math
import shutil
from types import SimpleNamespace

from spatialdino_core.needs import (
    Candidate,
    Needs,
    check_model_memory,
    encoder_shape,
    movie_shape,
    objects_of,
    request_mb,
    too_large,
)
from workflow_scripts.free_memory import available_memory_mb

SIGNAL_SECONDS = 300
FRAME_STAGES = {
    "deskew": (DESKEW, ["deskewed.json"]),
    "features": (FEATURES, ["features.json"]),
    "segment": (SEGMENT, ["labels.json", "objects.parquet"]),
}


@functools.cache
def needs():
    """What stages need under the settings of the run."""
    weights = {"bundled": BUNDLED, "file": CONFIG.model.file}.get(SOURCE.source, MODEL)
    pixels = [SHEET[movie][0].pixel_um for movie in MARKED]
    # On a cluster a GPU is asked for.
    gpu = NOW.gpu or (ON_CLUSTER and CONFIG.device != "cpu")
    return Needs(
        config=CONFIG,
        encoder=encoder_shape(CONFIG, weights, next(filter(None, pixels), None)),
        gpu=gpu,
        gpu_of_segment=CONFIG.device == "cuda" or (NOW.gpu and not ON_CLUSTER),
    )


def shape_of(movie):
    """Shape of a movie, from the register's record.

    Asked when a job is about to start, and then the record is there; a plan made before that shows a guess.
    """
    record = record_of(movie)
    return shape_by(movie, record.stat().st_mtime_ns if record.exists() else 0)


@functools.cache
def shape_by(movie, written):
    """Shape of a movie by the record of some time: asked for each of its jobs."""
    try:
        return movie_shape(
            sound_json(record_of(movie)), CONFIG.deskew, SHEET[movie][0].roi_um
        )
    except (LookupError, TypeError, ValueError):  # the stage says so
        return movie_shape({}, CONFIG.deskew)


def memory_mb(stage):
    """Memory for a stage of a movie; doubles on a second attempt."""

    def asked(wildcards, attempt, threads=1):
        table = Path(RESULTS, wildcards.movie, "objects.parquet")
        objects = objects_of(table) if stage == "track" else None
        shape = shape_of(wildcards.movie)
        needed = needs().request_mb(stage, shape, threads, objects)
        return needed * 2 ** (attempt - 1)

    return asked


def minutes(amount):
    """Time limit of a job whose work does not grow with one movie, min; doubles on a second attempt."""
    return lambda wildcards, attempt: amount * 2 ** (attempt - 1)


def minutes_for(seconds_per_gigavoxel, base=20):
    """Time limit that grows with the deskewed voxels of the movie, min; doubles on a second attempt.

    Rates are those of docs/scaling.md; three times as long is granted, for slower machines and file systems.
    """

    def limit(wildcards, attempt):
        shape = shape_of(wildcards.movie)
        frames = shape.frames
        if hasattr(wildcards, "frames"):  # a part of the movie
            first, end = map(int, wildcards.frames.split("-"))
            frames = end - first
        voxels = frames * shape.channels * math.prod(shape.deskewed)
        work = voxels / 1e9 * seconds_per_gigavoxel / 60
        return round((base + 3 * work) * 2 ** (attempt - 1))

    return limit


def gpus(number=1):
    """GPUs of a job; none where all is computed on the CPU."""
    return 0 if CONFIG.device == "cpu" else number


def gpus_of_segment():
    """One where the settings insist on it. With device: auto segment takes one that it finds, like deskew: half of its
    work can use it, and for that jobs should not wait while cores are free.
    """
    return gpus() if CONFIG.device == "cuda" else 0


def training_resources():
    """What training asks for besides time and memory: GPUs, a warning before the time limit, and its nodes."""
    recipe = CONFIG.pretrain
    extra = [f"--signal=USR1@{SIGNAL_SECONDS}"]
    asked = {"gpu": gpus(recipe.nodes * recipe.processes), "nodes": recipe.nodes}
    if recipe.nodes > 1:
        # One task on each node, started by our own srun: the plugin's way for programs that span nodes. Tasks are
        # not counted by GPU.
        asked |= {"mpi": "srun", "tasks": recipe.nodes, "tasks_per_gpu": 0}
        extra += [f"--gpus-per-node={recipe.processes}"] if asked["gpu"] else []
    return asked | {"slurm_extra": " ".join(extra)}


def model_memory_mb(stage, most=None):
    """Memory of what makes the model: more on the next attempts; most attempts of a training are only the next piece
    of time.
    """

    def asked(wildcards, attempt):
        # Without crops nothing is computed.
        needed = needs().model_mb(stage) if TRAINING else 0
        return request_mb(needed) * min(attempt, most or attempt)

    return asked


def launcher():
    """What starts the processes of a training."""
    recipe = CONFIG.pretrain
    if recipe.nodes > 1:
        if shutil.which("srun") is None:
            raise WorkflowError(
                f"pretrain.nodes: found {recipe.nodes}, and no srun here; expected 1 without Slurm. "
                "Set it to 1, or run on a Slurm cluster: --profile profiles/slurm."
            )
        return (
            f"srun --nodes={recipe.nodes} --ntasks={recipe.nodes} --kill-on-bad-exit=1 "
            "python -m workflow_scripts.one_of_several_nodes "
            f"--nnodes={recipe.nodes} --nproc-per-node={recipe.processes}"
        )
    if recipe.processes > 1:
        return f"torchrun --standalone --nproc-per-node={recipe.processes}"
    return "python"


def check_memory_of_model():
    """Refuse at once a model that this machine has no memory to make; a cluster has nodes of all sizes."""
    room_mb = local_memory_mb()
    if room_mb is None or not TRAINING or not NEEDS_MODEL:
        return

    def is_current(rule, output):
        return PLAN.is_current([str(output)], recipe_now(rule, None))

    trains = SOURCE.source == "train" and not is_current(
        "pretrain", rules.pretrain.output.weights
    )
    cut = {
        movie: shape_of(movie)
        for movie in TRAINING
        if sound_json(record_of(movie)).get("acquisition")
        and not is_current("shard", str(rules.shard.output.index).format(movie=movie))
    }
    try:
        check_model_memory(needs(), room_mb, ["pretrain"] * trains + ["repair"], cut)
    except BadInputError as error:
        raise WorkflowError(str(error)) from None


def local_memory_mb():
    """Memory that jobs of this run may take together, on this machine; None where a cluster sees to that."""
    if ON_CLUSTER or not workflow.is_main_process:
        return None
    if "mem_mb" not in workflow.global_resources:  # --resources mem_mb=… of the user
        workflow.register_resource("mem_mb", available_memory_mb())
    return workflow.global_resources["mem_mb"].value


def to_do(movie):
    """Stages of an accepted movie that have something to compute frame by frame, and those after them."""
    stages = list(FRAME_STAGES)
    for number, (parts, names) in enumerate(FRAME_STAGES.values()):
        outputs = [f"{RESULTS}/{movie}/{name}" for name in names]
        if not PLAN.is_current(outputs, digest_of(parts, SimpleNamespace(movie=movie))):
            return stages[number:]
    return []


def refused(room_mb):
    """Reason of each accepted, registered movie for which there is not enough memory; none on a cluster."""
    reasons = {}
    # What is reviewed anew may have become another movie.
    known = [m for m in ACCEPTED if m not in UNREVIEWED]
    for movie in known if room_mb is not None else []:
        record = sound_json(record_of(movie))
        if not record.get("acquisition"):
            continue
        candidate = Candidate(movie=movie, rows=SHEET[movie], record=record)
        try:
            # What is current is looked at only where something may not fit: that takes time.
            if too_large(candidate, needs(), room_mb, list(FRAME_STAGES)):
                reason = too_large(candidate, needs(), room_mb, to_do(movie))
                reasons |= {movie: str(reason)} if reason else {}
        except (LookupError, TypeError, ValueError):
            pass  # the stage says so
    return reasons
