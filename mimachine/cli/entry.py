"""Entry point of the command line.

The overview imports nothing else, and commands import PyTorch only when they need it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence

from mimachine._support.messages import OptionError, unknown
from mimachine._support.streams import printing
from mimachine._support.version import __version__
from mimachine.cli.interruption import (
    EXIT_DIVERGED,
    EXIT_MISTAKE,
    exit_code,
    signals_interrupt,
)

__all__ = ["main"]

# Objects that are made before Python searches the newest for garbage; its default is 700 to 2,000.
_NEW_OBJECTS = 10_000

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
129, 130 and 143 interrupted by a closed terminal, Ctrl-C or SIGTERM."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, as listed in `OVERVIEW`.

    Args:
        argv: Arguments after the program's name; None takes those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    with printing() as output:
        code = _exit_code(arguments, debug)
        output.flush()
        if output.error is not None:
            _print_error(f"standard output cannot be written: {output.error.strerror}")
            return code or EXIT_MISTAKE
        return code


def _exit_code(arguments: list[str], debug: bool) -> int:
    """Run a command, report its error, and return its exit code."""
    try:
        with signals_interrupt(), _rare_collections(), _data_dir(arguments):
            _dispatch(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_MISTAKE
    except (ValueError, OSError, ImportError) as error:
        # An import fails where an extra is not installed.
        _print_error(error.with_flags if isinstance(error, OptionError) else str(error), debug)
        return EXIT_MISTAKE
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _print_error(
            "out of memory; try a smaller model.hidden, model.channels, model.latent or "
            f"training.batch_size, or fewer samples ({error})",
            debug,
        )
        return EXIT_MISTAKE
    except FloatingPointError as error:
        print(f"mimachine: training diverged: {error}", file=sys.stderr)
        return EXIT_DIVERGED
    except KeyboardInterrupt as interruption:
        print("mimachine: interrupted", file=sys.stderr)
        return exit_code(interruption)
    return 0


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Search for cyclic garbage less often for the time of a command.

    Modules that are being imported have none, and the searches through all of their objects took a
    tenth of the time of short commands.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _NEW_OBJECTS) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _print_error(message: str, debug: bool = False) -> None:
    """Print an error in one line, after the traceback of the current exception if requested."""
    if debug:
        traceback.print_exc()
    # Not `split`, which would also remove control characters, which are to be seen.
    line = re.sub("[ \t\n]+", " ", message).strip()
    print(f"mimachine: error: {line}", file=sys.stderr)


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
