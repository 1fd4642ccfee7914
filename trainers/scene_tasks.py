"""Questions, change captions and clip classes about scenes of the SYNTHETIC aerial world (scene_layout.py, scenes.py).

A sample is drawn from its seed alone: the answers are decided first, by fair coin for each asked object, and the scene
is then built to make them true. So a model that does not look gets half of the yes/no questions right, not more.
Seeds tell the splits apart: training below HELD_OUT_SEED; validation from there, drawn like training; test from
TEST_SEED, where roads, parcels, water and woods lie as they never do in training (`scene_shapes.TEST_LAYOUTS`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL import Image

from .scene_changes import Change, draw_change, with_traffic
from .scene_clips import CLIP_CLASSES, film
from .scene_layout import DoesNotFitError, build_layout
from .scene_shapes import LAND_CLASSES, Array, Cover, Layout, Plan
from .scenes import land_map, random_look, render

HELD_OUT_SEED = 1_000_000  # validation
TEST_SEED = 2_000_000
MISREGISTRATION = 2  # pixels by which the second date may lie beside the first
TURN = 0.8  # degrees by which it may be turned
BORDER = 6  # pixels painted beyond the picture, so that a moved date has no empty edge
DATES = 4  # of a sequence
CHANGE_INSTRUCTION = "Please identify whether there are obvious remote sensing image changes."
SEQUENCE_INSTRUCTION = "Please describe what changes over these dates."
CLIP_INSTRUCTION = (
    "Classify the given video in one of the following classes. Classes: " + ", ".join(CLIP_CLASSES) + "."
)

PRESENCE_TEMPLATES = ("Is there {a} in the image?", "Is {a} present in the image?", "Does the image show {a}?")
PRESENCE_OBJECTS = {
    "road": "a road", "water": "a water area", "building": "a building", "forest": "a forest", "vehicle": "a vehicle",
    "boat": "a boat", "parking lot": "a parking lot", "crop field": "a crop field", "sports field": "a sports field",
    "solar farm": "a solar farm", "storage tank": "a storage tank",
}  # fmt: skip
# Objects of one group depend on each other (a boat needs water), those of different groups do not.
GROUPS = {"water": "wet", "boat": "wet", "road": "traffic", "vehicle": "traffic", "parking lot": "traffic"}
COUNTABLE = {"building": "buildings", "vehicle": "vehicles", "boat": "boats", "water": "water areas"}
OBJECTS = ("building", "vehicle", "boat", "storage tank")
COVERS: tuple[Cover, ...] = ("forest", "cropland", "grassland", "bare land", "water")
MAX_COUNT_ASKED = 6
AREAS = ("none", "less than 10%", "10% to 30%", "more than 30%")
AREA_BOUNDS = (0.1, 0.3)
AREA_KINDS = {"water": "water", "tree": "trees", "field": "crop fields", "building": "buildings"}
ROWS, COLUMNS = ("top", "", "bottom"), ("left", "", "right")
CLEAR = 0.04  # of the side: a middle nearer to a third's border is not asked for its place
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class QuestionAnswer:
    """One question with its answer; `references` are all accepted answers (five for a change caption, else one)."""

    question: str
    answer: str
    kind: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class SceneSample:
    """Pictures (1, 2 or `frames` RGB images of size x size) with all questions that they answer."""

    task: Literal["single", "pair", "video", "sequence"]
    images: tuple[Image.Image, ...]
    questions: tuple[QuestionAnswer, ...]
    clue: str
    label: str
    change_mask: Array | None  # pairs only: bool (size, size) on the first date, True where the land changed
    # singles: where objects of OBJECTS lie, (objects, 3) of kind, x, y in 0..1
    centres: Array = field(default_factory=lambda: np.zeros((0, 3)))
    land: tuple[Array, ...] = ()  # singles and pairs: LAND_CLASSES numbers (size, size) of each date, before any shift
    more: tuple[QuestionAnswer, ...] = ()  # singles: as true as `questions`, but not balanced; for training only


def single_sample(seed: int, size: int = 256) -> SceneSample:
    """One picture with four to eight questions."""
    rng = _generator(seed, "single")
    while True:
        plan, questions = _plan_scene(rng)
        try:
            layout = build_layout(rng, plan, seed >= TEST_SEED)
            break
        except DoesNotFitError:  # about one crowded plan in a thousand: the same seed goes on to its next plan
            continue
    image, land = render(layout, random_look(rng), size), land_map(layout, size)
    areas, positions = _areas(land), _positions(layout)
    questions += (*_one_of(rng, areas), *_one_of(rng, positions))
    clue, more = _describe(plan, rng), (*areas, *positions, *_counts(layout), *_turned(questions))
    more = tuple(one for one in more if one not in questions)
    return SceneSample("single", (image,), questions, clue, plan.cover, None, _centres(layout), (land,), more)


def single_questions(seed: int) -> tuple[Plan, tuple[QuestionAnswer, ...]]:
    """What `single_sample(seed)` plans and asks first, without painting it."""
    return _plan_scene(_generator(seed, "single"))


def pair_sample(seed: int, size: int = 256) -> SceneSample:
    """Two dates of one place. Half of all pairs differ only in what is no change: season, light and shadows, haze,
    sensor noise and blur, traffic, a small shift and turn."""
    rng = _generator(seed, "pair")
    changed, change = _draw_pair(rng, seed >= TEST_SEED)
    before = _photograph(rng, change.before, size, moved=False)
    after = _photograph(rng, change.after, size, moved=True)
    maps = tuple(
        land_map(layout, size + 2 * BORDER)[BORDER:-BORDER, BORDER:-BORDER] for layout in (change.before, change.after)
    )
    mask = maps[0] != maps[1] if changed else np.zeros((size, size), bool)
    captions = change.captions
    flag = "yes" if changed else "no"
    questions = (
        QuestionAnswer(CHANGE_INSTRUCTION, str(rng.choice(captions)), "change_caption", captions),
        QuestionAnswer("Has anything changed between the two images?", flag, "change_flag", (flag,)),
    )
    return SceneSample("pair", (before, after), questions, _pair_clue(change), change.kind, mask, land=maps)


def pair_captions(seed: int) -> tuple[bool, tuple[str, ...]]:
    """Whether `pair_sample(seed)` changes, and its five captions, without painting it."""
    changed, change = _draw_pair(_generator(seed, "pair"), seed >= TEST_SEED)
    return changed, change.captions


def clip_sample(seed: int, size: int = 256, frames: int = 8) -> SceneSample:
    """Short clip from a slowly moving camera; the class is drawn evenly."""
    rng = _generator(seed, "video")
    name = CLIP_CLASSES[int(rng.integers(len(CLIP_CLASSES)))]
    images, clue = film(rng, name, size, frames, seed >= TEST_SEED)
    question = QuestionAnswer(CLIP_INSTRUCTION, name, "clip_class", (name,))
    return SceneSample("video", images, (question,), clue, name, None)


def sequence_sample(seed: int, size: int = 256, dates: int = DATES) -> SceneSample:
    """Dated pictures of one place, oldest first; two of three change once, between two dates that follow."""
    rng = _generator(seed, "sequence")
    changed = bool(rng.random() < 2 / 3)
    change = draw_change(rng, changed, seed >= TEST_SEED)
    first = int(rng.integers(1, dates)) if changed else dates  # the last date that still shows the old state
    images = tuple(
        _photograph(rng, with_traffic(rng, change.before if date <= first else change.after), size, moved=date > 1)
        for date in range(1, dates + 1)
    )
    when = f"between date {first} and date {first + 1}" if changed else "nothing has changed"
    captions = tuple(f"{when} {one}" for one in change.captions) if changed else change.captions
    questions = (
        QuestionAnswer(SEQUENCE_INSTRUCTION, str(rng.choice(captions)), "sequence_caption", captions),
        QuestionAnswer("When did something change?", when, "when", (when,)),
    )
    return SceneSample("sequence", images, questions, _pair_clue(change), change.kind, None)


def _generator(seed: int, task: str) -> np.random.Generator:
    return np.random.default_rng((seed, ("single", "pair", "video", "sequence").index(task)))


def _draw_pair(rng: np.random.Generator, unseen: bool) -> tuple[bool, Change]:
    changed = bool(rng.random() < 0.5)
    return changed, draw_change(rng, changed, unseen)


def _centres(layout: Layout) -> Array:
    groups = (
        [part.parts[0].mean(axis=0) for part in layout.buildings],
        [(one.x, one.y) for one in layout.vehicles],
        [(one.x, one.y) for one in layout.boats],
        list(layout.tanks[:, :2]),
    )
    return np.array([(kind, *at) for kind, group in enumerate(groups) for at in group]).reshape(-1, 3)


def _photograph(rng: np.random.Generator, layout: Layout, size: int, moved: bool) -> Image.Image:
    """The place on one date, in a light of its own; `moved` lays it a little beside the first date."""
    wide = render(layout, random_look(rng), size + 2 * BORDER)
    if not moved:
        return wide.crop((BORDER, BORDER, BORDER + size, BORDER + size))
    (x, y), angle = rng.uniform(-MISREGISTRATION, MISREGISTRATION, 2), np.deg2rad(rng.uniform(-TURN, TURN))
    cos, sin, middle = np.cos(angle), np.sin(angle), size / 2
    left, top = BORDER + middle - cos * middle + sin * middle + x, BORDER + middle - sin * middle - cos * middle + y
    matrix = (cos, -sin, left, sin, cos, top)
    return wide.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


# -- single pictures -------------------------------------------------------------------------------------------------
def _plan_scene(rng: np.random.Generator) -> tuple[Plan, tuple[QuestionAnswer, ...]]:
    """Draws what to ask and the answers, then a plan in which these answers are true."""
    # 1. two objects of different groups, each with a fair coin
    first, second = (str(name) for name in rng.choice(list(PRESENCE_OBJECTS), 2, replace=False))
    asked = {first: bool(rng.random() < 0.5)}
    if GROUPS.get(first, first) != GROUPS.get(second, second):
        asked[second] = bool(rng.random() < 0.5)
    touched = {GROUPS.get(name, name) for name in asked}
    # 2. rural or urban by fair coin, and asked only where the coin was free to fall either way
    free_to_be_urban = asked.get("building", True) and asked.get("road", True)
    urban = bool(free_to_be_urban and rng.random() < 0.5)
    # 3. a comparison among things that no presence question has fixed
    comparison = _draw_comparison(rng, touched, urban)
    plan = _resolve(rng, asked, urban, comparison)
    return plan, _ask(rng, plan, asked, comparison, free_to_be_urban)


def _draw_comparison(rng: np.random.Generator, touched: set[str], urban: bool) -> tuple[str, str, bool] | None:
    """Asks "more X than Y?" with a fair answer; which X and Y must not depend on that answer."""
    free = [name for name in COUNTABLE if GROUPS.get(name, name) not in touched]
    pairs = [(x, y) for x in free for y in free if x != y]
    if urban:  # a town has too many buildings to lose against boats or ponds
        pairs = [p for p in pairs if "building" not in p or "vehicle" in p]
    if not pairs:
        return None
    more, fewer = pairs[int(rng.integers(len(pairs)))]
    return more, fewer, bool(rng.random() < 0.5)


def _resolve(
    rng: np.random.Generator, asked: dict[str, bool], urban: bool, comparison: tuple[str, str, bool] | None
) -> Plan:
    def exists(name: str, chance: float) -> bool:
        return asked.get(name, bool(rng.random() < chance))

    # a town leaves room for what is asked, and for one thing more at times
    crowded = 0.4 if not urban else 0.0 if any(asked.values()) or comparison else 0.15
    roads = 2 if urban else int(exists("road", 0.85 if asked.get("vehicle") else 0.6))
    # a car park only where there is room, or where asked cars need a place without a road
    lot = exists("parking lot", 0.15 if crowded else 0.0) or bool(asked.get("vehicle") and not roads)
    vehicles = int(rng.integers(3, 9)) * int((roads > 0 or lot) and exists("vehicle", 0.6))
    buildings = (
        int(rng.integers(9, 14 if crowded else 12))
        if urban
        else int(rng.integers(1, 6)) * int(exists("building", 0.6))
    )
    boats = int(rng.integers(1, 6)) * int(asked.get("water", True) and exists("boat", crowded * 0.6))
    water = int(boats > 0 or exists("water", crowded))
    counts = {"building": buildings, "vehicle": vehicles, "boat": boats, "water": water}
    if comparison:
        counts, roads = _apply_comparison(rng, counts, roads, urban, lot, comparison)
    compares_water = comparison is not None and "water" in comparison[:2]
    forest, crops = exists("forest", crowded * 0.7), exists("crop field", crowded * 0.6)
    pitch, solar = exists("sports field", crowded * 0.35), exists("solar farm", crowded * 0.35)
    tanks = int(rng.integers(2, 5)) * int(exists("storage tank", crowded * 0.35))
    possible = [
        cover for cover in COVERS if asked.get({"forest": "forest", "cropland": "crop field"}.get(cover, ""), True)
    ]
    dry = not asked.get("water", True) or asked.get("boat") is False or compares_water
    full = lot or counts["building"] > 3 or asked.get("forest") or asked.get("crop field") or pitch or solar or tanks
    if dry or full:  # a large lake leaves little land
        possible.remove("water")
    cover: Cover = "built-up area" if urban else possible[int(rng.integers(len(possible)))]
    if not urban and "water" in possible and rng.random() < 0.7:  # so often ruled out that it would be rare
        cover = "water"
    if cover == "water":
        counts["water"], forest, crops = 1, False, False
    river = counts["water"] == 1 and not compares_water and not urban and bool(rng.random() < 0.4)
    return Plan(cover, counts["water"], river, roads, counts["building"], counts["vehicle"], counts["boat"], lot,
                forest or cover == "forest", crops or cover == "cropland", tanks, solar, pitch)  # fmt: skip


def _apply_comparison(
    rng: np.random.Generator,
    counts: dict[str, int],
    roads: int,
    urban: bool,
    lot: bool,
    comparison: tuple[str, str, bool],
) -> tuple[dict[str, int], int]:
    """Sets both counts at least two apart, in the order that the answer demands."""
    counts = dict(counts)
    more, fewer, answer = comparison
    high, low = (more, fewer) if answer else (fewer, more)
    if urban and "building" in (high, low):
        counts[low] = 9 if low == "building" else int(rng.integers(0, 6))
        if high == "vehicle":
            counts[high] = int(rng.integers(11, 16))
        return counts, roads
    counts[low] = int(rng.integers(0, 3))
    if {high, low} == {"boat", "water"}:  # boats need at least one water area
        counts["water"], counts["boat"] = (
            (int(rng.integers(2, 4)), 0) if high == "water" else (1, int(rng.integers(3, 7)))
        )
        return counts, roads
    counts[high] = int(rng.integers(2, 4)) if high == "water" else int(rng.integers(2, 6))
    counts[low] = min(counts[low], counts[high] - 2)
    if high == "water" or low == "water":
        counts["boat"] = min(counts["boat"], 2) if counts["water"] and "boat" not in (high, low) else 0
    counts["water"] = max(counts["water"], int(counts["boat"] > 0 and "water" not in (high, low)))
    return counts, max(roads, int(counts["vehicle"] > 0 and not lot))


def _ask(
    rng: np.random.Generator,
    plan: Plan,
    asked: dict[str, bool],
    comparison: tuple[str, str, bool] | None,
    ask_urban: bool,
) -> tuple[QuestionAnswer, ...]:
    questions = []

    def add(question: str, answer: str, kind: str) -> None:
        questions.append(_question(question, answer, kind))

    for name, truth in asked.items():
        template = PRESENCE_TEMPLATES[int(rng.integers(len(PRESENCE_TEMPLATES)))]
        add(template.format(a=PRESENCE_OBJECTS[name]), "yes" if truth else "no", "presence")
    if comparison:
        more, fewer, truth = comparison
        add(f"Are there more {COUNTABLE[more]} than {COUNTABLE[fewer]}?", "yes" if truth else "no", "comparison")
    if ask_urban:
        add("Is it a rural or an urban area?", "urban" if plan.urban else "rural", "rural_urban")
    if plan.buildings <= MAX_COUNT_ASKED:
        add("How many buildings are there?", str(plan.buildings), "count")
    add("What is the main land cover of this image?", plan.cover, "scene")
    return tuple(questions)


def _areas(land: Array) -> tuple[QuestionAnswer, ...]:
    """How much of the picture each kind of land covers, in four classes; not asked near a class's border."""
    found = []
    for name, words in AREA_KINDS.items():
        share = float((land == LAND_CLASSES.index(name)).mean())
        if 0 < share < 0.02 or any(abs(share - bound) < 0.025 for bound in AREA_BOUNDS):
            continue
        answer = AREAS[0] if not share else AREAS[1 + sum(share > bound for bound in AREA_BOUNDS)]
        found.append(_question(f"How much of the image is covered by {words}?", answer, "area"))
    return tuple(found)


