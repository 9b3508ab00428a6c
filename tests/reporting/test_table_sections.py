"""Sections of reports on tables, with models that are not trained."""

import datetime
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.metrics import r2_score
from tablereports import data_of, model_of, outcome_of

from mimachine.data.tables.model_columns import model_columns
from mimachine.estimation.codes.moments import codes
from mimachine.evaluation.metric import Metric
from mimachine.model.tables.quantile_map import QuantileMap
from mimachine.reporting import html_image, sections
from mimachine.reporting.run_advice import tips
from mimachine.reporting.style import labels
from mimachine.reporting.tables import figures, units
from mimachine.reporting.tables.explained import fits
from mimachine.reporting.tables.words import percent, shown_level, shown_steps

RNG = np.random.default_rng(1)
ROWS = 120
NAMES = ["columns", "associations", "explained", "unusual", "kinds"]


@pytest.fixture(autouse=True)
def seeded_and_coarse(monkeypatch, request):
    seed = zlib.crc32(request.node.name.encode())
    RNG.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    monkeypatch.setattr(html_image, "_STORED_DPI", 20)


def numbers(rows=ROWS):
    return {"width": RNG.normal(50, 3, rows).round(2), "money": RNG.lognormal(8, 2, rows).round(2)}


def levels(rows=ROWS):
    return {
        "colour": RNG.choice(["red", "green", "blue"], rows, p=(0.6, 0.3, 0.1)),
        "open": RNG.random(rows) < 0.3,
    }


def times(rows=ROWS):
    day, time = datetime.date(2020, 2, 28), datetime.datetime(2020, 1, 1, 12)
    shifts = [int(shift) for shift in RNG.integers(0, 900, rows)]
    return {
        "day": [day + datetime.timedelta(days=shift) for shift in shifts],
        "seen": [time + datetime.timedelta(minutes=7 * shift) for shift in shifts],
        "hour": [datetime.time(shift % 24, shift % 60) for shift in shifts],
        "took": [datetime.timedelta(minutes=shift) for shift in shifts],
    }


def mixed(rows=ROWS):
    holes = RNG.random(rows) < 0.2
    count = [None if hole else int(n) for hole, n in zip(holes, RNG.poisson(3, rows), strict=True)]
    return {**numbers(rows), **levels(rows), **times(rows), "count": count}


def sections_of(*outcomes):
    found = list(sections.sections(outcomes, "pca"))
    assert all(len(picture.alt) > 40 for section in found for picture in section.pictures)
    return {section.name: section for section in found}


def texts_of(section):
    cells = [cell.text for listing in section.listings for row in listing.rows for cell in row]
    rows = [] if section.shares is None else [name for name, _ in section.shares.rows]
    captions = [text for picture in section.pictures for text in (picture.caption, picture.alt)]
    return " ".join([*section.texts, *cells, *rows, *captions])


@pytest.mark.parametrize(
    "table",
    [numbers(), levels(), times(), mixed(), {"only": RNG.normal(size=ROWS).round(1)}],
    ids=["numbers", "levels", "times", "mixed", "one"],
)
def test_tables_of_any_kinds_of_columns_have_all_sections(table, tmp_path):
    data = data_of(table)
    found = sections_of(outcome_of(data, tmp_path))
    expected = [name for name in NAMES if len(table) > 1 or name != "associations"]
    assert [name for name in found if name in NAMES] == expected
    assert len(found["columns"].pictures) == len(table)
    for name in table:
        assert any(p.caption.startswith(f"{name}:") for p in found["columns"].pictures)
        for section in ("explained", "kinds"):
            assert name in texts_of(found[section])
    assert "R²" not in texts_of(found["columns"])
    assert "nan" not in " ".join(map(texts_of, found.values()))


