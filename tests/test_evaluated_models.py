"""Models that the evaluation asks: other families through the same runner, adapters, gaps, hashes."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    SiglipImageProcessor,
    SiglipVisionConfig,
)
from unirs.evaluation.benchmarks import load_benchmark
from unirs.evaluation.model_hash import model_hash
from unirs.evaluation.models import UniRS, load_model
from unirs.evaluation.running import run
from unirs.trainers.data_sets import DataError

from tests.evaluation import NEW_TOKENS, answers_of, write_rows
from tests.tiny import PATCH, SIZE, picture, raw_tokenizer, tiny_model, user

# Pictures first, then the words, by turns, as LLaVA 1.5 has it.
TEMPLATE = (
    "{% for message in messages %}{{ message.role | upper }}: "
    "{% for item in message.content if item.type == 'image' %}<image>\n{% endfor %}"
    "{% for item in message.content if item.type == 'text' %}{{ item.text }}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@pytest.fixture(scope="module")
def llava_folder(tmp_path_factory):
    """A LLaVA of a SigLIP tower and a LLaMA, random, with a checkpoint that would draw lots; no padding token."""
    folder = tmp_path_factory.mktemp("llava")
    tokenizer = raw_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.pad_token = None
    tower = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 3, "num_attention_heads": 4}
    text = {**tower, "vocab_size": len(tokenizer), "max_position_embeddings": 1024}
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**tower, image_size=SIZE, patch_size=PATCH, vision_use_head=False),
        text_config=LlamaConfig(**text, bos_token_id=1, eos_token_id=2),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
    )
    torch.manual_seed(1)
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5)
    model.generation_config.update(do_sample=True, temperature=0.7, top_p=0.5, eos_token_id=2)
    model.generation_config.suppress_tokens = [config.image_token_id]
    model.save_pretrained(folder)
    LlavaProcessor(
        SiglipImageProcessor(size={"height": SIZE, "width": SIZE}),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llava(llava_folder):
    return load_model(str(llava_folder))


@pytest.fixture
def unirs_folder(tmp_path, processor):
    tiny_model(processor).save_pretrained(tmp_path / "unirs")
    processor.save_pretrained(tmp_path / "unirs")
    return tmp_path / "unirs"


def test_of_many_questions_of_one_picture_the_tower_sees_it_once(unirs_folder, monkeypatch):
    """And each question, of a picture, a pair or a sequence, is answered as alone."""
    one, two, three = picture(1), picture(2), picture(3)
    chats = [
        user(*shown, words)
        for words in ("Is there water?", "What is it?")
        for shown in ([one], [two], [one, two], [two, one], [one, two, three])
    ]
    alone = [load_model(str(unirs_folder)).answer([chat], NEW_TOKENS)[0] for chat in chats]
    assert len(set(alone)) > 5
    model, looks = load_model(str(unirs_folder)), []
    encode = model.network.model.encode_pixels
    monkeypatch.setattr(
        model.network.model, "encode_pixels", lambda pixels: looks.append(len(pixels)) or encode(pixels)
    )
    assert model.answer(chats[:5], NEW_TOKENS) + model.answer(chats[5:], NEW_TOKENS) == alone
    assert sorted(looks) == [3, 4]  # pictures and frames; both dates of two pairs


def test_another_model_sees_pairs_and_clips_as_several_images_and_clues_behind_the_words(llava):
    conversations = [
        user(picture(1), "Is there a road?"),
        user(picture(1), picture(2), "What has changed?"),
        user([picture(seed) for seed in range(20)], "Which event?"),
        user(*(picture(seed) for seed in range(10)), "What happened?"),
        user("Hello."),
        [*user(picture(1), "One?"), {"role": "assistant", "content": "yes"}, *user("Two?")],
    ]
    conversations[1][0]["content"].append({"type": "clue", "text": " a new house "})
    eight = "<image>\n" * 8
    assert llava.prepare(conversations, NEW_TOKENS).prompts == [
        "USER: <image>\nIs there a road? ASSISTANT:",
        "USER: <image>\n<image>\nWhat has changed? Clue: a new house ASSISTANT:",
        f"USER: {eight}Which event? ASSISTANT:",
        f"USER: {eight}What happened? ASSISTANT:",
        "USER: Hello. ASSISTANT:",
        "USER: <image>\nOne? ASSISTANT: yes USER: Two? ASSISTANT:",
    ]


def test_another_model_s_answers_are_those_of_transformers_own_greedy_search(llava, llava_folder):
    network = LlavaForConditionalGeneration.from_pretrained(llava_folder, dtype=torch.float32)
    processor = LlavaProcessor.from_pretrained(llava_folder)
    inputs = processor(
        text="USER: <image>\n<image>\nWhat? ASSISTANT:", images=[picture(1), picture(2)], return_tensors="pt"
    )
    output = network.generate(**inputs, max_new_tokens=8, do_sample=False, temperature=None, top_p=None)
    said = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    assert said
    assert llava.answer([user(picture(1), picture(2), "What?")], 8) == [said]


@pytest.mark.parametrize("batch_size", [3, 8])
def test_another_model_runs_through_the_same_harness_whatever_the_batch_size(batch_size, llava, tmp_path):
    benchmark = load_benchmark("own", write_rows(tmp_path, 24), metric="vqa")
    alone = run(benchmark, llava, tmp_path / "alone.jsonl", 1, NEW_TOKENS)
    found = run(benchmark, llava, tmp_path / "p.jsonl", batch_size, NEW_TOKENS)
    assert len(set(answers_of(alone).values())) > 12
    assert answers_of(found) == answers_of(alone)


@pytest.mark.parametrize("family", ["llava", "unirs"])
def test_a_prompt_leaves_room_for_its_answer(family, llava, unirs_folder):
    """A prompt that just fits was answered beyond the positions that the model knows: with nonsense."""
    model = llava if family == "llava" else load_model(str(unirs_folder))
    conversations = [user(picture(1), "Is there a road?"), user("Yes?")]
    tokens = model.prepare(conversations, NEW_TOKENS).inputs["input_ids"].shape[1]
    room = 1024 - tokens
    assert model.prepare(conversations, room).prompts
    with pytest.raises(
        ValueError, match=f"make {tokens} tokens and the model reads 1024, its answer of up to {room + 1}"
    ):
        model.prepare(conversations, room + 1)
    with pytest.raises(ValueError, match="shorten the words, show fewer pictures, or allow fewer new tokens"):
        model.answer(conversations, room + 1)


def test_the_checkpoint_s_own_settings_cannot_make_it_draw_lots(llava):
    conversation = user(picture(1), "Is there a road?")
    answers = set()
    for seed in range(5):
        torch.manual_seed(seed)
        answers |= {*llava.answer([conversation], 8)}
    assert len(answers) == 1


def test_a_model_with_gaps_is_refused(unirs_folder):
    file = unirs_folder / "model.safetensors"
    weights = load_file(file)
    name = next(key for key in weights if key.endswith("q_proj.weight"))
    del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"unirs: lacks 1 weights, .*q_proj\.weight first; copy the folder again"):
        load_model(str(unirs_folder))


@pytest.mark.parametrize("damage", ["no such folder", "cut weights", "a language model", "no torchvision"])
def test_what_cannot_be_loaded_is_told_in_one_line(damage, unirs_folder, tmp_path, monkeypatch):
    name = unirs_folder
    if damage == "no such folder":
        name = tmp_path / "nothing" / "here" / "at all"
    elif damage == "cut weights":
        file = unirs_folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
    elif damage == "no torchvision":

        def refuse(name):
            raise ImportError("\nQwen2VLVideoProcessor requires the Torchvision library\nbut it was not found")

        monkeypatch.setattr(AutoProcessor, "from_pretrained", refuse)
    else:
        LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(tmp_path / "lm")
        name = tmp_path / "lm"
    with pytest.raises(DataError, match=f"{name}: cannot be loaded as an image-text-to-text model: .") as caught:
        load_model(str(name))
    assert "\n" not in str(caught.value)


def adapter(unirs_folder, folder, scale):
    model = UniRS("tiny", load_model(str(unirs_folder)).network, load_model(str(unirs_folder)).processor).network
    torch.manual_seed(0)
    peft = get_peft_model(model, LoraConfig(r=4, target_modules=".*language_model.*q_proj", init_lora_weights=False))
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.mul_(scale)
    peft.save_pretrained(folder)
    return folder


def test_an_adapter_is_loaded_with_its_base_and_has_a_hash_of_both(unirs_folder, tmp_path):
    plain = load_model(str(unirs_folder))
    folder = adapter(unirs_folder, tmp_path / "adapter", 20)
    adapted = load_model(str(folder))
    assert isinstance(adapted, UniRS)
    conversations = [user(picture(seed), "Is there a road?") for seed in range(4)]
    assert adapted.answer(conversations, 8) != plain.answer(conversations, 8)
    before = model_hash(str(folder))
    assert before != model_hash(str(unirs_folder))
    config = json.loads((unirs_folder / "config.json").read_text())
    (unirs_folder / "config.json").write_text(json.dumps({**config, "note": 1}))
    assert model_hash(str(folder)) != before


def test_the_hash_is_of_what_the_answers_depend_on(unirs_folder, tmp_path):
    before = model_hash(str(unirs_folder))
    assert len(before) == 64
    for name in ("evaluation.json", "training.json", "README.md", "optimizer.pt"):
        (unirs_folder / name).write_text("{}")
    assert model_hash(str(unirs_folder)) == before
    moved = unirs_folder.rename(tmp_path / "moved")
    assert model_hash(str(moved)) == before
    for name in ("model.safetensors", "tokenizer.json", "generation_config.json", "chat_template.jinja"):
        content = (moved / name).read_bytes()
        (moved / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert model_hash(str(moved)) != before
        (moved / name).write_bytes(content)
    assert model_hash(str(moved)) == before
