"""Raw lattice light-sheet movies to tracks: the front door.

config -> checks -> rules -> targets. A run has two parts with one command: the review of movies that
are new or changed, then (planned afresh, with the review's decisions) everything that follows for the
accepted ones.
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.basedir}/config.yaml"


include: "rules/common.smk"


wildcard_constraints:
    movie="|".join(SHEET),


localrules:
    all,


if UNREVIEWED:

    rule all:
        message:
            f"Reviewed {len(UNREVIEWED)} new or changed movies; planning the accepted ones."
        input:
            f"{RESULTS}/qc/contact_sheet.html",
        params:
            command=same_command(),
        log:
            f"{RESULTS}/logs/all.log",
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
include: "rules/shard.smk"
include: "rules/pretrain.smk"
include: "rules/repair.smk"
include: "rules/features.smk"
include: "rules/segment.smk"
include: "rules/track.smk"
include: "rules/report.smk"
include: "rules/summary.smk"


onstart:
    from workflow_scripts.preflight import enter_run

    enter_run(RESULTS)


onsuccess:
    from workflow_scripts.preflight import leave_run

    leave_run(RESULTS)


onerror:
    from workflow_scripts.preflight import leave_run

    leave_run(RESULTS)
