"""Models of this library, with its defaults for tables: A-MIM, and others of the same networks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import torch

import mimachine as mm
from mimachine.data.dataset import Dataset
from mimachine.data.tables.infer import infer
from mimachine.data.tables.read import read_frame
from mimachine.data.tables.rows import decode, encode
from mimachine.data.tables.schema import Stepped
from mimachine.estimation.tables.proposal import recipe
from mimachine.estimation.tables.scores import score
from mimachine.experiment.build import build
from mimachine.experiment.presets import named
from mimachine.experiment.settings import Data, Experiment, Model
from mimachine.workflow import objective, sources
from tables.columns import Floats, is_number, to_floats
from tables.measures import Bools, Imputed

_FLOOR, _MOST_LATENTS, _DRAWS, _SAMPLES, _REFERENCES = 0.2, 10, 1000, 500, 3000


class Mim:
    """A model of the library; `name` is that of an objective or of a baseline of `compare`."""

    name = "a-mim"

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        self.seed, self.effort, self.proposal = seed, effort, None

    def fit(self, train: pl.DataFrame) -> None:
        frame = read_frame(train)
        order = np.random.default_rng(self.seed).permutation(len(train))
        val, fitted = order[: len(train) // 10], order[len(train) // 10 :]
        self.schema, _ = infer(frame, np.sort(fitted))
        rows = torch.from_numpy(encode(frame, self.schema)[0])
        self.data = Dataset("table", rows[fitted], rows[val], rows[val], schema=self.schema)
        training = replace(mm.Training.for_rows(len(fitted)), seed=self.seed)
        epochs = max(2, round(self.effort * training.epochs))
        latent = min(_MOST_LATENTS, len(self.schema.modelled))
        settings = Experiment(
            Data("table.csv"),
            Model(latent, encoder_floor=_FLOOR),
            training=replace(training, epochs=epochs, warmup=min(epochs // 4, 10)),
        )
        settings = named(settings, self.name)
        if settings.model.encoder_std is not None:
            settings = replace(settings, model=replace(settings.model, encoder_std=_FLOOR))
        model = build(settings, self.data)
        loss = mm.Loss(model, objective(settings.objective))
        batches = sources(settings, self.data)
        mm.fit(loss, *batches, settings.training, progress=False)
        self.model = mm.refit_prior(model.eval(), *batches, progress=False).eval()

    def sample(self, count: int) -> pl.DataFrame:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(self.seed)
            z = self.model.prior().sample((count,))
            rows = torch.cat([self.model.decoder(part).sample() for part in z.split(1000)])
        return decode(rows.numpy(), self.schema)

    def score(self, rows: pl.DataFrame) -> Floats:
        some = self.data.train[:_REFERENCES]
        found, usual = (
            score(self.model, x, num_samples=0, seed=self.seed) for x in (self._encoded(rows), some)
        )
        return found.anomaly(usual).double().numpy()

    def impute(self, rows: pl.DataFrame, hidden: Bools) -> Imputed:
        x = self._encoded(rows)
        places = [rows.columns.index(column.name) for column in self.schema.modelled]
        x[torch.from_numpy(hidden[:, places])] = torch.inf
        found = mm.impute(
            self.model,
            x,
            proposal=self._proposal(),
            draws=max(50, round(self.effort * _DRAWS)),
            seed=self.seed,
        )
        tables = []
        for entries in (None, found.lower, found.upper):
            filled = found.rows.clone()
            if entries is not None:
                grids = ~entries.isnan()
                filled[found.row[grids], found.column[grids]] = entries[grids].to(filled.dtype)
            tables.append(decode(filled.numpy(), self.schema))
        complete, *ends = tables
        numbers = [n for n in rows.columns if n in complete.columns and is_number(self._like(n))]
        low, high = ({n: to_floats(end[n]) for n in numbers} for end in ends)
        left = [name for name in rows.columns if name not in complete.columns]
        return Imputed(complete.with_columns(rows[name] for name in left), low, high)

    def bits(self, rows: pl.DataFrame, steps: dict[str, float]) -> Floats:
        x = self._encoded(rows)
        found = mm.log_likelihood(
            self.model,
            x,
            max(50, round(self.effort * _SAMPLES)),
            proposal=self._proposal(),
            seed=self.seed,
        )
        bits = -found.values.double().numpy() / math.log(2)
        # Bins of another width than those that are compared.
        zeros = np.zeros((2, len(self.schema.modelled)), dtype=np.float32)
        zeros[1] = 1
        values = decode(zeros, self.schema)
        for place, column in enumerate(self.schema.modelled):
            if isinstance(column, Stepped) and column.name in steps:
                width = float(np.diff(to_floats(values[column.name]))[0])
                bits += np.log2(width / steps[column.name]) * x[:, place].isfinite().numpy()
        return bits

    def _like(self, name: str) -> pl.Series:
        return decode(self.data.train.numpy(), self.schema)[name]

    def _encoded(self, rows: pl.DataFrame) -> torch.Tensor:
        return torch.from_numpy(encode(read_frame(rows), self.schema)[0])

    def _proposal(self) -> torch.nn.Module:
        if self.proposal is None:
            usual = recipe(len(self.data.train), self.seed)
            self.proposal = mm.fit_proposal(
                self.model,
                self.data.train,
                self.data.val,
                training=replace(usual, epochs=max(1, round(self.effort * usual.epochs))),
                progress=False,
            )
        return self.proposal


class Vae(Mim):
    """A VAE of the same networks."""

    name = "vae"


class NoisyAutoEncoder(Mim):
    """A regularised auto-encoder of the same networks: constant noise and an L2 penalty."""

    name = "rae"
