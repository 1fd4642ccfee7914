"""`unirs data clues`, and clues of one picture, pair or clip on the command line."""

# ruff: noqa: F811 - tests take imported fixtures by their names

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from datasets import Dataset, Image, List, disable_progress_bars, load_from_disk
from unirs.trainers.data_sets import OwnData
from unirs.trainers.rows import items_of

from tests.test_cli import pictures  # noqa: F401 - fixtures
from tests.test_clues import folder, rows  # noqa: F401
from tests.tiny import other_words, picture, tiny_model, with_lora


def sources(path):
    data = OwnData(path)
    return [[item["image"] for item in items_of(data.row(n)["messages"], "image")] for n in range(len(data))]


def clues_of(path):
    data = OwnData(path)
    return [items_of(data.row(n)["messages"], "clue")[0]["text"] for n in range(len(data))]


def test_command_adds_a_column_that_training_reads(unirs, rows, folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    with_pictures = [line for line in rows.read_text().splitlines() if "pictures" in line]
    rows.write_text("\n".join(with_pictures) + "\n")
    words = ("--base", folder, "--max-new-tokens", 16)
    code, out, err = unirs("data", "clues", rows, *words, "--output", "beside.jsonl")
    assert (code, out, err) == (0, "9 of 9 rows have a clue: beside.jsonl\n", "")
    code, out, _ = unirs("data", "clues", rows, *words, "--output", "elsewhere/moved.jsonl", "--json")
    assert json.loads(out)["with_clue"] == 9
    resolved = [[Path(one).resolve() for one in row] for row in sources(rows)]
    for output in ("beside.jsonl", "elsewhere/moved.jsonl"):
        assert [[Path(one).resolve() for one in row] for row in sources(output)] == resolved
        assert clues_of(output) == clues_of("beside.jsonl")
    assert len(set(clues_of("beside.jsonl"))) == 8
    assert sorted(os.listdir("elsewhere")) == ["moved.jsonl"]  # no journal stays


@pytest.mark.parametrize("form", ["parquet", "folder", "llava"])
def test_every_form_of_rows_keeps_its_form(unirs, rows, folder, tmp_path, form):
    disable_progress_bars()
    records = [json.loads(line) for line in rows.read_text().splitlines()][:3]
    if form == "llava":
        turns = [{"from": "human", "value": "?"}, {"from": "gpt", "value": "x"}]
        given, output = tmp_path / "rows.json", tmp_path / "out" / "rows.json"
        given.write_text(json.dumps([{"image": "###".join(one["images"]), "conversations": turns} for one in records]))
    else:
        table = Dataset.from_list(records)
        given, output = tmp_path / "given.parquet", tmp_path / "out" / "given.parquet"
        if form == "folder":
            given, output = tmp_path / "given", tmp_path / "out" / "given"
            table = table.map(lambda row: {"images": [f"../{one}" for one in row["images"]]})
            table.save_to_disk(str(given))
        else:
            table.to_parquet(str(given))
    output.parent.mkdir()
    before = [[Path(one).resolve() for one in row] for row in sources(given)]
    code, _, err = unirs("data", "clues", given, "--base", folder, "--output", output, "--max-new-tokens", 16)
    assert (code, err) == (0, "")
    assert [[Path(one).resolve() for one in row] for row in sources(output)] == before
    assert len(set(clues_of(output))) == 3
    if form == "parquet":
        with_pictures = Dataset.from_list(records).cast_column("images", List(Image()))
        with_pictures.to_parquet(str(given))
        output.unlink()
        assert unirs("data", "clues", given, "--base", folder, "--output", output, "--max-new-tokens", 16)[0] == 0
        assert Dataset.from_parquet(str(output)).features["images"] == List(Image())  # TRL gets pictures
    if form == "folder":
        assert load_from_disk(str(output))["clue"][:] == clues_of(output)


def test_killed_command_goes_on_and_leaves_the_same_file(unirs, folder, tmp_path):
    lines = []
    for seed in range(24):
        picture(seed, 40, 30).save(tmp_path / f"{seed}.png")
        lines.append(json.dumps({"id": str(seed), "prompt": "?", "completion": "x", "images": [f"{seed}.png"]}))
    rows = tmp_path / "many.jsonl"
    rows.write_text("\n".join(lines))
    words = ["data", "clues", str(rows), "--base", str(folder), "--batch-size", "2", "--max-new-tokens", "40"]
    assert unirs(*words, "--output", tmp_path / "whole.jsonl")[0] == 0

    output = tmp_path / "killed.jsonl"
    journal = tmp_path / "killed.jsonl.clues"
    process = subprocess.Popen([sys.executable, "-m", "unirs.cli", *words, "--output", str(output)])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not journal.exists() or journal.read_bytes().count(b"\n") < 4):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = journal.read_bytes().count(b"\n") - 1
    assert 0 < done < 24
    assert not output.exists()
    code, _, err = unirs(*words, "--output", output)
    assert code == 0
    assert f"Going on: {done} rows of 24 have their clues already." in err
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_command_tells_rows_that_gave_no_clue(unirs, rows, folder, tmp_path):
    (tmp_path / "pictures" / "1.png").unlink()
    code, out, err = unirs("data", "clues", rows, "--base", folder, "--output", "out.jsonl", "--max-new-tokens", 16)
    assert code == 2
    assert out == "7 of 10 rows have a clue: out.jsonl\n"
    assert "row 2: no clue: " in err
    assert "1.png" in err
    assert "2 of 10 rows of" in err
    assert len(Path("out.jsonl").read_text().splitlines()) == 10
    picture(1, 40, 30).save(tmp_path / "pictures" / "1.png")  # mended
    code, out, err = unirs("data", "clues", rows, "--base", folder, "--output", "out.jsonl", "--max-new-tokens", 16)
    assert (code, out) == (0, "9 of 10 rows have a clue: out.jsonl\n")
    assert "Going on: 7 rows of 10 have their clues already." in err
    assert not Path("out.jsonl.clues").exists()


