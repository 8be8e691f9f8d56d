import json

import pytest

from tiltmeter.benchmarks.base import Item
from tiltmeter.errors import UserError
from tiltmeter.runs.inputs import request_from_dict, request_to_dict
from tiltmeter.runs.store import Cell, CellId, Store, write_json
from tiltmeter.scoring.requests import (
    Generation,
    GenerationAnswer,
    OptionAnswer,
    OptionProbs,
    SequenceAnswer,
    SequenceLogprob,
    answer_from_dict,
    answer_to_dict,
)

ID = CellId(
    model="m",
    strategy="int8",
    settings={"int8": {}},
    format="plain",
    decoding="greedy",
    benchmark="crows-pairs",
    weight_hash="abc",
    inputs="",
    dtype="float32",
    n_samples=1,
    partial=False,
)


def cell_id(**changes):
    return CellId(**{**ID.__dict__, **changes})


def test_requests_and_answers_survive_json():
    for request in (
        SequenceLogprob("a\u2028b"),
        OptionProbs("p", (("A", " A"), ("B",))),
        Generation("p", 5, 1.0, 1.0, 7),
    ):
        assert request_from_dict(json.loads(json.dumps(request_to_dict(request)))) == request
    for answer in (
        SequenceAnswer(-1.5, 3),
        OptionAnswer(((-1.0, None), (-2.0,)), 4),
        SequenceAnswer(None, 0, "too long"),
        GenerationAnswer("x</s>", "x", 2, "eos"),
    ):
        assert answer_from_dict(json.loads(json.dumps(answer_to_dict(answer)))) == answer


def test_cells_are_keyed_by_weights_and_settings_never_by_the_models_name():
    assert cell_id(model="other name").key == ID.key
    for change in (
        {"weight_hash": "abd"},
        {"strategy": "int4"},
        {"settings": {"int8": {"threshold": 5.0}}},
        {"inputs": "other"},
        {"dtype": "bfloat16"},
        {"format": "chat"},
    ):
        assert cell_id(**change).key != ID.key, change


def test_a_torn_last_line_is_cut_off_and_its_batch_counts_as_unanswered(tmp_path):
    cell = Cell(tmp_path, ID)
    cell.start()
    cell.commit([(0, SequenceAnswer(-1.0, 2))], seconds=0.1, tokens=3, notes=[])
    with cell.answers_path.open("a") as out:
        out.write('{"rows": [[1, {"kind": "sequ')  # what a kill leaves
    assert [batch["rows"][0][0] for batch in cell.batches()] == [0]
    cell.start()
    cell.commit([(1, SequenceAnswer(-2.0, 2))], seconds=0.1, tokens=3, notes=[])
    assert cell.answers() == [SequenceAnswer(-1.0, 2), SequenceAnswer(-2.0, 2)]


def test_answers_of_an_unfinished_cell_are_refused(tmp_path):
    cell = Cell(tmp_path, ID)
    cell.start()
    cell.commit([(1, SequenceAnswer(-1.0, 2))], seconds=0.1, tokens=3, notes=[])
    with pytest.raises(ValueError, match="not finished"):
        cell.answers()


def test_inputs_come_back_as_they_were_written(tmp_path):
    item = Item(id="1", cluster="c", groups={"age": "20"}, data={"truth": 1.5}, variation="v", counted=False)
    with Store(tmp_path / "run") as store:
        name = store.write_inputs([(item, (SequenceLogprob("a"), SequenceLogprob("b")))])
        cell = Cell(store.path, cell_id(inputs=name))
        assert list(cell.inputs) == [(item, (SequenceLogprob("a"), SequenceLogprob("b")))]


def test_a_second_process_on_the_same_run_is_refused(tmp_path):
    with Store(tmp_path), pytest.raises(UserError, match="another tiltmeter process"), Store(tmp_path):
        pass


def test_an_unwritable_run_folder_is_a_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the run folder"), Store(tmp_path / "file" / "run"):
        pass


def test_json_files_appear_whole_or_not_at_all(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
