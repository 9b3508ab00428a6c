import itertools
import json
import math
from dataclasses import replace

import pytest
import torch
from oracles import LinearGaussian, within_standard_errors

import mimachine as mm
from mimachine.estimation.estimate import Estimate
from mimachine.evaluation.advice import LEARN_PRIOR, VERDICTS
from mimachine.evaluation.reconstruction import _errors

pytestmark = pytest.mark.usefixtures("few_trees")


@pytest.fixture
def judged():
    """A linear-Gaussian model with its data, of which everything is known."""
    case = LinearGaussian.consistent(3, 2, seed=1)
    encoder, decoder, _, _, _ = case.modules()
    root = torch.linalg.cholesky(case.data.covariance)
    train, val, test = (
        case.data.mean + torch.randn(n, 3, dtype=torch.float64) @ root.T for n in (800, 10, 3000)
    )
    sides = [(split[:, 0] > case.data.mean[0]).long() for split in (train, val, test)]
    data = mm.Dataset("linear", train, val, test, *sides)
    return case, mm.Joint(encoder, decoder, mm.StandardNormal(2).double()), data


def within(metric, expected, errors=5):
    assert abs(metric.value - float(expected)) < errors * metric.standard_error


def test_every_number_of_a_linear_gaussian_model_is_that_of_the_closed_form(judged):
    case, model, data = judged
    report = mm.evaluate(model, data, num_samples=20)
    entropy = 0.5 * (case.data.covariance.logdet() + 3 * (1 + math.log(2 * math.pi)))
    within(report["negative_log_likelihood"], entropy)
    within(report["negative_elbo"], case.vae_loss())
    # The posterior is exact, so the aggregate posterior is the prior and the rate is I(x; z).
    information = case.mutual_information(case.encoding)
    within(report["rate"], information)
    within(report["aggregate_energy_distance"], 0)
    # The decoder's marginal is the distribution of the data.
    within(report["generated_auc"], 0.5)
    within(report["generated_energy_distance"], 0)
    assert report["generated_auc"].notes == ("from 2,000 random rows of 3,000",)
    # KSG in 5 dimensions, N = 3,000: a bias of a few per cent beside a scatter of 0.02 nats.
    ksg = report["mutual_information_ksg"].value
    assert ksg == pytest.approx(float(information), rel=0.15, abs=0.1)
    lower, upper = report["mutual_information_lower"], report["mutual_information_upper"]
    assert lower.value - 5 * lower.standard_error < information
    assert information < upper.value + 5 * upper.standard_error
    assert upper.value - lower.value < 0.1
    # This model is a Gaussian, if not one of equal correlations.
    told = report["mutual_information_ksg"].notes[-1]
    assert told.startswith("on a Gaussian of the same dimensions")
    assert float(told.split()[-1]) == pytest.approx(ksg, abs=0.15)

    # Codes A x + a come back as A (B (A x + a) + b) + a: what is left of them is (AB - I) A x, in
    # units of a prior of variance 1.
    lost = (case.A @ case.B - torch.eye(2)) @ case.A
    square = (lost @ case.data.covariance @ lost.T).trace() / 2
    offset = (case.A @ case.b + case.a) + (case.A @ case.B - torch.eye(2)) @ case.a
    assert report["reencoding_offset"].value == pytest.approx(
        float((square + offset.square().mean()).sqrt()), rel=0.1
    )

    # x - E[x | z = Ax + a], Gaussian with covariance R S R', R = I - BA.
    residual = torch.eye(3).double() - case.B @ case.A
    square = (residual @ case.data.covariance @ residual.T).trace() / 3
    within(report["reconstruction_rmse"], square.sqrt())
    # z sampled and x sampled: R e + B s_q n + s_p m, whose norm has its own mean by simulation.
    offset = torch.randn(200_000, 3).double() @ torch.linalg.cholesky(case.data.covariance).T
    noise = torch.randn(200_000, 2).double() * case.s_q @ case.B.T
    norms = (offset @ residual.T + noise + torch.randn(200_000, 3) * case.s_p).norm(dim=1)
    within(report["sampled_reconstruction_distance"], norms.mean())


