"""Where a benchmark leaves what it measured: every single run as JSON, and its tables beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spatialdino_core.movies.provenance import software


def write(path: Path | None, content: dict[str, Any], tables: str = "") -> None:
    """Write ``content`` with version and commit, and ``tables`` beside it; without a path nothing."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(software() | content, indent=1, default=float) + "\n")
    if tables:
        path.with_suffix(".md").write_text(tables)
