"""Dense features, activation and foreground probability of every frame."""


rule features:
    input:
        deskewed=rules.deskew.output.record,
        weights=MODEL,
    output:
        record=f"{RESULTS}/{{movie}}/features.json",
    log:
        f"{RESULTS}/logs/features/{{movie}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/features/{{movie}}.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(16, base=2500),
        runtime=minutes_for(400),
        gpu=gpus(),
    params:
        settings=settings("features", "device"),
        code=code_hash("workflow_scripts.features"),
    shell:
        "python -m workflow_scripts.features --deskewed {input.deskewed:q} --weights {input.weights:q} "
        "--output {output.record:q} --code {params.code} --settings {params.settings:q} 2>&1 | tee {log:q}"
