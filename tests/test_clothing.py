"""Images in subspaces: one for all splits, or each in its own as published."""

import pytest
import torch
from oracles import generator, normals

from mimachine import clothing
from mimachine.clothing import each_in_its_own, in_subspace
from mimachine.datasets import Dataset
from mimachine.downloads import located
from mimachine.imagesets import fashion_mnist
from mimachine.subspace import principal_subspace


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
    data = in_subspace("some", images, 2)
    expected = principal_subspace(images.train, 2)
    assert torch.equal(data.subspace.basis, expected.basis)
    assert data.subspace.explained == expected.explained
    for split in ("train", "val", "test"):
        pixels, rows = getattr(images, split), getattr(data, split)
        torch.testing.assert_close(rows, (pixels - images.train.mean(0)) @ expected.basis.T)
        # All but the small noise comes back.
        torch.testing.assert_close(data.subspace.reconstruct(rows), pixels, rtol=0, atol=0.03)
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
    assert "figure 3 alone" in data.notes[0]


@pytest.fixture(scope="module")
def real():
    if any(path is None for name, _, path in located() if name == "fashion-mnist"):
        pytest.skip("fashion-mnist is not on this machine")
    return fashion_mnist()


def test_twenty_components_hold_the_published_share_of_the_variance(real):
    data = in_subspace("real", real, clothing.NUM_DIMENSIONS)
    # The paper says 78.5 %.
    assert data.subspace.explained == pytest.approx(0.785, abs=1e-3)
    assert tuple(map(len, (data.train, data.val, data.test))) == (50_000, 10_000, 10_000)
    assert data.train.shape[1] == 20
    torch.testing.assert_close(data.train.mean(0), torch.zeros(20), rtol=0, atol=1e-4)
    # Other images of the same kind lie as much in the subspace, to the scatter of 10,000.
    lost = (real.test - data.subspace.reconstruct(data.test)).square().sum(1)
    total = (real.test - data.subspace.mean).square().sum(1)
    assert 1 - float(lost.sum() / total.sum()) == pytest.approx(0.785, abs=5e-3)
