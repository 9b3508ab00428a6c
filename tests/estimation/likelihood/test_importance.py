import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import oracles
import pytest
import torch
from oracles import LinearGaussian, draws, joint, within_standard_errors
from torch import nn

import mimachine as mm
from mimachine._support.seeds import forked
from mimachine.model.networks import evaluating


@pytest.mark.parametrize("dims", [(3, 1), (4, 2), (2, 2)])
@pytest.mark.parametrize("num_samples", [1, 10])
def test_with_the_exact_posterior_as_encoder_every_sample_gives_the_exact_likelihood(
    dims, num_samples
):
    case = LinearGaussian.consistent(*dims, seed=1)
    x = draws(case.data, 20)
    result = mm.log_likelihood(joint(case), x, num_samples)
    # All weights are equal, up to rounding in float64.
    torch.testing.assert_close(result.values, case.marginal().log_prob(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(result.evidence_lower_bounds, result.values, rtol=0, atol=1e-10)
    expected = torch.full((20,), float(num_samples), dtype=torch.float64)
    torch.testing.assert_close(result.effective_sample_sizes, expected)
    if num_samples > 1:
        assert result.standard_errors.max() < 1e-6


def test_with_a_wider_encoder_the_estimates_scatter_about_the_truth_as_their_errors_say():
    case = LinearGaussian.consistent(3, 2, seed=2)
    case = replace(case, s_q=1.5 * case.s_q)
    x = draws(case.data, 400)
    result = mm.log_likelihood(joint(case), x, num_samples=500)
    scores = (result.values - case.marginal().log_prob(x)) / result.standard_errors
    within_standard_errors(scores, 0.0)
    # 400 scores of unit variance: the error of their variance is √(2/400) = 7 %.
    assert float(scores.var()) == pytest.approx(1.0, abs=5 * math.sqrt(2 / 400))
    assert (result.effective_sample_sizes < 500).all()


def test_likelihood_under_one_hot_codes_is_the_sum_over_them():
    decoder = mm.Categorical(nn.Sequential(nn.Flatten(), mm.MLP(6, 12)), 4)
    model = mm.Joint(
        mm.OneHotCategorical(mm.MLP(3, 6), 3, event_dims=2), decoder, mm.LearnedOneHot((2, 3))
    ).double()
    torch.nn.init.normal_(model.prior.logits)
    x = torch.randint(4, (200, 3)).double()
    codes = torch.eye(3).double()[torch.cartesian_prod(torch.arange(3), torch.arange(3))]
    each = torch.stack([decoder(code.expand(200, 2, 3)).log_prob(x) for code in codes])
    exact = (each + model.prior().log_prob(codes)[:, None]).logsumexp(0).detach()
    result = mm.log_likelihood(model, x, num_samples=500)
    within_standard_errors((result.values - exact) / result.standard_errors, 0.0)


def test_a_mixture_density_as_proposal_gives_the_exact_likelihood():
    # All of the posterior's mass is where one component or the other is.
    case = LinearGaussian.consistent(3, 1, seed=1)
    x = draws(case.data, 200)
    posterior = joint(case).encoder

    class Spread(nn.Module):
        def forward(self, x):
            loc = posterior(x).mean[:, None] + torch.tensor([[-0.3], [0.4]]).double()
            return mm.Mixture(torch.tensor([0.2, -0.2]).double(), mm.DiagNormal(loc, case.s_q))

    model = mm.Joint(Spread(), joint(case).decoder, joint(case).prior)
    result = mm.log_likelihood(model, x, num_samples=500)
    scores = (result.values - case.marginal().log_prob(x)) / result.standard_errors
    within_standard_errors(scores, 0.0)


def test_the_elbo_from_the_same_samples_is_the_exact_one():
    case = LinearGaussian.random(3, 2, seed=3)
    x = draws(case.data, 4000)
    result = mm.log_likelihood(joint(case), x, num_samples=1)
    within_standard_errors(-result.evidence_lower_bounds, case.vae_loss())
    torch.testing.assert_close(result.values, result.evidence_lower_bounds)
    assert result.standard_errors.isnan().all()


def test_another_proposal_is_used_in_place_of_the_encoder():
    case = LinearGaussian.consistent(3, 2, seed=8)
    x = draws(case.data, 20)
    exact = joint(case)
    model = joint(replace(case, s_q=case.s_q / 100, a=case.a + 1))
    result = mm.log_likelihood(model, x, 500, proposal=exact.encoder)
    torch.testing.assert_close(result.values, case.marginal().log_prob(x), rtol=0, atol=1e-10)
    assert not result.flagged.any()
    # A function, which has no modes to switch, is a proposal too.
    result = mm.log_likelihood(model, x, 3, proposal=lambda rows: exact.encoder(rows))
    torch.testing.assert_close(result.values, case.marginal().log_prob(x), rtol=0, atol=1e-10)


def test_a_proposal_of_another_shape_than_the_prior_is_refused():
    case, other = LinearGaussian.random(3, 2, seed=0), LinearGaussian.random(3, 1, seed=0)
    with pytest.raises(ValueError, match=r"proposal must give .* prior's shape \(2,\), got \(1,\)"):
        mm.log_likelihood(joint(case), torch.zeros(4, 3).double(), 3, proposal=joint(other).encoder)


@pytest.mark.parametrize("chunk_size", [None, 10])
def test_a_prior_of_another_shape_than_the_encoder_gives_is_refused(chunk_size):
    model = joint(LinearGaussian.random(3, 2, seed=1))
    model.prior = mm.StandardNormal(5).double()
    message = r"encoder must give latents of the prior's shape \(5,\), got \(2,\)"
    with pytest.raises(ValueError, match=message):
        mm.log_likelihood(model, torch.zeros(2, 3).double(), 10, chunk_size=chunk_size)


@pytest.mark.parametrize(("num_samples", "flagged"), [(1, True), (399, True), (400, False)])
def test_no_estimate_of_under_400_samples_is_trusted(num_samples, flagged):
    case = LinearGaussian.consistent(3, 2, seed=9)
    result = mm.log_likelihood(joint(case), draws(case.data, 5), num_samples)
    assert (result.flagged == flagged).all()


@pytest.mark.parametrize(("dim", "narrower"), [(2, 2), (2, 10), (2, 100), (10, 10)])
def test_estimates_of_a_narrow_encoder_are_off_and_flagged(dim, narrower):
    case = LinearGaussian.consistent(dim, dim, seed=10)
    x = draws(case.data, 200)
    result = mm.log_likelihood(joint(replace(case, s_q=case.s_q / narrower)), x, 2000)
    off = (result.values - case.marginal().log_prob(x)).abs() > 0.1
    assert off.sum() > 50
    assert result.flagged[off].double().mean() > 0.95


def test_a_proposal_on_one_mode_of_two_looks_perfect_and_is_wrong_by_the_other():
    # x = |z| + noise: the posterior is at z = x and at z = -x, the proposal at z = x alone. What
    # it misses is half of the likelihood, log 2 nats, and no diagnostic can see that.
    class Folded(nn.Module):
        def forward(self, z):
            return mm.DiagNormal(z.abs(), torch.tensor(0.01).double())

    class OneMode(nn.Module):
        def __init__(self):
            super().__init__()
            self.shrink = 1 / (1 + 0.01**2)

        def forward(self, x):
            return mm.DiagNormal(self.shrink * x, torch.tensor(0.01 * self.shrink**0.5).double())

    class Everywhere(nn.Module):
        def forward(self, x):
            return mm.DiagNormal(torch.zeros_like(x), torch.tensor(1.0).double())

    model = mm.Joint(OneMode(), Folded(), mm.StandardNormal(1).double())
    x = 1 + torch.rand(20, 1).double()
    result = mm.log_likelihood(model, x, 1000)
    deviation = math.sqrt(1 + 0.01**2)
    one_mode = mm.DiagNormal(torch.zeros(1).double(), torch.tensor(deviation).double()).log_prob(x)
    torch.testing.assert_close(result.values, one_mode, rtol=0, atol=1e-6)
    assert (result.effective_sample_sizes > 999.99).all()
    assert not result.flagged.any()
    # The prior finds both, with a valid standard error.
    prior = mm.log_likelihood(model, x, 200_000, proposal=Everywhere())
    scores = (prior.values - result.values - math.log(2)) / prior.standard_errors
    within_standard_errors(scores, 0.0)


class Counting(nn.Module):
    """Passes conditions on and counts their rows."""

    def __init__(self, part):
        super().__init__()
        self.part, self.rows = part, []

    def forward(self, condition):
        self.rows.append(len(condition))
        return self.part(condition)


@pytest.mark.parametrize(
    ("num_samples", "chunk_size"), [(7, 1), (7, 3), (7, 10), (7, 100), (10, 10), (13, 50)]
)
def test_exactly_so_many_samples_are_decoded_in_chunks_and_each_datum_is_encoded_once(
    num_samples, chunk_size
):
    case = LinearGaussian.consistent(3, 2, seed=4)
    model = joint(case)
    model.encoder, model.decoder = Counting(model.encoder), Counting(model.decoder)
    result = mm.log_likelihood(model, draws(case.data, 9), num_samples, chunk_size=chunk_size)
    assert sum(model.encoder.rows) == 9
    assert sum(model.decoder.rows) == 9 * num_samples
    assert max(model.decoder.rows) <= max(chunk_size, 1)
    assert len(result.values) == 9


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("width", "pairs"), [(300, 1747), (2**13, 64), (2**16, 32)])
def test_a_wide_decoder_is_given_fewer_pairs_at_once(width, pairs, mixed):
    wide = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 6)).float()
    counting = Counting(mm.Gaussian(wide, floor=torch.tensor(0.1)))
    encoder = mm.Gaussian(mm.MLP(3, 4, (8,))).float()
    model = mm.Joint(encoder, counting, mm.StandardNormal(2).float())
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        mm.log_likelihood(model, torch.zeros(30, 3, dtype=torch.float32), 200)
    # One row shows the width of the decoder. Then 2**19 numbers at once are allowed, at least 32
    # rows, and twice as many in half precision.
    assert counting.rows[0] == 1
    assert sum(counting.rows) == 6001
    most = (1 + mixed) * pairs
    # Whole multiples of the samples, or of the rows if the samples of one row are divided.
    assert most / 2 < max(counting.rows) <= most


