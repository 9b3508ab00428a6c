"""Options of the commands that apply a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mimachine._support.checks import whole
from mimachine.cli.option_types import (
    MovedTrainingData,
    OptionalDataName,
    RunPath,
    SplitName,
    optional,
)

__all__ = ["Embed", "Impute", "Reconstruct", "Sample", "Score"]


@dataclass(frozen=True)
class Embed:
    """Encode data: write means and standard deviations of q(z|x), and labels if available.

    Attributes:
        run: Run directory.
        data: Name of a data set, a file or a folder.
        split: Rows to encode. A file or folder keeps its order with "all".
        training_data: File or folder that the run was trained on, if it moved.
        out: Output file, .npz or .csv.
        force: Overwrite files that mimachine did not write. The data, the labels and the files of
            the run are never overwritten.
        json: Print the path and shapes as JSON.
    """

    run: RunPath
    data: OptionalDataName = None
    split: SplitName = None
    training_data: MovedTrainingData = None
    out: Annotated[str | None, optional("FILE", "RUN/codes.npz")] = None
    force: bool = False
    json: bool = False


@dataclass(frozen=True)
class Reconstruct:
    """Encode data and decode the codes, in the units of the data.

    An .npz file contains x as in the data, the mean of p(x|z), a sample of p(x|z), and z; a .csv
    file contains the mean. Samples, and the mean in a .csv file, are rounded to the decimals,
    integers and booleans of the training data. The decoder of pixel-hvae has no closed-form
    mean: an .npz file then has none, and a .csv file and the figure show the sample.

    Attributes:
        run: Run directory.
        data: Name of a data set, a file or a folder.
        split: Rows to reconstruct. A file or folder keeps its order with "all".
        training_data: File or folder that the run was trained on, if it moved.
        seed: Seed of the samples of p(x|z).
        out: Output file, .npz or .csv.
        force: Overwrite files that mimachine did not write. The data, the labels and the files of
            the run are never overwritten.
        json: Print the paths and shapes as JSON.
    """

    run: RunPath
    data: OptionalDataName = None
    split: SplitName = None
    training_data: MovedTrainingData = None
    seed: int = 0
    out: Annotated[
        str | None,
        optional("FILE", "RUN/reconstructions.npz, for a table RUN/reconstructions.csv"),
    ] = None
    force: bool = False
    json: bool = False


@dataclass(frozen=True)
class Sample:
    """Sample new data from the model, in the units of the data.

    An .npz file contains samples of p(x|z), the means of p(x|z), and z; a .csv file contains the
    samples. The figure shows the means. The decoder of pixel-hvae has no closed-form mean: an .npz
    file then has none, and the figure shows the samples. Rows of a table have its columns and
    types, and are written as .csv or .parquet.

    Attributes:
        run: Run directory.
        num: Number of samples.
        prior: "fitted": latents from the mixture of normals that was fitted to the codes after
            training, if the run has one. "model": latents from the model's own prior.
        given: Values that all rows of a table have, such as city=Lyon. Rows are then complete.
        complete: Rows of a table without holes. By default values are missing as often as in the
            training table.
        seed: Seed of the samples.
        out: Output file, .npz or .csv.
        force: Overwrite files that mimachine did not write. The data, the labels and the files of
            the run are never overwritten.
        json: Print the paths and shapes as JSON.
    """

    run: RunPath
    num: int = 64
    prior: Literal["fitted", "model"] = "fitted"
    given: Annotated[tuple[str, ...], optional("COLUMN=VALUE [...]", "none")] = ()
    complete: bool = False
    seed: int = 0
    out: Annotated[str | None, optional("FILE", "RUN/samples.npz, for a table RUN/samples.csv")] = (
        None
    )
    force: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        whole("num", self.num, 1)


@dataclass(frozen=True)
class Score:
    """Score rows: how likely each is, how unusual its code, and which columns are unusual.

    Writes a row for each, in the order of the data. For tables anomaly, how unusual the row is in
    all columns together, with its percentile among training rows; log_likelihood in nats, of the
    original values, with its standard error and whether it is flagged as unreliable; code, the
    negative log-density of its code, with its percentile; and for tables the columns whose values
    are unusual, and the log-probability of each given the code.

    Attributes:
        run: Run directory.
        data: Name of a data set, a file or a folder.
        split: Rows to score. A file or folder keeps its order with "all".
        training_data: File or folder that the run was trained on, if it moved.
        num_samples: Importance samples per row for the log-likelihood; 0 leaves it out.
        seed: Seed of the samples.
        out: Output file, .csv or .parquet.
        force: Overwrite files that mimachine did not write. The data, the labels and the files of
            the run are never overwritten.
        json: Print the path and the number of rows as JSON.
    """

    run: RunPath
    data: OptionalDataName = None
    split: SplitName = None
    training_data: MovedTrainingData = None
    num_samples: Annotated[int | None, optional("INT", "1000, fewer for over 10,000 rows")] = None
    seed: int = 0
    out: Annotated[str | None, optional("FILE", "RUN/scores.csv")] = None
    force: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        if self.num_samples is not None:
            whole("num_samples", self.num_samples, 0)


@dataclass(frozen=True)
class Impute:
    """Fill in the missing values of a table, with intervals and probabilities.

    Writes the table with all its columns; values that are there do not change. Beside it
    FILE-entries has a row for each value that was filled in: the ends of its interval for numbers,
    the probability of the level for categories, the effective number of draws, and whether it is
    unreliable. How well it works is measured on known values of the test rows, and printed. What is
    fitted for this the first time is kept in the run.

    Attributes:
        run: Run directory of a model of a table.
        data: The table to fill in.
        split: Rows to fill in. A file keeps its order with "all".
        training_data: File that the run was trained on, if it moved.
        draws: Number of codes drawn for each row.
        level: Probability of the intervals.
        seed: Seed of the draws.
        refit: Fit anew what is kept in the run.
        out: Output file, .csv or .parquet.
        force: Overwrite files that mimachine did not write. The data, the labels and the files of
            the run are never overwritten.
        json: Print the results as JSON.
    """

    run: RunPath
    data: OptionalDataName = None
    split: SplitName = None
    training_data: MovedTrainingData = None
    draws: int = 1000
    level: float = 0.9
    seed: int = 0
    refit: bool = False
    out: Annotated[str | None, optional("FILE", "RUN/imputed.csv")] = None
    force: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        whole("draws", self.draws, 1)
