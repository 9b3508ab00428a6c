import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

import mimachine as mm


def rows(count=800, features=6, rank=2, noise=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    axes = torch.randn(rank, features, generator=generator, dtype=torch.float64)
    codes = torch.randn(count, rank, generator=generator, dtype=torch.float64)
    return codes @ axes + noise * torch.randn(count, features, generator=generator).double() + 3


@pytest.mark.parametrize("latent", [1, 2, 4])
def test_the_model_has_the_likelihood_of_scikit_learn_and_the_exact_posterior(latent):
    x = rows()
    model = mm.probabilistic_pca(x, latent)
    found = mm.log_likelihood(model, x, 5)
    np.testing.assert_allclose(found.values.numpy(), PCA(latent).fit(x).score_samples(x), rtol=1e-9)
    # Every importance weight is p(x) if q(z|x) is the posterior.
    np.testing.assert_allclose(found.effective_sample_sizes.numpy(), 5, rtol=1e-6)
    assert mm.codes(model, x).mean.shape == (800, latent)


def test_no_other_linear_model_explains_the_data_better():
    x = rows()
    model = mm.probabilistic_pca(x, 2)
    best = mm.log_likelihood(model, x, 2).values.mean()
    for _ in range(20):
        other = mm.probabilistic_pca(x, 2)
        with torch.no_grad():
            for parameter in other.decoder.parameters():
                parameter += 0.03 * torch.randn_like(parameter)
        assert mm.log_likelihood(other, x, 200).values.mean() < best


@pytest.mark.parametrize("latent", [3, 6, 9])
def test_latents_beyond_the_rank_are_not_used(latent):
    x = rows(rank=3, noise=0.0)
    model = mm.probabilistic_pca(x, latent)
    encoded = mm.codes(model, x)
    # Of the others the posterior is the prior.
    assert int(mm.diagnose_codes(encoded.mean, encoded.std).active.sum()) == 3
    reconstructed = model.decoder(encoded.mean).mean
    # Noise of a thousandth of the data's width is assumed, which shrinks codes a little.
    assert float((reconstructed - x).detach().abs().max()) < 1e-3 * float(x.std())
    assert mm.log_likelihood(model, x[:50], 3).values.isfinite().all()


def test_data_that_do_not_fit_are_refused():
    for x in (
        torch.randn(5),
        torch.randn(1, 3),
        torch.randn(4, 2, 2),
        torch.full((9, 2), torch.nan),
    ):
        with pytest.raises(ValueError, match=r"x must|x has|not finite"):
            mm.probabilistic_pca(x, 1)
    for latent in (0, -1, 1.5, True):
        with pytest.raises((ValueError, TypeError), match="latent must be"):
            mm.probabilistic_pca(torch.randn(9, 2), latent)
