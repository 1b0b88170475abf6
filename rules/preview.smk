"""Look at a few frames of each movie: measures and a picture."""


rule preview:
    input:
        record=rules.register.output.record,
        table=rules.register.output.table,
        changed=changed("preview"),
    output:
        measures=f"{RESULTS}/qc/previews/{{movie}}.json",
        picture=f"{RESULTS}/qc/previews/{{movie}}.png",
    log:
        f"{RESULTS}/logs/preview/{{movie}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/preview/{{movie}}.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb("preview"),
        runtime=minutes(30),
    params:
        state=lambda wildcards: state_of(wildcards.movie),
        sheet=lambda wildcards: CONFIG.movies,
        # Not the section it stands in: a threshold that changes must not read all movies again.
        frames=CONFIG.quality.frames,
        settings=settings("on_bad_frame", "optics"),
        recipe=recipe("preview", lambda wildcards: state_of(wildcards.movie)),
    shell:
        "python -m workflow_scripts.preview --sheet={params.sheet:q} --record {input.record:q} --table {input.table:q} "
        "--frames {params.frames} --state {params.state} --measures {output.measures:q} --picture {output.picture:q} "
        "--recipe {params.recipe} --made-from {input:q} --makes {output:q} "
        "--settings {params.settings:q} 2>&1 | tee {log:q}"
