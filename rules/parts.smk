"""What a run ends with, and the parts that a stage splits a movie into."""

RECORDS = (
    *("movie.json", "deskewed.json", "features.json", "labels.json", "objects.parquet"),
    *("tracks.csv", "events.csv", "tracks.json", "report.html"),
)


def targets():
    """What the run that is planned ends with: as long as movies are not reviewed, the review."""
    review = [f"{RESULTS}/qc/{name}" for name in ("contact_sheet.html", "metrics.tsv")]
    if UNREVIEWED:
        return [*review, *(str(record_of(movie)) for movie in UNREVIEWED)]
    return [*review, *final_targets()]


def everything():
    """All that a plan may ask for."""
    movies = [f"{RESULTS}/{movie}/{name}" for movie in SHEET for name in RECORDS]
    return [*targets(), *final_targets(), *movies]


def final_targets():
    """What a complete run has: every stage's record of each accepted movie, the model, the summary of all.

    Not the last pages alone: a stage that fails loses its record, and Snakemake does not miss a file between others
    that are there. The pages of before the change would stay, and nothing would seem left to do.
    """
    records = [f"{RESULTS}/{movie}/{name}" for movie in ACCEPTED for name in RECORDS]
    missing = NEEDS_MODEL and ACCEPTED and not MODEL_IS_CURRENT
    model = [MODEL, MODEL_REPORT] if missing else []
    return [*records, *model, f"{RESULTS}/summary.html"]


@functools.cache
def parts(movie):
    """Jobs that a stage splits a movie into, as frames from-to; the first, of none, prepares what they share.

    None as long as the movie is not registered: its results are planned for after that.
    """
    record = record_of(movie)
    frames = sound_json(record).get("frames", 0)
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
