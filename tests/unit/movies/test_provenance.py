"""Code hashes: documentation and comments do not count, behaviour does, also in what is imported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from spatialdino_core.movies import provenance
from spatialdino_core.versions import STAGES

CACHES = (
    *(provenance.code_hash, provenance._module_hash, provenance._imports),
    *(provenance._folder, provenance._file, provenance._tree),
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package ``planted`` of two modules, of which ``top`` imports ``below``."""
    folder = tmp_path / "planted"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "below.py").write_text('"""Doc."""\n\ndef f(x):\n    """Doc."""\n    return x + 1\n')
    (folder / "top.py").write_text("from planted.below import f\n\nf(1)\n")
    (folder / "other.py").write_text("y = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(provenance, "PACKAGES", ("planted",))
    return folder


def hash_now() -> str:
    for cached in CACHES:
        cached.cache_clear()
    for name in [name for name in sys.modules if name.startswith("planted")]:
        del sys.modules[name]
    return provenance.code_hash("planted.top")


def test_comments_docstrings_and_unrelated_modules_do_not_count(package: Path) -> None:
    before = hash_now()
    (package / "below.py").write_text(
        '"""Other."""\n\n\ndef f(x):\n    # why\n    """Other."""\n    return x + 1\n'
    )
    (package / "other.py").write_text("y = 2\n")
    assert hash_now() == before


def test_a_change_in_an_imported_module_counts(package: Path) -> None:
    before = hash_now()
    (package / "below.py").write_text("def f(x):\n    return x + 2\n")
    assert hash_now() != before


def test_every_stage_has_a_hash_of_its_own() -> None:
    for cached in CACHES:
        cached.cache_clear()
    assert len({provenance.stage_code(stage) for stage in STAGES}) == len(STAGES)


def test_every_rule_of_a_stage_has_a_version() -> None:
    rules = Path(provenance.__file__).parents[2] / "rules"
    assert {stage for stage in STAGES if (rules / f"{stage}.smk").exists()} == set(STAGES)


def test_a_version_that_is_raised_changes_no_code(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "top.py").write_text("from planted.below import f\nfrom planted.other import y\n\nf(y)\n")
    monkeypatch.setattr(provenance, "NO_CODE", {"planted.other"})
    before = hash_now()
    (package / "other.py").write_text("y = 2\n")
    assert hash_now() == before


def test_the_code_counts_only_on_request() -> None:
    assert provenance.identity("track") == str(STAGES["track"].version)
    assert provenance.stage_code("track") in provenance.identity("track", "code")


def test_hashing_imports_nothing_heavy() -> None:
    """Each job of a cluster plans anew; torch would cost it seconds and hundreds of megabytes."""
    look = "from spatialdino_core.movies.provenance import stage_code; stage_code('features');"
    look += "import sys; print({'torch', 'zarr', 'pandas'} & set(sys.modules))"
    root = Path(provenance.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", look], cwd=root, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_template_of_a_page_counts(package: Path) -> None:
    before = hash_now()
    (package / "templates").mkdir()
    (package / "templates" / "page.html").write_text("<p>")
    assert hash_now() != before


MADE_BY = {
    "MODEL": "repair",
    "MODEL_REPORT": "repair",
    "weights_to_start_from()": "pretrain",
    "qc/previews": "preview",
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_follows_those_whose_results_its_rule_reads(stage: str) -> None:
    text = (Path(__file__).parents[3] / "rules" / f"{stage}.smk").read_text()
    inputs = text.split("    input:\n")[1].split("    output:\n")[0]
    read = {name for name in re.findall(r"(?<!ancient\()rules\.(\w+)\.output", inputs) if name != stage}
    read |= {rule for name, rule in MADE_BY.items() if re.search(rf"\b{re.escape(name)}(?!\w)", inputs)}
    assert read == set(STAGES[stage].follows)
