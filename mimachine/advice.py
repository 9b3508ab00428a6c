"""Advice: what to make of a outcome, and what to try next."""

from __future__ import annotations

import shlex

from mimachine import commands
from mimachine.outcomes import Outcome, kept_epoch

__all__ = ["advice"]


def advice(outcome: Outcome) -> list[str]:
    """What the verdict means and what to try, a sentence or two each."""
    run, settings = outcome.trained.run, outcome.trained.experiment
    sentences = [outcome.report.advice]
    if not run.finished:
        sentences.append(
            "The run was interrupted; all here is of its best weights so far. "
            f"Go on with: mimachine train --resume {commands.quoted(run.path)}"
        )
    elif (
        len(outcome.records) == settings.training.epochs
        and kept_epoch(outcome.records) is outcome.records[-1]
    ):
        sentences.append(
            "The last epoch was the best: the model was still learning when training ended. "
            f"Try more epochs, such as --training.epochs {4 * settings.training.epochs}."
        )
    if any("may be loose" in note for metric in outcome.report.metrics for note in metric.notes):
        sentences.append(
            "For some of the data the likelihood rests on few importance samples, and may be "
            "better than its number. Measure it with more, as told under Commands; if it then "
            "changes much, the encoder is a poor guide to the posterior."
        )
    if len(sentences) == 1 and outcome.report.verdict == "healthy":
        sentences.append(
            "Nothing needs mending. To see whether another objective does better on these data: "
            f"mimachine compare {shlex.quote(settings.data.name)}"
        )
    return sentences
