"""Shear each raw stack into the deskewed frame; the store beside the record belongs to the ledger.

With frames_per_job, parts of the movie come before, and the rule for the movie finds their frames in the ledgers.
"""


rule deskew:
    input:
        record=rules.register.output.record,
        table=rules.register.output.table,
        preview=ancient(rules.preview.output.measures),
        parts=part_records("deskewed"),
        changed=changed("deskew", always=CONFIG.verify),
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
        mem_mb=memory_mb("deskew"),
        runtime=minutes_for(90),
    params:
        sheet=lambda wildcards: CONFIG.movies,
        settings=settings("deskew", "on_bad_frame", "device", "verify"),
        version=version_of("deskew"),
        frames="all",
        recipe=recipe("deskew", *DESKEW),
        made_from=lambda wildcards, input: [
            path for path in input if path != input.preview
        ],
    shell:
        "python -m workflow_scripts.deskew --sheet={params.sheet:q} --movie-record {input.record:q} "
        "--table {input.table:q} --preview {input.preview:q} --output {output.record:q} --version {params.version} --threads {threads} "
        "--frames {params.frames:q} --recipe {params.recipe} --makes {output:q} "
        "--made-from {params.made_from:q} --settings {params.settings:q} 2>&1 | tee {log:q}"


use rule deskew as deskew_part with:
    input:
        record=rules.register.output.record,
        table=rules.register.output.table,
        preview=ancient(rules.preview.output.measures),
        opened=opened("deskewed"),
        changed=changed("deskew_part", always=CONFIG.verify),
    output:
        record=f"{RESULTS}/{{movie}}/deskewed.{{frames}}.json",
    log:
        f"{RESULTS}/logs/deskew/{{movie}}.{{frames}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/deskew/{{movie}}.{{frames}}.tsv"
    params:
        frames="{frames}",
        recipe=recipe("deskew_part", *DESKEW, CONFIG.frames_per_job),
