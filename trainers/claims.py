"""The arms of the paper's ablations in the small (tables VIII, IX and X): what each sees, says and is trained on.

One frozen tower (that of the embedded checkpoint) looks at RS-World once. One small language model is first taught to
describe what it is shown, the base model's way: that is the frozen base, which gives the clues. Each arm starts from
it and is tuned on the three tasks, or on one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from ..modeling_unirs import UniRSConfig, UniRSForConditionalGeneration
from ..modeling_unirs.prompt_augmentation_unirs import BASE_TEMPLATE
from ..processing import UniRSProcessor
from ..processing.prompts_unirs import CLUE_PROMPTS, DEFAULT_INSTRUCTIONS
from .rows import conversation, image_items, video_item
from .tiny_mixture import TURNS, Talk, clip_answer
from .tiny_tuning import BLANK, KeptFeatures, Schedule, tune, without_pictures

TASKS = ("single", "pair", "video")
LANGUAGE_MODEL = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
}
CLUE_TOKENS, ANSWER_TOKENS = 28, 32
ASKED_AT_ONCE = 64
STILL = "no change"  # label of an unchanged pair


@dataclass(frozen=True)
class Arm:
    """One way to train: on which tasks, with Change Extraction or two plain pictures, with clues or without.

    Args:
        longer: Takes as many steps as the full model, not as many looks at each of its scenes.
    """

    name: str
    tasks: tuple[str, ...] = TASKS
    change_extraction: bool = True
    clues: bool = True
    longer: bool = False

    @property
    def paced_by(self) -> tuple[str, ...]:
        """The tasks whose scenes, each seen equally often, make the number of steps."""
        return TASKS if self.longer else self.tasks


FULL = Arm("full")
ARMS = (
    FULL,
    *(Arm(f"only {task}", (task,)) for task in TASKS),
    *(Arm(f"only {task} longer", (task,), longer=True) for task in TASKS),
    Arm("two plain pictures", change_extraction=False),
    Arm("no clues", clues=False),
)


def arms(clues: bool) -> tuple[Arm, ...]:
    """What is trained: everything, or, without clues, whatever else there is to compare, no arm with them."""
    return ARMS if clues else tuple(replace(arm, clues=False) for arm in ARMS if arm.clues)


@dataclass
class Split:
    """Scenes of one split: words and kept features `(samples, pictures, 1, patches, dim)` by task, and clues."""

    words: dict[str, list[dict[str, Any]]]
    features: dict[str, torch.Tensor]
    clues: dict[str, list[str]]

    def question(self, task: str, row: int) -> Talk:
        """What the base model is asked for its clue."""
        return Talk(self._turns(task, row, [(CLUE_PROMPTS[task], "")])[:1], _plain_pixels(task), BASE_TEMPLATE)

    def talk(self, task: str, row: int, turns: list[tuple[str, str]], arm: Arm) -> Talk:
        """A conversation in the form that an arm is given it."""
        messages = self._turns(task, row, turns)
        if arm.clues:
            messages[0]["content"].append({"type": "clue", "text": self.clues[task][row]})
        if task == "pair" and arm.change_extraction:
            return Talk(messages, "pixel_values_pairs")
        return Talk(messages, _plain_pixels(task), {"change_extraction": False} if task == "pair" else {})

    def _turns(self, task: str, row: int, turns: list[tuple[str, str]]) -> list[dict[str, Any]]:
        pictures = [BLANK] * self.features[task].shape[1]
        return conversation(video_item(pictures) if task == "video" else image_items(pictures), turns)


def _plain_pixels(task: str) -> str:
    return "pixel_values_videos" if task == "video" else "pixel_values"


# -- conversations ---------------------------------------------------------------------------------------------------
class Descriptions:
    """What the base learns: to describe a picture, two plain pictures, a clip."""

    def __init__(self, split: Split):
        self.split = split

    def rows(self) -> list[dict[str, Any]]:
        return [{"kind": task, "row": row} for task, words in self.split.words.items() for row in range(len(words))]

    def reseed(self, seed: int) -> None:
        """Nothing is drawn."""

    def talk(self, kind: str, row: int) -> Talk:
        talk = self.split.question(kind, row)
        talk.messages.append({"role": "assistant", "content": self.split.words[kind][row]["clue"]})
        return talk


class ArmRows:
    """What an arm learns: questions with answers, one of five captions, a class name."""

    def __init__(self, split: Split, arm: Arm, seed: int):
        self.split, self.arm, self.rng = split, arm, np.random.default_rng(seed)

    def rows(self) -> list[dict[str, Any]]:
        return [{"kind": task, "row": row} for task in self.arm.tasks for row in range(len(self.split.words[task]))]

    def reseed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def talk(self, kind: str, row: int) -> Talk:
        word = self.split.words[kind][row]
        turns = [(question, str(answers[self.rng.integers(len(answers))])) for question, answers in asked(kind, word)]
        self.rng.shuffle(turns)
        return self.split.talk(kind, row, turns[:TURNS], self.arm)


def asked(task: str, word: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """The questions that a scene is scored by, with all accepted answers."""
    if task == "pair":
        return [(DEFAULT_INSTRUCTIONS["pair"], word["questions"][0]["references"])]
    if task == "video":
        return [(DEFAULT_INSTRUCTIONS["video"], [clip_answer(word["label"])])]
    return [(one["question"], one["references"]) for one in word["questions"]]


# -- training --------------------------------------------------------------------------------------------------------
def small_model(config: UniRSConfig, seed: int) -> UniRSForConditionalGeneration:
    """Tower, Change Extraction and tokenizer of the embedded checkpoint; a small language model without knowledge."""
    config = copy.deepcopy(config)
    text = config.text_config.to_dict()
    text.update(LANGUAGE_MODEL)
    text.pop("head_dim", None)
    torch.manual_seed(seed)
    model = UniRSForConditionalGeneration(
        UniRSConfig(**{**config.to_dict(), "text_config": text, "vision_config": config.vision_config.to_dict()})
    )
    model.set_attn_implementation("eager")
    return model


def train_base(
    model: UniRSForConditionalGeneration,
    processor: UniRSProcessor,
    split: Split,
    schedule: Schedule,
    say: Callable[[str], None],
) -> None:
    tune(model, processor, Descriptions(split), split.features, schedule, say)


def train_arm(
    base: UniRSForConditionalGeneration,
    processor: UniRSProcessor,
    split: Split,
    arm: Arm,
    schedule: Schedule,
    say: Callable[[str], None],
) -> UniRSForConditionalGeneration:
    """A copy of the base, tuned on the scenes of the arm's tasks."""
    model = copy.deepcopy(base)
    tune(model, processor, ArmRows(split, arm, schedule.seed), split.features, schedule, say)
    return model


