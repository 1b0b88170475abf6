"""All movies on one page: who was in, what was found, who was left out and why."""


rule summary:
    input:
        metrics=rules.review.output.metrics,
        tracks=expand(rules.track.output.tracks, movie=ACCEPTED),
        reports=expand(rules.report.output.page, movie=ACCEPTED),
        repair=[MODEL_REPORT] if ACCEPTED and NEEDS_MODEL else [],
        # The status of a run without a usable movie is settled at its end, and without a job there is none.
        changed=changed("summary", always=set(PROBLEMS) == set(SHEET)),
    output:
        page=f"{RESULTS}/summary.html",
        table=f"{RESULTS}/summary.tsv",
    log:
        f"{RESULTS}/logs/summary.log",
    benchmark:
        f"{RESULTS}/benchmarks/summary.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=minutes(10),
    params:
        sheet=lambda wildcards: CONFIG.movies,
        results=lambda wildcards: RESULTS,
        # Made on the way to the weights, which the model report of the input is about.
        training=(
            [f"{RESULTS}/model/metrics.csv"]
            if ACCEPTED and NEEDS_MODEL and SOURCE.source == "train"
            else []
        ),
        recipe=recipe(
            "summary",
            [(m, asdict(s)) for m, s in STANDINGS.items() if m in SHEET],
            ACCEPTED,
            version_of("summary"),
        ),
    shell:
        "python -m workflow_scripts.summary --sheet={params.sheet:q} --results {params.results:q} "
        "--repair {input.repair:q} --training {params.training:q} --page {output.page:q} "
        "--table {output.table:q} --recipe {params.recipe} --made-from {input.metrics:q} {input.repair:q} "
        "--makes {output:q} 2>&1 | tee {log:q}"
