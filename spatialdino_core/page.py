"""Pages from templates: one self-contained HTML file each, with pictures and style inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from spatialdino_core.files import write_text


def write_page(path: Path | str, template: Path, **content: Any) -> None:
    """Fill in a template and publish it.

    Parameters
    ----------
    path
        The page.
    template
        The template's file; what it includes or extends lies beside it.
    content
        Its variables; one that is missing is an error. Text is escaped.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_text(path, environment.get_template(template.name).render(**content))
