"""The settings as a document and as a JSON schema, made from the typed parameters.

``python -m spatialdino_core.reference docs`` writes ``settings.md`` and ``settings.schema.json`` there.
"""

from __future__ import annotations

import json
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from spatialdino_core.config import WorkflowConfig, fields_of
from spatialdino_core.files import write_text
from spatialdino_core.parameters import SHARED

HEAD = """# Settings

Every key, with its default, range and meaning; units stand in brackets. Give the keys that differ in a file
of your own: `snakemake --profile profiles/default --configfile mine.yaml`. An unknown key is refused, the
nearest one named. This page is made from the code (`make settings`).

An editor that knows JSON schemas checks a settings file while it is written:
`# yaml-language-server: $schema=…/docs/settings.schema.json` (its path on your machine) in the first line.
"""
COLUMNS = "| key | default | range | meaning |\n|---|---|---|---|"
BOUNDS = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}


def settings_page() -> str:
    """``settings.md``: one table for the keys at the top, one for each section."""
    settings = list(fields_of(WorkflowConfig))
    top = [(name, field) for name, field in settings if not _section(field)]
    sections = [(name, field) for name, field in settings if _section(field)]
    parts = [HEAD, "## Of the whole run\n", _table(top)]
    for name, field in sections:
        about = (_section(field).__doc__ or "").strip().partition("\n\n")[0]
        sentence = textwrap.fill(" ".join(about.split()), 110)
        parts += [f"\n## `{name}`\n", sentence + "\n", _table(list(_flat(field)))]
    return "\n".join(parts) + "\n"


def settings_schema() -> str:
    """``settings.schema.json``: the JSON schema of a settings file, in which no key is required."""
    schema = TypeAdapter(WorkflowConfig).json_schema()
    schema.pop("required", None)
    schema["title"] = "Settings of the SpatialDINO workflow"
    for definition in schema["$defs"].values():
        properties = definition.get("properties", {})
        for name in [name for name, about in properties.items() if about.get("description") == SHARED]:
            del properties[name]
    return json.dumps(schema, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _section(field: FieldInfo) -> Any:
    return field.annotation if hasattr(field.annotation, "__pydantic_fields__") else None


def _flat(field: FieldInfo, above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Settings of a section; those of a section inside it with its name in front."""
    for name, inner in fields_of(_section(field)):
        if _section(inner):
            yield from _flat(inner, f"{above}{name}.")
        else:
            yield f"{above}{name}", inner


def _table(rows: list[tuple[str, FieldInfo]]) -> str:
    lines = [
        f"| `{name}` | {_default(field)} | {_range(field)} | {_meaning(field)} |" for name, field in rows
    ]
    return "\n".join([COLUMNS, *lines])


def _meaning(field: FieldInfo) -> str:
    text = (field.description or "").removesuffix(" (1)")  # a number without a unit
    return text[:1].upper() + text[1:]


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "none: to be given"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{json.dumps(value)}`".replace("|", "\\|")  # a bar ends a cell


def _range(field: FieldInfo) -> str:
    choices = [value for kind in _alternatives(field.annotation) for value in _choices(kind)]
    limits = list(field.metadata)
    for kind in _alternatives(field.annotation):
        if get_origin(kind) is Annotated:
            limits += [limit for about in get_args(kind)[1:] for limit in about.metadata]
    bounds = [
        f"{sign} {getattr(limit, name):.10g}"
        for limit in limits
        for kind, (name, sign) in BOUNDS.items()
        if isinstance(limit, kind)
    ]
    lengths = [
        f"at {'least' if isinstance(limit, MinLen) else 'most'} {length} values"
        for limit in field.metadata
        if isinstance(limit, MinLen | MaxLen)
        for length in [limit.min_length if isinstance(limit, MinLen) else limit.max_length]
    ]
    named = [f"`{choice}`" for choice in choices]
    return ", ".join(named + bounds + (lengths if get_origin(field.annotation) is tuple else []))


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _choices(kind: Any) -> tuple[Any, ...]:
    if kind is bool:
        return ("true", "false")
    return get_args(kind) if get_origin(kind) is Literal else ()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_text(folder / "settings.md", settings_page())
    write_text(folder / "settings.schema.json", settings_schema())
