"""Files that a user may have made are never lost; those that were written before are replaced."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from mimachine._support.files import PARTIAL
from mimachine._support.outputs import RECORD, Outputs


@pytest.fixture
def outputs(tmp_path):
    (tmp_path / "run").mkdir()
    return Outputs(tmp_path / "run")


def write(outputs, file, text="new"):
    with outputs.replacing(file) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize("name", ["a.csv", "new/er/a.csv", "run/a.csv", "ä" * 120 + ".csv"])
def test_what_was_written_is_written_again_until_somebody_changes_it(tmp_path, outputs, name):
    file = tmp_path / name
    for text in ("first", "second", "second"):
        write(outputs, file, text)
        assert file.read_text() == text
    file.write_text("edited")
    with pytest.raises(ValueError, match="already exists, and mimachine did not write it"):
        write(outputs, file, "third")
    assert file.read_text() == "edited"
    assert not list(tmp_path.rglob(f"*{PARTIAL}"))


def test_a_file_that_was_not_written_is_replaced_only_by_force(tmp_path, outputs):
    file = tmp_path / "mine.csv"
    file.write_text("mine")
    with pytest.raises(ValueError, match="overwrite it with force=True") as caught:
        write(outputs, file)
    assert caught.value.with_flags.endswith("--force")
    with pytest.raises(ValueError, match=r"choose another file$"):
        write(Outputs(force=None), file)
    assert file.read_text() == "mine"
    write(Outputs(outputs.record, force=True), file)
    write(outputs, file, "again")
    assert file.read_text() == "again"


def test_a_file_of_a_version_without_a_record_keeps_its_content_under_another_name(tmp_path):
    said = []
    outputs = Outputs(tmp_path, is_own=lambda file: True, say=said.append)
    file = tmp_path / "a.html"
    (tmp_path / "a.html.old").write_text("older")
    file.write_text("edited")
    for text in ("first", "second"):
        write(outputs, file, text)
        assert file.read_text() == text
    assert (tmp_path / "a.html.old").read_text() == "older"
    assert (tmp_path / "a.html.old-2").read_text() == "edited"
    (message,) = said
    assert message.startswith("kept a.html of an earlier version")
    # Nothing is lost if the content is the same, or if the user said so.
    for name, force in (("b.html", False), ("c.html", True)):
        (tmp_path / name).write_text("new")
        write(Outputs(tmp_path, is_own=lambda file: True, force=force), tmp_path / name)
    assert len(list(tmp_path.glob("*.old*"))) == 2


def test_a_file_system_without_links_keeps_the_content_too(tmp_path, monkeypatch):
    def no_links(*paths):
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "a.html").write_text("edited")
    write(Outputs(tmp_path, is_own=lambda file: True), tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text() == "new"
    assert (tmp_path / "a.html.old").read_text() == "edited"


def test_an_input_is_not_replaced_by_force(tmp_path):
    outputs = Outputs(input_at=lambda file: "the data", is_own=lambda file: True, force=True)
    with pytest.raises(ValueError, match="out must be another file than the data"):
        write(outputs, tmp_path / "x.csv")
    assert not list(tmp_path.iterdir())


def test_a_copy_is_not_taken_for_the_file_that_was_written(tmp_path, outputs):
    write(outputs, tmp_path / "a.csv")
    shutil.copy(tmp_path / "a.csv", tmp_path / "precious.csv")
    with pytest.raises(ValueError, match="precious"):
        write(outputs, tmp_path / "precious.csv")


def test_the_record_knows_other_spellings_and_a_moved_run(tmp_path, outputs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(outputs, tmp_path / "a.csv")
    (tmp_path / "link").symlink_to(tmp_path)
    for spelling in ("a.csv", "./run/../a.csv", "link/a.csv"):
        write(outputs, tmp_path / spelling, spelling)
    write(outputs, tmp_path / "run/b.csv")
    os.rename("run", "moved")
    write(Outputs(tmp_path / "moved"), tmp_path / "moved/b.csv", "again")
    write(Outputs(tmp_path / "moved"), tmp_path / "a.csv", "again")


def test_links_of_the_user_are_kept(tmp_path, outputs):
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link.csv").symlink_to(tmp_path / "there")
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "nowhere")
    for name in ("link.csv", "dangling.csv"):
        with pytest.raises(ValueError, match="already exists"):
            write(outputs, tmp_path / name)
        assert (tmp_path / name).is_symlink()


def test_a_file_that_appears_during_the_writing_is_kept(tmp_path, outputs):
    file = tmp_path / "a.csv"

    def write_late():
        with outputs.replacing(file) as temporary:
            temporary.write_text("late")
            file.write_text("somebody else's")

    with pytest.raises(ValueError, match="already exists"):
        write_late()
    assert file.read_text() == "somebody else's"
    assert {p.name for p in tmp_path.iterdir()} == {"run", "a.csv"}


def test_a_file_system_without_links_gets_the_file_too(tmp_path, outputs, monkeypatch):
    def fail(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    write(outputs, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "new"


def test_a_failure_in_the_middle_leaves_the_old_file_or_none(tmp_path, outputs):
    write(outputs, tmp_path / "old.csv", "old")

    def interrupt(file):
        with outputs.replacing(file) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    for name in ("old.csv", "new.csv"):
        with pytest.raises(KeyboardInterrupt):
            interrupt(tmp_path / name)
    assert {p.name for p in tmp_path.iterdir()} == {"run", "old.csv"}
    write(outputs, tmp_path / "old.csv")


@pytest.mark.parametrize("damage", [b"", b"{", b'[1]\n"x"\n{"file": 3}\n\xff\n', b"9" * 5000])
def test_a_damaged_record_is_used_as_far_as_it_goes(tmp_path, outputs, damage):
    write(outputs, tmp_path / "a.csv")
    with (outputs.record / RECORD).open("ab") as record:
        record.write(damage)
    write(outputs, tmp_path / "a.csv", "b")
    write(outputs, tmp_path / "b.csv")
    write(outputs, tmp_path / "b.csv", "c")


def test_results_do_not_need_a_record(tmp_path):
    (tmp_path / "file").write_text("")
    outputs = Outputs(tmp_path / "file" / "run")
    write(outputs, tmp_path / "a.csv")
    with pytest.raises(ValueError, match="already exists"):
        write(outputs, tmp_path / "a.csv")


def test_places_that_cannot_be_written_are_found_before(tmp_path, outputs):
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe.csv")
    cases = {
        ".": "must be a file, got the directory",
        "run": "must be a file, got the directory",
        "pipe.csv": "must be a regular file",
        "file/a.csv": "file is not a directory",
        "file/deep/a.csv": "file is not a directory",
        "a" * 256 + ".csv": "name too long",
        "new/" + "a" * 256 + "/a.csv": "name too long",
    }
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        cases |= {"closed/a.csv": "is not writable", "closed/new/a.csv": "is not writable"}
    if Path("/proc/self").exists():
        cases["/proc/a.csv"] = "is not writable"
    for name, message in cases.items():
        with pytest.raises((OSError, ValueError), match=message):
            outputs.check(tmp_path / name)
    outputs.check(tmp_path / "new/er/a.csv")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "put", [os.mkfifo, os.mkdir, lambda record: os.symlink("/dev/zero", record)]
)
def test_a_record_that_is_no_file_is_neither_read_nor_written(tmp_path, outputs, put):
    put(tmp_path / "run" / RECORD)
    write(outputs, tmp_path / "a.csv")
    with pytest.raises(ValueError, match="already exists"):
        write(outputs, tmp_path / "a.csv")
