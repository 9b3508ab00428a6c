"""Readers of the files under results/, each by a short name, as rows of labels and numbers."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import digamma

from mimachine.data import bundled
from mimachine.paper.line.claims import apart
from mimachine.paper.low_dimensional import PAPER_PANELS
from mimachine.paper.reference import Reading, insets, readings
from traced.rows import Label, Number, Row, Vector, chosen, estimates

__all__ = ["ROOT", "Sources"]

ROOT = Path(__file__).parents[2]
# Figures of the paper that a sweep is compared with, by the names of the sweep and its protocol.
PAPER = {
    ("figure2", ""): "figure2_2d_mixture",
    ("figure8", ""): "figure8_entropy_variants",
    ("mixture-20d", ""): "readme_20d_mixture",
    ("figure3", "published protocol"): "figure3_pca_fashion_mnist",
}
# Files in which a record is one seed: labels of the rows, over which the seeds are collected.
BY_SEED = {
    "convolutions": ("data", "architecture"),
    "refit_prior": ("data", "objective", "floor", "prior"),
    "sceptic": ("data", "model"),
}
# Files in which a list of numbers has a value for each seed.
SEEDED = {"defaults"}
# Files in which a list of two numbers is a value and its error.
PAIRS = {"information_bounds"}
# Commands of likelihood_calibration.txt, by their options.
CALIBRATIONS = {
    "encoder defensive refitted": "main",
    "annealed": "main",
    "defensive --factors 5 20 50": "unmatched",
    "encoder --factors 1.1 1.2 1.3 1.5": "slightly",
}


class Sources:
    """The results of a checkout, each file read once.

    Args:
        root: Directory that contains results/ and docs/.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self._read = functools.cache(self._rows)

    def rows(self, name: str) -> list[Row]:
        """Rows of a source.

        Raises:
            LookupError: If there is no file of that name.
        """
        return self._read(name)

    def text(self, name: str) -> str:
        """The text of a file under results/."""
        return (self.root / "results" / name).read_text(encoding="utf-8")

    def _rows(self, name: str) -> list[Row]:
        if name == "exact":
            return exact()
        if name == "arithmetic":
            return arithmetic(self.rows("image-training"))
        if name == "mathematics":
            return examples((self.root / "docs" / "mathematics.md").read_text(encoding="utf-8"))
        if name in TEXTS:
            return TEXTS[name](self.text(f"{name}.txt"))
        if name == "insets":
            return inset_rows(self.text(f"{self._reproduced('figure1')}/table.md"))
        if (self.root / "results" / f"{name}.jsonl").exists():
            lines = self.text(f"{name}.jsonl").splitlines()
            return json_rows(name, [json.loads(line) for line in lines])
        if (self.root / "results" / f"{name}.json").exists():
            return json_rows(name, json.loads(self.text(f"{name}.json")))
        results = json.loads(self.text(f"{self._reproduced(name)}/results.json"))
        return line_rows(results) if "kinds" in results else sweep_rows(name, results)

    def _reproduced(self, name: str) -> str:
        """Folder of an experiment, whose name may end with a number of seeds."""
        folder = self.root / "results" / "reproduction"
        fits = re.compile(rf"{re.escape(name)}(-\d+-seeds)?")
        found = [each.name for each in folder.glob("*") if fits.fullmatch(each.name)]
        if len(found) != 1:
            raise LookupError(f"results/ has {len(found)} files or folders for {name!r}: {found}")
        return f"reproduction/{found[0]}"


# --- reproductions -------------------------------------------------------------------------------


def sweep_rows(name: str, results: Mapping[str, Any]) -> list[Row]:
    """Rows of `cells`: labels `curve` and `x`, for figure 3 also `protocol`."""
    parts = {"": results} if "cells" in results else results
    rows = []
    for protocol, part in parts.items():
        if not isinstance(part, dict) or "cells" not in part:
            continue
        figure = PAPER.get((name, protocol))
        paper = readings(figure) if figure else {}
        for cell in part["cells"]:
            labels = {"curve": cell["curve"], "x": float(cell["x"]), "protocol": protocol}
            values = {**cell["metrics"], **{key: cell[key] for key in ("epochs", "best_epochs")}}
            numbers = {metric: _of_seeds(each) for metric, each in values.items()}
            for panel in PAPER_PANELS:
                point = paper.get(panel.reference or "", {}).get((cell["curve"], cell["x"]))
                if point is not None and panel.metric in numbers:
                    numbers |= _beside(panel.metric, numbers[panel.metric], point)
            rows.append(Row(labels, numbers))
    return rows


