import math

import pytest

import mimachine as mm


def report(**values):
    metrics = []
    for name, (value, error, flagged) in values.items():
        notes = ("half of it is guessed",) if flagged else ("as it should be",)
        metrics.append(mm.Metric(name, value, "nats", "...", "sample", error, notes, flagged))
    return mm.Report(tuple(metrics), "healthy", "")


REPORTS = {
    "mim_&_co": report(rate=(1.5, 0.01, False), novelty=(math.inf, None, False)),
    "vae": report(rate=(2.25, 0.5, True), negative_elbo=(80.0, None, False)),
}


def test_a_markdown_table_has_a_row_for_each_metric_and_a_cell_for_each_report():
    assert mm.markdown_table(REPORTS).splitlines() == [
        "| | mim_&_co | vae |",
        "|---|---:|---:|",
        "| Rate, nats | 1.500 ± 0.010 | 2.25 ± 0.50 † |",
        "| novelty, nats | not finite |  |",
        "| Negative ELBO, nats |  | 80 |",
        "",
        "† Rate, vae: half of it is guessed.",
    ]


def test_a_latex_table_is_the_same_with_everything_escaped():
    lines = mm.latex_table(REPORTS, ["negative_elbo", "rate"]).splitlines()
    assert lines == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & mim\_\&\_co & vae \\",
        r"\midrule",
        r"Negative ELBO, nats &  & $80$ \\",
        r"Rate, nats & $1.500 \pm 0.010$ & $2.25 \pm 0.50^\dagger$ \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\footnotesize $\dagger$ Rate, vae: half of it is guessed.",
    ]


@pytest.mark.parametrize("write", [mm.markdown_table, mm.latex_table])
def test_unknown_metrics_and_no_reports_are_errors(write):
    with pytest.raises(ValueError, match=r"metric must be one of .*got 'rates'; did you mean 'rat"):
        write(REPORTS, ["rates"])
    with pytest.raises(ValueError, match="reports must have one report or more, got none"):
        write({})


def test_a_number_that_is_not_finite_keeps_its_mark():
    reports = {"vae": report(rate=(math.inf, None, True))}
    assert "| Rate, nats | not finite † |" in mm.markdown_table(reports).splitlines()
    assert r"Rate, nats & not finite$^\dagger$ \\" in mm.latex_table(reports).splitlines()


def test_special_characters_in_names_are_escaped():
    reports = {"a|b < c": REPORTS["vae"]}
    assert mm.markdown_table(reports).splitlines()[0] == r"| | a\|b < c |"
    assert r" & a\textbar{}b \textless{} c \\" in mm.latex_table(reports).splitlines()
