"""`unirs predict`: every row of a table answered once, whatever is in it and whatever stops the run."""

import json

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from unirs.evaluation.models import UniRS, load_model

from tests.predicting import (
    NEW_TOKENS,
    chat_of,
    expected_answers,
    failing_at,
    lines_of,
    predict_until_killed,
    write_table,
)
from tests.tiny import encode, other_words, picture, tiny_model
from unirs import PromptAugmenter

COUNT = 18


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory):
    """A tiny UniRS, saved."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table"), COUNT)


@pytest.fixture(scope="module")
def expected(table, folder):
    return expected_answers(table, folder)


@pytest.fixture
def predict(unirs, folder):
    def run(table, output, *more):
        words = ("--model", folder, "--output", output, "--max-new-tokens", NEW_TOKENS)
        return unirs("predict", table, *words, *more)

    return run


def answers(rows):
    return [row["answer"] for row in rows]


# -- what comes out ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch_size", [1, 4])
def test_each_row_has_the_answer_it_has_alone(predict, table, expected, tmp_path, batch_size):
    code, out, err = predict(table, "out.jsonl", "--batch-size", batch_size)
    assert (code, err) == (0, "")
    assert out == f"{COUNT} of {COUNT} rows have an answer: out.jsonl\n"
    rows = lines_of(tmp_path / "out.jsonl")
    assert [list(row) for row in rows] == [["row", "id", "answer", "score", "seconds", "error"]] * COUNT
    assert [row["row"] for row in rows] == list(range(1, COUNT + 1))
    assert [row["id"] for row in rows] == [f"row-{number}" for number in range(COUNT)]
    assert answers(rows) == expected
    assert len(set(expected)) > COUNT // 2  # or nothing was tested
    assert all(row["seconds"] > 0 and row["error"] is None for row in rows)
    assert not (tmp_path / "out.jsonl.journal").exists()


def test_half_precision_is_computed_and_scored_as_in_process(predict, table, folder, tmp_path):
    """One row at a time, as `load_model` in bfloat16 answers it; float32 scores otherwise."""
    half = load_model(str(folder), dtype=torch.bfloat16)
    chats = [chat_of(json.loads(line), table.parent) for line in table.read_text().splitlines()]
    wanted = [half.generate(half.prepare([chat], NEW_TOKENS), NEW_TOKENS)[0] for chat in chats]
    assert predict(table, "half.jsonl", "--batch-size", 1, "--dtype", "bfloat16")[0] == 0
    assert predict(table, "whole.jsonl", "--batch-size", 1)[0] == 0
    half_rows, whole_rows = lines_of(tmp_path / "half.jsonl"), lines_of(tmp_path / "whole.jsonl")
    assert answers(half_rows) == [said.text for said in wanted]
    assert [row["score"] for row in half_rows] == pytest.approx([said.score for said in wanted], abs=5e-4)
    assert [row["score"] for row in half_rows] != [row["score"] for row in whole_rows]


def test_score_is_the_geometric_mean_of_the_tokens_probabilities(predict, table, folder, tmp_path):
    """Second implementations: transformers' transition scores, and the finished answer read in one pass."""
    predict(table, "out.jsonl")
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    suppressed = model.generation_config.suppress_tokens
    for row, found in zip(lines_of(table), lines_of(tmp_path / "out.jsonl"), strict=True):
        inputs = encode(processor, [chat_of(row, table.parent)])
        options = {"max_new_tokens": NEW_TOKENS, "output_scores": True, "return_dict_in_generate": True}
        output = model.generate(**inputs, **options, do_sample=False)
        transition = model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
        assert found["score"] == pytest.approx(transition.mean().exp().item(), abs=1e-5)
        with torch.no_grad():
            length = inputs["input_ids"].shape[1]
            whole = {**inputs, "input_ids": output.sequences, "attention_mask": torch.ones_like(output.sequences)}
            logits = model(**whole).logits[0, length - 1 : -1]
        logits[:, suppressed] = float("-inf")
        said = logits.log_softmax(-1).gather(1, output.sequences[0, length:, None])
        assert found["score"] == pytest.approx(said.mean().exp().item(), abs=1e-5)


def test_what_lies_behind_the_end_of_an_answer_does_not_count():
    from unirs.evaluation.answer_score import ChosenProbabilities

    chosen = ChosenProbabilities()
    for first, second in ((0.5, 0.8), (0.8, 0.6), (0.9, 0.7)):
        chosen(None, torch.tensor([[first, 1 - first], [second, 1 - second]]).log())
    tokens = torch.tensor([[5, 2, 0], [5, 6, 7]])  # 2 is the end, 0 padding
    assert chosen.scores(tokens, 2) == pytest.approx([(0.5 * 0.8) ** 0.5, (0.8 * 0.6 * 0.7) ** (1 / 3)])
    assert chosen.scores(tokens, [2, 6]) == pytest.approx([(0.5 * 0.8) ** 0.5, (0.8 * 0.6) ** 0.5])


