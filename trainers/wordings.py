"""Other words for the questions of RS-World, as people ask them: the same question has the same answer.

A small language model that has read one wording of a question answers another with whatever it has read most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..processing.prompts_unirs import DEFAULT_INSTRUCTIONS
from .real_scenes import SCENE_CLASSES
from .scene_questions import (
    AREA_KINDS,
    COUNTABLE,
    COVER_QUESTION,
    COVERS,
    PRESENCE_OBJECTS,
    URBAN_QUESTION,
)
from .scene_tasks import FLAG_QUESTION, SEQUENCE_INSTRUCTION, WHEN_QUESTION
from .tiny_where_changed import WHERE_CHANGED

CLIP_QUESTIONS = (
    DEFAULT_INSTRUCTIONS["video"],
    "What is happening in this video?",
    "Classify the scene of this clip.",
)
PAIR_QUESTIONS = (
    DEFAULT_INSTRUCTIONS["pair"],
    "Please describe the change.",
    "What has changed between the two dates?",
)
# One and several of each thing; the first pair is what the questions themselves say.
NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    **{name: ((name, name.split(" ", 1)[1] + "s"),) for name in PRESENCE_OBJECTS.values()},
    "a building": (("a building", "buildings"), ("a house", "houses")),
    "a vehicle": (("a vehicle", "vehicles"), ("a car", "cars")),
    "a water area": (("a water area", "water areas"), ("water", "water areas")),
    "a parking lot": (("a parking lot", "parking lots"), ("a car park", "car parks")),
    "a sports field": (("a sports field", "sports fields"), ("a football field", "football fields")),
    "a storage tank": (("a storage tank", "storage tanks"), ("an oil tank", "oil tanks")),
    "a tree": (("a tree", "trees"),),  # these three are asked for in training alone (tiny_presence.py)
    "a river": (("a river", "rivers"),),
    "a pond": (("a pond", "ponds"), ("a lake", "lakes")),
}
SEVERAL = {names[0][1]: [several for _, several in names] for names in NAMES.values()}
SEVERAL |= {"crop fields": ["crop fields", "cropland"]}  # of which a share is asked


def _any_of(names: Iterable[str]) -> str:
    return "|".join(map(re.escape, names))


@dataclass(frozen=True)
class Wordings:
    """Questions of one kind, the wordings that are trained on, and such as are kept to be tried.

    Groups of the pattern stand in the wordings by their names: `a` for one of PRESENCE_OBJECTS, `some`, `more` and
    `fewer` for several of COUNTABLE. Where there is `a`, `some` is its plural.
    """

    pattern: str
    trained: tuple[str, ...]
    held_out: tuple[str, ...]


_COUNTED = _any_of((*COUNTABLE.values(), "ponds"))
WORDINGS = (
    Wordings(
        rf"(?:Is there|Is|Does the image show) (?P<a>{_any_of(NAMES)})(?: in the image| present in the image)?\?",
        ("Is there {a}?", "Can you see {a}?", "Do you see {a} in this picture?", "Is {a} visible?", "Any {some}?",
         "Are there any {some}?", "Are there {some} in the picture?", "Does this picture show any {some}?",
         "Is there {a} here?", "Are there any {some} in this picture?", "Does it show {a}?", "Are there {some}?",
         "Can you see any {some}?", "Is {a} in this picture?", "Do any {some} appear in the picture?",
         "Tell me whether there is {a}.", "Can we find {a} here?"),
        ("Can {a} be seen in this image?", "Do you see any {some}?", "Are any {some} visible here?"),
    ),
    Wordings(
        rf"How many (?P<some>{_COUNTED}) are there\?",
        ("How many {some} can you see?", "How many {some} are in the image?", "Count the {some}.", "How many {some}?",
         "What is the number of {some}?", "How many {some} are there in this picture?", "Number of {some}?",
         "How many {some} do you count?", "How many {some} does the picture show?",
         "Tell me how many {some} there are.", "How many {some} do you see?", "How many {some} are visible?",
         "How many {some} do we find here?", "Please count the {some}.", "What is the count of {some}?",
         "How many {some} appear in the image?"),
        ("How many {some} do you see in this picture?", "Give the number of {some}."),
    ),
    Wordings(
        rf"Are there more (?P<more>{_COUNTED}) than (?P<fewer>{_COUNTED})\?",
        ("Do you see more {more} than {fewer}?", "Is the number of {more} larger than the number of {fewer}?",
         "Are there fewer {fewer} than {more}?", "Are {more} more numerous than {fewer}?",
         "More {more} than {fewer}?", "Can you see more {more} than {fewer}?", "Do {more} outnumber {fewer}?",
         "Are there more {more} here than {fewer}?", "Is it true that there are more {more} than {fewer}?"),
        ("Does the image show more {more} than {fewer}?", "Are the {more} more than the {fewer}?"),
    ),
    Wordings(
        re.escape(URBAN_QUESTION),
        ("Is this rural or urban?", "Rural or urban?", "Is this area urban or rural?", "Is the scene rural or urban?",
         "Urban or rural?", "Would you call this rural or urban?", "Does it look rural or urban?",
         "Is this place rural or urban?"),
        ("Does this picture show a rural or an urban area?", "Is it urban or rural?"),
    ),
    Wordings(
        re.escape(COVER_QUESTION),
        ("What is the main land cover?", "What covers most of the land?", "Which land cover dominates?",
         "What kind of land is this?", "What is the main land cover here?", "What covers most of this picture?",
         "Which kind of land covers the most?", "What is the land mostly?", "What is there most of?"),
        ("What is most of the land covered by?", "Which is the main land cover in this picture?"),
    ),
    Wordings(
        rf"How much of the image is covered by (?P<cover>{_any_of(AREA_KINDS.values())})\?",
        ("How much of the picture is {cover}?", "What share of the image is covered by {cover}?",
         "How much is covered by {cover}?", "How large is the share of {cover}?", "How much of it is {cover}?",
         "Tell me how much is {cover}.", "What part of the picture is {cover}?", "How much of this image is {cover}?",
         "How much of the picture would you say is {cover}?", "How much of it do you think is {cover}?",
         "What share is {cover}?", "Share of {cover}?"),
        ("Which share of the picture is {cover}?", "How much of this image do you think is {cover}?"),
    ),
    Wordings(
        r"Where in the image (?P<thing>(?:is|are) the [a-z ]+)\?",
        ("Where {thing}?", "Where {thing} in this picture?", "In which part of the image {thing}?",
         "Where in this picture {thing}?", "Where exactly {thing}?", "Where {thing} here?", "Whereabouts {thing}?"),
        ("In what part of the picture {thing}?", "At which place in this image {thing}?"),
    ),
    Wordings(
        r"What is (?P<place>at the [a-z ]+ of the image)\?",
        ("What lies {place}?", "What can be seen {place}?", "What is there {place}?", "Tell me what is {place}.",
         "What can you see {place}?", "Which thing is {place}?"),
        ("What do you see {place}?",),
    ),
    Wordings(
        r"Which scene is this\? Classes: .+",
        ("Which scene is this?", "What kind of scene is this?", "What type of place is this?", "Name the scene.",
         "What is this place?", "What kind of place is this?", "What sort of scene is this?", "What is this area?",
         "Which type of scene do we see here?"),
        ("What sort of place does this show?", "Which kind of scene do you see?"),
    ),
    Wordings(
        re.escape(DEFAULT_INSTRUCTIONS["single"]),
        ("Describe this image.", "Describe the image.", "Describe the image in one sentence.", "What do you see?",
         "Describe this picture.", "What is in this picture?", "What does this image show?", "What is shown here?",
         "Please describe the image.", "Give a caption.", "What can be seen in the picture?", "Describe the scene.",
         "What is this?", "Describe this satellite image.", "Caption this image.", "Tell me about this image.",
         "What can you see?", "Describe what you see.", "What is there to see?", "Say what is in the picture.",
         "What can you tell me about this area?", "Tell me about this area.", "Describe this area.",
         "Describe this place.", "What can you tell me about this picture?", "Tell me about this place."),
        ("Tell me what you see.", "What is visible in this image?", "Please describe this picture in a sentence.",
         "Describe what is in the image."),
    ),
    Wordings(
        _any_of(PAIR_QUESTIONS),
        ("What has changed?", "What changed?", "Describe the change.", "Describe the changes.",
         "Describe the differences.", "What is different?", "What is different in the second image?",
         "What happened between the two dates?", "How did the area change?", "What is new?",
         "Please describe the differences between the two images.", "What are the changes?",
         "What changes can you see?", "Tell me about the changes.", "Describe what has changed.",
         "What is different now?", "What is new in the second picture?", "Say what is different."),
        ("Tell me what changed.", "What differs between the two images?", "Which changes do you see?"),
    ),
    Wordings(
        re.escape(FLAG_QUESTION),
        ("Did anything change?", "Has anything changed?", "Is there any change?", "Is there a difference?",
         "Are there any changes between the two images?", "Has the area changed?", "Do you see a change?",
         "Is anything different?", "Do the two pictures differ?", "Do you notice any change here?",
         "Has something changed here?", "Can you see a difference between the two dates?",
         "Is the area different now?", "Can you find any change?", "Did anything change between the two images?",
         "Is there a change in this area?", "Does anything differ?", "Did the area change?", "Any changes?",
         "Can you tell whether something changed?", "Are the two pictures different?", "Have things changed here?"),
        ("Can you see any change between these pictures?", "Did the scene change?",
         "Is there any change between these images?"),
    ),
    Wordings(
        re.escape(WHERE_CHANGED),
        ("Where has it changed?", "Where is the change?", "Where is the difference?", "Where are the changes?",
         "Where did something change?", "Where in the image is the change?", "Where is it different?",
         "Where do the two pictures differ?", "In which part of the image is the change?",
         "Which part has changed?", "Which part of the image is different?", "Where can you see a change?",
         "Where did anything change?", "Where exactly did it change?", "Where is it not the same?",
         "Tell me where it changed.", "Which part of the picture is not the same?"),
        ("Where has the area changed?", "At which place is the change?", "Where do you see a difference?"),
    ),
    Wordings(
        re.escape(WHEN_QUESTION),
        ("When did it change?", "When did the change happen?", "Between which dates did something change?",
         "When was the change?", "When did the area change?", "When did it become different?",
         "Tell me when it changed.", "In which interval did it change?"),
        ("When did anything change?", "Between which dates did it happen?"),
    ),
    Wordings(
        re.escape(SEQUENCE_INSTRUCTION),
        ("What changes over these dates?", "Describe the changes over time.", "What happened over time?",
         "What changed over time?", "What changed in these pictures?", "Describe what happened over the dates.",
         "What is different from date to date?"),
        ("Describe how this place changed over the dates.", "What has changed over these dates?"),
    ),
    Wordings(
        _any_of(CLIP_QUESTIONS),
        ("What is going on in this clip?", "What happens here?", "Name the event.", "Which event is this?",
         "What does this video show?", "What do you see in this video?", "Describe the video.",
         "What is going on here?", "What event is shown?", "Classify this video.", "What is the event?",
         "Which event does this clip show?", "Tell me which event this is."),
        ("Which event can you see in this video?", "What is happening here?", "Tell me what happens in the clip."),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class YesNo:
    """Asks whether one answer of a question is the right one; `it` stands for the answer by one of its names.

    An answer without a name is never asked for.
    """

    pattern: str
    names: dict[str, tuple[str, ...]]
    trained: tuple[str, ...]
    held_out: tuple[str, ...]


# Other names of a cover, and of a scene.
ALSO = {"cropland": ("farmland",), "forest": ("woodland",), "a field": ("farmland",), "a forest": ("woodland",)}
NOT_ASKED = {("grassland", "farmland"), ("grass", "farmland")}  # right answers, and names that could be right as well
# A kind of land has two entries: by adjectives, and by nouns, which want other sentences.
YES_NO = (
    YesNo(
        re.escape(URBAN_QUESTION),
        {"urban": ("urban", "built up"), "rural": ("rural",)},
        ("Is this {it}?", "Is it {it}?", "Is this area {it}?", "Would you call this {it}?", "Is the place {it}?",
         "Is the land here {it}?", "Would you say this is {it}?", "Would you say that the area is {it}?",
         "Do you think it is {it}?"),
        ("Is this place {it}?", "Would you say it is {it}?"),
    ),
    YesNo(
        re.escape(URBAN_QUESTION),
        {"urban": ("an urban area", "a city", "a town"), "rural": ("a rural area", "the countryside")},
        ("Is this {it}?", "Is it {it}?", "Does this picture show {it}?", "Is this picture of {it}?",
         "Would you say this is {it}?", "Are we looking at {it}?", "Could this be {it}?", "Is {it} what we see here?",
         "Can you see {it}?", "Would you call this {it}?"),
        ("Does this look like {it}?", "Do you see {it}?"),
    ),
    YesNo(
        re.escape(FLAG_QUESTION),
        {"yes": ("different", "not the same"), "no": ("the same", "identical", "equal", "alike")},
        ("Are the two pictures {it}?", "Are they {it}?", "Are both dates {it}?", "Do the two look {it}?",
         "Would you say that they are {it}?", "Are these two images {it}?", "Are before and after {it}?",
         "Does it look {it} on both dates?", "Is it {it} in both pictures?", "Is it {it} in both?"),
        ("Are these two {it}?", "Are both pictures {it}?"),
    ),
    YesNo(
        re.escape(FLAG_QUESTION),
        {"yes": ("different from",), "no": ("the same as", "identical to")},
        ("Is the second picture {it} the first?", "Is the first image {it} the second?",
         "Does the second date look {it} the first?", "Is the later picture {it} the earlier one?"),
        ("Is the second image {it} the first one?", "Does the first picture look {it} the second?"),
    ),
    YesNo(
        re.escape(FLAG_QUESTION),
        {"yes": ("something",), "no": ("nothing",)},
        ("Has {it} changed?", "Did {it} change?", "Is {it} different?"),
        ("Has {it} become different?", "Has {it} changed in the second picture?"),
    ),
    YesNo(
        re.escape(FLAG_QUESTION),
        {"yes": (), "no": ("the same", "as before")},  # of one new house nobody says that everything is different
        ("Is everything {it}?", "Does everything look {it}?", "Did everything stay {it}?"),
        ("Is all of it {it}?", "Has everything stayed {it}?"),
    ),
    YesNo(
        re.escape(COVER_QUESTION),
        {cover: (cover, *ALSO.get(cover, ())) for cover in (*COVERS, "built-up area")},
        ("Is it mainly {it}?", "Is the main land cover {it}?", "Is {it} the main land cover?", "Does {it} dominate?",
         "Is most of it {it}?", "Is most of the land {it}?", "Is the land mostly {it}?",
         "Would you say it is mainly {it}?", "Does {it} cover the most?"),
        ("Is the land here mainly {it}?", "Is {it} what covers most?"),
    ),
    YesNo(
        r"Which scene is this\? Classes: .+",
        {one.name: (one.noun, *ALSO.get(one.noun, ())) for one in SCENE_CLASSES},
        # of the whole alone: what it shows beside its own class is not known
        ("Is this {it}?", "Is it {it}?", "Would you say this is {it}?", "Are we looking at {it}?",
         "Could this be {it}?"),
        ("Does this look like {it}?",),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Asks which of both answers is the right one; in the sentences each stands by its own name, as `{urban}`."""

    pattern: str
    names: dict[str, tuple[str, ...]]
    trained: tuple[str, ...]
    held_out: tuple[str, ...]


