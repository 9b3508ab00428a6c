"""A pilot ends the measurement of a likelihood whose estimates would all be flagged."""

import math
import time
from dataclasses import replace

import pytest
import torch
from oracles import LinearGaussian
from tablemodels import MIXED
from torch import nn

import mimachine as mm
from mimachine._support.seeds import forked
from mimachine.estimation.likelihood.importance import log_likelihood
from mimachine.evaluation.likelihood import likelihood_of_model
from mimachine.evaluation.pilot import pilot_of_model

SAMPLES, COUNT, NARROW = 500, 1500, 10


@pytest.fixture
def case():
    """Of three latents, which are not integrated over."""
    return LinearGaussian.consistent(4, 3, seed=1)


def model_of(case, factor=1.0):
    """A model of known likelihood, whose encoder is the posterior, or as wide times a factor."""
    encoder, decoder, _, _, _ = replace(case, s_q=factor * case.s_q).modules()
    return mm.Joint(encoder, decoder, mm.StandardNormal(len(case.s_q)).double()).eval()


def data_of(case, count=COUNT):
    root = torch.linalg.cholesky(case.data.covariance)
    noise = torch.randn(
        count, len(root), dtype=torch.float64, generator=torch.Generator().manual_seed(5)
    )
    return case.data.mean + noise @ root.T


def measured(model, x, samples=SAMPLES, seed=0, seconds=600.0):
    with forked(seed), torch.no_grad():
        found = likelihood_of_model(model, x, samples, time.monotonic() + seconds, 0.0)
    return {metric.name: metric for metric in found}


def without_pilot(model, x, samples=SAMPLES, seed=0):
    with forked(seed):
        return log_likelihood(model, x, samples)


class HalfNarrow(nn.Module):
    """Too narrow an encoder for the rows above a limit of their first number."""

    def __init__(self, exact, narrow, limit):
        super().__init__()
        self.exact, self.narrow, self.limit = exact, narrow, limit

    def forward(self, x):
        exact, narrow = (encoder(x).base_dist for encoder in (self.exact, self.narrow))
        above = x[:, :1] > self.limit
        return mm.DiagNormal(exact.loc, torch.where(above, narrow.scale, exact.scale))


class Counted:
    """Number of latents that a decoder decodes."""

    def __init__(self, model):
        self.decoded = 0
        model.decoder.register_forward_hook(self.count)

    def count(self, module, args, output):
        self.decoded += len(args[0])


def test_estimates_that_are_only_noisy_are_made_of_all_rows(case):
    """All are flagged, but their mean over many rows has little bias."""
    x, model = data_of(case), model_of(case, 0.5)
    expected = without_pilot(model, x)
    assert expected.flagged.double().mean() > 0.98
    metric = measured(model, x)["negative_log_likelihood"]
    assert metric.flagged
    assert metric.value == -expected.mean().value
    exact = -float(case.marginal().log_prob(x).mean())
    assert abs(metric.value - exact) < 0.3


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_the_number_of_a_proposal_that_fits_is_that_of_all_rows_to_the_last_digit(case, factor):
    x, model = data_of(case), model_of(case, factor)
    found, expected = measured(model, x), without_pilot(model, x)
    assert expected.flagged.double().mean() < 0.05
    metric = found["negative_log_likelihood"]
    assert (metric.value, metric.standard_error) == (
        -expected.mean().value,
        expected.mean().standard_error,
    )
    assert not metric.flagged
    assert len(metric.notes) == 1
    assert found["negative_elbo"].value == -float(expected.evidence_lower_bounds.mean())


def test_of_a_proposal_that_fits_the_pilot_ends_after_its_first_rows(case):
    x, model = data_of(case), model_of(case)
    counted = Counted(model)
    measured(model, x)
    assert SAMPLES * COUNT <= counted.decoded <= SAMPLES * (COUNT + 64 + 2) + 10


