import numpy as np
import pytest
import torch

import mimachine as mm
from mimachine.data import rows as rows_module
from mimachine.data.learn_preprocessing import learn
from mimachine.data.rows import Rows
from mimachine.data.sources import TensorSource


@pytest.fixture
def both(tmp_path):
    """The same rows in their file and as a tensor."""
    values = np.random.default_rng(0).normal(size=(50, 4)) * 3 + 1
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    learned, _ = learn(values, np.ones(50, dtype=bool))
    places = np.random.default_rng(1).permutation(50)[:40]
    return Rows(mapped, places, learned), torch.from_numpy(learned.apply(values[places]))


def test_rows_behave_like_a_tensor(both):
    rows, tensor = both
    assert len(rows) == len(tensor)
    assert rows.shape == tensor.shape
    assert rows.dtype == tensor.dtype
    assert rows.num_bytes == tensor.numel() * tensor.element_size()
    for index in (slice(None), slice(3, 9), torch.tensor([5, 1, 1]), np.array([0, 39])):
        assert torch.equal(rows[index], tensor[index])
    for size in (1, 7, 40, 100):
        for a, b in zip(rows.split(size), tensor.split(size), strict=True):
            assert torch.equal(a, b)
    assert torch.equal(rows.to("cpu")[:], tensor)


@pytest.mark.parametrize("shuffle", [True, False])
def test_training_gets_the_same_batches_from_disk_as_from_memory(both, shuffle):
    from_disk, from_memory = (TensorSource(each, seed=3, shuffle=shuffle) for each in both)
    for epoch in (1, 2):
        pairs = zip(from_disk.batches(16, epoch), from_memory.batches(16, epoch), strict=True)
        for a, b in pairs:
            assert torch.equal(a, b)


def test_a_model_is_fitted_to_rows_as_to_their_tensor(both):
    weights = []
    for rows in both:
        torch.manual_seed(0)
        encoder = mm.Gaussian(mm.MLP(4, 4))
        model = mm.Joint(encoder, mm.Gaussian(mm.MLP(2, 8)), mm.StandardNormal(2))
        mm.fit(mm.Loss(model, mm.A_MIM), rows, None, mm.Training(2, warmup=0), progress=False)
        weights.append(torch.nn.utils.parameters_to_vector(model.parameters()))
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize("held", [0, 7 << 16])
def test_giving_memory_back_between_reads_changes_nothing(both, held, monkeypatch):
    rows, tensor = both
    monkeypatch.setattr(rows_module, "_HELD_BYTES", held)
    assert rows[:0].shape == (0, 4)
    for _ in range(3):
        assert torch.equal(rows[:], tensor)
