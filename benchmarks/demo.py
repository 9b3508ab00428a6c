"""Keep the numbers of `make demo` for the README.

make demo && python benchmarks/demo.py --out results/demo.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from machine import processor

DATA = ("mixture-2d", "digits")


def numbers(file: Path) -> list[dict[str, Any]]:
    """Values and standard errors of a comparison, by model and metric."""
    reports = json.loads(file.read_text(encoding="utf-8"))["reports"]
    kept = ("value", "standard_error")
    return [
        {
            "model": model,
            "metrics": {
                metric["name"]: {key: metric[key] for key in kept} for metric in report["metrics"]
            },
        }
        for model, report in reports.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder of make demo")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found = {
        "command": "make demo",
        "processor": processor(),
        "comparisons": [
            {"data": data, "models": numbers(arguments.demo / data / "comparison.json")}
            for data in DATA
        ],
    }
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