def test_broken_line_is_told_before_anything_is_asked(unirs, rows, folder):
    rows.write_text(rows.read_text() + '{"prompt": \n')
    code, _, err = unirs("data", "clues", rows, "--base", folder, "--output", "out.jsonl")
    assert code == 2
    assert "row 11: is no JSON" in err
    assert not Path("out.jsonl.clues").exists()


def test_clue_of_a_row_without_pictures_stays(unirs, folder, tmp_path):
    row = {"prompt": "?", "completion": "x", "clue": "mine"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert unirs("data", "clues", "rows.jsonl", "--base", folder, "--output", "out.jsonl")[0] == 0
    assert json.loads(Path("out.jsonl").read_text()) == row


def test_output_below_a_link_finds_its_pictures(unirs, rows, folder, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    words = ("--base", folder, "--max-new-tokens", 16, "--output", "link/out.jsonl")
    assert unirs("data", "clues", rows, *words)[0] == 0
    assert all(Path(one).exists() for row in sources("link/out.jsonl") for one in row)


def test_ids_of_a_table_must_tell_rows_apart(unirs, folder, tmp_path):
    turns = [{"from": "human", "value": "?"}, {"from": "gpt", "value": "x"}]
    records = [{"id": "same", "image": f"{n}.png", "conversations": turns} for n in range(2)]
    (tmp_path / "rows.json").write_text(json.dumps(records))
    words = ("--source", "llava_json", "--base", folder, "--output", "table.jsonl")
    code, _, err = unirs("data", "clues", "rows.json", *words)
    assert code == 2
    assert "two rows have the id same and other pictures" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "out.json"], "give a name ending in .jsonl"),
        (["--output", "rows.jsonl"], "is the data itself"),
        (["--output", "out.jsonl", "--prompt", "radar=?"], "--prompt radar=?: write it as single=WORDS"),
        (["--output", "there.jsonl"], "there.jsonl: is there already"),
        (["--output", "out.jsonl", "--source", "levir"], "the sources are"),
        (["--output", "out.jsonl", "--base", "nowhere"], "--base nowhere: no such folder"),
    ],
)
def test_wrong_words_are_told_before_anything_is_asked(unirs, rows, folder, words, message):
    Path("there.jsonl").write_text("mine")
    before = rows.read_bytes()
    code, out, err = unirs(
        "data", "clues", "rows.jsonl", *(["--base", folder] if "--base" not in words else []), *words
    )
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert rows.read_bytes() == before
    assert Path("there.jsonl").read_text() == "mine"


# -- one picture, pair or clip ---------------------------------------------------------------------------------------
def test_commands_show_the_clue_of_a_base_model(unirs, processor, folder, pictures, tmp_path):
    other_words(tiny_model(processor)).save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    common = ("--model", folder, "--max-new-tokens", 6, "--base", tmp_path / "base", "--clue")
    for words in (("ask", pictures[0], "Is there a road?"), ("change", *pictures[:2]), ("video", *pictures)):
        code, out, err = unirs(*words, *common)
        assert code == 0
        found = json.loads(unirs(*words, *common, "--json")[1])
        assert err == f"Clue: {found['clue']}\n"
        assert out == found["answer"] + "\n"
        plain = json.loads(unirs(*words, *common[:4], "--no-clue", "--json")[1])
        assert "clue" not in plain
        of_its_own = unirs(*words, *common[:4], "--clue", "--json")
        assert json.loads(of_its_own[1])["clue"] != found["clue"]
        assert "is asked for its own clue" in of_its_own[2]


def test_adapter_folder_asks_its_base_without_a_second_model(unirs, folder, pictures, tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    tuned = with_lora(AutoModelForImageTextToText.from_pretrained(folder))
    tuned.peft_config["default"].base_model_name_or_path = str(folder)
    tuned.save_pretrained(tmp_path / "lora")
    AutoProcessor.from_pretrained(folder).save_pretrained(tmp_path / "lora")
    words = ("change", *pictures[:2], "--max-new-tokens", 6, "--json", "--clue")
    code, out, err = unirs(*words, "--model", tmp_path / "lora")
    assert (code, err) == (0, "")
    two_models = json.loads(unirs(*words, "--model", tmp_path / "lora", "--base", folder)[1])
    found = json.loads(out)
    assert found["clue"]
    assert (found["clue"], found["answer"]) == (two_models["clue"], two_models["answer"])


def test_base_that_does_not_fit_is_told(unirs, folder, pictures, tmp_path):
    import unirs as package

    words = ("ask", pictures[0], "q", "--model", folder)
    for more, message in (
        (("--base", folder), "add --clue"),
        (("--clue", "--base", package.default_checkpoint()), "has another vocabulary than the model"),
        (("--clue", "--base", tmp_path / "nowhere"), "--base"),
    ):
        code, out, err = unirs(*words, *more)
        assert (code, out) == (2, "")
        assert message in err
