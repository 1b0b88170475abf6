"""Dense features, activation and foreground probability of every frame."""


rule features:
    input:
        deskewed=rules.deskew.output.record,
        weights=MODEL if NEEDS_MODEL else [],
        parts=part_records("features"),
        changed=changed("features", always=CONFIG.verify),
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
        mem_mb=memory_mb("features"),
        runtime=minutes_for(650),
        gpu=gpus(CONFIG.features.processes),
    params:
        settings=settings("features", "segment", "device", "verify"),
        version=version_of("features"),
        segment_version=version_of("segment"),
        frames="all",
        recipe=recipe("features", *FEATURES),
    shell:
        "python -m workflow_scripts.features --deskewed {input.deskewed:q} --weights={input.weights:q} "
        "--output {output.record:q} --version {params.version} --segment-version {params.segment_version} "
        "--frames {params.frames:q} "
        "--recipe {params.recipe} --made-from {input:q} --makes {output:q} "
        "--settings {params.settings:q} 2>&1 | tee {log:q}"


use rule features as features_part with:
    input:
        deskewed=rules.deskew.output.record,
        weights=MODEL if NEEDS_MODEL else [],
        opened=opened("features"),
        changed=changed("features_part", always=CONFIG.verify),
    output:
        record=f"{RESULTS}/{{movie}}/features.{{frames}}.json",
    log:
        f"{RESULTS}/logs/features/{{movie}}.{{frames}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/features/{{movie}}.{{frames}}.tsv"
    params:
        frames="{frames}",
        recipe=recipe("features_part", *FEATURES, CONFIG.frames_per_job),
