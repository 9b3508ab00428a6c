"""Benchmarks follow the code that they measure."""

import json
import math
import runpy
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULTS = BENCHMARKS.parent / "results"


def test_every_mutant_changes_one_place_and_names_tests_that_exist():
    check = runpy.run_path(str(BENCHMARKS / "mutation_check.py"))
    # An error names a text that is not in its file exactly once.
    assert len(check["mutants"]()) > 150
    for tests, _ in check["MUTANTS"].values():
        assert all((BENCHMARKS.parent / "tests" / test).is_file() for test in tests)


def test_printed_intervals_hold_between_90_and_99_percent():
    """Up to the binomial error of the shares; and of many numbers few are that far off."""
    settings = json.loads((RESULTS / "coverage.json").read_text())["settings"]
    assert set(settings) == set(runpy.run_path(str(BENCHMARKS / "coverage.py"))["SETTINGS"])
    held = [(row["held"], row["repeats"]) for each in settings.values() for row in each["rows"]]
    assert len(held) > 350
    for share, repeats in held:
        low, high = (2.5 * math.sqrt(p * (1 - p) / repeats) for p in (0.9, 0.99))
        assert 0.9 - low < share < 0.99 + high
    assert sum(share < 0.9 for share, _ in held) < 0.05 * len(held)
    assert 0.94 < sum(share for share, _ in held) / len(held) < 0.97
