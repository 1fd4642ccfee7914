"""A user's own rows, in every form they may come in."""

import io
import json

import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from unirs.trainers.collator import Collator
from unirs.trainers.data_sets import DataError, OwnData
from unirs.trainers.recipe_data import make_mixture

from tests.tiny import picture

ANSWER = {"role": "assistant", "content": "two"}
QUESTION = {"role": "user", "content": "How many?"}


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        picture(seed, 40, 40).save(tmp_path / f"{seed}.png")
    return tmp_path


def lines(folder, *rows):
    file = folder / "d.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return OwnData(file)


def kinds(row):
    """Items of the first user turn: the text itself, or the name of the file."""
    first = next(message for message in row["messages"] if message["role"] == "user")
    shown = []
    for item in first["content"]:
        value = item.get(item["type"])
        shown.append(str(value).rpartition("/")[2] if item["type"] in ("image", "video") else value)
    return shown


@pytest.mark.parametrize(
    ("row", "task", "shown"),
    [
        ({"messages": [QUESTION, ANSWER]}, "text", ["How many?"]),
        ({"messages": [QUESTION, ANSWER], "images": ["0.png"]}, "single", ["0.png", "How many?"]),
        ({"messages": [QUESTION, ANSWER], "image": "0.png"}, "single", ["0.png", "How many?"]),
        ({"messages": [QUESTION, ANSWER], "video": "c.mp4"}, "video", ["c.mp4", "How many?"]),
        ({"messages": [QUESTION, ANSWER], "images": ["0.png"], "video": ""}, "single", ["0.png", "How many?"]),
        ({"messages": [QUESTION, ANSWER], "videos": ["c.mp4"], "image": ""}, "video", ["c.mp4", "How many?"]),
        ({"messages": [QUESTION, ANSWER], "images": ["0.png"], "video": "tour 12"}, "single", ["0.png", "How many?"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}, ANSWER], "video": "c.mp4"},
            "video",
            ["c.mp4"],
        ),
        ({"messages": [QUESTION, ANSWER], "images": ["0.png", "1.png"]}, "pair", ["0.png", "1.png", "How many?"]),
        ({"prompt": "How many?", "completion": "two", "images": ["0.png"]}, "single", ["0.png", "How many?"]),
        ({"prompt": [QUESTION], "completion": [ANSWER], "videos": ["c.mp4"]}, "video", ["c.mp4", "How many?"]),
        (
            {"messages": [QUESTION, ANSWER], "images": ["0.png", "1.png", "2.png"]},
            "video",
            ["0.png", "1.png", "2.png", "How many?"],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image"}]},
                    ANSWER,
                ],
                "images": ["0.png"],
            },
            "single",
            ["See", "0.png"],
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "image": "2.png"}]}, ANSWER]},
            "single",
            ["2.png"],
        ),
        (
            {"messages": [{"role": "system", "content": "Be short."}, QUESTION, ANSWER], "images": ["0.png"]},
            "single",
            ["0.png", "How many?"],
        ),
    ],
)
def test_rows_of_every_form(row, task, shown, folder):
    data = lines(folder, {**row, "id": "mine"})
    found = data.row(0)
    assert (len(data), found["id"], found["task"], kinds(found)) == (1, "mine", task, shown)
    assert found["messages"][-1] == ANSWER


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"messages": [{"role": "user", "content": "<image>\nHow many?"}, ANSWER], "images": ["0.png"]}, ["0.png"]),
        (
            {"prompt": "<image>\n<image>\nHow many?", "completion": "two", "images": ["0.png", "1.png"]},
            ["0.png", "1.png"],
        ),
        ({"prompt": "<video>How many?", "completion": "two", "videos": ["c.mp4"]}, ["c.mp4"]),
    ],
)
def test_markers_in_the_words_of_a_row_with_pictures_stand_for_them(row, shown, folder):
    assert kinds(lines(folder, row).row(0)) == [*shown, "How many?"]


