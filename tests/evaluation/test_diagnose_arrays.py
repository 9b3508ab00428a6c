import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import LinearGaussian

import mimachine as mm
from mimachine.cli.entry import main
from mimachine.evaluation.arrays import encodings
from mimachine.evaluation.codes import _covariance_products, _effective_dimensions, _offset
from mimachine.evaluation.diagnose_arrays import Diagnosis


def linear(count=600, features=12, latent=6, used=None, noise=0.3, std=None):
    """Data of a linear-Gaussian model with codes, reconstructions and classes.

    The first `used` latents answer to the data, the others are the prior's.
    """
    used = latent if used is None else used
    factors = torch.randn(count, latent)
    weights = torch.randn(latent, features)
    x = factors @ weights + noise * torch.randn(count, features)
    width = torch.full((latent,), 0.3 if std is None else std)
    width[used:] = 1.0
    mean = factors * (1 - width.square()).sqrt()
    mean[:, used:] = 0
    reconstructed = factors[:, :used] @ weights[:used]
    labels = (factors[:, 0] > 0).long()
    return {
        "x": x,
        "z_mean": mean,
        "z_std": width.expand(count, latent),
        "x_reconstructed": reconstructed,
        "labels": labels,
    }


def tried(diagnosis, words):
    return any(words in text for text in diagnosis.remedies)


# --- verdicts and remedies -----------------------------------------------------------------------


def test_a_healthy_auto_encoder_needs_no_mending():
    found = mm.diagnose(**linear())
    assert found.verdict == "healthy"
    assert found["active_units"].value == 6
    assert found.remedies == ("No problems found.",)
    assert not found.unknown
    assert abs(found["aggregate_energy_distance"].value) < 0.01


def test_a_collapsed_one_is_told_to_use_its_code():
    found = mm.diagnose(**linear(used=0))
    assert found.verdict == "collapsed"
    assert found["active_units"].value == 0
    assert sum(found.kl_per_dimension) == pytest.approx(0, abs=1e-6)
    assert "mim" in found.remedies[0]
    assert "KL term" in found.remedies[0]
    assert len(found.remedies) == 1
    # Of means that hardly differ classes may be told all the same; of the codes they cannot.
    assert abs(found["knn_5_accuracy_sampled"].value - 0.5) < 5 * 0.5 / 600**0.5


def test_information_above_the_upper_bound_is_said_to_be_bias():
    # On a grid, ties count for information that is not there.
    x = torch.randint(0, 2, (400, 20)).float()
    report = mm.diagnose(x, 1e-3 * x, 1.0)
    found, most = report["mutual_information_ksg"], report["mutual_information_upper"]
    assert most.value < 0.01 < found.value
    assert found.flagged
    assert f"above the upper bound, {most.value:.3g} nats: bias" in found.notes


def test_information_below_the_lower_bound_is_said_to_be_bias():
    # Coordinates without information hide the one that has all of it.
    z = torch.randn(500, 20)
    report = mm.diagnose(z[:, 1:2], z, torch.tensor([1.0, 0.1, *[1.0] * 18]))
    found, least = report["mutual_information_ksg"], report["mutual_information_lower"]
    assert found.value < 0.5 < 1.5 < least.value
    assert found.flagged
    assert f"below the lower bound, {least.value:.3g} nats: bias" in found.notes


def test_a_partly_collapsed_one_is_told_how_many_latents_it_has():
    found = mm.diagnose(**linear(latent=8, used=2))
    assert found.verdict == "partly collapsed"
    assert "2 of 8 latents" in found.remedies[0]
    assert [kl > 0.1 for kl in found.kl_per_dimension] == 2 * [True] + 6 * [False]
    assert tried(found, "principal components explain")


@pytest.mark.parametrize("std", [0.0, 0.001])
def test_one_without_noise_is_deterministic(std):
    found = mm.diagnose(**linear(std=std))
    assert found.verdict == "deterministic"
    assert found.has("rate") is (std > 0)
    assert any(text.startswith("rate:") for text in found.unknown) is (std == 0)
    assert tried(found, "nearly points") is (std > 0)


