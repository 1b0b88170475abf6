"""Maps on the image's own grid, on request: made from the stored ones, so that nothing is encoded again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.crops.normalise import Scale, normalise
from spatialdino_core.errors import BadInputError
from spatialdino_core.features.grid import Triple, on_voxels, patch_means
from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.features.stores import FeatureStores
from spatialdino_core.features.upsample import guided_on_voxels
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.ledger import FrameJob, FrameLedger, FrameResult
from spatialdino_core.movies.store import FrameStore, StoreLayout
from spatialdino_core.parameters import digest

HIGH_RESOLUTION = "features_high.ome.zarr"


def write_high_resolution(
    movie: DeskewedMovie,
    stores: FeatureStores,
    sums: dict[int, str],
    folder: Path,
    parameters: FeatureParameters,
    scale: Scale,
    version: str,
) -> None:
    """Write the requested maps of every frame that is not finished, float16 on the grid of the image.

    Parameters
    ----------
    sums
        Frame number to checksum of its features.
    scale
        Of the guide's intensities: the image's first channel, in [0, 1].

    Raises
    ------
    BadInputError
        If a map is requested that the stores do not have.
    """
    where = [_place(stores, name) for name in parameters.high_resolution]
    layout = StoreLayout(
        shape_czyx=(len(where), *movie.store.shape[2:]),
        dtype="float16",
        voxel_um=movie.voxel_um,
        origin_um=movie.store.origin_um,
        interval_s=movie.interval_s,
        channels=parameters.high_resolution,
        kind="map",
    )
    how = (parameters.high_resolution, parameters.upsampling, parameters.guide_range)
    store = FrameStore.prepare(folder / HIGH_RESOLUTION, layout, movie.frames, {"how": list(how)})
    z, y, x = np.subtract(stores.features.origin_um, movie.store.origin_um).tolist()

    def compute(frame: int) -> FrameResult:
        coarse = np.stack([each.read(frame, channel) for each, channel in where]).astype(np.float32)
        has_data = (stores.features.read(frame, slice(None)) != 0).any(axis=0)
        guide = normalise(movie.store.read(frame), scale) if parameters.upsampling == "guided" else None
        fine = upsampled(coarse, has_data, guide, movie, stores.features.voxel_um, (z, y, x), parameters)
        return FrameResult(output=store.write(frame, np.where(movie.valid, fine, 0).astype(np.float16)))

    FrameJob(
        ledger=FrameLedger(folder / "ledger" / "features_high.jsonl"),
        description=f"high resolution {folder.name}",
        key=digest(how, version, str(scale)),
        stamps={frame: digest(total, movie.record.checksums[frame]) for frame, total in sums.items()},
        steps={"compute": compute},
        stores=[store],
    ).run()


def upsampled(
    coarse: NDArray[np.float32],
    has_data: NDArray[np.bool_],
    guide: NDArray[np.float32] | None,
    movie: DeskewedMovie,
    spacing_um: Triple,
    origin_um: Triple,
    parameters: FeatureParameters,
) -> NDArray[np.float32]:
    """Maps (K, gz, gy, gx) on the movie's voxels, (K, z, y, x) float32; linear without a guide."""
    z, y, x = movie.store.shape[2:]
    if guide is None:
        return np.stack(
            [on_voxels(each, spacing_um, origin_um, (z, y, x), movie.voxel_um) for each in coarse]
        )
    means = patch_means(guide, movie.valid, movie.voxel_um, spacing_um, origin_um, has_data.shape)
    seen = np.where(has_data, means, np.nan)
    return guided_on_voxels(
        coarse, spacing_um, origin_um, guide, seen, movie.voxel_um, guide_range=parameters.guide_range
    )


def _place(stores: FeatureStores, name: str) -> tuple[FrameStore, int]:
    known = {
        channel: (store, number)
        for store in (stores.features, stores.foreground)
        for number, channel in enumerate(store.about["layout"]["channels"])
    }
    if name not in known:
        raise BadInputError(
            "config key 'features.high_resolution'",
            found=f"'{name}'",
            expected=f"one of {', '.join(known)}",
            remedy="Ask for maps that are stored.",
        )
    return known[name]
