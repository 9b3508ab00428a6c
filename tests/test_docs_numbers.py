"""Every measured number of the pages is that of a file under results/, see benchmarks/pages.py."""

import json
import re

import pytest
from markdown_it import MarkdownIt
from traced.all_tables import BLOCKS
from traced.keys import KeyProblem, evaluated
from traced.markdown import BLOCK, loose, marks, rendered, unread
from traced.sources import ROOT, Sources

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = Sources()

# Numbers that look measured and are not: what stands on a page, and why it needs no source.
ALLOWED = {
    "choices.md": {
        "log-scale, [-4.5, 0]": "a setting of the released code",
        "39 MB for 50,000 images": "50,000 times 784 bytes",
    },
    "claims.md": {
        "if the 95 % interval": "a definition",
        "(95 % intervals)": "a definition",
        "by the 95 % intervals": "a definition",
        "with none (95 %": "a definition",
        "MIM takes 2 to 5 times as many epochs": "the paper's claim",
        "the floor of 0.05 that": "a setting",
        "floors of 0.2,": "a setting",
        "a floor of 0.05 L_CE": "a setting",
    },
    "image-models.md": {"falls from 0.01": "a setting"},
    "consistency.md": {"floor 0.05": "a setting"},
    "README.md": {
        "(β = 0.01)": "a setting",
        "0.5 at best": "a definition",
    },
    "diagnose.md": {
        "mostly 200 times": "benchmarks/coverage.py",
        "± 1.96 errors": "a definition",
        "95 % of those of a normal estimate": "a definition",
        "An AUC of 0.5": "a definition",
        "less than 1 % of the variance": "a threshold",
        "less than 1 % of the spread": "a threshold",
    },
    "information.md": {
        "Here it is 2 nats": "a setting of the example",
        "with new data 200 times": "a setting",
        "± 1.96 standard errors": "the definition of a 95 % interval",
        "stays below 0.1 nat": "a threshold",
        "an information of 20 nats": "a setting of the example",
        "deviations are near 0.001": "a setting",
    },
    "likelihood.md": {
        "an error of 0.05 nat": "a threshold",
        "An error of 0.05 nat": "a threshold",
        "errors of 0.05 nat": "a threshold",
        "that error is over 0.05 nat": "a threshold",
        "off by more than 0.1 nat": "a threshold",
        "is off by 0.1 nat": "a threshold",
        "3 to 100 times as wide": "the widths of DefensiveProposal",
        "curves of width 0.001": "an example",
        "deviations of 1 or 0.001": "an example",
        "a peak of width 0.0001": "an example",
    },
    "mathematics.md": {
        "of standard deviation 0.01": "an example",
        "from e^-103.3 to e^88.7": "the range of float32",
        "x = z + 0.62 ε": "a setting of the example",
        "k = 20 for 90 %": "a definition",
        "1.5 times as wide, have 30 % of the weight": "settings of the proposal",
        "weights is above 0.7": "a threshold",
    },
    "own-data.md": {
        "lines of more than 64 MiB": "a limit",
        "of version 0.1, which": "a version",
        "log 1000 nats less": "the change of units from metres to millimetres",
    },
    "priors.md": {"MIM needs 0.05": "a setting"},
    "reproduction.md": {
        "(95 % intervals": "a definition",
        "20 times a component's width": "5 / 0.25, by the definition of the mixture",
        "a floor of 0.2:": "a setting",
        "a floor of 0.05 two": "a setting",
    },
    "tables.md": {
        "before version 0.2": "a version",
        "with 90 % intervals": "a setting",
        "than in 99 % of": "a threshold",
    },
    "training.md": {
        "from 0.003 to 0": "a setting",
        "with n^0.6": "a setting",
        "deviation of 0.1 at": "a setting",
        "it is 0.001,": "a setting",
        "at a rate of 0.001": "a setting",
        "it diverges at 0.003": "a setting",
        "0.5 at best": "a definition",
        "In version 0.1 the": "a version",
        "0.001, a floor of 0.001 was": "a setting",
    },
    "what-is-mim-good-for.md": {
        "AUC of 0.5": "a definition",
        "that is 0.001, it is 0.1": "a setting",
    },
}