def test_a_column_without_values_in_the_test_rows_is_shown(tmp_path):
    test = np.arange(30)
    table = mixed()
    for name in ("width", "colour", "count"):
        table[name] = [None if k in test else v for k, v in enumerate(table[name])]
    data = data_of(table, test)
    outcome = outcome_of(data, tmp_path)
    index = data.columns.index("width")
    assert not data.test[:, index].isfinite().any()
    found = sections_of(outcome)
    assert "All test rows lack a value." in texts_of(found["columns"])
    rows = dict(found["explained"].shares.rows)
    assert {rows[name][0][0] for name in ("width", "colour", "count")} == {"unknown"}
    # What is not known comes last.
    last = [name for name, _ in found["explained"].shares.rows[-3:]]
    assert set(last) == {"width", "colour", "count"}
    tips(outcome)


def test_of_many_columns_the_first_are_shown_and_the_others_counted(tmp_path):
    table = {f"column {k}": RNG.normal(size=80).round(1) for k in range(60)}
    table["column 59"] = (table["column 58"] + 0.01).round(2)
    outcome = outcome_of(data_of(table), tmp_path)
    found = sections_of(outcome)
    assert len(found["columns"].pictures) == 12
    assert "48 more columns" in texts_of(found["columns"])
    order = np.argsort(-outcome.drift, kind="stable")
    captions = [picture.caption.partition(":")[0] for picture in found["columns"].pictures]
    assert captions == [f"column {index}" for index in order[:12]]
    assert "30 columns of 60" in texts_of(found["associations"])
    assert found["explained"].shares.left_out == 40
    assert "30 more columns are not shown" in found["unusual"].listings[0].caption
    assert len(found["kinds"].listings[0].rows) == 60


def test_shares_are_those_of_another_implementation(tmp_path):
    data = data_of(mixed())
    model = model_of(data, latent=3)
    found = fits(model, data)
    rows, names = data.test, list(data.columns)
    with torch.no_grad():
        points = model.decoder(codes(model, rows).mean).point()
    index = names.index("money")
    grid = QuantileMap([model_columns(data.schema)[index]], torch.device("cpu"))
    scores = [grid.scores_at(each[:, [index]].double())[:, 0].numpy() for each in (rows, points)]
    assert found.shares[index] == pytest.approx(r2_score(*scores), abs=1e-6)
    assert np.isnan(found.guesses[index])
    assert found.gains[index] == found.shares[index]
    index = names.index("colour")
    share = float((rows[:, index] == points[:, index]).double().mean())
    most = max(float((rows[:, index] == level).double().mean()) for level in range(3))
    assert (found.shares[index], found.guesses[index]) == (share, most)
    assert found.gains[index] == pytest.approx(1 - (1 - share) / (1 - most))


def test_the_worst_rows_have_their_values_and_marks(tmp_path):
    table = {"width": RNG.normal(50, 3, ROWS).round(2), **levels()}
    # Not in the training rows, so that it is beyond them.
    table["width"][7] = 300.0
    data = data_of(table, np.arange(20))
    data = replace(data, train=data.train[20:])
    model = model_of(data, scale=0.1)
    with torch.no_grad():
        # The code follows the number, so that a value far out has a code far out.
        model.encoder.network[1].weight.zero_()
        model.encoder.network[1].weight[:, 0] = 1
    (listing,) = sections_of(outcome_of(data, tmp_path, model=model))["unusual"].listings
    assert len(listing.rows) == 10
    first, values = listing.rows[0], dict(zip(listing.header, listing.rows[0], strict=True))
    assert first[0].text == "Row 8"
    assert (values["width"].text, values["width"].odd) == ("300", True)
    assert values["colour"].text == table["colour"][7]
    assert values["Percentile"].text == "100%"
    assert listing.header[3] == "width"
    surprise = [float(row[1].text) for row in listing.rows]
    assert surprise == sorted(surprise, reverse=True)