# -- answers ---------------------------------------------------------------------------------------------------------
@torch.no_grad()
def generate_answers(
    model: UniRSForConditionalGeneration,
    processor: UniRSProcessor,
    talks: list[tuple[Talk, torch.Tensor]],
    max_new_tokens: int,
) -> list[str]:
    """Greedy answers to conversations that end with a question, with the kept features of their pictures."""
    model.eval()
    tower, model.model.vision_tower = model.model.vision_tower, KeptFeatures()
    said = []
    try:
        for start in range(0, len(talks), ASKED_AT_ONCE):
            batch = talks[start : start + ASKED_AT_ONCE]
            inputs = processor.encode_chats(
                [without_pictures(talk.messages) for talk, _ in batch], batch[0][0].template
            )
            for name in [name for name in inputs if name.startswith("pixel_values")]:
                kept = [features.float() for talk, features in batch if talk.pixels == name]
                inputs[name] = torch.stack(kept) if name == "pixel_values_pairs" else torch.cat(kept)
            inputs = {name: value.to(model.device) for name, value in inputs.items()}
            with torch.autocast(model.device.type, torch.bfloat16):
                output = model.generate(**inputs, generation_config=_greedy(model, max_new_tokens))
            new = output[:, inputs["input_ids"].shape[1] :]
            said += processor.post_process_image_text_to_text(new)
    finally:
        model.model.vision_tower = tower
    return said


def _greedy(model: UniRSForConditionalGeneration, max_new_tokens: int) -> GenerationConfig:
    config = copy.deepcopy(model.generation_config)
    config.do_sample, config.max_new_tokens = False, max_new_tokens
    return config


def write_clues(model: UniRSForConditionalGeneration, processor: UniRSProcessor, split: Split) -> dict[str, list[str]]:
    """The base model's words on every scene."""
    return {
        task: [
            processor.clean_clue(one)
            for one in generate_answers(
                model,
                processor,
                [(split.question(task, row), split.features[task][row]) for row in range(len(words))],
                CLUE_TOKENS,
            )
        ]
        for task, words in split.words.items()
    }


def answer(
    model: UniRSForConditionalGeneration, processor: UniRSProcessor, split: Split, arm: Arm
) -> dict[str, list[dict[str, Any]]]:
    """Every question of the arm's tasks, each in a conversation of its own: `{"kind", "said", "references"}`."""
    answers = {}
    for task in arm.tasks:
        talks, records = [], []
        for row, word in enumerate(split.words[task]):
            for number, (question, references) in enumerate(asked(task, word)):
                talks.append((split.talk(task, row, [(question, "")], arm), split.features[task][row]))
                kind = word["questions"][number]["kind"]
                records.append({"kind": kind, "row": row, "references": references, "changed": word["label"] != STILL})
        for talk, _ in talks:
            del talk.messages[1:]
        said = generate_answers(model, processor, talks, ANSWER_TOKENS)
        answers[task] = [{**record, "said": one} for record, one in zip(records, said, strict=True)]
    return answers
