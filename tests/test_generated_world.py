"""RS-World as a data set of recipes and as a `datasets` folder."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import load_from_disk
from PIL import Image
from unirs.evaluation.benchmarks import load_benchmark
from unirs.trainers import world_export
from unirs.trainers.data_sets import DataError, Generated, OwnData
from unirs.trainers.rows import visuals_of
from unirs.trainers.scene_tasks import HELD_OUT_SEED, TEST_SEED, pair_sample, single_sample
from unirs.trainers.world_export import export

COUNTS = {"single": 6, "pair": 4, "video": 2, "sequence": 3}
WORDS = ("--single", 6, "--pair", 4, "--video", 2, "--sequence", 3, "--size", 48, "--num-frames", 3)


# -- as a recipe's data set ------------------------------------------------------------------------------------------
def test_splits_start_at_their_own_seeds():
    firsts = {split: Generated("single", 2, split, size=32).row(1)["id"] for split in ("train", "validation", "test")}
    assert firsts == {
        "train": "generated_single-1",
        "validation": f"generated_single-{HELD_OUT_SEED + 1}",
        "test": f"generated_single-{TEST_SEED + 1}",
    }


@pytest.mark.parametrize(
    ("kind", "task", "visual", "pictures"),
    [
        ("single", "single", "image", 1),
        ("pair", "pair", "change", 2),
        ("video", "video", "video", 3),
        ("sequence", "video", "video", 4),
    ],
)
def test_each_kind_is_seen_as_its_pictures_say(kind, task, visual, pictures):
    row = Generated(kind, 1, size=32, frames=3).row(0)
    assert row["task"] == task
    assert [(one.kind, len(one.sources)) for one in visuals_of(row["messages"])] == [(visual, pictures)]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_rows_keep_all_questions_of_their_sample(split):
    first = {"train": 0, "validation": HELD_OUT_SEED, "test": TEST_SEED}[split]
    for kind, make in (("single", single_sample), ("pair", pair_sample)):
        turns = [one["content"] for one in Generated(kind, 1, split, size=48).row(0)["messages"]]
        asked = {turns[0][-1]["text"], *(content[0]["text"] for content in turns[2::2])}
        assert asked == {one.question for one in make(first, 48).questions}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("stereo",), "there are single, pair, video, sequence scenes, not 'stereo'"),
        (("single", 3, "val"), "the splits are train, validation, test, not 'val'"),
        (("single", 0), "count is 0; 1 to 1000000"),
    ],
)
def test_what_there_is_not_is_told(arguments, reason):
    with pytest.raises(DataError, match=reason):
        Generated(*arguments)


# -- as a folder -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world") / "world"
    export(path, "test", COUNTS, size=48, frames=3, processes=1)
    return path


def test_rows_are_the_samples_questions_and_their_pixels(folder):
    """`datasets` alone reads it, and finds what the generator draws."""
    parts = load_from_disk(str(folder))
    assert {part: len(table) for part, table in parts.items() if part != "questions"} == {
        "pair_captions": 4,
        "sequence_captions": 3,
        "clips": 2,
    }
    sample = single_sample(TEST_SEED + 2, 48)
    rows = [row for row in parts["questions"] if row["seed"] == TEST_SEED + 2 and row["task"] == "single"]
    assert [(r["messages"][0]["content"], r["messages"][1]["content"], r["kind"], r["references"]) for r in rows] == [
        (one.question, one.answer, one.kind, list(one.references)) for one in sample.questions
    ]
    assert all(row["images"][0].tobytes() == sample.images[0].tobytes() for row in rows)
    assert Counter(row["task"] for row in parts["questions"]) == {
        "single": sum(len(single_sample(TEST_SEED + number, 48).questions) for number in range(6)),
        "pair": 4,
        "sequence": 3,
    }
    for number, row in enumerate(parts["pair_captions"]):
        pair = pair_sample(TEST_SEED + number, 48)
        assert [one.tobytes() for one in row["images"]] == [one.tobytes() for one in pair.images]
        assert (np.asarray(row["mask"]) > 0).tolist() == pair.change_mask.tolist()
        assert row["kind"] == ("change" if pair.change_mask.any() else "no_change")
        assert row["references"] == list(pair.questions[0].references)


def test_two_exports_are_equal_to_the_byte_whatever_the_processes(folder, tmp_path):
    export(tmp_path / "again", "test", COUNTS, size=48, frames=3, processes=2)
    files = sorted(one.relative_to(folder) for one in folder.rglob("*") if one.is_file())
    assert files == sorted(one.relative_to(tmp_path / "again") for one in (tmp_path / "again").rglob("*.*"))
    assert all((folder / one).read_bytes() == (tmp_path / "again" / one).read_bytes() for one in files)


@pytest.mark.parametrize(
    ("part", "metric", "kinds"),
    [
        ("pair_captions", "captions", {"change", "no_change"}),
        ("sequence_captions", "captions", {"change", "no_change"}),
        ("clips", "classes", {"clip_class"}),
    ],
)
def test_each_part_is_a_benchmark_of_one_metric(folder, part, metric, kinds):
    benchmark = load_benchmark("own", folder, part, metric=metric)
    assert not benchmark.problems
    assert {sample.kind for sample in benchmark.samples} <= kinds
    answers = defaultdict(set)
    for sample in benchmark.samples:
        answers[sample.kind].add(len(sample.references))
    assert set.union(*answers.values()) == {1 if metric == "classes" else 5}


def test_command_writes_what_check_accepts_and_training_reads(unirs, tmp_path):
    code, out, err = unirs("data", "world", "world", "--split", "train", *WORDS, "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)["rows"]
    for part, count in rows.items():
        code, out, _ = unirs("data", "check", f"world/{part}", "--json", "--processes", 1)
        found = json.loads(out)
        assert (code, found["rows"], found["problems"]) == (0, count, {})
    data = OwnData("world", split="questions")
    assert {data.row(index)["task"] for index in range(len(data))} == {"single", "pair", "video"}
    picture = visuals_of(data.row(0)["messages"])[0].sources[0]
    assert Image.open(io.BytesIO(picture)).tobytes() == single_sample(0, 48).images[0].tobytes()


def test_killed_export_goes_on_and_leaves_nothing_half_written(folder, tmp_path, monkeypatch):
    """The second chunk fails; the first is drawn once, and the result is that of a run that was never stopped."""
    output, drawn = tmp_path / "world", []

    def fail(job):
        drawn.append(job[1])
        if len(drawn) == 2:
            raise KeyboardInterrupt
        world_export._draw_chunk(job)

    class Here:  # in this process, where the failure can be made
        def __init__(self, *_, **__): ...
        def __enter__(self):
            return self

        def __exit__(self, *_): ...
        def map(self, _, jobs):
            return map(fail, jobs)

    with monkeypatch.context() as patch:
        patch.setattr(world_export, "ProcessPoolExecutor", Here)
        with pytest.raises(KeyboardInterrupt):
            export(output, "test", COUNTS, size=48, frames=3)
    assert not output.exists()
    first = tmp_path / "world.writing" / f"single-{TEST_SEED}"
    written = (first / "questions" / "state.json").stat().st_mtime_ns
    with pytest.raises(DataError, match="was begun with other settings"):
        export(output, "test", COUNTS, size=64, frames=3)
    assert (first / "questions" / "state.json").stat().st_mtime_ns == written
    export(output, "test", COUNTS, size=48, frames=3, processes=1)
    assert not (tmp_path / "world.writing").exists()
    for part in ("questions", "clips"):
        name = f"{part}/data-00000-of-00001.arrow"
        assert (output / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("there",), "unirs: there: is there already; give another name\n"),
        (("export",), "unirs: export: is there already; remove it, or give another name\n"),
        (("",), "unirs: .: names no folder that could be made; give one, such as rs_world\n"),
        (("/",), "unirs: /: names no folder that could be made; give one, such as rs_world\n"),
        (("a",), "unirs: a.writing: is a file where the export is drawn; give another name\n"),
        (("b",), "unirs: b.writing: is no export that was stopped; give another name\n"),
        (
            ("new", "--split", "tset"),
            "unirs: Invalid value for '--split': 'tset' is not one of 'train', 'validation', 'test' "
            "(see unirs data world --help)\n",
        ),
        (("no/where",), "unirs: no/where: the folder {} does not exist; make it, or give another\n"),
        (
            ("new", "--single", 0, "--pair", 0, "--video", 0, "--sequence", 0),
            "unirs: new: no sample is asked for; give one of single, pair, video, sequence a count\n",
        ),
        (("new", "--pair", 2_000_000), "unirs: new: a split has 1,000,000 samples of a kind, not 2,000,000\n"),
    ],
)
def test_slips_are_told_in_one_line(unirs, tmp_path, words, reason):
    for name in ("there", "export", "b.writing"):
        (tmp_path / name).mkdir()
    (tmp_path / "export" / "rs_world.json").write_text("{}")
    (tmp_path / "a.writing").write_text("")
    (tmp_path / "b.writing" / "mine").write_text("")
    code, out, err = unirs("data", "world", *words)
    assert (code, out, err) == (2, "", reason.format(tmp_path / "no"))
    assert (tmp_path / "b.writing" / "mine").exists()


def test_settings_that_were_cut_are_told(tmp_path):
    (tmp_path / "world.writing").mkdir()
    (tmp_path / "world.writing" / "rs_world.json").write_text('{"world": 2, "spl')
    with pytest.raises(DataError) as told:
        export(tmp_path / "world", "test", COUNTS, size=48, frames=3, processes=1)
    assert str(told.value) == f"{tmp_path / 'world.writing'}: damaged; remove it"


def test_the_estimate_is_what_an_export_takes(folder):
    taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert world_export.bytes_of(COUNTS, 48, 3) == pytest.approx(taken, rel=0.35)  # so small, words weigh much


def test_a_disk_without_room_is_told_before_anything_is_written(unirs, tmp_path, monkeypatch):
    """A million clips of eight pictures of 256 x 256 at about 2 bytes a pixel: a terabyte, and as much again."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5e11))
    code, _, err = unirs("data", "world", "new", "--video", 1_000_000, "--single", 0, "--pair", 0, "--sequence", 0)
    told = "this export takes about 1101.0 GB, twice that while it is written, and 500.0 GB are free; ask for fewer"
    assert (code, len(err.splitlines()), told in err) == (2, 1, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device); make room and run the command again"),
        (errno.EPERM, "Operation not permitted); give another OUTPUT"),
    ],
)
def test_advice_fits_what_the_system_forbids(unirs, monkeypatch, number, advice):
    def forbid(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(world_export, "_begin", forbid)
    code, _, err = unirs("data", "world", "new", *WORDS)
    assert (code, err) == (2, f"unirs: new: cannot be written ({advice}\n")


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path):
    """To the whole group, as a terminal sends it: the processes that draw must be silent."""
    words = [str(word) for word in (*WORDS, "--single", 400, "--processes", 2)]
    command = [sys.executable, "-m", "unirs", "data", "world", "world", *words]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list((tmp_path / "world.writing").glob("single-*")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, "unirs: stopped; run the same command again to go on\n")