def test_each_turn_gets_the_pictures_that_its_markers_wait_for(folder):
    again = [{"role": "user", "content": "<image>And now?"}, ANSWER]
    row = {"messages": [{"role": "user", "content": "<image>How many?"}, ANSWER, *again], "images": ["0.png", "1.png"]}
    found = lines(folder, row).row(0)
    assert [message["content"] for message in found["messages"][::2]] == [
        [{"type": "image", "image": str(folder / "0.png")}, {"type": "text", "text": "How many?"}],
        [{"type": "image", "image": str(folder / "1.png")}, {"type": "text", "text": "And now?"}],
    ]
    assert found["task"] == "single"


def test_markers_in_a_row_without_pictures_are_words(folder):
    assert kinds(lines(folder, {"prompt": "Is <image> a tag?", "completion": "yes"}).row(0)) == ["Is <image> a tag?"]


def test_a_picture_with_an_address_of_its_own_is_not_looked_for_in_the_folder(folder):
    row = {"messages": [QUESTION, ANSWER], "images": ["https://x.org/a.png"]}
    assert lines(folder, row).row(0)["messages"][0]["content"][0]["image"] == "https://x.org/a.png"


def test_a_task_of_the_users_own_words_is_let_be(folder):
    assert lines(folder, {"messages": [QUESTION, ANSWER], "task": "counting"}).row(0)["task"] == "text"


@pytest.mark.parametrize("name", ["d.jsonl", "d.json"])
def test_llavas_records_and_ours_are_told_apart_whatever_the_file(name, folder):
    spoken = [{"from": "human", "value": "<image>\nHow many?"}, {"from": "gpt", "value": "two"}]
    rows = [
        {"image": "0.png", "conversations": spoken},
        {"messages": [QUESTION, ANSWER], "images": ["0.png"]},
    ]
    (folder / name).write_text(json.dumps(rows) if name == "d.json" else "\n".join(map(json.dumps, rows)))
    data = OwnData(folder / name)
    first, second = data.row(0), data.row(1)
    assert first["messages"] == second["messages"]
    assert kinds(first) == ["0.png", "How many?"]


def test_a_clue_stands_behind_the_question(folder, processor):
    row = lines(folder, {"messages": [QUESTION, ANSWER], "images": ["0.png"], "clue": "a farm <image>"}).row(0)
    words = processor.tokenizer.decode(Collator(processor).encode(row).input_ids)
    assert "How many? Clue: a farm ASSISTANT" in words
    assert words.count("<image>") == processor.image_seq_length  # a marker in the clue is taken out


def parquet(folder, bytes_too):
    buffer = io.BytesIO()
    picture(5, 40, 40).save(buffer, "PNG")
    images = [[{"bytes": buffer.getvalue(), "path": None}] if bytes_too else ["0.png"]]
    features = Features(
        {
            "prompt": Value("string"),
            "completion": Value("string"),
            "images": List(Image() if bytes_too else Value("string")),
        }
    )
    return Dataset.from_dict({"prompt": ["How many?"], "completion": ["two"], "images": images}, features=features)


@pytest.mark.parametrize("bytes_too", [False, True])
@pytest.mark.parametrize("kind", ["parquet", "folder", "splits"])
def test_tables_hold_paths_or_pictures(kind, bytes_too, folder, processor):
    table = parquet(folder, bytes_too)
    if kind == "parquet":
        table.to_parquet(folder / "d.parquet")
        data = OwnData(folder / "d.parquet")
    elif kind == "folder":
        table.save_to_disk(folder / "d")
        data = OwnData(folder / "d", images=folder)
    else:
        DatasetDict({"train": table}).save_to_disk(folder / "d")
        with pytest.raises(DataError, match="has the splits train; name one"):
            OwnData(folder / "d")
        data = OwnData(folder / "d", split="train", images=folder)
    if kind != "splits":
        with pytest.raises(DataError, match=f"{data.path}: has no splits; leave split out"):
            OwnData(data.path, split="test")  # which was trained or scored on all rows as if they were the test's
    encoded = Collator(processor).encode(data.row(0))
    expected = processor.image_processor([picture(5 if bytes_too else 0, 40, 40)], return_tensors="pt")["pixel_values"]
    assert (encoded.visuals["pixel_values"] == expected).all()