def test_the_order_of_the_rows_does_not_matter(judged, monkeypatch):
    """Metrics that use some of the rows use random ones: files are often sorted by class."""
    _, model, data = judged
    for name in ("BOUND", "ENERGY", "REENCODED", "NEIGHBOUR", "PROBED", "GENERATED"):
        for module in ("information", "codes", "classes", "generated", "evaluate_model"):
            monkeypatch.setattr(f"mimachine.evaluation.{module}.{name}_ROWS", 700, raising=False)
    monkeypatch.setattr("mimachine.evaluation.information.ksg_rows", lambda dimensions: 700)
    order, train = (rows[:, 0].argsort() for rows in (data.test, data.train))
    in_order = replace(
        data,
        test=data.test[order],
        test_labels=data.test_labels[order],
        train=data.train[train],
        train_labels=data.train_labels[train],
    )
    shuffled, ordered = (mm.evaluate(model, each, num_samples=10) for each in (data, in_order))
    for name in (
        "mutual_information_ksg",
        "mutual_information_lower",
        "aggregate_energy_distance",
        "knn_5_accuracy",
        "linear_probe_accuracy",
        "linear_probe_accuracy_sampled",
        "generated_auc",
        "generated_energy_distance",
    ):
        one, two = shuffled[name], ordered[name]
        assert abs(one.value - two.value) < 5 * math.hypot(one.standard_error, two.standard_error)
        assert any("700 random rows of" in note for note in two.notes)
    again = mm.evaluate(model, in_order, num_samples=10)
    assert again.values == ordered.values


def test_a_report_says_what_each_number_is(judged):
    _, model, data = judged
    report = mm.evaluate(model, data, num_samples=5)
    for metric in report.metrics:
        assert metric.definition
        assert metric.latent in ("mean", "sample")
        assert math.isfinite(metric.value)
    assert report["active_units"].unit == "of 2"
    assert {f"knn_{k}_accuracy" for k in (1, 3, 5, 10)} <= {m.name for m in report.metrics}
    assert "ceiling" in report["mutual_information_ksg"].notes[0]
    assert report.advice.startswith(VERDICTS[report.verdict])
    with pytest.raises(KeyError, match="no metric 'fid'"):
        report["fid"]


def test_a_report_says_where_its_likelihood_is_not_to_be_trusted(judged):
    case, model, data = judged
    exact = mm.evaluate(model, data, num_samples=500)["negative_log_likelihood"]
    assert "Pareto-k -inf" in exact.notes[0]
    assert len(exact.notes) == 1
    encoder, _, _, _, _ = replace(case, s_q=case.s_q / 10).modules()
    model.encoder = encoder
    few = mm.Dataset("few", data.train, data.val, data.test[:50])
    narrow = mm.evaluate(model, few, num_samples=500)["negative_log_likelihood"]
    assert "100% of the rows flagged" in narrow.notes[1]


def test_a_number_that_is_not_to_be_trusted_is_flagged(judged):
    case, model, data = judged
    exact = mm.evaluate(model, data, num_samples=500)
    assert not any(exact[name].flagged for name in ("negative_log_likelihood", "rate"))
    model.encoder = replace(case, s_q=case.s_q / 10).modules()[0]
    few = mm.Dataset("few", data.train, data.val, data.test[:50])
    assert mm.evaluate(model, few, num_samples=500)["negative_log_likelihood"].flagged


def test_where_the_encoder_is_too_narrow_two_latents_are_integrated_over(judged):
    case, model, data = judged
    assert not mm.evaluate(model, data, num_samples=500).has("negative_log_likelihood_quadrature")
    model.encoder = replace(case, s_q=case.s_q / 10).modules()[0]
    some = mm.Dataset("some", data.train, data.val, data.test[:500])
    report = mm.evaluate(model, some, num_samples=500)
    integral = report["negative_log_likelihood_quadrature"]
    exact = Estimate.mean_of(-case.marginal().log_prob(data.test[:500]))
    # Both are means over the same data; the integrals of 200 of them are exact to 0.01 nat.
    assert abs(integral.value - exact.value) < 3 * integral.standard_error
    assert integral.standard_error == pytest.approx(exact.standard_error, rel=0.5)
    assert report["negative_log_likelihood"].value > exact.value + 1
    assert not integral.flagged


