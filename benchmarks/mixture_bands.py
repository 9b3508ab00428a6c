"""The 2-D mixture of the paper's figure 2, by the published settings and by the library's own.

Trains MIM and VAE with 20 and 500 hidden units over several seeds and prints the means beside the
paper's values, read off its figure (10 seeds), and beside bands for a rerun of at least 3 seeds
that come from running the authors' released code with Algorithm 2. What the paper calls NLL is
`negative_elbo` here, and its reconstruction error `sampled_reconstruction_distance`.

    python benchmarks/mixture_bands.py --seeds 3 --out results/mixture-2d-bands.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mimachine import workflow
from mimachine.experiment import Experiment, default, published

METRICS = (
    "mutual_information_ksg",
    "negative_elbo",
    "sampled_reconstruction_distance",
    "knn_5_accuracy_sampled",
)
PAPER = {
    ("mim", 20): (6.76, 3.24, 0.006, 0.95),
    ("mim", 500): (6.81, 3.15, 0.012, 0.95),
    ("vae", 20): (0.22, 1.97, 1.07, 0.28),
    ("vae", 500): (1.43, 1.81, 0.52, 0.73),
}
BANDS = {
    ("mim", 20): ((6.4, 7.3), (2.8, 3.6), (0.0, 0.02), (0.94, 1.0)),
    ("vae", 500): ((1.3, 1.6), (1.75, 1.87), (0.47, 0.57), (0.70, 0.78)),
}


def measure(settings: Experiment) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        _, history, report = workflow.train(settings, Path(directory) / "run", progress=False)
    values = {name: report[name].value for name in (*METRICS, "negative_log_likelihood")}
    return {**values, "epochs": len(history.epochs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for preset, start in (("published", published), ("default", default)):
        for objective in ("mim", "vae"):
            for hidden in (20, 500):
                runs = []
                for seed in range(arguments.seeds):
                    settings = start("mixture-2d", objective)
                    settings = replace(
                        settings,
                        model=replace(settings.model, hidden=(hidden,)),
                        training=replace(settings.training, seed=seed),
                    )
                    runs.append(measure(settings))
                results.append(
                    {"preset": preset, "objective": objective, "hidden": hidden, "runs": runs}
                )
                report(results[-1])
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
        arguments.out.with_suffix(".md").write_text(table(results) + "\n")


def table(results: list[dict]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| settings | objective | hidden | I(x; z), KSG | -ELBO | reconstruction distance "
        "| 5-NN accuracy | NLL, 1,000 samples | epochs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        key = (result["objective"], result["hidden"])
        cells = [result["preset"], *map(str, key)]
        for metric in (*METRICS, "negative_log_likelihood", "epochs"):
            values = np.array([run[metric] for run in result["runs"]])
            digits = 0 if metric == "epochs" else 3 if metric in METRICS[2:] else 2
            cells.append(f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}")
        lines.append(f"| {' | '.join(cells)} |")
        if result["preset"] == "published":
            paper = " | ".join(map(str, PAPER[key]))
            lines.append(f"| *paper* | *{key[0]}* | *{key[1]}* | {paper} | | |")
    return "\n".join(lines)


def report(result: dict) -> None:
    key = (result["objective"], result["hidden"])
    print(f"{result['preset']:>9} {key[0]} with {key[1]} hidden units")
    for index, metric in enumerate((*METRICS, "negative_log_likelihood", "epochs")):
        values = np.array([run[metric] for run in result["runs"]])
        line = f"    {metric:<32} {values.mean():8.4f} ± {values.std(ddof=1):.4f}"
        if index < len(METRICS):
            line += f"   paper {PAPER[key][index]}"
            if result["preset"] == "published" and key in BANDS:
                low, high = BANDS[key][index]
                inside = "inside" if low <= values.mean() <= high else "OUTSIDE"
                line += f"   {inside} [{low}, {high}]"
        print(line, flush=True)


if __name__ == "__main__":
    main()
