"""Command-line options: one frozen dataclass per command; its docstring is the command's help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mimachine._support.checks import whole
from mimachine.cli.option_types import (
    DataName,
    FileOptions,
    Log,
    MovedData,
    NewDirectory,
    Preset,
    RunPath,
    optional,
)
from mimachine.data.files.options import File
from mimachine.experiment.settings import Model
from mimachine.training.recipe import Training

__all__ = [
    "Compare",
    "Data",
    "Diagnose",
    "Evaluate",
    "Inspect",
    "Refit",
    "Report",
    "Reproduce",
    "Resume",
    "ResumeComparison",
    "Table",
    "Train",
]


@dataclass(frozen=True)
class Train:
    """Train a model, restore its best weights and evaluate it on the test split.

    Most defaults depend on DATA. To see them for a data set or file, name it before --help:
    mimachine train digits --help.

    Settings, weights and results are written to a run directory. To continue an interrupted run,
    use mimachine train --resume RUN, or repeat the command with --out RUN.

    Attributes:
        data: Name of a data set (listed by mimachine data), a .csv, .tsv, .npy, .npz or .parquet
            file, a folder of parquet files, or a folder of images.
        file: How to read a file or folder.
        objective: Training objective: mim, a-mim, a-mim-one-sample, mim-of-means, vae, vae+h,
            mim-h, ce, or a baseline: rae, auto-encoder, beta-vae, vae-vampprior or pca; for data
            with known P(x) also mim-h-true or symmetric-kl.
        preset: Settings to start from; other options override them. "default": the library's.
            "fast": a faster recipe for dense-vae and hvae. "published": those of the paper's
            figures and, with an image architecture, of its table 1, from the authors' released
            code. "paper": the recipe in the paper's text for the image models of table 1.
        model: Encoder, decoder and prior.
        training: Optimisation, early stopping and hardware options.
        num_samples: Importance samples per test example for the likelihood. If the estimates of
            200 random examples show that no number would be enough, the others get 10.
        out: Run directory to create.
        checkpoint_seconds: Minimum time in seconds between two checkpoints, from which --resume
            continues.
        log: tensorboard: write losses and learning rates to RUN/tensorboard while training; needs
            tensorboard, pip install mimachine[log].
        report: Write report.html at the end.
        json: Print the results as JSON; progress messages go to standard error.
    """

    data: DataName
    file: FileOptions = File()
    objective: Annotated[
        str | None,
        optional("NAME", "mim for mixture-* and pca-fashion-mnist*, otherwise a-mim"),
    ] = None
    preset: Preset = "default"
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    num_samples: int = 1000
    out: NewDirectory = None
    checkpoint_seconds: float = 10.0
    log: Log = None
    report: bool = True
    json: bool = False


@dataclass(frozen=True)
class Resume:
    """Resume an interrupted training run from its last checkpoint.

    On a CPU the results are the same as without the interruption.

    Attributes:
        resume: Run directory.
        branch: Directory of a copy to train instead, whose learning rate decays from now on, for a
            run with the schedule warmup-stable-decay. The run itself can go on, also meanwhile.
        data: File or folder that the run was trained on, if it moved.
        checkpoint_seconds: Minimum time in seconds between two checkpoints.
        log: As for train. A run with a log goes on with it.
        report: Write report.html at the end.
        json: Print the results as JSON; progress messages go to standard error.
    """

    resume: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    branch: Annotated[Path | None, optional("DIR", "resume the run itself")] = None
    data: MovedData = None
    checkpoint_seconds: float = 10.0
    log: Log = None
    report: bool = True
    json: bool = False


@dataclass(frozen=True)
class ResumeComparison:
    """Resume an interrupted comparison: finished runs are kept, the others are trained.

    On a CPU the results are the same as without the interruption.

    Attributes:
        resume: Directory of the comparison.
        data: File or folder that its runs are trained on, if it moved.
        report: Write report.html at the end.
        json: Print the comparison as JSON; progress messages go to standard error.
    """

    resume: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    data: MovedData = None
    report: bool = True
    json: bool = False


@dataclass(frozen=True)
class Compare:
    """Train several objectives on the same data with the same architecture, and compare them.

    Most defaults depend on DATA. To see them for a data set or file, name it before --help:
    mimachine compare digits --help.

    To continue an interrupted comparison, use mimachine compare --resume DIR, or repeat the command
    with --out DIR.

    Attributes:
        data: Name of a data set (listed by mimachine data), a .csv, .tsv, .npy, .npz or .parquet
            file, a folder of parquet files, or a folder of images.
        file: How to read a file or folder.
        objectives: Objectives to compare, separated by spaces: mim, a-mim, a-mim-one-sample,
            mim-of-means, vae, vae+h, mim-h, ce, or a baseline; for data with known P(x) also
            mim-h-true or symmetric-kl.
        baselines: Add the baselines: rae, a noisy auto-encoder with an L2 penalty on its codes;
            auto-encoder; beta-vae with β = 0.01; vae-vampprior, a VAE with a VampPrior; and pca,
            probabilistic principal components. Tables of columns have no vae-vampprior and no pca.
        preset: Settings to start from; other options override them. "default": the library's.
            "fast": a faster recipe for dense-vae and hvae. "published": those of the paper's
            figures and, with an image architecture, of its table 1, from the authors' released
            code. "paper": the recipe in the paper's text for the image models of table 1.
        model: Encoder, decoder and prior.
        training: Optimisation with Adam, early stopping and hardware options.
        num_samples: Importance samples per test example for the likelihood. If the estimates of
            200 random examples show that no number would be enough, the others get 10.
        out: Directory to create for the runs and figures.
        report: Write report.html at the end.
        json: Print the comparison as JSON; progress messages go to standard error.
    """

    data: DataName
    file: FileOptions = File()
    objectives: Annotated[
        tuple[str, ...], optional("NAME [NAME ...]", "the default objective of train, and vae")
    ] = ()
    baselines: bool = True
    preset: Preset = "default"
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    num_samples: int = 1000
    out: NewDirectory = None
    report: bool = True
    json: bool = False


@dataclass(frozen=True)
class Report:
    """Write report.html: one file with the figures, results and settings of a run or comparison.

    Attributes:
        run: Run directory, or directory of a comparison.
        data: File or folder that the run was trained on, if it moved.
        embedding: Projection of the codes to two dimensions: principal components or t-SNE.
        force: Overwrite a report.html that mimachine did not write, or that has changed since.
        json: Print the path of the file as JSON.
    """

    run: RunPath
    data: MovedData = None
    embedding: Literal["pca", "tsne"] = "pca"
    force: bool = False
    json: bool = False


@dataclass(frozen=True)
class Reproduce:
    """Reproduce an experiment of the paper and compare the results with the paper's.

    Writes the figures, results.json with all numbers, and table.md with the comparison. Repeat the
    command to resume it: finished models in the same directory are not trained again.

    Attributes:
        name: figure1, figure2, figure3, figure7, figure8, figure9, figure10 or figure11;
            mixture-20d; entropy, whether low joint entropy causes the information; schedules, which
            parts of the figures' training recipe make a difference;
            table1, which includes figures 4, 5 and 12 to 21, for the data sets whose files are
            found; or table1-mnist, table1-fashion-mnist or table1-omniglot. Table 1 needs a GPU.
        preset: "published": settings of the paper's figures. "default": the library's settings.
        seeds: Number of models of each kind, each with its own seed.
        quick: Train fewer and smaller models; takes two minutes, and table1 three.
        jobs: Number of parallel processes.
        out: Directory for runs and results.
        json: Print the results as JSON; progress messages go to standard error.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    preset: Literal["published", "default"] = "published"
    seeds: Annotated[
        int | None, optional("INT", "10; 3 for data of 20 dimensions; 1 for table1")
    ] = None
    quick: bool = False
    jobs: Annotated[int | None, optional("INT", "the number of cores; 1 with a GPU")] = None
    out: Path = Path("reproduction")
    json: bool = False

    def __post_init__(self) -> None:
        for name in ("seeds", "jobs"):
            value = getattr(self, name)
            if value is not None:
                whole(name, value, 1)


