"""Benchmarks follow the code that they measure."""

import json
import math
import runpy
from pathlib import Path

import pytest
import torch
from machine import keeps_single_precision, matmul_precision, peak, products

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULTS = BENCHMARKS.parent / "results"
CPU = torch.device("cpu")
# Benchmarks whose results are made in another file.
MEASURING = {"peers.py": "beside/rows.py"}


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


def test_a_block_with_other_precision_of_products_restores_the_setting():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError, match="shapes"), matmul_precision("medium"):
        torch.mm(torch.zeros(2, 3), torch.zeros(2, 3))
    assert torch.get_float32_matmul_precision() == before
    for product in products(torch.float32, CPU, size=8).values():
        product()
        assert torch.get_float32_matmul_precision() == before


def test_the_default_products_of_float32_keep_single_precision():
    assert keeps_single_precision("highest")


def test_the_peak_is_the_best_of_products_and_convolutions():
    name = "product, torch.float32"
    rates = {name: [90.0, 95.0], f"{name}, medium": [80.0, 97.0], "convolutions": [96.0, 98.0]}
    assert peak(torch.float32, rates) == (98.0, "convolutions")
    del rates["convolutions"]
    assert peak(torch.float32, rates) == (97.0, f"{name}, medium")
    with pytest.raises(ValueError, match=r"torch\.bfloat16, got \['product, torch\.float32'"):
        peak(torch.bfloat16, rates)


def test_every_benchmark_that_writes_json_records_the_processor():
    writers = [file for file in BENCHMARKS.glob("*.py") if "json.dump" in file.read_text()]
    assert len(writers) > 15
    for file in writers:
        text = file.read_text() + (BENCHMARKS / MEASURING.get(file.name, file.name)).read_text()
        assert "processor()" in text, file.name
