"""Order of the modules, lazy imports, and no seeding of global generators."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest
from stub import HOME

import mimachine

PACKAGE = Path(mimachine.__file__).parent

# What each wing imports, besides itself. `datasets` shows what `data` has to users.
MEASURED = ("_support", "model", "data", "training", "estimation")
RUN = (*MEASURED, "evaluation", "experiment", "workflow")
IMPORTS = {
    "__init__": ("_support",),
    "__main__": ("cli",),
    "_support": (),
    "model": ("_support",),
    "data": ("_support", "model"),
    "datasets": ("data",),
    "training": ("_support", "model", "data"),
    "estimation": ("_support", "model", "data", "training"),
    "evaluation": MEASURED,
    "experiment": ("_support", "model", "data", "training"),
    "workflow": (*MEASURED, "evaluation", "experiment"),
    "estimator": RUN,
    "reporting": RUN,
    "paper": (*RUN, "reporting"),
    "cli": (*RUN, "reporting", "paper"),
}


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def walk(node):
    """All nodes that run, so none that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            for other in child.orelse:
                yield other
                yield from walk(other)
        else:
            yield child
            yield from walk(child)


def module_of(file):
    """The part of the package that a file belongs to: a module or a subpackage."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def package_of(file):
    """The full name of the package that a file is in."""
    return ".".join(("mimachine", *file.relative_to(PACKAGE).parts[:-1]))


def origin(node, package):
    """The full name of what a `from ... import` in a package is from."""
    parents = package.split(".")
    stem = parents[: len(parents) - node.level + 1] if node.level else []
    return ".".join([*stem, *([node.module] if node.module else [])])


def home_of(name):
    """The part of the package that `mimachine.name` is taken from; none for a dunder."""
    return None if name.startswith("__") else HOME.get(name, name).partition(".")[0]


def imported_modules(tree, package="mimachine"):
    """Parts of the package that a file imports, by themselves or through the lazy names."""
    found, whole = set(), set()
    for node in walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                if top == "mimachine" and rest:
                    found.add(rest.partition(".")[0])
                elif top == "mimachine":
                    whole.add(alias.asname or top)
        elif isinstance(node, ast.ImportFrom):
            top, _, rest = origin(node, package).partition(".")
            if top == "mimachine" and rest:
                found.add(rest.partition(".")[0])
            elif top == "mimachine":
                found |= {home_of(alias.name) for alias in node.names}
    for node in walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in whole:
            found.add(home_of(node.attr))
    return found - {None}


def sources():
    return sorted(PACKAGE.rglob("*.py"))


def identify(file):
    return str(file.relative_to(PACKAGE))


@pytest.mark.parametrize("wing", IMPORTS)
def test_a_wing_imports_only_from_wings_below_it(wing):
    files = [file for file in sources() if module_of(file) == wing]
    assert files
    for file in files:
        imported = imported_modules(ast.parse(file.read_text()), package_of(file))
        assert imported - {wing} <= set(IMPORTS[wing]), identify(file)


def test_every_wing_is_listed_below_those_that_import_it():
    assert {module_of(file) for file in sources()} == set(IMPORTS)
    graphlib.TopologicalSorter(IMPORTS).prepare()


def full_name(file):
    name = ".".join(("mimachine", *file.relative_to(PACKAGE).with_suffix("").parts))
    return name.removesuffix(".__init__")


def dependencies(file, modules):
    """Modules that a file imports; of `from package import name` the module `package.name`."""
    names = set()
    for node in walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = origin(node, package_of(file))
            inner = {f"{start}.{alias.name}" for alias in node.names} & modules
            names |= inner or {start}
    return names & modules


def test_modules_import_each_other_one_way():
    modules = {full_name(file) for file in sources()}
    graph = {full_name(file): dependencies(file, modules) for file in sources()}
    assert "mimachine.model.objectives" in graph["mimachine.model.loss"]
    graphlib.TopologicalSorter(graph).prepare()  # An error names the modules of a circle.


def test_no_folder_and_no_file_grows_too_large():
    assert len(list(PACKAGE.glob("[!_]*"))) <= 13
    for folder in {file.parent for file in sources()}:
        assert len(list(folder.glob("*.py"))) <= 20, folder
    for file in sources():
        assert len(file.read_text().splitlines()) <= 500, file


def test_imports_in_every_form_are_seen():
    code = """
import mimachine.first as f
import mimachine as mm
from mimachine import second, third as t, __version__
from mimachine.fourth.inner import name
from . import fifth
from .sixth import name
if TYPE_CHECKING:
    from mimachine.unseen import name
def late():
    import mimachine.seventh.inner
    import torch
    mm.Warmup(mm.__version__)
"""
    expected = {"first", "second", "third", "fourth", "fifth", "sixth", "seventh", "training"}
    assert imported_modules(ast.parse(code)) == expected
    assert imported_modules(ast.parse("from .. import first"), "mimachine.paper") == {"first"}


@pytest.mark.parametrize("name", sorted(HOME))
def test_every_public_name_is_the_object_of_its_module(name):
    value = getattr(mimachine, name)
    module = f"mimachine.{HOME[name]}"
    assert value is getattr(sys.modules[module], name)
    if isinstance(value, type):
        assert value.__module__ == module
    assert name in dir(mimachine)
    assert name in mimachine.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="mim_loss"):
        _ = mimachine.mim_loss


@pytest.mark.parametrize(
    "module",
    [
        "mimachine",
        "mimachine._support.messages",
        "mimachine._support.files",
        "mimachine._support.outputs",
        "mimachine._support.streams",
        "mimachine.model.annealing",
        "mimachine.training.recipe",
        "mimachine.data.catalogue",
        "mimachine.data.downloads",
        "mimachine.data.preprocessing",
        "mimachine.data.files.read_table",
        "mimachine.data.files.image_folder",
        "mimachine.experiment.presets",
        "mimachine.workflow.destinations",
        "mimachine.workflow.inspect_run",
        "mimachine.cli.entry",
    ],
)
def test_importing_a_light_module_does_not_load_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


SEEDING = {
    "torch.manual_seed",
    "torch.seed",
    "torch.random.manual_seed",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.set_rng_state",
    "torch.random.set_rng_state",
    "np.random.seed",
    "numpy.random.seed",
    "np.random.set_state",
    "random.seed",
    "seed_everything",
}


def seeding_calls(tree):
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [ast.unparse(call.func) for call in calls]
    return [name for name in names if name in SEEDING or name.endswith(".seed_everything")]


@pytest.mark.parametrize("file", sources(), ids=identify)
def test_library_code_never_seeds_a_global_generator(file):
    tree = ast.parse(file.read_text())
    # Only the function that users call to seed them does.
    for node in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
        if file.name == "seeds.py" and node.name == "seed_everything":
            assert len(seeding_calls(node)) == 3
            node.body = []
    assert not seeding_calls(tree)


def test_seeding_is_seen():
    code = "torch.manual_seed(0); np.random.seed(1); lightning_fabric.seed_everything(2)"
    assert len(seeding_calls(ast.parse(code))) == 3
    assert not seeding_calls(ast.parse("generator.manual_seed(0); torch.Generator().seed()"))
