"""What jobs ask of a cluster: memory and time from the size of the movie, GPUs, several nodes. Not where they run:
that stands in profiles/slurm alone.
"""

import shutil

SIGNAL_SECONDS = 300


def movie_size(movie):
    """Frames of a movie, and 32-bit megabytes of one of them deskewed, all channels; from the register's record.

    Asked when a job is about to start, and then the record is there; a plan made before that shows a guess.
    """
    content = sound_json(record_of(movie))
    return recorded_size(content) if content else (100, 500)


def recorded_size(content):
    planes, y, x = content["shape_zyx"]
    scan = content["acquisition"] or {}
    # The sheared box is at most one travel wider than the raw stack.
    travel = planes * scan["step_um"] / scan["pixel_um"] if scan.get("angle_deg") else 0
    megabytes = 4e-6 * planes * y * (x + travel) * len(content["channels"])
    return max(1, content["frames"]), max(1, round(megabytes))


def memory_mb(frames, base=1500):
    """Memory for a job that holds ``frames`` float frames at once; doubles on a second attempt."""
    return lambda wildcards, attempt: round(
        (base + frames * movie_size(wildcards.movie)[1]) * 2 ** (attempt - 1)
    )


def minutes(amount):
    """Time limit of a job whose work does not grow with one movie, min; doubles on a second attempt."""
    return lambda wildcards, attempt: amount * 2 ** (attempt - 1)


def minutes_for(seconds_per_gigavoxel, base=20):
    """Time limit that grows with the deskewed voxels of the movie, min; doubles on a second attempt.

    Rates are those of docs/scaling.md; three times as long is granted, for slower machines and file systems.
    """

    def limit(wildcards, attempt):
        frames, megabytes = movie_size(wildcards.movie)
        if hasattr(wildcards, "frames"):  # a part of the movie
            first, end = map(int, wildcards.frames.split("-"))
            frames = end - first
        work = frames * megabytes / 4000 * seconds_per_gigavoxel / 60
        return round((base + 3 * work) * 2 ** (attempt - 1))

    return limit


def gpus(number=1):
    """GPUs of a job; none where all is computed on the CPU."""
    return 0 if CONFIG.device == "cpu" else number


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


def training_memory_mb(amount):
    """Memory of a training: more on the next attempts, but most of them are only the next piece of time."""
    return lambda wildcards, attempt: amount * min(attempt, 3)


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
