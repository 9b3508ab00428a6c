"""Tables with models that are not trained, as input of a report."""

import numpy as np
import polars as pl
import torch
from torch import nn

from mimachine.data.dataset import Dataset
from mimachine.data.tables.infer import infer
from mimachine.data.tables.model_columns import model_columns
from mimachine.data.tables.read import read_frame
from mimachine.data.tables.rows import encode
from mimachine.evaluation.metric import Report
from mimachine.experiment.settings import Data, Experiment, Model
from mimachine.model.conditionals import Gaussian
from mimachine.model.joint import Joint
from mimachine.model.priors import StandardNormal
from mimachine.model.table_networks import TableDecoder, TableFeatures
from mimachine.reporting.measured_run import Outcome
from mimachine.training.recipe import Training
from mimachine.training.run import Run
from mimachine.workflow.load_run import Trained

EPOCH = {"epoch": 1, "beta": 1.0, "learning_rate": 1e-3, "train_loss": 2.0, "val_loss": 2.0}


def data_of(columns, test=None, kinds=None):
    """A data set of a table whose columns are inferred from all rows.

    Args:
        columns: Values by name.
        test: Indices of the test rows; by default all rows.
        kinds: Kinds of columns by name, if they are not to be inferred.
    """
    frame = read_frame(pl.DataFrame(columns))
    every = np.arange(len(frame.data))
    schema, _ = infer(frame, every if test is None else np.setdiff1d(every, test), kinds)
    rows = torch.from_numpy(encode(frame, schema)[0])
    return Dataset("any", rows, rows, rows if test is None else rows[test], schema=schema)


def model_of(data, latent=2, scale=1.0):
    """A model of a table with random linear maps."""
    columns = model_columns(data.schema)
    features = TableFeatures(columns)
    encoder = nn.Linear(TableFeatures.num_features(columns), 2 * latent)
    decoder = nn.Linear(latent, TableDecoder.num_outputs(columns))
    with torch.no_grad():
        decoder.weight *= scale
    return Joint(
        Gaussian(nn.Sequential(features, encoder)),
        TableDecoder(columns, decoder),
        StandardNormal(latent),
    ).eval()


def outcome_of(data, path, name="a-mim", model=None, metrics=(), verdict="healthy"):
    """An outcome as of a run that is not trained."""
    settings = Experiment(Data("digits"), Model(latent=2), "a-mim", Training(epochs=3, warmup=0))
    model = model_of(data) if model is None else model
    trained = Trained(Run(path), settings, data, model)
    records = [EPOCH, {**EPOCH, "epoch": 2, "train_loss": 1.0, "val_loss": 1.0}]
    records.append({**EPOCH, "epoch": 3, "train_loss": 0.9, "val_loss": 1.5})
    return Outcome(name, trained, Report(metrics, verdict, ""), records, {})
