"""Images in one subspace for all splits, or in separate ones as published."""

from dataclasses import replace

import pytest
import torch
from localdata import HERE
from oracles import generator, normals, within_standard_errors

from mimachine import workflow
from mimachine.data import fashion_pca
from mimachine.data.augmentation import Augmentation
from mimachine.data.dataset import Dataset
from mimachine.data.fashion_pca import (
    each_in_its_own,
    in_subspace,
    pca_fashion_mnist,
    pca_fashion_mnist_published,
)
from mimachine.data.image_sets import fashion_mnist
from mimachine.data.subspace import principal_subspace
from mimachine.experiment.presets import published


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def along(direction, count, seed):
    """Data around 1/2 that vary most along a direction, shape (count, 4)."""
    noise = normals(count, 4, seed=generator(seed)).float()
    return 0.5 + 0.3 * noise[:, :1] * torch.tensor(direction) + 0.001 * noise.roll(1, 1)


@pytest.fixture
def images():
    """Training and test images whose own first components have opposite signs."""
    training, test = (0.74, -0.67, 0.0, 0.0), (0.67, -0.74, 0.0, 0.0)
    y = torch.arange(30)
    splits = along(training, 30, 0), along(training, 10, 1), along(test, 20, 2)
    return Dataset("images", *splits, y, y[:10] + 100, y[:20] + 200, image_shape=(1, 2, 2))


def test_all_splits_lie_in_the_subspace_of_the_training_images(images):
    data = in_subspace("some", images, 4)
    expected = principal_subspace(images.train, 4)
    assert torch.equal(data.subspace.basis, expected.basis)
    assert data.subspace.explained == expected.explained
    for split in ("train", "val", "test"):
        pixels, rows = getattr(images, split), getattr(data, split)
        torch.testing.assert_close(rows, (pixels - images.train.mean(0)) @ expected.basis.T)
        # The subspace is the whole space here.
        torch.testing.assert_close(data.subspace.reconstruct(rows), pixels, rtol=0, atol=1e-6)
        assert torch.equal(getattr(data, f"{split}_labels"), getattr(images, f"{split}_labels"))
    assert data.image_shape is None


def test_the_published_test_data_have_the_opposite_sign(images):
    data = each_in_its_own("some", images, 1)
    training = torch.cat([images.train, images.val])
    torch.testing.assert_close(data.subspace.basis, principal_subspace(training, 1).basis)
    torch.testing.assert_close(data.train, data.subspace.project(training))
    own = principal_subspace(images.test, 1)
    torch.testing.assert_close(data.test, own.project(images.test))
    correlation = torch.corrcoef(torch.cat([data.test, data.subspace.project(images.test)], 1).T)
    assert float(correlation[0, 1]) < -0.99
    assert torch.equal(data.val, data.test)
    assert torch.equal(data.val_labels, images.test_labels)
    assert data.train_labels.tolist() == [*range(30), *range(100, 110)]
    assert "only for comparison with the paper's figure 3" in data.notes[1]


@pytest.mark.parametrize("make", [in_subspace, each_in_its_own])
def test_training_takes_versions_of_the_training_images_in_their_subspace(make, images):
    grey = replace(images, train=images.train.clamp(0, 1), val=images.val.clamp(0, 1))
    data = make("some", grey, 4, Augmentation(probability=0))
    pixels = data.subspace.reconstruct(data.versions)
    clean = data.subspace.reconstruct(data.train).clamp(0.01, 0.99)
    assert pixels.shape == (fashion_pca.NUM_VERSIONS, *data.train.shape)
    # Without a warp, grey value x is u / 256 + 255 x / 256.
    noise = 256 * pixels.clamp(0.01, 0.99) - 255 * clean
    inside = (clean > 0.02) & (clean < 0.98)
    noise = noise[:, inside].flatten().double()
    assert float(noise.min()) > -1e-3
    assert float(noise.max()) < 1 + 1e-3
    within_standard_errors(noise, 0.5)
    source, _ = workflow.sources(published("pca-fashion-mnist"), data)
    epoch = torch.cat(list(source.batches(7, 1)))
    rows = {row.numpy().tobytes() for row in data.versions.flatten(0, 1)}
    assert len(source) == len(epoch) == len(data.train)
    assert {row.numpy().tobytes() for row in epoch} < rows
    assert torch.equal(make("some", grey, 4, Augmentation(probability=0)).versions, data.versions)
    assert not torch.equal(make("some", grey, 4).versions, data.versions)


@pytest.mark.parametrize("shape", [None, (4, 1, 1)])
@pytest.mark.parametrize("make", [in_subspace, each_in_its_own])
def test_what_is_no_grey_image_is_refused(make, shape, images):
    with pytest.raises(ValueError, match=r"image_shape of \(1, H, W\), got"):
        make("some", replace(images, image_shape=shape), 2)


@pytest.fixture(scope="module", params={"fashion-mnist"} & {*HERE})
def real(request):
    return fashion_mnist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (pca_fashion_mnist, (50_000, 10_000, 10_000)),
        (pca_fashion_mnist_published, (60_000, 10_000, 10_000)),
    ],
)
def test_half_of_the_real_versions_are_the_clean_data_but_for_their_noise(real, make, sizes):
    data = make()
    splits = (data.train, data.val, data.test)
    assert tuple(map(len, splits)) == sizes
    for rows in splits:
        assert rows.shape[1] == 20
        within_standard_errors(rows.double(), 0.0)
    distance = (data.versions - data.train).norm(dim=2)
    # Grey values within 1/256 of the clean ones, or 1/1000 of a pixel's bounds.
    near = distance < 28 / 256
    within_standard_errors(near.T.double(), 0.5)
    assert float(distance[~near].median()) > 1


def test_twenty_components_hold_the_published_share_of_the_variance(real):
    subspace = principal_subspace(real.train, fashion_pca.NUM_DIMENSIONS)
    # The paper says 78.5 %.
    assert subspace.explained == pytest.approx(0.785, abs=1e-3)
    # Other images of the same kind have the same share, up to the sampling error of 10,000.
    lost = (real.test - subspace.reconstruct(subspace.project(real.test))).square().sum(1)
    total = (real.test - subspace.mean).square().sum(1)
    assert 1 - float(lost.sum() / total.sum()) == pytest.approx(0.785, abs=5e-3)
