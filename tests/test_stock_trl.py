"""TRL's own SFTTrainer and collator, with nothing of ours but model and processor."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from datasets import Dataset
from packaging.version import Version
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from tests.conftest import DATA
from tests.test_video_loading import clip_file
from tests.tiny import picture, tiny_model

# TRL's own condition for assistant_only_loss with pictures; our trainer has none.
pytestmark = pytest.mark.skipif(Version(transformers.__version__) < Version("5.18"), reason="TRL asks for 5.18")
EXAMPLE = Path(__file__).parents[1] / "examples" / "finetune_own_data.py"
ANSWERS = {"single": "two", "pair": "a house", "video": "Flood"}


def row(kind, images, *items):
    user = [*items, *({"type": "image"} for _ in images), {"type": "text", "text": "What is it?"}]
    assistant = [{"type": "text", "text": ANSWERS[kind]}]
    return {
        "images": images,
        "messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}],
    }


@pytest.fixture
def table(tmp_path):
    """An Arrow table of a single image, a pair and a clip: the mixture that TRL's documentation does not know."""
    files = [str(tmp_path / f"{seed}.png") for seed in range(3)]
    for seed, file in enumerate(files):
        picture(seed, 40, 40).save(file)
    clip = tmp_path / "clip.mp4"
    clip_file(clip, frames=8)
    video = {"type": "video", "video": str(clip)}
    return Dataset.from_list([row("single", files[:1]), row("pair", files[1:]), row("video", [], video)])


def trainer_of(model, processor, table, folder, **kwargs):
    config = SFTConfig(
        str(folder), max_steps=3, per_device_train_batch_size=3, learning_rate=1e-2, assistant_only_loss=True,
        max_length=None, report_to="none", use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True,
        logging_steps=1,
    )  # fmt: skip
    return SFTTrainer(model, config, train_dataset=table, processing_class=processor, **kwargs)


@pytest.mark.parametrize("adapter", [None, LoraConfig(r=4, target_modules=r".*language_model.*\.(q_proj|v_proj)")])
def test_singles_pairs_and_clips_train_in_one_batch(adapter, table, processor, tmp_path):
    trainer = trainer_of(tiny_model(processor), processor, table, tmp_path, peft_config=adapter)
    batch = next(iter(trainer.get_train_dataloader()))
    shapes = {name: tuple(batch[name].shape[:2]) for name in batch if name.startswith("pixel_values")}
    assert shapes == {"pixel_values": (1, 3), "pixel_values_pairs": (1, 2), "pixel_values_videos": (4, 3)}
    spoken = {processor.tokenizer.decode(labels[labels >= 0]).strip() for labels in batch["labels"]}
    assert spoken == {f"{answer}</s>" for answer in ANSWERS.values()}
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert losses[-1] < losses[0]


def test_the_loss_of_trl_is_the_models_own(table, processor, tmp_path):
    """TRL never asks for logits; its fused head must give the cross-entropy that the model's forward gives."""
    model = tiny_model(processor)
    trainer = trainer_of(model, processor, table, tmp_path)
    batch = dict(next(iter(trainer.get_train_dataloader())))
    with torch.no_grad():
        expected = model(**batch).loss
        found = trainer.compute_loss(model, dict(batch))
    torch.testing.assert_close(found, expected)


def folder_of_pairs(folder):
    for seed in range(4):
        picture(seed, 48, 48).save(folder / f"{seed}.png")
    pairs = [{"a": "0.png", "b": "1.png", "captions": ["a", "b c"]}, {"a": "2.png", "b": "3.png", "captions": ["d"]}]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    return folder


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.data)])
def test_the_example_trains_an_adapter_that_answers(real, tmp_path):
    folder = DATA / "levir_cc" if real else folder_of_pairs(tmp_path)
    output = tmp_path / "finetuned"
    command = [sys.executable, str(EXAMPLE), str(folder), "--output", str(output), "--steps", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pair = json.loads((folder / "pairs.json").read_text())[0]
    files = [str(folder / pair[date]) for date in "ab"]
    command = [sys.executable, "-m", "unirs.cli", "change", *files, "--model", str(output), "--max-new-tokens", "5"]
    answered = subprocess.run(command, capture_output=True, text=True)
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.strip()


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 60