def test_without_a_width_the_verdict_is_unknown_unless_the_means_tell():
    arrays = linear()
    assert mm.diagnose(arrays["x"], arrays["z_mean"]).verdict == "unknown"
    still = arrays["z_mean"].clone()
    still[:, 1:] = 3.0
    partly = mm.diagnose(arrays["x"], still)
    assert partly.verdict == "partly collapsed"
    assert partly["varying_units"].value == 1
    assert mm.diagnose(arrays["x"], torch.full_like(still, 3.0)).verdict == "collapsed"
    for name in ("z_std", "x_reconstructed", "labels"):
        assert any(text.startswith(name) for text in partly.unknown)
    assert partly.kl_per_dimension is None


def test_what_is_worse_than_a_linear_map_is_said():
    arrays = linear(latent=3)
    arrays["x_reconstructed"] = arrays["x_reconstructed"] / 2
    found = mm.diagnose(**arrays)
    assert found["pca_r2"].value > found["reconstruction_r2"].value + 0.1
    assert tried(found, "3 principal components explain")
    # Of independent noise neither keeps anything, and reconstructions are farther than the mean.
    noise = torch.randn(2, 500, 4)
    nothing = mm.diagnose(noise[0], torch.randn(500, 2), 0.5, noise[1])
    assert nothing["reconstruction_r2"].value < 0
    assert tried(nothing, "this model none: the mean of all data is closer")


def test_reconstructions_in_other_units_are_seen_first():
    arrays = linear()
    arrays["x"] = 255 * arrays["x"]
    found = mm.diagnose(**arrays)
    assert found.remedies[0].startswith("x_reconstructed seems to be in other units")
    slope = float(found.remedies[0].split("multiplied by ")[1].split(". ")[0])
    assert slope == pytest.approx(255, rel=0.05)


def test_rows_in_another_order_are_seen_first():
    arrays = linear(count=2000)
    order = torch.randperm(2000)
    for name in ("z_mean", "z_std", "x_reconstructed"):
        arrays[name] = arrays[name][order]
    assert "same order" in mm.diagnose(**arrays).remedies[0]


def test_codes_of_which_ksg_sees_nothing_are_not_taken_for_shuffled():
    x = torch.randn(400, 300)
    found = mm.diagnose(x, x[:, :3], 0.5)
    assert found["mutual_information_ksg"].value < 0.1
    assert not tried(found, "same order")
    assert tried(mm.diagnose(x, x[torch.randperm(400), :3], 0.5), "same order")


def test_repeated_latents_are_counted():
    arrays = linear(latent=3)
    twice = torch.cat([arrays["z_mean"], -2 * arrays["z_mean"][:, :2]], 1)
    found = mm.diagnose(arrays["x"], twice, z_std=0.1)
    assert found["repeated_units"].value == 2
    assert tried(found, "2 of 5 active latents repeat others: 3 would")


def test_codes_that_lie_elsewhere_than_the_prior_are_seen():
    arrays = linear()
    arrays["z_mean"] = arrays["z_mean"] + 2
    found = mm.diagnose(**arrays)
    assert tried(found, "far from the standard normal prior (mean off by 2")
    assert found["aggregate_offset"].value == pytest.approx(2, abs=0.1)


def test_few_latents_in_use_that_keep_little_are_seen():
    factors = torch.randn(800, 10)
    found = mm.diagnose(factors, factors[:, :2], 0.1, factors * (torch.arange(10) < 2))
    variance = factors.var(0)
    share = variance[:2].sum() / variance.sum()
    assert tried(found, f"All latents (2) are active, and {share:.0%} of the variance is explained")


def test_classes_that_the_codes_lose_are_seen():
    arrays = linear(latent=6, used=5)
    arrays["labels"] = torch.where(arrays["x"] @ torch.ones(12) > 0, 1, 0)
    arrays["z_mean"] = arrays["z_mean"] * (torch.arange(6) == 4)
    found = mm.diagnose(**arrays)
    assert found["linear_probe_accuracy_of_x"].value > 0.9
    assert tried(found, "lose information about the classes")


# --- numbers -------------------------------------------------------------------------------------


def within(metric, expected, errors=5):
    assert abs(metric.value - float(expected)) < errors * metric.standard_error


