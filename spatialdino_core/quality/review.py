"""The review of all movies: judge their previews, draw the contact sheet, leave the decision to the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spatialdino_core.files import read_json
from spatialdino_core.quality.contact_sheet import draw_contact_sheet
from spatialdino_core.quality.decisions import (
    add_new_movies,
    human_decisions,
    judgement,
    read_decisions,
    write_table,
)
from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.quality.verdict import Measures, judge, judge_movie


def review_movies(
    previews: Sequence[Path | str],
    parameters: QualityParameters,
    metrics: Path | str,
    metrics_by_channel: Path | str,
    contact_sheet: Path | str,
    *,
    version: str,
) -> None:
    """Judge every movie, publish the tables of measures and the contact sheet, and add new movies to the
    user's ``decisions.tsv`` beside them.

    Parameters
    ----------
    previews
        Each movie's preview: JSON, with a PNG of the same name beside it.
    parameters
        Thresholds of the automatic verdict.
    metrics, metrics_by_channel
        Tables to publish: one row per movie, with the measures of its first channel and the verdict on all;
        one row per movie and channel.
    contact_sheet
        Page to publish.
    version
        Of the review's results, kept in the table as part of what a verdict rests on.
    """
    entries: list[dict[str, Any]] = []
    channel_rows: list[dict[str, Any]] = []
    for path in previews:
        preview = read_json(path)
        movie = preview["movie"]
        channels: dict[str, Measures] = preview.get("channels", {})
        whole = _of_the_movie(preview)
        geometry: dict[str, dict[str, str]] = preview.get("geometry", {})
        contradictions = {channel: one["reason"] for channel, one in geometry.items()}
        verdict, reason = _verdict(preview, whole, channels, parameters, contradictions)
        entries.append(
            {
                "movie": movie,
                "verdict": verdict,
                "reason": reason,
                "warnings": preview["warnings"],
                "reading": preview["reading"],
                "geometry": {channel: one["fact"] for channel, one in geometry.items() if one["fact"]},
                "judged": judgement(preview["state"], parameters, version),
                "whole": whole,
                "channels": channels,
                "panels": preview.get("panels", []),
                "picture": Path(path).with_suffix(".png"),
            }
        )
        channel_rows += [
            {"movie": movie, "channel": channel}
            | {"reason": "; ".join(judge(measures, parameters, contradictions.get(channel, "")).reasons)}
            | _cells(measures)
            for channel, measures in channels.items()
        ]
    decisions = Path(metrics).with_name("decisions.tsv")
    add_new_movies(decisions, [entry["movie"] for entry in entries])
    draw_contact_sheet(
        entries,
        read_decisions(decisions),
        contact_sheet,
        run=str(Path(metrics).resolve().parent),
        decided=human_decisions(decisions),
    )
    write_table(metrics_by_channel, _columns(["movie", "channel", "reason"], channel_rows), channel_rows)
    rows = [
        {name: entry[name] for name in ("movie", "verdict", "reason", "judged")}
        | _cells(entry["whole"])
        | _cells(next(iter(entry["channels"].values()), {}))
        for entry in entries
    ]
    write_table(metrics, _columns(["movie", "verdict", "reason", "judged"], rows), rows)


def _of_the_movie(preview: Mapping[str, Any]) -> Measures:
    """Measures that all channels share."""
    if "frames" not in preview:
        return {}
    frames, missing = preview["frames"], preview["missing_frames"]
    return {"frames": frames, "missing_frames": missing, "missing_fraction": round(missing / frames, 6)}


def _verdict(
    preview: Mapping[str, Any],
    whole: Measures,
    channels: Mapping[str, Measures],
    parameters: QualityParameters,
    contradictions: Mapping[str, str],
) -> tuple[str, str]:
    if preview["problem"]:
        return "problem", " ".join(preview["problem"].split())
    verdict = judge_movie(whole, channels, parameters, contradictions)
    return verdict.word, "; ".join(verdict.reasons)


def _cells(measures: Measures) -> dict[str, object]:
    return {name: "" if value is None else f"{value:.6g}" for name, value in measures.items()}


def _columns(first: Sequence[str], rows: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys([*first, *(name for row in rows for name in row)]))