# A debt: measured numbers that no file under results/ has, and what measures them.
UNTRACED = {
    "README.md": {"0.03974 ± 0.00071": "the ten lines of Python above it"},
    "choices.md": {
        "26 % of the pixels": "a VampPrior on MNIST that starts as in the released code",
    },
    "diagnose.md": {
        "5 to 10   seconds": "python benchmarks/diagnoses.py --speed 10000 784 40",
    },
    "priors.md": {
        "deviations of 0.001   among codes that are 0.2 wide": "mimachine evaluate of an A-MIM",
        "RMSE 0.121, not 0.048": "mimachine train digits --model.encoder-floor 0.05",
    },
    "reproduction.md": {"took 671 s": "time mimachine reproduce figure2 --jobs 2"},
}


def identify(page):
    return page.name


def excepted(text, snippets):
    """Places of a page that some texts cover, as pairs of the text and its range."""
    flat = text.replace("\n", " ")
    for snippet in snippets:
        start = flat.find(snippet)
        while start >= 0:
            yield snippet, range(start, start + len(snippet))
            start = flat.find(snippet, start + 1)


def unexplained(text, snippets):
    """Numbers without a source and outside all exceptions, as "line: number"."""
    covered = [place for _, place in excepted(text, snippets)]
    return [
        f"line {number.line}: {number.text}"
        for number in loose(text)
        if not any(number.start in place and number.end - 1 in place for place in covered)
    ]


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_a_page_says_what_its_results_say(page):
    _, problems = rendered(page.read_text(), BLOCKS, SOURCES)
    assert not problems, "\n".join(map(str, [*problems, "run python benchmarks/pages.py"]))


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_every_number_that_looks_measured_has_a_source(page):
    snippets = [*ALLOWED.get(page.name, ()), *UNTRACED.get(page.name, ())]
    assert not unexplained(page.read_text(), snippets)


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_every_exception_is_needed(page):
    text = page.read_text()
    found = dict(excepted(text, [*ALLOWED.get(page.name, ()), *UNTRACED.get(page.name, ())]))
    assert set(found) == {*ALLOWED.get(page.name, ()), *UNTRACED.get(page.name, ())}
    for snippet in ALLOWED.get(page.name, ()):
        others = [each for each in found if each != snippet]
        assert unexplained(text, others), snippet


