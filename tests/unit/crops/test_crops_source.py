"""What training and repair ask of crops is checked before they begin."""

import numpy as np
import pytest

from spatialdino_core.crops.source import check_source, crop_names, shard_lengths
from spatialdino_core.errors import BadInputError


def crops(number=5):
    return list(np.random.default_rng(0).random((number, 1, 10, 9, 8), np.float32))


def test_raw_camera_counts_and_empty_sources_are_refused():
    check_source(crops(), 1, 8)
    with pytest.raises(BadInputError, match="normalised"):
        check_source([crop * 1000 for crop in crops()], 1, 8)
    with pytest.raises(BadInputError, match="at least one crop"):
        check_source([], 1, 8)


def test_a_source_that_says_nothing_is_one_file_of_numbered_crops():
    assert shard_lengths(crops(3)) == [3]
    assert crop_names(crops(3), [2, 0]) == ["2", "0"]
