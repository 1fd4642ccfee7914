"""Singles, pairs, clips and text in one batch: labels, isolation of packed samples, rows that cannot be read."""

import json

import pytest
import torch
from datasets import Dataset
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling
from unirs.trainers.collator import TRAINER_KEYS, Collator, estimate_length
from unirs.trainers.data_sets import DataError
from unirs.trainers.packing import tells_samples_apart
from unirs.trainers.rows import TASKS, add_clue, conversation, image_items, items_of, task_of, video_item, visuals_of

from tests.conftest import REFERENCE
from tests.released import load_released
from tests.test_released_parity import collapse
from tests.tiny import picture, tiny_model, tiny_processor


@pytest.fixture
def rows(tmp_path):
    """One row of each kind, long and short, with files."""
    files = []
    for seed in range(9):
        files.append(str(tmp_path / f"{seed}.png"))
        picture(seed, 40, 40).save(files[-1])
    kinds = {
        "single": (image_items(files[:1]), [("How many?", "two"), ("Any road?", "no, there is none")]),
        "pair": (image_items(files[1:3]), [("What changed?", "a house was built")]),
        "video": (video_item(files[3:7]), [("Which scene?", "Flood")]),
        "text": ([], [("Say hello.", "hello")]),
        "single2": (image_items(files[7:8]), [("Is it rural?", "yes")]),
    }
    found = [
        {"id": name, "task": name.rstrip("2"), "messages": conversation(visuals, turns)}
        for name, (visuals, turns) in kinds.items()
    ]
    add_clue(found[1]["messages"], "a clue")
    return found


def inputs(batch):
    return {name: value for name, value in batch.items() if name not in TRAINER_KEYS}


def answers(batch, processor):
    """What carries loss, text by text."""
    spoken = []
    for labels in batch["labels"]:
        words = processor.tokenizer.decode([token for token in labels.tolist() if token != -100])
        spoken += [word.strip() for word in words.split("</s>") if word.strip()]
    return spoken


def test_one_batch_holds_every_kind_and_loss_is_on_answers_alone(rows, processor):
    batch = Collator(processor)(rows)
    shapes = {name: tuple(batch[name].shape[:2]) for name in batch if name.startswith("pixel_values")}
    assert shapes == {"pixel_values": (2, 3), "pixel_values_pairs": (1, 2), "pixel_values_videos": (4, 3)}
    assert answers(batch, processor) == ["two", "no, there is none", "a house was built", "Flood", "hello", "yes"]
    tasks = [TASKS[int(one[0])] for one in batch["token_tasks"]]
    assert tasks == ["single", "pair", "video", "text", "single"]
    assert ((batch["token_tasks"] == -1) == (batch["attention_mask"] == 0)).all()


def test_ids_labels_and_pixels_equal_the_stock_collator_of_trl(rows, processor):
    """TRL's collator takes the same conversations with an `images` column, and knows nothing of ours."""
    stock = DataCollatorForVisionLanguageModeling(processor, max_length=None, assistant_only_loss=True)
    for row in rows[:3]:
        images = [item["image"] for item in items_of(row["messages"], "image")]
        theirs = stock([{"images": images, "messages": stripped(row["messages"])}])
        ours = inputs(Collator(processor)([row]))
        assert set(theirs) == set(ours)
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], msg=name)


def stripped(messages):
    """As TRL wants them: image items without their pictures, which come in the column."""
    return [
        {
            **m,
            "content": [{"type": "text", "text": m["content"]}]
            if isinstance(m["content"], str)
            else [{"type": "image"} if i["type"] == "image" else i for i in m["content"]],
        }
        for m in messages
    ]


@pytest.mark.parametrize("one_row", [False, True])
def test_packed_loss_and_gradients_equal_the_padded_ones(one_row, rows, processor, monkeypatch):
    monkeypatch.setattr("unirs.trainers.packing.ROW_TOKENS", 300)  # so that there are several rows
    found = []
    for collator in (Collator(processor), Collator(processor, packed=True, one_row=one_row)):
        model = tiny_model(processor).double()
        batch = collator(rows)
        loss = model(**inputs(batch), use_cache=False).loss
        loss.backward()
        norms = {name: p.grad.norm() for name, p in model.named_parameters() if p.grad is not None}
        found.append((batch, loss, norms))
    (padded, loss, norms), (packed, packed_loss, packed_norms) = found
    assert len(packed["input_ids"]) == 1 if one_row else 1 < len(packed["input_ids"]) < len(rows)
    assert abs(loss - packed_loss) < 1e-6
    torch.testing.assert_close(packed_norms, norms, atol=1e-6, rtol=1e-6)
    assert sorted(answers(packed, processor)) == sorted(answers(padded, processor))


