"""Documentation: its examples run, and the names, files and tests that it mentions exist."""

import ast
import doctest
import functools
import re
from pathlib import Path

import pytest
import torch
from stub import HOME

import mimachine as mm

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
NAME = re.compile(r"\bmm\.([A-Za-z]\w*)")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
TEST = re.compile(r"`((?:\w+/)*test_\w+\.py)::(test_\w+)`")
# Names and the file that defines them: `name`, `other` in [file](../mimachine/file).
DEFINED = re.compile(r"(`[\w.]+`(?:, `[\w.]+`)*) in \[([\w/]+\.py)\]\(\.\./mimachine/\2\)")


def identify(path):
    return path.name


class Fenced(doctest.DocTestParser):
    """Examples between fences, whose closing line would count as expected output."""

    def parse(self, string, name="<string>"):
        return super().parse(re.sub(r"^```.*$", "", string, flags=re.MULTILINE), name)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if ">>> " in page.read_text()], ids=identify
)
def test_examples_give_what_the_page_shows(page, capsys):
    precision = torch.get_default_dtype()
    torch.manual_seed(0)
    try:
        failed, tried = doctest.testfile(
            str(page),
            module_relative=False,
            optionflags=doctest.NORMALIZE_WHITESPACE,
            parser=Fenced(),
            encoding="utf-8",
        )
    finally:
        torch.set_default_dtype(precision)
    assert tried > 0
    assert not failed, capsys.readouterr().out


def test_a_wrong_number_in_an_example_is_detected():
    page = "```python\n>>> 1 + 1\n3\n```\n\n```python\n>>> 2\n2\n```\n"
    test = Fenced().get_doctest(page, {}, "page", None, 0)
    runner = doctest.DocTestRunner(verbose=False)
    assert runner.run(test, out=lambda text: None) == (1, 2)


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_every_mentioned_public_name_exists(document):
    missing = {name for name in NAME.findall(document.read_text()) if not hasattr(mm, name)}
    assert not missing


def links(document):
    """Text and target of each link and picture that points to a file of the repository."""
    found = LINK.findall(document.read_text())
    return [(text, target.partition("#")[0]) for text, target in found if "://" not in target]


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_every_link_and_picture_points_to_a_file(document):
    targets = {target for _, target in links(document) if target}
    assert not {target for target in targets if not (document.parent / target).exists()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_a_link_from_a_public_name_points_to_the_file_that_defines_it(document):
    for text, target in links(document):
        for name in NAME.findall(text):
            assert Path(target).name == f"{HOME[name].rpartition('.')[2]}.py", text


def test_links_and_names_are_found():
    text = (ROOT / "docs" / "mathematics.md").read_text()
    assert {"mim", "Loss", "decompose"} <= set(NAME.findall(text))
    targets = {target for _, target in links(ROOT / "docs" / "mathematics.md")}
    assert {"images/factorisations.png", "choices.md", "../mimachine/model/joint.py"} <= targets


@functools.cache
def defined_in(file):
    """Names of a file's functions, classes, methods and constants."""
    names = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            names |= {f"{node.name}.{name}" for name in inner}
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def rows(text):
    """Cells of the tables of a page, without their headers."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rules = {number for number, line in enumerate(lines) if line.startswith("|---")}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for number, line in enumerate(lines)
        if not {number, number + 1} & rules
    ]


WHERE = rows((ROOT / "docs" / "where-is-it.md").read_text())


def check_tests(text):
    """Fail if a test that a text mentions does not exist."""
    for file, name in TEST.findall(text):
        assert name in defined_in(f"tests/{file}"), f"tests/{file} has no {name}"


def test_the_table_has_every_equation_once_in_order_and_its_tests_exist():
    page = (ROOT / "docs" / "mathematics.md").read_text()
    table = rows(page.partition("## Where each equation is tested")[2])
    numbered = [row[0] for row in table if row[0].isdigit()]
    assert numbered == [str(number) for number in range(1, 27)]
    for _, _, test, tolerance in table:
        assert len(TEST.findall(test)) == 1
        check_tests(test)
        assert tolerance


def parts_of_the_paper(kind):
    """Numbers of a kind of part that the first column of "Where is it?" lists, in its order."""
    numbers = []
    for part, *_ in WHERE:
        found = re.fullmatch(rf"{kind} (\d+)(?: to (\d+))?", part)
        if found:
            first, last = int(found[1]), int(found[2] or found[1])
            numbers += range(first, last + 1)
    return numbers


@pytest.mark.parametrize(
    ("kind", "count"), [("Eq[.]", 26), ("Algorithm", 2), ("Figures?", 21), ("Table", 1)]
)
def test_where_is_it_has_every_part_of_the_paper_once(kind, count):
    assert sorted(parts_of_the_paper(kind)) == list(range(1, count + 1))


@pytest.mark.parametrize(
    ("code", "tests"), [row[2:] for row in WHERE], ids=[", ".join(row[:2]) for row in WHERE]
)
def test_where_is_it_names_code_and_tests_that_exist(code, tests):
    found = DEFINED.findall(code)
    assert ", ".join(f"{names} in [{file}](../mimachine/{file})" for names, file in found) == code
    for names, file in found:
        for name in re.findall(r"`([^`]+)`", names):
            assert name in defined_in(f"mimachine/{file}"), f"mimachine/{file} has no {name}"
    assert ", ".join(f"`{file}::{name}`" for file, name in TEST.findall(tests)) == tests
    assert tests
    check_tests(tests)


def test_every_equation_of_the_page_has_its_number_in_order():
    page = (ROOT / "docs" / "mathematics.md").read_text()
    tags = re.findall(r"\\tag\{(\d+)\}", page)
    assert tags == [str(number) for number in range(1, 27)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_an_equation_is_on_a_line_of_its_own(document):
    # GitHub reads a line within one that begins with + or - as a list.
    for line in document.read_text().splitlines():
        if "$$" in line:
            assert re.fullmatch(r"\$\$ [^$]+ \$\$", line), line


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_mentioned_tests_exist(document):
    check_tests(document.read_text())
