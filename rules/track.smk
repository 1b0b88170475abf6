"""Link the particles over time."""


rule track:
    input:
        movie=rules.register.output.record,
        labels=rules.segment.output.record,
        objects=rules.segment.output.objects,
        changed=changed("track"),
    output:
        tracks=f"{RESULTS}/{{movie}}/tracks.csv",
        events=f"{RESULTS}/{{movie}}/events.csv",
        about=f"{RESULTS}/{{movie}}/tracks.json",
    log:
        f"{RESULTS}/logs/track/{{movie}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/track/{{movie}}.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb("track"),
        runtime=minutes(60),
    params:
        settings=settings("track"),
        recipe=recipe("track", settings("track"), version_of("track")),
    shell:
        "python -m workflow_scripts.track --movie-record {input.movie:q} --labels {input.labels:q} "
        "--objects {input.objects:q} --tracks {output.tracks:q} --events {output.events:q} "
        "--about {output.about:q} --recipe {params.recipe} --made-from {input:q} --makes {output:q} "
        "--settings {params.settings:q} 2>&1 | tee {log:q}"
