"""Weights of others come in whole or not at all."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor
from unirs.hub import convert as conversion
from unirs.hub.convert import convert
from unirs.hub.weight_files import WeightError, read_header, read_weights, write_weights

from tests.conftest import REFERENCE
from tests.tiny import encode, picture, user

pytestmark = pytest.mark.reference
VLM = REFERENCE / "vlm"


@pytest.fixture
def source(tmp_path):
    """A released folder that a test may spoil."""
    return shutil.copytree(VLM / "unirs", tmp_path / "source")


def stored(folder):
    return {name: weight.load() for name, weight in read_weights(folder).items()}


def save_parts(folder, change):
    """Rewrites the projector's weights of a released folder."""
    file = folder / "mm_projector" / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)


@pytest.mark.parametrize("name", ["unirs", "vila15_base"])
def test_every_tensor_is_used_or_named_and_every_parameter_filled_or_named(name, tmp_path):
    report = convert(VLM / name, tmp_path / "out")
    source = {
        f"{part}/{key}" for part in ("llm", "vision_tower", "mm_projector") for key in read_weights(VLM / name / part)
    }
    assert set(report.left_out) <= source
    assert report.used == len(source) - len(report.left_out)
    loaded, info = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    names = set(loaded.state_dict())
    whole = {one for one in report.fresh if "[" not in one}
    assert whole <= names
    assert report.used + len(whole) == len(names)
    assert any("change_extraction" in one for one in whole) == (name == "vila15_base")
    record = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert record["left_out"] == report.left_out
    assert len(record["sources"]) == {"unirs": 3, "vila15_base": 5}[name]


def test_rows_for_the_markers_are_the_mean_of_the_others(tmp_path):
    """Embeddings but for one place, at most 2 % of the mean's largest for each row that shares the place."""
    convert(VLM / "unirs", tmp_path / "out")
    weights, source = stored(tmp_path / "out"), stored(VLM / "unirs" / "llm")
    for name, old in (
        ("model.language_model.embed_tokens.weight", "model.embed_tokens.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ):
        assert torch.equal(weights[name][:512], source[old])
        assert weights[name].shape[0] % 64 == 0
        mean, added = source[old].mean(0), weights[name][512:]
        apart = (added - mean).abs() > 1e-5 + 1.3e-6 * mean.abs()  # what `assert_close` allows
        assert apart.sum(-1).tolist() == [name != "lm_head.weight"] * len(added)
        times = -(-len(added) // len(mean))
        assert (added - mean).abs().max() <= 0.02 * times * mean.abs().max()


def test_markers_of_a_converted_model_are_known_by_their_embeddings_alone(tmp_path):
    """They all had one embedding, so neither `inputs_embeds` nor PEFT's prompt tuning could place a picture."""
    convert(VLM / "unirs", tmp_path / "out")
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype=dtype)
        table = model.get_input_embeddings().weight[512:]
        assert len(table.unique(dim=0)) == len(table)
    model, own = model.float().eval(), AutoProcessor.from_pretrained(tmp_path / "out")
    for pictures in ([picture(0)], [picture(0), picture(1)]):
        inputs = encode(own, user(*pictures, "What is here?"))
        given = dict(inputs)
        given["inputs_embeds"] = model.get_input_embeddings()(given.pop("input_ids"))
        with torch.no_grad():
            torch.testing.assert_close(model(**given).logits, model(**inputs).logits)


def test_legacy_bin_gives_the_same_weights_as_safetensors(source, tmp_path):
    for part in ("llm", "vision_tower", "mm_projector"):
        file = source / part / "model.safetensors"
        torch.save(load_file(file), source / part / "pytorch_model.bin")
        file.unlink()
    convert(source, tmp_path / "from_bin")
    convert(VLM / "unirs", tmp_path / "out")
    assert (tmp_path / "from_bin/model.safetensors").read_bytes() == (tmp_path / "out/model.safetensors").read_bytes()


def test_pickled_code_is_never_run(source, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    (source / "llm" / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Hostile()}, source / "llm" / "pytorch_model.bin")
    with pytest.raises(WeightError, match=r"pytorch_model.bin: cannot be read safely"):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: w.pop("layers.single.1.bias"),
            "1 tensors do not fit: model.multi_modal_.*norm.bias is missing",
        ),
        (lambda w: w.pop("layers.change.Conv1.bias"), "model.change_extraction.fuse.bias is missing"),
        (lambda w: w.update(extra=torch.zeros(1)), "mm_projector/extra has no place"),
        (
            lambda w: w.update({"layers.1.bias": torch.zeros(256)}),
            "layers.single.1.bias is there twice",
        ),
        (
            lambda w: w.update({"layers.single.1.bias": torch.zeros(3)}),
            re.escape("model.multi_modal_projector.norm.bias has the shape [3], not [256]"),
        ),
    ],
)
def test_what_does_not_fit_stops_with_the_list(source, tmp_path, change, message):
    save_parts(source, change)
    with pytest.raises(WeightError, match=message):
        convert(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_tower_and_language_model_get_a_fresh_middle_that_depends_on_the_seed_alone(tmp_path):
    parts = VLM / "vila15_base" / "vision_tower", VLM / "vila15_base" / "llm"
    folders = [tmp_path / name for name in ("a", "b", "c")]
    reports = [convert(parts[0], folder, parts[1], seed=seed) for folder, seed in zip(folders, (0, 0, 1), strict=True)]
    a, b, c = (stored(folder) for folder in folders)
    fresh = [name for name in reports[0].fresh if "[" not in name]
    assert {name.split(".")[1] for name in fresh} == {"change_extraction", "multi_modal_projector"}
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert {name for name in a if not torch.equal(a[name], c[name])} <= set(fresh)
    assert not torch.equal(a["model.change_extraction.fuse.weight"], c["model.change_extraction.fuse.weight"])
    assert torch.equal(a["model.change_extraction.bottleneck.1.running_var"], torch.ones(32))
    assert torch.equal(a["model.multi_modal_projector.norm.weight"], torch.ones(256))


def test_a_tower_with_a_token_beside_its_patches_looks_at_pictures_and_pairs(tmp_path):
    sizes = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
        "image_size": 16, "patch_size": 4,
    }  # fmt: skip
    AutoModel.from_config(AutoConfig.for_model("clip_vision_model", **sizes)).save_pretrained(tmp_path / "tower")
    convert(tmp_path / "tower", tmp_path / "out", VLM / "vila15_base" / "llm")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").model
    pixels = torch.randn(2, 3, 16, 16)
    assert model.get_image_features(pixels).shape[:2] == (2, 4)  # 4x4 patches, by twos
    assert model.get_change_features(pixels[None]).shape[:2] == (1, 4)
    tokens = model.vision_tower(pixel_values=pixels).last_hidden_state
    assert tokens.shape[1] == 1 + 16
    assert torch.equal(model.encode_pixels(pixels), tokens[:, -16:])


