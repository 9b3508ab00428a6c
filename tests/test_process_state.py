"""Public functions leave the state of the process as it was, also in threads and after errors."""

import copy
import random
import threading
import warnings

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Distribution

import mimachine as mm
from mimachine import workflow
from mimachine._support.seeds import forked
from mimachine.data.dataset import Dataset
from mimachine.datasets import digits

RECIPE = mm.Training(epochs=2, batch_size=16, warmup=0, seed=3)
X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
LABELS = (X[:, 0] > 0).long()
DATA = Dataset("blobs", X, X[:20], X[:24], LABELS, LABELS[:20], LABELS[:24])


class Broken(nn.Module):
    """A decoder that fails in its second call of a computation."""

    def __init__(self, part):
        super().__init__()
        self.part, self.calls = part, 0

    def forward(self, z):
        self.calls += 1
        if self.calls > 1:
            raise OSError("broken")
        return self.part(z)


def model(prior=None):
    with forked(0):
        encoder, decoder = mm.Gaussian(mm.MLP(3, 4, (5,))), mm.Gaussian(mm.MLP(2, 6, (5,)))
        return mm.Joint(encoder, decoder, mm.StandardNormal(2) if prior is None else prior)


def fitted(model, seed):
    training = mm.Training(epochs=2, batch_size=16, warmup=0, seed=seed)
    return mm.fit(mm.Loss(model, mm.MIM), X, X[:20], training).epochs


def drawn_in_epochs(model, seed):
    normal = torch.distributions.Independent(torch.distributions.Normal(X[0], 1.0), 1)
    return list(mm.FreshDraws(normal, 20, seed).batches(8, 1))


CALLS = {
    "fit": fitted,
    "codes": lambda model, seed: mm.codes(model, X, seed=seed),
    "reencode": lambda model, seed: mm.reencode(model, X, 20, seed=seed),
    "log_likelihood": lambda model, seed: mm.log_likelihood(model, X, 20, seed=seed),
    "mean_log_likelihood": lambda model, seed: mm.mean_log_likelihood(
        model, X, 20, subset=9, few_samples=3, seed=seed
    ),
    "quadrature": lambda model, seed: mm.quadrature_log_likelihood(model, X[:2], tolerance=0.1),
    "annealed": lambda model, seed: mm.annealed_log_likelihood(
        model, X[:3], num_chains=3, num_steps=4, seed=seed
    ),
    "bidirectional": lambda model, seed: mm.bidirectional_check(
        model, 3, num_chains=3, num_steps=4, seed=seed
    ),
    "bounds": lambda model, seed: mm.information_bounds(model, X, seed=seed),
    "decompose": lambda model, seed: mm.decompose(model, X, num_samples=2, seed=seed),
    "evaluate": lambda model, seed: mm.evaluate(model, DATA, num_samples=5, seed=seed).metrics,
    "diagnose": lambda model, seed: mm.diagnose(X, X, 0.5, labels=LABELS, seed=seed).metrics,
    "refit_prior": lambda model, seed: (
        mm.refit_prior(
            model, X, X[:20], kind="gmm", training=mm.Training(1, warmup=0, seed=seed)
        ).prior.loc
    ),
    "refit a flow": lambda model, seed: (
        mm.refit_prior(
            model, X, kind="flow", training=mm.Training(1, warmup=0, seed=seed)
        ).prior.mean
    ),
    "refit_proposal": lambda model, seed: list(
        mm.refit_proposal(
            model, X, num_samples=2, training=mm.Training(1, warmup=0, seed=seed)
        ).parameters()
    ),
    "compare_priors": lambda model, seed: mm.compare_priors(model, model, X, 9, seed=seed),
    "sample": lambda model, seed: workflow.sample(model, 5, seed),
    "reconstruct": lambda model, seed: workflow.reconstruct(model, X, seed),
    "ksg": lambda model, seed: mm.mutual_information(X, X[:, :1] ** 2),
    "calibration": lambda model, seed: mm.ksg_calibration(1, 1, 30, (0.5,)),
    "linear_probe": lambda model, seed: mm.linear_probe(X, LABELS, X, LABELS),
    "energy_distance": lambda model, seed: mm.energy_distance(X, X[:20] ** 2),
    "two_sample_auc": lambda model, seed: mm.two_sample_auc(X, X[:20] ** 2, seed=seed),
    "two_sample_auc, wide": lambda model, seed: mm.two_sample_auc(
        X.repeat(1, 40), X[:20].repeat(1, 40), most=20, seed=seed
    ),
    "fresh draws": drawn_in_epochs,
    "binarized": lambda model, seed: list(
        mm.Binarized(mm.TensorSource(X.sigmoid()), seed).batches(9, 1)
    ),
    "digits": lambda model, seed: digits().train,
}
# These use no decoder, or do not fail in its second call.
WITHOUT_DECODER = {
    *("codes", "bounds", "diagnose", "refit_prior", "refit a flow", "ksg", "calibration"),
    *("linear_probe", "fresh draws", "binarized", "digits", "sample", "reconstruct"),
    *("energy_distance", "two_sample_auc", "two_sample_auc, wide"),
}