def _of_seeds(values: Iterable[float | None]) -> Number:
    return Number(tuple(math.nan if value is None else value for value in values))


def _beside(metric: str, ours: Number, paper: Reading) -> dict[str, Number]:
    """The paper's number, and its distance from ours in standard errors of the difference.

    If a marker hides the paper's error bar, "apart" is the least that the distance can be, and
    "apart_read" is missing.
    """
    distance = abs(paper.difference(ours.mean, ours.sd, len(ours.finite)))
    found = {
        f"{metric}:paper": Number((paper.mean,), paper.std),
        f"{metric}:apart": Number((distance,)),
    }
    return found if paper.hidden else {**found, f"{metric}:apart_read": Number((distance,))}


def line_rows(results: Mapping[str, Any]) -> list[Row]:
    """Rows of figures 9 to 11, one of each kind of model.

    Labels are the kind, its first word and its floor: "a" for "(a) q(x), p(z) learned", "L_CE" and
    floor=0.2 for "L_CE, floor 0.2". "D.prior" and so on are distances over x and z.
    """
    rows = []
    for kind, found in results["kinds"].items():
        numbers = {f"D.{pair}": Number(tuple(apart(found["numbers"], pair)))
                   for pair in ("prior", "reconstruction", "anchors", "priors")}  # fmt: skip
        flat = [dict(_leaves(each)) for each in found["numbers"]]
        numbers |= {
            name.removeprefix("terms."): Number(tuple(each[name] for each in flat))
            for name in flat[0]
        }
        first = kind.partition(" ")[0].strip("(,)")
        labels: dict[str, Label] = {"kind": kind, "first": first}
        floor = re.search(r"floor ([\d.]+)", kind)
        labels |= {"floor": float(floor[1])} if floor else {}
        rows.append(Row(labels, numbers))
    return rows


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, float(value)


def inset_rows(text: str) -> list[Row]:
    """Rows of the first table of figure 1: the models drawn, measured as in the paper's panels."""
    rows = []
    for curve, width, information, distance in re.findall(
        r"^\| (.+), (\d+) units \| (\S+) \|.*?\| (\S+) \|", text, re.MULTILINE
    ):
        paper = insets()[curve, float(width)]
        ours = {"KSG": float(information), "error": float(distance)}
        numbers = {name: Number((value,)) for name, value in ours.items()}
        numbers |= {
            f"{name}:paper": Number((value,)) for name, value in zip(ours, paper, strict=True)
        }
        rows.append(Row({"curve": curve, "x": float(width)}, numbers))
    return rows


# --- other JSON ----------------------------------------------------------------------------------


def json_rows(name: str, tree: Any) -> list[Row]:
    """Rows of any JSON file: one for the whole, and one for each object in a list.

    Texts and numbers of an object are its labels and those of the objects within; the names on the
    way to a list are labels too. Numbers within nested objects have dotted names, but those of
    "metrics" only their own.
    """
    rows = list(_records(tree, {}, name))
    if name in BY_SEED:
        rows = _collected(rows, BY_SEED[name])
    return rows


def _records(tree: Any, labels: Mapping[str, Label], name: str) -> Iterator[Row]:
    if isinstance(tree, list):
        for each in tree:
            yield from _records(each, labels, name)
        return
    own = {k: v for k, v in tree.items() if isinstance(v, str | int | float)}
    labels = {**labels, **own}
    numbers: dict[str, Number] = {}
    lists: list[tuple[str, Any]] = []
    _gather(tree, "", name, numbers, lists)
    if numbers:
        yield Row(labels, numbers)
    for path, each in lists:
        places = {f"in {part}": part for part in path.split(".")}
        yield from _records(each, {**labels, **places}, name)


