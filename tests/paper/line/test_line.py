"""One-dimensional models: densities against samples, resuming, criteria and panels."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import mimachine as mm
from mimachine.paper.line.claims import apart, claims_table, close, lower, numbers_table, similar
from mimachine.paper.line.curves import curves, samples
from mimachine.paper.line.figures import figure9, figure11
from mimachine.paper.line.models import DATA, LATENT, build
from mimachine.paper.line.panels import Column, panels
from mimachine.paper.line.training import Chain, Recipe, carry_out
from mimachine.paper.reproduction import Request

TINY = Recipe(epochs=2, steps=1, batch_size=2, warmup=2)
ROUTES = ("reconstruction", "anchors", "priors")


def some_model(floor=0.2, prior="mixture"):
    """A model whose conditionals depend on their condition more than initially."""
    model = build(prior, prior, floor, 0)
    with torch.no_grad():
        for part in (model.encoder, model.decoder):
            for parameter in part.parameters():
                parameter.mul_(2)
    return model


@pytest.fixture(scope="module")
def shown():
    model = some_model()
    # A step of 0.4 times the smallest standard deviation: still exact to rounding.
    return model, curves(model, step=0.08)


@pytest.mark.parametrize("route", ROUTES)
def test_densities_by_quadrature_are_those_of_samples(shown, route):
    model, found = shown
    count = 40_000
    drawn = samples(model, route, count)
    for side, values in ((found.x, drawn.x.double()), (found.z, drawn.z.double())):
        cumulative = getattr(side, route).exp().cumsum(0) * side.grid.step
        # A point's cell reaches half a step beyond it.
        points = side.grid.points + side.grid.step / 2
        for level in (0.02, 0.2, 0.5, 0.8, 0.98):
            place = int(torch.searchsorted(cumulative, level))
            expected = float(cumulative[place])
            share = float((values <= points[place]).double().mean())
            error = (expected * (1 - expected) / count) ** 0.5
            assert abs(share - expected) <= 5 * error


def test_half_the_step_gives_the_same_numbers():
    model = some_model(floor=0.1, prior="standard")
    coarse, fine = curves(model, step=0.04).numbers(), curves(model, step=0.02).numbers()
    for side in ("x", "z"):
        for pair, expected in fine[side].items():
            # The error is far below step², except for the kinks of |F - G|.
            assert coarse[side][pair] == pytest.approx(expected, abs=0.04**2)
    assert coarse["terms"] == pytest.approx(fine["terms"], rel=1e-4, abs=1e-6)


def test_terms_are_what_decompose_estimates(shown):
    model, data = shown[0], DATA.distribution()
    terms = shown[1].terms
    found = mm.decompose(
        model,
        data.sample((20_000,)),
        anchor=mm.Fixed(LATENT.distribution()),
        data_distribution=data,
        num_samples=1,
    )
    for name in ("loss", "cross_entropy", "regulariser", "sample_entropy", "kl_model"):
        estimate = getattr(found, name)
        assert abs(getattr(terms, name) - estimate.value) <= 5 * estimate.standard_error, name


def test_grids_grow_until_they_cover_all_densities():
    model = build("normal", "standard", 0.2, 0)
    with torch.no_grad():
        model.data_prior.loc.fill_(6.0)
        for parameter in model.encoder.parameters():
            # The same q(z|x) at all x, near 0.
            parameter.zero_()
    found = curves(model, step=0.08)
    assert found.x.grid.reach > 6.0 > found.z.grid.reach
    with torch.no_grad():
        model.data_prior.loc.fill_(1e3)
    with pytest.raises(ValueError, match="model has densities that reach farther than"):
        curves(model, step=0.08)


def test_a_grid_that_is_too_coarse_is_an_error():
    with pytest.raises(ValueError, match=r"on a grid of step 1\.28, which is too coarse"):
        curves(some_model(), step=1.28)


def test_weights_depend_only_on_the_seed():
    before = torch.get_rng_state()
    first, again, other = (build("mixture", "normal", 0.2, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.encoder.network[0][0].weight, other.encoder.network[0][0].weight)


def test_deviations_of_conditionals_are_between_floor_and_ceiling():
    model = build("mixture", "mixture", 0.05, 0)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(100)
        deviations = model.encoder(100 * torch.randn(200, 1)).components.stddev
    assert deviations.min() >= 0.05
    assert deviations.max() <= 2.05
    assert deviations.max() > 2


def same(a, b):
    return all(
        torch.equal(value, y.state_dict()[name])
        for x, y in zip(a.models, b.models, strict=True)
        for name, value in x.state_dict().items()
    )


class Interrupted(Exception):
    pass


def test_a_killed_run_is_resumed_and_a_finished_one_is_read(tmp_path, monkeypatch):
    chain = Chain(("ce", "mim"), "standard", "standard")
    whole = carry_out([chain], (0, 1), TINY, Request(tmp_path / "whole"))[0]

    draws, calls = mm.FreshDraws.batches, []

    def stopping(self, batch_size, epoch):
        calls.append(epoch)
        # Two seeds: the second epoch of the second phase.
        if len(calls) == 2 * (TINY.epochs + 2):
            raise Interrupted
        return draws(self, batch_size, epoch)

    request = Request(tmp_path / "broken")
    with monkeypatch.context() as patch:
        patch.setattr(mm.FreshDraws, "batches", stopping)
        with pytest.raises(Interrupted):
            carry_out([chain], (0, 1), TINY, request)
    assert len(list((tmp_path / "broken" / "runs").glob(f"{chain.name}-*/state.ckpt"))) == 1
    resumed = carry_out([chain], (0, 1), TINY, request)[0]

    def not_again(self, batch_size, epoch):
        raise AssertionError("a finished run is not trained")

    monkeypatch.setattr(mm.FreshDraws, "batches", not_again)
    read = carry_out([chain], (0, 1), TINY, request)[0]
    for found in (resumed, read):
        for phase, expected in zip(found, whole, strict=True):
            assert same(phase, expected)
            assert phase.numbers == expected.numbers
            assert phase.epochs == expected.epochs
    assert [len(phase.epochs) for phase in whole] == [TINY.epochs] * 2


def test_a_phase_starts_from_the_weights_of_the_one_before(tmp_path):
    chain, request = Chain(("ce", "mim"), "standard", "standard"), Request(tmp_path)
    carry_out([chain.upto(1)], (0,), TINY, request)
    (file,) = tmp_path.glob("runs/*/model.safetensors")
    save_file({name: 0 * tensor for name, tensor in load_file(file).items()}, file)
    _, after = carry_out([chain], (0,), TINY, request)[0]
    largest = max(float(p.detach().abs().max()) for p in after.models[0].parameters())
    # A step of Adam moves a weight by about the learning rate; initial weights are up to 1.
    assert 0 < largest < 0.1


def test_models_of_other_settings_have_a_separate_directory(tmp_path):
    chains, request = [Chain(("mim",), "standard", "standard")], Request(tmp_path)
    (one,) = carry_out(chains, (0,), TINY, request)
    (two,) = carry_out(chains, (0, 1), TINY, request)
    assert [len(phase.models) for phase in (*one, *two)] == [1, 2]
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.slow
def test_several_processes_give_the_same_as_one(tmp_path):
    chains = [Chain(("ce",)), Chain(("mim",))]
    alone = carry_out(chains, (0,), TINY, Request(tmp_path / "one"))
    together = carry_out(chains, (0,), TINY, Request(tmp_path / "two", jobs=2))
    for (a,), (b,) in zip(alone, together, strict=True):
        assert same(a, b)
        assert a.numbers == b.numbers


def test_distances_are_in_deviations_of_the_anchors_and_the_mean_of_both_sides():
    pair = {"wasserstein": 3.0, "kl": 0.0}
    expected = (3.0 / DATA.deviation + 3.0 / LATENT.deviation) / 2
    (found,) = apart([{"x": {"prior": pair}, "z": {"prior": pair}}], "prior")
    assert found == pytest.approx(expected)
    drawn = DATA.distribution().sample((100_000,)).double()
    # The standard error of a deviation is below σ / √(2n) times √(kurtosis), which is below 2 here.
    assert DATA.deviation == pytest.approx(float(drawn.std()), rel=5 * 2 / (2e5) ** 0.5)


def test_a_comparison_must_hold_by_the_interval_of_its_paired_difference():
    low, high = np.arange(10.0), np.arange(10.0) + [0.1, 0.3] * 5
    # Far more than the differences, but shared by both.
    assert lower("D", ("a", low), ("b", high)).holds
    assert not lower("D", ("a", high), ("b", low)).holds
    # Nine of ten seeds, and one that outweighs them.
    outlier = high.copy()
    outlier[0] = -3
    assert not lower("D", ("a", low), ("b", outlier)).holds
    assert not lower("D", ("a", low[:1]), ("b", high[:1])).holds
    assert not lower("D", ("a", low), ("b", low)).holds


def test_positive_values_are_compared_by_their_ratio():
    """Of which a single large one makes no interval wide."""
    low, high = np.full(8, 0.1), np.array([0.4, 0.3, 0.5, 40.0, 0.3, 0.6, 0.4, 0.5])
    found = lower("R", ("a", low), ("b", high))
    assert found.holds
    assert "ratio 0." in found.found
    assert not lower("R", ("b", high), ("a", low)).holds
    assert "difference" in lower("H", ("a", low - 1), ("b", high)).found


def test_criteria_use_means():
    far, near = np.array([0.0, 0.3]), np.array([0.0, 0.1])
    assert close({"a": near}).holds
    assert not close({"a": near, "b": far}).holds
    assert not (close({"a": near}) & close({"b": far})).holds
    assert similar("D", near, 2 * near).holds
    assert not similar("D", near, far).holds


def test_panels_have_both_sides_and_name_their_targets(shown):
    columns = [Column(route, *shown, route) for route in ROUTES]
    figure = panels([("(i)", columns), ("(ii)", columns)], "all")
    figure.draw_without_rendering()
    axes = [axis for part in figure.subfigs for axis in part.axes]
    assert [axis.get_xlabel() for axis in axes] == (["$x$"] * 3 + ["$z$"] * 3) * 2
    targets = [axis.texts[0].get_text().split(":")[0] for axis in axes[:6]]
    assert targets == ["to $P(x)$", "to $P(x)$", "to $q(x)$", "to $P(z)$", "to $P(z)$", "to $p(z)$"]
    numbers = shown[1].numbers()
    assert f"{numbers['x']['priors']['wasserstein']:.3f}" in axes[2].texts[0].get_text()


def test_tables_have_a_row_for_each_number(shown):
    numbers = [shown[1].numbers()] * 2
    lines = numbers_table({"a": numbers, "b": numbers}).splitlines()
    assert len(lines) == 2 + 2 * 4 * 2 + 5
    assert {line.count("|") for line in lines} == {5}
    claim = close({"a": np.array([0.2, 0.4])}).of("words")
    assert claims_table([claim]).splitlines()[-1] == (
        "| words | D at most 0.1 for a | a 0.300 ± 0.141 | no |"
    )
    # One seed has no spread.
    claim = close({"a": np.array([0.2])}).of("words")
    assert claims_table([claim]).splitlines()[-1].endswith("| a 0.200 | no |")


def test_an_invalid_number_of_seeds_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="seeds must be 1 or more, got 0"):
        figure9(Request(tmp_path, seeds=0))


@pytest.mark.slow
def test_the_regulariser_makes_models_consistent_quickly(tmp_path):
    """The effect of figure 11 in both orders; the second call reads the runs of the first."""
    # Of the three seeds of a quick run an interval of 95 % is 4.3 standard errors wide.
    request = Request(tmp_path, quick=True, seeds=6)
    first = figure11(request)
    assert figure11(request).results == first.results
    json.dumps(first.results, allow_nan=False)
    claims = {claim["words"]: claim["holds"] for claim in first.results["claims"]}
    assert claims["a consistent model trained further with L_CE loses its consistency"]
    assert claims["an inconsistent model trained further with L_MIM becomes consistent"]