def test_trained_change_extraction_is_grafted_onto_a_base(tmp_path):
    """VILA-1.5 and the released Change Extraction together are the released UniRS."""
    convert(VLM / "vila15_base", tmp_path / "grafted", change_extraction=VLM / "unirs" / "mm_projector")
    convert(VLM / "unirs", tmp_path / "unirs")
    expected = stored(tmp_path / "unirs")
    # Stage 1 saves our own names, alone in a file.
    ours = {k.removeprefix("model."): v for k, v in expected.items() if "change_extraction" in k}
    save_file(ours, tmp_path / "stage1.safetensors")
    convert(VLM / "vila15_base", tmp_path / "base")
    convert(tmp_path / "base", tmp_path / "again", change_extraction=tmp_path / "stage1.safetensors")
    for name in ("grafted", "again"):
        found = stored(tmp_path / name)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_head_that_is_not_what_it_is_tied_to_stops_the_conversion(tmp_path):
    """transformers loads both then; the head was left out as "the same as the input embeddings"."""
    parts = shutil.copytree(VLM / "vila15_base", tmp_path / "parts")
    settings = json.loads((parts / "llm" / "config.json").read_text())
    (parts / "llm" / "config.json").write_text(json.dumps({**settings, "tie_word_embeddings": True}))
    with pytest.raises(WeightError, match=r"llm/lm_head.weight is not the embeddings' matrix"):
        convert(parts / "vision_tower", tmp_path / "out", parts / "llm")
    weights = stored(parts / "llm")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    for file in (parts / "llm").glob("*.safetensors*"):
        file.unlink()
    save_file(weights, parts / "llm" / "model.safetensors")
    report = convert(parts / "vision_tower", tmp_path / "out", parts / "llm")
    assert report.left_out["llm/lm_head.weight"] == "is the same as the input embeddings"


def test_pictures_are_resized_as_the_tower_had_them(tmp_path):
    """SigLIP 2's are bilinear; all towers got bicubic ones."""
    tower = shutil.copytree(VLM / "vila15_base" / "vision_tower", tmp_path / "tower")
    settings = json.loads((tower / "preprocessor_config.json").read_text())
    (tower / "preprocessor_config.json").write_text(json.dumps({**settings, "resample": 2}))
    convert(tower, tmp_path / "out", VLM / "vila15_base" / "llm")
    assert AutoProcessor.from_pretrained(tmp_path / "out").image_processor.resample == 2