def test_every_kind_of_table_gives_the_same(predict, table, expected, tmp_path):
    rows = lines_of(table)
    wide = [{"images": ";".join(chat_names(row)) if "images" in row else "", **row_cells(row)} for row in rows]
    names = ["id", "question", "image", "before", "after", "images"]
    for kind, between in (("csv", ","), ("csv", ";"), ("tsv", "\t")):
        cells = [[f'"{row.get(name, "")}"' for name in names] for row in wide]
        head = between.join(names)
        file = tmp_path / f"t.{kind}"
        file.write_text("\n".join([head, *(between.join(line) for line in cells)]) + "\n", encoding="utf-8-sig")
        assert predict(file, f"{kind}.jsonl", "--images", table.parent)[0] == 0
        assert answers(lines_of(tmp_path / f"{kind}.jsonl")) == expected
        (tmp_path / f"{kind}.jsonl").unlink()
    pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), "t.parquet")
    assert predict(tmp_path / "t.parquet", "out.parquet", "--images", table.parent)[0] == 0
    found = pq.read_table("out.parquet")
    assert found.schema.names == ["row", "id", "answer", "score", "seconds", "error"]
    assert found.column("answer").to_pylist() == expected


def chat_names(row):
    return row.get("images", [])


def row_cells(row):
    return {name: value for name, value in row.items() if name != "images"}


def test_folder_is_asked_picture_by_picture(predict, folder, tmp_path):
    pictures = tmp_path / "archive"
    (pictures / "sub").mkdir(parents=True)
    for number, name in enumerate(("b.png", "a.png", "sub/c.png", ".hidden.png")):
        picture(number).save(pictures / name)
    (pictures / "notes.txt").write_text("no picture")
    assert predict(pictures, "out.jsonl", "-q", "Which scene?")[0] == 0
    rows = lines_of(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == ["a.png", "b.png", "sub/c.png"]
    for row in rows:
        chat = chat_of({"image": row["id"], "question": "Which scene?"}, pictures)
        assert [row["answer"]] == load_model(str(folder)).answer([chat], NEW_TOKENS)


def test_pictures_inside_parquet_and_clips_are_read(predict, folder, tmp_path):
    import av

    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"crf": "0"})
        stream.width = stream.height = 64
        for number in range(5):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(number, 64, 64))))
        container.mux(stream.encode())
    picture(1).save(tmp_path / "one.png")
    inside = {"bytes": (tmp_path / "one.png").read_bytes(), "path": None}
    struct = pa.array([inside, None], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"image": struct, "video": [None, "clip.mp4"]}), tmp_path / "t.parquet")
    assert predict("t.parquet", "out.jsonl", "-q", "What?", "--num-frames", 3)[0] == 0
    model = load_model(str(folder))
    model.num_frames = model.processor.num_frames = 3
    chats = [
        [{"role": "user", "content": [{"type": kind, kind: str(tmp_path / name)}, {"type": "text", "text": "What?"}]}]
        for kind, name in (("image", "one.png"), ("video", "clip.mp4"))
    ]
    assert answers(lines_of(tmp_path / "out.jsonl")) == [model.answer([chat], NEW_TOKENS)[0] for chat in chats]


def test_stores_are_read_and_written(predict, table, expected, tmp_path):
    """fsspec's store in memory stands for s3, which differs by its name."""
    store = fsspec.filesystem("memory")
    store.put(str(table.parent), "/archive", recursive=True)
    try:
        assert predict("memory://archive/table.jsonl", "memory://answers/out.jsonl")[0] == 0
        rows = [json.loads(line) for line in store.cat("/answers/out.jsonl").splitlines()]
        assert answers(rows) == expected
        local = [{**row, "image": f"memory://archive/{row['image']}"} for row in lines_of(table) if "image" in row]
        (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in local))
        assert predict("t.jsonl", "memory://answers/out.parquet")[0] == 0
        with store.open("/answers/out.parquet") as file:
            assert pq.read_table(file).column("answer").to_pylist() == expected[::4]
        assert predict("memory://archive", "out.jsonl", "-q", "What?")[0] == 0
        assert len(lines_of(tmp_path / "out.jsonl")) == len(list(table.parent.glob("*.png")))
        code, _, err = predict("memory://archive/table.jsonl", "memory://answers/out.jsonl")
        assert (code, "is there already" in err) == (2, True)
    finally:
        store.rm("/", recursive=True)