def test_without_time_the_likelihood_is_that_of_few_samples_corrected_by_some_data(judged):
    case, model, data = judged
    model.encoder = replace(case, s_q=1.3 * case.s_q).modules()[0]
    report = mm.evaluate(model, data, num_samples=5000, seconds=1e-3)
    metric = report["negative_log_likelihood"]
    assert "5000 samples for 20 of 3,000 rows and 1 for the others" in metric.notes[0]
    entropy = 0.5 * (case.data.covariance.logdet() + 3 * (1 + math.log(2 * math.pi)))
    within(metric, entropy)
    within(report["negative_elbo"], replace(case, s_q=1.3 * case.s_q).vae_loss())
    assert (
        metric.standard_error > mm.evaluate(model, data)["negative_log_likelihood"].standard_error
    )
    with pytest.raises(ValueError, match="seconds must be positive and finite, got 0"):
        mm.evaluate(model, data, seconds=0)


@pytest.mark.parametrize("count", [1, 2, 20])
def test_without_time_too_few_data_all_have_all_samples(judged, count):
    _, model, data = judged
    few = mm.Dataset("few", data.train, data.val, data.test[:count])
    metric = mm.evaluate(model, few, num_samples=500, seconds=1e-9)["negative_log_likelihood"]
    assert metric == mm.evaluate(model, few, num_samples=500)["negative_log_likelihood"]


def test_a_single_datum_is_integrated_over_and_has_no_error(judged):
    case, model, data = judged
    model.encoder = replace(case, s_q=case.s_q / 10).modules()[0]
    one = mm.Dataset("one", data.train, data.val, data.test[:1])
    integral = mm.evaluate(model, one, num_samples=500)["negative_log_likelihood_quadrature"]
    exact = -case.marginal().log_prob(data.test[:1])
    assert integral.value == pytest.approx(float(exact), abs=0.01)
    assert integral.standard_error is None


def test_a_prior_is_advised_only_where_it_is_normal_and_codes_are_points(judged):
    case, model, data = judged
    few = mm.Dataset("few", data.train, data.val, data.test[:50])
    assert LEARN_PRIOR not in mm.evaluate(model, few, num_samples=5).advice
    model.encoder = replace(case, s_q=case.s_q / 1e4).modules()[0]
    assert LEARN_PRIOR in mm.evaluate(model, few, num_samples=5).advice
    refitted = mm.refit_prior(model, data.train, components=1)
    assert mm.evaluate(refitted, few, num_samples=5).advice == VERDICTS["deterministic"]


def test_a_report_survives_json(judged):
    _, model, data = judged
    report = mm.evaluate(model, data, num_samples=5)
    assert mm.Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_evaluation_is_reproducible_and_leaves_generator_and_mode_alone(judged):
    _, model, data = judged
    model.train()
    before = torch.get_rng_state()
    first = mm.evaluate(model, data, num_samples=5, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert mm.evaluate(model, data, num_samples=5, seed=3) == first
    assert mm.evaluate(model, data, num_samples=5, seed=4) != first


def test_without_labels_there_is_no_classification(judged):
    _, model, data = judged
    bare = mm.Dataset("bare", data.train, data.val, data.test)
    report = mm.evaluate(model, bare, num_samples=2)
    assert not any(metric.name.startswith("knn") for metric in report.metrics)


def test_scales_at_their_floor_are_counted():
    encoder = mm.Gaussian(mm.MLP(2, 4, ()), floor=0.1)
    decoder = mm.Gaussian(mm.MLP(2, 4, ()), floor=torch.tensor([0.2, 0.5]))
    for part in (encoder, decoder):
        torch.nn.init.zeros_(part.network[0].weight)
    # Log-scales far down give the floor; 0 gives 1 more than it.
    encoder.network[0].bias.data = torch.tensor([0.0, 0.0, -50.0, -50.0])
    decoder.network[0].bias.data = torch.tensor([0.0, 0.0, -50.0, 0.0])
    model = mm.Joint(encoder, decoder, mm.StandardNormal(2))
    x = torch.randn(60, 2)
    report = mm.evaluate(model, mm.Dataset("toy", x, x, x), num_samples=2)
    assert report["encoder_share_at_floor"].value == 1.0
    assert report["decoder_share_at_floor"].value == 0.5
    assert report.verdict == "collapsed"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.98765, 0.0123, "1.988 ± 0.012"),
        (130.71, 0.62, "130.71 ± 0.62"),
        (1234.0, 56.0, "1234 ± 56"),
        (0.5, math.nan, "0.5"),
        (1e-15, math.nan, "0.0000"),
        (-2.6e23, 5.7e22, "-2.600e+23 ± 5.7e+22"),
    ],
)
def test_an_estimate_is_written_with_two_digits_of_its_error(value, error, text):
    assert str(Estimate(value, error)) == text


