"""`unirs predict` with rows that are wrong or that the model fails at, and with runs that are stopped."""

# ruff: noqa: F811 - tests take imported fixtures by their names

import errno
import json
import os
import sys
from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unirs.evaluation.asking import Asked
from unirs.evaluation.models import Said, UniRS
from unirs.trainers.data_sets import DataError

from tests.predicting import (  # noqa: F401 - fixtures
    COUNT,
    NEW_TOKENS,
    answers,
    expected,
    expected_answers,
    failing_at,
    folder,
    lines_of,
    predict,
    predict_until_killed,
    table,
    write_table,
)
from tests.tiny import picture
from unirs import cli_predict
from unirs.predicting.ledger import Ledger
from unirs.predicting.rows import TableRow
from unirs.predicting.running import LocalEngine, line_of

POISON = {
    b'{"question": "no picture"}': "names no picture",
    b'{"image": "missing.png", "question": "?"}': "missing.png: no such file",
    b'{"image": "text.png"}': "text.png: is none of PNG",
    b'{"image": "0_0.png", "before": "0_0.png"}': "names before and image",
    b'{"image": 7}': "a picture or clip is 7",
    b'{"image": "http://10.0.0.1/a.png"}': "download it first",
    b'{"image": "0_0.png", "question": 5}': "its question is 5",
    b'{"image": "0_0.png", "question": "\\ud800"}': "no valid UTF-8",
    b'{"image": "0_0.png"': "is no JSON",
    b"[1]": "is no JSON object",
    b"\xff\xfe": "is no JSON",
    b"[" * 100_000: "is no JSON",
    b'{"image": "\\ud800.png"}': "cannot be opened",
    b'{"image": "http://h/\\udce9"}': "download it first",
}


def test_poison_rows_become_error_rows_and_harm_no_other(predict, folder, tmp_path):
    table = write_table(tmp_path, 8)
    (tmp_path / "text.png").write_text("no picture")
    expected = expected_answers(table, folder)
    good = table.read_bytes().splitlines()
    mixed = [line for pair in zip(POISON, [*good, *good[:6]], strict=True) for line in pair]
    table.write_bytes(b"\n".join(mixed) + b"\n")
    code, out, err = predict(table, "out.jsonl", "--batch-size", 4)
    assert code == 0
    assert "14 rows have an error, row 1 first: names no picture" in err
    rows = lines_of(tmp_path / "out.jsonl")
    for row, reason in zip(rows[::2], POISON.values(), strict=True):
        assert reason in row["error"]
        assert (row["answer"], row["score"], row["seconds"]) == (None, None, None)
    assert answers(rows[1::2]) == [*expected, *expected[:6]]
    # mended, they are asked by the same command; the others are not
    table.write_bytes(b"\n".join(good[0] if line in POISON else line for line in mixed) + b"\n")
    code, out, err = predict(table, "out.jsonl", "--batch-size", 4, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["rows"], found["answered"], found["went_on_from"]) == (28, 28, 14)
    assert answers(lines_of(tmp_path / "out.jsonl")[::2]) == [expected[0]] * 14
    assert not (tmp_path / "out.jsonl.journal").exists()


def test_bad_lines_of_csv_are_told_and_the_next_ones_read(predict, tmp_path):
    picture(1).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_bytes(
        b'image,question\na.png,"good, and\nlong"\na.png\na.png,\xff\n\na.png,,\na.png,x\n'
    )
    assert predict("t.csv", "out.jsonl")[0] == 0
    errors = [row["error"] for row in lines_of(tmp_path / "out.jsonl")]
    assert errors[0] is errors[4] is None
    assert "has 1 cells, and the head has 2" in errors[1]
    assert "no valid UTF-8" in errors[2]
    assert "has 3 cells" in errors[3]


