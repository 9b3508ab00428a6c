"""Adam's step without what torch does around it."""

import copy

import pytest
import torch
from torch import nn

from mimachine.training.steps.fused_adam import FusedAdam


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)


def adam(module, **options):
    return torch.optim.Adam(module.parameters(), **({"lr": 1e-2, "fused": True} | options))


def gradients(module, step):
    torch.manual_seed(step)
    module(torch.randn(5, 4, dtype=next(module.parameters()).dtype)).square().sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "betas": (0.5, 0.9), "eps": 1e-3}])
def test_steps_are_those_of_adam_to_the_bit(dtype, options):
    results = []
    for fused in (False, True):
        module = network(dtype)
        optimizer = adam(module, **options)
        stepped = FusedAdam(optimizer) if fused else optimizer
        for step in range(6):
            stepped.zero_grad()
            gradients(module, step)
            optimizer.param_groups[0]["lr"] = 1e-2 / (1 + step)
            stepped.step()
        moments = (value for state in optimizer.state.values() for value in state.values())
        results.append([*module.parameters(), *moments])
    assert all(map(torch.equal, *results))


def test_a_state_that_is_loaded_in_between_is_used():
    module, other = network(), network()
    first, second = adam(module), adam(other)
    fused = FusedAdam(first)
    for step in range(3):
        for each, stepped in ((module, fused), (other, second)):
            stepped.zero_grad()
            gradients(each, step)
            stepped.step()
    saved = copy.deepcopy(second.state_dict())
    for state in saved["state"].values():
        state["exp_avg"].mul_(3)
    for optimizer in (first, second):
        optimizer.load_state_dict(copy.deepcopy(saved))
    for each, stepped in ((module, fused), (other, second)):
        stepped.zero_grad()
        gradients(each, 9)
        stepped.step()
    assert all(map(torch.equal, module.parameters(), other.parameters()))


def test_a_parameter_without_a_gradient_stays():
    module = network()
    fused = FusedAdam(adam(module))
    for step in range(3):
        fused.zero_grad()
        gradients(module, step)
        if step == 2:
            module[0].bias.grad = None
            before = module[0].bias.detach().clone()
        fused.step()
    assert torch.equal(module[0].bias, before)
    assert fused.optimizer.state[module[0].bias]["step"] == 2
    assert fused.optimizer.state[module[2].bias]["step"] == 3


def test_other_optimisers_take_their_own_step():
    module = network()
    assert FusedAdam.fits(adam(module))
    others = [
        adam(module, amsgrad=True),
        adam(module, maximize=True),
        adam(module, fused=False),
        torch.optim.AdamW(module.parameters(), fused=True),
        torch.optim.SGD(module.parameters()),
        torch.optim.Adam([{"params": [p]} for p in module.parameters()], fused=True),
    ]
    assert not any(map(FusedAdam.fits, others))
