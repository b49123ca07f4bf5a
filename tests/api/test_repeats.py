"""The cases in `repeats.txt` are cases of tests that exist, and others of the same test or file stay."""

import pathlib
import re

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
LINES = (TESTS / "repeats.txt").read_text(encoding="utf-8").splitlines()
REPEATS = [line for line in LINES if not line.startswith("#")]


def test_each_is_named_once_and_in_order() -> None:
    assert sorted(set(REPEATS)) == REPEATS


@pytest.mark.parametrize("case", REPEATS)
def test_its_test_exists(case: str) -> None:
    path, name = case.split("::")
    source = (TESTS / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {re.escape(name.split('[')[0])}\(", source, re.MULTILINE)