def test_progress_in_a_log_speaks_of_samples_and_the_end_of_how_to_open_them(unirs, monkeypatch):
    monkeypatch.setattr("unirs.terminal.SECONDS_BETWEEN_LINES", 0)
    _, out, err = unirs("data", "world", "world", *WORDS, "--processes", 1)
    counts, opened = out.splitlines()
    assert opened == "In Python: datasets.load_from_disk('world')"
    found = load_from_disk("world")
    assert counts == "world: " + ", ".join(f"{len(rows):,} rows of {part}" for part, rows in found.items())
    lines = err.splitlines()
    assert lines
    assert all(line.startswith("Drawing: ") and " of 15 samples, " in line for line in lines)


def test_of_two_exports_at_once_the_second_is_refused_and_the_first_goes_on(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    work = tmp_path / "world.writing"
    work.mkdir()
    first = os.open(work, os.O_RDONLY)
    fcntl.flock(first, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="another run is writing it"):
        export(tmp_path / "world", "test", {"single": 1}, 32)
    assert not list(work.iterdir())  # not even its settings
    os.close(first)


def test_a_killed_process_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(world_export, "_jobs", lambda *settings: [signal.SIGKILL])
    monkeypatch.setattr(world_export, "_draw_chunk", signal.raise_signal)
    with pytest.raises(DataError, match="was killed, perhaps for want of memory; run the command again"):
        export(tmp_path / "world", "test", {"single": 1}, 32, processes=1)
