"""Clues that the embedded checkpoint is trained with: at times its own, which err as they do in use."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from unirs.trainers.scene_tasks import HELD_OUT_SEED, single_sample
from unirs.trainers.tiny_data import SIZE, make_scenes
from unirs.trainers.tiny_mixture import GIVEN_CLUES, OWN_CLUES, Mixture
from unirs.trainers.tiny_real import pixels
from unirs.trainers.tiny_tuning import own_clues

import unirs
from tests.turns import words_of


def clue_of(messages: list[dict[str, Any]]) -> str | None:
    return next((item["text"] for item in messages[0]["content"] if item["type"] == "clue"), None)


def test_a_model_gives_the_clues_that_its_prompt_augmentation_gives():
    model = AutoModelForImageTextToText.from_pretrained(unirs.default_checkpoint(), dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(unirs.default_checkpoint())
    pictures = [single_sample(seed, SIZE).images[0] for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 70)]
    shown = pixels(np.stack([np.asarray(one) for one in pictures])[:, None]).flatten(0, 1)
    with torch.no_grad():
        features = torch.cat([model.model.encode_pixels(part) for part in shown.split(16)])[:, None, None]
    tower = model.model.vision_tower
    said = own_clues(model, processor, features)
    assert model.model.vision_tower is tower
    asked = [
        [{"role": "user", "content": [{"type": "image", "image": one}, {"type": "text", "text": "Is it a town?"}]}]
        for one in pictures
    ]
    given = [clue_of(one) for one in model.prompt_augmenter(processor)(asked)]
    assert said == given
    assert len(set(said)) > 20


def test_the_models_own_clues_stand_beside_questions_and_the_true_one_is_still_what_it_learns_to_say(tmp_path):
    make_scenes(tmp_path, {"single": 4}, 0, processes=1, quiet=True)
    mixture = Mixture(tmp_path, None, 0, tasks=("single",))
    mixture.own_clues = {row: f"own {row}" for row in range(8)}
    true = [word["clue"] for word in mixture.words["single"]]
    given: Counter[str] = Counter()
    for row in [*mixture.rows()] * 60:
        talk = mixture.talk(row["kind"], row["row"])
        clue = clue_of(talk.messages)
        if clue:
            assert clue in (f"own {row['row']}", true[row["row"]])
        given["none" if clue is None else "own" if clue.startswith("own") else "true"] += 1
        answers = [words_of(turn) for turn in talk.messages[1::2]]
        assert not any(answer.startswith("own") for answer in answers)
    assert given["own"] / (given["own"] + given["true"]) == pytest.approx(OWN_CLUES, abs=0.08)
    assert given["none"] / given.total() == pytest.approx(1 - GIVEN_CLUES, abs=0.1)
