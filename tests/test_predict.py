"""`unirs predict`: every row of a table answered once, as it is answered alone, from every kind of table and store."""

# ruff: noqa: F811 - tests take imported fixtures by their names

import json

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from unirs.evaluation.models import load_model

from tests.predicting import (  # noqa: F401 - fixtures
    COUNT,
    NEW_TOKENS,
    answers,
    chat_of,
    expected,
    folder,
    lines_of,
    predict,
    table,
)
from tests.tiny import encode, other_words, picture, tiny_model
from unirs import PromptAugmenter


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
    assert found.schema.names == ["row", "id", "answer", "score", "seconds", "error", "in_training_domain"]
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
        (tmp_path / "away.jsonl").write_bytes(table.read_bytes())
        assert predict("away.jsonl", "away.out.jsonl", "--images", "memory://archive/")[0] == 0
        assert answers(lines_of(tmp_path / "away.out.jsonl")) == expected
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


def test_table_pictures_and_output_may_be_file_urls(predict, table, expected, tmp_path):
    code, _, err = predict(f"file://{table}", f"file://{tmp_path}/out.jsonl")
    assert code == 0, err
    assert answers(lines_of(tmp_path / "out.jsonl")) == expected
    assert predict(table, (tmp_path / "my answers.jsonl").as_uri())[0] == 0
    assert answers(lines_of(tmp_path / "my answers.jsonl")) == expected
    picture(1).save(tmp_path / "a picture.png")
    url = (tmp_path / "a picture.png").as_uri()  # with %20
    (tmp_path / "t.csv").write_text(f"image,question\n{url},What is it?\n{tmp_path}/a picture.png,What is it?\n")
    assert predict(tmp_path / "t.csv", tmp_path / "two.jsonl")[0] == 0
    first, second = lines_of(tmp_path / "two.jsonl")
    assert (first["error"], first["answer"]) == (None, second["answer"])
