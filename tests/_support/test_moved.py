"""Module paths and names of version 0.1 still work, and warn where the caller stands."""

import importlib
import subprocess
import sys
import warnings

import pytest

import mimachine as mm
from mimachine._support.moved import MODULES, NAMES, RENAMED


@pytest.mark.parametrize("old", MODULES)
def test_an_old_module_gives_the_names_of_its_new_homes(old):
    sys.modules.pop(f"mimachine.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"mimachine.{old} has moved to mimachine."):
        module = importlib.import_module(f"mimachine.{old}")
    for home in MODULES[old]:
        new = importlib.import_module(f"mimachine.{home}")
        for name in new.__all__:
            assert hasattr(module, name)
    for name in (*RENAMED.get(old, {}), *module.__all__):
        assert hasattr(module, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("name", NAMES)
def test_an_old_name_is_the_object_of_its_module(name):
    with pytest.warns(DeprecationWarning, match=f"mm.{name} has moved to mimachine.{NAMES[name]}"):
        value = getattr(mm, name)
    assert value is getattr(importlib.import_module(f"mimachine.{NAMES[name]}"), name)
    assert name not in mm.__all__


def forget(*old):
    for name in old:
        sys.modules.pop(f"mimachine.{name}", None)
        vars(mm).pop(name, None)


def test_all_names_of_an_old_module_are_imported_by_a_star():
    forget("joint")
    names = {}
    with pytest.warns(DeprecationWarning, match=r"mimachine\.joint has moved"):
        exec("from mimachine.joint import *", names)
    assert names["Joint"] is mm.Joint


def test_an_old_package_is_one_object_with_its_modules():
    forget("tables", "tables.text")
    with pytest.warns(DeprecationWarning, match=r"mimachine\.tables has moved"):
        package = mm.tables
    with pytest.warns(DeprecationWarning, match=r"mimachine\.tables\.text has moved"):
        from mimachine.tables.text import read_text
    assert read_text.__module__ == "mimachine.data.files.csv_file"
    assert sys.modules["mimachine.tables"] is package


def test_no_moved_module_hides_one_that_exists():
    for old in MODULES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.modules.pop(f"mimachine.{old}", None)
            assert type(importlib.import_module(f"mimachine.{old}")).__name__ == "_Moved"


def test_the_warning_points_at_the_line_of_the_caller(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import mimachine as mm\nfrom mimachine.joint import Joint\nmm.Codes\n")
    done = subprocess.run(
        [sys.executable, "-W", "always", script], capture_output=True, text=True, check=True
    )
    for line in (2, 3):
        assert f"script.py:{line}: DeprecationWarning" in done.stderr
