"""int8 folders: what is rounded and how far, the same answers after a reload, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("torchao", reason="torchao is not installed: pip install 'unirs[int8]'")
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor
from unirs.hub.publish import publish
from unirs.hub.quantize import quantize
from unirs.hub.weight_files import WeightError

import unirs
from tests.tiny import encode, picture, user
from unirs.compiled_decoding import products_as_sums

SOURCE = Path(unirs.default_checkpoint())
QUESTIONS = ("Is there a road in the image?", "Is it a rural or an urban area?", "How many buildings are there?",
             "What is the main land cover of this image?")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("int8") / "model"
    quantize(SOURCE, target)
    return target


@pytest.fixture(scope="module")
def both(folder):
    return [AutoModelForImageTextToText.from_pretrained(one, dtype="auto").eval() for one in (SOURCE, folder)]


def test_matrices_of_the_language_model_are_rounded_to_half_a_step_of_their_row(both):
    """A closed form: rows go from -127 to 127 by their largest value, so no weight is off by more than half a step."""
    before, after = (dict(model.named_parameters()) for model in both)
    rounded = [name for name in before if type(after[name]) is not torch.nn.Parameter]
    language = [name for name, weight in before.items() if ".layers." in name and "language_model" in name]
    assert sorted(rounded) == sorted(name for name in language if before[name].ndim == 2)
    for name in rounded:
        true, found = before[name].float(), after[name].dequantize().float()
        step = true.abs().amax(1, keepdim=True) / 127
        assert ((true - found).abs() <= step * 0.5 + true.abs() * 2**-7).all()  # and bfloat16's own rounding
    for name in before.keys() - set(rounded):
        assert torch.equal(before[name], after[name])


def test_int8_folder_is_smaller_by_half_of_those_matrices(folder):
    with safe_open(SOURCE / "model.safetensors", "pt") as file:
        names = [name for name in file.keys() if ".layers." in name and "language_model" in name]  # noqa: SIM118
        matrices = sum(file.get_tensor(name).numel() for name in names if file.get_tensor(name).ndim == 2)
    saved = (SOURCE / "model.safetensors").stat().st_size - (folder / "model.safetensors").stat().st_size
    assert saved == pytest.approx(matrices, rel=0.05)  # a byte each; scales and names cost a little


@torch.no_grad()
def test_the_likeliest_word_is_the_same_at_nearly_every_step(both):
    """Along the answers of the bfloat16 model: the aim is 99 of 100, on few pictures one may differ."""
    processor = AutoProcessor.from_pretrained(SOURCE)
    same = steps = 0
    for seed in range(8):
        for question in QUESTIONS:
            inputs = encode(processor, [user(picture(seed, 96, 96), question)])
            said = both[0].generate(**inputs, do_sample=False, max_new_tokens=12)
            start = inputs["input_ids"].shape[1]
            whole = {**inputs, "input_ids": said, "attention_mask": torch.ones_like(said)}
            first, second = (model(**whole).logits[0, start - 1 : -1].argmax(-1) for model in both)
            same, steps = same + int((first == second).sum()), steps + len(first)
    assert steps >= 32
    assert same >= steps - 1


def test_published_int8_folder_names_what_it_needs(folder, tmp_path):
    publish(folder, tmp_path / "published", checked=False)
    assert "torchao" in (tmp_path / "published/requirements.txt").read_text()
    assert "matrices int8" in (tmp_path / "published/README.md").read_text()
    assert not (tmp_path / "published/evaluation.json").exists()  # those were scores of other weights
    one, other = (
        AutoModelForImageTextToText.from_pretrained(path, dtype="auto") for path in (folder, tmp_path / "published")
    )
    inputs = encode(AutoProcessor.from_pretrained(SOURCE), [user(picture(1), QUESTIONS[0])])
    assert torch.equal(one(**inputs).logits, other(**inputs).logits)


def test_what_cannot_be_quantised_is_told(folder, tmp_path, unirs):
    with pytest.raises(WeightError, match="is quantised already"):
        quantize(folder, tmp_path / "twice")
    with pytest.raises(WeightError, match="is there already"):
        quantize(SOURCE, folder)
    cut = tmp_path / "cut"
    shutil.copytree(SOURCE, cut)
    (cut / "model.safetensors").write_bytes((SOURCE / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(WeightError, match="is cut or no safetensors file"):
        quantize(cut, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    code, _, error = unirs("convert", SOURCE, tmp_path / "out", "--int8", "--change-extraction", cut)
    assert code == 2
    assert "without --int8" in error


def test_command_makes_the_folder(tmp_path, unirs):
    code, printed, _ = unirs("convert", SOURCE, tmp_path / "int8", "--int8", "--json")
    assert code == 0
    size = (tmp_path / "int8/model.safetensors").stat().st_size
    assert json.loads(printed) == {"task": "convert", "target": str(tmp_path / "int8"), "bytes": size}


@torch.no_grad()
def test_compiled_decoding_leaves_int8_products_to_torchao(both, monkeypatch):
    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", lambda graph, _: graph.forward)
    layer = both[1].model.language_model.layers[0].mlp.down_proj
    row = torch.randn(1, 1, layer.weight.shape[1], generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(torch.compile(layer, backend=products_as_sums, dynamic=False)(row), layer(row))
