"""Open each movie's headers, settle its geometry, find what is missing."""


rule register:
    input:
        changed=changed("register"),
    output:
        record=f"{RESULTS}/{{movie}}/movie.json",
        table=f"{RESULTS}/{{movie}}/acquisition.tsv",
    log:
        f"{RESULTS}/logs/register/{{movie}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/register/{{movie}}.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb("register"),
        runtime=minutes(10),
    params:
        # Raw files are no inputs: their names may hold anything, their number and dates be any.
        sheet=lambda wildcards: CONFIG.movies,
        settings=settings("reading", "on_bad_frame"),
        recipe=recipe("register", *REGISTER),
    shell:
        "python -m workflow_scripts.register --sheet={params.sheet:q} --movie={wildcards.movie} "
        "--output {output.record:q} --table {output.table:q} "
        "--recipe {params.recipe} --makes {output:q} --settings {params.settings:q} 2>&1 | tee {log:q}"