def _positions(layout: Layout) -> tuple[QuestionAnswer, ...]:
    """In which ninth of the picture each thing lies that is the only one of its kind."""
    kinds = {
        "parking lot": [lot.outline for lot in layout.lots],
        "sports field": list(layout.pitches),
        "solar farm": list(layout.panels),
        "building": [np.concatenate(one.parts) for one in layout.buildings],
    }
    found = []
    for name, outlines in kinds.items():
        if len(outlines) != 1:
            continue
        x, y = outlines[0].mean(axis=0)
        if any(abs(v - third) < CLEAR for v in (x, y) for third in (1 / 3, 2 / 3)):
            continue
        row, column = ROWS[min(int(y * 3), 2)], COLUMNS[min(int(x * 3), 2)]
        answer = " ".join(word for word in (row, column) if word) or "middle"
        found.append(_question(f"Where in the image is the {name}?", answer, "position"))
    return tuple(found)


def _counts(layout: Layout) -> tuple[QuestionAnswer, ...]:
    """How many there are of everything that comparisons are about."""
    numbers = {
        "building": len(layout.buildings),
        "vehicle": len(layout.vehicles),
        "boat": len(layout.boats),
        "water": len(layout.water),
    }
    return tuple(
        _question(f"How many {COUNTABLE[name]} are there?", str(number), "count")
        for name, number in numbers.items()
        if number <= MAX_COUNT_ASKED
    )