def test_packed_samples_do_not_see_each_other(rows, processor, model):
    """Another first sample, of the same length, changes nothing behind it."""
    batch = Collator(processor, packed=True, one_row=True)([rows[3], rows[0]])
    end = int((batch["position_ids"][0] == 0).nonzero()[1])  # where the second sample starts
    other = batch["input_ids"].clone()
    other[0, 1:end] = other[0, 1:end].flip(0)
    with torch.no_grad():
        logits = [
            model(**{**inputs(batch), "input_ids": ids}, use_cache=False).logits[0]
            for ids in (batch["input_ids"], other)
        ]
    torch.testing.assert_close(logits[0][end:], logits[1][end:])
    assert not torch.allclose(logits[0][:end], logits[1][:end])


def test_what_is_left_of_a_packed_row_carries_no_loss_and_no_task(rows, processor, monkeypatch):
    monkeypatch.setattr("unirs.trainers.packing.ROW_TOKENS", 300)
    batch = Collator(processor, packed=True)(rows)
    padding = batch["token_tasks"] == -1
    assert padding.any()
    assert (batch["labels"][padding] == -100).all()
    tokens = sum(len(Collator(processor).encode(row).input_ids) for row in rows)
    assert (~padding).sum() == tokens


def test_a_bad_picture_stops_the_run_and_is_named(rows, processor, tmp_path):
    (tmp_path / "7.png").write_bytes(b"\x89PNG but cut")
    with pytest.raises(DataError, match=r"row with the id single2: .*7\.png"):
        Collator(processor)(rows)


def test_a_bad_picture_is_skipped_and_written_down_if_so_wanted(rows, processor, tmp_path):
    (tmp_path / "7.png").unlink()
    file = tmp_path / "bad_rows.jsonl"
    batch = Collator(processor, on_bad="skip", bad_rows=file)(rows)
    assert batch["row_counts"].tolist() == [4, 1]
    assert len(batch["input_ids"]) == 4
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == ["single2"]


def test_a_batch_of_bad_rows_only_has_no_loss_and_no_picture(rows, processor, model, tmp_path):
    """The step is made all the same, since other processes wait for it; nothing is shown in the picture's place."""
    (tmp_path / "7.png").unlink()
    batch = Collator(processor, on_bad="skip")(rows[4:])
    assert batch["row_counts"].tolist() == [0, 1]
    assert (batch["labels"] == -100).all()
    assert not any(name.startswith("pixel") for name in batch)


def test_too_long_text_is_cut_and_a_cut_picture_is_an_error(rows, processor):
    whole = Collator(processor).encode(rows[0])
    cut = Collator(processor, max_length=len(whole.input_ids) - 3).encode(rows[0])
    assert cut.input_ids == whole.input_ids[:-3]
    with pytest.raises(DataError, match=r"row with the id video: .*max_length"):
        Collator(processor, max_length=155)([rows[2]])
    before_answer = next(place for place, label in enumerate(whole.labels) if label != -100)
    with pytest.raises(DataError, match=r"row with the id single: .* no answer .*max_length"):
        Collator(processor, max_length=before_answer)([rows[0]])


def test_clues_can_be_left_out(rows, processor):
    with_clue, without = (
        processor.tokenizer.decode(Collator(processor, clues=on).encode(rows[1]).input_ids) for on in (True, False)
    )
    assert "Clue: a clue ASSISTANT" in with_clue
    assert without == with_clue.replace(" Clue: a clue", "")


@pytest.mark.parametrize(
    ("visuals", "task", "kinds"),
    [
        ([], "text", []),
        (image_items("a"), "single", ["image"]),
        (image_items("ab"), "pair", ["change"]),
        (image_items("abc"), "video", ["video"]),
        (video_item("a.mp4"), "video", ["video"]),
    ],
)
def test_the_kind_of_a_row_follows_its_pictures(visuals, task, kinds):
    messages = conversation(visuals, [("q", "a")])
    assert (task_of(messages), [visual.kind for visual in visuals_of(messages)]) == (task, kinds)


