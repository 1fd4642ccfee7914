"""The commands as a user types them, on a tiny random model."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.conftest import DATA
from tests.tiny import picture
from unirs.model_source import find_model
from unirs.report import colour, overlay, spread
from unirs.terminal import InputError


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"picture-{seed}.png" for seed in range(4)]
    for seed, path in enumerate(paths):
        picture(seed, 50, 40).save(path)
    return paths


def test_ask_prints_the_answer_or_one_json_object(unirs, checkpoint, pictures):
    code, out, err = unirs("ask", pictures[0], "Is there a road?", "--model", checkpoint, "--max-new-tokens", 5)
    assert (code, err) == (0, "")
    code, as_json, _ = unirs(
        "ask", pictures[0], "Is there a road?", "--model", checkpoint, "--max-new-tokens", 5, "--json"
    )
    found = json.loads(as_json)
    assert found["answer"] == out.removesuffix("\n")
    assert (found["task"], found["question"], found["model"]) == ("ask", "Is there a road?", checkpoint)


def test_change_writes_a_heat_map_of_the_size_of_after(unirs, checkpoint, pictures):
    code, out, _ = unirs(
        "change",
        pictures[0],
        pictures[1],
        "--model",
        checkpoint,
        "--heatmap",
        "map.png",
        "--json",
        "--max-new-tokens",
        4,
    )
    found = json.loads(out)
    assert code == 0
    assert 0 <= found["change_map"]["mean"] <= found["change_map"]["max"] <= 1
    assert 0 <= found["changed_share"] <= 1
    assert (found["task"], found["inputs"]) == ("change", [str(pictures[0]), str(pictures[1])])
    with Image.open("map.png") as heat_map:
        assert heat_map.size == (50, 40)


def test_pictures_of_another_shape_are_compared_with_a_word(unirs, checkpoint, pictures):
    with Image.open(pictures[1]) as other:
        other.resize((50, 30)).save("wide.png")
        other.resize((100, 80)).save("large.png")
    command = ("change", pictures[0], "--model", checkpoint, "--max-new-tokens", 2)
    for name, told in (("wide.png", True), ("large.png", False)):
        code, _, error = unirs(*command, name)
        assert (code, "BEFORE is 50 x 40 and AFTER 50 x 30 pixels" in error) == (0, told)
        found = json.loads(unirs(*command, name, "--json")[1])
        assert ("BEFORE is 50 x 40 and AFTER 50 x 30 pixels" in found.get("warning", "")) == told
        assert ("warning" in found) == told


def test_a_closer_map_is_another_map_with_the_same_words(unirs, checkpoint, pictures):
    command = ("change", *pictures[:2], "--model", checkpoint, "--json", "--max-new-tokens", 4, "--heatmap", "map.png")
    plain, closer = (json.loads(unirs(*command, *more)[1]) for more in ((), ("--closer",)))
    assert plain["answer"] == closer["answer"]
    assert plain["change_map"] != closer["change_map"]
    with Image.open("map.png") as heat_map:
        assert heat_map.size == (50, 40)
    code, _, error = unirs("change", *pictures[:2], "--model", checkpoint, "--closer")
    assert (code, "add --heatmap" in error) == (2, True)


def test_video_takes_dated_pictures_and_an_instruction(unirs, checkpoint, pictures):
    common = ("--model", checkpoint, "--max-new-tokens", 4, "--json")
    code, out, _ = unirs("video", *pictures, "What happens here?", *common)
    assert code == 0
    assert json.loads(out)["frames"] == 4
    assert (
        json.loads(out)["answer"]
        == json.loads(unirs("video", *pictures, "-i", "What happens here?", *common)[1])["answer"]
    )
    assert json.loads(unirs("video", *pictures, "--num-frames", 2, *common)[1])["frames"] == 2


def test_video_tells_which_of_many_dates_the_model_looks_at(unirs, checkpoint, pictures):
    common = ("--model", checkpoint, "--max-new-tokens", 4)
    many = [*pictures, pictures[0], pictures[0]]
    code, out, err = unirs("video", *many, "--num-frames", 4, *common, "--json")
    assert (code, json.loads(out)["dates"]) == (0, [1, 3, 4, 6])
    assert "Of 6 pictures the model looks at 4: 1, 3, 4, 6." in err
    assert "--num-frames 6 shows all" in err
    code, out, err = unirs("video", *many, "--num-frames", 6, *common, "--json")
    assert (code, json.loads(out)["dates"]) == (0, [1, 2, 3, 4, 5, 6])
    assert "looks at" not in err


def test_an_answer_is_not_lost_when_its_heat_map_cannot_be_written(unirs, checkpoint, pictures, monkeypatch):
    def full(_, path, **__):
        path.touch()  # a disk may be full only when the file is closed
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    words = ("change", *pictures[:2], "--heatmap", "map.png", "--model", checkpoint, "--max-new-tokens", 2)
    code, out, err = unirs(*words)
    assert (code, out.strip() != "") == (2, True)
    assert err == "unirs: --heatmap map.png: cannot be written (No space left on device)\n"
    assert not list(Path().glob("*map*"))


def test_long_instruction_is_no_file_name(unirs, checkpoint, pictures):
    """An instruction above 255 characters once ended in "File name too long"."""
    common = ("--model", checkpoint, "--max-new-tokens", 2, "--json")
    found = json.loads(unirs("video", *pictures, "Name the event. " * 20, *common)[1])
    assert (len(found["inputs"]), found["instruction"]) == (4, "Name the event. " * 20)


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    picture(1).save(folder / "ok.png")
    whole = (folder / "ok.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "words.png").write_text("no picture")
    (folder / "empty.mp4").touch()
    (folder / "words.mp4").write_text("no clip")
    Image.new("1", (20000, 20000)).save(folder / "huge.png")
    for name, config in (("bert", '{"model_type": "bert"}'), ("cut", '{"model_type": "uni'), ("list", "[]")):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(config)
    return folder


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("ask", "missing.png", "q"), "missing.png"),
        (("ask", "cut.png", "q"), "cut.png"),
        (("ask", "empty.png", "q"), "empty.png"),
        (("ask", "words.png", "q"), "words.png"),
        (("ask", "huge.png", "q"), "20000 x 20000"),
        (("ask", ".", "q"), "directory"),
        (("ask", "https://example.org/a.png", "q"), "download"),
        (("ask", "ok.png", " "), "question is empty"),
        (("ask", "ok.png", "q", "--model", "nowhere"), "nowhere"),
        (("ask", "ok.png", "q", "--model", "./no/where"), "./no/where"),
        (("ask", "ok.png", "q", "--model", "words.png"), "words.png: is a file"),
        (("ask", "ok.png", "q", "--model", "."), "no config.json"),
        (("ask", "ok.png", "q", "--model", "bert"), "type bert, not unirs"),
        (("ask", "ok.png", "q", "--model", "cut"), "config.json is damaged"),
        (("ask", "ok.png", "q", "--model", "list"), "type None, not unirs"),
        (("demo", "--output", "ok.png"), "ok.png"),
        (("demo", "--output", "bert", "--model", "cut"), "config.json is damaged"),
        (("change", "ok.png", "ok.png", "--heatmap", "map.jpg"), "ends in .png"),
        (("change", "ok.png", "ok.png", "--heatmap", "bert"), "bert: is a folder"),
        (("change", "ok.png", "ok.png", "--heatmap", "ok.png"), "one of the two pictures"),
        (("video", "ok.png", "ok.png", "my missing.png"), "my missing.png"),
        (("change", "ok.png", "missing.png"), "missing.png"),
        (("change", "ok.png", "ok.png", "--heatmap", "no/such/folder.png"), "no/such"),
        (("video", "missing.mp4"), "missing.mp4"),
        (("video", "empty.mp4"), "empty.mp4"),
        (("video", "words.mp4"), "words.mp4"),
        (("ask", "empty.mp4", "q"), "unirs video empty.mp4"),
        (("ask", "ok.png", "\udcff"), "no valid UTF-8"),
        (("ask", "ok.png", "road " * 3000), "shorten the text"),
        (("ask", "", "q"), "a file name is empty"),
        (("ask", "ok.png", "q", "--model", ""), "the name is empty"),
        (("ask", "ok.png", "q", "--nothing"), "No such option: --nothing (see unirs ask --help"),
        (("ask", "ok.png"), "Missing argument"),
        (("demo", "--seed", "x"), "--seed"),
        (("change", "ok.png", "empty.mp4"), "is a video"),
        (("change", "ok.png", "ok.png", "ok.png"), "is a third file"),
        (("change", "ok.png", "ok.png", "missing.png"), "is a third file"),
        (("change", "ok.png", "ok.png", ""), "the instruction is empty"),
        (("video", "empty.mp4", ""), "the instruction is empty"),
        (("video", "ok.png"), "unirs ask"),
        (("video", "ok.png", "ok.png"), "unirs change ok.png ok.png"),
        (("video", "ok.png", "ok.png", "empty.mp4"), "one at a time"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(unirs, bad_files, monkeypatch, words, named):
    monkeypatch.chdir(bad_files)
    there = sorted(bad_files.rglob("*"))
    code, out, err = unirs(*words)
    assert sorted(bad_files.rglob("*")) == there
    assert code == 2
    assert out == ""
    assert err.startswith("unirs: ")
    assert named in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json", "processor_config.json"])
@pytest.mark.parametrize("cut", [True, False])
def test_damaged_model_folder_is_one_line_and_exit_2(unirs, checkpoint, pictures, tmp_path, missing, cut):
    """A cut weights file once ended in a traceback."""
    folder = tmp_path / "damaged"
    shutil.copytree(checkpoint, folder)
    whole = (folder / missing).read_bytes()
    (folder / missing).unlink()
    if cut:
        (folder / missing).write_bytes(whole[: len(whole) // 2])
    code, out, err = unirs("ask", pictures[0], "q", "--model", folder)
    assert (code, out) == (2, "")
    if cut or missing == "model.safetensors":
        assert err.startswith(f"unirs: {folder} cannot be loaded as a UniRS model: ")
    else:
        assert f"lacks {missing}" in err
    assert err.count("\n") == 1
    assert len(err) < 600


def test_checkpoint_with_missing_weights_is_refused(unirs, checkpoint, pictures, tmp_path):
    """transformers fills the gaps with random weights: the answer was once nonsense with exit 0."""
    folder = tmp_path / "holey"
    shutil.copytree(checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "change_extraction.fuse" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    code, out, err = unirs("ask", pictures[0], "q", "--model", folder)
    assert (code, out) == (2, "")
    assert "lacks 2 weights, model.change_extraction.fuse.bias first" in err


def test_nothing_but_the_answer_is_printed_by_the_installed_command(checkpoint, pictures):
    """Warnings and progress bars of other libraries must not mix with answers, nor a traceback with an error."""
    command = [sys.executable, "-m", "unirs", "ask", str(pictures[0]), "q", "--max-new-tokens", "3", "--model"]
    done = subprocess.run([*command, checkpoint, "--json"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert json.loads(done.stdout)["task"] == "ask"


@pytest.mark.parametrize("words", [["ask", "no.png", "q"], ["video", "no.mp4"], ["demo", "--model", "no"]])
def test_plain_slips_are_told_without_loading_torch(words):
    code = (
        "import sys; from unirs import cli; sys.argv = ['unirs', *sys.argv[1:]]\n"
        "try: cli.main()\n"
        "except SystemExit as stop: sys.exit(99 if 'torch' in sys.modules else stop.code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd="/")
    assert done.returncode == 2
    assert done.stderr.startswith("unirs: ")
    assert done.stderr.count("\n") == 1


def test_wrong_usage_is_exit_2(unirs):
    assert unirs("ask", "only-a-picture.png")[0] == 2
    assert unirs("ask", "a.png", "q", "--num-beams", "0")[0] == 2


def test_every_command_explains_itself(unirs):
    for command in ("ask", "change", "video", "demo"):
        code, out, _ = unirs(command, "--help")
        assert code == 0
        assert "--model" in out
        assert "--json" in out


def test_installed_command_and_module_print_the_version():
    expected = f"unirs {__import__('unirs').__version__}\n"
    executable = os.path.join(os.path.dirname(sys.executable), "unirs")
    for command in ([executable], [sys.executable, "-m", "unirs"]):
        assert subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout == expected


# -- the heat map ----------------------------------------------------------------------------------------------------
def test_map_is_laid_over_the_picture_without_its_padding():
    """A 40x20 picture sits in the middle rows of a square: a map that is hot only on the padding leaves it cold."""
    hot_padding = np.zeros((8, 8), np.float32)
    hot_padding[[0, 7]] = 1
    values = spread(hot_padding, (40, 20))
    assert values.shape == (20, 40)
    assert values.max() < 0.01
    assert spread(hot_padding, (40, 20), "resize").max() == 1


def test_colours_rise_in_lightness_with_the_change():
    lightness = colour(np.linspace(0, 1, 50)[None]).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness[0]) > 0).all()


def test_overlay_is_hot_where_the_map_is_hot():
    change_map = np.zeros((9, 9), np.float32)
    change_map[:, :3] = 1
    shown = np.asarray(overlay(Image.new("RGB", (90, 90), (100, 100, 100)), change_map)).astype(int)
    assert shown[:, :20].mean() > shown[:, 60:].mean() + 50


# -- real files ------------------------------------------------------------------------------------------------------
@pytest.mark.data
def test_real_pictures_pairs_and_clips_are_answered(unirs, checkpoint):
    common = ("--model", checkpoint, "--max-new-tokens", 2, "--json")
    for path in sorted((DATA / "single").iterdir())[:3]:
        if path.suffix in (".jpg", ".png", ".jpeg"):
            assert unirs("ask", path, "What is this?", *common)[0] == 0
    for folder in ("levir_cd", "dsifn"):
        path = sorted((DATA / folder / "A").iterdir())[0]
        assert unirs("change", path, DATA / folder / "B" / path.name, *common)[0] == 0
    clip = sorted((DATA / "video").glob("*.mp4"))[0]
    assert unirs("video", clip, *common)[0] == 0


def test_a_name_that_is_no_folder_is_told_before_the_hub_is_asked(capsys, tmp_path, monkeypatch):
    """Without a network that takes a minute, and ends with a word on the hub alone."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert find_model("runs/not-yet") == "runs/not-yet"
    assert capsys.readouterr().err == "runs/not-yet: no such folder here; asking the Hugging Face hub for it\n"


def test_folder_that_is_mistyped_is_told_without_asking_the_hub(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "unirs-own").mkdir(parents=True)
    for name in ("runs/unirs-onw", f"{tmp_path}/runs/unirs-onw", "./runs/unirs-onw"):
        meant = re.escape(str(Path(name).parent / "unirs-own"))
        with pytest.raises(InputError, match=rf"^--base {re.escape(name)}: no such folder; did you mean {meant}\?"):
            find_model(name, "--base")
    with pytest.raises(InputError, match=r"^--model runz: no such folder; did you mean runs\?$"):
        find_model("runz")
    assert capsys.readouterr().err == ""
    assert find_model("runs/quite-another") == "runs/quite-another"  # may be the hub's, whatever is here