def test_numbers_are_those_of_a_linear_gaussian_model_in_closed_form():
    case = LinearGaussian.consistent(3, 2, seed=1)
    root = torch.linalg.cholesky(case.data.covariance)
    x = case.data.mean + torch.randn(6000, 3, dtype=torch.float64) @ root.T
    mean = x @ case.A.T + case.a
    found = mm.diagnose(x, mean, case.s_q, mean @ case.B.T + case.b)
    # The posterior is exact and the prior standard normal: the rate is I(x; z).
    information = case.mutual_information(case.encoding)
    within(found["rate"], information)
    assert found["mutual_information_ksg"].value == pytest.approx(float(information), abs=0.1)
    residual = torch.eye(3).double() - case.B @ case.A
    error = (residual @ case.data.covariance @ residual.T).trace()
    within(found["reconstruction_rmse"], (error / 3).sqrt())
    within(found["reconstruction_r2"], 1 - error / case.data.covariance.trace())
    largest = torch.linalg.eigvalsh(case.data.covariance)[1:].sum()
    within(found["pca_r2"], largest / case.data.covariance.trace())
    within(found["aggregate_energy_distance"], 0)
    assert found["aggregate_std"].value == pytest.approx(1, abs=0.03)
    covariance = case.A @ case.data.covariance @ case.A.T
    ratio = covariance.trace().square() / covariance.square().sum()
    within(found["effective_dimensions"], ratio)


def test_numbers_are_those_of_evaluate_where_both_have_them():
    case = LinearGaussian.consistent(4, 2, seed=3)
    encoder, decoder, prior, _, _ = case.modules()
    model = mm.Joint(encoder, decoder, prior)
    root = torch.linalg.cholesky(case.data.covariance)
    x = case.data.mean + torch.randn(1000, 4, dtype=torch.float64) @ root.T
    report = mm.evaluate(model, mm.Dataset("linear", x, x, x), num_samples=5)
    codes = mm.codes(model, x)
    decoded = codes.mean @ case.B.T + case.b
    found = mm.diagnose(x, codes.mean, codes.std, decoded)
    assert found.verdict == report.verdict
    for name in ("active_units", "relative_posterior_std", "reconstruction_rmse"):
        assert found[name].value == pytest.approx(report[name].value, rel=1e-6)
        assert found[name].definition == report[name].definition or name.startswith("recon")
    for name in ("rate", "mutual_information_ksg"):
        error = math.hypot(found[name].standard_error, report[name].standard_error)
        assert abs(found[name].value - report[name].value) < 5 * error
    assert sum(found.kl_per_dimension) == pytest.approx(found["rate"].value)


EXACT = (
    "active_units",
    "relative_posterior_std",
    "effective_dimensions",
    "rate",
    "aggregate_offset",
    "aggregate_std",
    "reconstruction_rmse",
    "reconstruction_r2",
    "reconstruction_r2_of_a_datum",
    "knn_5_accuracy",
    "knn_5_accuracy_of_x",
)


def test_the_order_of_the_rows_decides_on_nothing_but_draws():
    arrays = linear()
    order = torch.randperm(600)
    found = mm.diagnose(**arrays)
    other = mm.diagnose(**{name: values[order] for name, values in arrays.items()})
    for name in EXACT:
        assert other[name].value == pytest.approx(found[name].value, rel=1e-5), name


def test_a_rotation_of_the_data_decides_on_nothing_but_ksg():
    arrays = linear()
    rotation = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64)).Q
    found = mm.diagnose(**arrays)
    for name in ("x", "x_reconstructed"):
        arrays[name] = arrays[name].double() @ rotation
    other = mm.diagnose(**arrays)
    for name in (*EXACT, "pca_r2"):
        assert other[name].value == pytest.approx(found[name].value, rel=1e-4), name
    error = math.hypot(*(d["mutual_information_ksg"].standard_error for d in (found, other)))
    gap = other["mutual_information_ksg"].value - found["mutual_information_ksg"].value
    # The maximum norm knows directions: what a rotation changes is bias, a small part.
    assert abs(gap) < 5 * error + 0.2


