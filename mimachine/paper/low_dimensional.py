"""Reproduce figures 1, 2, 3, 7 and 8 of the paper and the 20-D mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mimachine._support.seeds import derived_seed, forked
from mimachine.data.dataset import Dataset
from mimachine.estimation.codes.moments import codes
from mimachine.estimation.information.ksg import mutual_information
from mimachine.experiment.presets import default, published
from mimachine.experiment.settings import Experiment
from mimachine.model.joint import Joint
from mimachine.paper.curves import Panel, curves
from mimachine.paper.paired import mean_ratio
from mimachine.paper.reference import INSET_POINTS, insets, readings
from mimachine.paper.reproduction import Reproduction, Request
from mimachine.paper.sweep import Cell, Measured, carry_out, open_member
from mimachine.paper.tables import beside_the_paper, differences, epoch_ratios, markdown, means
from mimachine.reporting import figures
from mimachine.training.recipe import Warmup

__all__ = [
    "entropy",
    "figure1",
    "figure2",
    "figure3",
    "figure7",
    "figure8",
    "mixture_20d",
    "schedules",
]

WIDTHS = (5, 20, 50, 100, 200, 300, 400, 500)
LATENTS = (2, 4, 6, 8, 10, 12, 14, 16, 18, 20)
PLANE_WIDTHS = (5, 20, 500)
BESIDE_WIDTHS = (20, 100, 300, 500)

OBJECTIVES = {
    **{"MIM": "mim", "VAE": "vae", "MIM-H": "mim-h", "VAE+H": "vae+h"},
    **{"MIM-H, true": "mim-h-true", "auto-encoder": "auto-encoder"},
}

INFORMATION = Panel("mutual_information_ksg", "MI (KSG), nats", "ksg_mutual_information_nats")
BOUND = Panel("negative_elbo", '-ELBO ("NLL"), nats', "negative_elbo_nats")
DISTANCE = Panel(
    "sampled_reconstruction_distance",
    "reconstruction error",
    "reconstruction_error_euclidean",
    digits=3,
)
NEIGHBOURS = Panel("knn_5_accuracy_sampled", "5-NN accuracy", "knn5_accuracy", digits=3)
PAPER_PANELS = (INFORMATION, BOUND, DISTANCE, NEIGHBOURS)
HONEST_PANELS = (
    INFORMATION,
    Panel("mutual_information_lower", "MI lower bound, nats"),
    Panel("mutual_information_upper", "MI upper bound, nats"),
    BOUND,
    Panel("converged_negative_log_likelihood", "NLL, nats"),
    Panel("converged_share_flagged", "NLL flagged, share"),
    Panel("reconstruction_rmse", "RMSE of the mean", digits=3),
    DISTANCE,
    *(Panel(f"knn_{k}_accuracy_sampled", f"{k}-NN", digits=3) for k in (1, 3, 5, 10)),
)


def figure2(request: Request) -> Reproduction:
    """Figure 2: MIM and VAE on the 2-D mixture, by number of hidden units."""
    measured = carry_out(_plane_cells(request, ("MIM", "VAE")), request)
    paper = readings("figure2_2d_mixture")
    verdicts = [*_bands(measured, FIGURE_2_BANDS), _margin(measured), _epochs(measured)]
    return _sweep("figure2", measured, paper, "hidden units", verdicts)


def figure8(request: Request) -> Reproduction:
    """Figure 8: entropy as a regulariser on the 2-D mixture.

    MIM-H subtracts L_CE, as the released code does; "MIM-H, true" subtracts H(M_S), as the text
    says, which is possible because the anchors have densities. An auto-encoder is added because
    the paper's conclusion mentions auto-encoders.
    """
    cells = _plane_cells(request, ("MIM-H", "VAE+H"))
    cells += _plane_cells(request, ("MIM-H, true", "auto-encoder"), BESIDE_WIDTHS, (20,))
    measured = carry_out(cells, request)
    paper = readings("figure8_entropy_variants")
    verdicts = _bands(measured, FIGURE_8_BANDS)
    # Wide MIM-H models are unstable: their values span orders of magnitude.
    panels = [replace(p, logarithmic=True) if p is BOUND else p for p in PAPER_PANELS]
    return _sweep("figure8", measured, paper, "hidden units", verdicts, panels)


def figure1(request: Request) -> Reproduction:
    """Figure 1: data and latent space of models of figure 2."""
    return _planes("figure1", request, ("VAE", "MIM"))


def figure7(request: Request) -> Reproduction:
    """Figure 7: data and latent space of models of figure 8."""
    return _planes("figure7", request, ("VAE+H", "MIM-H"))


def figure3(request: Request) -> Reproduction:
    """Figure 3: Fashion-MNIST projected onto 20 principal components, by number of latents.

    The paper's protocol fits a separate PCA basis to the test images; it is repeated for three
    numbers of latents. The corrected protocol has one basis, fitted to the training images.
    """
    latents = (2, 10) if request.quick else LATENTS
    flawed_latents = (2,) if request.quick else (2, 10, 20)
    corrected = _latent_cells(request, "pca-fashion-mnist", latents)
    flawed = _latent_cells(request, "pca-fashion-mnist-published", flawed_latents)
    measured = carry_out([*corrected, *flawed], request)
    ours, theirs = measured[: len(corrected)], measured[len(corrected) :]
    paper = readings("figure3_pca_fashion_mnist")
    one_basis = _sweep("figure3", ours, {}, "latent dimensions", [])
    two_bases = _sweep("figure3-published-protocol", theirs, paper, "latent dimensions", [])
    return Reproduction(
        {**one_basis.figures, **two_bases.figures},
        {"one basis": one_basis.results, "published protocol": two_bases.results},
        f"Corrected protocol: one PCA basis, from the training images.\n\n{one_basis.table}\n\n"
        f"Protocol of the paper: a separate PCA basis for each split.\n\n{two_bases.table}",
    )


def mixture_20d(request: Request) -> Reproduction:
    """The 20-D mixture of the released code's README, by number of latents."""
    latents = (2, 10) if request.quick else LATENTS
    measured = carry_out(_latent_cells(request, "mixture-20d", latents), request)
    return _sweep("mixture-20d", measured, readings("readme_20d_mixture"), "latent dimensions", [])


