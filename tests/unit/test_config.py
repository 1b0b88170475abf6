"""Settings: what is refused and how it is named, and that their documents are current."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from spatialdino_core.config import MOVED, WorkflowConfig, check_files, fields_of, load_config
from spatialdino_core.errors import BadInputError
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.reference import settings_page, settings_schema

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"movies": "movies.tsv", "results": "results"}
FILES = [ROOT / "config.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]


def test_the_documents_of_the_settings_are_current() -> None:
    """Else: make settings."""
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page()
    assert (ROOT / "docs" / "settings.schema.json").read_text() == settings_schema()


def test_every_key_is_documented_with_a_sentence() -> None:
    page = settings_page()
    for name, field in keys(WorkflowConfig):
        assert f"{name}` |" in page
        assert field.description, name


def keys(section: Any) -> list[tuple[str, Any]]:
    found = []
    for name, field in fields_of(section):
        inside = keys(field.annotation) if hasattr(field.annotation, "__pydantic_fields__") else []
        found += inside or [(name, field)]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_settings_files_fit_the_schema_and_the_parameters(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    jsonschema.validate(content, json.loads(settings_schema()))
    load_config(NEEDED | content)


@pytest.mark.parametrize(
    "content", [{"trak": {}}, {"track": {"max_gap_frame": 1}}, {"segment": {"optics": {}}}, {"seed": -1}]
)
def test_the_schema_refuses_what_the_parameters_refuse(content: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json.loads(settings_schema()))
    with pytest.raises(BadInputError):
        load_config(NEEDED | content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"track": {"max_gap_frame": 1}}, "key 'track.max_gap_frame' (did you mean 'max_gap_frames'?)"),
        ({"trak": {}}, "unknown key 'trak' (did you mean 'track'?)"),
        ({"max_gap_frames": 1}, "unknown key 'max_gap_frames' (did you mean 'track.max_gap_frames'?)"),
        ({"segment": {"sigma_axial_um": 0.3}}, "'optics.sigma_axial_um' instead"),
        ({"features": {"streaming": {"precision": "auto"}}}, "'features.precision' instead"),
        ({"features": {"streaming": {"clusters": 3}}}, "no 'features.streaming.clusters': it is gone"),
        ({"encoder": {"size": "small", "embed_dim": 96}}, "small has embed_dim 384, and 96 is given"),
        ({"model": {"source": "train", "file": "a"}}, "'file' names a"),
        ({"model": {"source": "file"}}, "'file' names none"),
    ],
)
def test_a_bad_key_is_named_with_what_was_meant(content: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInputError) as refused:
        load_config(NEEDED | content)
    assert words in str(refused.value)


def test_moved_keys_lead_to_keys_that_are_there() -> None:
    known = [name for name, _ in fields_of(WorkflowConfig)]
    for old, new in MOVED.items():
        section, _, name = new.partition(".")
        if new:
            assert section in known, old
            assert not name or name in [
                n for n, _ in fields_of(WorkflowConfig.__pydantic_fields__[section].annotation)
            ]


def test_stages_get_the_sections_that_they_share() -> None:
    config = load_config(NEEDED | {"optics": {"sigma_lateral_um": 0.2}})
    assert config.segment.optics == OpticsParameters(sigma_lateral_um=0.2)


def test_a_width_of_the_encoder_without_a_size_is_a_custom_one() -> None:
    config = load_config(NEEDED | {"encoder": {"embed_dim": 24, "heads": 2}})
    assert (config.encoder.size, config.encoder.embed_dim, config.encoder.depth) == ("custom", 24, 12)
    assert load_config(NEEDED).encoder.size == "small"


def test_the_config_of_the_project_holds_what_a_user_decides() -> None:
    text = (ROOT / "config.yaml").read_text()
    assert len(text.splitlines()) <= 50
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if ":" in line and not line.lstrip().startswith("#"):
            assert lines[number - 1].lstrip().startswith("#"), line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"track": {"max_gap_frames": True}}, "track.max_gap_frames = True"),
        ({"quality": {"max_motion_um": False}}, "quality.max_motion_um = False"),
        ({"seed": True}, "seed = True"),
        ({"quality": {"min_focus": float("inf")}}, "quality.min_focus = inf"),
        ({"features": {"high_resolution": ["activaton"]}}, "features.high_resolution.0 = 'activaton'"),
        ({"model.source": "train"}, "model: {source: …}"),
    ],
)
def test_what_is_no_number_and_no_name_is_refused(content: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInputError) as refused:
        load_config(NEEDED | content)
    assert words in str(refused.value)


def test_every_number_has_a_lowest_and_a_highest_value() -> None:
    """Else one digit too many ends in a plan that never comes to an end, or in a job that is killed."""
    found = list(numbers(json.loads(settings_schema()), ""))
    assert len(found) > 100
    for name, about in found:
        assert {"minimum", "exclusiveMinimum"} & set(about), name
        assert {"maximum", "exclusiveMaximum"} & set(about), name


def numbers(schema: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Descriptions of all numbers in a schema."""
    inside = (
        schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ()
    )
    if isinstance(schema, dict) and schema.get("type") in ("integer", "number"):
        yield name, schema
    for key, value in inside:
        yield from numbers(value, f"{name}.{key}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("crops.crop_voxels", 1e9), ("crops.crops_per_frame", 100_000)),
        *(("pretrain.batch_size", 10**9), ("pretrain.loader_workers", 10**6)),
        *(("deskew.grid_offset_um", 1e308), ("deskew.grid_offset_um", -1e308)),
    ],
)
def test_numbers_beyond_all_sense_are_refused(key: str, value: float) -> None:
    section, _, name = key.partition(".")
    with pytest.raises(BadInputError, match=f"{key} = .*less than|{key} = .*greater than"):
        load_config(NEEDED | {section: {name: int(value) if name != "grid_offset_um" else value}})


