"""Benchmarks follow the code that they measure."""

import runpy
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_every_mutant_changes_one_place_and_names_tests_that_exist():
    check = runpy.run_path(str(BENCHMARKS / "mutation_check.py"))
    # An error names a text that is not in its file exactly once.
    assert len(check["mutants"]()) > 150
    for tests, _ in check["MUTANTS"].values():
        assert all((BENCHMARKS.parent / "tests" / test).is_file() for test in tests)