def _gather(
    tree: Mapping[str, Any],
    prefix: str,
    file: str,
    numbers: dict[str, Number],
    lists: list[tuple[str, Any]],
) -> None:
    """Collect the numbers of an object by dotted names, and its lists of objects."""
    for key, value in tree.items():
        name = prefix.removeprefix("metrics.") + key
        if isinstance(value, dict) and {"value", "standard_error"} <= value.keys():
            numbers[name] = Number((value["value"],), value["standard_error"])
        elif isinstance(value, dict):
            _gather(value, f"{name}.", file, numbers, lists)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lists.append((name, value))
        elif isinstance(value, list) and value and file in SEEDED:
            numbers[name] = Number(tuple(map(float, value)))
        elif isinstance(value, list) and file in PAIRS and len(value) == 2:
            numbers[name] = Number((value[0],), value[1])
        elif isinstance(value, str):
            found = estimates(value)
            numbers |= {} if found is None else {name: found}
        elif isinstance(value, int | float):
            numbers[name] = Number((float(value),))


def _collected(rows: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """Rows with the same labels `by` as one, whose numbers have a value for each seed."""
    groups: dict[tuple[Label, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.labels[name] for name in by), []).append(row)
    found = []
    for labels, group in groups.items():
        names = dict.fromkeys(name for row in group for name in row.numbers)
        numbers = {
            name: Number(tuple(v for row in group if name in row.numbers
                               for v in row.numbers[name].values))
            for name in names
        }  # fmt: skip
        found.append(Row(dict(zip(by, labels, strict=True)), numbers))
    return found


# --- texts ---------------------------------------------------------------------------------------


def consistency(text: str) -> list[Row]:
    """Rows of three Markdown tables, with the labels `loss` and what the second column says.

    "seeds" is the number of seeds, which the command says.
    """
    rows, header = [], [""]
    seeds = re.search(r"--seeds (\d+)", text)
    count = Number((float(seeds[1]),)) if seeds else Number((math.nan,))
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| loss"):
            header = cells
        elif line.startswith("| "):
            found = zip(header[2:], map(estimates, cells[2:]), strict=True)
            numbers = {name: each for name, each in found if each is not None}
            labels: dict[str, Label] = {"loss": cells[0], "by": header[1]}
            labels[header[1]] = float(cells[1])
            rows.append(Row(labels, {**numbers, "seeds": count}))
    return rows


def likelihood_calibration(text: str) -> list[Row]:
    """Rows with the labels `run` (see `CALIBRATIONS`), `proposal`, `dimensions` and `factor`."""
    names = ("off", "off_flagged", "flagged", "coverage", "inexact")
    rows, run = [], ""
    for line in text.splitlines():
        command = re.match(r"python benchmarks/likelihood_calibration.py --proposals (.*)", line)
        run = CALIBRATIONS[command[1]] if command else run
        cells = line.replace("all ", "all - ").split()
        if len(cells) >= 8 and cells[2] in ("encoder", "defensive", "refitted", "annealed"):
            values = [math.nan if cell == "-" else float(cell) for cell in cells[3:8]]
            numbers = {n: Number((value,)) for n, value in zip(names, values, strict=True)}
            labels: dict[str, Label] = {"run": run, "proposal": cells[2]}
            keys = zip(("dimensions", "factor"), cells[:2], strict=True)
            labels |= {key: float(c) if c[0].isdigit() else c for key, c in keys}
            rows.append(Row(labels, numbers))
    return rows


def reinforce_variance(text: str) -> list[Row]:
    """Rows with the labels `model`, `weights` and `estimator`.

    "ratio" is the variance relative to that without a baseline, with the error of the quotient.
    """
    rows: list[Row] = []
    for line in text.splitlines()[1:]:
        model, weights, estimator, shown, _ = re.split(r"  +", line)
        variance = estimates(shown)
        assert variance is not None
        labels = {"model": model, "weights": weights, "estimator": estimator}
        plain = variance if estimator == "score" else rows[-1]["plain"]
        ratio = variance.mean / plain.mean
        error = ratio * math.hypot(variance.error / variance.mean, plain.error / plain.mean)
        numbers = {"variance": variance, "plain": plain, "ratio": Number((ratio,), error)}
        rows.append(Row(labels, numbers))
    return rows


def diagnoses(text: str) -> list[Row]:
    """Rows with the labels `model` and `verdict`."""
    rows = []
    parts = re.split(r"^=== (.*) ===\n", text, flags=re.MULTILINE)
    for model, report in zip(parts[1::2], parts[2::2], strict=True):
        lines = re.findall(r"^  (\w+)  +(.*)$", report, re.MULTILINE)
        found = {name: estimates(value) for name, value in lines}
        numbers = {name: number for name, number in found.items() if number is not None}
        verdict = report.partition("verdict: ")[2].partition(".")[0]
        rows.append(Row({"model": model, "verdict": verdict}, numbers))
    return rows


def examples(page: str) -> list[Row]:
    """Rows with the label `eq`: the first numbers that an example prints after an equation.

    They are named by their place, from "1" on.
    """
    rows = []
    for part in page.split(r"\tag{")[1:]:
        number = part.partition("}")[0]
        printed = re.search(r"^(-?\d+\.\d+( -?\d+\.\d+)*)$", part, re.MULTILINE)
        if printed:
            values = enumerate(printed[0].split(), 1)
            numbers = {str(place): Number((float(value),)) for place, value in values}
            rows.append(Row({"eq": float(number)}, numbers))
    return rows


TEXTS: dict[str, Callable[[str], list[Row]]] = {
    "consistency": consistency,
    "likelihood_calibration": likelihood_calibration,
    "reinforce-variance": reinforce_variance,
    "diagnoses": diagnoses,
}


# --- computed numbers -----------------------------------------------------------------------------


def exact() -> list[Row]:
    """Numbers that follow from definitions, as a single row."""
    numbers = {"ksg_ceiling": float(digamma(10_000) - digamma(5)), **mixture_2d(), **mixture_20d()}
    return [Row({}, {name: Number((value,)) for name, value in numbers.items()})]


def arithmetic(rows: Sequence[Row]) -> list[Row]:
    """Arithmetic and speed to expect of the likelihood of `conv_hvae`, relative to a plain loop.

    For each 100 samples the loop encodes an image 100 times and 500 pseudo-inputs once, beside
    decoding; the library only decodes. "rate" is that of bfloat16 relative to float32.
    """
    (model,) = chosen(rows, ["steps", "convolutional", "components=0"])[:1]
    encoder, codes, prior, decoder = (
        model[f"mflop_of_an_image_forwards.{part}"].mean
        for part in ("q(z2|x)", "q(z1|x,z2)", "p(z1|z2)", "p(x|z1,z2)")
    )
    products = [
        [row[f"gflop_per_second.product, torch.{kind}"] for kind in ("bfloat16", "float32")]
        for row in chosen(rows, ["times", "threads=1"])
    ]
    rate = float(np.mean([half.mean / single.mean for half, single in products]))
    found = []
    for name, extra in (("standard normal", 0.0), ("vampprior", 5 * encoder)):
        less = (encoder + codes + prior + decoder + extra) / (prior + decoder)
        numbers = {"less": less, "rate": rate, "limit": less * rate}
        found.append(Row({"prior": name}, {k: Number((value,)) for k, value in numbers.items()}))
    return found


def mixture_2d() -> dict[str, float]:
    """Entropy of the 2-D mixture in nats, by the trapezoidal rule."""
    (means, deviation), (axis, step) = (
        _components("mixture_2d"),
        np.linspace(-4, 4, 801, retstep=True),
    )
    # Densities of each coordinate, shape (2, 801, 5), and of both, summed over the components.
    each = np.exp(-((axis[:, None] - means.T[:, None]) ** 2) / (2 * deviation**2))
    joint = each[0] @ each[1].T / (5 * 2 * np.pi * deviation**2)
    positive = joint[joint > 0]
    return {"mixture-2d.entropy": float(-(positive * np.log(positive)).sum() * step**2)}


def mixture_20d() -> dict[str, float]:
    """Entropy in nats, and distances, of the 20-D mixture, whose components do not overlap."""
    means, deviation = _components("mixture_20d")
    of_component = 20 * (math.log(deviation) + 0.5 * math.log(2 * math.pi * math.e))
    pairs = [np.linalg.norm(a - b) for a in means for b in means]
    return {
        "mixture-20d.entropy": math.log(5) + of_component,
        "mixture-20d.norm": float(np.linalg.norm(means, axis=1).mean()),
        "mixture-20d.from_mean": float(np.linalg.norm(means - means.mean(0), axis=1).mean()),
        "mixture-20d.between_rows": float(np.mean(pairs)),
    }


def _components(name: str) -> tuple[Vector, float]:
    """Means (5, D) and standard deviation of the components of a mixture."""
    components = getattr(bundled, name)(5).distribution.components
    return components.loc.double().numpy(), float(components.scale.flatten()[0])
