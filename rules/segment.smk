"""Find and outline the particles of every frame."""


rule segment:
    input:
        deskewed=rules.deskew.output.record,
        features=rules.features.output.record,
        parts=part_records("labels"),
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
        runtime=minutes_for(1000),
    params:
        settings=settings("segment"),
        version=version_of("segment"),
        frames="all",
        objects=f"{RESULTS}/{{movie}}/objects.parquet",
    shell:
        "python -m workflow_scripts.segment --deskewed {input.deskewed:q} --features {input.features:q} "
        "--output {output.record:q} --objects {params.objects:q} --version {params.version} --frames {params.frames:q} "
        "--settings {params.settings:q} 2>&1 | tee {log:q}"


use rule segment as segment_part with:
    input:
        deskewed=rules.deskew.output.record,
        features=rules.features.output.record,
        opened=opened("labels"),
    output:
        record=f"{RESULTS}/{{movie}}/labels.{{frames}}.json",
    log:
        f"{RESULTS}/logs/segment/{{movie}}.{{frames}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/segment/{{movie}}.{{frames}}.tsv"
    params:
        frames="{frames}",
        frames_per_job=CONFIG.frames_per_job,