def test_kinds_tell_what_was_left_out_pooled_and_settled(tmp_path):
    rows = 300
    city = RNG.choice(["a", "b", "c", "d"], rows)
    region = np.where(np.isin(city, ["a", "b"]), "north", "south")
    table = {
        "id": [f"id-{k}" for k in range(rows)],
        "city": city,
        "region": region,
        "unit": ["m"] * rows,
        "plain": RNG.normal(size=rows).round(1),
    }
    metric = Metric("generated_contradictions", 0.125, "", "", "sample")
    section = sections_of(outcome_of(data_of(table), tmp_path, metrics=(metric,)))["kinds"]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in section.listings[0].rows}
    assert rows["id"][0] == "left out: identifier"
    assert rows["unit"][0] == "left out: constant"
    assert rows["region"] == ["category", rows["region"][1], "none", "city"]
    assert rows["region"][1].startswith("2 levels: ")
    assert "in steps of 0.1" in rows["plain"][1]
    assert "that no training row has: 12%" in " ".join(section.texts)


def test_several_models_are_beside_each_other(tmp_path):
    data, (first, second) = data_of(mixed()), (tmp_path / "a", tmp_path / "b")
    first.mkdir(), second.mkdir()
    outcomes = [outcome_of(data, first, "vae"), outcome_of(data, second, "a-mim")]
    found = sections_of(*outcomes)
    for picture in found["columns"].pictures:
        assert "vae" in picture.caption
        assert "a-mim" in picture.caption
    assert found["explained"].shares.models == ["vae", "a-mim"]
    assert [each.caption.split()[-1] for each in found["unusual"].listings] == ["vae", "a-mim"]
    assert found["associations"].listings[0].header[-2:] == ["vae", "a-mim"]
    # The test rows, and what each model has otherwise.
    assert len(found["associations"].pictures) == 3


def advice(data, path, **more):
    return " ".join(tips(outcome_of(data, path, **more)))


def test_tips_name_columns_that_are_far_off_and_rows_that_are_few(tmp_path):
    table = {"near": RNG.normal(size=ROWS).round(1), "far": RNG.normal(size=ROWS).round(1)}
    outcome = outcome_of(data_of(table), tmp_path)
    outcome.__dict__["drift"] = np.array([0.02, 0.4])
    text = " ".join(tips(outcome))
    assert "far from those of the test rows in 'far' (by 40%)" in text
    assert "'near' (" not in text
    assert "only 120 rows" in text
    assert "RMSE" not in text
    assert "PCA" not in text
    outcome.__dict__["drift"] = np.zeros(2)
    assert "far from those" not in " ".join(tips(outcome))


@pytest.mark.parametrize(("share", "expected"), [(0.005, False), (0.03, True)])
def test_tips_mention_contradictions_above_one_in_a_hundred(share, expected, tmp_path):
    metric = Metric("fitted_prior_generated_contradictions", share, "", "", "sample")
    city = RNG.choice(["a", "b", "c", "d"], 300)
    table = {"city": city, "region": np.where(np.isin(city, ["a", "b"]), "north", "south")}
    text = advice(data_of(table), tmp_path, metrics=(metric,))
    assert ("3% of the generated rows have a pair" in text) is expected


def test_tips_mention_rows_told_apart_only_if_no_column_is_far_off(tmp_path):
    metric = Metric("generated_auc", 0.95, "", "", "sample")
    outcome = outcome_of(data_of(levels()), tmp_path, metrics=(metric,))
    outcome.__dict__["drift"] = np.zeros(2)
    assert "depend on each other" in " ".join(tips(outcome))
    assert "depend on each other" not in " ".join(tips(outcome, compared=True))
    outcome.__dict__["drift"] = np.full(2, 0.5)
    assert "depend on each other" not in " ".join(tips(outcome))


def bins_of(values, name="x", kinds=None, generated=None):
    data = data_of({name: values}, kinds=kinds)
    real = data.test[:, 0].double().numpy()
    found = units.bins(data.schema.modelled[0], real, real if generated is None else generated)
    return found, real


def test_bins_are_in_the_units_of_the_file_and_hold_nearly_all_values():
    width = RNG.normal(50, 3, 500).round(2)
    found, real = bins_of(width)
    assert not found.log
    assert (np.diff(found.steps) > 0).all()
    inside = (width >= found.edges[0]) & (width <= found.edges[-1])
    assert inside.mean() > 0.97
    shares = found.heights(real) * np.diff(found.edges)
    assert shares.sum() == pytest.approx(inside.mean(), abs=1e-9)


