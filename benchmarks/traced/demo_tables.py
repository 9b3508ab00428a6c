"""Table of the README."""

from __future__ import annotations

from traced.blocks import block
from traced.cells import one, table
from traced.rows import Number
from traced.sources import Sources

_METRICS = {
    "reconstruction_rmse": "RMSE",
    "knn_5_accuracy": "5-NN, means",
    "knn_5_accuracy_sampled": "5-NN, samples",
    "negative_log_likelihood": "NLL <",
    "fitted_prior_negative_log_likelihood": "NLL, fitted prior <",
    "fitted_prior_generated_auc": "AUC",
}
_MODELS = {
    "a-mim": "A-MIM",
    "rae": "RAE",
    "auto-encoder": "auto-encoder",
    "vae": "VAE",
    "beta-vae": "β-VAE (β = 0.01)",
    "vae-vampprior": "VAE, VampPrior",
    "pca": "PCA",
}


@block("demo")
def demo(sources: Sources) -> str:
    rows = sources.rows("demo")
    lines = []
    for model, title in _MODELS.items():
        row = one(rows, "data=digits", f"model={model}")
        lines.append([title, *(_cell(row[metric]) for metric in _METRICS)])
    return table(["", *_METRICS.values()], lines)


def _cell(found: Number) -> str:
    digits = 1 if found.error >= 0.1 else 3
    return f"{found.mean:.{digits}f} ± {found.error:.{digits}f}"
