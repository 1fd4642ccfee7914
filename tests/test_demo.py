"""`unirs demo`: a page and a picture of generated scenes with answers."""

import html
import json
import os
from pathlib import Path

import pytest
from PIL import Image
from unirs.trainers.scene_questions import QuestionAnswer

from unirs.report import verdict


def test_demo_writes_a_page_that_needs_no_network_and_a_picture(unirs, checkpoint):
    code, out, _ = unirs("demo", "--model", checkpoint, "--output", "report", "--json")
    assert code == 0
    page = Path("report/report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 + 2 * 3 + 2 * 8
    assert "http" not in page
    assert all(html.escape(row["answer"]) in page for row in json.loads(out)["answers"])
    with Image.open("report/report.png") as sheet:
        assert min(sheet.size) > 600
    # What it leaves is what the other commands take.
    assert sorted(os.listdir("report")) == sorted(
        ["report.html", "report.png", "scene.png", "before.png", "after.png", "clip.mp4"]
    )
    common = ("--model", checkpoint, "--max-new-tokens", 1, "--json")
    assert unirs("ask", "report/scene.png", "q", *common)[0] == 0
    assert unirs("change", "report/before.png", "report/after.png", *common)[0] == 0
    assert json.loads(unirs("video", "report/clip.mp4", "--num-frames", 8, *common)[1])["frames"] == 8


@pytest.mark.parametrize(
    ("output", "name"),
    [
        *[
            ("mine", name)
            for name in ("before.png", "after.png", "scene.png", "clip.mp4", "report.png", "report.html")
        ],
        ("mine/page.html", "page.png"),
        ("mine/page.html", "page.html"),
    ],
)
def test_demo_never_costs_the_user_a_file(unirs, checkpoint, output, name):
    """It wrote its own over them without a word."""
    Path("mine").mkdir()
    Path("mine", name).write_text("the only copy")
    code, out, err = unirs("demo", "--model", checkpoint, "--output", output)
    told = f"unirs: mine/{name}: is there, and of no earlier `unirs demo`; move it, or give another --output\n"
    assert (code, out, err) == (2, "", told)
    assert os.listdir("mine") == [name]
    assert Path("mine", name).read_text() == "the only copy"


def test_demo_goes_into_its_own_folder_again_also_after_it_was_cut_off(unirs, checkpoint):
    common = ("demo", "--model", checkpoint, "--max-new-tokens", 1, "--json")
    assert unirs(*common, "--output", "mine")[0] == 0
    whole = Path("mine/report.html").read_bytes()
    for name in ("report.png", "after.png", "clip.mp4"):
        Path("mine", name).unlink()
    Path("mine/report.html").write_bytes(whole[: len(whole) // 2])
    assert unirs(*common, "--output", "mine")[0] == 0
    assert Path("mine/report.html").read_bytes() == whole
    assert len(os.listdir("mine")) == 6


def test_demo_s_page_alone_does_not_make_the_pictures_beside_it_its_own(unirs, checkpoint):
    common = ("demo", "--model", checkpoint, "--max-new-tokens", 1, "--json")
    assert unirs(*common, "--output", "report.html")[0] == 0
    Path("before.png").write_text("the only copy")
    assert unirs(*common, "--output", ".")[0] == 2
    assert unirs(*common, "--output", "report.html")[0] == 0
    assert Path("before.png").read_text() == "the only copy"


def test_demo_shows_other_scenes_for_another_seed_and_takes_a_file_name(unirs, checkpoint):
    common = ("demo", "--model", checkpoint, "--max-new-tokens", 2, "--json")
    first = json.loads(unirs(*common, "--output", "new/folder/page.html")[1])
    assert (first["report"], first["picture"]) == ("new/folder/page.html", "new/folder/page.png")
    assert Path(first["report"]).is_file()
    assert Path(first["picture"]).is_file()
    second = json.loads(unirs(*common, "--output", "other", "--seed", 1)[1])
    assert [row["truth"] for row in first["answers"]] != [row["truth"] for row in second["answers"]]
    # One pair changed and one did not, whatever the seed.
    for found in (first, second):
        flags = [row["truth"] for row in found["answers"] if row["truth"] in ("yes", "no") and row["task"] == "pair"]
        assert flags == ["yes", "no"]


def test_a_caption_in_other_words_is_neither_right_nor_wrong_if_it_says_rightly_that_something_changed():
    caption = QuestionAnswer(
        "?", "two houses are built", "change_caption", ("two houses are built", "2 houses appear")
    )
    said = ("Two houses are built", "a road is built", "the scene is the same as before", "")
    assert [verdict(one, caption) for one in said] == [True, None, False, False]
    count = QuestionAnswer("?", "2", "count", ("2",))
    assert [verdict(one, count) for one in ("2", "3")] == [True, False]
