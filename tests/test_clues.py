"""Clues over a data set: what is asked, what is kept, and where they go."""

import json

import pytest
from unirs.trainers.clue_output import moved
from unirs.trainers.clues import Journal, WithClues, find_clues, question_key
from unirs.trainers.data_sets import DataError, Generated, OwnData
from unirs.trainers.recipe_data import make_data_set
from unirs.trainers.rows import items_of

from tests.tiny import picture, save_tiny_model
from unirs import PromptAugmenter

SETTINGS = {"base": "b"}


@pytest.fixture
def rows(tmp_path):
    """Singles, pairs and a sequence; two rows of one picture, one without, and one with a clue of its own."""
    (tmp_path / "pictures").mkdir()
    for seed in range(6):
        picture(seed, 40, 30).save(tmp_path / "pictures" / f"{seed}.png")
    shown = [[0], [1], [0, 1], [2], [3, 4, 5], [0], [4, 2], [3], [], [5]]
    written = [
        {
            "id": f"r{n}",
            "prompt": f"Question {n}?",
            "completion": "x",
            "images": [f"pictures/{one}.png" for one in files],
        }
        for n, files in enumerate(shown)
    ]
    written[9]["clue"] = "mine"
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in written))
    return path


@pytest.fixture
def augmenter(model, processor):
    return PromptAugmenter(model, processor, max_new_tokens=16)


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory):
    return save_tiny_model(processor, tmp_path_factory.mktemp("base") / "base")


def found_by(augmenter, rows, journal, batch_size=3, data=None):
    book = Journal(journal, SETTINGS)
    found = find_clues(data or OwnData(rows), augmenter, book, batch_size)
    book.close()
    return found


class Counting(PromptAugmenter):
    """Counts what the base model is asked; may be stopped before some question."""

    def __init__(self, augmenter, stop_before=None):
        vars(self).update(vars(augmenter))
        self.asked, self.stop_before = [], stop_before

    def ask(self, inputs):
        if len(self.asked) == self.stop_before:
            raise KeyboardInterrupt
        self.asked.append(len(inputs["input_ids"]))
        return super().ask(inputs)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_every_row_gets_the_clue_it_would_get_alone(rows, augmenter, tmp_path, batch_size):
    data = OwnData(rows)
    alone = [augmenter.clues([data.row(place)["messages"]])[0].text for place in range(len(data))]
    assert len(set(alone)) == 9  # rows 0 and 5 share their picture
    found = found_by(augmenter, rows, tmp_path / "journal", batch_size)
    assert [found[place].clue for place in range(10)] == alone
    assert [found[place].id for place in range(10)] == [f"r{n}" for n in range(10)]
    assert (alone[8], alone[9]) == (None, "mine")


def test_batches_are_always_full_so_that_arithmetic_is_the_same_wherever_a_run_stops(rows, augmenter, tmp_path):
    counting = Counting(augmenter)
    found_by(counting, rows, tmp_path / "journal", 3)
    assert counting.asked == [3] * 4  # four different singles, two pairs, a sequence


def test_rows_with_the_same_picture_are_asked_once(rows, augmenter, tmp_path):
    many = tmp_path / "many.jsonl"
    row = {"prompt": "?", "completion": "x", "images": ["pictures/0.png"]}
    many.write_text("".join(json.dumps({**row, "id": str(n)}) + "\n" for n in range(50)))
    counting = Counting(augmenter)
    found = found_by(counting, many, tmp_path / "journal", 4)
    assert counting.asked == [4]
    assert len({one.clue for one in found.values()}) == 1
    assert len(found) == 50


def stopped(augmenter, rows, journal):
    """A journal of a run that was stopped before its third batch."""
    with pytest.raises(KeyboardInterrupt):
        found_by(Counting(augmenter, stop_before=2), rows, journal, 2)
    kept = journal.read_bytes()
    assert kept.count(b"\n") > 3
    return kept