def test_positive_numbers_over_a_large_range_have_a_logarithmic_axis():
    money = RNG.lognormal(8, 2, 500).round(2)
    found, real = bins_of(money)
    assert found.log
    assert (found.edges > 0).all()
    total = np.cumsum(found.heights(real) * np.diff(np.log(found.edges)))
    bin_of_median = np.searchsorted(found.edges, np.median(money)) - 1
    assert total[bin_of_median - 1] <= 0.5 <= total[bin_of_median] + 0.01
    assert total[-1] == pytest.approx(1, abs=0.02)
    assert not bins_of(np.append(money, 0.0))[0].log


def test_dates_are_days_and_durations_have_a_unit():
    day = datetime.date(2024, 2, 29)
    found, _ = bins_of([day + datetime.timedelta(days=k) for k in range(60)])
    first = (day - datetime.date(1970, 1, 1)).days
    assert found.edges[0] == pytest.approx(first - 0.5, abs=1)
    assert found.label == ""
    found, _ = bins_of([datetime.timedelta(hours=k) for k in range(60)])
    assert found.label == "hours"
    # The last bin may reach further than the last value.
    assert 59 < found.edges[-1] <= 59 + np.diff(found.edges)[0]


def test_small_counts_have_a_bar_for_each_value():
    found, _ = bins_of(RNG.poisson(2, 300).clip(0, 8), kinds={"x": "count"})
    assert found.single
    assert (np.diff(found.edges) == 1).all()
    none = units.bins(data_of({"x": [1.5, 2.5, 4.0]}).schema.modelled[0], np.zeros(0), np.zeros(0))
    assert none is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1 + 0.2, "0.3"), (0.0, "0"), (1234, "1234"), (25e4, "250k"), (-15e5, "-1.5M")],
)
def test_numbers_of_axes_are_short(value, text):
    assert units.compact(value) == text


def test_shares_and_values_are_in_words(tmp_path):
    shares = [0.0, 0.0001, 0.004, 0.5, float("nan")]
    assert [percent(s) for s in shares] == ["none", "under 0.1%", "0.4%", "50%", "unknown"]
    data = data_of({"open": [True, False] * 10, "day": [datetime.date(2024, 2, 29)] * 19 + [None]})
    assert shown_level(data.schema.modelled[0], 1) == "true"
    number = data_of({"x": [0.25, 0.5, 1.0] * 5}).schema.modelled[0]
    assert shown_steps(np.array([(1.0 - number.origin) / number.step, np.nan]), number) == [
        "1",
        "missing",
    ]


HOSTILE = ['"><script>alert(1)</script>', "$x_{$", "two\nlines", "\u202egnp", "中文", "\x00", "%s"]


def test_hostile_names_of_columns_and_levels_are_one_line_of_visible_letters(tmp_path):
    table = {name: RNG.choice([*HOSTILE, ""], ROWS).tolist() for name in HOSTILE}
    for section in sections_of(outcome_of(data_of(table), tmp_path)).values():
        for picture in section.pictures:
            for text in (picture.alt, picture.caption):
                assert not re.search(r"[\x00-\x1f\u202e]", text)


def test_names_that_a_figure_cannot_show_are_numbers_told_in_the_caption():
    names = ["plain", "中文", "a" * 30, "a" * 29 + "b", "1"]
    shown, key = labels(names, 10)
    assert shown == ["plain", "#2", "#3", "#4", "1"]
    assert "#2 is 中文" in key
    assert "#4 is" in key
    assert labels(["a", "b"], 10) == (["a", "b"], "")


def test_bars_of_figures_have_the_shares():
    figure = figures.paired_bars(["a", "b"], np.array([0.75, 0.25]), {"m": np.array([0.5, 0.5])})
    assert isinstance(figure, Figure)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.75, 0.25, 0.5, 0.5]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]