def test_units_of_the_data_change_errors_of_reconstructions_only():
    arrays = linear()
    found = mm.diagnose(**arrays)
    for name in ("x", "x_reconstructed"):
        arrays[name] = 1000 * arrays[name].double()
    other = mm.diagnose(**arrays)
    in_units = ("reconstruction_rmse", "reconstruction_mae")
    for name in in_units:
        assert other[name].value == pytest.approx(1000 * found[name].value, rel=1e-5)
    assert other.verdict == found.verdict
    for name, value in found.values.items():
        if name not in in_units:
            assert other[name].value == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_effective_dimensions_are_those_of_equal_and_of_repeated_latents():
    z = torch.randn(4000, 4)
    equal = mm.diagnose(z, 5 * z, 0.1)["effective_dimensions"]
    within(equal, 4 / (1 + 4 / 4000), errors=8)
    repeated = mm.diagnose(z, z[:, :1].expand(4000, 4), 0.1)["effective_dimensions"]
    assert repeated.value == pytest.approx(1)


def test_more_latents_than_data_have_the_same_ratio_by_the_other_product():
    z = torch.randn(30, 50).double()
    scaled = (z - z.mean(0)) / z.std(0, correction=0)
    values = torch.linalg.eigvalsh(scaled.T @ scaled)
    found = mm.diagnose(z[:, :3], z, 0.0)["effective_dimensions"]
    assert found.value == pytest.approx(float(values.sum() ** 2 / values.square().sum()))


@pytest.mark.parametrize("std", [0.5, None])
def test_the_error_of_effective_dimensions_is_that_of_a_jackknife(std):
    z = (torch.randn(150, 3) * torch.tensor([1.0, 0.7, 0.2])).exp()
    widths = None if std is None else std * torch.rand(150, 3)

    def found(rows):
        kept = None if widths is None else widths[rows]
        data = encodings(z[rows], z[rows], kept, None, None, seed=0)
        return _effective_dimensions(data, torch.arange(len(rows)))

    every = torch.arange(150)
    without = torch.tensor([found(every[every != row]).value for row in every]).double()
    error = math.sqrt(149 * float(without.var(correction=0)))
    assert found(every).standard_error == pytest.approx(error, rel=0.1)


def test_the_error_of_effective_dimensions_is_the_scatter():
    z = torch.randn(100, 400, 3) * torch.tensor([1.0, 0.7, 0.2])
    rows = torch.arange(400)
    found = [
        _effective_dimensions(encodings(each, each, 0.5, None, None, seed=0), rows) for each in z
    ]
    scatter = float(torch.tensor([each.value for each in found]).std())
    error = float(torch.tensor([each.standard_error for each in found]).square().mean().sqrt())
    # The scatter of 100 values has an error of 7 %.
    assert error == pytest.approx(scatter, rel=0.25)


def test_products_of_a_covariance_are_those_of_the_matrix():
    for shape in ((9, 4), (4, 9)):
        rows = torch.randn(shape).double()
        covariance = rows.T @ rows / len(rows)
        found = _covariance_products(rows)
        torch.testing.assert_close(found.diagonal, covariance.diagonal())
        torch.testing.assert_close(found.of_square, (covariance @ covariance).diagonal())
        torch.testing.assert_close(found.of_rows, (rows @ covariance @ rows.T).diagonal())


@pytest.mark.parametrize("offset", [0.0, 0.1, 1.0])
def test_the_error_of_the_offset_covers_where_codes_are_centred_too(offset):
    """Of a wide and a narrow latent, either of which may have the larger mean by chance."""
    found = []
    for _ in range(100):
        mean = torch.randn(300, 2) * torch.tensor([1.0, 0.2]) + torch.tensor([0.0, offset])
        found.append(_offset(encodings(mean, mean, None, None, None, seed=0)))
    values = np.array([each.value for each in found])
    errors = np.array([each.standard_error for each in found])
    held = (np.abs(values - values.mean()) < 1.96 * errors).mean()
    assert held > 0.95 - 3.5 * math.sqrt(0.95 * 0.05 / 100)


def test_what_is_drawn_is_of_the_seed_and_not_of_the_global_generator():
    arrays = linear(count=200)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    found = mm.diagnose(**arrays)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    torch.randn(5)
    assert mm.diagnose(**arrays) == found
    assert mm.diagnose(**arrays, seed=1) != found


