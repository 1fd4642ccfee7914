"""Questions in other words: the same question, and nothing of what is kept to be tried gets into training."""

from __future__ import annotations

import re
from itertools import chain

import numpy as np
import pytest
from unirs.processing.prompts_unirs import DEFAULT_INSTRUCTIONS
from unirs.trainers.real_questions import REAL_QUESTION
from unirs.trainers.scene_questions import COVER_QUESTION, PRESENCE_TEMPLATES, URBAN_QUESTION
from unirs.trainers.scene_tasks import FLAG_QUESTION, SEQUENCE_INSTRUCTION, WHEN_QUESTION, single_sample
from unirs.trainers.tiny_data import make_scenes
from unirs.trainers.tiny_mixture import Mixture
from unirs.trainers.tiny_presence import ANY_WATER
from unirs.trainers.tiny_what_changed import ASKED, sentences
from unirs.trainers.unanswerable import (
    UNKNOWN,
    UNKNOWN_ANSWER,
    UNKNOWN_HELD_OUT,
    UNKNOWN_OF_CHANGE,
    UNTOLD,
    UNTOLD_HELD_OUT,
    about_thing,
)
from unirs.trainers.wordings import (
    CLIP_QUESTIONS,
    NAMES,
    PAIR_QUESTIONS,
    WORDINGS,
    YES_NO,
    asked_by_choice,
    asked_by_yes_or_no,
    reworded,
)

from tests.turns import words_of

THINGS = {"boat": "boats?", "building": "buildings?|houses?", "vehicle": r"vehicles?|cars?\b(?! park)",
          "water": "water", "road": "roads?", "forest": "forests?", "parking lot": "parking lots?|car parks?",
          "crop field": "crop fields?|cropland", "sports field": "sports fields?|football fields?",
          "solar farm": "solar farms?", "storage tank": "storage tanks?|oil tanks?", "tree": "trees?",
          "river": "rivers?", "pond": "ponds?|lakes?"}  # fmt: skip
OTHERS = (REAL_QUESTION, DEFAULT_INSTRUCTIONS["single"], FLAG_QUESTION, WHEN_QUESTION, SEQUENCE_INSTRUCTION,
          *PAIR_QUESTIONS, *CLIP_QUESTIONS, "What is at the top left of the image?",
          "Where in the image are the storage tanks?")  # fmt: skip

YES_NO_TURNS = ((URBAN_QUESTION, "rural"), (COVER_QUESTION, "water"), (REAL_QUESTION, "forest"), (FLAG_QUESTION, "no"))


@pytest.fixture(scope="module")
def questions() -> list[str]:
    samples = [single_sample(seed, 32) for seed in range(30)]
    asked = {one.question for sample in samples for one in (*sample.questions, *sample.more)}
    asked |= {template.format(a=name) for template in PRESENCE_TEMPLATES for name in NAMES}
    return sorted(asked | set(OTHERS))


def things(question: str) -> list[str]:
    """What is asked for, in the order of the words."""
    found = re.findall("|".join(f"(?P<{name.replace(' ', '_')}>{words})" for name, words in THINGS.items()), question)
    return [next(name for name, word in zip(THINGS, words, strict=True) if word) for words in found]


@pytest.mark.parametrize("held_out", [False, True])
def test_every_question_has_other_words_about_the_same_things(questions, held_out):
    rng = np.random.default_rng(0)
    for question in questions:
        for other in {reworded(rng, question, held_out) for _ in range(60)}:
            assert other != question
            assert "{" not in other
            order = things(other)[::-1] if "fewer" in other else things(other)
            if question not in OTHERS:
                assert order == things(question)


def test_words_kept_to_be_tried_are_not_trained_on(questions):
    """Not in any wording, whatever stands for its things."""
    rng = np.random.default_rng(0)
    trained = {reworded(rng, question) for question in questions for _ in range(200)} | set(questions) | set(UNKNOWN)
    trained |= set(ANY_WATER) | set(chain(*map(sentences, ASKED.values())))
    trained |= {asked_by_yes_or_no(rng, *turn)[0] for turn in YES_NO_TURNS for _ in range(400)}
    trained |= {asked_by_choice(rng, *turn)[0] for turn in YES_NO_TURNS[::3] for _ in range(100)}
    tried = {reworded(rng, question, held_out=True) for question in questions for _ in range(60)}
    tried |= {asked_by_yes_or_no(rng, *turn, True)[0] for turn in YES_NO_TURNS for _ in range(60)}
    tried |= {asked_by_choice(rng, *turn, True)[0] for turn in YES_NO_TURNS[::3] for _ in range(60)}
    tried |= {words for asked in ASKED.values() for words in sentences(asked, held_out=True)}
    assert not trained & (tried | set(UNKNOWN_HELD_OUT))
    assert len({*chain(*(one.trained for one in WORDINGS), *(one.held_out for one in WORDINGS))}) == sum(
        len(one.trained) + len(one.held_out) for one in WORDINGS
    )


@pytest.mark.parametrize(
    ("question", "answer", "right", "wrong"),
    [
        (URBAN_QUESTION, "urban", "an urban area|a city|a town|urban|built up", "a rural area|the countryside|rural"),
        (
            FLAG_QUESTION,
            "yes",
            "different|not the same|something",
            "(?<!not )the same|identical|equal|alike|nothing|as before",
        ),
        (
            FLAG_QUESTION,
            "no",
            "(?<!not )the same|identical|equal|alike|nothing|as before",
            "different|not the same|something",
        ),
        (COVER_QUESTION, "water", "water", "forest|woodland|cropland|farmland|grassland|bare land|built-up area"),
        (
            REAL_QUESTION,
            "river or lake",
            "water",
            "a forest|woodland|a parking lot|an industrial area|.* area|.*field|farmland|grassland",
        ),
    ],
)
def test_yes_is_said_of_the_right_answer_alone(question, answer, right, wrong):
    rng = np.random.default_rng(0)
    asked = [asked_by_yes_or_no(rng, question, answer) for _ in range(400)]
    assert all(re.search(rf"\b({right if said == 'yes' else wrong})\b", words) for words, said in asked)
    assert asked_by_yes_or_no(rng, WHEN_QUESTION, "yes") is None