@dataclass(frozen=True)
class Data:
    """List the data sets and the paths of their files. Nothing is downloaded.

    Attributes:
        json: Print the list as JSON.
    """

    json: bool = False


@dataclass(frozen=True)
class Inspect:
    """Show the settings, progress and results of a run.

    Reads the files of the run directory without loading the model or PyTorch.

    Attributes:
        run: Run directory.
        json: Print everything as JSON.
    """

    run: RunPath
    json: bool = False


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a trained model on the test split and overwrite report.json.

    Attributes:
        run: Run directory.
        data: File or folder that the run was trained on, if it moved.
        num_samples: Importance samples per test example for the likelihood. If the estimates of
            200 random examples show that no number would be enough, the others get 10.
        seconds: Time limit in seconds. If the likelihood of all test examples would take longer,
            only some of them get all importance samples and the others get few; the standard error
            accounts for this, and a note reports it.
        json: Print the results as JSON.
    """

    run: RunPath
    data: MovedData = None
    num_samples: int = 5000
    seconds: float = 600.0
    json: bool = False


@dataclass(frozen=True)
class Table:
    """Print the results of evaluated runs as a table: one row per metric, one column per run.

    Attributes:
        runs: Run directories and directories of comparisons.
        format: Markdown, or LaTeX with the booktabs package.
        metrics: Names of the metrics to print, as in report.json.
    """

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    format: Literal["markdown", "latex"] = "markdown"
    metrics: Annotated[tuple[str, ...], optional("NAME [NAME ...]", "all metrics")] = ()


@dataclass(frozen=True)
class Diagnose:
    """Diagnose any auto-encoder from its codes and reconstructions.

    The auto-encoder may come from any framework. FILE is an .npz file of arrays whose rows belong
    to the same examples in the same order. The arrays x and z_mean are required; measurements that
    need a missing array are skipped.

    Attributes:
        file: .npz file, as written by numpy.savez.
        x: Name in FILE of the examples.
        z_mean: Name of the means of q(z|x), or of the codes of a deterministic auto-encoder.
        z_std: Name of the standard deviations of q(z|x): an array like z_mean, one value per
            latent dimension, or one number; 0 for a deterministic auto-encoder.
        x_reconstructed: Name of the decoded z_mean, in the units of x.
        labels: Name of the classes, as numbers or text.
        seed: Seed of the subsets of rows in long measurements, and of the noise of codes.
        json: Print the diagnosis as JSON.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    x: Annotated[str | None, optional("NAME", "x")] = None
    z_mean: Annotated[str | None, optional("NAME", "z_mean")] = None
    z_std: Annotated[str | None, optional("NAME", "z_std, if present")] = None
    x_reconstructed: Annotated[str | None, optional("NAME", "x_reconstructed, if present")] = None
    labels: Annotated[str | None, optional("NAME", "labels, if present")] = None
    seed: int = 0
    json: bool = False