def test_the_mean_has_the_error_of_the_scatter_over_data():
    case = LinearGaussian.consistent(3, 2, seed=5)
    result = mm.log_likelihood(joint(case), draws(case.data, 300), num_samples=2)
    mean = result.mean()
    assert mean.value == pytest.approx(float(result.values.mean()))
    assert mean.standard_error == pytest.approx(float(result.values.std()) / math.sqrt(300))
    assert abs(float(mean) + float(entropy(case.data))) < 5 * mean.standard_error


def entropy(normal):
    return 0.5 * (normal.covariance.logdet() + len(normal.mean) * (1 + math.log(2 * math.pi)))


def test_a_single_datum_has_its_monte_carlo_error():
    case = LinearGaussian.random(2, 1, seed=6)
    result = mm.log_likelihood(joint(case), draws(case.data, 1), num_samples=50)
    assert result.mean().standard_error == float(result.standard_errors)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (0, {}, r"x must have shape \(N, \*X\) with N of 1 or more, got \(0, 2\)"),
        (2, {"num_samples": 0}, "num_samples must be 1 or more, got 0"),
        (2, {"chunk_size": -1}, "chunk_size must be 1 or more, got -1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(rows, options, message):
    case = LinearGaussian.random(2, 1, seed=7)
    with pytest.raises(ValueError, match=message):
        mm.log_likelihood(joint(case), torch.zeros(rows, 2).double(), **options)


def test_evaluating_restores_the_mode_of_every_part():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    model.train()
    model[0].eval()
    with evaluating(model):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == [True, False, True, True]


def test_under_a_fabric_of_one_device_the_estimates_are_the_same_to_the_bit():
    from lightning_fabric import Fabric

    case = LinearGaussian.random(3, 2, seed=9)
    x, model = draws(case.data, 30), joint(case)
    results = []
    for fabric in (None, Fabric(accelerator="cpu", devices=1, precision="64-true")):
        torch.manual_seed(3)
        results.append(mm.log_likelihood(model, x, 40, fabric=fabric))
    assert torch.equal(results[0].values, results[1].values)
    assert torch.equal(results[0].pareto_k.nan_to_num(), results[1].pareto_k.nan_to_num())


DISTRIBUTED = """
import sys, torch
sys.path.insert(0, sys.argv[2])
import mimachine as mm
from lightning_fabric import Fabric
from oracles import LinearGaussian

fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp", precision="64-true")
fabric.launch()
torch.manual_seed(0)
encoder, decoder, prior, _, _ = LinearGaussian.random(3, 2, seed=9).modules()
model = mm.Joint(encoder, decoder, prior)
x = torch.arange(21).reshape(7, 3).double() / 10
x[6] = x[0]
result = mm.log_likelihood(model, x, 4000, fabric=fabric)
columns = (result.values, result.standard_errors, result.pareto_k)
torch.save((torch.stack(columns), result.num_samples), f"{sys.argv[1]}/{fabric.global_rank}.pt")
fabric.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_share_the_data_and_both_have_the_whole_result(tmp_path):
    (tmp_path / "script.py").write_text(DISTRIBUTED)
    # The exit code says nothing: gloo can abort at interpreter exit after all work is done.
    subprocess.run(
        [
            sys.executable,
            str(tmp_path / "script.py"),
            str(tmp_path),
            str(Path(oracles.__file__).parent),
        ],
        check=False,
        capture_output=True,
        timeout=300,
    )
    (values, errors, _), num_samples = torch.load(tmp_path / "0.pt")
    other, _ = torch.load(tmp_path / "1.pt")
    assert torch.equal(values, other[0])
    assert num_samples == 4000
    case = LinearGaussian.random(3, 2, seed=9)
    x = torch.arange(21).reshape(7, 3).double() / 10
    x[6] = x[0]
    gap = (values - case.marginal().log_prob(x)).abs()
    assert (gap < 5 * errors).all()
    # Rows 0 and 6 are equal, in two processes: with the same noise their values would be equal.
    assert values[0] != values[6]


def narrow(factor, seed=5):
    case = LinearGaussian.consistent(3, 2, seed=seed)
    return replace(case, s_q=case.s_q / factor)


def test_the_mean_from_a_subset_of_all_data_is_the_mean_itself():
    model, x = joint(narrow(1.3)), draws(narrow(1.3).data, 50)
    # Within a seeded block all functions draw from its noise.
    with forked(2):
        mean = mm.mean_log_likelihood(model, x, 300, subset=50, few_samples=20)
    with forked(2):
        order = torch.randperm(50)
        mm.log_likelihood(model, x, 20)
        whole = mm.log_likelihood(model, x[order], 300)
    assert mean.value == pytest.approx(float(whole.values.mean()), abs=1e-12)
    assert mean.subset_error == 0
    assert mean.standard_error == pytest.approx(whole.mean().standard_error)
    assert mean.flagged == float(whole.flagged.double().mean())


def test_the_mean_from_a_subset_scatters_about_that_of_all_data_as_its_error_says():
    case = narrow(1.5)
    model, x = joint(case), draws(case.data, 100)
    target = float(mm.log_likelihood(model, x, 10_000).values.mean())
    means = [
        mm.mean_log_likelihood(model, x, 500, subset=25, few_samples=5, seed=seed)
        for seed in range(150)
    ]
    scores = torch.tensor([(mean.value - target) / mean.subset_error for mean in means])
    within_standard_errors(scores.double(), 0.0)
    # Standard errors from 25 gains have an error of 15 %, and the scatter of 150 scores of 6 %.
    assert 0.75 < float(scores.std()) < 1.3
    # The correction is larger than the errors of the corrected mean.
    few = mm.log_likelihood(model, x.repeat(100, 1), 5)
    assert target - float(few.mean()) > 5 * float(few.values.std()) / 100


def test_the_error_of_the_mean_from_a_subset_is_that_of_the_mean_over_other_data_too():
    case = narrow(1.5)
    model, truth = joint(case), -float(entropy(case.data))
    scores = []
    for seed in range(150):
        x = draws(case.data, 60)
        mean = mm.mean_log_likelihood(model, x, 500, subset=20, few_samples=5, seed=seed)
        scores.append((mean.value - truth) / mean.standard_error)
    scores = torch.tensor(scores, dtype=torch.float64)
    within_standard_errors(scores, 0.0)
    assert 0.75 < float(scores.std()) < 1.35


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"few_samples": 0}, r"few_samples must be in \[1, num_samples\) = \[1, 100\), got 0"),
        ({"few_samples": 100}, r"few_samples must be in \[1, num_samples\) = \[1, 100\), got 100"),
        ({"subset": 1}, "subset must be 2 or more of the 9 rows of x, got 1"),
    ],
)
def test_a_subset_that_makes_no_sense_is_refused(options, message):
    case = LinearGaussian.random(2, 1, seed=7)
    with pytest.raises(ValueError, match=message):
        mm.mean_log_likelihood(joint(case), draws(case.data, 9), 100, **options)
