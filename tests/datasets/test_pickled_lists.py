from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from tiltmeter.datasets.pickled_lists import lines_of_part, read
from tiltmeter.errors import UserError


def test_lists_of_texts_numbers_and_numpy_scalars_come_out_as_they_went_in():
    rows = [[["Wer?\n(a) Ähren", 1, "x"], [np.str_("(b) ’s"), np.int64(-3), 70_000]], [["q", 2, 5]]]
    content = pickle.dumps(rows, protocol=4)
    content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray").replace(
        b"\x8c\x16numpy.core", b"\x8c\x15numpy.core"
    )  # numpy 2 writes another module name than the published files have
    assert read(content) == [[["Wer?\n(a) Ähren", 1, "x"], ["(b) ’s", -3, 70_000]], [["q", 2, 5]]]
    lines = lines_of_part(content, 1).decode().splitlines()
    assert [json.loads(line) for line in lines] == [["q", 2, 5]]


class Calls:
    def __reduce__(self):
        return print, ("this must never run",)


@pytest.mark.parametrize("value", [[[Calls()]], [[np.random.default_rng]], [[{1: 2}]], 7, [1]])
def test_nothing_in_a_file_is_imported_or_called(value, capsys):
    with pytest.raises(UserError, match="no pickled list"):
        lines_of_part(pickle.dumps(value, protocol=4), 0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([[["a", 1, 2]]], protocol=4)[:-4]])
def test_a_broken_file_is_a_users_error(content):
    with pytest.raises(UserError):
        lines_of_part(content, 0)
