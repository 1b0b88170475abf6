"""Judge all movies: one contact sheet, tables of measures, and the decisions that humans may edit.

qc/decisions.tsv is not an output: Snakemake deletes outputs before it reruns a job, and that file is the
user's. It is read when the workflow is planned; what humans decided is a parameter, so that the contact sheet
shows it, while the rows that the review itself adds change nothing.
"""

from spatialdino_core.quality.decisions import human_decisions


rule review:
    input:
        measures=expand(f"{RESULTS}/qc/previews/{{movie}}.json", movie=SHEET),
        pictures=expand(f"{RESULTS}/qc/previews/{{movie}}.png", movie=SHEET),
        changed=changed("review"),
    output:
        metrics=f"{RESULTS}/qc/metrics.tsv",
        metrics_by_channel=f"{RESULTS}/qc/metrics_by_channel.tsv",
        contact_sheet=f"{RESULTS}/qc/contact_sheet.html",
    log:
        f"{RESULTS}/logs/review.log",
    benchmark:
        f"{RESULTS}/benchmarks/review.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=minutes(10),
    params:
        sheet=lambda wildcards: CONFIG.movies,
        previews=lambda wildcards: f"{RESULTS}/qc/previews",
        settings=settings("quality"),
        version=version_of("review"),
        recipe=recipe(
            "review",
            lambda wildcards: [judged_now(movie) for movie in SHEET],
            human_decisions(f"{RESULTS}/qc/decisions.tsv"),
        ),
    shell:
        "python -m workflow_scripts.review --sheet={params.sheet:q} --previews {params.previews:q} "
        "--version {params.version} --metrics {output.metrics:q} "
        "--metrics-by-channel {output.metrics_by_channel:q} --contact-sheet {output.contact_sheet:q} "
        "--recipe {params.recipe} --makes {output:q} --settings {params.settings:q} 2>&1 | tee {log:q}"
