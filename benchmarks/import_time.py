"""Import time of the package and start-up time of its command line, in fresh interpreters.

python benchmarks/import_time.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

CASES = {
    "python alone": ["-c", "pass"],
    "import mimachine": ["-c", "import mimachine"],
    "import torch": ["-c", "import torch"],
    "from mimachine import Joint, fit": ["-c", "from mimachine import Joint, fit"],
    "all public names": ["-c", "from mimachine import *"],
    "mimachine --help": ["-m", "mimachine.cli", "--help"],
    "mimachine train --help": ["-m", "mimachine.cli", "train", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    for name, arguments in CASES.items():
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        print(f"{name:<36} median {statistics.median(times):.3f} s, best {min(times):.3f} s")


if __name__ == "__main__":
    main()
