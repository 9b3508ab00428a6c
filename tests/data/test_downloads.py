import gzip
import hashlib
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from localdata import HERE

from mimachine.data import downloads
from mimachine.data.downloads import FILES, DataFile, find, located, places, read_files

CONTENT = b"what the file should hold\n" * 40
NOBODY = "http://127.0.0.1:9"

# Leading digits of sha256, and md5, of the decompressed files, as published elsewhere.
PREFIXES = {
    "mnist": ("ba891046e6505d7a", "65a50cbbf4e906d7", "0fa7898d509279e4", "ff7bcfd416de3373"),
    "fashion-mnist": (
        "c59f468a2f672dc8",
        "bad3541b69d91243",
        "5b4141f0afbad91e",
        "0402a96d92fd2663",
    ),
}


MD5 = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion-mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
    "omniglot-small": ("e704a628b5459e08445c13499850abc4", "b75a71a51d3b13f821f212756fe481fd"),
}


def sha256(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def data_file(*mirrors, name="values", content=CONTENT):
    return DataFile("things", name, sha256(content), mirrors)


def files_below(path):
    return sorted(file for file in path.rglob("*") if file.is_file())


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache for the test, and no other directory set."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MIMACHINE_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "mimachine"


@contextmanager
def serving(answers):
    """A local server: status, parts of the body and their length for each path."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, body, length = answers[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            for part in body:
                self.wfile.write(part)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def answer(body, status=200):
    return status, [body], len(body)


def test_every_registered_file_has_a_whole_digest_and_mirrors_that_name_it():
    lengths = {"sha256": 64, "git": 40}
    for name, files in FILES.items():
        assert len({(file.folder, file.name) for file in files}) == len(files), name
        for file in files:
            kind, _, digits = file.digest.partition(":")
            assert len(digits) == lengths[kind]
            assert int(digits, 16)
            assert len(file.mirrors) >= 2
            for address in file.mirrors:
                assert address.rpartition("/")[2].removesuffix(".gz") == file.name
    for name, prefixes in PREFIXES.items():
        digests = [file.digest.removeprefix("sha256:") for file in FILES[name]]
        assert tuple(digest[:16] for digest in digests) == prefixes


def test_neither_torch_nor_numpy_is_loaded_to_look_for_files():
    code = (
        "import sys; from mimachine.data.downloads import located; located(); "
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_id_is_the_one_that_git_gives():
    # `printf '' | git hash-object --stdin`, and of "hello\n".
    assert downloads._hash(b"", "git") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert downloads._hash(b"hello\n", "git") == "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.mark.parametrize("compressed", [False, True])
def test_content_is_the_same_however_the_file_is_compressed(tmp_path, compressed):
    for level in (1, 9) if compressed else (0,):
        path = tmp_path / ("values.gz" if compressed else "values")
        path.write_bytes(gzip.compress(CONTENT, level) if compressed else CONTENT)
        assert read_files([data_file()], tmp_path) == {"values": CONTENT}


def test_places_are_searched_in_order(tmp_path, monkeypatch, cache):
    argument, variable = tmp_path / "argument", tmp_path / "variable"
    order = []
    for place in (argument / "things", argument, variable / "things", variable, cache / "things"):
        place.mkdir(parents=True, exist_ok=True)
        order += [place / "values", place / "values.gz"]
    for path in order:
        path.write_bytes(CONTENT)
    monkeypatch.setenv("MIMACHINE_DATA", str(variable))
    for path in order:
        assert find(data_file(), argument) == path
        path.unlink()
    assert find(data_file(), argument) is None
    system = downloads.DEBIAN / "things"
    assert places("things", argument) == [
        argument / "things",
        argument,
        variable / "things",
        variable,
        system,
        cache / "things",
    ]
    monkeypatch.setenv("MIMACHINE_DATA", "")
    assert places("things") == [system, cache / "things"]


def test_a_folder_that_is_not_there_is_an_error_and_not_passed_over(tmp_path, monkeypatch):
    with pytest.raises(
        NotADirectoryError, match=r"data_dir must be an existing directory.*'.*none'"
    ):
        read_files([data_file()], tmp_path / "none")
    monkeypatch.setenv("MIMACHINE_DATA", str(tmp_path / "gone"))
    with pytest.raises(NotADirectoryError, match=r"MIMACHINE_DATA must be an existing .*gone'"):
        located()


def test_other_content_is_an_error_even_where_a_later_place_is_right(tmp_path, cache):
    mine = tmp_path / "mine"
    mine.mkdir()
    (cache / "things").mkdir(parents=True)
    (cache / "things" / "values").write_bytes(CONTENT)
    (mine / "values.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(ValueError, match="is not values of things") as caught:
        read_files([data_file()], mine)
    message = str(caught.value)
    assert str(mine / "values.gz") in message
    assert data_file().digest.removeprefix("sha256:") in message
    assert hashlib.sha256(b"something else").hexdigest() in message
    assert read_files([data_file()]) == {"values": CONTENT}


def test_a_damaged_file_in_the_cache_is_named_with_what_to_do(cache):
    (cache / "things").mkdir(parents=True)
    (cache / "things" / "values").write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r"things/values is not.*; remove it to have it downl"):
        read_files([data_file(f"{NOBODY}/values")])


@pytest.mark.parametrize(
    "damaged",
    [
        gzip.compress(CONTENT)[:-12],
        b"",
        CONTENT,
        gzip.compress(CONTENT)[:12] + b"\xff" * 20 + gzip.compress(CONTENT)[32:],
    ],
    ids=["cut off", "empty", "not compressed", "overwritten"],
)
def test_a_damaged_gzip_file_is_named(tmp_path, damaged):
    (tmp_path / "values.gz").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"values\.gz is not"):
        read_files([data_file()], tmp_path)


def test_every_file_here_is_verified_before_any_is_downloaded(tmp_path):
    (tmp_path / "values").write_bytes(b"something else")
    with serving({"/more": answer(CONTENT)}) as (site, asked):
        files = [data_file(f"{site}/more", name="more"), data_file()]
        with pytest.raises(ValueError, match="is not values of things"):
            read_files(files, tmp_path)
    assert not asked


@pytest.mark.parametrize("compressed", [False, True])
def test_a_download_is_kept_and_is_not_repeated(cache, compressed):
    name = "values.gz" if compressed else "values"
    sent = gzip.compress(CONTENT) if compressed else CONTENT
    with serving({f"/{name}": answer(sent)}) as (site, asked):
        file = data_file(f"{site}/{name}")
        assert read_files([file]) == {"values": CONTENT}
        assert read_files([file]) == {"values": CONTENT}
        assert asked == [f"/{name}"]
    assert files_below(cache) == [cache / "things" / name]
    assert (cache / "things" / name).read_bytes() == sent
    assert read_files([file]) == {"values": CONTENT}


@pytest.mark.parametrize(
    "bad",
    [
        answer(b"<html>sign in here</html>"),
        answer(gzip.compress(b"something else")),
        answer(b"not there", status=404),
        answer(b"ill", status=503),
        (200, [gzip.compress(CONTENT)[:30]], len(gzip.compress(CONTENT))),
    ],
    ids=["page", "other", "404", "503", "cut off"],
)
def test_the_next_mirror_is_tried_and_nothing_of_the_bad_one_stays(cache, bad):
    good = answer(gzip.compress(CONTENT))
    with serving({"/bad.gz": bad, "/good.gz": good}) as (site, asked):
        with pytest.raises(FileNotFoundError, match=r"/bad\.gz: "):
            read_files([data_file(f"{site}/bad.gz")])
        assert not files_below(cache)
        file = data_file(f"{NOBODY}/values.gz", f"{site}/bad.gz", f"{site}/good.gz")
        assert read_files([file]) == {"values": CONTENT}
        assert asked == ["/bad.gz", "/bad.gz", "/good.gz"]
    assert files_below(cache) == [cache / "things" / "values.gz"]


def test_a_download_has_no_name_before_it_is_whole(cache):
    names = []

    def body():
        yield CONTENT[:100]
        # Wait until the client has written the first part.
        for _ in range(500):
            if names:
                break
            time.sleep(0.01)
            names.extend(file.name for file in files_below(cache))
        yield CONTENT[100:]

    with serving({"/values": (200, body(), len(CONTENT))}) as (site, _):
        assert read_files([data_file(f"{site}/values")]) == {"values": CONTENT}
    assert len(names) == 1
    assert names != ["values"]
    assert files_below(cache) == [cache / "things" / "values"]


def test_a_failed_download_leaves_an_earlier_file_as_it_was(cache):
    """Also a file that another process wrote in the meantime."""
    (cache / "things").mkdir(parents=True)
    (cache / "things" / "values").write_bytes(CONTENT)
    with serving({"/values": answer(b"something else")}) as (site, _):
        file = data_file(f"{site}/values")
        with pytest.raises(ValueError, match="the download is not values of things"):
            downloads._download(file, f"{site}/values", 5.0)
    assert files_below(cache) == [cache / "things" / "values"]
    assert read_files([file]) == {"values": CONTENT}


def test_a_mirror_that_is_silent_is_given_up(cache):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        file = data_file(f"http://127.0.0.1:{silent.getsockname()[1]}/values")
        with pytest.raises(FileNotFoundError, match="timed out"):
            read_files([file], timeout=0.1)
    assert not files_below(cache)


def test_without_network_it_says_what_is_missing_and_where_it_should_go(tmp_path, cache):
    (tmp_path / "here").write_bytes(CONTENT)
    files = [
        data_file(name="here"),
        data_file(f"{NOBODY}/one.gz", name="one"),
        data_file(f"{NOBODY}/two.gz", name="two"),
    ]
    with pytest.raises(FileNotFoundError, match=r"things lacks one, two: not found in") as caught:
        read_files(files, tmp_path)
    message = str(caught.value)
    for place in (*places("things", tmp_path), f"{NOBODY}/one.gz", "data_dir", "MIMACHINE_DATA"):
        assert str(place) in message
    assert str(cache / "things") in message.partition("Put the files")[2]
    with pytest.raises(FileNotFoundError, match="no mirror"):
        read_files([data_file()])


def test_what_came_before_a_failure_is_kept_and_no_longer_asked_for(cache):
    with serving({"/one": answer(CONTENT), "/two": answer(b"", 404)}) as (site, asked):
        files = [data_file(f"{site}/{name}", name=name) for name in ("one", "two")]
        for _ in range(2):
            with pytest.raises(FileNotFoundError, match="lacks two: "):
                read_files(files)
        assert asked == ["/one", "/two", "/two"]


def test_a_cache_that_cannot_be_written_is_an_error_that_says_so(cache):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    with (
        serving({"/values": answer(CONTENT)}) as (site, _),
        pytest.raises(FileNotFoundError, match=r"download failed.*cache"),
    ):
        read_files([data_file(f"{site}/values")])


def test_listing_finds_files_by_name_without_reading_or_downloading(tmp_path, cache):
    (tmp_path / "mnist").mkdir()
    labels = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(b"not looked at")
    (tmp_path / "chardata.mat").write_bytes(b"nor this")
    rows = located(tmp_path)
    names = [(data, file.name) for data, files in FILES.items() for file in files]
    assert [(data, name) for data, name, _ in rows] == names
    found = {(data, name): path for data, name, path in rows}
    assert found["mnist", "t10k-labels-idx1-ubyte"] == labels
    assert found["mnist", "train-images-idx3-ubyte"] is None
    assert found["omniglot", "chardata.mat"] == tmp_path / "chardata.mat"
    assert not cache.exists()


@pytest.mark.parametrize("name", HERE)
def test_files_on_this_machine_are_those_of_the_registry(name, monkeypatch):
    monkeypatch.undo()
    files = [replace(file, mirrors=()) for file in FILES[name]]
    content = read_files(files)
    assert list(content) == [file.name for file in files]
    if name in MD5:
        digests = [hashlib.md5(data, usedforsecurity=False) for data in content.values()]
        assert tuple(digest.hexdigest() for digest in digests) == MD5[name]
