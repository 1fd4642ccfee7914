"""Asking a model a whole benchmark: batches, bad pictures, kills, several processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from PIL import Image
from unirs.evaluation.benchmarks import load_benchmark
from unirs.evaluation.models import Prepared, Said, load_model
from unirs.evaluation.running import run
from unirs.evaluation.visuals import blank
from unirs.trainers.data_sets import DataError

from tests.conftest import DATA
from tests.evaluation import NEW_TOKENS, answers_of, write_rows
from tests.test_data_sets import rsvqa
from tests.tiny import tiny_model
from tests.training import ROOT, finish

OUT = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processor):
    """A tiny UniRS, saved."""
    folder = tmp_path_factory.mktemp("model")
    tiny_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(folder):
    return load_model(str(folder))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"), 24)


@pytest.fixture(scope="module")
def whole(tiny, rows, tmp_path_factory):
    """Every row asked on its own."""
    file = tmp_path_factory.mktemp("whole") / "predictions.jsonl"
    return run(load_benchmark("own", rows, metric="vqa"), tiny, file, 1, NEW_TOKENS)


def ask(model, rows, file, batch_size=4, max_new_tokens=NEW_TOKENS, **options):
    return run(load_benchmark("own", rows, metric="vqa"), model, file, batch_size, max_new_tokens, **options)


def test_answers_differ_between_the_rows(whole):
    """Otherwise the tests below could not fail."""
    assert len({row["prediction"] for row in whole}) > 12


@pytest.mark.parametrize("batch_size", [3, 8])
def test_answers_do_not_depend_on_batch_size(batch_size, tiny, rows, whole, tmp_path):
    found = ask(tiny, rows, tmp_path / "p.jsonl", batch_size)
    assert [row["id"] for row in found] == [f"row-{number}" for number in range(24)]
    assert answers_of(found) == answers_of(whole)


def test_answers_do_not_depend_on_other_kinds_in_the_batch(tiny, rows, whole):
    """The runner never mixes kinds; `answer` may be asked to."""
    samples = load_benchmark("own", rows, metric="vqa").samples[:12]
    mixed = tiny.answer([sample.messages for sample in samples], NEW_TOKENS)
    assert mixed == [row["prediction"] for row in whole[:12]]


def test_a_row_holds_what_a_reader_needs(tiny, rows, tmp_path):
    benchmark = load_benchmark("own", rows, metric="vqa")
    benchmark.samples[1].messages[0]["content"].append({"type": "clue", "text": "a field"})
    row = run(benchmark, tiny, tmp_path / "p.jsonl", 4, NEW_TOKENS)[1]
    seconds = row.pop("seconds")
    assert 0 < seconds < 60
    said = row.pop("prediction")
    assert row.pop("normalised") == " ".join(said.lower().translate(str.maketrans(".?!", "   ")).split())
    prompt = row.pop("prompt")
    assert prompt.endswith(
        "USER: <Change Feature>\nRemote sensing change captioning: Question 1: what is there? Clue: a field ASSISTANT:"
    )
    assert row == {"id": "row-1", "references": ["answer 1"], "kind": "pair", "clue": "a field"}


def test_progress_is_told_up_to_the_last_row(tiny, rows, tmp_path):
    told = []
    ask(tiny, rows, tmp_path / "p.jsonl", progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 24)
    assert told[-1] == (24, 24)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_a_bad_picture_costs_its_own_row_alone_and_is_asked_again_when_it_is_mended(tiny, whole, tmp_path):
    rows = write_rows(tmp_path, 24)
    good = (tmp_path / "3_0.png").read_bytes()
    (tmp_path / "3_0.png").write_bytes(good[:60])
    (tmp_path / "9_0.png").unlink()
    (tmp_path / "2_1.png").unlink()  # a frame of a clip
    benchmark = load_benchmark("own", rows, metric="vqa")
    found = run(benchmark, tiny, tmp_path / "p.jsonl", 8, NEW_TOKENS)
    bad = {row["id"]: row["error"] for row in found if "error" in row}
    assert sorted(bad) == ["row-2", "row-3", "row-9"]
    assert "3_0.png" in bad["row-3"]
    assert f"{tmp_path}/9_0.png: no such file; check the path" in bad["row-9"]
    assert "2_1.png: no such file" in bad["row-2"]
    assert benchmark.problems == [f"2 of 48 pictures and clips are not there, {tmp_path}/2_1.png first"]
    expected = {**answers_of(whole), **dict.fromkeys(bad, "")}
    assert answers_of(found) == expected
    (tmp_path / "3_0.png").write_bytes(good)
    told = []
    again = ask(tiny, rows, tmp_path / "p.jsonl", progress=lambda done, total: told.append(total))
    assert set(told) == {3}
    assert answers_of(again) == {**expected, "row-3": answers_of(whole)["row-3"]}
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 24


def test_pictures_that_are_all_missing_stop_the_run_at_once(tiny, tmp_path):
    rows = write_rows(tmp_path, 4)
    for file in tmp_path.glob("*.png"):
        file.unlink()
    with pytest.raises(DataError, match=r"0_0\.png: is not there, nor any other of 7 pictures"):
        ask(tiny, rows, tmp_path / "p.jsonl")
    assert not (tmp_path / "p.jsonl").exists()


def test_rows_longer_than_the_model_reads_are_named(tiny, tmp_path):
    rows = write_rows(tmp_path, 3)
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    lines[1]["messages"][0]["content"] = "long " * 300
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = ask(tiny, rows, tmp_path / "p.jsonl")
    assert ["error" in row for row in found] == [False, True, False]
    assert "tokens and the model reads 1024" in found[1]["error"]


def test_a_run_of_bad_rows_only_is_an_error(tiny, tmp_path):
    rows = write_rows(tmp_path, 1)
    (tmp_path / "0_0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"not one of 1 rows could be asked; the first: .*0_0\.png"):
        ask(tiny, rows, tmp_path / "p.jsonl")


def test_a_blind_run_needs_no_picture_and_sees_grey_ones_of_the_same_size(tiny, tmp_path):
    rows = write_rows(tmp_path, 6)
    samples = load_benchmark("own", rows, metric="vqa").samples
    seen = [item for sample in samples for item in blank(sample.messages, 4)[0]["content"]]
    sizes = [item["image"].size for item in seen if item["type"] == "image"]
    assert sizes == [(20, 28), (21, 28), (21, 28), (23, 28), *[(24, 28)] * 5]
    (clip,) = [item["video"] for item in seen if item["type"] == "video"]
    assert [frame.size for frame in clip] == [(22, 28)] * 3
    assert {item["image"].getcolors()[0][1] for item in seen if item["type"] == "image"} == {(128, 128, 128)}
    assert [item["text"] for item in seen if item["type"] == "text"] == [
        sample.messages[0]["content"][-1]["text"] for sample in samples
    ]
    for file in tmp_path.glob("*.png"):
        file.unlink()
    blind = ask(tiny, rows, tmp_path / "blind.jsonl", blind=True)
    for file, size in (("0_0.png", (20, 28)), ("3_0.png", (23, 28))):
        Image.new("RGB", size, (128, 128, 128)).save(tmp_path / file)
    grey = ask(tiny, rows, tmp_path / "grey.jsonl")
    for number in (0, 3):
        assert blind[number]["prediction"] == grey[number]["prediction"]
    assert not any("error" in row for row in blind)


class Forgetful:
    """Says the number of its question; its memory holds so many rows, and one row not at all."""

    num_frames = 4

    def __init__(self, holds, monster=None):
        self.holds, self.monster, self.sizes = holds, monster, []

    def prepare(self, conversations, max_new_tokens):
        words = [conversation[-1]["content"][-1]["text"].split(":")[0] for conversation in conversations]
        return Prepared(words, words)

    def generate(self, prepared, max_new_tokens):
        self.sizes.append(len(prepared.inputs))
        if len(prepared.inputs) > self.holds or f"Question {self.monster}" in prepared.inputs:
            raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")
        return [Said(words.removeprefix("Question ")) for words in prepared.inputs]

    def description(self):
        return {"model": "forgetful", "model_sha256": "0", "dtype": "float32", "device": "cuda"}


@pytest.fixture
def questions(tmp_path):
    """Twenty, the longest first."""
    lines = []
    for number in range(20):
        turns = [("user", f"Question {number}: {'x' * (30 - number)}"), ("assistant", str(number))]
        lines.append({"id": str(number), "messages": [{"role": role, "content": said} for role, said in turns]})
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return rows


def test_a_batch_that_does_not_fit_into_memory_is_halved(questions, tmp_path):
    model = Forgetful(holds=3)
    found = ask(model, questions, tmp_path / "p.jsonl", batch_size=12)
    assert [row["prediction"] for row in found] == [str(number) for number in range(20)]
    assert model.sizes[:4] == [12, 6, 3, 3]
    assert max(model.sizes[2:-1]) == 3  # later batches are made smaller, but for the one that was prepared already


def test_a_row_that_does_not_fit_alone_is_an_error_and_costs_the_others_nothing(questions, tmp_path):
    model = Forgetful(holds=8, monster=5)
    found = ask(model, questions, tmp_path / "p.jsonl", batch_size=8)
    assert [row["prediction"] for row in found] == ["" if number == 5 else str(number) for number in range(20)]
    assert found[5]["error"] == "does not fit into memory even alone (Tried to allocate 2.00 GiB)"
    assert model.sizes[-2:] == [8, 4]


def test_a_second_run_on_the_same_file_is_refused_until_the_first_has_ended(questions, tmp_path):
    """Both were let in: each wrote the file anew without the rows that the other had added."""
    file, refused = tmp_path / "out" / "p.jsonl", []

    def meanwhile(done, total):
        if done == 8:
            with pytest.raises(DataError, match=r"p\.jsonl: another run is writing it; wait for that one") as caught:
                ask(Forgetful(holds=20), questions, file)
            refused.append(caught)

    found = ask(Forgetful(holds=20), questions, file, progress=meanwhile)
    assert [row["prediction"] for row in found] == [str(number) for number in range(20)]
    assert len(refused) == 1
    assert sorted(one.name for one in file.parent.iterdir()) == ["p.jsonl", "p.settings.json"]
    assert ask(Forgetful(holds=20), questions, file) == found


def test_rows_that_were_lost_are_named_at_the_end_and_asked_again(questions, tmp_path):
    file = tmp_path / "p.jsonl"

    def lose(done, total):
        if done == total:
            file.write_text("".join(file.read_text().splitlines(keepends=True)[:-2]))

    with pytest.raises(DataError, match=r"p\.jsonl: 2 of 20 rows are not there, 18 first; give the same command"):
        ask(Forgetful(holds=20), questions, file, progress=lose)
    assert len(ask(Forgetful(holds=20), questions, file)) == 20


def test_a_run_with_other_settings_model_or_data_is_refused(tiny, folder, tmp_path, processor):
    rows = write_rows(tmp_path, 3)
    file = tmp_path / "p.jsonl"
    found = ask(tiny, rows, file)
    with pytest.raises(DataError, match=r"p\.jsonl: was made with another max_new_tokens; give another output, or"):
        ask(tiny, rows, file, max_new_tokens=9)
    with pytest.raises(DataError, match="was made with another blind;"):
        ask(tiny, rows, file, blind=True)
    other = tmp_path / "other"
    changed = tiny_model(processor)
    with torch.no_grad():
        changed.lm_head.weight[0, 0] += 1
    changed.save_pretrained(other)
    processor.save_pretrained(other)
    with pytest.raises(DataError, match="was made with another model_sha256;"):
        ask(load_model(str(other)), rows, file)
    rows.write_text(rows.read_text().replace("answer 2", "another answer"))
    with pytest.raises(DataError, match="was made with another samples_sha256, data_sha256;"):
        ask(tiny, rows, file)
    rows.write_text(rows.read_text().replace("another answer", "answer 2"))
    assert ask(tiny, rows, file, batch_size=2) == found  # not asked again: the seconds are the same
    settings = json.loads((tmp_path / "p.settings.json").read_text())
    assert settings["batch_size"] == 4
    assert [one["batch_size"] for one in settings["resumed"]] == [2]
    assert set(settings["versions"]) == {"unirs", "torch", "transformers"}
    (tmp_path / "p.settings.json").unlink()
    with pytest.raises(DataError, match=r"p\.jsonl: is there without p\.settings\.json"):
        ask(tiny, rows, file)


def test_a_damaged_line_is_named(tiny, tmp_path):
    rows = write_rows(tmp_path, 3)
    file = tmp_path / "p.jsonl"
    ask(tiny, rows, file)
    first, second, third = file.read_text().splitlines()
    file.write_text(f"{first}\n{second[:20]}\n{third}\n")
    with pytest.raises(DataError, match=r"p\.jsonl, line 2: is no JSON; remove the line to have it asked again"):
        ask(tiny, rows, file)


def start(rows, folder, file, batch_size, processes=1):
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
    command += ["-m", "tests.evaluation"] if processes == 1 else [str(ROOT / "tests" / "evaluation.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    arguments = [str(rows), str(folder), str(file), str(batch_size)]
    return subprocess.Popen(
        [*command, *arguments], cwd=ROOT, env=environment, text=True, start_new_session=True, **OUT
    )


def lines_in(file):
    return file.read_bytes().count(b"\n") if file.exists() else 0


def kill_when(process, ready):
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)
    for one in [*psutil.Process(process.pid).children(recursive=True), process]:  # torchrun's outlive it
        one.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_killed_run_goes_on_without_loss_or_repeats(tiny, folder, rows, whole, tmp_path):
    file = tmp_path / "p.jsonl"
    process = start(rows, folder, file, 2)
    kill_when(process, lambda: lines_in(file) >= 4)
    done = lines_in(file)
    assert 4 <= done < 24
    with file.open("a") as opened:
        opened.write('{"id": "row-5", "predic')  # what a kill in the middle of a write leaves
    told = []
    found = ask(tiny, rows, file, 2, progress=lambda done, total: told.append(total))
    assert set(told) == {24 - done}
    assert answers_of(found) == answers_of(whole)
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == [row["id"] for row in whole]


def test_two_processes_share_the_rows_and_go_on_after_a_kill(tiny, folder, rows, whole, tmp_path):
    file = tmp_path / "two" / "p.jsonl"
    parts = [tmp_path / "two" / f"p.part{rank}.jsonl" for rank in range(2)]
    process = start(rows, folder, file, 1, processes=2)
    kill_when(process, lambda: all(lines_in(part) for part in parts))
    first = [[json.loads(line)["id"] for line in part.read_bytes().split(b"\n")[:-1]] for part in parts]
    assert not set(first[0]) & set(first[1])
    assert sum(map(len, first)) < 24
    told = []  # goes on as one process, too
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    ask(tiny, rows, tmp_path / "one" / "p.jsonl", progress=lambda done, total: told.append(total))
    assert set(told) == {24 - sum(map(len, first))}
    assert sorted(one.name for one in (tmp_path / "one").iterdir()) == ["p.jsonl", "p.settings.json"]
    finish(start(rows, folder, file, 2, processes=2))
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["id"] for row in found] == [row["id"] for row in whole]
    assert answers_of(found) == answers_of(whole)
    assert (tmp_path / "one" / "p.jsonl").read_text().count("\n") == 24
    assert not any(part.exists() for part in parts)
    assert json.loads((tmp_path / "two" / "p.settings.json").read_text())["processes"] == 2


def test_a_refusal_ends_all_processes(folder, rows, tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text("")
    process = start(rows, folder, file, 2, processes=2)
    out, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert out.count("DataError") >= 2
    assert "p.jsonl: is there without p.settings.json" in out


@pytest.mark.data
def test_the_embedded_model_answers_on_real_rsvqa_pictures(tmp_path):
    import unirs

    (tmp_path / "Images_LR").symlink_to(DATA / "rsvqa_lr")
    more = [("presence", number, "Is there water?", "yes") for number in range(9, 13)]
    rsvqa(tmp_path, "LR_split_test", *more)
    benchmark = load_benchmark("rsvqa-lr", tmp_path)
    found = run(benchmark, load_model(unirs.default_checkpoint()), tmp_path / "p.jsonl", 4, 8)
    assert len(found) == 6
    assert not any("error" in row for row in found)
    assert benchmark.problems == []
    assert all(row["prediction"] for row in found)


@pytest.mark.data
def test_own_scenes_are_classified(tmp_path):
    import unirs

    names = ["grass", "field", "forest", "parking"]
    lines = []
    for name in names:
        file = sorted((DATA / "rsscn7" / "test" / name).glob("*.jpg"))[0]
        words = f"Classify the image. Classes: {', '.join(names)}.\nAnswer in one word or a short phrase."
        turns = [{"role": "user", "content": words}, {"role": "assistant", "content": name}]
        lines.append({"id": name, "messages": turns, "images": [str(file)]})
    rows = tmp_path / "scenes.jsonl"
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    benchmark = load_benchmark("own", rows, metric="classes")
    assert benchmark.classes == tuple(sorted(names))
    found = run(benchmark, load_model(unirs.default_checkpoint()), tmp_path / "p.jsonl", 4, 8)
    assert [row["references"] for row in found] == [[name] for name in names]
    assert not any("error" in row for row in found)


def test_pictures_are_opened_by_our_own_reader(tiny, tmp_path):
    """Which opens no network and no format that runs a program."""
    rows = write_rows(tmp_path, 2)
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    lines[0]["images"] = ["https://example.com/a.png"]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = ask(tiny, rows, tmp_path / "p.jsonl")
    assert "is a URL and UniRS never opens the network" in found[0]["error"]
    assert "error" not in found[1]
