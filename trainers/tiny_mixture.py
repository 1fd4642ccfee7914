"""What the embedded checkpoint is tuned on: conversations about generated and real pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.change_flags import NO_CHANGE_SENTENCES
from ..modeling_unirs.prompt_augmentation_unirs import BASE_TEMPLATE
from ..processing.prompts_unirs import CLUE_PROMPTS, DEFAULT_INSTRUCTIONS, ERA_CLASSES, SYSTEM_PROMPT, TASK_TAGS
from .real_material import real_material
from .real_questions import real_turns
from .real_scenes import CLASSES, SCENE_CLASSES, captions
from .rows import conversation, image_items, video_item
from .scene_clips import soften
from .scene_questions import COUNTABLE, MAX_COUNT_ASKED
from .scene_tasks import FLAG_QUESTION, OBJECTS
from .tiny_data import GRID, load_scenes, patch_shares, turned
from .tiny_places import place_turns, turned_place, where_turns
from .tiny_presence import NO, THINGS, even_odds, presence_turn, things_there
from .tiny_what_changed import change_odds, change_turn, changes_made, is_quiet, real_changes_made
from .tiny_where_changed import WHERE_CHANGED, changed_place
from .unanswerable import UNKNOWN_ANSWER, unanswerable_question
from .wordings import CLIP_QUESTIONS, PAIR_QUESTIONS, asked_by_choice, asked_by_yes_or_no, reworded

TASKS = ("single", "pair", "video", "sequence")
PAIRS = ("pair", "real_pair", "over_pair")
# kinds of conversation about the pictures of another kind
WHAT_CHANGED = {f"{kind}_what": kind for kind in PAIRS}
PAIR_ALONE = {f"{kind}_alone": kind for kind in PAIRS}
PICTURES_OF = {"alone": "single", "where": "single", "there": "single", **WHAT_CHANGED, **PAIR_ALONE}
# How often an epoch goes through the pictures of kinds that have fewer.
TIMES = {"alone": 2, "real": 2, "far": 1, "satellite": 3, "pair": 3, "real_pair": 3, "over_pair": 2,
         "video": 4, "real_video": 2, "sequence": 3,
         "pair_what": 2, "real_pair_what": 2, "over_pair_what": 2,
         "pair_alone": 4, "real_pair_alone": 4, "over_pair_alone": 4}  # fmt: skip
QUIET_PAIRS = 4  # one of so many unchanged pairs is asked for a change of one kind
# Share of the changed, and of the unchanged pairs that are asked where, not whether: places are many, nowhere is one.
WHERE_ASKED, NOWHERE_ASKED = 0.7, 0.25
GIVEN_CLUES = 0.3  # share of conversations with a clue
CLUE_ROWS = 0.12  # share of conversations that ask for the clue, the base model's way
TURNS = 7  # at most
PLACE_ROWS = 0.35
# by which it is told that two questions are about one thing
SUBJECTS = ("building", "vehicle", "boat", "water", "forest", "tree", "crop field", "parking lot", "sports field",
          "solar farm", "main land cover", "urban")  # fmt: skip
MANY = f"more than {MAX_COUNT_ASKED}"
OBJECT_COUNTS = {f"How many {COUNTABLE[name]} are there?": name for name in OBJECTS if name in COUNTABLE}
WATER_COUNT = "How many water areas are there?"
LAND = {"main land cover", "urban"}  # a built-up area is urban, every other cover rural
OTHER_WORDS = 0.7  # share of the questions that are asked in other words
YES_OR_NO = 0.5  # and of these, where it can be, whether one answer is right
DESCRIBED = 0.2  # share of the conversations about a picture in which it is described
LAND_ASKED = 0.35  # of what is asked by yes or no alone, whether the land is of one kind
NOT_KNOWN = 0.12  # and of all, in which something is asked that cannot be told
CHOICE = 0.15  # of the questions in other words, where it can be, between both answers
OWN_CLUES = 0.7  # of the clues about generated pictures, where the model's own are known
ERA_NAME = {name.lower(): name for name in ERA_CLASSES}


@dataclass
class Talk:
    """One conversation, the options of its chat template, and its pictures by the model's names for them."""

    messages: list[dict[str, Any]]
    pixels: str  # "pixel_values", "pixel_values_pairs" or "pixel_values_videos"
    template: dict[str, Any] = field(default_factory=dict)