def schedules(request: Request) -> Reproduction:
    """Ablation of the released code's recipe on the 2-D mixture, one change at a time.

    The released code multiplies log q(z|x) + log q(x) by β and uses decoding samples only from
    β = 1; Eq. (12) multiplies the priors by β and uses decoding samples from the start. The halves
    are summed or averaged; log q(x) of decoding samples is by Algorithm 2 or importance sampling.
    """
    code = Warmup(3, ("q_z_given_x", "q_x"), decoding="after", halves="sum")
    recipes = {
        "published": (code, "conditional"),
        "mean of the halves": (replace(code, halves="mean"), "conditional"),
        "schedule of Eq. (12)": (Warmup(3, halves="sum"), "conditional"),
        "both": (Warmup(3), "conditional"),
        "importance-sampled q(x)": (code, "importance"),
    }
    cells = []
    for name, (warmup, marginal) in recipes.items():
        for width in (20,) if request.quick else (20, 500):
            start = _plane_settings(replace(request, preset="published"), "MIM", width)
            settings = replace(
                start,
                model=replace(start.model, marginal=marginal),  # type: ignore[arg-type]
                training=replace(start.training, warmup=warmup),
            )
            cells.append(Cell(name, width, settings, _seeds(request)))
    measured = carry_out(cells, request)
    return Reproduction(
        {},
        {"cells": [each.to_json() for each in measured]},
        means(measured, HONEST_PANELS, "hidden units"),
    )


def entropy(request: Request) -> Reproduction:
    """Whether low joint entropy causes the information: MIM with and without it on the 2-D mixture.

    "MIM-H, true" subtracts H(M_S) from the loss. Algorithm 2 takes log p(x|z) as log q(x) on
    decoding samples, which is no bound and rewards the information directly. So the experiment is
    repeated with q(x) = P(x), which this mixture has, and with an importance-sampled q(x).
    """
    estimators: dict[str, dict[str, Any]] = {
        "Algorithm 2": {},
        "importance": {"marginal": "importance"},
        "P(x)": {"data_prior": "data"},
    }
    cells = []
    for estimator, changes in estimators.items():
        for name in ("MIM", "MIM-H, true"):
            for width in (20,) if request.quick else WIDTHS:
                settings = _plane_settings(request, name, width)
                settings = replace(settings, model=replace(settings.model, **changes))
                cells.append(Cell(f"{name}, {estimator}", width, settings, _seeds(request)))
    cells += _plane_cells(request, ("VAE",), WIDTHS, (20,))
    measured = carry_out(cells, request)
    return Reproduction(
        {"entropy": curves(measured, (HONEST_PANELS[1], *PAPER_PANELS[1:]), {}, "hidden units")},
        {"cells": [each.to_json() for each in measured]},
        "\n\n".join(
            [
                *(
                    differences(
                        measured,
                        HONEST_PANELS,
                        (f"MIM, {each}", f"MIM-H, true, {each}"),
                        "hidden units",
                    )
                    for each in estimators
                ),
                means(measured, HONEST_PANELS, "hidden units"),
            ]
        ),
    )


