"""A small table of customers as companies keep them, and commands on a run trained on it."""

import contextlib
import functools

import numpy as np
import polars as pl
import pytest

from mimachine.cli.entry import main
from mimachine.estimation.tables.proposal import fit_proposal
from mimachine.training.recipe import Training

QUICK = [
    *("--training.epochs", "2", "--training.warmup.epochs", "0", "--num-samples", "5"),
    *("--model.latent", "3", "--model.hidden", "16", "--no-report"),
]
REGIONS = {"Oslo": "north", "Rome": "south", "Bari": "south", "Lyon": "west"}
# Columns that are modelled, and the share of their values that are missing.
HOLES = {"income": 0.3, "channel": 0.2}
MODELLED = (*("city", "region", "joined", "seen", "member", "visits", "income", "channel", "size"),)


def customers(rows=400, seed=0):
    """Text, dates, flags, counts, holes, an identifier and a constant."""
    dice = np.random.default_rng(seed)
    city = dice.choice(list(REGIONS), rows, p=[0.4, 0.3, 0.2, 0.1])
    wealth = dice.normal(size=rows)
    days = dice.integers(0, 900, rows)
    seconds = dice.integers(0, 10**7, rows)
    table = pl.DataFrame(
        {
            "id": [f"C{k:05}" for k in dice.permutation(rows)],
            "city": city,
            "region": [REGIONS[name] for name in city.tolist()],
            "joined": np.datetime64("2020-01-01") + days,
            "seen": np.datetime64("2023-01-01T00:00:00", "ms") + 1000 * seconds,
            "member": dice.random(rows) < 0.3 + 0.4 * (city == "Oslo"),
            "visits": dice.poisson(np.exp(0.5 * wealth)),
            "income": np.round(np.exp(8 + 0.3 * wealth), 2),
            "channel": dice.choice(["web", "shop", "phone"], rows),
            "size": dice.choice(["small", "medium", "large"], rows),
            "currency": ["EUR"] * rows,
        }
    )
    holes = [
        pl.when(pl.Series(dice.random(rows) < share)).then(None).otherwise(pl.col(name)).alias(name)
        for name, share in HOLES.items()
    ]
    return table.with_columns(holes)


def run(*arguments):
    return main([*map(str, arguments)])


def train(table, out, *options):
    """Train a small model on a file of a table."""
    assert run("train", table, *QUICK, *options, "--out", out) == 0


def read(path):
    """A file of results with the types of the columns."""
    if str(path).endswith(".parquet"):
        return pl.read_parquet(path)
    return pl.read_csv(path, try_parse_dates=True, infer_schema_length=None)


@contextlib.contextmanager
def brief_proposals():
    """Let the proposal of imputation be trained for one epoch, as it takes most of the time."""
    brief = functools.partial(fit_proposal, training=Training(1, batch_size=64, warmup=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimachine.workflow.tables.proposal.fit_proposal", brief)
        yield
