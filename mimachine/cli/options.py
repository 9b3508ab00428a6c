"""Options: what each command takes, as frozen values whose documentation is the command's help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mimachine.data.files.options import File
from mimachine.experiment.settings import Model
from mimachine.training.recipe import Training

__all__ = [
    "Compare",
    "Data",
    "Diagnose",
    "Embed",
    "Evaluate",
    "Inspect",
    "Reconstruct",
    "Refit",
    "Report",
    "Reproduce",
    "Resume",
    "Sample",
    "Table",
    "Train",
]


DataName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
FileOptions = Annotated[File, tyro.conf.arg(name="")]
Split = Literal["train", "val", "test", "all"]


@dataclass(frozen=True)
class Train:
    """Train one model, keep its best weights, and measure it on the test split.

    Attributes:
        data: Data set, see mimachine data; or a .csv, .tsv, .npy, .npz or .parquet file, or a
            folder of images.
        file: How to read a file or a folder.
        objective: mim, a-mim, a-mim-one-sample, mim-of-means, vae, vae+h, mim-h, ce or
            auto-encoder; where P(x) is known also mim-h-true and symmetric-kl. By default mim for
            the mixtures and for the PCA of Fashion-MNIST, and a-mim else, which needs no samples
            of the decoder.
        preset: Settings to start from: the library's; published, those that the paper's figures
            and, with a model.architecture for images, its table 1 were made with; or paper, the
            recipe for table 1 of the paper's text.
        model: Encoder, decoder and prior.
        training: Training recipe.
        num_samples: Importance samples for the likelihood of each test datum.
        out: Run directory; by default a new one under runs/.
        checkpoint_seconds: Least time between two writes of the state that --resume RUN goes on
            from.
        report: Write report.html when done.
        json: Print the report as JSON.
    """

    data: DataName
    file: FileOptions = File()
    objective: str | None = None
    preset: Literal["default", "published", "paper"] = "default"
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    num_samples: int = 1000
    out: Path | None = None
    checkpoint_seconds: float = 10.0
    report: bool = True
    json: bool = False


@dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run; it ends as if it had not been interrupted.

    Attributes:
        resume: Run directory.
        checkpoint_seconds: Least time between two writes of the state.
        report: Write report.html when done.
        json: Print the report as JSON.
    """

    resume: Path
    checkpoint_seconds: float = 10.0
    report: bool = True
    json: bool = False


@dataclass(frozen=True)
class Compare:
    """Train several objectives with the same architecture and data; compare them side by side.

    Attributes:
        data: Data set, see mimachine data; or a file or a folder of images, as for train.
        file: How to read a file or a folder.
        objectives: One or more of mim, a-mim, a-mim-one-sample, mim-of-means, vae, vae+h, mim-h,
            ce, auto-encoder; where P(x) is known also mim-h-true and symmetric-kl. By default the
            one that train would take, and vae.
        preset: Settings to start from: the library's; published, those that the paper's figures
            and, with a model.architecture for images, its table 1 were made with; or paper, the
            recipe for table 1 of the paper's text.
        model: Encoder, decoder and prior.
        training: Training recipe.
        num_samples: Importance samples for the likelihood of each test datum.
        out: Directory for the runs and the pictures; by default a new one under runs/.
        report: Write report.html when done.
        json: Print the comparison as JSON.
    """

    data: DataName
    file: FileOptions = File()
    objectives: tuple[str, ...] = ()
    preset: Literal["default", "published", "paper"] = "default"
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    num_samples: int = 1000
    out: Path | None = None
    report: bool = True
    json: bool = False


@dataclass(frozen=True)
class Report:
    """Write report.html, one file with pictures, numbers in plain words and settings.

    Attributes:
        run: Run directory, or a directory that compare made.
        embedding: How the codes are brought to two dimensions for their picture.
        json: Print where it is as JSON.
    """

    run: RunPath
    embedding: Literal["pca", "tsne"] = "pca"
    json: bool = False


@dataclass(frozen=True)
class Reproduce:
    """Carry out an experiment of the paper: figures, all numbers, and ours beside the paper's.

    What was done before in the same directory is not done again, and what was broken off goes on.

    Attributes:
        name: figure1, figure2, figure3, figure7, figure8, figure9, figure10, figure11, mixture-20d,
            or schedules, which tells what of the figures' recipe makes a difference; or table1,
            with figures 4, 5 and 12 to 21, for the data that are there, or table1-mnist,
            table1-fashion-mnist or table1-omniglot for one of them. Table 1 needs a GPU.
        preset: The settings that the figures were made with, or the library's own.
        seeds: Models of each kind; by default 10, 3 for data of 20 dimensions, and 1 for table1.
        quick: Fewer models and epochs, for a look in under two minutes.
        jobs: Processes; by default one for each core, or one if there is a GPU.
        out: Directory.
        json: Print where the results are, and all numbers, as JSON.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    preset: Literal["published", "default"] = "published"
    seeds: int | None = None
    quick: bool = False
    jobs: int | None = None
    out: Path = Path("reproduction")
    json: bool = False

    def __post_init__(self) -> None:
        for name in ("seeds", "jobs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")


@dataclass(frozen=True)
class Data:
    """List the data sets and where their files were found; nothing is downloaded.

    Attributes:
        json: Print the list as JSON.
    """

    json: bool = False


@dataclass(frozen=True)
class Inspect:
    """Tell what a run directory holds, without loading torch.

    Attributes:
        run: Run directory.
        json: Print everything as JSON.
    """

    run: RunPath
    json: bool = False


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained model on the test split and write report.json anew.

    Attributes:
        run: Run directory.
        num_samples: Importance samples for the likelihood of each test datum.
        seconds: Time that it may take. Where the likelihood of all test data would take longer,
            some have so many samples and the others few; its error and a note say so.
        json: Print the report as JSON.
    """

    run: RunPath
    num_samples: int = 5000
    seconds: float = 600.0
    json: bool = False


