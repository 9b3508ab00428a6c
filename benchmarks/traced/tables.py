"""Tables of the pages, each rendered from its results, by the name of its block."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from traced.blocks import block
from traced.cells import (
    mean,
    of_paper,
    one,
    percent,
    table,
    with_error,
    with_one_digit,
    with_sd,
    with_se,
)
from traced.rows import Number, Row, chosen
from traced.sources import Sources

# --- reproduction.md -----------------------------------------------------------------------------


@block("figure2-information")
def figure2_information(sources: Sources) -> str:
    rows = sources.rows("figure2")
    by_curve = {curve: chosen(rows, [curve]) for curve in ("MIM", "VAE")}
    lines = [
        ["MIM, KSG", *(mean(row["KSG"], 2) for row in by_curve["MIM"])],
        ["MIM, at least", *(with_sd(row["lower"], 1) for row in by_curve["MIM"])],
        ["MIM, at most", *(with_sd(row["upper"], 1) for row in by_curve["MIM"])],
        ["VAE, KSG", *(mean(row["KSG"], 2) for row in by_curve["VAE"])],
        ["VAE, both bounds", *map(both_bounds, by_curve["VAE"])],
    ]
    return table(["hidden units", *(f"{row.labels['x']:g}" for row in by_curve["MIM"])], lines)


def both_bounds(row: Row) -> str:
    """The two bounds as one number where they agree."""
    shown = dict.fromkeys(mean(row[bound], 2) for bound in ("lower", "upper"))
    return " to ".join(shown)


@block("schedules")
def schedules(sources: Sources) -> str:
    names = {
        "published": "published",
        "mean of the halves": "mean of the halves, not their sum",
        "schedule of Eq. (12)": "schedule of Eq. (12)",
        "both": "both",
        "importance-sampled q(x)": "importance-sampled q(x), as in the released code",
    }
    columns = (("MI", "KSG", 20, 2), ("MI", "KSG", 500, 2), ("-ELBO", "-ELBO", 20, 2),
               ("-ELBO", "-ELBO", 500, 2), ("NLL", "NLL", 500, 2),
               ("best epoch", "best_epochs", 500, 0))  # fmt: skip
    rows = sources.rows("schedules")
    lines = [
        [shown, *(with_sd(one(rows, name, str(x))[metric], digits)
                  for _, metric, x, digits in columns)]
        for name, shown in names.items()
    ]  # fmt: skip
    return table(["", *(f"{title} {x}" for title, _, x, _ in columns)], lines)


def mim_and_vae(rows: Iterable[Row], x_label: str, columns: Sequence[tuple[str, str, int]]) -> str:
    """Table with a row for each x, and two columns for each (title, metric, digits)."""
    header = [
        x_label,
        *(f"{title}, {curve}" for title, _, _ in columns for curve in ("MIM", "VAE")),
    ]
    rows = list(rows)
    lines = []
    for x in dict.fromkeys(row.labels["x"] for row in rows):
        both = [one(rows, curve, f"{x:g}") for curve in ("MIM", "VAE")]
        cells = (with_sd(row[metric], digits) for _, metric, digits in columns for row in both)
        lines.append([f"{x:g}", *cells])
    return table(header, lines)


@block("figure2-default")
def figure2_default(sources: Sources) -> str:
    rows = sources.rows("figure2-default")
    some = [row for row in rows if row.labels["x"] in (5, 20, 100, 500)]
    columns = (("MI", "KSG", 2), ("-ELBO", "-ELBO", 2), ("NLL", "NLL", 2), ("5-NN", "5-NN", 3))
    return mim_and_vae(some, "hidden units", columns)


@block("entropy")
def entropy(sources: Sources) -> str:
    rows = sources.rows("entropy-default")
    curves = [f"{name}, {q}" for q in ("Algorithm 2", "importance", "P(x)")
              for name in ("MIM", "MIM-H, true")]  # fmt: skip
    lines = []
    for width in sorted({row.labels["x"] for row in rows}):
        found = [one(rows, curve, f"{width:g}") for curve in (*curves, "VAE")]
        lines.append([f"{width:g}", *(with_sd(row["lower"], 2) for row in found)])
    titles = [
        title
        for q in ("Algorithm 2", "importance samples", "P(x)")
        for title in (f"MIM, {q}", f"less H(M_S), {q}")
    ]
    return table(["hidden units", *titles, "VAE"], lines)


@block("figure3")
def figure3(sources: Sources) -> str:
    rows = chosen(sources.rows("figure3"), ["one basis"])
    columns = (("MI", "KSG", 2), ("-ELBO", "-ELBO", 1), ("error", "error", 2), ("5-NN", "5-NN", 3))
    return mim_and_vae(rows, "latents", columns)


@block("figure3-published-protocol")
def figure3_published(sources: Sources) -> str:
    rows = chosen(sources.rows("figure3"), ["published protocol"])
    columns = (("MI", "KSG", 2), ("-ELBO", "-ELBO", 1), ("error", "error", 2), ("5-NN", "5-NN", 2))
    header = ["curve, latents", *(part for title, _, _ in columns for part in (title, "paper"))]
    lines = []
    for row in sorted(rows, key=lambda row: str(row.labels["curve"])):
        cells = [f"{row.labels['curve']}, {row.labels['x']:g}"]
        for _, metric, digits in columns:
            cells += [with_sd(row[metric], digits), of_paper(row, metric, digits)]
        lines.append(cells)
    return table(header, lines)


# --- information.md ------------------------------------------------------------------------------


@block("bounds-tight-up-to")
def tight_up_to(sources: Sources) -> str:
    rows = [row for row in sources.rows("information_bounds") if row.get("tight_up_to")]
    lines = []
    for count in dict.fromkeys(row.labels["num_data"] for row in rows):
        of_count = [row for row in rows if row.labels["num_data"] == count]
        cells = [mean(row["tight_up_to"], 2) for row in of_count]
        lines.append([f"{count:,}", mean(of_count[0]["half_log_n"], 2), *cells])
    return table(["N", "½ log N", "2 dimensions", "10", "40"], lines, left=5)


@block("bounds-and-ksg")
def bounds_and_ksg(sources: Sources) -> str:
    lines = []
    for row in chosen(sources.rows("information_bounds"), ["rows", "num_data=10000"]):
        truth = row.labels["truth"]
        if truth in (2, 4, 8, 12, 30):
            upper = row["upper"]
            shown = with_error(upper, 2) if upper.mean < 1e7 else f"{upper.mean:.2g}"
            cells = [with_error(row["lower"], 2), shown, with_error(row["ksg"], 2)]
            lines.append([f"{row.labels['dimensions']}", f"{truth:g}", *cells])
    return table(["dimensions", "truth", "lower bound", "upper bound", "KSG"], lines, left=5)


# --- diagnose.md ---------------------------------------------------------------------------------


COVERED = {
    "evaluate": "`mm.evaluate`, MIM and VAE, 2 and 20 columns",
    "diagnose": "`mm.diagnose`, the same models",
    "likelihood": "likelihoods, comparison of priors, terms of the loss",
    "ksg": "`mm.mutual_information`",
    "bounds": "`mm.bounds_from_conditionals`",
    "two samples": "`mm.energy_distance`, `mm.two_sample_auc`",
    "from a normal": "`mm.energy_distance_from_normal`",
    "probes": "`mm.linear_probe`, `mm.leave_one_out_accuracy`",
}


@block("coverage")
def coverage(sources: Sources) -> str:
    rows = [row for row in sources.rows("coverage") if "held" in row.numbers]
    lines = []
    for kind, what in COVERED.items():
        of_kind = [
            r["held"].mean for r in rows if any(k.startswith(f"in {kind}") for k in r.labels)
        ]
        shares = min(of_kind), sum(of_kind) / len(of_kind), max(of_kind)
        lines.append([what, str(len(of_kind)), *(f"{100 * share:.1f}" for share in shares)])
    return table(["numbers of", "count", "least, %", "mean, %", "most, %"], lines, left=1)


# --- priors.md -----------------------------------------------------------------------------------


@block("refitted-priors")
def refitted_priors(sources: Sources) -> str:
    header = ["data, objective", "floor", "prior", "seeds", "-ELBO", "rate", "-log p(x)"]
    lines = []
    for row in ordered_by_prior(sources.rows("refit_prior")):
        small = 1 if row.labels["data"] == "digits" else 2
        prior = re.sub(r"refitted (\w+)", r"+ refit `\1`", str(row.labels["prior"]))
        cells = [f"{row.labels['data']}, {row.labels['objective']}", f"{row.labels['floor']:g}"]
        cells += [prior, str(len(row["rate"].values))]
        cells += [with_se(row["negative_elbo"], small), with_se(row["rate"], small)]
        cells += [bound_or_value(row, small), with_se(row["energy_distance"], 4)]
        lines.append(cells)
    return table([*header, "energy distance"], lines, left=8)


def ordered_by_prior(rows: Iterable[Row]) -> list[Row]:
    """Rows of a data set and an objective in the order in which their models are explained."""
    priors = ["standard normal", "refitted gmm", "refitted flow", "refitted vamp"]
    priors.append("VampPrior from the start")
    return sorted(
        rows,
        key=lambda row: (
            str(row.labels["data"]),
            str(row.labels["objective"]),
            row.labels["floor"],
            priors.index(str(row.labels["prior"])),
        ),
    )


def bound_or_value(row: Row, digits: int) -> str:
    """A likelihood; "<" if all estimates are flagged, so that it is only a bound."""
    found = row.get("nll")
    if found is None or not len(found.finite):
        return "-"
    bound = "< " if row["flagged"].mean == 1 else ""
    return bound + with_se(found, digits)


# --- diagnose.md ---------------------------------------------------------------------------------


@block("diagnosis")
def diagnosis(sources: Sources) -> str:
    text = sources.text("diagnoses.txt").partition("=== VAE ===\n")[2].partition("\n=== ")[0]
    return f"```\n{text.strip()}\n```\n"


@block("diagnoses")
def diagnoses(sources: Sources) -> str:
    text = sources.text("diagnoses.txt")
    reports = re.split(r"^=== (.*) ===\n", text, flags=re.MULTILINE)[1:]
    by_model = dict(zip(reports[::2], reports[1::2], strict=True))
    names = ("active_units", "relative_posterior_std", "rate", "mutual_information_lower",
             "mutual_information_upper", "aggregate_energy_distance", "reconstruction_r2",
             "pca_r2", "knn_5_accuracy", "knn_5_accuracy_sampled")  # fmt: skip
    verdicts = [re.match(r"verdict: (.*?)\.", report) for report in by_model.values()]
    lines = [["verdict", *(found[1] if found else "" for found in verdicts)]]
    for name in names:
        found = [re.search(rf"^  {name}  +(.*)$", each, re.M) for each in by_model.values()]
        lines.append([f"`{name}`", *(each[1] if each else "" for each in found)])
    return table(["", *by_model], lines, left=1 + len(by_model))


# --- consistency.md ------------------------------------------------------------------------------


def consistency(sources: Sources, by: str, shown: Sequence[tuple[str, str, str]]) -> str:
    """Table with a column for each value of `by`, and rows (title, loss, metric)."""
    rows = chosen(sources.rows("consistency"), [f"by={by}"])
    values = dict.fromkeys(f"{row.labels[by]:g}" for row in rows)
    lines = [
        [title, *(with_one_digit(one(rows, loss, f"{by}={value}")[metric]) for value in values)]
        for title, loss, metric in shown
    ]
    return table([by, *values], lines, left=1 + len(values))


@block("consistency-over-training")
def consistency_over_training(sources: Sources) -> str:
    return consistency(sources, "epoch", [("MIM", "mim", "R_MIM"), ("L_CE", "ce", "R_MIM")])


@block("consistency-by-components")
def consistency_by_components(sources: Sources) -> str:
    metrics = {
        "R_MIM": "R_MIM",
        "KL(M_S ‖ M_θ)": "KL(M_S, M_theta)",
        "KL(P(x) ‖ q(x))": "KL(P(x), q(x))",
    }
    losses = {"MIM": "mim", "L_CE": "ce"}
    shown = [(f"{loss}: {title}", losses[loss], metrics[title])
             for loss in losses for title in metrics]  # fmt: skip
    return consistency(sources, "components", shown)


@block("consistency-by-floor")
def consistency_by_floor(sources: Sources) -> str:
    shown = [("MIM: R_MIM", "mim", "R_MIM"), ("L_CE: R_MIM", "ce", "R_MIM"),
             ("MIM: JSD", "mim", "JSD"), ("L_CE: JSD", "ce", "JSD")]  # fmt: skip
    return consistency(sources, "floor", shown)


# --- likelihood.md -------------------------------------------------------------------------------


# Repeats of each model and factor in likelihood_calibration.txt.
REPEATS = 200


@block("likelihood-calibration")
def likelihood_calibration(sources: Sources) -> str:
    header = ["proposal", "off by over 0.1 nat", "of these flagged", "flagged",
              "95 % intervals of the unflagged that contain the truth",
              "of those that are not exact"]  # fmt: skip
    titles = {
        "encoder": "the encoder",
        "defensive": "`mm.DefensiveProposal`",
        "refitted": "`mm.refit_proposal`",
        "annealed": "`mm.annealed_log_likelihood`",
    }
    lines = []
    for proposal, title in titles.items():
        rows = chosen(sources.rows("likelihood_calibration"), ["run=main", proposal])
        total = one(rows, "all")
        single = [row for row in rows if row is not total]
        off = [round(REPEATS * row["off"].mean) for row in single]
        detected = sum(
            round(count * row["off_flagged"].mean)
            for count, row in zip(off, single, strict=True)
            if count
        )
        unflagged = sum(
            round(REPEATS * (1 - row["flagged"].mean))
            for row in single
            if len(row["inexact"].finite)
        )
        few = 0 < sum(off) < 10
        cells = [percent(total["off"]) + (f" ({sum(off)})" if few else "")]
        cells.append(f"{detected} of {sum(off)}" if few else precise(total["off_flagged"]))
        cells += [percent(total["flagged"]), precise(total["coverage"])]
        hits = round(unflagged * total["inexact"].mean)
        cells.append(f"{hits} of {unflagged}" if unflagged < 10 else precise(total["inexact"]))
        lines.append([title, *cells])
    return table(header, lines, left=6)


def precise(found: Number) -> str:
    """A share in percent, with a decimal if it is near all."""
    return percent(found, 1 if found.mean >= 0.98 else 0)


@block("likelihood-speed")
def likelihood_speed(sources: Sources) -> str:
    row = sources.rows("likelihood-speed")[0]
    lines = []
    for title, prior in (
        ("standard normal", "standard normal"),
        ("VampPrior of 500 components", "vampprior"),
    ):
        speeds = [row[f"{prior}.ratio.{name}"].mean for name in ("float32", "bf16-mixed")]
        single, mixed = (f"{speed:#.2g}".rstrip(".") for speed in speeds)
        lines.append([title, f"{single} times as fast", f"{mixed} times"])
    return table(["prior", "single precision", '`Fabric(precision="bf16-mixed")`'], lines, left=3)


# --- image-models.md -----------------------------------------------------------------------------

READINGS = {"a-mim": "A-MIM", "mim": "MIM, draws", "mim-of-means": "MIM, means"}
PRIORS = {"components=0": "N(0, I)", "components=500": "VampPrior"}


@block("symmetric-readings")
def symmetric_readings(sources: Sources) -> str:
    header = ["prior", "objective", "NLL, nats", "5-NN, codes", "5-NN, their means", "RMSE"]
    lines = []
    for components, prior in PRIORS.items():
        for objective, title in READINGS.items():
            rows = sources.rows("symmetric-readings")
            row = one(rows, f"objective={objective}", components, "seed=0")
            cells = [prior if objective == "a-mim" else "", title]
            cells.append(with_error(row["negative_log_likelihood"], 1))
            for metric in ("knn_5_accuracy_sampled", "knn_5_accuracy", "reconstruction_rmse"):
                cells.append(mean(row[metric], 3))
            lines.append([*cells, with_error(row["energy_of_samples"], 3)])
    return table([*header, "distance of samples"], lines, left=2)


@block("symmetric-gradients")
def symmetric_gradients(sources: Sources) -> str:
    ways = {
        "a-mim": "A-MIM",
        "mim, no baseline": "MIM, draws, no baseline",
        "mim, leave-one-out": "leave-one-out",
        "mim-of-means": "MIM, means",
    }
    weights = {"a-mim": "A-MIM", "mim-of-means": "MIM of means", "mim": "MIM of draws"}
    order = [("a-mim", 0), ("a-mim", 500), ("mim-of-means", 500), ("mim-of-means", 0),
             ("mim", 0), ("mim", 500)]  # fmt: skip
    lines = []
    for objective, count in order:
        components = f"components={count}"
        rows = sources.rows("symmetric-readings")
        row = one(rows, f"objective={objective}", components, "seed=0")
        cells = [f"{weights[objective]}, {PRIORS[components]}"]
        lines.append([*cells, *(noise_and_mean(row, way) for way in ways)])
    return table(["weights of", *ways.values()], lines)


def noise_and_mean(row: Row, way: str) -> str:
    """Noise of the decoder's gradient and the norm of its mean, "-" if the noise hides it."""
    noise, signal = (row[f"gradient.{way}.decoder.{part}"].mean for part in ("noise", "signal"))
    return f"{two_digits(noise)}, {two_digits(signal) if signal else '-'}"