def clip_answer(name: str) -> str:
    """ERA's spelling of a clip class."""
    return ERA_NAME.get(name, name)


class Mixture:
    """All training pictures in memory, and the conversation of each row.

    Args:
        scenes: Folder of `make_scenes`.
        real: RSSCN7's training folder, or none.
        satellite: Folder of EuroSAT's patches, or none; they join `real`.
        place_rows: Share of the conversations about a generated picture that go through its ninths.
    """

    def __init__(
        self,
        scenes: Path,
        real: Path | None,
        seed: int,
        tasks: tuple[str, ...] = TASKS,
        place_rows: float = PLACE_ROWS,
        satellite: Path | None = None,
    ):
        self.rng, self.place_rows = np.random.default_rng(seed), place_rows
        self.words: dict[str, list[Any]] = {}
        self.pictures: dict[str, np.ndarray] = {}  # (samples, pictures, SIZE, SIZE, 3) by kind
        self.where_changed: dict[str, list[str]] = {}  # of each pair by kind, as `changed_place` tells
        for task in tasks:
            arrays, self.words[task] = load_scenes(scenes, task)
            self.pictures[task] = arrays["pictures"]
            if task == "video":
                self.pictures[task] = soften(self.rng, self.pictures[task])
            if task == "pair":
                changed = arrays["change"].reshape(-1, GRID, GRID)
                self.where_changed[task] = [changed_place(shares) for shares in changed]
            if task == "single":
                self.land, self.centres = arrays["land"][:, 0], arrays["centres"]
                self._add_turned()
        self.where = {row: self._where_turns(row) for row in range(len(self.words.get("single", ())))}
        if self.where:
            self.there = things_there(self.land, self.centres, self.words["single"])
            self.odds = even_odds(self.there)
        self.alone = {row: turns for row in self.where if (turns := self._alone_turns(row))}
        self.own_clues: dict[int, str] = {}
        if real:
            self._add_real(real, satellite)
        # what happened in each pair, and how often to ask for it
        self.changes: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for kind in PAIRS:
            if kind in self.words:
                made = (real_changes_made if kind == "real_pair" else changes_made)(self.words[kind])
                self.changes[kind] = made, change_odds(made)

    def _add_turned(self) -> None:
        """Every single picture once more, turned or mirrored: the same things in other places."""
        words = self.words["single"]
        turns = [(int(turn % 4), bool(turn // 4)) for turn in self.rng.integers(1, 8, len(words))]
        self.words["single"] = words + [_turned_words(word, *turn) for word, turn in zip(words, turns, strict=True)]
        self.pictures["single"] = _with_turned(self.pictures["single"], turns, axes=(-3, -2))
        self.land, self.centres = (
            _with_turned(maps.reshape(*maps.shape[:2], GRID, GRID), turns).reshape(-1, *maps.shape[1:])
            for maps in (self.land, self.centres)
        )

    def _add_real(self, folder: Path, satellite: Path | None) -> None:
        for kind, material in real_material(self.rng, folder, satellite).items():
            self.pictures[kind], self.words[kind] = material.pictures, material.words
            if material.masks is not None:
                changed = patch_shares(material.masks.astype(np.float32)).reshape(-1, GRID, GRID)
                self.where_changed[kind] = [changed_place(shares) for shares in changed]

    def rows(self) -> list[dict[str, Any]]:
        """One for each conversation of an epoch."""
        rows = [
            {"kind": kind, "row": row}
            for kind, words in self.words.items()
            for row in [*range(len(words))] * TIMES.get(kind, 1)
        ]
        rows += [{"kind": "alone", "row": row} for row in [*self.alone] * TIMES["alone"]]
        for kind, pictures in WHAT_CHANGED.items():
            if pictures in self.changes:
                made, odds = self.changes[pictures]
                asked, quiet = odds.max(1) > 0, is_quiet(made)
                asked[quiet] &= np.arange(quiet.sum()) % QUIET_PAIRS == 0
                rows += [{"kind": kind, "row": row} for row in np.flatnonzero(asked).tolist() * TIMES[kind]]
        for kind, pictures in PAIR_ALONE.items():
            known = [*range(len(self.words.get(pictures, ())))]
            rows += [{"kind": kind, "row": row} for row in known * TIMES[kind]]
        return rows + [{"kind": "there", "row": row} for row in self.where if self.odds[row].any()]

    def reseed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def texts(self) -> list[str]:
        """What the tokenizer is trained on."""
        texts = [SYSTEM_PROMPT, "USER: ASSISTANT: Clue:", *CLIP_QUESTIONS, *PAIR_QUESTIONS]
        texts += [*TASK_TAGS.values(), *DEFAULT_INSTRUCTIONS.values(), *CLUE_PROMPTS.values(), *CLASSES] * 50
        for kind, row in dict.fromkeys((one["kind"], one["row"]) for one in self.rows()):
            for turn in self.talk(kind, row).messages:
                content = turn["content"]
                texts += [content] if isinstance(content, str) else [i["text"] for i in content if "text" in i]
        return texts

    def talk(self, kind: str, row: int) -> Talk:
        """The conversation of one row; drawn anew each time it is asked for."""
        if kind == "alone":
            return self.ask_alone(row, self.alone[row])
        if kind == "there":
            return self.ask_alone(row, [self._there(row)])
        if kind in WHAT_CHANGED:
            return self._what_changed(WHAT_CHANGED[kind], row)
        if kind in PAIR_ALONE:
            return self._pair_alone(PAIR_ALONE[kind], row)
        pictures, word = self.pictures[kind][row], self.words[kind][row]
        if kind in ("real", "far", "satellite"):
            scene = SCENE_CLASSES[word] if kind == "real" else word
            return self._single(pictures, real_turns(self.rng, scene), f"An aerial view of {scene.noun}.")
        if kind == "real_pair":
            # of the land alone: words on what is new would tell that something changed
            clue = "" if self.rng.random() < 0.7 else f"An aerial view of {word.land}."
            return self._pair(pictures, captions(word), clue)
        if kind in ("pair", "over_pair"):
            return self._pair(pictures, word["questions"][0]["references"], word["clue"])
        if kind == "single":
            asked = self._place_turns(row) if self.rng.random() < self.place_rows else self._world_turns(word)
            return self._single(pictures, asked, word["clue"], self.own_clues.get(row))
        if kind == "sequence":
            turns = [(one["question"], self._one_of(one["references"])) for one in word["questions"]]
            self.rng.shuffle(turns)
            return Talk(self._asked(image_items(list(pictures)), turns), "pixel_values_videos")
        if self.rng.random() < CLUE_ROWS:
            turns = [(CLUE_PROMPTS["video"], word["clue"])]
            return Talk(conversation(video_item(list(pictures)), turns), "pixel_values_videos", BASE_TEMPLATE)
        turns = [(self._one_of(CLIP_QUESTIONS), clip_answer(word["label"]))]
        return Talk(self._with_clue(video_item(list(pictures)), turns, word["clue"]), "pixel_values_videos")

    def _single(
        self, pictures: np.ndarray, turns: list[tuple[str, str]], clue: str, own_clue: str | None = None
    ) -> Talk:
        visuals = image_items(list(pictures))
        if self.rng.random() < CLUE_ROWS:
            return Talk(conversation(visuals, [(CLUE_PROMPTS["single"], clue)]), "pixel_values", BASE_TEMPLATE)
        if self.rng.random() < DESCRIBED:
            return Talk(self._asked(visuals, [(DEFAULT_INSTRUCTIONS["single"], clue), *turns]), "pixel_values")
        return Talk(self._with_clue(visuals, turns, clue, own_clue), "pixel_values")

    def _what_changed(self, pictures: str, row: int) -> Talk:
        """Whether one kind of thing was built, removed or planted. Alone: a caption before it would tell."""
        made, odds = self.changes[pictures]
        turn = change_turn(self.rng, made[row], odds[row])
        return Talk(conversation(image_items(list(self.pictures[pictures][row])), [turn]), "pixel_values_pairs")

    def _pair_alone(self, pictures: str, row: int) -> Talk:
        """Whether, or where something changed. Alone: each would tell of the other."""
        place, changed = self.where_changed[pictures][row], not is_quiet(self.changes[pictures][0][row : row + 1])[0]
        turn = (FLAG_QUESTION, "yes" if changed else "no")
        if place and self.rng.random() < (WHERE_ASKED if changed else NOWHERE_ASKED):
            turn = (WHERE_CHANGED, place)
        visuals = image_items(list(self.pictures[pictures][row]))
        return Talk(self._asked(visuals, [turn], of_change=changed), "pixel_values_pairs")

    def _pair(self, pictures: np.ndarray, references: tuple[str, ...], clue: str) -> Talk:
        visuals = image_items(list(pictures))
        if clue and self.rng.random() < CLUE_ROWS:  # the base model sees two plain pictures
            return Talk(conversation(visuals, [(CLUE_PROMPTS["pair"], clue)]), "pixel_values", BASE_TEMPLATE)
        flag = "no" if references[0] in NO_CHANGE_SENTENCES else "yes"
        turns = [(self._one_of(PAIR_QUESTIONS), self._one_of(references)), (FLAG_QUESTION, flag)]
        if self.rng.random() < 0.4:
            turns.reverse()
        return Talk(self._with_clue(visuals, turns, clue, of_change=flag == "yes"), "pixel_values_pairs")

    def _world_turns(self, word: dict[str, Any]) -> list[tuple[str, str]]:
        """Balanced questions and such as are only true, in any order; no two about one thing: the first would tell."""
        turns: list[tuple[str, str]] = []
        told: set[str] = set()
        for one in self.rng.permutation(np.array([*word["questions"], *word["more"]], dtype=object)):
            about = {name for name in SUBJECTS if name in one["question"]}
            if about & LAND:
                about |= LAND
            if not about & told and len(turns) < TURNS:
                turns.append((one["question"], one["answer"]))
                told |= about
        return turns

    def _place_turns(self, row: int) -> list[tuple[str, str]]:
        """Where things lie, and what lies where."""
        turns = place_turns(self.rng, self.land[row], self.centres[row], TURNS, self._known_places(row))
        self.rng.shuffle(turns)
        return turns

    def _known_places(self, row: int) -> list[tuple[str, str]]:
        """Where things lie by the scene's own questions: also what is too large for one ninth, by its middle."""
        word = self.words["single"][row]
        return [(one["question"], one["answer"]) for one in (*word["questions"], *word["more"]) if _asks_where(one)]

    def _where_turns(self, row: int) -> list[tuple[str, str]]:
        """Every thing with a place, and its place."""
        found = dict(where_turns(self.land[row], self.centres[row])) | dict(self._known_places(row))
        return list(found.items())

    def ask_alone(self, row: int, turns: list[tuple[str, str]]) -> Talk:
        """One of the turns about a generated picture."""
        turn, clue = turns[int(self.rng.integers(len(turns)))], self.words["single"][row]["clue"]
        visuals = image_items(list(self.pictures["single"][row]))
        return Talk(self._with_clue(visuals, [turn], clue, self.own_clues.get(row)), "pixel_values")

    def _there(self, row: int) -> tuple[str, str]:
        """Yes or no: whether a thing is there, or whether the land is of one kind."""
        if self.rng.random() < LAND_ASKED:
            asked = [one for one in self.words["single"][row]["questions"] if one["kind"] in ("rural_urban", "scene")]
            one = asked[int(self.rng.integers(len(asked)))]  # each picture is asked for its main land cover
            if turn := asked_by_yes_or_no(self.rng, one["question"], one["answer"]):
                return turn
        return presence_turn(self.rng, self.there[row], self.odds[row])

    def _alone_turns(self, row: int) -> list[tuple[str, str]]:
        """The questions that need a search of the picture: where each thing is, how many, of which more.

        Each is asked alone. Among others they are one of thirty, and each answer before them tells a little.
        """
        word = self.words["single"][row]
        turns = [(one["question"], one["answer"]) for one in word["questions"] if one["kind"] == "comparison"]
        turns += [
            (one["question"], one["answer"])
            for one in (*word["questions"], *word["more"])
            if one["question"] in OBJECT_COUNTS
        ]
        return self.where[row] + turns + self._pond_turns(row) + self._crowd_turns(row)

    def _crowd_turns(self, row: int) -> list[tuple[str, str]]:
        """How many there are of what RS-World asks no number of, for it is more than it counts to."""
        marks = dict(zip(OBJECTS, self.centres[row].sum(-1), strict=True))
        return [(question, MANY) for question, name in OBJECT_COUNTS.items() if marks[name] > MAX_COUNT_ASKED]

    def _pond_turns(self, row: int) -> list[tuple[str, str]]:
        """How many ponds there are, where all water is ponds."""
        if self.there[row, THINGS.index("a river")] != NO:
            return []
        word = self.words["single"][row]
        water = [one["answer"] for one in (*word["questions"], *word["more"]) if one["question"] == WATER_COUNT]
        return [("How many ponds are there?", number) for number in water]

    def _asked(
        self, visuals: list[dict], turns: list[tuple[str, str]], of_change: bool = False
    ) -> list[dict[str, Any]]:
        """The conversation as people have it: in words of their own, and at times about what no picture tells."""
        said = [self._in_other_words(*turn) if self.rng.random() < OTHER_WORDS else turn for turn in turns]
        if self.rng.random() < NOT_KNOWN:
            # asked of changed pairs alone, it would tell what the answers to others are
            place = len(said) if of_change else int(self.rng.integers(len(said) + 1))
            said.insert(place, (unanswerable_question(self.rng, of_change), UNKNOWN_ANSWER))
        return conversation(visuals, said)

    def _in_other_words(self, question: str, answer: str) -> tuple[str, str]:
        turn = asked_by_yes_or_no(self.rng, question, answer) if self.rng.random() < YES_OR_NO else None
        if turn is None and self.rng.random() < CHOICE / (1 - YES_OR_NO):
            turn = asked_by_choice(self.rng, question, answer)
        return turn or (reworded(self.rng, question), answer)

    def _with_clue(
        self,
        visuals: list[dict],
        turns: list[tuple[str, str]],
        clue: str,
        own_clue: str | None = None,
        of_change: bool = False,
    ) -> list[dict[str, Any]]:
        """With a clue at times: the true one, or the model's own, which may err as it does when it is asked."""
        messages = self._asked(visuals, turns, of_change)
        if clue and self.rng.random() < GIVEN_CLUES:
            clue = own_clue if own_clue and self.rng.random() < OWN_CLUES else clue
            messages[0]["content"].append({"type": "clue", "text": clue})
        return messages

    def _one_of(self, choices: tuple[str, ...] | list[str]) -> str:
        return str(choices[int(self.rng.integers(len(choices)))])


class WhereFirst:
    """Two conversations of three ask one thing, where something lies; the others are those of `mixture`.

    Looking a place up by what lies there was not begun in 2,800 steps of the mixture, where one question of thirty
    needs it. Asked nothing else, a model unlearns what it knew.
    """

    def __init__(self, mixture: Mixture):
        self.mixture = mixture
        self.turns = {row: turns for row, turns in mixture.where.items() if turns}

    def rows(self) -> list[dict[str, Any]]:
        others = self.mixture.rows()
        where = [{"kind": "where", "row": row} for row in self.turns]
        return others + where * round(2 * len(others) / len(where))

    def reseed(self, seed: int) -> None:
        self.mixture.reseed(seed)

    def talk(self, kind: str, row: int) -> Talk:
        return self.mixture.ask_alone(row, self.turns[row]) if kind == "where" else self.mixture.talk(kind, row)


def _asks_where(question: dict[str, Any]) -> bool:
    return question["question"].startswith("Where ")


def _with_turned(stack: np.ndarray, turns: list[tuple[int, bool]], axes: tuple[int, int] = (-2, -1)) -> np.ndarray:
    """All squares of a stack, then each of them turned its own way."""
    return np.concatenate([stack, [turned(one, *turn, axes) for one, turn in zip(stack, turns, strict=True)]])


def _turned_words(word: dict[str, Any], quarters: int, mirrored: bool) -> dict[str, Any]:
    """What is said of a scene, after `turned`: only places differ."""

    def said(one: dict[str, Any]) -> dict[str, Any]:
        if not _asks_where(one):
            return one
        answer = turned_place(one["answer"], quarters, mirrored)
        return one | {"answer": answer, "references": [answer]}

    return word | {name: [said(one) for one in word[name]] for name in ("questions", "more")}