def test_llava_json_is_read_as_it_is(folder):
    record = {
        "image": "0.png",
        "conversations": [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}],
    }
    (folder / "d.json").write_text(json.dumps([record]))
    assert OwnData(folder / "d.json").row(0)["task"] == "single"
    with pytest.raises(DataError, match="has no splits"):
        OwnData(folder / "d.json", split="test")
    (folder / "d.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"d\.json: is no whole JSON"):
        OwnData(folder / "d.json")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{cut", "is no JSON"),
        ("[" * 100_000, "is no JSON"),  # deeper than Python goes
        ("3", "is no row"),
        ({"images": []}, "has neither messages nor prompt and completion"),
        ({"messages": []}, "messages must be a list of turns"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "turn 1 has the role 'bot'"),
        ({"messages": [QUESTION]}, "turns must be user and assistant in pairs"),
        ({"messages": [QUESTION, {"role": "assistant", "content": "  "}]}, "turn 2 is an empty answer"),
        ({"messages": [QUESTION, {"role": "assistant", "content": None}]}, "turn 2 must have words"),
        ({"messages": [QUESTION, ANSWER], "images": "0.png"}, "images must be a list"),
        # they became texts without their pictures
        ({"prompt": "q", "completion": "a", "before": "0.png", "after": "1.png"}, "write a pair as images"),
        ({"prompt": "q", "completion": "a", "images": ["0.png"], "image": "1.png"}, "has images and image; keep"),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "images": ["0.png"]},
            "has images beside conversations; LLaVA's field is image",
        ),
        ({"messages": [QUESTION, ANSWER], "images": [None]}, "a picture or clip is None"),
        (
            {
                "messages": [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}, ANSWER],
                "images": ["0.png"],
            },
            "the messages have 2 image items, images holds 1",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}, ANSWER], "images": ["0.png", "1.png"]},
            "1 image items, images holds 2",
        ),
        (  # read as two pictures it would be a pair
            {
                "messages": [{"role": "user", "content": [{"type": "image", "image": "0.png"}]}, ANSWER],
                "images": ["0.png"],
            },
            "image items name their images, and images holds 1 more",
        ),
        (
            {"messages": [{"role": "user", "content": "<image><image>x"}, ANSWER], "images": ["0.png"]},
            "2 image items, images holds 1",
        ),
        (
            {"messages": [QUESTION, ANSWER, {"role": "system", "content": "s"}, QUESTION, ANSWER]},
            "turns must be user and assistant in pairs",
        ),
        ({"messages": [QUESTION, ANSWER], "images": ["0.png"], "task": "pair"}, "its task is 'pair', .* 'single'"),
        ({"prompt": 3, "completion": "x"}, "turn 1 must have words"),
        ({"prompt": "x\ud800", "completion": "x"}, "turn 1 holds half characters"),
        ({"messages": [QUESTION, ANSWER], "videos": [[]]}, r"a picture or clip is \[\]"),
        ({"messages": [QUESTION, ANSWER], "videos": [[["0.png"]]]}, "a picture or clip is"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}, ANSWER]}, "an item of type 'audio'"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}, ANSWER]}, "whose text is 3"),
    ],
)
def test_a_bad_row_is_named_by_file_and_number(row, reason, folder):
    data = lines(folder, {"messages": [QUESTION, ANSWER]}, "", row)
    with pytest.raises(DataError, match=rf"d\.jsonl, row 2: .*{reason}"):
        data.row(1)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("d.csv", b"a,b", "its kind is not known; give JSONL"),
        ("d.parquet", b"PAR1 cut", "is no whole Parquet file"),
        ("d.jsonl", b"\n", "holds no sample"),
    ],
)
def test_a_file_that_is_no_data_is_named(name, content, reason, folder):
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        make_mixture({"x": {"source": "own", "path": str(folder / name)}})


def test_rows_are_read_from_the_disk_not_held(folder):
    """A hundred thousand lines cost their places alone."""
    import tracemalloc

    line = json.dumps({"messages": [{"role": "user", "content": "q" * 500}, ANSWER], "id": "%06d"})
    (folder / "big.jsonl").write_text("".join(line % number + "\n" for number in range(100_000)))
    tracemalloc.start()
    data = OwnData(folder / "big.jsonl")
    assert tracemalloc.get_traced_memory()[0] < 2e6
    tracemalloc.stop()
    assert [data.row(place)["id"] for place in (0, 4711, 99_999)] == ["000000", "004711", "099999"]
