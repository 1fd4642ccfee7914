"""UniRS against numbers made by running the authors' released code (../shared/reference)."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from unirs.hub.released_names import PROJECTOR_NAMES, rename
from unirs.modeling_unirs.change_extraction_unirs import ChangeExtraction
from unirs.modeling_unirs.projector_unirs import DownsampleProjector
from unirs.processing import UniRSImageProcessor

from tests.conftest import REFERENCE
from tests.released import below, change_state, load_released

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(REFERENCE / "vlm" / "vlm_golden.safetensors")


@pytest.fixture(scope="module", params=["unirs", "vila15_base"])
def released(request, tmp_path_factory):
    return request.param, *load_released(REFERENCE / "vlm" / request.param, tmp_path_factory.mktemp("w") / "unirs")


@pytest.mark.parametrize("name", ["n0_9x9", "n0_27x27", "n1_9x9"])
def test_change_extraction_equals_released(name):
    tensors = load_file(REFERENCE / "modules" / f"change_extraction_{name}.safetensors")
    meta = json.loads((REFERENCE / "modules" / "ab_meta.json").read_text())[f"change_extraction_{name}.safetensors"]
    module = ChangeExtraction(
        meta["channels"],
        meta["grid"],
        meta["cc_n_layers"],
        meta["attention_dim"],
        meta["cc_head"],
        dropout=0.1,
    ).eval()
    module.load_state_dict(change_state(below(tensors, "state.layers.change.")))
    seen = []
    module.fuse.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    pairs = torch.stack([tensors["in.image_1"], tensors["in.image_2"]], dim=1)
    torch.testing.assert_close(module(pairs), tensors["out"], atol=2e-5, rtol=1e-4)
    if "mid.conv1_input" in tensors:
        torch.testing.assert_close(seen[0], tensors["mid.conv1_input"], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("grid", [27, 9, 8, 14])
@pytest.mark.parametrize("layout", ["state_vila.layers.", "state_unirs.layers.single."])
def test_projector_equals_released(grid, layout):
    tensors = load_file(REFERENCE / "modules" / "projector.safetensors")
    state = {rename(key, PROJECTOR_NAMES): value for key, value in below(tensors, layout).items()}
    projector = DownsampleProjector(state["norm.weight"].shape[0] // 4, state["linear_1.weight"].shape[0])
    projector.load_state_dict(state)
    torch.testing.assert_close(projector(tensors[f"in.grid{grid}"]), tensors[f"out.grid{grid}"], atol=2e-5, rtol=1e-4)
    gathered = projector.gather(tensors[f"gather_in.grid{grid}"].float())
    torch.testing.assert_close(gathered, tensors[f"gather_out.grid{grid}"].float(), atol=0, rtol=0)


def test_mixed_images_take_the_released_routes():
    """Ten images as [1, 2, 4, 1, 2] with 4-frame clips: single, pair, clip, single, pair give 8 sequences."""
    tensors = load_file(REFERENCE / "modules" / "projector.safetensors")
    state = {rename(k, PROJECTOR_NAMES): v for k, v in below(tensors, "state_unirs.layers.single.").items()}
    projector = DownsampleProjector(state["norm.weight"].shape[0] // 4, state["linear_1.weight"].shape[0])
    projector.load_state_dict(state)
    change_weights = change_state(below(tensors, "state_unirs.layers.change."))
    grid, half = change_weights["column_embedding.weight"].shape
    change = ChangeExtraction(2 * half, grid, 0, 512, 8, 0.1).eval()
    change.load_state_dict(change_weights)
    images = tensors["mixed.in"]
    parts = [
        projector(images[:1]),
        projector(change(images[1:3][None])),
        projector(images[3:7]),
        projector(images[7:8]),
        projector(change(images[8:10][None])),
    ]
    torch.testing.assert_close(torch.cat(parts), tensors["mixed.out"], atol=2e-5, rtol=1e-4)


def expand(ids: list[int], kind: str, processor) -> torch.Tensor:
    """The released ids with their -200 replaced by our placeholders."""
    number, expanded = 0, []
    for token in ids:
        if token != -200:
            expanded.append(token)
            continue
        placeholder = {
            "single": processor.image_token_id,
            "pair": processor.change_token_id,
            "video": processor.frame_token_ids[number],
            "base_two_images": processor.image_token_id,
        }[kind]
        expanded += [placeholder] * processor.image_seq_length
        number += 1
    return torch.tensor([expanded])


def visual_inputs(kind: str, golden: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    pixels = golden[("pair" if kind == "base_two_images" else kind) + ".pixel_values"].float()
    if kind == "pair":
        return {"pixel_values_pairs": pixels[None]}
    return {"pixel_values_videos" if kind == "video" else "pixel_values": pixels}


CASES = {"unirs": ["single", "pair", "video"], "vila15_base": ["single", "video", "base_two_images"]}


def test_vision_tower_stops_at_layer_minus_two(released, golden):
    _, model, _ = released
    assert len(model.model.vision_tower.encoder.layers) == model.config.vision_config.num_hidden_layers - 1
    for kind in ("single", "pair", "video"):
        hidden = model.model.encode_pixels(golden[f"{kind}.pixel_values"].float())
        torch.testing.assert_close(hidden, golden[f"{kind}.vision_hidden_states_-2"], atol=5e-5, rtol=1e-4)


def test_features_embeddings_and_logits_equal_released(released, golden):
    layout, model, processor = released
    for kind in CASES[layout]:
        inputs = visual_inputs(kind, golden)
        ids = expand(golden[f"{kind}.input_ids"].flatten().tolist(), kind, processor)
        seen = []
        hook = model.model.language_model.register_forward_pre_hook(
            lambda _, args, kwargs, seen=seen: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
        )
        with torch.no_grad():
            output = model(input_ids=ids, **inputs)
        hook.remove()
        features = next(
            one
            for one in (output.image_hidden_states, output.change_hidden_states, output.video_hidden_states)
            if one is not None
        )
        for name, ours in (("image_features", features), ("inputs_embeds", seen[0])):
            if kind != "base_two_images":  # for which only ids, logits and greedy tokens are stored
                theirs = golden[f"{kind}.{name}"]
                torch.testing.assert_close(ours.squeeze(), theirs.squeeze(), atol=2e-5, rtol=1e-4)
        vocabulary = golden[f"{kind}.logits"].shape[-1]  # ours has markers and padding behind it
        torch.testing.assert_close(
            output.logits[0, :, :vocabulary], golden[f"{kind}.logits"].squeeze(0), atol=1e-4, rtol=1e-4
        )


def test_greedy_tokens_equal_released(released, golden):
    layout, model, processor = released
    for kind in CASES[layout]:
        expected = golden[f"{kind}.greedy_tokens"].flatten().tolist()
        ids = expand(golden[f"{kind}.input_ids"].flatten().tolist(), kind, processor)
        suppressed = list(range(512, model.config.text_config.vocab_size))
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **visual_inputs(kind, golden),
            max_new_tokens=len(expected),
            do_sample=False,
            suppress_tokens=suppressed,
        )
        assert output[0, ids.shape[1] :].tolist() == expected


def test_pixels_equal_released():
    """PIL resizes as the released code did. torchvision's bicubic differs at few hard edges: make test-torchvision."""
    expected = load_file(REFERENCE / "preprocess" / "preprocess_expected.safetensors")
    for key, values in expected.items():
        stem, ratio, target = key.rsplit(".", 2)
        processor = UniRSImageProcessor(size={"height": int(target), "width": int(target)}, image_aspect_ratio=ratio)
        path = REFERENCE / "preprocess" / f"{stem}.png"
        for source in (str(path), path.read_bytes(), Image.open(path)):
            pixels = processor(source, return_tensors="pt")["pixel_values"][0]
            if processor.backend == "pil":
                torch.testing.assert_close(pixels, values.float(), atol=2e-3, rtol=0, msg=lambda m, k=key: f"{k}: {m}")
            else:
                levels = (pixels - values.float()).abs() * 127.5
                assert levels.mean() < 0.1, key
                assert (levels > 2.5).float().mean() < 0.002, key