def _turned(questions: tuple[QuestionAnswer, ...]) -> tuple[QuestionAnswer, ...]:
    """Comparisons asked the other way round: they differ by two at least, so the answer turns."""
    found = []
    for one in questions:
        if one.kind == "comparison":
            more, fewer = one.question.removeprefix("Are there more ").removesuffix("?").split(" than ")
            answer = "no" if one.answer == "yes" else "yes"
            found.append(_question(f"Are there more {fewer} than {more}?", answer, "comparison"))
    return tuple(found)


def _question(question: str, answer: str, kind: str) -> QuestionAnswer:
    return QuestionAnswer(question, answer, kind, (answer,))


def _one_of(rng: np.random.Generator, choices: tuple[QuestionAnswer, ...]) -> tuple[QuestionAnswer, ...]:
    return (choices[int(rng.integers(len(choices)))],) if choices else ()


def _describe(plan: Plan, rng: np.random.Generator) -> str:
    """A sentence such as a general captioner would give: the cover and up to three further things."""
    things = []
    if plan.roads:
        things.append("a road" if plan.roads == 1 else "roads")
    if plan.buildings:
        things.append("many buildings" if plan.buildings > 6 else _some(plan.buildings, "building"))
    if plan.water and plan.cover != "water":
        things.append("a river" if plan.river else _some(plan.water, "pond"))
    for there, name in ((plan.boats, "boat"), (plan.vehicles, "vehicle")):
        if there:
            things.append("some " + name + "s" if there > 2 else _some(there, name))
    things += ["a parking lot"] * plan.lot + ["trees"] * (plan.forest and plan.cover != "forest")
    things += ["a sports field"] * plan.pitch + ["a solar farm"] * plan.solar + ["storage tanks"] * (plan.tanks > 0)
    things += ["a crop field"] * (plan.crops and plan.cover != "cropland")
    chosen = [things[k] for k in sorted(rng.permutation(len(things))[:3])]
    opening = "An aerial view of " + ("a " if plan.cover in ("built-up area", "forest") else "") + plan.cover
    return opening + (" with " + _join(chosen) if chosen else "") + "."


def _some(count: int, name: str) -> str:
    return f"a {name}" if count == 1 else f"{NUMBERS[min(count, 10)]} {name}s"


def _join(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _pair_clue(change: Change) -> str:
    """What the second date shows, without naming the change: a captioner looks at pictures one by one."""
    layout = change.after
    things = [_some(len(layout.buildings), "building") if len(layout.buildings) < 7 else "many buildings"]
    things = things if layout.buildings else []
    things += ["a road" if len(layout.roads) == 1 else "roads"] if layout.roads else []
    things += ["trees"] if len(layout.trees) > 12 else []
    things += ["water"] if layout.water or layout.flood else []
    things += ["a parking lot"] * bool(layout.lots) + ["a sports field"] * bool(layout.pitches)
    things += ["a solar farm"] * bool(layout.panels) + ["storage tanks"] * (len(layout.tanks) > 0)
    ground = "grassland" if layout.ground == "grass" else "bare land"
    return f"An aerial view of {ground}" + (" with " + _join(things) if things else "") + "."
