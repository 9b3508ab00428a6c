"""Entry point of the command line.

The overview imports nothing else, and commands import PyTorch only when they need it.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence

from mimachine._support.messages import OptionError, unknown
from mimachine._support.version import __version__
from mimachine.cli.interruption import EXIT_DIVERGED, EXIT_INTERRUPTED, EXIT_MISTAKE

__all__ = ["main"]

OVERVIEW = """\
usage: mimachine COMMAND [OPTIONS]

Train and evaluate Mutual Information Machines and other probabilistic auto-encoders.

Train
  train DATA         train a model and evaluate it (--resume RUN continues an interrupted run)
  compare DATA       train several objectives on the same data and compare them
  refit RUN          fit a prior to the codes of a trained model, for better samples and likelihood

Evaluate
  inspect RUN        show the settings, progress and results of a run
  evaluate RUN       evaluate a trained model again, with more importance samples
  report RUN         write an HTML report of a run or comparison
  table RUN ...      print the results of runs as a Markdown or LaTeX table
  diagnose FILE.npz  diagnose any auto-encoder from its codes and reconstructions

Use a trained model
  embed RUN          encode data
  reconstruct RUN    encode data and decode the codes
  sample RUN         sample new data

Data sets and paper
  data               list the data sets and the paths of their files
  reproduce NAME     reproduce a figure of the paper and compare with its numbers

DATA is a .csv, .tsv, .npy, .npz or .parquet file, a folder of images, or one of:
digits, mixture-2d, mixture-20d, mnist, fashion-mnist, omniglot, omniglot-small, pca-fashion-mnist,
pca-fashion-mnist-published. The first three are built in. The files of the others are searched for
in --data-dir, the MIMACHINE_DATA directory, /usr/share/datasets and the cache, and otherwise
downloaded. RUN is a run directory, created by train, compare or refit.

Common options:
  -h, --help         show the options of a command; after DATA, with the defaults for DATA
  --data-dir DIR     directory to search first for the files of data sets
  --debug            show the traceback of an error
  --version          show the version

Examples:
  mimachine compare digits
  mimachine train measurements.csv --labels species
  mimachine train digits --objective mim --model.latent 20 --out digits-run
  mimachine train fashion-mnist --model.architecture conv-hvae --model.prior vampprior
  mimachine sample digits-run

Errors print one line and exit with code 2. Other exit codes: 0 success, 3 training diverged,
130 and 143 interrupted by Ctrl-C or SIGTERM."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, as listed in `OVERVIEW`.

    Args:
        argv: Arguments after the program's name; None takes those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _print_in_any_encoding()
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with _data_dir(arguments):
            _dispatch(arguments)
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_MISTAKE
    except BrokenPipeError:
        # The reader, such as `head`, closed the pipe.
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


# What terminals and pipes that are not UTF-8 show in place of characters that they lack.
_ASCII = {
    "±": "+-",
    "†": "(!)",
    "–": "-",
    "—": "-",
    "…": "...",
    "²": "^2",
    "³": "^3",
    "½": "1/2",
    "×": "x",
    "·": "*",
    "‖": "||",
    "√": "sqrt",
    "∞": "inf",
    "β": "beta",
    "ε": "eps",
    "θ": "theta",
    "λ": "lambda",
    "μ": "mu",
    "σ": "sigma",
    "Σ": "sum",
}


def _print_in_any_encoding() -> None:
    """Let standard output and error replace characters that their encoding lacks."""

    def replaced(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        lacking = error.object[error.start : error.end]
        return "".join(_ASCII.get(character, "?") for character in lacking), error.end

    codecs.register_error("mimachine", replaced)
    for stream in (sys.stdout, sys.stderr):
        # Other streams, such as those of a notebook or a test, take any character.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mimachine")


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is out-of-memory: on a CPU, PyTorch raises a plain RuntimeError."""
    return isinstance(error, MemoryError) or "memory" in str(error)


@contextlib.contextmanager
def _data_dir(arguments: list[str]) -> Iterator[None]:
    """Remove --data-dir DIR from the arguments and set MIMACHINE_DATA to it for this command."""
    if not any(argument.partition("=")[0] == "--data-dir" for argument in arguments):
        yield
        return
    from mimachine.data.downloads import VARIABLE

    before = os.environ.get(VARIABLE)
    for index, argument in enumerate(arguments):
        name, has_value, value = argument.partition("=")
        if name != "--data-dir":
            continue
        if not has_value:
            value = arguments[index + 1] if index + 1 < len(arguments) else ""
        if not os.path.isdir(value):
            raise ValueError(f"--data-dir must be a directory, got {value!r}")
        del arguments[index : index + (1 if has_value else 2)]
        os.environ[VARIABLE] = value
        break
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def _dispatch(arguments: list[str]) -> None:
    """Run the command that the first argument names."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(OVERVIEW)
        if not arguments:
            raise SystemExit(EXIT_MISTAKE)
    elif arguments[0] == "--version":
        print(f"mimachine {__version__}")
    else:
        from mimachine.cli.commands import COMMANDS

        if arguments[0] in COMMANDS:
            COMMANDS[arguments[0]](arguments[1:])
            return
        raise ValueError(unknown("command", arguments[0], COMMANDS))
