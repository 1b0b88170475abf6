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
    threads: CONFIG.features.processes
    resources:
        mem_mb=memory_mb(
            16 * CONFIG.features.processes, base=2500 * CONFIG.features.processes
        ),
        runtime=minutes_for(400),
        gpu=gpus(CONFIG.features.processes),
    params:
        settings=settings("features", "device"),
        code=code_hash("workflow_scripts.features"),
    shell:
        "python -m workflow_scripts.features --deskewed {input.deskewed:q} --weights {input.weights:q} "
        "--output {output.record:q} --code {params.code} --settings {params.settings:q} 2>&1 | tee {log:q}"