PROMPTS = json.loads((REFERENCE / "prompts" / "prompts.json").read_text()) if REFERENCE.is_dir() else {}
GREY = np.full((16, 16, 3), 127, np.uint8)


def collapse(ids: list[int], values: list[int], processor) -> list[int]:
    """Runs of placeholders, one feature sequence each, become one entry again."""
    visual = {processor.image_token_id, processor.change_token_id, *processor.frame_token_ids}
    short, position = [], 0
    while position < len(ids):
        is_visual = ids[position] in visual
        short.append(-200 if is_visual and values is ids else values[position])
        position += processor.image_seq_length if is_visual else 1
    return short


def content(kind: str, text: str) -> list[dict]:
    number = text.count("<image>\n")
    words = [{"type": "text", "text": text.replace("<image>\n", "")}]
    if kind == "pair":
        return [{"type": "image", "image": GREY}] * 2 + words
    if number > 1:
        return [{"type": "video", "video": [GREY] * number}, *words]
    return [{"type": "image", "image": GREY}] * number + words


@pytest.fixture(scope="module")
def released_processor(tmp_path_factory):
    return load_released(REFERENCE / "vlm" / "unirs", tmp_path_factory.mktemp("w") / "unirs")[1]


@pytest.mark.parametrize("kind", ["single", "pair", "video", "two_turns"])
def test_prompt_ids_equal_released(kind, released_processor):
    case = PROMPTS["inference"][kind]
    turns = case.get("turns") or [case["user_message"], None]
    roles = ["user", "assistant"] * 2
    messages = [
        {"role": role, "content": content(kind, text) if role == "user" else text}
        for role, text in zip(roles, turns, strict=False)
        if text is not None
    ]
    encoded = released_processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, task_tag=False
    )
    ids = encoded["input_ids"][0]
    assert collapse(ids, ids, released_processor) == case["input_ids"]


