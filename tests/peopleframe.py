"""A table with columns of many kinds, as pandas has them."""

import numpy as np
import pandas as pd


def people(rows=200, seed=0):
    """Rows with text, categories, dates, counts, flags and holes; spend depends on age."""
    dice = np.random.default_rng(seed)
    age = dice.integers(18, 90, rows)
    table = pd.DataFrame(
        {
            "age": pd.array(age, dtype="Int64"),
            "city": pd.Categorical(dice.choice(["Lyon", "Paris", "Nice"], rows)),
            "joined": pd.Timestamp("2020-01-01")
            + pd.to_timedelta(dice.integers(0, 900, rows), unit="D"),
            "spend": np.round(3.0 * age + dice.normal(0, 5, rows), 2),
            "vip": age > 60,
            "grade": pd.Categorical(dice.choice(list("abc"), rows), list("abc"), ordered=True),
            "note": dice.choice(["yes", "no"], rows),
            "id": [f"u{k:05d}" for k in range(rows)],
        },
        index=np.arange(rows) + 1000,
    )
    table.loc[table.index[:20], "age"] = pd.NA
    table.loc[table.index[20:40], "city"] = np.nan
    table.loc[table.index[40:50], "joined"] = pd.NaT
    table.loc[table.index[50:80], "spend"] = np.nan
    return table