def test_the_record_does_not_tell_where_the_sources_lie(tmp_path):
    """It is published; paths from the root tell of the machine. Two files of one name stay two."""
    for number, part in enumerate(("vision_tower", "llm")):
        shutil.copytree(VLM / "vila15_base" / part, tmp_path / str(number) / "model")
    report = convert(tmp_path / "0" / "model", tmp_path / "out", tmp_path / "1" / "model")
    assert "0/model/model.safetensors" in report.sources
    assert {name.split("/")[0] for name in report.sources} == {"0", "1"}
    assert str(tmp_path) not in (tmp_path / "out" / "conversion.json").read_text()


# -- nothing half ----------------------------------------------------------------------------------------------------
def test_killed_conversion_leaves_no_target_and_the_next_one_succeeds(tmp_path):
    code = (
        "import os, signal; from unirs.hub.convert import convert;"
        f"convert({str(VLM / 'unirs')!r}, {str(tmp_path / 'out')!r},"
        " progress=lambda done, total: done > total / 2 and os.kill(os.getpid(), signal.SIGKILL))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    convert(VLM / "unirs", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 10**6))
    with pytest.raises(WeightError, match=r"out: needs 0.0 GB and the disk has 0.0 GB left"):
        convert(VLM / "unirs", tmp_path / "out")
    monkeypatch.undo()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(conversion, "write_rest", full)
    with pytest.raises(WeightError, match=r"out: cannot be written \(No space left on device\)"):
        convert(VLM / "unirs", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(WeightError, match="is there already"):
        convert(VLM / "unirs", tmp_path)
    assert (tmp_path / "mine").read_text() == "precious"


# -- files -----------------------------------------------------------------------------------------------------------
def test_shards_hold_what_one_file_holds_and_safetensors_reads_them(tmp_path):
    weights = read_weights(VLM / "unirs" / "llm")
    expected = load_file(VLM / "unirs" / "llm" / "model.safetensors")
    files = write_weights(tmp_path, weights, shard=200_000)
    assert len(files) > 2
    assert max(file.stat().st_size for file in files) < 300_000
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert found.keys() == expected.keys() == read_weights(tmp_path).keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("cut", [0, 4, 500, -100])
def test_cut_file_is_told(source, tmp_path, cut):
    file = source / "llm" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(WeightError, match=r"model.safetensors: .*(copy or download it again|header is damaged)"):
        convert(source, tmp_path / "out")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]},
        {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": 2, "data_offsets": None},
        7,
    ],
)
def test_lying_header_is_refused(tmp_path, entry):
    raw = json.dumps({"a": entry}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(8))
    with pytest.raises(WeightError, match=r"model.safetensors: "):
        read_header(tmp_path / "model.safetensors")


def test_an_index_that_an_earlier_saving_left_is_not_followed(source):
    """transformers leaves it, and reads the whole file; we read the old shards, or missed them."""
    whole = source / "llm" / "model.safetensors"
    expected = read_weights(whole)
    for name in ("model-00001-of-00001.safetensors", "gone.safetensors"):
        index = {"weight_map": dict.fromkeys(expected, name)}
        (source / "llm" / "model.safetensors.index.json").write_text(json.dumps(index))
        shutil.copy(whole, source / "llm" / "model-00001-of-00001.safetensors")
        assert read_weights(source / "llm") == expected


def test_index_cannot_lead_out_of_the_folder(source, tmp_path):
    (source / "llm" / "model.safetensors").unlink()
    (source / "llm" / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"model.norm.weight": "../../secret.safetensors"}})
    )
    with pytest.raises(WeightError, match=r"lies outside the folder"):
        convert(source, tmp_path / "out")


def test_missing_shard_is_named(tmp_path):
    source = shutil.copytree(VLM / "vila15_base", tmp_path / "source")
    (source / "llm" / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(WeightError, match=r"lacks model-00002-of-00003.safetensors"):
        convert(source, tmp_path / "out")


# -- command ---------------------------------------------------------------------------------------------------------
def test_command_tells_what_was_left_out_and_what_is_fresh(tmp_path):
    command = [sys.executable, "-m", "unirs", "convert", str(VLM / "vila15_base"), "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "from VILA-1.5, 62 tensors used" in done.stdout
    assert "fresh: model.change_extraction.bottleneck (21 tensors)" in done.stdout
    assert "left out: vision_tower/vision_model.encoder.layers.2 (16 tensors), lies behind the layer" in done.stdout
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == "unirs: out: is there already; give another name or remove it\n"
