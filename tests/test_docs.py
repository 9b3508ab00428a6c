"""What the documents say: their examples run, and the names, files and tests they mention exist."""

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
DOCUMENTS = [ROOT / "README.md", *PAGES]
NAME = re.compile(r"\bmm\.([A-Za-z]\w*)")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
TEST = re.compile(r"`((?:\w+/)*test_\w+\.py)::(test_\w+)`")


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


def test_a_wrong_number_in_an_example_is_seen():
    page = "```python\n>>> 1 + 1\n3\n```\n\n```python\n>>> 2\n2\n```\n"
    test = Fenced().get_doctest(page, {}, "page", None, 0)
    runner = doctest.DocTestRunner(verbose=False)
    assert runner.run(test, out=lambda text: None) == (1, 2)


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_every_public_name_that_is_mentioned_exists(document):
    missing = {name for name in NAME.findall(document.read_text()) if not hasattr(mm, name)}
    assert not missing


def links(document):
    """Text and target of each link and picture that leads to a file of the repository."""
    found = LINK.findall(document.read_text())
    return [(text, target.partition("#")[0]) for text, target in found if "://" not in target]


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_every_link_and_picture_leads_to_a_file(document):
    targets = {target for _, target in links(document) if target}
    assert not {target for target in targets if not (document.parent / target).exists()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_a_link_from_a_public_name_leads_to_the_file_that_defines_it(document):
    for text, target in links(document):
        for name in NAME.findall(text):
            assert Path(target).name == f"{HOME[name].rpartition('.')[2]}.py", text


def test_links_and_names_are_seen():
    text = (ROOT / "docs" / "mathematics.md").read_text()
    assert {"mim", "Loss", "decompose"} <= set(NAME.findall(text))
    targets = {target for _, target in links(ROOT / "docs" / "mathematics.md")}
    assert {"images/factorisations.png", "choices.md", "../mimachine/model/joint.py"} <= targets


@functools.cache
def defined_in(file):
    """Names of a test file's tests."""
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def rows():
    """Cells of the table of equations."""
    page = (ROOT / "docs" / "mathematics.md").read_text()
    table = page.partition("## Where each equation is tested")[2]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_has_every_equation_once_in_order_and_its_tests_exist():
    numbered = [row[0] for row in rows() if row[0].isdigit()]
    assert numbered == [str(number) for number in range(1, 27)]
    for equation, _, test, tolerance in rows():
        ((file, name),) = TEST.findall(test)
        assert name in defined_in(file), f"Eq. {equation}: {file} has no {name}"
        assert tolerance


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
def test_tests_that_are_mentioned_exist(document):
    for file, name in TEST.findall(document.read_text()):
        assert name in defined_in(file), f"{file} has no {name}"
