"""Cut content-aware crops out of the training movies."""


rule shard:
    input:
        deskewed=rules.deskew.output.record,
        changed=changed("shard"),
    output:
        index=f"{RESULTS}/shards/{{movie}}/index.json",
    log:
        f"{RESULTS}/logs/shard/{{movie}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/shard/{{movie}}.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb("shard"),
        runtime=minutes_for(60),
    params:
        settings=settings("crops", "normalisation", "seed"),
        version=version_of("shard"),
        recipe=recipe(
            "shard",
            settings("crops", "normalisation", "seed"),
            CONFIG.model.version,
            version_of("shard"),
        ),
    shell:
        "python -m workflow_scripts.shard --deskewed {input.deskewed:q} --index {output.index:q} "
        "--version {params.version} --recipe {params.recipe} --made-from {input:q} --makes {output:q} "
        "--settings {params.settings:q} 2>&1 | tee {log:q}"
