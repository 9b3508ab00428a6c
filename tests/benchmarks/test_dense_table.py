"""The queue of dense models: its order, proposals that can be learned, and its table."""

import argparse
import json
from dataclasses import replace
from itertools import product

import dense_table
import pytest
import torch

import mimachine as mm
from mimachine.model.conditionals import ClampedGaussian


def arguments(**changes):
    options = {
        "data": ["mnist", "omniglot-small"],
        "priors": list(dense_table.PRIORS),
        "objectives": list(dense_table.OBJECTIVES),
        "seeds": [0, 1],
    }
    return argparse.Namespace(**options | changes)


def test_the_queue_has_every_row_once_and_vae_and_a_mim_first():
    rows = list(dense_table.queue(arguments()))
    # A regularised auto-encoder has one prior.
    assert len(rows) == len(set(rows)) == 2 * 2 * (2 * 4 + 1)
    assert all(prior == "standard-normal" for _, prior, objective, _ in rows if objective == "rae")
    mnist = [row for row in rows if row[0] == "mnist"]
    assert rows[: len(mnist)] == mnist
    first = {(*pair, seed) for *pair, seed in product(dense_table.PRIORS, ("vae", "a-mim"), (0, 1))}
    assert {row[1:] for row in mnist[:8]} == first
    assert [row[-1] for row in mnist[:8]] == [0] * 4 + [1] * 4
    some = list(dense_table.queue(arguments(data=["mnist"], objectives=["rae"], seeds=[3])))
    assert some == [("mnist", "standard-normal", "rae", 3)]


@pytest.mark.parametrize("std", [None, 0.05])
def test_widened_proposals_have_the_means_of_the_encoder_and_widths_that_learn(std):
    model = mm.hvae((1, 6, 5), latents=(3, 2), hidden=8, encoder_std=std)
    with torch.no_grad():
        for part in model.encoder.modules():
            if isinstance(part, ClampedGaussian) and std is None:
                part.log_variance.weight.zero_()
                part.log_variance.bias.fill_(-5.0)
    x = torch.rand(20, 1, 6, 5).round()
    encoder, proposal = model.encoder.first, dense_table.widened(model.encoder, 0.5).first
    torch.testing.assert_close(proposal(x).mean, encoder(x).mean)
    ratio = proposal(x).stddev / encoder(x).stddev
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.5).exp(), rtol=0.06, atol=0.0)
    parameters = list(proposal.log_variance.parameters())
    gradients = torch.autograd.grad(proposal(x).stddev.sum(), parameters)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.slow
def test_finished_rows_are_kept_and_tabulated(tmp_path, monkeypatch):
    for name, value in (("_IMAGES", 20), ("_SAMPLES", 20), ("_REFITTED", 100), ("_GENERATED", 50)):
        monkeypatch.setattr(dense_table, name, value)
    begun = []

    def small(data, prior, objective, seed):
        begun.append(objective)
        start = full("digits", prior, objective, seed)
        model = replace(start.model, latent=2, hidden=(6,), components=5)
        training = replace(start.training, epochs=1, warmup=0, schedule=None)
        return replace(start, model=model, training=training)

    full = dense_table.settings_of
    monkeypatch.setattr(dense_table, "settings_of", small)
    out = tmp_path / "rows.jsonl"
    options = {"data": ["mnist"], "priors": ["standard-normal"], "seeds": [0], "out": out}
    dense_table.run(arguments(**options, objectives=["a-mim"]), say=lambda line: None)
    first = out.read_text()
    dense_table.run(arguments(**options, objectives=["a-mim", "rae"]), say=lambda line: None)
    assert begun == ["a-mim", "rae"]
    assert out.read_text().startswith(first)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    for row in rows:
        assert row["nll"] == min(row["nll_encoder"], row.get("nll_refitted", row["nll_encoder"]))
        assert row.keys() >= dense_table.METRICS.keys()
    lines = dense_table.markdown(rows).splitlines()
    assert [line.split(" | ")[1] for line in lines[4:]] == ["a-mim", "rae"]
    assert {line.count("|") for line in lines[2:]} == {len(dense_table.METRICS) + 4}
