"""Small parts of the web page that need no Gradio: values, words, pictures, examples, and its address and name."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from PIL import Image
from unirs.trainers.scene_tasks import single_sample

from tests.tiny import picture
from unirs.app.asking import Answer
from unirs.app.examples import FIRST, write_examples
from unirs.app.slider import slider_html
from unirs.app.values import number, ticked, whole, words
from unirs.app.wording import answer_html, changes_html, error_html, note_on_shapes
from unirs.listening import address, own_names, served_name
from unirs.report import changed_share
from unirs.terminal import InputError


@pytest.mark.parametrize("odd", [0, 11, "3", None, True, float("nan"), float("inf"), 10**400, [3], 2.5])
def test_odd_numbers_are_told(odd):
    with pytest.raises(InputError, match=r"^Frames is a (whole number|number from 1 to 10)\.$"):
        whole(odd, "Frames", 1, 10)


def test_fitting_values_are_taken():
    assert whole(3.0, "Frames", 1, 10) == 3
    assert number(0.25, "Score", 0, 1) == 0.25
    assert (words(None, "It"), words("Is it?", "It"), ticked(False, "It")) == ("", "Is it?", False)


@pytest.mark.parametrize("odd", [3, ["a"], "\ud800"])
def test_odd_words_are_told(odd):
    with pytest.raises(InputError):
        words(odd, "The question")
    with pytest.raises(InputError):
        ticked(odd, "The box")


def test_words_of_visitor_and_model_are_no_markup():
    hostile = "<img src=x onerror=alert(1)>"
    for shown in (
        error_html(hostile),
        answer_html(Answer(hostile, clue=hostile)),
        answer_html(Answer("", no_clue=hostile, has_ended=True), True),
        changes_html([], [], [hostile]),
        answer_html(Answer(), notes=[hostile]),
    ):
        assert "<img" not in shown
        assert "&lt;img src=x onerror=alert(1)&gt;" in shown


def test_pictures_of_other_shapes_are_told():
    """One was pulled to the other's shape under the slider, and nobody was told."""
    assert note_on_shapes((256, 256), (1024, 1024)) == note_on_shapes((400, 300), (403, 300)) == []
    (told,) = note_on_shapes((768, 384), (300, 600))
    assert told == (
        "The earlier picture has 768 x 384 pixels and the later one 300 x 600: "
        "where the two lie one over the other is a guess."
    )


def test_changes_without_a_place_have_no_column_for_areas():
    change = SimpleNamespace(caption="a house is built", score=0.9)
    assert "Area" in changes_html([change], [12.0], [])
    assert "12 m²" in changes_html([change], [12.0], [])
    assert "Area" not in changes_html([change], [None], [])


@pytest.mark.parametrize(
    ("size", "rows", "expected"),
    [((100, 100), [0, 1], 0.5), ((200, 100), [1, 2], 1.0), ((200, 100), [1], 0.5), ((200, 100), [0, 3], 0.0),
     ((400, 100), [1], 0.5), ((400, 100), [0, 3], 0.0)],
)  # fmt: skip
def test_share_of_a_wide_picture_is_without_its_padding(size, rows, expected):
    """A picture twice as wide as high lies under the two middle rows of four; it could never pass one half."""
    change_map = np.zeros((4, 4))
    change_map[rows] = 0.9
    assert changed_share(change_map, size) == pytest.approx(expected)
    assert changed_share(change_map.T, size[::-1]) == pytest.approx(expected)


def test_slider_holds_three_pictures_with_their_names():
    shown = slider_html(picture(1), picture(2), picture(3))
    assert shown.count("src='data:image/jpeg;base64,") == 3
    for name in ("alt='The earlier date'", "alt='The later date'", "aria-label='Share of the earlier date, in"):
        assert name in shown


def test_examples_are_generated_scenes_of_one_place_each(tmp_path):
    made = write_examples(tmp_path)
    expected = single_sample(FIRST).images[0].convert("RGB")
    with Image.open(made.pictures[0][0]) as first:
        assert np.array_equal(np.asarray(first), np.asarray(expected))
    with rasterio.open(made.maps[0][0]) as before, rasterio.open(made.maps[0][1]) as after:
        assert (before.bounds, before.shape, before.crs) == (after.bounds, after.shape, after.crs)
        assert not np.array_equal(before.read(), after.read())
    assert [len(kind) for kind in (made.pictures, made.pairs, made.clips)] == [3, 2, 2]


def test_nobody_imports_the_command_line():
    """The page took two functions from `unirs map`'s module, and `unirs app` its socket from `unirs serve`'s."""
    root = Path(__file__).parents[1]
    folders = ("modeling_unirs", "processing", "trainers", "evaluation", "geo", "hub", "src/unirs")
    importing = {
        str(path.relative_to(root))
        for folder in folders
        for path in (root / folder).rglob("*.py")
        if re.search(
            r"^ *(from|import) (\.+|unirs\.|.*import )cli(_\w+)?\b", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    # the package's own door, and the two that gather commands
    assert importing == {"src/unirs/__main__.py", "src/unirs/cli.py", "src/unirs/cli_data.py"}


@pytest.mark.parametrize("command", ["serve", "app"])
def test_a_megapixel_is_a_million_pixels(unirs, monkeypatch, command):
    """It was 2**20 for one of the two."""
    if command == "app":
        pytest.importorskip("gradio", reason="gradio is not installed: pip install 'unirs[app]'")
    seen = {}

    def stop(**limits):
        seen.update(limits)
        raise InputError("seen")

    monkeypatch.setattr(f"unirs.{'serving' if command == 'serve' else 'app'}.limits.Limits", stop)
    assert unirs(command, "--max-megapixels", 3) == (2, "", "unirs: seen\n")
    assert seen["pixels"] == 3_000_000


@pytest.mark.parametrize(
    ("host", "shown", "own"),
    [("127.0.0.1", "127.0.0.1", True), ("::1", "[::1]", True), ("0.0.0.0", "0.0.0.0", False), ("::", "[::]", False)],
)
def test_a_server_on_loopback_answers_to_its_own_names_alone(host, shown, own):
    assert address(host, 8000) == f"http://{shown}:8000"
    names = {"127.0.0.1", "localhost", "::1", "[::1]"}
    assert own_names(host) == (names if own else None)


def test_a_model_is_called_by_its_folder_or_its_id(tmp_path):
    (tmp_path / "mine").mkdir()
    named = [served_name(one) for one in (None, str(tmp_path / "mine"), "someone/theirs")]
    assert named == ["unirs-tiny", "mine", "someone/theirs"]
