"""`unirs data check`: what is wrong with a user's rows, before a run meets it."""

import base64
import io
import json
from concurrent.futures.process import BrokenProcessPool

import datasets
import pytest
from datasets import Dataset, Features, Image, List, Value
from unirs.trainers import check_data
from unirs.trainers.check_data import check
from unirs.trainers.data_sets import DataError

from tests.test_video_loading import clip_file
from tests.tiny import picture

ANSWER = {"role": "assistant", "content": "two"}


def row(question, **fields):
    return {"messages": [{"role": "user", "content": question}, ANSWER], **fields}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    for seed in range(4):
        picture(seed, 40, 40).save(folder / f"{seed}.png")
    picture(1, 40, 40).save(folder / "same_as_1.bmp")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:900])
    clip_file(folder / "clip.mp4", frames=8)
    rows = [
        row("good", id="a", images=["0.png"]),
        row("good pair", id="b", images=["2.png", "3.png"]),
        row("good clip", id="c", videos=["clip.mp4"]),
        row("words alone", id="d"),
        row("id again", id="a"),
        row("good", id="e", images=["0.png"]),
        row("not there", id="f", images=["9.png"]),
        row("half a file", id="g", images=["cut.png"]),
        row("long " * 4000, id="h"),
        {"id": "i", "messages": [{"role": "user", "content": "no answer"}]},
        row("seen in the test", id="k", images=["1.png"]),
    ]
    (folder / "d.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (folder / "test.jsonl").write_text(json.dumps(row("x", images=["same_as_1.bmp"])))
    return folder


EXPECTED = [
    (5, "duplicate id", "row 1 has the id a too"),
    (6, "duplicate row", "row 1 has the same pictures and words"),
    (7, "missing file", "9.png: no such file"),
    (8, "unreadable", "cut.png"),
    (9, "too long", "max_length is 4096"),
    (10, "not in the form", "turns must be user and assistant in pairs"),
    (11, "leak", "test.jsonl too, row 1"),
]


def test_every_fault_is_found_at_its_row_and_good_rows_have_none(folder):
    told = []
    report = check(folder / "d.jsonl", against=folder / "test.jsonl", progress=lambda *done: told.append(done))
    assert [(one.row, one.kind) for one in report.problems] == [(row, kind) for row, kind, _ in EXPECTED]
    for problem, (_, _, words) in zip(report.problems, EXPECTED, strict=True):
        assert words in problem.message
    assert (report.rows, report.bad_rows) == (11, 7)
    assert report.tasks == {"text": 3, "single": 5, "pair": 1, "video": 1}
    assert (report.pictures, report.repeated) == (6, 1)  # 0 twice, 2, 3, the clip, 1
    assert told[-1] == (12, 12)


def test_without_pictures_only_missing_files_are_told_of_them(folder):
    report = check(folder / "d.jsonl", images=False)
    assert {one.kind for one in report.problems} == {kind for _, kind, _ in EXPECTED} - {"unreadable", "leak"}
    assert report.pictures == 0


def test_pictures_inside_the_rows_are_no_missing_files(tmp_path):
    """A data URI was looked for on the disk, where its length ended the command."""
    file = io.BytesIO()
    picture(0, 40, 40).save(file, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    rows = [
        row("whole", images=[uri]),
        row("broken", images=[f"{uri[:-400]}!"]),
        row("far", images=["http://x/a.png"]),
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    assert check(tmp_path / "d.jsonl", images=False).problems == []
    found = check(tmp_path / "d.jsonl").problems
    assert [(one.row, one.kind) for one in found] == [(2, "unreadable"), (3, "unreadable")]


def test_a_picture_of_many_rows_is_decoded_once(folder, monkeypatch):
    decoded = []
    monkeypatch.setattr(check_data, "load_image", lambda source: decoded.append(source) or picture(0, 40, 40))
    check_data._pixels_of_file.cache_clear()
    (folder / "many.jsonl").write_text("".join(json.dumps(row(f"q{n}", images=["2.png"])) + "\n" for n in range(9)))
    seen = check_data._check_rows((str(folder / "many.jsonl"), 0, 9, True, 4096, 196, 8))
    assert [len(one.pixels) for one in seen] == [1] * 9
    assert decoded == [str(folder / "2.png")]
    check_data._pixels_of_file.cache_clear()  # what it holds of the stand-in


def test_chunks_in_several_processes_find_what_one_finds(folder, monkeypatch):
    whole = check(folder / "d.jsonl", processes=1)
    monkeypatch.setattr("unirs.trainers.check_data.CHUNK", 2)
    assert check(folder / "d.jsonl", processes=2) == whole


def test_lengths_count_pictures_exactly(folder):
    pair, plain = (check(folder / "d.jsonl", image_seq_length=length, max_length=10**6).lengths for length in (196, 0))
    assert round((pair[1] - plain[1]) * 10 / 196) == 5 + 1 + 8  # singles, a pair, eight frames: ten rows could be read


def test_the_command_prints_a_table_writes_bad_rows_and_exits_2(unirs, folder, tmp_path):
    output = tmp_path / "bad.jsonl"
    arguments = ["--output", output, "--against", folder / "test.jsonl"]
    code, out, err = unirs("data", "check", folder / "d.jsonl", *arguments)
    assert code == 2
    assert "leak" in out
    assert err.strip().endswith(f"7 of 11 rows of {folder / 'd.jsonl'} are not fit for training; all are in {output}")
    assert [json.loads(line)["row"] for line in output.read_text().splitlines()] == [5, 6, 7, 8, 9, 10, 11]


def test_the_command_says_nothing_of_how_a_saved_data_set_is_cast(unirs, folder):
    rows = {"prompt": ["How many?"], "completion": ["two"], "images": [[str(folder / "0.png")]]}
    features = Features({"prompt": Value("string"), "completion": Value("string"), "images": List(Image())})
    Dataset.from_dict(rows, features=features).save_to_disk(folder / "saved")
    datasets.enable_progress_bars()
    _, out, err = unirs("data", "check", folder / "saved")
    assert out.split()[:2] == ["rows", "1"]
    assert "Casting" not in err


@pytest.mark.parametrize("name", ["d.jsonl", "test.jsonl"])
def test_the_problems_never_replace_the_data(unirs, folder, name):
    """A slip of the hand cost the data set."""
    before = (folder / name).read_bytes()
    against = ("--against", folder / "test.jsonl")
    code, _, err = unirs("data", "check", folder / "d.jsonl", *against, "--output", folder / "." / name)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{name}: is the data itself; give another name" in err
    assert (folder / name).read_bytes() == before


def test_the_command_is_content_with_good_rows(unirs, folder):
    code, out, err = unirs("data", "check", folder / "test.jsonl", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["rows"], found["bad_rows"], found["tasks"], found["problems"]) == (1, 0, {"single": 1}, {})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nothing.jsonl"], "own: nothing.jsonl is not there"),
        (["{folder}/0.png"], "its kind is not known; give JSONL"),
        (["{folder}/d.jsonl", "--no-images", "--against", "{folder}/test.jsonl"], "--against compares pictures"),
        (["{folder}/d.jsonl", "--output", "{folder}/x/y.jsonl"], "does not exist"),
    ],
)
def test_what_cannot_be_checked_is_told_in_one_line(unirs, arguments, reason, folder):
    code, _, err = unirs("data", "check", *[one.format(folder=folder) for one in arguments])
    assert code == 2
    assert reason in err
    assert len(err.strip().splitlines()) == 1


def test_a_killed_process_is_told_in_one_line(folder, monkeypatch):
    class Killed:
        def __init__(self, *settings, **more): ...

        def __enter__(self):
            return self

        def __exit__(self, *raised): ...

        def map(self, work, jobs):
            raise BrokenProcessPool

    monkeypatch.setattr(check_data, "ProcessPoolExecutor", Killed)
    with pytest.raises(DataError, match=r"d\.jsonl: a process that reads was killed"):
        check(folder / "d.jsonl")