def test_of_a_proposal_that_is_far_too_narrow_the_pilots_rows_are_reported(case):
    x, model = data_of(case), model_of(case, 1 / NARROW)
    counted = Counted(model)
    found = measured(model, x)
    assert counted.decoded <= SAMPLES * (200 + 2) + 10 * COUNT + 10
    metric, expected = found["negative_log_likelihood"], without_pilot(model, x)
    assert expected.flagged.all()
    assert metric.flagged
    assert metric.reasons == ("loose-bound",)
    assert metric.notes[1].startswith(
        "500 samples for 200 random rows of 1,500 and 10 for the others"
    )
    assert "mm.refit_proposal" in metric.notes[1]
    assert metric.notes[2].startswith("100% of the rows flagged")
    assert abs(metric.value + expected.mean().value) < 4 * metric.standard_error
    elbo = found["negative_elbo"]
    assert elbo.value + float(expected.evidence_lower_bounds.mean()) == pytest.approx(
        0, abs=4 * elbo.standard_error
    )


def test_few_samples_of_all_rows_reduce_the_error_of_the_pilot(case):
    x, model = data_of(case), model_of(case, 1 / NARROW)
    with forked(0), torch.no_grad():
        pilot = pilot_of_model(model, x, SAMPLES, time.monotonic() + 600)
    alone = pilot.estimates.mean().standard_error
    assert measured(model, x)["negative_log_likelihood"].standard_error < alone


def test_two_latents_are_integrated_over_after_a_pilot():
    case = LinearGaussian.consistent(3, 2, seed=1)
    x, model = data_of(case), model_of(case, 1 / NARROW)
    found = measured(model, x)
    assert "random rows of 1,500" in found["negative_log_likelihood"].notes[1]
    integral = found["negative_log_likelihood_quadrature"]
    exact = -case.marginal().log_prob(x)
    assert abs(integral.value - float(exact.mean())) < 4 * integral.standard_error
    assert integral.standard_error < 3 * float(exact.std()) / math.sqrt(COUNT)


def test_rows_of_the_pilot_are_random_so_that_the_order_of_the_data_does_not_matter(case):
    """The first half of the data is flagged throughout, the other half is not."""
    x = data_of(case)
    x = x[x[:, 0].argsort(descending=True)]
    exact, narrow = (model_of(case, factor).encoder for factor in (1.0, 1 / NARROW))
    model = model_of(case)
    model.encoder = HalfNarrow(exact, narrow, float(x[:, 0].median()))
    expected = without_pilot(model, x)
    assert expected.flagged[: COUNT // 2 - 1].all()
    assert not expected.flagged[COUNT // 2 + 1 :].any()
    metric = measured(model, x)["negative_log_likelihood"]
    assert metric.value == -expected.mean().value
    assert metric.notes[1].startswith("50% of the rows flagged")


def test_the_seed_alone_decides_a_pilots_number(case):
    x, model = data_of(case), model_of(case, 1 / NARROW)
    first, again, other = (measured(model, x, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first["negative_log_likelihood"].value != other["negative_log_likelihood"].value


@pytest.mark.parametrize(("samples", "count"), [(399, COUNT), (SAMPLES, 200)])
def test_there_is_no_pilot_of_few_samples_or_of_few_rows(case, samples, count):
    x, model = data_of(case, count), model_of(case, 1 / NARROW)
    expected = without_pilot(model, x, samples)
    metric = measured(model, x, samples)["negative_log_likelihood"]
    assert metric.value == -expected.mean().value
    assert not any("mm.refit_proposal" in note for note in metric.notes)


def test_without_time_for_it_there_is_no_pilot(case):
    x, model = data_of(case), model_of(case, 1 / NARROW)
    metric = measured(model, x, seconds=1e-9)["negative_log_likelihood"]
    assert metric.notes[0].startswith("for the time limit, 500 samples for 20 of 1,500 rows")


def test_of_a_large_table_a_thousand_rows_have_many_samples():
    features = nn.Sequential(
        mm.TableFeatures(MIXED), nn.Linear(mm.TableFeatures.num_features(MIXED), 6)
    )
    network = nn.Linear(3, mm.TableDecoder.num_outputs(MIXED))
    model = mm.Joint(
        mm.Gaussian(features), mm.TableDecoder(MIXED, network), mm.StandardNormal(3)
    ).eval()
    with torch.no_grad(), forked(0):
        x = model.decoder(model.prior().sample((2300,))).sample()
    metric = measured(model, x, 40)["negative_log_likelihood"]
    assert metric.notes[0].startswith("to save time, 40 samples for 1,000 of 2,300 rows and 39")
    expected = -float(log_likelihood(model, x, 40).values.mean())
    assert abs(metric.value - expected) < 0.5 * metric.standard_error
    assert len(measured(model, x[:1900], 40)["negative_log_likelihood"].notes) == 2
