"""Write the numbers of README.md and docs/*.md from the files under results/.

    python benchmarks/pages.py            # after new results
    python benchmarks/pages.py --check    # print what differs; exit with 1 if anything does

Results are in two forms in a page:

- a table between `<!-- begin NAME -->` and `<!-- end NAME -->`, which a small function in
  benchmarks/traced renders;
- a number in a sentence, followed at once by a comment that no reader sees and that says where it
  comes from: `6.75<!--figure2 MIM 20 KSG-->`. It is written with as many decimals as it has in the
  text, so a new number needs any digits, such as 0.00, and the right key.

tests/test_docs_numbers.py fails if a page does not say what its results say, or has a number that
looks measured and is neither in a table, marked, nor in a list of exceptions.

A key is SOURCE SELECTOR... METRIC:

- SOURCE is the short name of a file: `figure2` for results/reproduction/figure2/results.json, also
  if its folder ends with a number of seeds, `ensemble-speed` for results/ensemble-speed.json.
  `exact` has what follows from definitions, `insets` the numbers within the panels of figure 1.
- A SELECTOR is a text label (`MIM`, `"MIM-H, true"`), a place on the x axis (`20`, `20..`,
  `..50`, `100..300`: a number of units or latents), or a label by name (`floor=0.2`).
- METRIC is a name in the file, with dots for objects within objects, or a short name: `KSG`,
  `lower` and `upper` (bounds of information), `-ELBO`, `NLL`, `error` (of sampled
  reconstructions), `RMSE`, `5-NN` (of sampled codes), `R_MIM`, `KL`. `KSG:paper` is the paper's
  number, with its standard deviation as its error, `KSG:apart` its distance from ours in standard
  errors, and `KSG:apart_read` the same where the paper's error bar can be read.

It is the mean over seeds of one row. Then:

- `± sd`, `± se` and `± error` at the end: with the standard deviation over seeds, the standard
  error of their mean, or the error that the file gives:
  `2.01 ± 0.02<!--figure2 MIM 20 NLL ± sd-->`;
- `min(...)`, `max(...)`, `mean(...)`, `median(...)`: over all rows that the selectors leave, of
  several keys if they are separated by commas; `each` after the metric makes it over all seeds, and
  `if KSG > 4` over those seeds alone: `6.7<!--max(figure2 MIM 5 KSG each if KSG > 4)-->`;
- `A - B` and `A / B` of two keys or numbers, row by row: `min(figure2 MIM 20.. KSG - figure2 VAE
  20.. KSG)`;
- `paired(A - B)`, `paired(A / B)`: mean difference over the same seeds, or geometric mean of the
  ratio, with its 95 % interval: `0.63 [0.55, 0.71]<!--paired(...)-->`. `low(A - B)` and
  `high(A - B)` are its ends; `geometric(A / B)` is the mean ratio of each row;
- `errors(A - B)`: the difference of two independent numbers in its standard errors;
- `lower(A, B)`: for how many seeds A is lower; `seeds(A)`: their number; `count(A each)`: the
  number of models; `sd(A)`, `se(A)`, `error(A)`: these alone; `abs(A)`; `percent(A)`: of a share.
"""

from __future__ import annotations

import argparse
import sys

from traced.all_tables import BLOCKS
from traced.markdown import rendered
from traced.sources import ROOT, Sources

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, and print problems")
    check = parser.parse_args().check
    sources, wrong = Sources(), 0
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new, problems = rendered(old, BLOCKS, sources)
        for problem in problems:
            print(f"{page.relative_to(ROOT)}:{problem.line}: {problem}")
        wrong += len(problems) if check else sum(problem.stuck for problem in problems)
        if new != old and not check:
            page.write_text(new, encoding="utf-8")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
