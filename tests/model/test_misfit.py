"""A loss that is called directly says what does not fit, and costs nothing while all fits."""

import pytest
import torch

import mimachine as mm
from mimachine.model.misfit import MisfitError


def model(features=3, latents=2):
    encoder, decoder = mm.Gaussian(mm.MLP(features, 4, (5,))), mm.Gaussian(mm.MLP(latents, 6, (5,)))
    return mm.Joint(encoder, decoder, mm.StandardNormal(2))


def loss(**sizes):
    return mm.Loss(model(**sizes), mm.MIM)


WIDE = torch.zeros(5, 4)
RIGHT = WIDE[:, :3]


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (WIDE, MisfitError, "^x must have 3 values per row, as the encoder takes, got 4$"),
        (RIGHT.double(), MisfitError, "^x must have the type of the encoder, float32, got float64"),
        (RIGHT.tolist(), TypeError, r"^x must be a tensor of shape \(N, \*X\), got a list"),
        (None, TypeError, r"^x must be a tensor of shape \(N, \*X\), got a NoneType"),
        (torch.tensor(1.0), TypeError, r"^x must be a tensor .*, got a single number"),
    ],
)
def test_data_that_do_not_fit_are_named(x, error, message):
    for called in (loss(), loss().eval(), lambda x: loss()(x, 0.5)):
        with pytest.raises(error, match=message) as caught:
            called(x)
        assert caught.value.__cause__ is not None


def test_parts_that_do_not_fit_are_named():
    with pytest.raises(MisfitError, match=r"^z must have 7 latents, as the decoder takes, got 2"):
        loss(latents=7)(RIGHT)


def test_data_of_an_ensemble_and_under_vmap_are_named():
    message = "^x must have 3 values per row, as the encoder takes, got 4$"
    stacked = WIDE.expand(2, 5, 4)
    with pytest.raises(MisfitError, match=message):
        mm.Ensemble([loss(), loss()])(stacked)
    for randomness in ("different", "same", "error"):
        with pytest.raises(MisfitError, match=message):
            torch.vmap(loss(), randomness=randomness)(stacked)


def test_a_function_that_calls_the_loss_names_its_own_argument():
    recipe = mm.Training(epochs=1, warmup=0)
    with pytest.raises(MisfitError, match=r"^train must have 3 values per row"):
        mm.fit(loss(), torch.zeros(20, 4), training=recipe)


class Failing(mm.Gaussian):
    """An encoder that fails for a reason of its own in training only."""

    def forward(self, condition):
        if self.training:
            raise RuntimeError("a reason of its own")
        return super().forward(condition)


def test_an_error_for_another_reason_is_raised_as_it_is():
    parts = Failing(mm.MLP(3, 4)), mm.Gaussian(mm.MLP(2, 6)), mm.StandardNormal(2)
    with pytest.raises(RuntimeError, match=r"^a reason of its own$"):
        mm.Loss(mm.Joint(*parts), mm.MIM)(RIGHT)


def test_a_loss_that_fits_runs_under_vmap_and_compiles_as_one_graph():
    stacked = RIGHT.expand(2, 5, 3)
    assert torch.vmap(loss(), randomness="different")(stacked).shape == (2, 5)
    compiled = torch.compile(loss(), backend="eager", fullgraph=True)
    assert compiled(RIGHT).shape == (5,)
