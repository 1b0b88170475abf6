"""Pages from templates: one self-contained HTML file each, with pictures and style inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from spatialdino_core.files import write_text

TEMPLATES = Path(__file__).with_name("templates")


def write_page(path: Path | str, template: str, **content: Any) -> None:
    """Fill in a template of ``report/templates`` and publish it.

    Parameters
    ----------
    path
        The page.
    template
        File name of the template.
    content
        Its variables; one that is missing is an error. Text is escaped.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_text(path, environment.get_template(template).render(**content))