CHOICES = (
    Choice(
        re.escape(URBAN_QUESTION),
        {"urban": ("town", "city"), "rural": ("countryside",)},
        ("{urban} or {rural}?", "{rural} or {urban}?", "Is this a {urban} or the {rural}?",
         "Would you say {urban} or {rural}?", "Does it show a {urban} or the {rural}?"),
        ("Is it {urban} or {rural}?", "Do you see a {urban} or the {rural}?"),
    ),
    Choice(
        re.escape(FLAG_QUESTION),
        {"yes": ("different",), "no": ("the same",)},
        ("{no} or {yes}?", "{yes} or {no}?", "Are they {no} or {yes}?", "Are the two pictures {no} or {yes}?",
         "Are these {no} or {yes}?", "Is it {no} or {yes}?", "Do they look {no} or {yes}?"),
        ("Are both dates {no} or {yes}?", "Would you say {yes} or {no}?"),
    ),
)  # fmt: skip


def asked_by_yes_or_no(
    rng: np.random.Generator, question: str, answer: str, held_out: bool = False
) -> tuple[str, str] | None:
    """Whether one answer is the right one, by a fair coin, with "yes" or "no"; none for other kinds than YES_NO's."""
    kinds = [one for one in YES_NO if re.fullmatch(one.pattern, question) and answer in one.names]
    if not kinds:
        return None
    one = kinds[int(rng.integers(len(kinds)))]
    others = tuple(name for name, names in one.names.items() if names and name != answer)
    right = not others or bool(one.names[answer] and rng.random() < 0.5)
    said = answer if right else _draw(rng, others)
    words = _draw(rng, one.held_out if held_out else one.trained)
    names = tuple(name for name in one.names[said] if (answer, name) not in NOT_ASKED)
    return words.format(it=_draw(rng, names)), "yes" if right else "no"