def test_long_measurements_are_of_random_rows_and_say_so():
    found = mm.diagnose(**linear(count=11_000, features=4, latent=2))
    assert "from 4,000 random rows of 11,000" in found["pca_r2"].notes
    assert "from 10,000 random rows of 11,000" in found["knn_5_accuracy"].notes
    assert not any("random rows" in note for note in found["reconstruction_r2"].notes)


def test_sorted_data_are_judged_like_others():
    arrays = linear(count=6000, features=4, latent=2)
    order = arrays["labels"].argsort(stable=True)
    found = mm.diagnose(**{name: values[order] for name, values in arrays.items()})
    assert found["linear_probe_accuracy"].value > 0.9
    assert found["knn_5_accuracy"].value > 0.9


# --- what is taken -------------------------------------------------------------------------------


def test_arrays_of_any_kind_give_the_same():
    arrays = linear(count=300)
    found = mm.diagnose(**arrays)
    plain = {name: values.numpy() for name, values in arrays.items()}
    assert mm.diagnose(**plain) == found
    assert mm.diagnose(**{name: values.tolist() for name, values in plain.items()}).values == (
        pytest.approx(found.values, rel=1e-5)
    )
    swapped = {name: v.astype(v.dtype.newbyteorder(">")) for name, v in plain.items()}
    assert mm.diagnose(**swapped) == found
    plain["labels"] = np.where(plain["labels"] > 0, "yes", "no")
    assert mm.diagnose(**plain) == found
    plain["labels"] = plain["labels"].astype(object)[:, None]
    plain["z_std"] = plain["z_std"][0]
    for values in plain.values():
        values.setflags(write=False)
    assert mm.diagnose(**plain) == found


def test_images_of_bytes_and_half_precision_are_taken():
    images = torch.randint(0, 256, (60, 6, 6, 1), dtype=torch.uint8)
    codes = images.flatten(1)[:, :2].half() / 255
    restored = images[..., 0].double() + torch.randn(60, 6, 6)
    for x, reconstructed in ((images, restored), (images.flatten(1), restored.bfloat16())):
        found = mm.diagnose(x, codes, z_std=0.01, x_reconstructed=reconstructed)
        assert found["reconstruction_rmse"].value == pytest.approx(1, abs=0.1)
        assert found["reconstruction_r2"].value > 0.99


def test_one_axis_is_a_column_and_constant_columns_are_harmless():
    x = torch.randn(50)
    found = mm.diagnose(x, 0.8 * x, 0.6 * torch.ones(50), 0.64 * x)
    assert found["active_units"].unit == "of 1"
    assert not found.has("pca_r2")
    both = torch.stack([x, torch.ones(50)], 1)
    found = mm.diagnose(both, both, 0.0, both)
    assert found["active_units"].value == 1
    assert found["reconstruction_r2"].value == 1


def test_few_rows_and_one_class_are_measured_as_far_as_they_go():
    x = torch.randn(10, 3)
    found = mm.diagnose(x, x[:, :2], 0.1, x, labels=torch.arange(10) % 2)
    assert not found.has("knn_5_accuracy")
    assert any("20 rows or more" in text for text in found.unknown)
    x = torch.randn(30, 3)
    found = mm.diagnose(x, x[:, :2], 0.1, x, labels=["a"] * 30)
    assert any("all labels are the same" in text for text in found.unknown)
    # One of a kind may be in no training part at all.
    rare = mm.diagnose(x, x[:, :2], 0.1, labels=[0] * 29 + [1])
    assert rare.verdict == "healthy"


GOOD = {"x": np.random.default_rng(0).normal(size=(40, 3)), "z_mean": np.eye(40)[:, :2]}


def spoilt(values, place, value):
    values = np.array(values, dtype=float)
    values[place] = value
    return values


