"""Command line: `mimachine COMMAND ...`. Torch is imported only once a command is to be run."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from mimachine._support.messages import OptionError, unknown
from mimachine._support.version import __version__
from mimachine.cli.commands import COMMANDS
from mimachine.cli.interruption import EXIT_DIVERGED, EXIT_INTERRUPTED, EXIT_MISTAKE

__all__ = [
    "main",
]


OVERVIEW = """\
usage: mimachine COMMAND ...

Train auto-encoders whose codes keep what the data say, and measure them.

  train DATA         train one model and measure it (--resume RUN goes on after an interruption)
  compare DATA       train several objectives on the same data, compare numbers and pictures
  inspect RUN        what a run holds, at once
  evaluate RUN       measure a trained model again, with more samples
  refit RUN          fit a prior to a model's codes: better samples and likelihood, the same codes
  report RUN         one HTML file with pictures, numbers and settings
  table RUN ...      numbers of runs as Markdown or LaTeX
  embed RUN          codes of the data
  reconstruct RUN    data, encoded and decoded again
  sample RUN         new data from the model
  diagnose FILE.npz  the health of anybody's auto-encoder, from its codes and reconstructions
  data               the data sets and where their files are
  reproduce NAME     a figure of the paper again, beside the paper's numbers

DATA is a file of your own (.csv, .tsv, .npy, .npz, .parquet), a folder of images, or one of:
digits, mixture-2d, mixture-20d, mnist, fashion-mnist, omniglot, omniglot-small, pca-fashion-mnist,
pca-fashion-mnist-published. All but the first three have files, which are looked for in
--data-dir DIR, in the folder that MIMACHINE_DATA names, in /usr/share/datasets and in the cache,
and downloaded else. RUN is a directory that train or
refit made.

  mimachine compare digits
  mimachine train measurements.csv --labels species
  mimachine train digits --objective mim --model.latent 20 --out digits-run
  mimachine train fashion-mnist --model.architecture conv-hvae --model.prior vampprior
  mimachine sample digits-run

`mimachine COMMAND --help` tells the options of a command, with their defaults for DATA.
A mistake is one line and exit code 2; --debug shows where it came from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, or 2 after a user's mistake, 3 if training diverged."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with _data_dir(arguments):
            _dispatch(arguments)
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_MISTAKE
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError) as error:
        # An import fails where an extra is not installed.
        if debug:
            raise
        message = error.with_flags if isinstance(error, OptionError) else str(error)
        print(f"mimachine: error: {' '.join(message.split())}", file=sys.stderr)
        return EXIT_MISTAKE
    except (MemoryError, RuntimeError) as error:
        if debug or not _is_out_of_memory(error):
            raise
        print(
            "mimachine: error: out of memory; try a smaller model.hidden, model.channels, "
            f"model.latent or training.batch_size ({' '.join(str(error).split())})",
            file=sys.stderr,
        )
        return EXIT_MISTAKE
    except FloatingPointError as error:
        print(f"mimachine: training diverged: {error}", file=sys.stderr)
        return EXIT_DIVERGED
    except KeyboardInterrupt:
        print("mimachine: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short: torch says so by a plain RuntimeError on a processor."""
    return isinstance(error, MemoryError) or "memory" in str(error)


@contextlib.contextmanager
def _data_dir(arguments: list[str]) -> Iterator[None]:
    """Take --data-dir DIR from the arguments; it is MIMACHINE_DATA for this command."""
    from mimachine.data.downloads import VARIABLE

    before = os.environ.get(VARIABLE)
    for place, argument in enumerate(arguments):
        name, has_value, value = argument.partition("=")
        if name != "--data-dir":
            continue
        if not has_value:
            value = arguments[place + 1] if place + 1 < len(arguments) else ""
        if not os.path.isdir(value):
            raise ValueError(f"--data-dir must be a directory, got {value!r}")
        del arguments[place : place + (1 if has_value else 2)]
        os.environ[VARIABLE] = value
        break
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(OVERVIEW)
        if not arguments:
            raise SystemExit(EXIT_MISTAKE)
    elif arguments[0] == "--version":
        print(f"mimachine {__version__}")
    elif arguments[0] in COMMANDS:
        COMMANDS[arguments[0]](arguments[1:])
    else:
        raise ValueError(unknown("command", arguments[0], COMMANDS))
