"""Look at each movie's first frame: measures and a picture."""


rule preview:
    input:
        record=rules.register.output.record,
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
        mem_mb=memory_mb(4),
        runtime=minutes(10),
    params:
        raw=lambda wildcards: raw_state(wildcards.movie),
        sheet=lambda wildcards: CONFIG.movies,
        settings=settings("reading", "on_bad_frame"),
        code=code_hash("workflow_scripts.preview"),
    shell:
        "python -m workflow_scripts.preview --sheet {params.sheet:q} --record {input.record:q} "
        "--measures {output.measures:q} --picture {output.picture:q} --settings {params.settings:q} "
        "2>&1 | tee {log:q}"
