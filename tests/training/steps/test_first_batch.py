"""What does not fit together is named with the first batch, before a step."""

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, Normal

import mimachine as mm
from mimachine import workflow
from mimachine.data.sources import TensorSource

RECIPE = mm.Training(epochs=1, batch_size=8, warmup=0)
X = torch.rand(16, 4)


def joint(**parts):
    usual = {
        "encoder": mm.Gaussian(mm.MLP(4, 4, (5,))),
        "decoder": mm.Gaussian(mm.MLP(2, 8, (5,))),
        "prior": mm.StandardNormal(2),
    }
    return mm.Joint(**{**usual, **parts})


def tables(x):
    return Independent(Categorical(logits=x[:, :2, None].expand(-1, 2, 5)), 1)


PARTS = {
    r"train must have 3 values per row, as the encoder takes, got 4": {
        "encoder": mm.Gaussian(mm.MLP(3, 4))
    },
    r"z must have 3 latents, as the decoder takes, got 2": {"decoder": mm.Gaussian(mm.MLP(3, 8))},
    r"decoder gives events of shape \(3,\)": {"decoder": mm.Gaussian(mm.MLP(2, 6))},
    r"prior gives events of shape \(3,\)": {"prior": mm.StandardNormal(3)},
    r"pseudo_inputs must have 4 values per row, as the encoder takes, got 3": {
        "prior": mm.VampPrior(mm.Gaussian(mm.MLP(4, 4)), torch.randn(5, 3))
    },
    r"encoder must return a .*Distribution, got Tensor": {"encoder": mm.MLP(4, 2)},
    r"decoder must return a .*Distribution, got Tensor": {"decoder": mm.MLP(2, 4)},
    r"encoder must give latents in floating point, got int64": {"encoder": tables},
    r"train must have values k / 16, k from 0 to 16, since the decoder's levels are 17": {
        "decoder": mm.DiscretizedLogistic(mm.MLP(2, 8), levels=17)
    },
}


class Callable(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call, self.weight = call, nn.Parameter(torch.zeros(()))

    def forward(self, *inputs):
        return self.call(*inputs)


@pytest.mark.parametrize("message", PARTS)
def test_parts_that_do_not_fit_are_named(message):
    parts = {k: v if isinstance(v, nn.Module) else Callable(v) for k, v in PARTS[message].items()}
    with pytest.raises(ValueError, match=message):
        mm.fit(mm.Loss(joint(**parts), mm.MIM), X, None, RECIPE)


def test_images_at_grey_levels_that_fit_are_trained_on():
    grey = torch.randint(0, 256, (16, 4), dtype=torch.uint8)
    for levels, data in ((256, grey), (256, grey / 255), (17, torch.randint(0, 17, (16, 4)) / 16)):
        model = joint(decoder=mm.DiscretizedLogistic(mm.MLP(2, 8), levels=levels))
        assert len(mm.fit(mm.Loss(model, mm.MIM), data, None, RECIPE).epochs) == 1


class Own(nn.Module):
    """A loss of one's own."""

    def __init__(self, shape):
        super().__init__()
        self.weight, self.shape = nn.Parameter(torch.zeros(())), shape

    def forward(self, x, annealing=1.0):
        return (self.weight + x.mean()).expand(self.shape(len(x)))


@pytest.mark.parametrize(
    ("shape", "got"),
    [
        (lambda count: (count, 1), r"\(8, 1\)"),
        (lambda count: (count, count), r"\(8, 8\)"),
        (lambda count: (), r"\(\)"),
        (lambda count: (1,), r"\(1,\)"),
        (lambda count: (count - 1,), r"\(7,\)"),
    ],
)
def test_a_loss_of_another_shape_than_the_rows_is_refused(shape, got):
    with pytest.raises(ValueError, match=rf"loss must give .* here \(8,\), got {got}"):
        mm.fit(Own(shape), X, None, RECIPE)


def test_a_loss_of_several_models_is_trained():
    history = mm.fit(Own(lambda count: (3, count)), X, None, RECIPE)
    assert len(history.epochs[0].train_loss) == 3


def test_an_objective_that_keeps_an_axis_is_refused():
    def kept(log_probs, beta):
        return -log_probs.p_x_given_z[:, None]

    with pytest.raises(ValueError, match=r"loss must give one value per row.*got \(8, 1\)"):
        mm.fit(mm.Loss(joint(), mm.Objective(kept, "encoding")), X, None, RECIPE)


def test_held_out_rows_of_another_width_are_named():
    with pytest.raises(ValueError, match=r"val must have rows of train's shape \(4,\), got \(3,\)"):
        mm.fit(mm.Loss(joint(), mm.MIM), X, X[:, :3], RECIPE)


def test_a_model_is_no_loss_and_a_number_is_no_recipe():
    with pytest.raises(ValueError, match="loss must be a Loss, got a Joint"):
        mm.fit(joint(), X)
    with pytest.raises(ValueError, match="training must be a Training, got int"):
        mm.fit(mm.Loss(joint(), mm.MIM), X, None, 3)


def test_errors_of_other_causes_pass_unchanged():
    def fails(x):
        raise RuntimeError("own reason")

    loss = mm.Loss(joint(), mm.MIM)
    loss.forward = lambda x, annealing: fails(x)
    with pytest.raises(RuntimeError, match="own reason"):
        mm.fit(loss, X, None, RECIPE)


def test_the_check_changes_neither_noise_nor_statistics():
    class Noted(mm.Loss):
        def forward(self, x, annealing=1.0):
            states.append(torch.get_rng_state())
            return super().forward(x, annealing)

    states = []
    mm.fit(Noted(joint(), mm.MIM), TensorSource(X, shuffle=False), None, RECIPE)
    first = states[1:]
    states.clear()
    mm.fit(Noted(joint(), mm.MIM), TensorSource(X[:8], shuffle=False), None, RECIPE)
    assert torch.equal(first[0], states[1])
    assert not torch.equal(states[0], states[1])


def test_a_source_of_single_precision_trains_a_model_in_double_precision():
    normal = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
    for source in (TensorSource(X), mm.FreshDraws(normal, 16), mm.Binarized(TensorSource(X))):
        loss = mm.Loss(joint(), mm.MIM).double()
        assert len(mm.fit(loss, source, source, RECIPE).epochs) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, annealing: x.sum(1).long(), "floating-point numbers, got the type torch.int64"),
        (lambda x, annealing: x.sum(1) > 0, "floating-point numbers, got the type torch.bool"),
        (lambda x, annealing: x.sum(1), "depend on parameters to train"),
    ],
)
def test_a_loss_that_cannot_be_trained_is_named(call, message):
    with pytest.raises(ValueError, match=f"^loss must .*{message}"):
        mm.fit(Callable(call), X, None, RECIPE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_is_refused_by_the_part_that_does_not_fit(dtype):
    model = joint().to(dtype)
    with pytest.raises(ValueError, match="z must have the type of the decoder"):
        workflow.reconstruct(model, X)
