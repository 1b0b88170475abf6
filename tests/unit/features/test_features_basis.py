"""The basis against scikit-learn's, and patches that must not enter it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from spatialdino_core.encoder.vit import VisionTransformer3D
from spatialdino_core.errors import BadInputError
from spatialdino_core.features.basis import fit_basis, project


def test_the_basis_is_that_of_scikit_learn(encoder: VisionTransformer3D) -> None:
    crops = [np.random.default_rng(n).random((1, 40, 40, 40), np.float32) for n in range(6)]
    basis = fit_basis(encoder, crops, 32)
    with torch.inference_mode():
        tokens = [encoder(torch.as_tensor(c[None, :, 4:36, 4:36, 4:36])).patch_tokens[0] for c in crops]
    stacked = torch.cat(tokens).double().numpy()
    peer = PCA().fit(stacked)
    np.testing.assert_allclose(basis["pca.explained_variance"], peer.explained_variance_ratio_, atol=1e-5)
    agreement = np.abs((basis["pca.components"].numpy()[:4] * peer.components_[:4]).sum(1))
    np.testing.assert_allclose(agreement, 1, atol=1e-3)
    assert (
        basis["pca.components"].gather(1, basis["pca.components"].abs().argmax(1, keepdim=True)) > 0
    ).all()
    projected = project(torch.as_tensor(stacked.T.reshape(16, -1, 1, 1)).float(), basis, 4)
    np.testing.assert_allclose(
        np.abs(projected[:, :, 0, 0].T.numpy()), np.abs(peer.transform(stacked)[:, :4]), atol=1e-3
    )


def test_patches_without_data_do_not_enter_the_basis(encoder: VisionTransformer3D) -> None:
    """Fill beside an image changes its tokens, but is not counted: against their own components."""
    crop = np.random.default_rng(0).random((1, 32, 32, 32), np.float32)
    crop[..., :8] = 0.25
    with torch.inference_mode():
        tokens = encoder(torch.as_tensor(crop[None])).patch_tokens[0].reshape(4, 4, 4, 16)
    with_data = tokens[:, :, 1:].reshape(-1, 16)
    np.testing.assert_allclose(fit_basis(encoder, [crop], 32)["pca.mean"], with_data.mean(0), atol=1e-5)
    with pytest.raises(BadInputError, match="contrast"):
        fit_basis(encoder, [np.full((1, 32, 32, 32), 0.5, np.float32)], 32)
