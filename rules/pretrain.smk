"""Self-supervised pretraining (DINO + iBOT + KoLeo) on the crops of the training movies.

Checkpoints beside the weights let a killed job go on, on a cluster from one time limit to the next.
"""


rule pretrain:
    input:
        shards=expand(rules.shard.output.index, movie=TRAINING),
        start=ancient(CONFIG.pretrain.start_from or []),
        changed=changed("pretrain"),
    output:
        weights=f"{RESULTS}/model/pretrained.safetensors",
    log:
        f"{RESULTS}/logs/pretrain.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 8
    resources:
        **training_resources(),
        mem_mb=model_memory_mb("pretrain", most=3),
        runtime=24 * 60,
    params:
        shards=lambda wildcards: f"{RESULTS}/shards",
        movies=TRAINING,
        settings=settings(
            "pretrain", "encoder", "normalisation", "crops", "seed", "device"
        ),
        launcher=launcher(),
        name=CONFIG.model.version,
        recipe=recipe(
            "pretrain",
            cut_from(TRAINING),
            recipe_of(CONFIG.pretrain),
            settings("encoder", "normalisation", "crops", "seed", "device"),
            CONFIG.model.version,
            content_of(CONFIG.pretrain.start_from),
            version_of("pretrain"),
        ),
    shell:
        "SRUN_CPUS_PER_TASK={threads} {params.launcher} -m workflow_scripts.pretrain "
        "--shards {params.shards:q} --movies {params.movies} --output {output.weights:q} "
        "--name {params.name:q} --recipe {params.recipe} --makes {output:q} "
        "--settings {params.settings:q} 2>&1 | tee {log:q}"