BAD = {
    "a number for data": ({"x": 3.0}, r"x must have shape \(N, \.\.\.\), got a single number"),
    "no data": ({"x": np.empty((0, 3))}, r"x must have data, got shape \(0, 3\)"),
    "no columns": ({"z_mean": np.empty((40, 0))}, "z_mean must have data"),
    "text for data": ({"x": np.full((40, 3), "a")}, "x must be of numbers, got the type <U1"),
    "complex codes": ({"z_mean": np.ones((40, 2)) * 1j}, "z_mean must be of numbers.*complex"),
    "objects": ({"z_mean": np.full((40, 2), None)}, "z_mean must be of numbers.*object"),
    "ragged lists": ({"x": [[1.0, 2], [3]] * 20}, "x must be an array, got rows of different"),
    "nan in the data": (
        {"x": spoilt(GOOD["x"], (3, 1), np.nan)},
        "x must be finite; 1 row of 40 is not: 3 .*leave them out",
    ),
    "inf in many codes": (
        {"z_mean": spoilt(GOOD["z_mean"], slice(9, None), np.inf)},
        "z_mean must be finite; 31 rows of 40 are not: 9, 10, 11, 12, 13, 14 and 25 more",
    ),
    "nan in widths": (
        {"z_std": spoilt(np.ones((40, 2)), (7, 0), np.nan)},
        "z_std must be finite; 1 row of 40 is not: 7",
    ),
    "nan in reconstructions": (
        {"x_reconstructed": spoilt(GOOD["x"], 0, np.nan)},
        "x_reconstructed must be finite",
    ),
    "few rows": ({"x": GOOD["x"][:9], "z_mean": GOOD["z_mean"][:9]}, "10 rows or more, got 9"),
    "nothing varies": ({"x": np.ones((40, 3))}, "x must vary, got 40 rows that are all the same"),
    "codes of other rows": (
        {"z_mean": GOOD["z_mean"][:39]},
        "z_mean must have a row for each of the 40 rows of x, got 39",
    ),
    "widths of another shape": (
        {"z_std": np.ones((40, 3))},
        r"z_std must have z_mean's shape \(40, 2\), or \(2,\), or be a number, got shape \(40, 3\)",
    ),
    "a width for each datum": ({"z_std": np.ones(40)}, "z_std must have z_mean's shape"),
    "log-variances": (
        {"z_std": spoilt(np.ones((40, 2)), (4, 1), -2.5)},
        r"z_std must be 0 or more, got -2.5 in row 4 .*exp\(0.5 \* log_variance\)",
    ),
    "reconstructions of other rows": (
        {"x_reconstructed": GOOD["x"][1:]},
        "x_reconstructed must have a row for each of the 40 rows of x, got 39",
    ),
    "reconstructions of another size": (
        {"x_reconstructed": np.ones((40, 4))},
        r"x_reconstructed must have x's shape \(40, 3\), got \(40, 4\)",
    ),
    "channels elsewhere": (
        {
            "x": np.random.default_rng(0).normal(size=(40, 3, 4, 4)),
            "x_reconstructed": np.ones((40, 4, 4, 3)),
        },
        r"x's shape \(40, 3, 4, 4\), got \(40, 4, 4, 3\)",
    ),
    "labels of other rows": (
        {"labels": np.zeros(39)},
        "labels must have a row for each of the 40 rows of x, got 39",
    ),
    "one-hot labels": (
        {"labels": np.eye(40)[:, :3]},
        r"labels must have shape \(N,\), got \(40, 3\); of one-hot rows give labels.argmax\(1\)",
    ),
    "one label": ({"labels": 3}, r"labels must have shape \(N,\), got \(\)"),
    "missing labels": (
        {"labels": spoilt(np.zeros(40), 6, np.nan)},
        "labels must not be missing; row 6",
    ),
    "measurements for labels": (
        {"labels": np.arange(40) / 7},
        "labels must be classes.*got 40 different ones in 40 rows",
    ),
    "labels of objects": (
        {"labels": np.array([None] * 40)},
        "labels must be numbers or text, got the type object",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_refused_by_name(case):
    arrays, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        mm.diagnose(**{**GOOD, **arrays})


# --- what is given -------------------------------------------------------------------------------


def test_every_number_says_what_it_is():
    found = mm.diagnose(**linear(count=200))
    for metric in found.metrics:
        assert metric.definition
        assert math.isfinite(metric.value)
        assert metric.latent in ("mean", "sample")
    text = str(found)
    assert max(map(len, text.splitlines())) <= 100
    assert all(metric.name in text for metric in found.metrics)
    assert text.startswith("verdict: healthy. ")
    page = found.to_markdown()
    assert page.startswith("**healthy**: ")
    assert "| Active latents | 6 of 6 |" in page
    assert "Other numbers" not in page


@pytest.mark.parametrize("std", [None, 0.0, 0.5])
def test_a_diagnosis_is_read_back_from_json(std):
    arrays = {**linear(count=200), "z_std": std}
    found = mm.diagnose(**arrays)
    again = Diagnosis.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert str(again) == str(found)
    assert again.remedies == found.remedies
    if std:
        assert again == found


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments):
    code = main(["diagnose", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_file_is_diagnosed(here, capsys):
    arrays = {name: values.numpy() for name, values in linear(count=200).items()}
    np.savez("all.npz", **arrays)
    code, out, err = run(capsys, "all.npz")
    assert (code, err) == (0, "")
    assert out == f"{mm.diagnose(**arrays)}\n"
    code, out, _ = run(capsys, "all.npz", "--json", "--seed", 3)
    assert Diagnosis.from_json(json.loads(out)) == mm.diagnose(**arrays, seed=3)


def test_arrays_of_other_names_are_taken_and_further_ones_are_named(here, capsys):
    arrays = {name: values.numpy() for name, values in linear(count=200).items()}
    np.savez("other.npz", data=arrays["x"], mu=arrays["z_mean"], sigma=np.array(0.3), z_sdt=1)
    code, out, err = run(capsys, "other.npz", "--x", "data", "--z-mean", "mu", "--z-std", "sigma")
    assert code == 0
    assert out == f"{mm.diagnose(arrays['x'], arrays['z_mean'], np.float64(0.3))}\n"
    assert err == "arrays not used: 'z_sdt'\n"


def archive(name="a.npz", **arrays):
    np.savez(name, **{"x": GOOD["x"], "z_mean": GOOD["z_mean"], **arrays})
    return name


def without_codes():
    np.savez("a.npz", x=GOOD["x"], z_means=GOOD["z_mean"])
    return "a.npz"


def damaged(change):
    content = Path(archive()).read_bytes()
    Path("a.npz").write_bytes(change(content))
    return "a.npz"


def called(name):
    Path(name).write_text("hello")
    return name


MISTAKES = {
    "no file": (lambda: "b.npz", [], "no file b.npz"),
    "a folder": (lambda: str(Path("f.npz").mkdir() or "f.npz"), [], "f.npz is a folder"),
    "another format": (lambda: called("a.csv"), [], "a.csv must be an .npz file"),
    "text": (lambda: called("a.npz"), [], "a.npz is damaged"),
    "cut off": (lambda: damaged(lambda b: b[: len(b) // 2]), [], "a.npz is damaged"),
    "a flipped byte": (
        lambda: damaged(lambda b: b[:200] + bytes([b[200] ^ 255]) + b[201:]),
        [],
        "a.npz is damaged",
    ),
    "no codes": (
        without_codes,
        [],
        "a.npz has no array 'z_mean'; did you mean 'z_means'\\?; choose one with --z-mean NAME",
    ),
    "an unknown name": (
        archive,
        ["--z-std", "sigma"],
        "no array 'sigma'; the names are 'x', 'z_mean'; choose one with --z-std NAME",
    ),
    "objects": (
        lambda: archive(labels=np.array(["a", None] * 20)),
        [],
        "array 'labels' of a.npz must hold numbers or text, got the type object",
    ),
    "shapes that differ": (
        lambda: archive(z_std=np.ones((39, 2))),
        [],
        "z_std must have z_mean's shape",
    ),
    "an unknown option": (archive, ["--z-men", "z"], "--z-men"),
    "no file at all": (lambda: "--json", [], "FILE"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(case, here, capsys):
    make, options, message = MISTAKES[case]
    code, out, err = run(capsys, make(), *options)
    assert (code, out) == (2, "")
    assert err.startswith("mimachine: error: ")
    assert err.count("\n") == 1
    assert re.search(message, err), err


def test_help_and_a_missing_array_need_no_torch(here):
    code = (
        "import sys; from mimachine.cli.entry import main; code = main(sys.argv[1:]);"
        "print(code, 'torch' in sys.modules)"
    )
    without_codes()
    for arguments, expected in ((["--help"], "0 False"), (["a.npz"], "2 False")):
        done = subprocess.run(
            [sys.executable, "-c", code, "diagnose", *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == expected
