"""Cut content-aware crops out of the training movies.

The deskewed movie is ``ancient``: a training movie that grows or is mended does not retrain the model.
"""


rule shard:
    input:
        deskewed=ancient(rules.deskew.output.record),
    output:
        index=f"{RESULTS}/shards/{{movie}}/index.json",
    params:
        settings=settings("crops", "normalisation", "seed"),
        version=CONFIG.model.version,
        code=code_hash("workflow_scripts.shard"),
    log:
        f"{RESULTS}/logs/shard/{{movie}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/shard/{{movie}}.tsv"
    threads: 1
    resources:
        mem_mb=memory_mb(12),
        runtime=minutes(60),
    shell:
        "python -m workflow_scripts.shard --deskewed {input.deskewed:q} --index {output.index:q} "
        "--settings {params.settings:q} 2>&1 | tee {log:q}"
