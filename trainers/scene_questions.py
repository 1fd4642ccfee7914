"""What is asked of single pictures of the SYNTHETIC aerial world, and the plan in which the answers are true.

Answers are drawn first, each by a fair coin where there is a choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .scene_shapes import LAND_CLASSES, Array, Cover, Layout, Plan

PRESENCE_TEMPLATES = ("Is there {a} in the image?", "Is {a} present in the image?", "Does the image show {a}?")
PRESENCE_OBJECTS = {
    "road": "a road", "water": "a water area", "building": "a building", "forest": "a forest", "vehicle": "a vehicle",
    "boat": "a boat", "parking lot": "a parking lot", "crop field": "a crop field", "sports field": "a sports field",
    "solar farm": "a solar farm", "storage tank": "a storage tank",
}  # fmt: skip
# Objects of one group depend on each other (a boat needs water), those of different groups do not.
GROUPS = {"water": "wet", "boat": "wet", "road": "traffic", "vehicle": "traffic", "parking lot": "traffic"}
COUNTABLE = {"building": "buildings", "vehicle": "vehicles", "boat": "boats", "water": "water areas"}
COVERS: tuple[Cover, ...] = ("forest", "cropland", "grassland", "bare land", "water")
URBAN_QUESTION = "Is it a rural or an urban area?"
COVER_QUESTION = "What is the main land cover of this image?"
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


def plan_scene(rng: np.random.Generator) -> tuple[Plan, tuple[QuestionAnswer, ...]]:
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
        add(URBAN_QUESTION, "urban" if plan.urban else "rural", "rural_urban")
    if plan.buildings <= MAX_COUNT_ASKED:
        add("How many buildings are there?", str(plan.buildings), "count")
    add(COVER_QUESTION, plan.cover, "scene")
    return tuple(questions)


def areas_of(land: Array) -> tuple[QuestionAnswer, ...]:
    """How much of the picture each kind of land covers, in four classes; not asked near a class's border."""
    found = []
    for name, words in AREA_KINDS.items():
        share = float((land == LAND_CLASSES.index(name)).mean())
        if 0 < share < 0.02 or any(abs(share - bound) < 0.025 for bound in AREA_BOUNDS):
            continue
        answer = AREAS[0] if not share else AREAS[1 + sum(share > bound for bound in AREA_BOUNDS)]
        found.append(_question(f"How much of the image is covered by {words}?", answer, "area"))
    return tuple(found)


def positions_of(layout: Layout) -> tuple[QuestionAnswer, ...]:
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


def counts_of(layout: Layout) -> tuple[QuestionAnswer, ...]:
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


def turned(questions: tuple[QuestionAnswer, ...]) -> tuple[QuestionAnswer, ...]:
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


def describe(plan: Plan, rng: np.random.Generator) -> str:
    """A sentence such as a general captioner would give: the cover and up to three further things."""
    things = []
    if plan.roads:
        things.append("a road" if plan.roads == 1 else "roads")
    if plan.buildings:
        things.append("many buildings" if plan.buildings > 6 else some(plan.buildings, "building"))
    if plan.water and plan.cover != "water":
        things.append("a river" if plan.river else some(plan.water, "pond"))
    for there, name in ((plan.boats, "boat"), (plan.vehicles, "vehicle")):
        if there:
            things.append("some " + name + "s" if there > 2 else some(there, name))
    things += ["a parking lot"] * plan.lot + ["trees"] * (plan.forest and plan.cover != "forest")
    things += ["a sports field"] * plan.pitch + ["a solar farm"] * plan.solar + ["storage tanks"] * (plan.tanks > 0)
    things += ["a crop field"] * (plan.crops and plan.cover != "cropland")
    chosen = [things[k] for k in sorted(rng.permutation(len(things))[:3])]
    opening = "An aerial view of " + ("a " if plan.cover in ("built-up area", "forest") else "") + plan.cover
    return opening + (" with " + join(chosen) if chosen else "") + "."


def some(count: int, name: str) -> str:
    return f"a {name}" if count == 1 else f"{NUMBERS[min(count, 10)]} {name}s"


def join(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
