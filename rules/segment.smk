"""Find and outline the particles of every frame."""


rule segment:
    input:
        deskewed=rules.deskew.output.record,
        features=rules.features.output.record,
        parts=part_records("labels"),
        changed=changed("segment", always=CONFIG.verify),
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
        mem_mb=memory_mb("segment"),
        runtime=minutes_for(400),
        gpu=gpus_of_segment(),
    params:
        settings=settings("segment", "device", "verify"),
        version=version_of("segment"),
        frames="all",
        recipe=recipe("segment", *SEGMENT),
        objects=f"{RESULTS}/{{movie}}/objects.parquet",
    shell:
        "python -m workflow_scripts.segment --deskewed {input.deskewed:q} --features {input.features:q} "
        "--output {output.record:q} --objects {params.objects:q} --version {params.version} --threads {threads} "
        "--frames {params.frames:q} --recipe {params.recipe} --made-from {input:q} --makes {output:q} "
        "--settings {params.settings:q} 2>&1 | tee {log:q}"


use rule segment as segment_part with:
    input:
        deskewed=rules.deskew.output.record,
        features=rules.features.output.record,
        opened=opened("labels"),
        changed=changed("segment_part", always=CONFIG.verify),
    output:
        record=f"{RESULTS}/{{movie}}/labels.{{frames}}.json",
    log:
        f"{RESULTS}/logs/segment/{{movie}}.{{frames}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/segment/{{movie}}.{{frames}}.tsv"
    params:
        frames="{frames}",
        recipe=recipe("segment_part", *SEGMENT, CONFIG.frames_per_job),
