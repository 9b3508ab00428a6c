"""The malformed tables are what they say they are."""

import gzip

import pytest
from tables.malformed import malformed
from tables.malformed.case import rows, text

CASES = list(malformed())


def test_there_are_over_two_hundred_cases_with_names_of_their_own():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) > 200


def test_cases_that_must_fail_may_not_all_be_told_by_their_emptiness():
    contents = {case.content() for case in CASES if case.is_file and case.error}
    assert len(contents) > 50
    plain = text(rows()).encode()
    assert plain not in {case.content() for case in CASES if case.error and case.suffix == ".csv"}


def test_a_file_is_written_with_its_suffix(tmp_path):
    case = next(case for case in CASES if case.name == "compressed")
    path = case.write(tmp_path)
    assert path.name == "table.csv.gz"
    assert gzip.decompress(path.read_bytes()) == text(rows()).encode()


@pytest.mark.parametrize("case", [case for case in CASES if not case.is_file], ids=lambda c: c.name)
def test_a_frame_can_be_made_twice(case):
    first, second = case.content(), case.content()
    assert type(first) is type(second)
