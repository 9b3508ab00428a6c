"""Numbers whose squares leave float64 are refused by name; those below give what others give."""

import numpy as np
import pytest

import mimachine as mm

DICE = np.random.default_rng(0)
CLASSES = np.arange(60) % 2
ARRAYS = {
    "x": DICE.normal(size=(60, 3)),
    "z_mean": DICE.normal(size=(60, 2)),
    "z_std": DICE.uniform(0.1, 0.5, size=(60, 2)),
    "x_reconstructed": DICE.normal(size=(60, 3)),
    "labels": CLASSES,
}
CODES, WIDTHS = ARRAYS["z_mean"], ARRAYS["z_std"]


def scaled(factor, *names):
    return {n: a * factor if n in names else a for n, a in ARRAYS.items()}


@pytest.mark.parametrize("name", ["x", "z_mean", "z_std", "x_reconstructed"])
def test_a_diagnosis_of_numbers_near_the_largest_is_refused(name):
    for factor in (1e300, 1e155):
        with pytest.raises(ValueError, match=rf"^{name} must be within .*, or squares overflow"):
            mm.diagnose(**scaled(factor, name))


def test_a_diagnosis_of_data_that_hardly_vary_is_refused():
    for factor in (1e-300, 1e-160):
        with pytest.raises(ValueError, match=r"^x must vary by 1e-150 or more, got .*; rescale it"):
            mm.diagnose(**scaled(factor, "x", "x_reconstructed"))


@pytest.mark.parametrize("factor", [1e140, 1e-140])
def test_a_diagnosis_does_not_depend_on_the_units_of_the_data(factor):
    # A power of two, which does not change any digit.
    factor = 2.0 ** round(np.log2(factor))
    found = mm.diagnose(**scaled(factor, "x", "x_reconstructed"))
    expected = mm.diagnose(**ARRAYS)
    assert (found.verdict, found.remedies) == (expected.verdict, expected.remedies)
    for metric in expected.metrics:
        other = found[metric.name].value
        units = factor if metric.unit == "units of x" else 1.0
        assert other == pytest.approx(metric.value * units, rel=1e-9), metric.name


ESTIMATES = {
    "kl of means": (lambda z: mm.kl_per_dimension(z, WIDTHS), "mean"),
    "kl of widths": (lambda z: mm.kl_per_dimension(CODES, abs(z)), "std"),
    "kl of a prior": (lambda z: mm.kl_per_dimension(CODES, WIDTHS, z[0]), "mean in units of prior"),
    "a normal prior": (lambda z: mm.energy_distance_from_normal(z), "z"),
    "a far prior": (lambda z: mm.energy_distance_from_normal(CODES, z[0]), "z in units of prior"),
    "a narrow prior": (
        lambda z: mm.energy_distance_from_normal(CODES, 0, abs(1 / z[0])),
        "z in units of prior",
    ),
    "knn_accuracy": (lambda z: mm.knn_accuracy(z, CLASSES, z, CLASSES), "train"),
    "leave_one_out_accuracy": (lambda z: mm.leave_one_out_accuracy(z, CLASSES), "codes"),
    "linear_probe": (lambda z: mm.linear_probe(CODES, CLASSES, z, CLASSES), "test"),
    "diagnose_codes": (lambda z: mm.diagnose_codes(z, WIDTHS), "mean"),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_an_estimate_from_numbers_near_the_largest_is_refused(name):
    estimate, argument = ESTIMATES[name]
    with pytest.raises(ValueError, match=f"^{argument}.* must be within .* rescale the values$"):
        estimate(CODES * 1e300)
    estimate(CODES * 1e100)


def test_distances_of_two_samples_are_those_of_usual_numbers():
    x, y = CODES, CODES[::-1] + WIDTHS
    for estimate in (mm.energy_distance, mm.two_sample_auc):
        usual, large = estimate(x, y), estimate(x * 2.0**990, y * 2.0**990)
        assert large.value == pytest.approx(usual.value, rel=1e-9)


def test_neighbours_in_the_maximum_norm_are_those_of_usual_numbers():
    usual = mm.mutual_information(CODES, WIDTHS).value
    assert mm.mutual_information(CODES * 2.0**990, WIDTHS).value == usual