@pytest.mark.parametrize("kind", ["single", "pair", "video"])
def test_ids_of_a_finished_prompt_equal_released(kind, released_processor):
    case = PROMPTS["inference"][kind]
    prompt = case["prompt"]
    if kind == "pair":
        prompt = prompt.replace("<image>", "<Change Feature>")
    if kind == "video":
        prompt = prompt.replace("<image>\n" * 4, "<video>\n")
    pictures = {"videos": [[GREY] * 4]} if kind == "video" else {"images": [GREY] * (2 if kind == "pair" else 1)}
    ids = released_processor(text=prompt, **pictures)["input_ids"][0]
    assert collapse(ids, ids, released_processor) == case["input_ids"]


@pytest.mark.parametrize(
    "case", PROMPTS.get("train", []), ids=lambda case: f"{case['name']}-{case['no_system_prompt']}"
)
def test_training_labels_equal_released(case, released_processor):
    """The mask comes from the template's generation blocks, not from tokenising the pieces again."""
    messages = [{"role": "system", "content": ""}] if case["no_system_prompt"] else []
    for turn in case["conversation"]:
        role = {"human": "user", "gpt": "assistant"}[turn["from"]]
        text = turn["value"]
        messages.append({"role": role, "content": content(case["name"], text) if role == "user" else text})
    encoded = released_processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, task_tag=False, return_assistant_tokens_mask=True
    )
    ids, mask = encoded["input_ids"][0], encoded["assistant_masks"][0]
    labels = [token if keep else -100 for token, keep in zip(ids, mask, strict=True)]
    assert collapse(ids, ids, released_processor) == case["input_ids"]
    assert collapse(ids, labels, released_processor) == case["labels"]
