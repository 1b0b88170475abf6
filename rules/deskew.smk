"""Shear each raw stack into the deskewed frame; the store beside the record belongs to the ledger."""


rule deskew:
    input:
        record=rules.register.output.record,
    output:
        record=f"{RESULTS}/{{movie}}/deskewed.json",
    log:
        f"{RESULTS}/logs/deskew/{{movie}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/deskew/{{movie}}.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 4
    resources:
        mem_mb=memory_mb(6),
        runtime=minutes_for(90),
    params:
        raw=lambda wildcards: raw_state(wildcards.movie),
        sheet=lambda wildcards: CONFIG.movies,
        settings=settings("deskew", "reading", "on_bad_frame", "device"),
        code=code_hash("workflow_scripts.deskew"),
    shell:
        "python -m workflow_scripts.deskew --sheet {params.sheet:q} --movie-record {input.record:q} "
        "--output {output.record:q} --code {params.code} --threads {threads} "
        "--settings {params.settings:q} 2>&1 | tee {log:q}"
