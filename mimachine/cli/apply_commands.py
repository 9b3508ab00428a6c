"""Commands that apply a trained model: embed, reconstruct, sample, score and impute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mimachine._support.messages import Option, OptionError
from mimachine.cli.apply_options import Embed, Impute, Reconstruct, Sample, Score
from mimachine.cli.output import print_imputation, print_line, write_arrays, write_rows
from mimachine.cli.parsing import parse
from mimachine.workflow.destinations import is_of_table
from mimachine.workflow.export_results import ARRAYS, TABLES

if TYPE_CHECKING:
    from mimachine.data.dataset import Dataset
    from mimachine.data.files.load import Encodable
    from mimachine.workflow.apply_run import Drawn
    from mimachine.workflow.destinations import Destination
    from mimachine.workflow.load_run import Trained

__all__ = ["embed", "impute", "reconstruct", "sample", "score"]


def embed(arguments: list[str]) -> None:
    """Encode data and write the codes."""
    command = parse(Embed, arguments)
    destination = _destination(command, "codes.npz")
    from mimachine.estimation.codes.moments import codes
    from mimachine.workflow.export_results import Columns

    trained, chosen = _open_and_select(command)
    encoded = codes(trained.model, chosen.rows)
    mean, std = encoded.mean.numpy(), encoded.std.numpy()
    arrays = {"mean": mean, "std": std}
    latents = range(1, mean.shape[1] + 1)
    table = Columns((*(f"z{i}" for i in latents), *(f"std{i}" for i in latents)), (mean, std))
    if chosen.labels is not None:
        arrays["labels"] = chosen.labels
        table = Columns((*table.names, "label"), (*table.parts, chosen.labels[:, None]))
    write_arrays(command, destination, arrays, table)


def reconstruct(arguments: list[str]) -> None:
    """Encode data, decode the codes and write the result."""
    command = parse(Reconstruct, arguments)
    if is_of_table(command.run):
        destination = _destination(command, "reconstructions.csv", suffixes=TABLES)
        from mimachine.workflow.tables.apply_table import reconstructed_table

        trained, chosen = _open_and_select(command)
        write_rows(command, destination, reconstructed_table(trained, chosen.rows[:]))
        return
    destination = _destination(command, "reconstructions.npz", pictured=True)
    from mimachine import workflow
    from mimachine.workflow.export_results import restored

    trained, chosen = _open_and_select(command)
    data = trained.data
    drawn = workflow.reconstruct(trained.model, chosen.rows, command.seed)
    arrays = {"x": _originals(data, chosen), **_original_units(data, drawn)}
    picture = None
    if data.image_shape is not None:
        from mimachine.reporting import figures

        name = trained.experiment.objective
        shown = chosen.rows[:12]
        picture = figures.image_reconstructions({name: trained.model}, data, images=shown)
    table = restored(data, arrays["sample" if drawn.mean is None else "mean"])
    write_arrays(command, destination, arrays, table, picture)


def sample(arguments: list[str]) -> None:
    """Draw new data and write them."""
    command = parse(Sample, arguments)
    if is_of_table(command.run):
        _sample_table(command)
        return
    for name in ("given", "complete"):
        if getattr(command, name):
            raise OptionError(Option(name), f" is for runs on tables, and {command.run} is not one")
    destination = _destination(command, "samples.npz", pictured=True)
    from mimachine import workflow
    from mimachine.workflow.export_results import restored
    from mimachine.workflow.tables.apply_table import prior_of

    trained = workflow.open_model(command.run)
    data = trained.data
    drawn = workflow.sample(prior_of(trained, command.prior), command.num, command.seed)
    picture = None
    if data.image_shape is not None:
        from mimachine.reporting import figures

        shown = {trained.experiment.objective: drawn.shown[:64]}
        picture = figures.image_samples(shown, data)
    arrays = _original_units(data, drawn)
    write_arrays(command, destination, arrays, restored(data, arrays["sample"]), picture)


def _sample_table(command: Sample) -> None:
    from mimachine import workflow
    from mimachine.workflow.tables.apply_table import sample_table

    destination = _destination(command, "samples.csv", suffixes=TABLES)
    drawn = sample_table(
        workflow.open_model(command.run),
        command.num,
        prior=command.prior,
        given=command.given,
        complete=command.complete,
        seed=command.seed,
    )
    write_rows(command, destination, drawn.table, drawn.notes)


def score(arguments: list[str]) -> None:
    """Score rows and write the scores."""
    command = parse(Score, arguments)
    from mimachine.workflow.tables.score_rows import score_rows

    destination = _destination(command, "scores.csv", suffixes=TABLES)
    trained, chosen = _open_and_select(command)
    found = score_rows(trained, chosen.rows, num_samples=command.num_samples, seed=command.seed)
    write_rows(command, destination, found.table, found.notes)


def impute(arguments: list[str]) -> None:
    """Fill in the missing values of a table and write it."""
    command = parse(Impute, arguments)
    if not is_of_table(command.run):
        raise ValueError(f"impute is for runs on tables, and {command.run} is not one")
    from mimachine.workflow.export_results import write_table
    from mimachine.workflow.tables.apply_table import fill_table

    destination = _destination(command, "imputed.csv", suffixes=TABLES)
    file = destination.file
    entries = file.with_name(f"{file.stem}-entries{file.suffix}")
    destination.outputs.check(entries)
    trained, chosen = _open_and_select(command)
    found = fill_table(
        trained,
        chosen.rows[:],
        chosen.table,
        cells=None if chosen.cells is None or file.suffix != ".csv" else chosen.cells(),
        draws=command.draws,
        level=command.level,
        seed=command.seed,
        refit=command.refit,
    )
    write_table(entries, found.entries, destination.outputs)
    write_rows(command, destination, found.table, found.notes, {"entries": str(entries)})
    if not command.json:
        print_imputation(found.held_out, trained.data.columns or (), len(found.entries), entries)


def _open_and_select(command: Embed | Reconstruct | Score | Impute) -> tuple[Trained, Encodable]:
    """Open a run and select the data to apply it to."""
    from mimachine import workflow

    # With other data the training data are not needed; their file may no longer exist.
    compares = isinstance(command, Score | Impute)
    if compares or command.data is None or command.split or command.training_data:
        trained = workflow.open_run(command.run, command.training_data)
    else:
        trained = workflow.open_model(command.run)
    chosen = workflow.select(trained, command.data, command.split)
    for note in chosen.notes:
        print_line(note, errors=True)
    return trained, chosen


def _destination(
    command: Embed | Reconstruct | Sample | Score | Impute,
    name: str,
    pictured: bool = False,
    suffixes: tuple[str, str] = ARRAYS,
) -> Destination:
    """Where a command writes its results, checked before the run is loaded."""
    from mimachine.workflow.destinations import destination

    return destination(
        command.run,
        name,
        command.out,
        data=None if isinstance(command, Sample) else command.data,
        moved=None if isinstance(command, Sample) else command.training_data,
        pictured=pictured,
        force=command.force,
        suffixes=suffixes,
    )


def _originals(data: Dataset, chosen: Encodable) -> Any:
    """What is reconstructed, as its file has it; it may have other decimals than the training data.

    Rows that are in no file are those of a data set.
    """
    if chosen.values is None or data.preprocessing is None:
        return data.restore(chosen.rows[:], drawn=True)
    return data.preprocessing.in_file_type(chosen.values)


def _original_units(data: Dataset, drawn: Drawn) -> dict[str, Any]:
    """Arrays of what was drawn, in the units of the data; no mean if it has no closed form."""
    arrays: dict[str, Any] = {} if drawn.mean is None else {"mean": data.restore(drawn.mean)}
    return {**arrays, "sample": data.restore(drawn.x, drawn=True), "z": drawn.z.numpy()}
