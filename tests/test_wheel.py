"""The built wheel holds all that the package needs, and marks it as typed."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    subprocess.run([*command, ROOT], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_holds_every_file_of_the_package(unpacked):
    tracked = subprocess.run(
        ["git", "ls-files", "mimachine"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    missing = [name for name in tracked.stdout.split() if not (unpacked / name).is_file()]
    assert not missing
    assert (unpacked / "mimachine" / "py.typed").is_file()


def test_the_wheel_works_by_itself(unpacked, tmp_path):
    code = (
        "import mimachine as mm; from mimachine.reporting import page;"
        "from mimachine.paper import reference;"
        f"assert mm.__file__.startswith({str(unpacked)!r}), mm.__file__;"
        "assert mm.Training and 'fit' in mm.__all__;"
        "assert len(mm.datasets.digits().train) == 1257"
    )
    environment = {"PYTHONPATH": str(unpacked), "PATH": ""}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
