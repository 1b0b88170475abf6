"""Open each movie's headers, settle its geometry, find what is missing."""


rule register:
    input:
        raw=lambda wildcards: ancient(
            [str(p) for row in SHEET[wildcards.movie] for p in row.files()]
        ),
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
        mem_mb=1000,
        runtime=minutes(10),
    params:
        raw=lambda wildcards: raw_state(wildcards.movie),
        sheet=lambda wildcards: CONFIG.movies,
        settings=settings("reading", "on_bad_frame"),
        version=version_of("register"),
    shell:
        "python -m workflow_scripts.register --sheet {params.sheet:q} --movie {wildcards.movie} "
        "--output {output.record:q} --table {output.table:q} --settings {params.settings:q} 2>&1 | tee {log:q}"


rule refuse:
    input:
        record=f"{RESULTS}/{{movie}}/movie.json",
        preview=f"{RESULTS}/qc/previews/{{movie}}.json",
    output:
        usable=f"{RESULTS}/{{movie}}/usable.json",
    log:
        f"{RESULTS}/logs/refuse/{{movie}}.log",
    priority: 100
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        raw=lambda wildcards: raw_state(wildcards.movie),
    shell:
        "python -m workflow_scripts.refuse --record {input.record:q} --preview {input.preview:q} "
        "--output {output.usable:q} 2>&1 | tee {log:q}"
