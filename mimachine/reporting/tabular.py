"""Markdown and LaTeX tables of reports, one column per model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mimachine._support.checks import instance
from mimachine._support.messages import unknown
from mimachine.evaluation.glossary import declaration
from mimachine.evaluation.metric import Metric, Report

__all__ = ["latex_table", "markdown_table"]

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # In LaTeX's default encoding these print as dashes and inverted punctuation.
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def markdown_table(reports: Mapping[str, Report], metrics: Sequence[str] = ()) -> str:
    """Markdown table with one row per metric and one column per report.

    Values are rounded as in reports, with standard errors. Flagged values are marked with † and
    explained below the table.

    Args:
        reports: Reports by column name.
        metrics: Names of the metrics to show, in this order; by default all metrics of all reports.

    Raises:
        ValueError: If there are no reports, or no report has one of the metrics.

    Example:
        >>> nll = mm.Metric("negative_log_likelihood", 84.4, "nats", "...", "sample", 0.6)
        >>> print(mm.markdown_table({"VAE": mm.Report((nll,), "healthy", "")}))
        | | VAE |
        |---|---:|
        | Negative log-likelihood, nats | 84.40 ± 0.60 |
    """
    rows, notes = _rows(reports, metrics, lambda metric: metric.marked)
    lines = [
        f"| | {' | '.join(map(_escaped_markdown, reports))} |",
        "|---|" + "---:|" * len(reports),
        *(f"| {_escaped_markdown(row.title)} | {' | '.join(row.cells)} |" for row in rows),
    ]
    return "\n".join(lines + [f"\n† {note}" for note in notes])


def latex_table(reports: Mapping[str, Report], metrics: Sequence[str] = ()) -> str:
    r"""LaTeX table (`tabular` with booktabs rules) with one row per metric.

    Args:
        reports: As for `markdown_table`.
        metrics: As for `markdown_table`.

    Raises:
        ValueError: As for `markdown_table`.

    Example:
        >>> nll = mm.Metric("negative_log_likelihood", 84.4, "nats", "...", "sample", 0.6)
        >>> print(mm.latex_table({"VAE": mm.Report((nll,), "healthy", "")}))
        \begin{tabular}{lr}
        \toprule
         & VAE \\
        \midrule
        Negative log-likelihood, nats & $84.40 \pm 0.60$ \\
        \bottomrule
        \end{tabular}
    """
    rows, notes = _rows(reports, metrics, _latex_number)
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(reports)}}}",
        r"\toprule",
        rf" & {' & '.join(map(_escaped_latex, reports))} \\",
        r"\midrule",
        *(rf"{_escaped_latex(row.title)} & {' & '.join(row.cells)} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize $\dagger$ {_escaped_latex(note)}" for note in notes),
    ]
    return "\n".join(lines)


class _Row(NamedTuple):
    title: str
    cells: list[str]


def _rows(
    reports: Mapping[str, Report], names: Sequence[str], written: Callable[[Metric], str]
) -> tuple[list[_Row], list[str]]:
    """Rows of a table, and notes on the flagged values."""
    instance("reports", reports, Mapping, "a mapping of column names to reports")
    for column, report in reports.items():
        instance(f"reports[{column!r}]", report, Report, "a Report")
    instance("metrics", names, Sequence, "a list of names")
    if not reports:
        raise ValueError("reports must have one report or more, got none")
    known = list(dict.fromkeys(m.name for report in reports.values() for m in report.metrics))
    for name in names:
        if name not in known:
            raise ValueError(unknown("metric", name, known))
    rows, notes = [], []
    for name in names or known:
        found = {column: r[name] for column, r in reports.items() if r.has(name)}
        first = next(iter(found.values()))
        title = ", ".join(filter(None, [declaration(first).title, first.unit]))
        cells = [written(found[column]) if column in found else "" for column in reports]
        rows.append(_Row(title, cells))
        for column, metric in found.items():
            if metric.flagged:
                notes.append(f"{declaration(metric).title}, {column}: {'; '.join(metric.notes)}.")
    return rows, notes


def _latex_number(metric: Metric) -> str:
    dagger = r"^\dagger" if metric.flagged else ""
    if not math.isfinite(metric.value):
        return "not finite" + (f"${dagger}$" if dagger else "")
    number = str(metric).replace("±", r"\pm")
    return f"${number}{dagger}$"


def _escaped_markdown(text: str) -> str:
    return text.replace("|", r"\|")


def _escaped_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