def test_stopped_run_goes_on_and_asks_nothing_twice(rows, augmenter, tmp_path):
    whole = found_by(augmenter, rows, tmp_path / "whole", 2)
    kept = stopped(augmenter, rows, tmp_path / "journal")
    (tmp_path / "journal").write_bytes(kept + b'{"row": 7, "id": "r7", "cl')  # cut in the middle of a line
    counting = Counting(augmenter)
    assert found_by(counting, rows, tmp_path / "journal", 2) == whole
    assert len(counting.asked) == 2
    lines = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    assert sorted(line["row"] for line in lines[1:]) == list(range(10))  # nothing lost, nothing doubled


def test_rows_that_were_changed_in_between_are_asked_again(rows, augmenter, tmp_path):
    stopped(augmenter, rows, tmp_path / "journal")
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    picture(77, 40, 30).save(tmp_path / "pictures" / "2.png")
    found = found_by(augmenter, rows, tmp_path / "journal", 2)
    assert found == found_by(augmenter, rows, tmp_path / "anew", 2)


def test_a_clue_of_the_users_own_that_was_mended_in_between_is_taken(rows, augmenter, tmp_path):
    """The journal knew the row, whatever its clue."""
    (tmp_path / "pictures" / "1.png").write_bytes(b"\x89PNG no picture")  # so that the journal stays
    assert found_by(augmenter, rows, tmp_path / "journal")[9].clue == "mine"
    rows.write_text(rows.read_text().replace('"mine"', '"better"'))
    assert found_by(augmenter, rows, tmp_path / "journal")[9].clue == "better"


def test_rows_that_were_removed_in_between_are_not_counted(rows, augmenter, tmp_path):
    found_by(augmenter, rows, tmp_path / "journal")
    rows.write_text(rows.read_text().splitlines()[0])
    counting, told = Counting(augmenter), []
    book = Journal(tmp_path / "journal", SETTINGS)
    found = find_clues(OwnData(rows), counting, book, 3, lambda done, total: told.append((done, total)))
    book.close()
    assert (list(found), counting.asked, set(told)) == ([0], [], {(1, 1)})


def test_unreadable_picture_costs_its_row_alone_and_is_asked_again(rows, augmenter, tmp_path):
    data = OwnData(rows)
    alone = augmenter.clues([data.row(0)["messages"]])[0].text
    (tmp_path / "pictures" / "1.png").write_bytes(b"\x89PNG no picture")
    found = found_by(augmenter, rows, tmp_path / "journal")
    assert found[0].clue == alone
    assert {place for place, one in found.items() if one.clue is None} == {1, 2, 8}
    assert "1.png" in found[1].failure
    picture(1, 40, 30).save(tmp_path / "pictures" / "1.png")
    mended = found_by(augmenter, rows, tmp_path / "journal")
    assert {place for place, one in mended.items() if one.clue is None} == {8}


def test_journal_of_other_settings_is_refused(tmp_path):
    Journal(tmp_path / "journal", {"base": "one", "num_frames": 4}).close()
    with pytest.raises(DataError, match="begun with base="):
        Journal(tmp_path / "journal", {"base": "two", "num_frames": 4})
    with pytest.raises(DataError, match="begun with num_frames=4, and now it is None"):
        Journal(tmp_path / "journal", {"base": "one"})


@pytest.mark.parametrize("mine", ["notes of mine", "notes of mine\n", "[1]\n"])
def test_file_that_is_no_journal_is_left_alone(tmp_path, mine):
    (tmp_path / "journal").write_text(mine)
    with pytest.raises(DataError, match="is no file of clues"):
        Journal(tmp_path / "journal", SETTINGS)
    assert (tmp_path / "journal").read_text() == mine


def test_two_runs_do_not_write_one_journal(tmp_path):
    first = Journal(tmp_path / "journal", SETTINGS)
    with pytest.raises(DataError, match="another run is writing it"):
        Journal(tmp_path / "journal", SETTINGS)
    first.close()
    Journal(tmp_path / "journal", SETTINGS).close()