# --- cells ---------------------------------------------------------------------------------------


def _seeds(request: Request, paper: int = 10) -> tuple[int, ...]:
    count = request.seeds if request.seeds is not None else 3 if request.quick else paper
    return tuple(range(1, count + 1))


def _plane_cells(
    request: Request,
    names: Sequence[str],
    widths: Sequence[int] = WIDTHS,
    quick_widths: Sequence[int] = (5, 20, 100),
) -> list[Cell]:
    return [
        Cell(name, width, _plane_settings(request, name, width), _seeds(request))
        for width in (quick_widths if request.quick else widths)
        for name in names
    ]


def _plane_settings(request: Request, name: str, width: int) -> Experiment:
    settings = _settings(request, "mixture-2d", name)
    return replace(settings, model=replace(settings.model, hidden=(width,)))


def _latent_cells(request: Request, data: str, latents: Sequence[int]) -> list[Cell]:
    cells = []
    for latent in latents:
        for name in ("MIM", "VAE"):
            start = _settings(request, data, name)
            model = replace(start.model, latent=latent, hidden=(50,))
            cells.append(Cell(name, latent, replace(start, model=model), _seeds(request, 3)))
    return cells


def _settings(request: Request, data: str, name: str) -> Experiment:
    preset = published if request.preset == "published" else default
    settings = preset(data, OBJECTIVES[name])
    if request.quick:
        epochs = min(settings.training.epochs, 25 if data.startswith("mixture") else 5)
        settings = replace(settings, training=replace(settings.training, epochs=epochs))
    return settings


# --- results -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Band:
    """Expected range of the mean over seeds of a metric, with the published settings.

    The ranges come from running the authors' released code with Algorithm 2 of the paper.
    """

    curve: str
    x: int
    panel: Panel
    low: float
    high: float


FIGURE_2_BANDS = (
    Band("MIM", 20, INFORMATION, 6.4, 7.3),
    Band("MIM", 20, DISTANCE, 0.0, 0.02),
    Band("MIM", 20, NEIGHBOURS, 0.94, 1.0),
    Band("MIM", 20, BOUND, 2.8, 3.6),
    Band("VAE", 500, INFORMATION, 1.3, 1.6),
    Band("VAE", 500, BOUND, 1.75, 1.87),
    Band("VAE", 500, DISTANCE, 0.47, 0.57),
    Band("VAE", 500, NEIGHBOURS, 0.70, 0.78),
    Band("VAE", 5, INFORMATION, -0.15, 0.15),
    Band("VAE", 5, BOUND, 1.97, 2.03),
)
FIGURE_8_BANDS = (
    Band("MIM-H", 20, INFORMATION, -0.05, 0.05),
    Band("MIM-H", 20, NEIGHBOURS, 0.18, 0.22),
    Band("VAE+H", 20, INFORMATION, 6.0, np.inf),
    Band("VAE+H", 20, NEIGHBOURS, 0.94, 1.0),
)


def _sweep(
    name: str,
    measured: Sequence[Measured],
    paper: Mapping[str, Any],
    x_label: str,
    verdicts: Sequence[tuple[str, str]],
    panels: Sequence[Panel] = PAPER_PANELS,
) -> Reproduction:
    """Curves, metrics and tables of a sweep."""
    tables = [beside_the_paper(measured, PAPER_PANELS, paper, x_label)] if paper else []
    if verdicts:
        tables.append(markdown(("check", "result"), verdicts))
    if {"MIM", "VAE"} <= {each.cell.curve for each in measured}:
        tables.append(differences(measured, HONEST_PANELS, ("MIM", "VAE"), x_label))
        tables.append(epoch_ratios(measured, ("MIM", "VAE"), x_label))
    tables.append(means(measured, HONEST_PANELS, x_label))
    return Reproduction(
        {name: curves(measured, panels, paper, x_label)},
        {"cells": [each.to_json() for each in measured], "verdicts": dict(verdicts)},
        "\n\n".join(tables),
    )


