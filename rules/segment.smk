"""Find and outline the particles of every frame."""


rule segment:
    input:
        deskewed=rules.deskew.output.record,
        features=rules.features.output.record,
    output:
        record=f"{RESULTS}/{{movie}}/labels.json",
        objects=f"{RESULTS}/{{movie}}/objects.parquet",
    log:
        f"{RESULTS}/logs/segment/{{movie}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/segment/{{movie}}.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(16),
        runtime=minutes_for(220),
    params:
        settings=settings("segment"),
        code=code_hash("workflow_scripts.segment"),
    shell:
        "python -m workflow_scripts.segment --deskewed {input.deskewed:q} --features {input.features:q} "
        "--output {output.record:q} --objects {output.objects:q} --code {params.code} "
        "--settings {params.settings:q} 2>&1 | tee {log:q}"