def asked_by_choice(
    rng: np.random.Generator, question: str, answer: str, held_out: bool = False
) -> tuple[str, str] | None:
    """Which of both answers is the right one, and its name in that question; none for other kinds than CHOICES'."""
    for one in CHOICES:
        if re.fullmatch(one.pattern, question):
            said = {name: _draw(rng, names) for name, names in one.names.items()}
            words = _draw(rng, one.held_out if held_out else one.trained).format(**said)
            return words[0].upper() + words[1:], said[answer]
    return None


def reworded(rng: np.random.Generator, question: str, held_out: bool = False) -> str:
    """The same question in other words, drawn from those of training or from those kept to be tried.

    A question of no kind of WORDINGS stays as it is.
    """
    for wordings in WORDINGS:
        found = re.fullmatch(wordings.pattern, question)
        if found:
            words = _draw(rng, wordings.held_out if held_out else wordings.trained)
            return words.format(**_names(rng, found.groupdict()))
    return question


def _names(rng: np.random.Generator, groups: dict[str, str]) -> dict[str, str]:
    """What stands for the groups of a pattern, things by one of their names."""
    if "a" in groups:
        names = NAMES[groups["a"]]
        one, several = names[int(rng.integers(len(names)))]
        return {"a": one, "some": several}
    return {name: _draw(rng, tuple(SEVERAL.get(said, (said,)))) for name, said in groups.items()}


def _draw(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
