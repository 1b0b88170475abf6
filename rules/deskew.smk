"""Shear each raw stack into the deskewed frame; the store beside the record belongs to the ledger.

With frames_per_job, parts of the movie come before, and the rule for the movie finds their frames in the ledgers.
"""


rule deskew:
    input:
        record=rules.register.output.record,
        preview=ancient(rules.preview.output.measures),
        parts=part_records("deskewed"),
    output:
        record=f"{RESULTS}/{{movie}}/deskewed.json",
    log:
        f"{RESULTS}/logs/deskew/{{movie}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/deskew/{{movie}}.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 4
    resources:
        mem_mb=memory_mb(6),
        runtime=minutes_for(90),
    params:
        raw=lambda wildcards: raw_state(wildcards.movie),
        sheet=lambda wildcards: CONFIG.movies,
        settings=settings("deskew", "reading", "on_bad_frame", "device"),
        version=version_of("deskew"),
        # What it takes of the preview depends on these; the measures of more frames must not deskew anything anew.
        found=[version_of("preview"), CONFIG.quality.frames > 1],
        frames="all",
    shell:
        "python -m workflow_scripts.deskew --sheet {params.sheet:q} --movie-record {input.record:q} "
        "--preview {input.preview:q} --output {output.record:q} --version {params.version} --threads {threads} "
        "--frames {params.frames:q} --settings {params.settings:q} 2>&1 | tee {log:q}"


use rule deskew as deskew_part with:
    input:
        record=rules.register.output.record,
        preview=ancient(rules.preview.output.measures),
        opened=opened("deskewed"),
    output:
        record=f"{RESULTS}/{{movie}}/deskewed.{{frames}}.json",
    log:
        f"{RESULTS}/logs/deskew/{{movie}}.{{frames}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/deskew/{{movie}}.{{frames}}.tsv"
    params:
        frames="{frames}",
        frames_per_job=CONFIG.frames_per_job,
