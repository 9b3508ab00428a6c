"""Declarations of metrics: what is known about one before it is measured, and their families."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = [
    "CLASSES",
    "CODES",
    "KEPT",
    "LIKELIHOOD",
    "PRIOR",
    "Better",
    "Declaration",
    "Latent",
    "linear_probe",
    "nearest_neighbours",
    "of_the_data",
]

Better = Literal["lower", "higher", ""]
Latent = Literal["mean", "sample"]


class Declaration(NamedTuple):
    """What is known about a metric before it is measured.

    Attributes:
        name: Name in reports and tables.
        question: The question that it answers; metrics of one question are shown together.
        title: Name for people.
        unit: Unit; "" for a plain number. A measurement may give another one, such as "std of x".
        better: Which way is better; "" if neither is.
        latent: Whether it uses the mean of q(z|x) or a sample.
        definition: How it is computed; `{fields}` are filled in by the measurement.
        meaning: What it says, for readers of a report.
    """

    name: str
    question: str
    title: str
    unit: str
    better: Better
    latent: Latent
    definition: str
    meaning: str


LIKELIHOOD = "How well the model explains the data"
KEPT = "What the codes keep"
CODES = "Shape of the codes"
PRIOR = "Whether new data can be drawn from the prior"
CLASSES = "Whether the codes keep the classes apart"


def nearest_neighbours(k: int, noisy: bool = False) -> Declaration:
    """The accuracy of k nearest neighbours, of mean codes or of noisy ones."""
    return Declaration(
        f"knn_{k}_accuracy" + ("_sampled" if noisy else ""),
        CLASSES,
        f"{k}-nearest-neighbour accuracy" + (", noisy codes" if noisy else ""),
        "",
        "higher",
        "sample" if noisy else "mean",
        f"{{protocol}} {k}-nearest-neighbour accuracy of {{points}}",
        "Share of rows whose class the nearest codes predict"
        + (", with the encoder's noise." if noisy else "."),
    )


def linear_probe(noisy: bool = False) -> Declaration:
    """The accuracy of a linear probe, of mean codes or of noisy ones."""
    return Declaration(
        "linear_probe_accuracy" + ("_sampled" if noisy else ""),
        CLASSES,
        "Linear probe accuracy" + (", noisy codes" if noisy else ""),
        "",
        "higher",
        "sample" if noisy else "mean",
        "accuracy of a logistic regression on {points}; {protocol}, its penalty chosen on a fifth "
        "of the training rows",
        "Share of new rows whose class a linear classifier predicts"
        + (", with the encoder's noise." if noisy else "."),
    )


def of_the_data(accuracy: Declaration) -> Declaration:
    """An accuracy of codes, measured on the data themselves."""
    return accuracy._replace(
        name=f"{accuracy.name}_of_x",
        title=f"{accuracy.title} of the data",
        better="",
        meaning="The same accuracy from the data themselves, for comparison.",
    )
