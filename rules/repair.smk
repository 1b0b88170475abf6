"""Look for singular defects of the encoder (SINDER), repair them if there are any; then fix its basis."""


rule repair:
    input:
        weights=weights_to_start_from(),
        shards=expand(rules.shard.output.index, movie=TRAINING),
        changed=changed("repair"),
    output:
        weights=MODEL,
        report=MODEL_REPORT,
    log:
        f"{RESULTS}/logs/repair.log",
    benchmark:
        f"{RESULTS}/benchmarks/repair.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 8
    resources:
        mem_mb=model_memory_mb("repair"),
        runtime=minutes(240),
        gpu=gpus(),
    params:
        shards=lambda wildcards: f"{RESULTS}/shards",
        movies=TRAINING,
        settings=settings("repair", "crops", "seed", "device"),
        key=model_key(SOURCE.source, TRAINING),
        source=SOURCE.source,
        # Weights from elsewhere are in the key, by their content.
        made_from=([weights_to_start_from()] if SOURCE.source == "train" else []),
        recipe=recipe(
            "repair",
            settings("repair", "crops", "seed", "device"),
            model_key(SOURCE.source, TRAINING),
            version_of("repair"),
        ),
    shell:
        "python -m workflow_scripts.repair --weights {input.weights:q} "
        "--shards {params.shards:q} --movies {params.movies} "
        "--output {output.weights:q} --report {output.report:q} --key {params.key} --source {params.source} "
        "--recipe {params.recipe} --made-from {params.made_from:q} --makes {output:q} "
        "--settings {params.settings:q} 2>&1 | tee {log:q}"


check_memory_of_model()