def test_a_quote_that_is_not_closed_makes_no_cell_of_the_lines_behind_it(predict, tmp_path):
    picture(1).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(
        'image,question\na.png,"fine"\na.png,"not" closed\na.png,fine\na.png,"open\na.png,x\n'
    )
    assert predict("t.csv", "out.jsonl")[0] == 0
    rows = lines_of(tmp_path / "out.jsonl")
    errors = [row["error"] for row in rows]
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5]
    assert errors[0] is errors[2] is errors[4] is None
    assert ["is no line of CSV" in (errors[place] or "") for place in (1, 3)] == [True, True]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_pictures_whose_names_are_no_utf8_are_answered(predict, tmp_path):
    """A folder of another encoding, and a table that names its files."""
    (tmp_path / "old").mkdir()
    names = [b"b\xe9ach.png", b"plain.png"]
    for number, name in enumerate(names):
        picture(number).save(tmp_path / "new.png")
        os.rename(tmp_path / "new.png", os.fsencode(tmp_path / "old") + b"/" + name)
    (tmp_path / "old.csv").write_bytes(b"image\nold/" + b"\nold/".join(names) + b"\n")
    for number, given in enumerate(("old", "old.csv")):
        code, _, err = predict(given, f"{number}.jsonl")
        assert (code, [row["error"] for row in lines_of(tmp_path / f"{number}.jsonl")]) == (0, [None, None]), err


def test_cells_of_parquet_that_are_no_text_harm_no_other_row(predict, tmp_path):
    picture(1).save(tmp_path / "a.png")
    words = pa.array([b"Fine?", b"\xff", b"Fine?"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"image": ["a.png"] * 3, "question": words}), tmp_path / "t.parquet")
    code, _, err = predict("t.parquet", "out.jsonl")
    errors = [row["error"] for row in lines_of(tmp_path / "out.jsonl")]
    assert (code, errors[0], errors[2]) == (0, None, None), err
    assert "cannot be read" in errors[1]


@pytest.mark.parametrize("change", ["grown", "shorter"])
def test_a_table_that_changes_during_the_run_loses_no_answer(predict, table, tmp_path, monkeypatch, change):
    """What is added is not asked, and what is missing is told: the same command then answers all that is there."""
    lines = table.read_text().splitlines(keepends=True)
    mine = tmp_path / "mine.jsonl"
    mine.write_text("".join(lines[:6]))
    ask = LocalEngine.answers

    def answers_then_changes(self, batches):
        mine.write_text("".join(lines[: 7 if change == "grown" else 5]))
        yield from ask(self, batches)

    monkeypatch.setattr(LocalEngine, "answers", answers_then_changes)
    code, _, err = predict(mine, "out.jsonl", "--images", table.parent)
    if change == "grown":
        assert (code, len(lines_of(tmp_path / "out.jsonl"))) == (0, 6), err
        return
    assert (code, err.strip().splitlines()[-1]) == (
        2,
        "unirs: row 6 was not there when it was to be asked: the table was changed; run it again",
    )
    monkeypatch.setattr(LocalEngine, "answers", ask)
    code, out, err = predict(mine, "out.jsonl", "--images", table.parent, "--json")
    assert (code, json.loads(out)["went_on_from"]) == (0, 5), err


def test_a_full_disk_is_told_and_the_run_goes_on(predict, table, expected, tmp_path, monkeypatch):
    add = Ledger.add

    def add_then_full(self, lines):
        add(self, lines)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add", add_then_full)
        code, out, err = predict(table, "out.jsonl", "--batch-size", 4)
    assert (code, out) == (2, "")
    assert (
        err
        == "unirs: out.jsonl.journal: no space is left on its disk; free some, and run the command again: it goes on\n"
    )
    code, out, err = predict(table, "out.jsonl", "--json")
    assert (code, json.loads(out)["went_on_from"]) == (0, 4), err
    assert answers(lines_of(tmp_path / "out.jsonl")) == expected