def test_lengths_are_estimated_in_the_true_order(rows, processor):
    """Text is guessed from its letters (this tokenizer has one token a letter), pictures are exact."""
    true = {row["id"]: len(Collator(processor).encode(row).input_ids) for row in rows}
    guess = {row["id"]: estimate_length(row, processor) for row in rows}
    text = guess["text"]
    assert guess["video"] - text >= 4 * processor.image_seq_length
    assert abs((guess["single2"] - text) - processor.image_seq_length) < 5
    assert true["video"] > true["text"]


@pytest.mark.reference
def test_ids_labels_and_pixels_equal_the_released_ones(tmp_path):
    """Of the records whose picture stands before its question."""
    from safetensors.torch import load_file

    folder = REFERENCE / "vlm" / "train"
    _, processor = load_released(REFERENCE / "vlm" / "unirs", tmp_path / "unirs")
    golden = load_file(folder / "train_golden.safetensors")
    rows = []
    for name in ("geo", "levir"):
        record = json.loads((folder / f"{name}.json").read_text())[0]
        names = record["image"] if isinstance(record["image"], list) else [record["image"]]
        found = [next(folder.rglob(one)) for one in names]
        talk = [turn["value"].replace("<image>", "").strip() for turn in record["conversations"]]
        turns = list(zip(talk[::2], talk[1::2], strict=True))
        rows.append({"id": record["id"], "task": "single", "messages": conversation(image_items(found), turns)})
    plain = processor.chat_template
    processor.chat_template = plain.replace("{%- if found.task and task_tag | default(true) -%}", "{%- if false -%}")
    for row in rows:
        encoded = Collator(processor).encode(row)
        ids = collapse(encoded.input_ids, encoded.input_ids, processor)
        labels = collapse(encoded.input_ids, encoded.labels, processor)
        assert ids == golden[f"{row['id']}.input_ids"].flatten().tolist()
        assert labels == golden[f"{row['id']}.labels"].flatten().tolist()
        pixels = torch.cat([value.flatten(0, -4) for value in encoded.visuals.values()])
        expected = (golden[f"{row['id']}.pixel_values_u8"].float() / 255 - 0.5) / 0.5
        assert (pixels - expected).abs().max() < 2 / 255


def test_rows_survive_an_arrow_table(rows, processor):
    """Arrow fills the fields that an item lacks with None; the same ids come out."""
    table = Dataset.from_list([{"messages": stripped(row["messages"])} for row in rows[1:2]])
    messages = table[0]["messages"]
    pictures = iter(visuals_of(rows[1]["messages"])[0].sources)
    for item in messages[0]["content"]:
        if item["type"] == "image":
            item["image"] = next(pictures)
    plain = Collator(processor).encode(rows[1])
    assert Collator(processor).encode({**rows[1], "messages": messages}).input_ids == plain.input_ids


@pytest.mark.parametrize(("model_type", "apart"), [("llama", True), ("gpt2", True), ("opt", False), ("bloom", False)])
def test_language_models_whose_packed_samples_would_see_each_other_are_told(model_type, apart, processor):
    """OPT and BLOOM make their masks without `position_ids`: they trained on the samples before, without a word."""
    text = {"model_type": model_type, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "vocab_size": 512, "pad_token_id": 0, "word_embed_proj_dim": 32, "ffn_dim": 48}  # fmt: skip
    model = tiny_model(processor, text_config=text)
    assert tells_samples_apart(model.model.language_model) == apart
    assert all(weight.grad is None for weight in model.parameters())


def test_kept_features_of_a_sequence_of_two_frames_are_no_pair(rows, tokenizer):
    """Two of three dates stood as two images, which the template takes for a pair."""
    processor = tiny_processor(tokenizer, num_frames=2)
    images = image_items([item["image"] for item in items_of(rows[1]["messages"], "image")] * 2)
    row = {"id": "s", "task": "video", "messages": conversation(images[:3], [("When?", "in 2020")])}
    plain = Collator(processor)([row])
    kept = Collator(processor, features=lambda visual: torch.zeros(2, processor.image_seq_length, 32))([row])
    assert torch.equal(kept["input_ids"], plain["input_ids"])
    assert kept["video_features"].shape[:2] == (2, processor.image_seq_length)
