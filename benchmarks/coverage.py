"""Coverage of every standard error: how many intervals of ± 1.96 errors hold the mean over repeats.

Models are trained once, a MIM and a VAE on mixtures in 2 and 20 columns. Each repeat draws 500 new
test rows from the known P(x) and measures them by `mm.evaluate` and `mm.diagnose` with new noise.
The classifiers of `evaluate` have the same training rows in all repeats, because their errors are
over test rows only; those of `diagnose` are trained on a part of the new rows. The other settings
call one function with new data and noise in each repeat. For each number that has an error the
table reports its mean and scatter, the root mean square of its errors, and the share of intervals
that hold the mean. Numbers without an error, such as a saturated KSG estimate, are left out.

    python benchmarks/coverage.py --out results/coverage.json             # half an hour
    python benchmarks/coverage.py --out results/coverage.json --only ksg  # settings of this name

Settings that the output file has, from as many repeats, are not measured again except with --again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from machine import processor
from torch import Tensor

import mimachine as mm
from mimachine._support.seeds import derived_seed, forked
from mimachine.estimation.codes.moments import mean_of
from mimachine.model.distributions import Mixture

Measure = Callable[[int], dict[str, mm.Estimate]]
ROWS, EPOCHS = 500, 10
OBJECTIVES = {"MIM": mm.A_MIM, "VAE": mm.VAE}


# --- trained models ------------------------------------------------------------------------------


@cache
def data_of(columns: int) -> mm.Dataset:
    """A mixture of five normals that overlap."""
    if columns == 2:
        return mm.datasets.mixture_2d(num_data=5000)
    means = 0.5 * torch.randn(5, columns, generator=torch.Generator().manual_seed(0))
    mixture = Mixture(torch.zeros(5), mm.DiagNormal(means, torch.full_like(means, 0.5)))
    empty = mm.Dataset(f"mixture-{columns}", *3 * [torch.empty(0)], distribution=mixture)
    splits = [drawn(empty, 5000, split) for split in ("train", "val", "test")]
    rows, labels = zip(*splits, strict=True)
    return replace(
        empty,
        **dict(zip(("train", "val", "test"), rows, strict=True)),
        **dict(zip(("train_labels", "val_labels", "test_labels"), labels, strict=True)),
    )


def drawn(data: mm.Dataset, count: int, *purpose: str | int) -> tuple[Tensor, Tensor]:
    """New rows of P(x) and their classes."""
    assert data.distribution is not None
    with forked(derived_seed(0, "coverage", data.name, *purpose)):
        return data.distribution.sample_with_component((count,))


@cache
def trained(columns: int, objective: str) -> mm.Joint:
    latents = 2 if columns == 2 else 5
    with forked(0):
        model = mm.Joint(
            mm.Gaussian(mm.MLP(columns, 2 * latents, (64,))),
            mm.Gaussian(mm.MLP(latents, 2 * columns, (64,))),
            mm.StandardNormal(latents),
        )
    data, recipe = data_of(columns), mm.Training(epochs=EPOCHS, warmup=3)
    mm.fit(mm.Loss(model, OBJECTIVES[objective]), data.train, data.val, recipe, progress=False)
    return model.eval()


def evaluated(columns: int, objective: str) -> Measure:
    data, model = data_of(columns), trained(columns, objective)

    def measure(seed: int) -> dict[str, mm.Estimate]:
        rows, labels = drawn(data, ROWS, "evaluate", seed)
        fresh = replace(data, test=rows, test_labels=labels)
        return of_metrics(mm.evaluate(model, fresh, num_samples=50, seed=seed))

    return measure


def diagnosed(columns: int, objective: str) -> Measure:
    data, model = data_of(columns), trained(columns, objective)

    def measure(seed: int) -> dict[str, mm.Estimate]:
        rows, labels = drawn(data, ROWS, "diagnose", seed)
        codes = mm.codes(model, rows, seed=seed)
        with torch.no_grad():
            restored = mean_of(model.decoder(codes.mean))
        return of_metrics(mm.diagnose(rows, codes.mean, codes.std, restored, labels, seed=seed))

    return measure


def of_metrics(report: mm.Report) -> dict[str, mm.Estimate]:
    """Numbers that have an error."""
    return {
        metric.name: mm.Estimate(metric.value, metric.standard_error)
        for metric in report.metrics
        if metric.standard_error is not None
    }


def likelihoods(columns: int, objective: str) -> Measure:
    """Functions of the likelihood and the terms of the loss."""
    data, model = data_of(columns), trained(columns, objective)
    other = mm.refit_prior(model, data.train, data.val)
    data_prior = mm.Fixed(data.distribution)
    with_data_prior = mm.Joint(model.encoder, model.decoder, model.prior, data_prior)

    def measure(seed: int) -> dict[str, mm.Estimate]:
        rows, _ = drawn(data, ROWS, "likelihood", seed)
        compared = mm.compare_priors(model, other, rows, 50, seed=seed)
        found = {
            "log_likelihood": mm.log_likelihood(model, rows, 50, seed=seed).mean(),
            "mean_log_likelihood, subset of 100": mm.mean_log_likelihood(
                model, rows, 100, subset=100, few_samples=5, seed=seed
            ),
            "likelihood_gain": compared.likelihood_gain,
            "bound_gain": compared.bound_gain,
            "reencode divergence": mm.reencode(model, rows, seed=seed).divergence,
        }
        if columns == 2:
            integral = mm.quadrature_log_likelihood(model, rows[:100], tolerance=0.1)
            found["quadrature_log_likelihood, 100 rows"] = integral.mean()
        terms = mm.decompose(
            with_data_prior,
            rows,
            data_distribution=data.distribution,
            num_samples=2,
            seed=seed,
        )
        for field in fields(terms):
            if isinstance(term := getattr(terms, field.name), mm.Estimate):
                found[f"decompose {field.name}"] = term
        normaliser = mm.geometric_mean_log_normaliser(with_data_prior, 2000, seed=seed)
        return {**found, "geometric_mean_log_normaliser": normaliser}

    return measure


# --- functions of samples ------------------------------------------------------------------------


def normal(*shape: int, purpose: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derived_seed(seed, "coverage", purpose))
    return torch.randn(shape, generator=generator)


def ksg(count: int, columns: int, rho: float) -> Measure:
    """KSG of x and z of this number of columns each, in pairs of this correlation."""

    def measure(seed: int) -> dict[str, mm.Estimate]:
        x = normal(count, columns, purpose="x", seed=seed)
        z = rho * x + math.sqrt(1 - rho**2) * normal(count, columns, purpose="z", seed=seed)
        found = mm.mutual_information(x, z)
        return {"mutual_information": mm.Estimate(found.value, found.standard_error)}

    return measure


def bounds(columns: int, truth: float) -> Measure:
    """Bounds for z = x + noise in each column, x normal, with this information in nats."""
    noise = torch.tensor(1 / math.sqrt(math.expm1(2 * truth / columns)), dtype=torch.float64)

    def measure(seed: int) -> dict[str, mm.Estimate]:
        x = normal(ROWS, columns, purpose="channel", seed=seed).double()
        prior = mm.DiagNormal(torch.zeros(columns).double(), (1 + noise.square()).sqrt())
        found = mm.bounds_from_conditionals([mm.DiagNormal(x, noise)], prior=prior, seed=seed)
        named = {"lower": found.lower, "upper": found.upper, "gap": found.gap, "rate": found.rate}
        return {name: bound for name, bound in named.items() if bound is not None}

    return measure


def two_samples(columns: int, shift: float, counts: tuple[int, int]) -> Measure:
    """Samples of two normals whose means differ by `shift`, in all columns together."""

    def measure(seed: int) -> dict[str, mm.Estimate]:
        x = normal(counts[0], columns, purpose="first", seed=seed) + shift / math.sqrt(columns)
        y = normal(counts[1], columns, purpose="second", seed=seed)
        return {
            "energy_distance": mm.energy_distance(x, y),
            "energy_distance, not standardised": mm.energy_distance(x, y, standardize=False),
            "two_sample_auc": mm.two_sample_auc(x, y, seed=seed),
        }

    return measure


def from_normal(columns: int, shift: float) -> Measure:
    def measure(seed: int) -> dict[str, mm.Estimate]:
        z = normal(ROWS, columns, purpose="codes", seed=seed) + shift / math.sqrt(columns)
        return {"energy_distance_from_normal": mm.energy_distance_from_normal(z)}

    return measure


def probes(offset: float) -> Measure:
    """Probes of two classes in 4 columns, each of whose means is at this distance from 0."""
    sides = torch.tensor([-1.0, 1.0])

    def classes(count: int, purpose: str, seed: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(count) % 2
        points = normal(count, 4, purpose=purpose, seed=seed)
        points[:, 0] += offset * sides[labels]
        return points, labels

    train, train_labels = classes(ROWS, "training codes", 0)

    def measure(seed: int) -> dict[str, mm.Estimate]:
        test, labels = classes(ROWS, "codes", 1 + seed)
        return {
            "linear_probe": mm.linear_probe(train, train_labels, test, labels),
            "leave_one_out_accuracy": mm.leave_one_out_accuracy(test, labels),
        }

    return measure


PAIRS = ((1, (300, 300)), (2, (300, 300)), (10, (500, 100)), (64, (200, 200)))
SETTINGS: dict[str, tuple[Callable[..., Measure], tuple[Any, ...]]] = {
    **{
        f"{name}, {objective}, {columns} columns": (make, (columns, objective))
        for name, make in (
            ("evaluate", evaluated),
            ("diagnose", diagnosed),
            ("likelihood", likelihoods),
        )
        for columns in (2, 20)
        for objective in OBJECTIVES
    },
    **{
        f"ksg, {columns} + {columns} columns, correlation {rho}, N {count}": (
            ksg,
            (count, columns, rho),
        )
        for count, columns, rhos in ((2000, 1, (0, 0.9)), (2000, 2, (0, 0.9, 0.99)))
        for rho in rhos
    },
    "ksg, 10 + 10 columns, correlation 0.9, N 5000": (ksg, (5000, 10, 0.9)),
    **{
        f"bounds, {columns} columns, {truth} nats": (bounds, (columns, truth))
        for columns in (1, 2, 10, 40)
        for truth in ((0.5, 2.0, 4.0) if columns == 1 else (0.5, 2.0, 4.0, 8.0))
    },
    **{
        f"two samples, {columns} columns, shift {shift}, N {counts[0]} and {counts[1]}": (
            two_samples,
            (columns, shift, counts),
        )
        for columns, counts in PAIRS
        for shift in (0.0, 0.2, 1.0, 4.0)
    },
    **{
        f"from a normal, {columns} columns, shift {shift}": (from_normal, (columns, shift))
        for columns in (1, 2, 16)
        for shift in (0.0, 0.1, 1.0)
    },
    **{f"probes, means {offset} from 0": (probes, (offset,)) for offset in (0.0, 1.0, 2.5)},
}
# These take seconds for each repeat.
FEWER = {"ksg, 10 + 10 columns, correlation 0.9, N 5000": 4}


def coverage(measure: Measure, repeats: int) -> list[dict[str, Any]]:
    """Mean, scatter, error and coverage of each number."""
    found: dict[str, list[mm.Estimate]] = {}
    for seed in range(repeats):
        for name, estimate in measure(seed).items():
            if math.isfinite(estimate.standard_error):
                found.setdefault(name, []).append(estimate)
    return [row(name, estimates) for name, estimates in found.items() if len(estimates) > 1]


def row(name: str, estimates: list[mm.Estimate]) -> dict[str, Any]:
    values = [each.value for each in estimates]
    errors = [each.standard_error for each in estimates]
    mean = statistics.mean(values)
    held = [abs(v - mean) <= 1.96 * e for v, e in zip(values, errors, strict=True)]
    return {
        "name": name,
        "repeats": len(values),
        "mean": rounded(mean),
        "scatter": rounded(statistics.stdev(values)),
        "standard_error": rounded(math.sqrt(statistics.mean(e**2 for e in errors))),
        "held": statistics.mean(held),
    }


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def formatted(row: dict[str, Any]) -> str:
    return (
        f"  {row['name']:<44} {row['mean']:>10.4g}  scatter {row['scatter']:<9.3g} "
        f"error {row['standard_error']:<9.3g} held {row['held']:.3f} of {row['repeats']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--only", default="", help="only settings whose name begins like this")
    parser.add_argument("--again", action="store_true", help="replace settings of the file")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    saved: dict[str, Any] = {"settings": {}}
    if arguments.out is not None and arguments.out.exists():
        saved = json.loads(arguments.out.read_text())
    for name, (make, options) in SETTINGS.items():
        repeats = arguments.repeats // FEWER.get(name, 1)
        known = saved["settings"].get(name, {}).get("repeats") == repeats
        if not name.startswith(arguments.only) or (known and not arguments.again):
            continue
        start = time.process_time()
        rows = coverage(make(*options), repeats)
        seconds = round(time.process_time() - start, 1)
        print(f"{name} ({seconds:.0f} s)", *map(formatted, rows), sep="\n", flush=True)
        saved["settings"][name] = {"repeats": repeats, "processor_s": seconds, "rows": rows}
        saved |= {"command": "python benchmarks/coverage.py", "processor": processor()}
        # In the order of the list, whatever order they were measured in.
        saved["settings"] = {
            key: saved["settings"][key] for key in SETTINGS if key in saved["settings"]
        }
        if arguments.out is not None:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(saved, indent=1) + "\n")
    shares = [each["held"] for part in saved["settings"].values() for each in part["rows"]]
    if shares:
        print(f"{len(shares)} numbers, held between {min(shares):.3f} and {max(shares):.3f}")
    else:
        sys.exit(f"no setting begins with {arguments.only!r}")


if __name__ == "__main__":
    main()