def test_outputs_of_one_name_in_two_places_of_a_store_share_no_journal(predict, table, tmp_path):
    """The journal was named by the last part of the address: a file of the second place was overwritten."""
    store = fsspec.filesystem("memory")
    bad = tmp_path / "bad.jsonl"
    bad.write_text(table.read_text().splitlines()[0] + '\n{"image": "nowhere.png"}\n')
    try:
        assert predict(bad, "memory://a/out.jsonl", "--images", table.parent)[0] == 0
        (journal,) = tmp_path.glob("*.journal")  # stays, since a row has an error
        kept = journal.read_bytes()
        store.pipe("/b/out.jsonl", b"another's answers")
        code, _, err = predict(table, "memory://b/out.jsonl")
        assert (code, "memory://b/out.jsonl: is there already" in err) == (2, True)
        assert store.cat("/b/out.jsonl") == b"another's answers"
        for other in ("memory://c/out.jsonl", "out.jsonl"):  # nor with a local one in the working folder
            code, out, _ = predict(table, other, "--json")
            assert (code, json.loads(out)["went_on_from"]) == (0, 0)
        assert journal.read_bytes() == kept
        code, out, _ = predict(bad, "memory://a/out.jsonl", "--images", table.parent, "--json")
        assert (code, json.loads(out)["went_on_from"]) == (0, 1)
    finally:
        store.rm("/", recursive=True)


def test_clue_of_the_base_model_enters_and_is_told(predict, table, folder, processor, tmp_path):
    base = other_words(tiny_model(processor))
    base.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    assert predict(table, "out.jsonl", "--clue", "--base", tmp_path / "base")[0] == 0
    model, augmenter = load_model(str(folder)), PromptAugmenter(base, processor)
    for row, found in zip(lines_of(table), lines_of(tmp_path / "out.jsonl"), strict=True):
        chat = chat_of(row, table.parent)
        (clue,) = augmenter.clues([chat])
        assert (found["clue"], found["no_clue"]) == (clue.text, clue.failure)
        assert [found["answer"]] == model.answer([augmenter.with_clue(chat, clue.text)], NEW_TOKENS)


# -- what may be wrong ------------------------------------------------------------------------------------------------
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
}


def test_poison_rows_become_error_rows_and_harm_no_other(predict, folder, tmp_path):
    table = write_table(tmp_path, 8)
    (tmp_path / "text.png").write_text("no picture")
    expected = expected_answers(table, folder)
    good = table.read_bytes().splitlines()
    mixed = [line for pair in zip(POISON, [*good, *good[:4]], strict=True) for line in pair]
    table.write_bytes(b"\n".join(mixed) + b"\n")
    code, out, err = predict(table, "out.jsonl", "--batch-size", 4)
    assert code == 0
    assert "12 rows have an error, row 1 first: names no picture" in err
    rows = lines_of(tmp_path / "out.jsonl")
    for row, reason in zip(rows[::2], POISON.values(), strict=True):
        assert reason in row["error"]
        assert (row["answer"], row["score"], row["seconds"]) == (None, None, None)
    assert answers(rows[1::2]) == [*expected, *expected[:4]]
    # mended, they are asked by the same command; the others are not
    table.write_bytes(b"\n".join(good[0] if line in POISON else line for line in mixed) + b"\n")
    code, out, err = predict(table, "out.jsonl", "--batch-size", 4, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["rows"], found["answered"], found["went_on_from"]) == (24, 24, 12)
    assert answers(lines_of(tmp_path / "out.jsonl")[::2]) == [expected[0]] * 12
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


# -- what may stop it -------------------------------------------------------------------------------------------------
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


def test_progress_in_a_log_has_rate_and_time_left(monkeypatch, capsys):
    from unirs import terminal

    now = iter([0.0, 0.0, 10.0, 40.0, 45.0, 80.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(now))
    told = terminal.rows_as_lines("Asking")
    for done in (100, 150, 300, 320, 500):  # 100 were there
        told(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "Asking: 300 of 1,000 rows, 5.0 rows/s, 0:02:20 left",
        "Asking: 500 of 1,000 rows, 5.0 rows/s, 0:01:40 left",
    ]


def test_columns_that_are_not_read_are_named(predict, tmp_path):
    """A question under another name would be left out without a word."""
    picture(1).save(tmp_path / "one.png")
    (tmp_path / "rows.csv").write_text("image,prompt,question\none.png,Is there a road?,\n")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "one.png", "Frage": "Strasse?"}) + "\n")
    for name, unread in (("rows.csv", "prompt"), ("rows.jsonl", "Frage")):
        code, _, err = predict(tmp_path / name, tmp_path / f"{name}.out.jsonl")
        assert code == 0, err
        assert f"Not read of {tmp_path / name}: {unread} (what is asked stands under question)" in err


def test_output_may_be_a_file_url(predict, table, tmp_path):
    code, _, err = predict(table, f"file://{tmp_path}/out.jsonl")
    assert code == 0, err
    assert (tmp_path / "out.jsonl").is_file()