def test_truth_values_and_empty_sections_stay() -> None:
    config = load_config(NEEDED | {"deskew": {"tiff": True}, "optics": None})
    assert config.deskew.tiff
    assert config.optics == OpticsParameters()


def test_a_key_that_is_said_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "optics: {sigma_lateral_um: 0.2}\ntrack:\n  border_um: 1\noptics: {sigma_axial_um: 0.4}\n"
    )
    with pytest.raises(BadInputError, match=r"mine.yaml: found 'optics' in line 1 and again in line 4"):
        check_files([path])
    path.write_text("track:\n  border_um: 1\n  border_um: 2\n")
    with pytest.raises(BadInputError, match="'border_um' in line 2 and again in line 3"):
        check_files([path])


def test_settings_are_called_by_the_users_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")
    assert check_files([tmp_path / "mine.yaml", ROOT / "config.yaml"]) == f"settings ({tmp_path}/mine.yaml)"
    assert check_files([ROOT / "config.yaml"]) == "settings"


@pytest.mark.parametrize("path", ["a{b", "}", "a\nb", "a\tb", "-out"])
@pytest.mark.parametrize("key", ["results", "model.file", "pretrain.start_from"])
def test_paths_that_snakemake_cannot_name_are_refused(path: str, key: str) -> None:
    section, _, name = key.partition(".")
    content: dict[str, object] = {"movies": "{m}\n.tsv", "results": "Mäuse & 'x' [a] $HOME"}
    assert load_config(content).movies == "{m}\n.tsv"
    content |= {section: {name: path} if name else path}
    with pytest.raises(BadInputError, match="a path without"):
        load_config(content)


def test_paths_may_begin_with_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/kim")
    content = {"movies": "~/m.tsv", "results": "~/out/", "model": {"file": "~/w.safetensors"}}
    config = load_config(content | {"pretrain": {"start_from": "~/s.safetensors"}})
    assert (config.movies, config.results) == ("/home/kim/m.tsv", "/home/kim/out")
    assert config.model.file == "/home/kim/w.safetensors"
    assert config.pretrain.start_from == "/home/kim/s.safetensors"


def test_results_have_a_folder_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "lost").symlink_to("nowhere")
    (tmp_path / "link").symlink_to(".")
    for results, words in [
        (".", "a folder of its own"),
        ("./", "a folder of its own"),
        ("file", "a folder; file is none"),
        (f"{tmp_path}/file/out", f"a folder; {tmp_path}/file is none"),
        ("lost", "a folder; lost is none"),
    ]:
        with pytest.raises(BadInputError, match=words):
            load_config(NEEDED | {"results": results})
    for results in ("new/out", str(tmp_path), "link/out"):
        assert load_config(NEEDED | {"results": results}).results == results


def test_a_model_may_be_called_by_a_number() -> None:
    assert load_config(NEEDED | {"model": {"version": 2}}).model.version == "2"
    for wrong in (True, 1.10, [2]):  # YAML takes 1.10 for 1.1
        with pytest.raises(BadInputError, match=r"model\.version"):
            load_config(NEEDED | {"model": {"version": wrong}})


def test_an_unknown_section_with_nothing_under_it_is_refused() -> None:
    with pytest.raises(BadInputError, match="unknown key 'quallity'"):
        load_config({"movies": "m.tsv", "results": "r", "quallity": None})
    assert load_config({"movies": "m.tsv", "results": "r", "quality": None})