def test_an_output_that_is_a_link_stays_one_and_the_table_is_never_written(predict, table, tmp_path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out.jsonl").symlink_to(tmp_path / "large disk" / "rows.jsonl")
    assert predict(table, "out.jsonl")[0] == 0
    assert len(lines_of(tmp_path / "large disk" / "rows.jsonl")) == COUNT
    assert (tmp_path / "out.jsonl").is_symlink()
    (tmp_path / "link.jsonl").symlink_to(table)
    assert "is the table itself" in predict(table, "link.jsonl")[2]


def test_wrong_words_are_one_line(unirs, table, folder, tmp_path):
    (tmp_path / "there.jsonl").write_text("")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "no.csv").write_text("file,question\na.png,x\n")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    (tmp_path / "all.jsonl").write_text('{"image": "nowhere.png"}\n')
    for words, message in (
        ([table, "--output", "out.csv"], "ends in .jsonl or .parquet"),
        ([table, "--output", "there.jsonl"], "is there already"),
        ([table, "--output", "nowhere/out.jsonl"], "does not exist"),
        ([table, "--output", table], "is the table itself"),
        (["empty.jsonl", "--output", "out.jsonl"], "holds no rows"),
        (["no.csv", "--output", "out.jsonl"], "has the columns file, question"),
        (["cut.parquet", "--output", "out.jsonl"], "is no whole Parquet file"),
        (["nowhere.csv", "--output", "out.jsonl"], "no such file or folder"),
        (["s4://bucket/t.csv", "--output", "out.jsonl"], "check the beginning of the path"),
        ([tmp_path / "there.txt", "--output", "out.jsonl"], "no such file or folder"),
        (["all.jsonl", "--output", "out.jsonl", "--model", folder], "not one of 1 rows could be answered"),
        ([table, "--output", "out.jsonl", "--base", folder], "add --clue"),
        ([table, "--output", "out.jsonl", "--model", "nowhere"], "no such folder"),
        ([table, "--output", "out.jsonl", "--question", " "], "--question is empty"),
    ):
        code, out, err = unirs("predict", *words)
        assert (code, err.count("\n")) == (2, 1), (words, out, err)
        assert message in err


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: assert"), IndexError("index out of range")])
@pytest.mark.parametrize("place", ["prepare", "generate"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_row_that_the_model_fails_at_is_an_error_row(
    predict, table, expected, tmp_path, monkeypatch, error, place, batch_size
):
    """Any error but a lack of memory ended the run, and the next one met the same row again."""
    monkeypatch.setattr(UniRS, place, failing_at(getattr(UniRS, place), error, ["Question 5"]))
    code, out, err = predict(table, "out.jsonl", "--batch-size", batch_size)
    assert (code, out) == (0, f"{COUNT - 1} of {COUNT} rows have an answer: out.jsonl\n")
    assert "1 rows have an error, row 6 first: the model fails at it even alone" in err
    rows = lines_of(tmp_path / "out.jsonl")
    reason = f"{type(error).__name__}: {error}"
    assert rows[5]["error"] == f"the model fails at it even alone ({reason})"
    assert answers(rows) == [*expected[:5], None, *expected[6:]]


def test_rows_that_the_processor_takes_alone_but_not_together_are_asked_alone(
    predict, table, expected, tmp_path, monkeypatch
):
    prepare = UniRS.prepare

    def one_by_one(self, conversations, max_new_tokens):
        if len(conversations) > 1:
            raise ValueError("Unable to create tensor, you should probably activate padding")
        return prepare(self, conversations, max_new_tokens)

    monkeypatch.setattr(UniRS, "prepare", one_by_one)
    assert predict(table, "out.jsonl", "--batch-size", 4)[0] == 0
    assert answers(lines_of(tmp_path / "out.jsonl")) == expected


@pytest.mark.parametrize("batch_size", [1, 4])
def test_model_that_fails_at_one_row_after_another_ends_the_run_and_answers_are_kept(
    predict, table, expected, tmp_path, monkeypatch, batch_size
):
    """It is the machine then: to make an error row of each of a million would be no help."""
    asked = []
    broken = RuntimeError("CUDA error: the device is gone")

    def dying(self, prepared, max_new_tokens, generate=UniRS.generate):
        asked.append(prepared.prompts)
        if len(asked) > 1:
            raise broken
        return generate(self, prepared, max_new_tokens)

    with monkeypatch.context() as patched:
        patched.setattr(UniRS, "generate", dying)
        code, out, err = predict(table, "out.jsonl", "--batch-size", batch_size)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "failed 10 times in a row, each time at one row alone, the last time with RuntimeError: CUDA error" in err
    assert "the answers are kept" in err
    alone = [prompts for prompts in asked[1:] if len(prompts) == 1]
    assert len(alone) == 10
    known = lines_of(tmp_path / "out.jsonl.journal")[1:]
    assert sum(line["error"] is None for line in known) == len(asked[0])
    assert not (tmp_path / "out.jsonl").exists()
    code, out, _ = predict(table, "out.jsonl", "--json")
    assert (code, json.loads(out)["went_on_from"]) == (0, len(asked[0]))
    assert answers(lines_of(tmp_path / "out.jsonl")) == expected


def test_rows_answered_among_failing_ones_keep_the_run_alive(predict, table, expected, tmp_path, monkeypatch):
    bad = [number for number in range(COUNT) if number % 6]  # fifteen of eighteen
    words = [f"Question {number}" for number in bad]
    monkeypatch.setattr(UniRS, "generate", failing_at(UniRS.generate, RuntimeError("no"), words))
    assert predict(table, "out.jsonl", "--batch-size", 1)[0] == 0
    rows = lines_of(tmp_path / "out.jsonl")
    assert answers(rows) == [None if number in bad else expected[number] for number in range(COUNT)]


def test_killed_run_goes_on_with_nothing_lost_or_doubled(predict, table, expected, folder, tmp_path):
    words = [str(table), "--output", "out.jsonl", "--model", str(folder), "--max-new-tokens", str(NEW_TOKENS)]
    journal = tmp_path / "out.jsonl.journal"
    known = []
    for more in (2, 6):  # killed twice
        predict_until_killed([*words, "--batch-size", "1"], tmp_path, journal, 1 + len(known) + more)
        lines = journal.read_bytes().splitlines()[1:]
        assert lines[: len(known)] == known  # nothing is asked again
        known = lines
        assert not (tmp_path / "out.jsonl").exists()
        with journal.open("ab") as file:  # as a kill in the middle of a write leaves it
            file.write(lines[0][: len(lines[0]) // 2])
    code, out, err = predict(table, "out.jsonl", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["went_on_from"] == len(known)
    rows = lines_of(tmp_path / "out.jsonl")
    assert [row["row"] for row in rows] == list(range(1, COUNT + 1))
    assert answers(rows) == expected
    kept = {row["row"]: row["seconds"] for row in map(json.loads, known)}
    assert {number: rows[number - 1]["seconds"] for number in kept} == kept


def test_journal_of_other_settings_is_not_mixed_in(predict, table, tmp_path):
    bad = tmp_path / "t.jsonl"
    bad.write_text(table.read_text() + '{"image": "nowhere.png"}\n')
    assert predict(bad, "out.jsonl", "--images", table.parent)[0] == 0  # an error: the journal stays
    code, _, err = predict(bad, "out.jsonl", "--images", table.parent, "-q", "Another?")
    assert (code, err.count("\n")) == (2, 1)
    assert "was begun with question=None, and now it is 'Another?'" in err
    code, _, err = predict(bad, "out.jsonl", "--images", table.parent, "--dtype", "bfloat16")
    assert (code, "was begun with dtype='float32', and now it is 'bfloat16'" in err) == (2, True), err
    (tmp_path / "out.jsonl.journal").write_text("something else\n")
    assert "is no file of answers" in predict(bad, "out.jsonl", "--images", table.parent)[2]


def test_changed_rows_are_asked_again_and_added_ones_too(predict, folder, tmp_path):
    table = write_table(tmp_path, 6)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:4], "{"]))
    assert predict(table, "out.jsonl")[0] == 0
    lines[1] = lines[1].replace("Question 1", "Another question")
    table.write_text("\n".join(lines))
    code, out, _ = predict(table, "out.jsonl", "--json")
    assert (code, json.loads(out)["answered"]) == (0, 6)
    assert answers(lines_of(tmp_path / "out.jsonl")) == expected_answers(table, folder)


def test_an_id_that_was_mended_since_goes_with_the_answer_that_is_there(predict, folder, tmp_path):
    """The output named rows as the table did when they were asked."""
    table = write_table(tmp_path, 4)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0].replace("row-0", "wrong"), *lines[1:3], "{"]))
    assert predict(table, "out.jsonl")[0] == 0
    table.write_text("\n".join(lines))
    code, out, _ = predict(table, "out.jsonl", "--json")
    assert (code, json.loads(out)["went_on_from"]) == (0, 3)  # the answers are kept
    rows = lines_of(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == ["row-0", "row-1", "row-2", "row-3"]
    assert answers(rows) == expected_answers(table, folder)


def test_answers_outlive_a_run_in_which_their_pictures_were_away(predict, tmp_path):
    """A disk that was not mounted made an error of each row, and the next run asked all of them anew."""
    (tmp_path / "disk").mkdir()
    for number in range(3):
        picture(number).save(tmp_path / "disk" / f"{number}.png")
    names = ["disk/0.png", "disk/1.png", "disk/2.png", "nowhere.png"]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"image": name}) + "\n" for name in names))
    assert predict("t.jsonl", "out.jsonl")[0] == 0
    before = lines_of(tmp_path / "out.jsonl")
    (tmp_path / "disk").rename(tmp_path / "away")
    code, _, err = predict("t.jsonl", "out.jsonl")
    assert (code, "disk/0.png: no such file" in err) == (2, True)
    (tmp_path / "away").rename(tmp_path / "disk")
    picture(7).save(tmp_path / "disk" / "1.png")  # another picture now
    code, out, _ = predict("t.jsonl", "out.jsonl", "--json")
    assert (code, json.loads(out)["answered"]) == (0, 3)
    after = lines_of(tmp_path / "out.jsonl")
    assert [after[row] == before[row] for row in range(4)] == [True, False, True, True]  # their seconds are the same