@pytest.mark.parametrize(
    ("question", "answers"),
    [
        (URBAN_QUESTION, ["urban"]), (COVER_QUESTION, ["water"]), (REAL_QUESTION, ["forest"]),
        (FLAG_QUESTION, ["yes", "no"]),  # nobody asks whether everything is different: of one it is always "no"
    ],
)  # fmt: skip
def test_yes_is_as_often_right_as_no(question, answers):
    rng = np.random.default_rng(0)
    said = [asked_by_yes_or_no(rng, question, answer)[1] for answer in answers for _ in range(400)]
    assert 0.4 < said.count("yes") / len(said) < 0.6


def test_words_of_yes_and_no_that_are_kept_to_be_tried_are_not_trained_on():
    trained, tried = (
        {
            words.format(it=name)
            for one in YES_NO
            for words in getattr(one, side)
            for name in chain(*one.names.values())
        }
        for side in ("trained", "held_out")
    )
    assert not trained & tried
    rng = np.random.default_rng(0)
    for turn in YES_NO_TURNS:
        assert {asked_by_yes_or_no(rng, *turn)[0] for _ in range(60)} <= trained
        assert {asked_by_yes_or_no(rng, *turn, True)[0] for _ in range(60)} <= tried


@pytest.mark.parametrize(
    ("turn", "right", "wrong"),
    [
        ((URBAN_QUESTION, "urban"), {"town", "city"}, {"countryside"}),
        ((URBAN_QUESTION, "rural"), {"countryside"}, {"town", "city"}),
        ((FLAG_QUESTION, "yes"), {"different"}, {"the same"}),
        ((FLAG_QUESTION, "no"), {"the same"}, {"different"}),
    ],
)
@pytest.mark.parametrize("held_out", [False, True])
def test_a_choice_names_both_answers_and_the_right_one_is_said_by_its_name(turn, right, wrong, held_out):
    rng = np.random.default_rng(0)
    for _ in range(60):
        question, answer = asked_by_choice(rng, *turn, held_out)
        assert answer in right
        assert answer in question.lower()
        assert any(name in question.lower() for name in wrong)
    assert asked_by_choice(rng, COVER_QUESTION, "water") is None


def test_things_that_are_shown_nowhere_are_none_of_those_that_are():
    shown = {name for names in NAMES.values() for pair in names for name in pair}
    for a, some in (*UNTOLD, *UNTOLD_HELD_OUT):
        assert not {a, some} & shown
    assert not set(UNTOLD) & set(UNTOLD_HELD_OUT)
    rng = np.random.default_rng(0)
    for names in UNTOLD_HELD_OUT:
        for question in {about_thing(rng, names) for _ in range(100)}:
            assert "{" not in question
            assert names[0].split(" ", 1)[1] in question or names[1] in question


def test_what_has_no_other_words_stays(questions):
    for question in ("Is there a building at the top left of the image?", "Is there a cow?"):
        assert reworded(np.random.default_rng(0), question) == question


def test_conversations_ask_in_other_words_and_sometimes_what_no_picture_tells(tmp_path):
    make_scenes(tmp_path, {"single": 2, "pair": 2, "video": 1, "sequence": 1}, 0, processes=1, quiet=True)
    mixture = Mixture(tmp_path, None, seed=0)
    asked, unknown, count = set(), 0, 0
    rng = np.random.default_rng(0)
    cannot_be_told = {*UNKNOWN, *UNKNOWN_OF_CHANGE, *(about_thing(rng, names) for names in UNTOLD for _ in range(300))}
    for _ in range(200):
        for row in mixture.rows():
            messages = mixture.talk(row["kind"], row["row"]).messages
            turns = list(zip(messages[::2], messages[1::2], strict=True))
            for place, (user, assistant) in enumerate(turns, 1):
                text = words_of(user)
                if text in UNKNOWN_OF_CHANGE:  # asked of changed pairs alone, so nothing may come behind it
                    assert (row["kind"].removesuffix("_alone"), place) == ("pair", len(turns))
                asked.add(text)
                assert (text in cannot_be_told) == (words_of(assistant) == UNKNOWN_ANSWER)
                unknown += text in cannot_be_told
            count += 1
    assert {"What do you see?", "What changed?", "When did it change?", "What happens here?"} <= asked
    assert asked & {*UNKNOWN_OF_CHANGE}
    assert 0.08 < unknown / count < 0.14
    assert not asked & set(UNKNOWN_HELD_OUT)
    assert not [text for text in asked for a, some in UNTOLD_HELD_OUT if a in text or some in text]


def test_pasture_is_not_asked_for_as_farmland_but_all_other_land_is():
    """Whether grass is farmland, nobody tells from above."""
    rng = np.random.default_rng(0)
    said = {}
    for answer in ("grassland", "cropland", "water"):
        turns = [asked_by_yes_or_no(rng, COVER_QUESTION, answer) for _ in range(400)]
        said[answer] = {told for question, told in turns if "farmland" in question}
    assert said == {"grassland": set(), "cropland": {"yes"}, "water": {"no"}}
