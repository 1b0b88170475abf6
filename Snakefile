"""Raw lattice light-sheet movies to tracks: the front door.

config -> checks -> rules -> targets. A run has two parts with one command: the review of movies that
are new or changed, then (planned afresh, with the review's decisions) everything that follows for the
accepted ones.
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.basedir}/config.yaml"


include: "rules/common.smk"
include: "rules/resources.smk"


wildcard_constraints:
    movie="|".join(SHEET),
    frames=r"\d+-\d+",


localrules:
    all,


if UNREVIEWED:

    rule all:
        input:
            f"{RESULTS}/qc/contact_sheet.html",
        log:
            f"{RESULTS}/logs/all.log",
        conda:
            "envs/cpu.yaml"
        params:
            command=same_command(),
        message:
            f"Reviewed {len(UNREVIEWED)} new or changed movies; planning the accepted ones."
        shell:
            "{params.command} 2>&1 | tee {log}"

else:

    rule all:
        input:
            final_targets(),


include: "rules/register.smk"
include: "rules/preview.smk"
include: "rules/review.smk"
include: "rules/deskew.smk"


if not model_is_current():

    include: "rules/shard.smk"
    include: "rules/pretrain.smk"
    include: "rules/repair.smk"


include: "rules/features.smk"
include: "rules/segment.smk"
include: "rules/track.smk"
include: "rules/report.smk"
include: "rules/summary.smk"


onstart:
    enter_run(RESULTS)
    remember(RESULTS)


onsuccess:
    leave_run(RESULTS)


onerror:
    leave_run(RESULTS)
    show_failures(RESULTS, STARTED)
