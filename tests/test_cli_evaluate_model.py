"""`unirs evaluate` on a model: answers, clues and blind answers in one folder, by one process or two."""

import json
import subprocess
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText
from unirs.evaluation.ablation import arm_of
from unirs.evaluation.benchmarks import load_benchmark
from unirs.evaluation.models import load_model
from unirs.evaluation.running import run

from tests.evaluation import write_rows
from tests.test_evaluated_models import llava_folder  # noqa: F401 - a fixture
from tests.tiny import other_words, save_tiny_model, tiny_model, with_lora
from tests.training import finish, launch
from unirs import PromptAugmenter

COUNT = 9


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory):
    return save_tiny_model(processor, tmp_path_factory.mktemp("evaluated") / "tiny")


@pytest.fixture(scope="module")
def base(processor, tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluated") / "base"
    other_words(tiny_model(processor)).save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture
def words(tmp_path, folder):
    rows = write_rows(tmp_path, COUNT)
    return ["evaluate", "own", "--data", str(rows), "--metric", "vqa", "--model", str(folder), "--max-new-tokens", "6"]


def rows_of(file):
    return {row["id"]: row for row in map(json.loads, Path(file).read_text().splitlines())}


def test_model_is_asked_and_scored(unirs, words):
    code, out, err = unirs(*words, "--blind", "--output", "out")
    assert (code, err) == (0, "")
    assert "Report: out/report.html" in out
    scores = json.loads(Path("out/scores.json").read_text())
    assert (scores["n"], scores["settings"]["clue"], scores["blind"]["n"]) == (COUNT, None, COUNT)
    assert len(scores["settings"]["model_sha256"]) == 64
    said, blind = rows_of("out/predictions.jsonl"), rows_of("out/blind.jsonl")
    assert {one["prediction"] for one in said.values()} != {one["prediction"] for one in blind.values()}
    code, out, _ = unirs(*words, "--blind", "--output", "out", "--json")  # nothing is asked again
    assert json.loads(out)["micro"] == scores["micro"]
    assert rows_of("out/predictions.jsonl") == said


@pytest.mark.parametrize("batch_size", [1, 4])
def test_clue_of_the_base_model_enters_every_prompt(unirs, words, folder, base, processor, batch_size):
    more = ("--clue", "--base", base, "--batch-size", batch_size, "--output", "out")
    assert unirs(*words, *more)[0] == 0
    augmenter = PromptAugmenter(AutoModelForImageTextToText.from_pretrained(base), processor)
    answering = load_model(str(folder))
    found = rows_of("out/predictions.jsonl")
    for sample in load_benchmark("own", words[3], metric="vqa").samples:
        row = found[sample.id]
        (clue,) = augmenter.clues([sample.messages])
        assert (row["clue"], row.get("no_clue")) == (clue.text, clue.failure)
        augmented = augmenter.with_clue(sample.messages, clue.text)
        assert row["prediction"] == answering.answer([augmented], 6)[0]
    assert len({row["clue"] for row in found.values()}) > 5
    settings = json.loads(Path("out/scores.json").read_text())["settings"]
    assert settings["clue"]["prompts"] == processor.clue_prompts
    assert "clues: at inference" in Path("out/report.md").read_text()
    code, _, err = unirs(*words, "--output", "out")  # the same without clues would mix both
    assert code == 2
    assert "was made with another clue" in err


def test_clues_of_rows_are_used_with_clue_and_only_then(unirs, words, folder, base, llava_folder, tmp_path):  # noqa: F811
    rows = tmp_path / "rows.jsonl"
    with_pictures = [line for line in map(json.loads, rows.read_text().splitlines()) if "images" in line]
    rows.write_text("".join(json.dumps(line) + "\n" for line in with_pictures))
    assert unirs(*words, "--output", "plain")[0] == 0
    rows.write_text("".join(json.dumps({**line, "clue": "a big lake"}) + "\n" for line in with_pictures))
    assert unirs(*words, "--output", "no-clue")[0] == 0
    assert rows_of("no-clue/predictions.jsonl").keys() == rows_of("plain/predictions.jsonl").keys()
    for name, row in rows_of("no-clue/predictions.jsonl").items():
        assert (row["clue"], row["prediction"]) == (None, rows_of("plain/predictions.jsonl")[name]["prediction"])
    assert unirs(*words, "--clue", "--base", base, "--output", "clue")[0] == 0
    assert {row["clue"] for row in rows_of("clue/predictions.jsonl").values()} == {"a big lake"}
    words[words.index("--model") + 1] = str(llava_folder)  # clues that are there serve any model
    assert unirs(*words, "--clue", "--output", "llava")[0] == 0
    assert all("Clue: a big lake" in row["prompt"] for row in rows_of("llava/predictions.jsonl").values())


def test_adapter_is_its_own_base(unirs, words, folder, tmp_path):
    tuned = with_lora(AutoModelForImageTextToText.from_pretrained(folder))
    tuned.peft_config["default"].base_model_name_or_path = str(folder)
    tuned.save_pretrained(tmp_path / "lora")
    words[words.index("--model") + 1] = str(tmp_path / "lora")
    assert unirs(*words, "--clue", "--output", "alone")[0] == 0
    assert unirs(*words, "--clue", "--base", folder, "--output", "second")[0] == 0
    alone, second = rows_of("alone/predictions.jsonl"), rows_of("second/predictions.jsonl")
    for name, row in alone.items():
        assert (row["clue"], row["prediction"]) == (second[name]["clue"], second[name]["prediction"])


def test_two_processes_leave_one_report(words, folder, tmp_path):
    out = tmp_path / "out"
    try:
        printed = finish(
            launch(
                [*words, "--output", str(out)],
                processes=2,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
    finally:
        assert not list(out.glob("*.part*"))
    assert printed.count("Report: ") == 1
    benchmark = load_benchmark("own", words[3], metric="vqa")
    expected = run(benchmark, load_model(str(folder)), tmp_path / "alone.jsonl", max_new_tokens=6)
    found = rows_of(out / "predictions.jsonl")
    assert {name: row["prediction"] for name, row in found.items()} == {
        row["id"]: row["prediction"] for row in expected
    }
    assert json.loads((out / "scores.json").read_text())["settings"]["processes"] == 2


def test_wrong_words_are_one_line(unirs, words, folder, llava_folder, tmp_path):  # noqa: F811
    import unirs as package

    plain = words[: words.index("--model")]
    for more, message in (
        (["--base", folder], "add --clue"),
        (["--blind-predictions", "x"], "goes with --from-predictions"),
        (["--from-predictions", "x", "--clue"], "asks no model"),
        (["--model", llava_folder, "--clue"], "is no UniRS model"),
        (["--model", folder, "--clue", "--base", package.default_checkpoint()], "reads words otherwise"),
        (["--model", "nowhere"], "no such folder"),
    ):
        code, out, err = unirs(*plain, *more, "--output", tmp_path / "out")
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert message in err


def test_other_models_go_through_the_same_command(unirs, words, llava_folder):  # noqa: F811
    words[words.index("--model") + 1] = str(llava_folder)
    assert unirs(*words, "--output", "out")[0] == 0
    assert len(rows_of("out/predictions.jsonl")) == COUNT


def test_arm_of_the_ablation_is_read_off_the_models_record(tmp_path):
    for trained, asked, arm in (
        (False, False, "none"),
        (False, True, "at inference only"),
        (True, True, "in training and at inference"),
    ):
        (tmp_path / "training.json").write_text(json.dumps({"clues": trained}))
        assert arm_of(str(tmp_path), asked) == arm
    (tmp_path / "training.json").unlink()
    assert arm_of(str(tmp_path), True) == "at inference; of the training it is not known"