def hierarchy(make, **options):
    torch.manual_seed(0)
    model = make((1, 4, 4), latents=(2, 3), hidden=4, channels=2, **options)
    x = torch.rand(60, 1, 4, 4).round()
    return model, mm.Dataset("images", x, x, x)


def clamp_all(module):
    for part in module.modules():
        if isinstance(part, mm.ClampedGaussian):
            torch.nn.init.constant_(part.log_variance.bias, -50.0)


def test_log_variances_at_their_clamp_are_counted_for_each_part_of_a_hierarchy():
    model, data = hierarchy(mm.conv_hvae)
    names = [f"{part}_share_at_floor" for part in ("encoder", "encoder_first", "encoder_second")]
    names.append("prior_second_share_at_floor")
    report = mm.evaluate(model, data, num_samples=2)
    assert [report[name].value for name in names] == [0.0] * 4
    assert not report.has("decoder_share_at_floor")
    # Of z = (z2, z1), 2 of the 5 latents are those of z2.
    clamp_all(model.encoder.first)
    report = mm.evaluate(model, data, num_samples=2)
    assert [report[name].value for name in names] == [0.4, 1.0, 0.0, 0.0]
    clamp_all(model.prior.second)
    assert mm.evaluate(model, data, num_samples=2)[names[3]].value == 1.0


def test_codes_at_their_clamp_are_deterministic_in_a_hierarchy_too():
    """However wide z1 is by what z2 does: its scale given z2 is at the clamp."""
    model, data = hierarchy(mm.conv_hvae)
    for part in (model.encoder.first, model.encoder.second.of_both.head):
        torch.nn.init.normal_(part.mean.weight, 0, 1e4)
    assert mm.evaluate(model, data, num_samples=2).verdict == "healthy"
    clamp_all(model.encoder)
    report = mm.evaluate(model, data, num_samples=2)
    assert report.verdict == "deterministic"
    # Not by the widths themselves, which are over 1 % of the aggregate's.
    assert report["relative_posterior_std"].value > 0.02


def test_scales_of_grey_pixels_at_their_clamp_are_counted():
    for make in (mm.conv_hvae, mm.pixel_hvae):
        model, data = hierarchy(make, pixels=mm.GreyPixels())
        for bias, expected in ((-50.0, 1.0), (50.0, 0.0)):
            heads = [p for n, p in model.decoder.named_modules() if n.endswith("heads.1")]
            torch.nn.init.constant_(heads[0].bias, bias)
            report = mm.evaluate(model, data, num_samples=2)
            assert report["decoder_share_at_floor"].value == expected


def test_the_error_of_a_mean_that_only_draws_tell_has_no_bias():
    """Against the mean over all images of 2 x 2 pixels."""
    torch.manual_seed(0)
    model = mm.pixel_hvae((1, 2, 2), latents=(2, 2), hidden=4, channels=2, layers=2).eval()
    z, x = torch.randn(1, 4), torch.rand(1, 1, 2, 2).round()
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).reshape(-1, 1, 1, 2, 2)
    given = model.decoder(z)
    mean = (given.log_prob(images).exp()[..., None, None, None] * images).sum(0)
    with torch.no_grad():
        found = _errors(model.decoder(z.expand(20_000, -1)), x, known=False).square
    within_standard_errors(found, (mean - x).square().mean().detach())


def test_images_that_are_drawn_are_reconstructed_by_the_hundred():
    model, data = hierarchy(mm.pixel_hvae)
    report = mm.evaluate(model, data, num_samples=2)
    notes = report["reconstruction_rmse"].notes
    assert notes == ("from 8 draws of x per row, corrected for their variance",)
    assert report["sampled_reconstruction_distance"].notes == ()
    assert report["reencoding_offset"].notes[0] == f"from 20 random rows of {len(data.test)}"


def test_noise_that_hides_classes_lowers_the_probe_of_noisy_codes_only(judged):
    """Means that differ by a thousandth of the noise."""
    case, model, data = judged
    model.encoder = replace(case, A=1e-3 * case.A).modules()[0]
    report = mm.evaluate(model, data, num_samples=2)
    assert report["linear_probe_accuracy"].value > 0.7
    noisy = report["linear_probe_accuracy_sampled"]
    # By chance the larger class, whose share is a half by more than its error at most.
    assert abs(noisy.value - 0.5) < 5 * 0.5 / math.sqrt(3000)
