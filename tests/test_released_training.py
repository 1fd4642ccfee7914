"""Training on converted weights: labels, losses and gradients of the released code, one by one and as a batch."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from tests.conftest import REFERENCE
from tests.released import load_released
from tests.test_released_parity import GREY, collapse

pytestmark = pytest.mark.reference
TRAIN = REFERENCE / "vlm" / "train"
IMAGES = {"geo_0": 1, "geo_1": 1, "levir_0": 2, "era_0": 4}
SPOKEN = 512  # the released vocabulary; ours has markers and padding behind it

# The released gradients by our names.
GRADIENTS = {
    "llm.model.embed_tokens.weight": "model.language_model.embed_tokens.weight",
    "llm.model.layers.0.self_attn.q_proj.weight": "model.language_model.layers.0.self_attn.q_proj.weight",
    "llm.model.layers.0.mlp.down_proj.weight": "model.language_model.layers.0.mlp.down_proj.weight",
    "llm.lm_head.weight": "lm_head.weight",
    "vision_tower.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight": (
        "model.vision_tower.encoder.layers.0.self_attn.q_proj.weight"
    ),
    "mm_projector.layers.single.1.weight": "model.multi_modal_projector.norm.weight",
    "mm_projector.layers.single.2.weight": "model.multi_modal_projector.linear_1.weight",
    "mm_projector.layers.single.4.weight": "model.multi_modal_projector.linear_2.weight",
    "mm_projector.layers.change.h_embedding.weight": "model.change_extraction.column_embedding.weight",
    "mm_projector.layers.change.w_embedding.weight": "model.change_extraction.row_embedding.weight",
    "mm_projector.layers.change.Conv1.weight": "model.change_extraction.fuse.weight",
    "mm_projector.layers.change.LN.left.0.weight": "model.change_extraction.bottleneck.0.weight",
    "mm_projector.layers.change.LN.left.3.weight": "model.change_extraction.bottleneck.3.weight",
    "mm_projector.layers.change.LN.left.6.weight": "model.change_extraction.bottleneck.6.weight",
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    return load_released(REFERENCE / "vlm" / "unirs", tmp_path_factory.mktemp("train") / "unirs")


@pytest.fixture(scope="module")
def golden():
    return load_file(TRAIN / "train_golden.safetensors")


@pytest.fixture(scope="module")
def records():
    found = [one for name in ("geo", "levir", "era") for one in json.loads((TRAIN / f"{name}.json").read_text())]
    return {one["id"]: one for one in found}


def expanded(name, values, ids, processor):
    """The released sequence with each -200 as long as a feature sequence; what stands there is given by `values`."""
    number, found = 0, []
    for token, value in zip(ids, values, strict=True):
        if token != -200:
            found.append(value)
            continue
        marker = {1: processor.image_token_id, 2: processor.change_token_id, 4: processor.frame_token_ids[number]}
        found += [marker[IMAGES[name]] if values is ids else -100] * processor.image_seq_length
        number += 1
    return found


def inputs_of(name, golden, processor):
    ids = golden[f"{name}.input_ids"].flatten().tolist()
    labels = golden[f"{name}.labels"].flatten().tolist()
    pixels = (golden[f"{name}.pixel_values_u8"].float() / 255 - 0.5) / 0.5  # (images, 3, height, width)
    given = {1: ("pixel_values", pixels), 2: ("pixel_values_pairs", pixels[None]), 4: ("pixel_values_videos", pixels)}
    return expanded(name, ids, ids, processor), expanded(name, labels, ids, processor), given[IMAGES[name]]


def batch_of(names, golden, processor):
    """Right-padded, as the released collator does."""
    rows = [inputs_of(name, golden, processor) for name in names]
    length = max(len(ids) for ids, *_ in rows)
    pad = processor.tokenizer.pad_token_id
    labels = torch.tensor([values + [-100] * (length - len(values)) for _, values, _ in rows])
    inputs = {
        "input_ids": torch.tensor([ids + [pad] * (length - len(ids)) for ids, *_ in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (length - len(ids)) for ids, *_ in rows]),
    }
    for name in ("pixel_values", "pixel_values_pairs", "pixel_values_videos"):
        if found := [values for _, _, (kind, values) in rows if kind == name]:
            inputs[name] = torch.cat(found)
    return inputs, labels


def loss_of(model, inputs, labels):
    """Over the released vocabulary: the rows of our markers would take a little of the probability."""
    logits = model(**inputs).logits[:, :-1, :SPOKEN]
    return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


@pytest.mark.parametrize("name", ["geo_0", "levir_0", "era_0"])
def test_labels_of_a_record_equal_released(name, converted, golden, records):
    _, processor = converted
    messages = []
    for turn in records[name]["conversations"]:
        if turn["from"] == "gpt":
            messages.append({"role": "assistant", "content": turn["value"]})
            continue
        clip = [{"type": "video", "video": [GREY] * 4}]
        pictures = clip if IMAGES[name] == 4 else [{"type": "image", "image": GREY}] * IMAGES[name]
        words = turn["value"].replace("<image>", "").replace("<video>", "").strip()
        messages.append({"role": "user", "content": [*pictures, {"type": "text", "text": words}]})
    encoded = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, task_tag=False, return_assistant_tokens_mask=True
    )
    ids, mask = encoded["input_ids"][0], encoded["assistant_masks"][0]
    labels = [token if keep else -100 for token, keep in zip(ids, mask, strict=True)]
    assert collapse(ids, ids, processor) == golden[f"{name}.input_ids"].flatten().tolist()
    assert collapse(ids, labels, processor) == golden[f"{name}.labels"].flatten().tolist()


def test_a_picture_behind_its_question_is_written_as_a_finished_prompt(converted, golden, records):
    """The chat template puts pictures first; the released data may have them last."""
    _, processor = converted
    question, answer, again, last = [turn["value"] for turn in records["geo_1"]["conversations"]]
    start = processor.apply_chat_template([{"role": "user", "content": "Q"}], task_tag=False)
    start = start.partition("USER: ")[0].removeprefix("<s>")  # which the tokenizer adds
    prompt = (
        f"{start}USER: {question.replace(chr(10), ' ')} ASSISTANT: {answer}</s>USER: {again} ASSISTANT: {last}</s>"
    )
    ids = processor(text=prompt, images=[GREY])["input_ids"][0]
    assert collapse(ids, ids, processor) == golden["geo_1.input_ids"].flatten().tolist()


@pytest.mark.parametrize("name", IMAGES)
def test_loss_of_a_record_equals_released(name, converted, golden):
    model, processor = converted
    inputs, labels = batch_of([name], golden, processor)
    assert labels.flatten().tolist() == golden[f"{name}.spliced_labels"].flatten().tolist()
    with torch.no_grad():
        loss = loss_of(model, inputs, labels)
    torch.testing.assert_close(loss, golden[f"{name}.loss"].squeeze(), atol=1e-5, rtol=1e-5)


def test_loss_and_gradients_of_a_mixed_batch_equal_released(converted, golden):
    """Singles, a pair and a clip in one batch; the mean is over all answer tokens of the batch."""
    model, processor = converted
    meta = json.loads((TRAIN / "train_meta.json").read_text())["batch"]
    model.zero_grad()
    loss = loss_of(model, *batch_of(meta["order"], golden, processor))
    assert float(loss) == pytest.approx(meta["loss_eval_mode"], abs=1e-5, rel=1e-5)
    loss.backward()
    ours = dict(model.named_parameters())
    norms = {theirs: float(ours[name].grad.norm()) for theirs, name in GRADIENTS.items()}
    assert norms == pytest.approx({name: meta["grad_l2_norms_train_mode"][name] for name in norms}, rel=1e-3)
    assert np.isfinite(list(norms.values())).all()
    model.zero_grad()