@dataclass(frozen=True)
class Refit:
    """Fit a prior to the codes of a trained model. Encoder and decoder do not change.

    The result is a new run directory for sample, evaluate, embed, reconstruct and report. To
    continue an interrupted refit, repeat the command with --out DIR.

    Attributes:
        run: Run directory. Its files do not change.
        data: File or folder that the run was trained on, if it moved.
        kind: gmm: mixture of Gaussians with full covariances. vamp: VampPrior, for encoders that
            are not nearly deterministic. flow: normalising flow; needs zuko, pip install
            mimachine[flow].
        components: Number of mixture components or of pseudo-inputs of the VampPrior.
        seed: Seed of the fit.
        num_samples: Importance samples per test example for the likelihood. If the estimates of
            200 random examples show that no number would be enough, the others get 10.
        out: Run directory to create.
        report: Write report.html at the end.
        json: Print the results before and after as JSON; progress messages go to standard error.
    """

    run: RunPath
    data: MovedData = None
    kind: Literal["gmm", "vamp", "flow"] = "gmm"
    components: Annotated[
        int | None,
        optional("INT", "gmm: chosen on held-out codes; vamp: 100, at most one per training row"),
    ] = None
    seed: int = 0
    num_samples: int = 1000
    out: NewDirectory = None
    report: bool = True
    json: bool = False

    def __post_init__(self) -> None:
        whole("num_samples", self.num_samples, 1)