def state(model):
    """What the process has, as far as this library could change it, and the model's modes."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": [np.asarray(part).tolist() for part in np.random.get_state()],  # noqa: NPY002
        "random": random.getstate(),
        "validation": Distribution._validate_args,
        "warnings": list(warnings.filters),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "matplotlib": (dict(mpl.rcParams), mpl.get_backend()),
        "modes": [part.training for part in model.modules()],
    }


def changed(before, after):
    return [name for name in before if before[name] != after[name]]


def same(one, other):
    """Whether two results are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one.nan_to_num(-9.0), other.nan_to_num(-9.0))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__dict__"):
        return same(list(vars(one).values()), list(vars(other).values()))
    return one == other or (one != one and other != other)


@pytest.mark.parametrize("name", CALLS)
def test_the_state_of_the_process_stays_and_a_seed_decides_the_result(name):
    call, trained = CALLS[name], model()
    trained.decoder.eval()
    # The first call may import packages, some of which add filters of warnings.
    first = call(copy.deepcopy(trained), 1)
    before = state(trained)
    again = call(trained, 1)
    differs = changed(before, state(trained))
    # Training ends in evaluation mode, as its documentation says.
    assert differs == (["modes"] if name == "fit" else [])
    assert same(first, again)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in WITHOUT_DECODER])
def test_the_state_of_the_process_stays_when_a_function_raises(name):
    broken = model()
    broken.decoder = Broken(broken.decoder)
    before = state(broken)
    with pytest.raises(OSError, match="broken"):
        CALLS[name](broken, 1)
    assert changed(before, state(broken)) in ([], ["modes"] if name == "fit" else [])


FAST_IN_THREADS = ("fit", "bounds", "codes", "two_sample_auc")


@pytest.mark.parametrize(
    "name",
    [n if n in FAST_IN_THREADS else pytest.param(n, marks=pytest.mark.slow) for n in CALLS],
)
def test_results_in_threads_are_those_of_one_thread(name):
    call, found, shared = CALLS[name], {}, model()
    alone = [call(copy.deepcopy(shared), seed) for seed in (1, 2, 1)]
    # Training changes its model; the others may share one.
    models = [copy.deepcopy(shared) if name == "fit" else shared for _ in range(3)]
    before = state(shared)

    def work(index):
        found[index] = call(models[index], (1, 2, 1)[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(alone[index], found[index]) for index in range(3))
    assert changed(before, state(shared)) == []


def test_the_number_of_threads_of_torch_stays():
    number = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        mm.information_bounds(model(), X)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(number)


def test_functions_without_a_seed_repeat_themselves_and_seeds_differ():
    one, other = mm.codes(model(), X).sample, mm.codes(model(), X).sample
    assert torch.equal(one, other)
    assert torch.equal(one, mm.codes(model(), X, seed=0).sample)
    assert not torch.equal(one, mm.codes(model(), X, seed=1).sample)


def test_a_seeded_block_of_a_caller_decides_the_noise_of_all_functions_in_it():
    with forked(5):
        first, second = mm.codes(model(), X).sample, mm.codes(model(), X).sample
    with forked(5):
        again = mm.codes(model(), X).sample
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
