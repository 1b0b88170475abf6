"""The training corpus: conditions cover their ranges evenly, held-out movies stay apart, files are whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.sheet import read_sheet
from spatialdino_core.simulate.corpus import (
    HELD_OUT_SNR,
    RANGES,
    held_out_movies,
    main,
    training_movies,
    write_corpus,
)


@pytest.mark.parametrize("movies", [5, 16])
def test_each_stratum_of_each_range_has_one_training_movie(movies: int) -> None:
    """What defines a Latin hypercube, on logarithmic axes."""
    made = training_movies(3, movies).values()
    values = {
        "snr": [m.scene.snr for m in made],
        "background_photons": [m.scene.background_photons for m in made],
        "texture_contrast": [m.scene.texture_contrast for m in made],
        "brightness_cv": [m.scene.brightness_cv for m in made],
        "sigma_lateral_um": [m.optics.sigma_lateral_um for m in made],
        "axial_over_lateral": [m.optics.sigma_axial_um / m.optics.sigma_lateral_um for m in made],
    }
    for name, drawn in values.items():
        low, high = RANGES[name]
        strata = np.floor(movies * np.log(np.array(drawn) / low) / np.log(high / low)).astype(int)
        assert sorted(strata.tolist()) == list(range(movies)), name


def test_conditions_are_not_tied_to_each_other() -> None:
    made = list(training_movies(0, 60).values())
    snr, particles = [m.scene.snr for m in made], [m.scene.particles for m in made]
    assert abs(np.corrcoef(np.log(snr), np.log(particles))[0, 1]) < 0.35
    with_cell = [m.scene.cell_photons > 0 for m in made]
    directed = [m.scene.directed_fraction > 0.5 for m in made]
    # Cell and kind of motion take turns at lengths without a common divisor: all combinations occur.
    assert Counter(zip(with_cell, directed, strict=True)) == {
        (False, False): 20,
        (True, False): 20,
        (False, True): 10,
        (True, True): 10,
    }


def test_held_out_movies_are_balanced_and_of_other_seeds() -> None:
    held_out, training = held_out_movies(7), training_movies(7, 500)
    cases = Counter((m.scene.snr, m.scene.cell_photons > 0) for m in held_out.values())
    assert cases == {(snr, cell): 2 for snr in HELD_OUT_SNR for cell in (False, True)}
    everything = [*held_out.values(), *training.values()]
    assert len({m.seed for m in everything}) == len(everything)
    others = held_out_movies(8) | training_movies(8, 500)
    assert not {m.seed for m in others.values()} & {m.seed for m in everything}
    assert not set(held_out) & set(training)


def test_files_are_what_the_sheet_says(tmp_path: Path) -> None:
    sheet = read_sheet(write_corpus(tmp_path, seed=1, movies=2))
    expected = training_movies(1, 2) | held_out_movies(1)
    assert list(sheet) == list(expected)
    assert [name for name, rows in sheet.items() if rows[0].train] == ["train_00", "train_01"]
    conditions = pd.read_csv(tmp_path / "conditions.tsv", sep="\t").set_index("movie")
    for name, parameters in expected.items():
        (row,) = sheet[name]
        acquisition = parameters.acquisition
        assert row.step_um == acquisition.step_um
        frames = [tifffile.imread(path) for path in row.files()]
        assert len(frames) == parameters.scene.frames
        assert frames[0].shape == (acquisition.planes, acquisition.rows, acquisition.columns)
        assert conditions["snr"][name] == pytest.approx(parameters.scene.snr, rel=1e-3)
        truth = pd.read_csv(tmp_path / "truth" / f"{name}.csv")
        path = tmp_path / "truth" / f"{name}_truth_labels.ome.tif"
        assert path.exists() == (not row.train)
        if path.exists():
            labels = tifffile.imread(path).reshape(acquisition.planes, acquisition.rows, -1)
            shining = truth[(truth["frame"] == 0) & truth["visible"]]
            at = shining[["z", "y", "x"]].round().astype(int).to_numpy()
            # A particle's own voxel bears its name, unless a neighbour's half maximum covers it.
            assert np.mean(labels[tuple(at.T)] == shining["particle"]) > 0.9
            assert set(np.unique(labels)) - {0} <= set(shining["particle"])


def test_a_number_of_movies_out_of_range_is_refused(tmp_path: Path) -> None:
    for movies in ("0", "501"):
        with pytest.raises(BadInputError, match="--movies"):
            main(["--out", str(tmp_path), "--movies", movies])
    assert not list(tmp_path.iterdir())
