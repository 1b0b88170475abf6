"""Machine code is kept for the sources that it was made from, all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spatialdino_core import compiled


def test_every_compiled_function_stands_where_the_digest_looks() -> None:
    for path in compiled.CORE.rglob("*.py"):
        if "@njit" in path.read_text(encoding="utf-8"):
            assert path.relative_to(compiled.CORE).parts[0] in compiled.ROOMS, path


@pytest.mark.parametrize("folder", [*compiled.ROOMS, "segment/detect"])
def test_any_edit_gives_another_folder(tmp_path: Path, folder: str) -> None:
    for name in compiled.ROOMS:
        shutil.copytree(compiled.CORE / name, tmp_path / name)
    before = compiled.sources_digest(tmp_path)
    path = sorted((tmp_path / folder).glob("*.py"))[-1]
    path.write_text(path.read_text() + "\nX = 1\n")
    assert compiled.sources_digest(tmp_path) != before


def test_an_edit_of_another_file_is_not_hidden_by_kept_code(tmp_path: Path) -> None:
    shutil.copytree(
        compiled.CORE, tmp_path / "spatialdino_core", ignore=shutil.ignore_patterns("__pycache__")
    )
    folder = tmp_path / "spatialdino_core" / "track"
    (folder / "one.py").write_text(
        "from spatialdino_core.compiled import njit\n\n@njit(cache=True)\ndef f(x):\n    return x + 1\n"
    )
    (folder / "two.py").write_text(
        "from spatialdino_core.compiled import njit\nfrom spatialdino_core.track.one import f\n\n"
        "@njit(cache=True)\ndef g(x):\n    return f(x)\n"
    )
    assert answer(tmp_path) == "2"
    (folder / "one.py").write_text((folder / "one.py").read_text().replace("+ 1", "+ 2"))
    assert answer(tmp_path) == "3"


def answer(folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", "from spatialdino_core.track.two import g; print(g(1))"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(folder)},
        text=True,
        capture_output=True,
        check=True,
    )
    return done.stdout.strip()