def test_same_pictures_in_another_arrangement_are_another_question(augmenter, tmp_path):
    """One turn with a picture and a clip, and a turn for each."""
    for seed in range(4):
        picture(seed, 40, 30).save(tmp_path / f"{seed}.png")
    shown = [{"type": "image", "image": "0.png"}, {"type": "video", "video": ["1.png", "2.png", "3.png"]}]
    words = {"type": "text", "text": "?"}
    answer = {"role": "assistant", "content": "x"}
    one = [{"role": "user", "content": [*shown, words]}, answer]
    two = [message for item in shown for message in ({"role": "user", "content": [item, words]}, answer)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in (one, two)))
    data = OwnData(tmp_path / "rows.jsonl")
    alone = [augmenter.clues([data.row(place)["messages"]])[0].text for place in range(2)]
    assert alone[0] != alone[1]
    found = found_by(augmenter, None, tmp_path / "journal", 2, data)
    assert [found[place].clue for place in range(2)] == alone


def test_a_clip_and_a_dated_sequence_of_the_same_pictures_are_two_questions():
    """Of a clip some frames are shown, of a sequence all dates."""
    files, words = [f"{date}.png" for date in range(12)], {"type": "text", "text": "?"}
    dates = [{"type": "image", "image": file} for file in files]
    asked = ([{"type": "video", "video": files}], dates, dates[::-1], dates)
    keys = [question_key([{"role": "user", "content": [*shown, words]}]) for shown in asked]
    assert len(set(keys)) == 3
    assert keys[1] == keys[3]


# -- where clues go --------------------------------------------------------------------------------------------------
def test_table_of_a_named_data_set_is_joined_by_id(tmp_path, model, processor):
    augmenter = PromptAugmenter(model, processor)
    data = Generated("pair", count=2, size=28)
    found = find_clues(data, augmenter, Journal(tmp_path / "journal", SETTINGS), 2)
    from unirs.trainers.clue_output import write_table

    write_table(data, found, tmp_path / "clues.jsonl")
    entry = {"source": "generated", "kind": "pair", "count": 2, "size": 28, "clues": str(tmp_path / "clues.jsonl")}
    joined = make_data_set("pair", entry)
    for place in range(2):
        for repetition in (0, 3):  # another caption, the same clue
            row = joined.row(place, repetition)
            assert items_of(row["messages"], "clue") == [{"type": "clue", "text": found[place].clue}]
            plain = data.row(place, repetition)
            assert row["messages"][1] == plain["messages"][1]
    with pytest.raises(DataError, match="is no table of clues"):
        WithClues(data, tmp_path / "journal")


def test_clue_stands_in_the_last_turn_with_pictures_as_the_augmenter_puts_it(tmp_path):
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "a lake"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And here?"}]},
        {"role": "assistant", "content": "a road"},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "yes"},
    ]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": turns, "images": ["a.png", "b.png"], "clue": "c"}))
    messages = OwnData(tmp_path / "rows.jsonl").row(0)["messages"]
    assert [bool(items_of([message], "clue")) for message in messages] == [False, False, True, False, False, False]


def test_only_paths_of_pictures_are_told_from_another_folder(tmp_path):
    record = {
        "images": [
            "a.png",
            "/abs/b.png",
            "https://x/c.png",
            {"path": "d.png", "bytes": None},
            {"path": "e", "bytes": b"x"},
        ],
        "image": "a.png###b.png",
        "path": "mine",
        "messages": [{"role": "user", "content": [{"type": "video", "video": ["f.png"], "text": "g.png"}]}],
    }
    assert moved(record, tmp_path / "data", tmp_path / "data") == record
    assert moved(record, tmp_path / "data", tmp_path / "out") == {
        "images": [
            "../data/a.png", "/abs/b.png", "https://x/c.png",
            {"path": "../data/d.png", "bytes": None}, {"path": "e", "bytes": b"x"},
        ],
        "image": "../data/a.png###../data/b.png",
        "path": "mine",
        "messages": [{"role": "user", "content": [{"type": "video", "video": ["../data/f.png"], "text": "g.png"}]}],
    }  # fmt: skip
