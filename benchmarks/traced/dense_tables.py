"""Table of dense models beside table 1, for a page that comes with the rows.

Every block is on a page. Once the rows of `benchmarks/dense_table.py` are measured, `dense_table`
becomes the block "dense-table" of that page, and this module joins `all_tables`.
"""

from __future__ import annotations

from traced.cells import table, with_se
from traced.rows import chosen
from traced.sources import Sources

# Metrics: title and digits after the decimal point.
_SHOWN = {
    "nll": ("NLL", 1),
    "fitted_nll": ("NLL, fitted prior", 1),
    "knn_5_sampled": ("5-NN, samples", 3),
    "knn_5_mean": ("5-NN, means", 3),
    "reconstruction_rmse": ("RMSE", 3),
    "generated_energy_distance": ("energy distance", 4),
    "fitted_energy_distance": ("energy distance, fitted prior", 4),
}
_PRIORS = {"standard-normal": "N(0, I)", "vampprior": "VampPrior"}
_OBJECTIVES = {
    "vae": "VAE",
    "a-mim": "A-MIM",
    "mim-of-means": "MIM, means",
    "mim": "MIM, draws",
    "rae": "RAE",
}


def dense_table(sources: Sources) -> str:
    """Means over the seeds with their standard errors, and the number of seeds."""
    rows = sources.rows("dense-table")
    lines = []
    for data in dict.fromkeys(str(row.labels["data"]) for row in rows):
        for prior, anchor in _PRIORS.items():
            for objective, title in _OBJECTIVES.items():
                at = [f"data={data}", f"prior={prior}", f"objective={objective}"]
                for row in chosen(rows, at):
                    seeds = str(len(row["nll"].values)) if row.get("nll") else "0"
                    found = [(row.get(name), digits) for name, (_, digits) in _SHOWN.items()]
                    cells = ["-" if each is None else with_se(each, d) for each, d in found]
                    lines.append([data, anchor, title, seeds, *cells])
    titles = [title for title, _ in _SHOWN.values()]
    return table(["data", "prior", "objective", "seeds", *titles], lines, left=3)