def _planes(name: str, request: Request, names: Sequence[str]) -> Reproduction:
    """Data and latent space of the first model of each cell that did not diverge; all metrics."""
    measured = carry_out(_plane_cells(request, names, PLANE_WIDTHS), request)
    shown, rows = {}, []
    for each in measured:
        converged = [index for index, epoch in enumerate(each.best_epochs) if epoch]
        if not converged:
            continue
        model, data = open_member(each.cell, request, converged[0])
        numbers = {metric: float(values[converged[0]]) for metric, values in each.metrics.items()}
        title = f"{each.cell.curve}, {each.cell.x:g} units"
        shown[title] = model, numbers
        theirs = insets().get((each.cell.curve, each.cell.x))
        information = f"{_inset_information(model, data):.2g}"
        distance = f"{numbers[DISTANCE.metric]:.2g}"
        paper = [f"{number:g}" for number in theirs] if theirs else ["", ""]
        rows.append((title, information, paper[0], distance, paper[1]))
    header = ("model shown", "MI (3,000 points), nats", "paper", DISTANCE.title, "paper")
    return Reproduction(
        {name: figures.plane(shown, data)} if shown else {},
        {"cells": [each.to_json() for each in measured]},
        f"{markdown(header, rows)}\n\n{means(measured, HONEST_PANELS, 'hidden units')}",
    )


def _inset_information(model: Joint, data: Dataset) -> float:
    """Mutual information by KSG, in nats, from as many points as in the paper's insets."""
    x = data.test[:INSET_POINTS]
    with forked(derived_seed(0, "inset")):
        return float(mutual_information(x, codes(model, x).sample, standardize=False))


def _bands(measured: Sequence[Measured], bands: Sequence[Band]) -> list[tuple[str, str]]:
    """Check for each band whether the mean over seeds is in it."""
    verdicts = []
    for band in bands:
        for each in measured:
            if (each.cell.curve, each.cell.x) != (band.curve, band.x):
                continue
            mean = each.mean(band.panel.metric)
            inside = "yes" if band.low <= mean <= band.high else "NO"
            what = f"{band.curve}, {band.x}: {band.panel.title}"
            verdicts.append((f"{what} in [{band.low:g}, {band.high:g}]", f"{inside}: {mean:.3f}"))
    return verdicts


def _margin(measured: Sequence[Measured]) -> tuple[str, str]:
    """Check that the mutual information of MIM exceeds that of the VAE by at least 4 nats."""
    information = {
        (each.cell.curve, each.cell.x): each.mean(INFORMATION.metric) for each in measured
    }
    margins = {
        x: value - information["VAE", x]
        for (curve, x), value in information.items()
        if curve == "MIM" and x >= 20
    }
    # NaN, if all models diverged, counts as the least.
    x, least = min(margins.items(), key=lambda item: np.nan_to_num(item[1], nan=-np.inf))
    answer = "yes" if least >= 4 else "NO"
    return (
        "MI of MIM at least 4 nats above that of VAE from 20 units on",
        f"{answer}: minimum {least:.2f}, with {x:g} units",
    )


def _epochs(measured: Sequence[Measured]) -> tuple[str, str]:
    """Check the ratio of epochs to the best weights, MIM over VAE, by seed."""
    best = {(m.cell.curve, m.cell.x): np.array(m.best_epochs, dtype=float) for m in measured}
    ratios = [mean_ratio(best["MIM", x], best["VAE", x]).mean for c, x in best if c == "MIM"]
    inside = "yes" if min(ratios) >= 2 and max(ratios) <= 5 else "NO"
    return (
        "MIM takes 2 to 5 times as many epochs as VAE, by the geometric mean over seeds",
        f"{inside}: {min(ratios):.1f} to {max(ratios):.1f}, median {np.median(ratios):.1f}",
    )