@dataclass(frozen=True)
class Table:
    """Print numbers of measured runs as rows for a text, a column for each run.

    Attributes:
        runs: Run directories, and directories that compare made.
        format: Markdown, or LaTeX with the rules of its package booktabs.
        metrics: Names of metrics, as report.json has them; by default all.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    format: Literal["markdown", "latex"] = "markdown"
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnose:
    """Judge an auto-encoder of any make by arrays of data, codes and reconstructions.

    Arrays have a row for each datum, in the same order. x and z_mean must be there; what else is
    not there is not measured.

    Attributes:
        file: The .npz file, as numpy.savez writes it.
        x: Name of the array of data; by default x, and so on.
        z_mean: Name of the means of q(z|x), or of the codes of an auto-encoder without noise.
        z_std: Name of the standard deviations of q(z|x), one for each code, one for each
            dimension, or a number; 0 for an auto-encoder without noise.
        x_reconstructed: Name of what the means are decoded to, in the units of x.
        labels: Name of the classes, numbers or text.
        seed: Seed of the rows that long measurements are made on, and of the noise of codes.
        json: Print the diagnosis as JSON.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    x: str | None = None
    z_mean: str | None = None
    z_std: str | None = None
    x_reconstructed: str | None = None
    labels: str | None = None
    seed: int = 0
    json: bool = False


@dataclass(frozen=True)
class Refit:
    """Fit a prior to the codes of a trained model; encoder and decoder stay as they are.

    The result is a new run, which sample, evaluate, embed, reconstruct and report take.

    Attributes:
        run: Run directory; nothing in it is changed.
        kind: gmm, a mixture of normals with full covariances; vamp, a VampPrior, for encoders that
            are not nearly deterministic; or flow, which needs zuko, pip install mimachine[flow].
        components: Components of the mixture, by default chosen by held-out codes; pseudo-inputs
            of the VampPrior, by default 100, or as many as there are training data.
        seed: Seed of the fit.
        num_samples: Importance samples for the likelihood of each test datum.
        out: Run directory of the result; by default a new one under runs/.
        report: Write report.html when done.
        json: Print what was measured before and after as JSON.
    """

    run: RunPath
    kind: Literal["gmm", "vamp", "flow"] = "gmm"
    components: int | None = None
    seed: int = 0
    num_samples: int = 1000
    out: Path | None = None
    report: bool = True
    json: bool = False

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be 1 or more, got {self.num_samples}")


@dataclass(frozen=True)
class Embed:
    """Write the codes of data to a file: mean and std of q(z|x), and labels if there are.

    Attributes:
        run: Run directory.
        data: Data set, file or folder; by default the one the model was trained on.
        split: Which rows to encode; by default all of a file, in its order, and the test split of
            a named data set.
        out: The file, .npz or .csv; by default RUN/codes.npz.
        json: Print where it is as JSON.
    """

    run: RunPath
    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")] = None
    split: Split | None = None
    out: Path | None = None
    json: bool = False


@dataclass(frozen=True)
class Reconstruct:
    """Encode data and decode them again, in the units of the data.

    An .npz file gets x, the decoder's mean, a sample of p(x|z), and z; a .csv file the mean. The
    decoder of pixel-hvae has no mean in closed form: it is left out, and a .csv file and the
    picture get the sample.

    Attributes:
        run: Run directory.
        data: Data set, file or folder; by default the one the model was trained on.
        split: Which rows to reconstruct; by default as for embed.
        seed: Seed of the samples of p(x|z).
        out: The file, .npz or .csv; by default RUN/reconstructions.npz.
        json: Print where it is as JSON.
    """

    run: RunPath
    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")] = None
    split: Split | None = None
    seed: int = 0
    out: Path | None = None
    json: bool = False


@dataclass(frozen=True)
class Sample:
    """Draw new data from the model, in the units of its data.

    An .npz file gets samples of p(x|z), the decoder's means, and z; a .csv file the samples. The
    picture shows the means. The decoder of pixel-hvae has none in closed form: they are left out,
    and the picture shows the samples.

    Attributes:
        run: Run directory.
        num: How many.
        seed: Seed of the draws.
        out: The file, .npz or .csv; by default RUN/samples.npz.
        json: Print where it is as JSON.
    """

    run: RunPath
    num: int = 64
    seed: int = 0
    out: Path | None = None
    json: bool = False
