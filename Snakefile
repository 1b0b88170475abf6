"""Raw lattice light-sheet movies to tracks: the front door.

config -> checks -> rules -> targets. A run has two parts with one command: the review of movies that
are new or changed, then (planned afresh, with the review's decisions) everything that follows for the
accepted ones.
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.basedir}/config.yaml"


include: "rules/sheet.smk"
include: "rules/resources.smk"
include: "rules/model.smk"
include: "rules/parts.smk"


wildcard_constraints:
    # Not the names of the sheet: patterns of thousands of them take Snakemake minutes.
    movie=r"[A-Za-z0-9_-]+",
    frames=r"\d+-\d+",


localrules:
    all,


rule all:
    input:
        targets(),


include: "rules/register.smk"
include: "rules/preview.smk"
include: "rules/review.smk"
include: "rules/deskew.smk"


if not MODEL_IS_CURRENT:

    include: "rules/shard.smk"
    include: "rules/pretrain.smk"
    include: "rules/repair.smk"


include: "rules/features.smk"
include: "rules/segment.smk"
include: "rules/track.smk"
include: "rules/report.smk"
include: "rules/summary.smk"


if workflow.is_main_process:
    PLAN.put_in_order(everything())
    try:
        say_first(
            [SOURCE, *contradictions(CONFIG, SOURCE, NOW, FEATURES_OF_ENCODER)],
            of_other_software(RESULTS, SHEET, CONFIG.rerun_on),
            unusable(PROBLEMS, SHEET, RESULTS, TOO_LARGE),
        )
    except BadInputError as error:
        raise WorkflowError(str(error)) from None


onstart:
    enter_run(RESULTS)
    # For the jobs of this run.
    remember_too_large(f"{RESULTS}/qc", TOO_LARGE)


onsuccess:
    if reviewed := reviewed_now():
        workflow.logger_manager.stop()
        say_first([f"Reviewed {len(reviewed)} movies; planning the accepted ones."])
        # It keeps the claim on the results.
        plan_again()
    leave_run(RESULTS)
    show_left_out(RESULTS, SHEET, STARTED)
    if set(PROBLEMS) == set(SHEET):
        raise WorkflowError("No movie of the sheet can be used.")


onerror:
    leave_run(RESULTS)
    show_left_out(RESULTS, SHEET, STARTED)