def test_exceptions_are_of_pages():
    assert {*ALLOWED, *UNTRACED} <= {page.name for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_every_comment_is_a_mark_or_the_limit_of_a_block(page):
    text = page.read_text()
    assert not unread(text)
    for number, key in marks(text):
        # GitHub shows a comment that contains "--", begins with ">" or "->", or ends with "-".
        assert "--" not in key, number
        assert key[0] not in ">-", number
        assert key[-1] != "-", number


def shown(text):
    """HTML of a page without its comments and empty lines."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    return re.sub(r"\n+", "\n", re.sub(r"<!--.*?-->", "", html))


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_comments_change_nothing_that_readers_see(page):
    text = page.read_text()
    assert shown(text) == shown(re.sub(r"<!--.*?-->", "", text))


def test_a_comment_at_the_start_of_a_line_changes_a_paragraph():
    assert shown("It is\n<!--key-->2.") != shown("It is\n2.")


def test_every_table_is_in_one_page():
    names = [name for page in PAGES for name, _ in BLOCK.findall(page.read_text())]
    assert sorted(names) == sorted(BLOCKS)


# --- a small page --------------------------------------------------------------------------------


def write(root, name, value):
    file = root / "results" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def cell(curve, x, **metrics):
    epochs = [1] * len(next(iter(metrics.values())))
    return {"curve": curve, "x": x, "metrics": metrics, "epochs": epochs, "best_epochs": epochs}


@pytest.fixture
def sources(tmp_path):
    """A sweep of three seeds, and a file of times."""
    cells = [
        cell("A", 5, nll=[1.0, 2.0, 3.0], ksg=[0.5, 4.0, 5.0]),
        cell("B, true", 5, nll=[2.0, 2.0, 2.0]),
        cell("A", 20, nll=[4.0, 4.0, None]),
        cell("B, true", 20, nll=[1.0, 2.0, 4.0]),
    ]
    write(tmp_path, "reproduction/sweep-3-seeds/results.json", {"cells": cells})
    rows = [
        {"hidden": 20, "objective": "mim", "seconds": 4.04, "of": {"share": 0.955}},
        {"hidden": 500, "objective": "mim", "seconds": 8.0, "of": {"share": 0.5}},
    ]
    nll = {"value": 138.87, "standard_error": 1.03}
    write(tmp_path, "times.json", {"rows": rows, "nll": nll, "moved": "-0.0013 ± 0.0017"})
    return Sources(tmp_path)


PAGE = """# A page

A has 2.0<!--sweep A 5 nll--> nats, `0.5` in code, and B
2.33 ± 1.53<!--sweep "B, true" 20 nll ± sd-->, in 3<!--seeds(sweep nll)--> seeds.

<!-- begin table -->
| 4.0 s |
<!-- end table -->

```python
>>> 0.25 + 0.25
0.5
```
"""
TABLES = {
    "table": lambda sources: f"| {evaluated('times hidden=20 seconds', sources)[0]:.1f} s |\n"
}


def changed(old, new):
    assert PAGE.count(old) == 1
    return PAGE.replace(old, new)


def test_a_page_that_follows_its_results_stays_as_it_is(sources):
    assert rendered(PAGE, TABLES, sources) == (PAGE, [])
    assert not unexplained(PAGE, [])
    assert not unread(PAGE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2.0<", "2.1<"),
        ("2.33", "2.3334"),
        ("1.53", "1.6"),
        ("| 4.0 s", "| 4.1 s"),
        ("in 3<", "in 4<"),
    ],
)
def test_an_edited_number_is_detected_and_corrected(sources, old, new):
    text, problems = rendered(changed(old, new), TABLES, sources)
    assert len(problems) == 1
    assert not problems[0].stuck
    # Decimals are those of the text.
    assert (text == PAGE) == (new not in ("2.3334", "1.6"))
    assert rendered(text, TABLES, sources) == (text, [])


@pytest.mark.parametrize("key", ["sweep C 5 nll", "sweep A nll", "sweep A 5 nll ± sd", "sweep A 5"])
def test_a_key_without_one_number_of_that_form_is_a_problem(sources, key):
    text = changed("sweep A 5 nll", key)
    kept, problems = rendered(text, TABLES, sources)
    assert kept == text
    assert [problem.stuck for problem in problems] == [True]


def test_new_results_change_the_page(sources, tmp_path):
    cells = [cell("A", 5, nll=[7.0, 8.0]), cell("B, true", 20, nll=[1.0, 3.0])]
    write(tmp_path, "reproduction/sweep-3-seeds/results.json", {"cells": cells})
    text, problems = rendered(PAGE, TABLES, Sources(tmp_path))
    assert len(problems) == 3
    assert "A has 7.5<!--sweep A 5 nll--> nats" in text
    assert "2.00 ± 1.41<!--" in text
    assert "in 2<!--" in text


@pytest.mark.parametrize(
    ("added", "numbers"),
    [
        ("It is 0.37.", ["0.37"]),
        ("It takes 12 s.", ["12"]),
        ("It takes\n12 seconds.", ["12"]),
        ("They have 124, 104 and 93 nats.", ["124", "104", "93"]),
        ("It holds in 8 of 10 seeds.", ["8", "10"]),
        ("It is 1,234.5 ± 0.2.", ["1,234.5", "0.2"]),
        ("| row | -0.3 | 91 % |\n| row | 5 | 6 |", ["-0.3", "91"]),
        ("It is **0.37**, or 40 times as fast.", ["0.37", "40"]),
        ("Figure 2 has 500 units and 10,000 rows. See Section 5.1, A.2.2 and `0.1`.", []),
    ],
)
def test_an_added_number_without_a_source_is_detected(added, numbers):
    found = [each.rpartition(" ")[2] for each in unexplained(f"{PAGE}\n{added}\n", [])]
    assert found == numbers


def test_an_exception_is_for_its_text_alone():
    text = f"{PAGE}\nA floor of 0.1 nat. It is 0.1 nat.\n"
    assert len(unexplained(text, ["floor of 0.1 nat"])) == 1
    assert len(unexplained(text, ["floor of 0.1", "is 0.1 nat"])) == 0


def test_a_comment_that_marks_nothing_is_found():
    assert unread(f"{PAGE}\nMuch<!--sweep A 5 nll--> more.\n") == ["<!--sweep A 5 nll-->"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sweep A 5 nll", 2.0),
        ('sweep "B, true" ..5 nll', 2.0),
        ("sd(sweep A 5 nll)", 1.0),
        ("max(sweep A nll)", 4.0),
        ("max(sweep A nll each)", 4.0),
        ("min(sweep A 5 nll each)", 1.0),
        ("min(sweep A 5 nll each if ksg > 1)", 2.0),
        ("sweep A 5 nll if ksg > 1", 2.5),
        ("count(sweep A 5 nll each if ksg < 1)", 1.0),
        ("count(sweep A nll each)", 5.0),
        ("seeds(sweep nll)", 3.0),
        ('max(sweep A nll - sweep "B, true" nll)', 4 - 7 / 3),
        ('sweep A 20 nll / sweep "B, true" 20 nll', 12 / 7),
        ("1 / (sweep A 5 nll - sweep A 20 nll)", -0.5),
        ('lower(sweep A 5 nll, sweep "B, true" 5 nll)', 1.0),
        ('paired(sweep A 5 nll - sweep "B, true" 5 nll)', 0.0),
        ('geometric(sweep A 5 nll / sweep "B, true" 5 nll)', (6 / 8) ** (1 / 3)),
        ("max(times seconds)", 8.0),
        ("times hidden=500 seconds - times hidden=20 seconds", 3.96),
        ("errors(times nll - times moved)", 138.8713 / (1.03**2 + 0.0017**2) ** 0.5),
        ('errors(sweep A 5 nll - sweep "B, true" 20 nll)', (1 / 3) / (1 / 3 + 7 / 9) ** 0.5),
        ("percent(times hidden=20 of.share)", 95.5),
        ("times nll", 138.87),
        ("error(times nll)", 1.03),
        ("abs(times moved)", 0.0013),
        ("median(times seconds, times nll, times seconds)", 8.0),
    ],
)
def test_a_key_gives_its_number(sources, key, value):
    assert evaluated(key, sources).value == pytest.approx(value)


def test_a_paired_difference_has_an_interval(sources):
    found = evaluated('paired(sweep A 5 nll - sweep "B, true" 5 nll)', sources)
    # Student's t with two degrees of freedom, times the standard error of -1, 0 and 1.
    assert found.interval == pytest.approx((-4.3027 / 3**0.5, 4.3027 / 3**0.5), abs=1e-4)
    text = '0.0 [-2.5, 2.5]<!--paired(sweep A 5 nll - sweep "B, true" 5 nll)-->'
    assert rendered(text, {}, sources) == (text, [])


@pytest.mark.parametrize(
    "key",
    [
        "",
        "sweep",
        "nothing A nll",
        "sweep A nll",
        "sweep A 5 nll -",
        "sweep A 5 nll - 1 / 2",
        "max(sweep A nll",
        "largest(sweep A nll)",
        "sweep A 5 nll each if ksg",
        "sweep A 5 nll ± error",
        'max(sweep A nll - sweep "B, true" nll each)',
        'lower(sweep A nll, sweep "B, true" 5 nll)',
        "sweep A 5 nll sweep",
    ],
)
def test_a_key_with_a_mistake_is_refused(sources, key):
    with pytest.raises(KeyProblem):
        evaluated(key, sources)


def test_a_source_that_is_there_twice_is_refused(sources, tmp_path):
    write(tmp_path, "reproduction/sweep/results.json", {"cells": [cell("A", 5, nll=[1.0])]})
    with pytest.raises(KeyProblem, match="2 files or folders"):
        evaluated("sweep A 5 nll", sources)


def test_exact_numbers_are_those_of_the_library():
    import mimachine as mm

    for name in ("mixture_2d", "mixture_20d"):
        data = getattr(mm.datasets, name)()
        surprise = -data.distribution.log_prob(data.test).double()
        error = float(surprise.std()) / len(surprise) ** 0.5
        entropy = evaluated(f"exact {name.replace('_', '-')}.entropy", SOURCES).value
        assert abs(float(surprise.mean()) - entropy) < 4 * error
