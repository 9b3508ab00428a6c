import numpy as np
import polars as pl
import pytest

from mimachine.data.tables.columns.conditions import conditions
from mimachine.data.tables.infer import infer
from mimachine.data.tables.read import read_frame

# Each city is in a region, each region in a country; two colours go with each country.
CITIES = {
    "Lyon": ("Rhone", "France"), "Paris": ("Ile", "France"), "Nice": ("Azur", "France"),
    "Ulm": ("Bavaria", "Germany"), "Passau": ("Bavaria", "Germany"), "Kiel": ("North", "Germany"),
}  # fmt: skip


@pytest.fixture(scope="module")
def schema():
    dice, rows = np.random.default_rng(0), 3000
    cities = dice.choice(list(CITIES), rows)
    names = np.array([f"n{k}" for k in range(400)])
    shares = 1 / np.arange(1, 401) ** 1.3
    frame = pl.DataFrame(
        {
            "city": cities,
            "region": [CITIES[c][0] for c in cities.tolist()],
            "country": [CITIES[c][1] for c in cities.tolist()],
            "size": pl.Series(dice.choice(["S", "M"], rows), dtype=pl.Enum(["S", "M", "L"])),
            "age": dice.integers(18, 90, rows),
            "owner": dice.choice(names, rows, p=shares / shares.sum()),
        }
    )
    found = infer(read_frame(frame), np.arange(rows))[0]
    assert {c.name: c.parent for c in found.modelled if getattr(c, "parent", None)} == {
        "region": "city", "country": "region",
    }  # fmt: skip
    return found


@pytest.mark.parametrize("city", CITIES)
@pytest.mark.parametrize("other", ["Rhone", "Bavaria", "France", "Germany"])
def test_a_pair_contradicts_if_no_row_has_it_also_at_a_distance(schema, city, other):
    name = "region" if other in ("Rhone", "Bavaria") else "country"
    found = conditions(schema, [f"{name}={other}", f"city={city}"])
    assert found.contradictory == (other not in CITIES[city])
    expected = f"warning: no training row has city={city} and {name}={other} together"
    assert found.notes == ((expected,) if found.contradictory else ())


def test_two_values_contradict_by_what_settles_both(schema):
    assert conditions(schema, ["region=Bavaria", "country=France"]).contradictory
    assert not conditions(schema, ["region=Bavaria", "country=Germany"]).contradictory


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("size=L", "no training row has size=L"),
        ("age=17", "age=17 is outside the values of the training rows, 18 to 89"),
        ("age=90", "age=90 is outside the values of the training rows, 18 to 89"),
        ("owner=nobody", "owner=nobody is no level of the training rows; taken as 'other'"),
    ],
)
def test_values_that_no_row_had(schema, entry, message):
    found = conditions(schema, [entry])
    assert message in found.notes[0]
    assert np.isfinite(found.row).sum() == 1


@pytest.mark.parametrize("entry", ["size=S", "age=18", "age=89", "owner=n0", "owner=other"])
def test_values_that_rows_had(schema, entry):
    assert conditions(schema, [entry]).notes == ()