@pytest.mark.parametrize("line", [{"row": 1, "error": None}, {"row": "1", "error": None}, 7])
def test_a_line_of_the_journal_that_is_none_of_ours_is_told(tmp_path, line):
    path = tmp_path / "journal"
    with closing(Ledger(path, {}, 2)) as ledger:
        ledger.add([{"row": 1, "id": "1", "answer": "x", "error": None, "key": "ab"}])
    place = path.stat().st_size
    path.write_text(path.read_text() + json.dumps(line) + "\n")
    with pytest.raises(DataError, match=rf"journal, at byte {place}: is no line of answers; remove the line"):
        Ledger(path, {}, 2)


def test_a_score_that_is_no_number_is_an_error():
    """Of broken weights every row counted as answered, and `NaN` in the output was no JSON."""
    said = Said("", score=float("nan"))
    line = line_of(Asked(TableRow(1, "1", [], "ab"), said, seconds=0.1), clue=False)
    assert (line["answer"], line["score"], line["seconds"]) == (None, None, None)
    assert line["error"].startswith("the model's numbers are none (NaN)")


@pytest.mark.parametrize("given", [["pictures"], ["t.jsonl", "--images", "pictures"]])
def test_workers_are_told_whole_paths(unirs, folder, tmp_path, monkeypatch, given):
    """Ray's stand in the folder where the cluster was started: there `pictures` and `--model runs/own` are none."""
    (tmp_path / "pictures").mkdir()
    picture(1).save(tmp_path / "pictures" / "0.png")
    (tmp_path / "t.jsonl").write_text('{"image": "0.png"}')
    (tmp_path / "own").symlink_to(folder)
    found = []

    class Elsewhere:
        batch_size = 1

        def __init__(self, load):
            found.extend([load.args[0], load.args[2]])

        def answers(self, batches):
            for (row,) in batches:
                found.append(row.messages[0]["content"][0]["image"])
                yield [Asked(row, Said("yes"))]

        def close(self):
            pass

    monkeypatch.setattr(cli_predict, "start", lambda engine, load, *rest: (Elsewhere(load), {}))
    words = ("--output", "out.jsonl", "--model", "own", "--clue", "--base", "own")
    code, _, err = unirs("predict", *given, *words)
    assert code == 0, err
    assert found == [str(tmp_path / "own")] * 2 + [str(tmp_path / "pictures" / "0.png")]


def test_columns_that_are_not_read_are_named(predict, tmp_path):
    """A question under another name would be left out without a word."""
    picture(1).save(tmp_path / "one.png")
    (tmp_path / "rows.csv").write_text("image,prompt,question\none.png,Is there a road?,\n")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "one.png", "Frage": "Strasse?"}) + "\n")
    for name, unread in (("rows.csv", "prompt"), ("rows.jsonl", "Frage")):
        code, _, err = predict(tmp_path / name, tmp_path / f"{name}.out.jsonl")
        assert code == 0, err
        assert f"Not read of {tmp_path / name}: {unread} (what is asked stands under question)" in err