def two_digits(value: float) -> str:
    """At least two significant digits, and no decimals from 10 on."""
    return f"{value:.{1 if value < 10 else 0}f}"


@block("image-training")
def image_training(sources: Sources) -> str:
    header = ["model, pseudo-inputs", "GFLOP, bare", "GFLOP", "threads", "float32", "share",
              "bfloat16", "share", "of the peak"]  # fmt: skip
    lines = []
    for row in chosen(sources.rows("image-training"), ["times"]):
        fast, half = "library", "library_bfloat16"
        model = {"convolutional": "conv_hvae", "pixel": "pixel_hvae"}[str(row.labels["model"])]
        first = row.labels["threads"] == 1
        title = f"`{model}`, {row.labels['components'] or 'none'}"
        flops = [mean(row[f"gflop.{name}"], 0) for name in ("bare", fast)]
        cells = [title, *flops] if first else ["", "", ""]
        cells += [f"{row.labels['threads']}", mean(row[f"bare_over.{fast}"], 2)]
        cells += [percent(row[f"share_of_convolutions_alone.{fast}"])]
        cells += [mean(row[f"bare_over.{half}"], 1)]
        cells += [percent(row[f"share_of_convolutions_alone.{half}"])]
        # Older files have the rate of torch's own matrix product as the peak.
        share = row.get(f"share_of_peak.{half}") or row[f"share_of_matrix_product.{half}"]
        lines.append([*cells, percent(share)])
    return table(header, lines)


# --- choices.md ----------------------------------------------------------------------------------


@block("reinforce-variance")
def reinforce_variance(sources: Sources) -> str:
    shown = (
        ("20 binary pixels, baseline", "20 binary pixels", "leave-one-out"),
        ("categories in x and z, baseline", "categories in x and z", "leave-one-out"),
        ("mixtures of 2 in all parts, baseline", "mixtures of 2", "leave-one-out"),
        ("the same, sum over components", "mixtures of 2", "sum"),
        ("mixtures of 10, baseline", "mixtures of 10", "leave-one-out"),
        ("the same, sum over components", "mixtures of 10", "sum"),
    )
    rows = sources.rows("reinforce-variance")
    lines = []
    for title, model, estimator in shown:
        found = [
            one(rows, model, weights, estimator)["ratio"] for weights in ("initial", "trained")
        ]
        lines.append([title, *map(to_its_error, found)])
    return table(["", "initial", "trained"], lines, left=3)


def to_its_error(found: Number) -> str:
    """A ratio to two decimals, or three if it is small; with its error if that is larger."""
    if found.error >= 0.05:
        return with_error(found, 1)
    return mean(found, 2 if found.mean >= 0.01 else 3)
