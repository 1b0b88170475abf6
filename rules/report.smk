"""One page of pictures and figures per movie."""


rule report:
    input:
        movie=rules.register.output.record,
        preview=rules.preview.output.measures,
        deskewed=rules.deskew.output.record,
        features=rules.features.output.record,
        labels=rules.segment.output.record,
        objects=rules.segment.output.objects,
        tracks=rules.track.output.tracks,
        events=rules.track.output.events,
        about=rules.track.output.about,
        changed=changed("report"),
    output:
        page=f"{RESULTS}/{{movie}}/report.html",
    log:
        f"{RESULTS}/logs/report/{{movie}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/report/{{movie}}.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb("report"),
        runtime=minutes(30),
    params:
        # Timings are shown, not depended on: a benchmark that is written again changes no science.
        benchmarks=f"{RESULTS}/benchmarks",
        recipe=recipe("report", version_of("report")),
    shell:
        "python -m workflow_scripts.report --movie-record {input.movie:q} --preview {input.preview:q} "
        "--benchmarks {params.benchmarks:q} --output {output.page:q} --recipe {params.recipe} --made-from {input:q} --makes {output:q} "
        "2>&1 | tee {log:q}"
