"""How the embedded checkpoint is trained: kept features stand for pictures, conversations are true and complete."""

from __future__ import annotations

import copy
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from unirs.trainers import real_material, tiny_changes, tiny_mixture
from unirs.trainers.real_scenes import CLASSES, SCENE_CLASSES, RealPair
from unirs.trainers.scene_tasks import OBJECTS
from unirs.trainers.tiny import build
from unirs.trainers.tiny_changes import pretrain_changes
from unirs.trainers.tiny_data import GRID, make_scenes, patch_centres, turned
from unirs.trainers.tiny_mixture import PICTURES_OF, TIMES, Mixture, WhereFirst
from unirs.trainers.tiny_patches import SAMPLES, PatchSteps, Samples, place_patches, pretrain_patches
from unirs.trainers.tiny_places import turned_place, where_turns
from unirs.trainers.tiny_real import RealBatches, pixels
from unirs.trainers.tiny_tuning import (
    Collator,
    KeptFeatures,
    Schedule,
    keep_features,
    tune,
)
from unirs.trainers.tiny_what_changed import is_quiet
from unirs.trainers.tiny_where_changed import NOWHERE

REAL = Path("../shared/data/rsscn7/train")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    make_scenes(folder, {"single": 3, "pair": 3, "video": 2, "sequence": 2}, 0, processes=1, quiet=True)
    return folder


@pytest.fixture(scope="module")
def mixture(scenes) -> Mixture:
    return Mixture(scenes, None, seed=0)


@pytest.fixture(scope="module")
def built(mixture):
    torch.manual_seed(0)
    model, processor = build(mixture.texts())
    return model.eval(), processor


@pytest.fixture(scope="module")
def real_batches() -> RealBatches:
    pictures = np.random.default_rng(0).integers(0, 255, (14, 160, 160, 3)).astype(np.uint8)
    return RealBatches(pictures, np.arange(14) % 7, 144, GRID)


def test_a_step_of_stage_1_is_the_same_whichever_process_draws_it(scenes, real_batches):
    """And each step is another, as large as `scale` says."""
    steps = PatchSteps(scenes, real_batches, steps=3, seed=5, scale=2)
    here, there = ([*DataLoader(steps, batch_size=None, num_workers=workers)] for workers in (0, 2))
    assert len(here) == len(there) == 3
    for mine, other in zip(here, there, strict=True):
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert not any(torch.equal(here[0][name], here[1][name]) for name in ("real", "real_pairs", "scene"))
    assert len(here[0]["singles"]) == 2 * SAMPLES.singles
    assert here[0]["real_pairs"].shape == (2 * SAMPLES.real_pairs, 2, 3, 144, 144)
    assert len(here[0]["land"]) == 2 * (SAMPLES.singles + 2 * SAMPLES.pairs)


def test_what_is_true_of_a_step_turns_with_its_pictures(scenes, monkeypatch):
    """Of one picture: its land covers where they were before the turn, turned with it."""
    steps = PatchSteps(scenes, None, steps=40, seed=0)
    original = {step: steps[step] for step in range(40)}
    shown = {picture.numpy().tobytes(): land for one in original.values() for picture, land in
             zip(one["singles"], one["land"], strict=False)}  # fmt: skip
    for number, picture in enumerate(steps.singles["pictures"][:, 0]):
        land = steps.singles["land"][number].reshape(-1, GRID, GRID)
        for quarters in range(4):
            for mirrored in (False, True):
                seen = shown.get(turned(picture, quarters, mirrored, axes=(-3, -2)).tobytes())
                if seen is not None:
                    assert np.array_equal(seen.numpy().reshape(-1, GRID, GRID), turned(land, quarters, mirrored))
    assert len(shown) > 3 * 4  # so most of the eight views of each were among them


def test_stage_1_lowers_every_loss_of_its_own_pictures(scenes, built, real_batches, capsys):
    model = copy.deepcopy(built[0])
    samples = Samples(singles=6, pairs=3, clips=2, real=6, real_pairs=3)  # a training's take four times as long
    pretrain_patches(model, PatchSteps(scenes, real_batches, 40, 0, samples=samples), 1e-3)
    told = [dict(re.findall(r"'([a-z ]+)': ([\d.]+)", line)) for line in capsys.readouterr().out.splitlines()]
    assert len(told) == 2
    assert float(told[1]["land"]) < float(told[0]["land"])
    assert float(told[1]["objects"]) < float(told[0]["objects"])
    assert set(told[0]) == {"land", "objects", "change", "map", "row", "column", "clip", "scene", "real change",
                            "real map"}  # fmt: skip


def test_changes_are_learned_and_all_else_is_seen_as_before(scenes, built, real_batches, monkeypatch, capsys):
    """Asked to, the features stay; a tower that may move freely moves much further for the same changes."""
    few = Samples(singles=4, pairs=2, clips=1, real=2, real_pairs=4)
    picture = pixels(np.random.default_rng(1).integers(0, 255, (1, 144, 144, 3)).astype(np.uint8))
    steps = PatchSteps(scenes, real_batches, steps=1, seed=9)
    pairs, changed = pixels(steps.pairs["pictures"]), torch.from_numpy(steps.pairs["change"]).float()

    def wrong(model) -> float:
        """How far the map of all generated pairs is from what changed."""
        with torch.no_grad():
            features = model.eval().model.encode_pairs(pairs)
            similarity = model.model.change_extraction.similarity(features)
        return float(F.mse_loss(similarity, 1 - (changed * 2).clamp(0, 1)))

    moved = {}
    for weight in (0.0, 2.0):
        torch.manual_seed(0)
        monkeypatch.setattr(tiny_changes, "KEPT_WEIGHT", weight)
        model = copy.deepcopy(built[0])
        before = model.model.encode_pixels(picture).detach()
        pretrain_changes(model, PatchSteps(scenes, real_batches, 40, 0, samples=few))
        after = model.eval().model.encode_pixels(picture).detach()
        moved[weight] = float(((after - before) ** 2).mean() / before.var())
        told = [re.findall(r"'([a-z ]+)': [\d.]+", line) for line in capsys.readouterr().out.splitlines()]
        assert told == [["kept", "change", "map", "real change", "real map"]] * 2
        assert wrong(model) < 0.9 * wrong(built[0])
    assert 0 < moved[2.0] < moved[0.0] / 2


def test_worker_processes_do_not_draw_alike(mixture, built):
    """Each has a copy of the same stream; they once asked the same things in the same words."""
    features = {"single": torch.zeros(6, 1, 1, 144, 192)}
    rows = [{"kind": "single", "row": 0}] * 8
    collator = Collator(mixture, built[1], features)
    batches = DataLoader(rows, batch_size=4, collate_fn=collator, num_workers=2)
    first, second = (batch["input_ids"] for batch in batches)
    assert first.shape != second.shape or not torch.equal(first, second)


@pytest.fixture
def as_written(monkeypatch):
    """Questions in the words of the world, and no others; no clues beside them."""
    monkeypatch.setattr(tiny_mixture, "GIVEN_CLUES", 0)
    monkeypatch.setattr(tiny_mixture, "OTHER_WORDS", 0)
    monkeypatch.setattr(tiny_mixture, "NOT_KNOWN", 0)


def words(messages: list[dict]) -> str:
    return " ".join(
        turn["content"] if isinstance(turn["content"], str) else " ".join(i.get("text", "") for i in turn["content"])
        for turn in messages
    )


@pytest.mark.parametrize("kind", ["single", "pair", "video", "sequence"])
def test_kept_features_give_the_logits_of_the_pictures(mixture, built, kind):
    model, processor = built
    features = {
        name: model.model.encode_pixels(
            torch.from_numpy(stack).flatten(0, 1).movedim(-1, -3).float() / 127.5 - 1
        ).unflatten(0, (len(stack), -1)).unsqueeze(2)
        for name, stack in mixture.pictures.items()
    }  # fmt: skip
    mixture.rng = np.random.default_rng(3)
    batch = Collator(mixture, processor, features)([{"kind": kind, "row": 0}, {"kind": kind, "row": 1}])
    mixture.rng = np.random.default_rng(3)
    talks = [mixture.talk(kind, row) for row in (0, 1)]
    tower, model.model.vision_tower = model.model.vision_tower, KeptFeatures()
    with torch.no_grad():
        kept = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
        model.model.vision_tower = tower
        for row, talk in enumerate(talks):
            inputs = processor.apply_chat_template(
                talk.messages, tokenize=True, return_dict=True, return_tensors="pt", **talk.template
            )
            seen = model(**inputs).logits[0]
            torch.testing.assert_close(kept[row, : len(seen)], seen, atol=2e-4, rtol=1e-3)


def test_features_are_kept_in_the_order_of_the_pictures(mixture, built):
    model, _ = built
    kept = keep_features(model, {"pair": mixture.pictures["pair"]})["pair"]
    assert kept.shape[:4] == (3, 2, 1, GRID**2)
    assert kept.dtype == torch.float16
    one = keep_features(model, {"pair": mixture.pictures["pair"][2:]})["pair"]
    torch.testing.assert_close(kept[2:], one, atol=2e-2, rtol=2e-2)


def places_known(mixture: Mixture, row: int) -> set[tuple[str, str]]:
    """Where things lie, by the maps of the scene and by its own questions."""
    word = mixture.words["single"][row]
    asked = [(one["question"], one["answer"]) for one in (*word["questions"], *word["more"])]
    return {*where_turns(mixture.land[row], mixture.centres[row]), *(one for one in asked if "Where in" in one[0])}


def test_where_first_asks_for_every_thing_with_a_place_in_two_of_three_conversations(mixture, as_written):
    first = WhereFirst(mixture)
    rows = first.rows()
    where = Counter(one["row"] for one in rows if one["kind"] == "where")
    assert [one for one in rows if one["kind"] != "where"] == mixture.rows()
    assert abs(where.total() - 2 * len(mixture.rows())) <= len(where) / 2
    assert len(set(where.values())) == 1
    assert set(where) == {row for row in range(len(mixture.land)) if places_known(mixture, row)}
    for row in where:
        said = {tuple(words([turn]).strip() for turn in first.talk("where", row).messages) for _ in range(60)}
        assert said == places_known(mixture, row)


def test_each_search_of_a_picture_is_also_asked_alone(mixture, as_written):
    """Counts with their zeros: without them "0" was no answer any more."""
    rows = [one["row"] for one in mixture.rows() if one["kind"] == "alone"]
    assert Counter(rows) == dict.fromkeys(mixture.alone, TIMES["alone"])
    for row, word in enumerate(mixture.words["single"]):
        expected = places_known(mixture, row)
        expected |= {(q["question"], q["answer"]) for q in word["questions"] if q["kind"] in ("count", "comparison")}
        numbers = {q["question"]: q["answer"] for q in (*word["questions"], *word["more"])}
        for name in ("building", "vehicle", "boat"):
            asked = f"How many {name}s are there?"
            many = np.count_nonzero(mixture.centres[row, OBJECTS.index(name)]) > 6
            if many or asked in numbers:
                expected.add((asked, numbers.get(asked, "more than 6")))
        water = numbers.get("How many water areas are there?")
        if water == "0" or (water and "pond" in word["clue"]):
            expected.add(("How many ponds are there?", water))
        said = {
            tuple(words([turn]).strip() for turn in mixture.talk("alone", row).messages)
            for _ in range(200 * bool(expected))
        }
        assert said == expected


def test_every_picture_is_also_shown_turned_with_all_that_is_known_of_it(mixture):
    count = len(mixture.words["single"]) // 2
    for row in range(count):
        first, again = mixture.pictures["single"][[row, row + count], 0]
        ways = [(quarters, mirrored) for quarters in range(4) for mirrored in (False, True)]
        found = [way for way in ways if (turned(first, *way, axes=(0, 1)) == again).all()]
        assert len(found) == 1
        assert found != [(0, False)]
        for maps in (mixture.land, mixture.centres):
            squares = maps[[row, row + count]].reshape(2, -1, GRID, GRID)
            assert (turned(squares[0], *found[0]) == squares[1]).all()
        asked, asked_again = (mixture.words["single"][one]["questions"] for one in (row, row + count))
        for one, other in zip(asked, asked_again, strict=True):
            place = one["kind"] == "position"
            assert other["answer"] == (turned_place(one["answer"], *found[0]) if place else one["answer"])
            assert other["references"] == [other["answer"]]


def test_rows_and_columns_are_read_from_a_new_tower_by_a_linear_probe(mixture, built):
    pictures = torch.cat([pixels(stack).flatten(0, 1) for stack in mixture.pictures.values()])  # 25 of them
    place = torch.arange(GRID**2).repeat(len(pictures))

    def found(tower_of) -> float:
        """Share of the patches of the last eight pictures whose place a least-squares fit to the others finds."""
        with torch.no_grad():
            features = tower_of.model.encode_pixels(pictures).flatten(0, 1)
        features = torch.cat([features, torch.ones(len(features), 1)], 1)
        kept = len(features) - 8 * GRID**2
        right = torch.ones(8 * GRID**2, dtype=torch.bool)
        for truth in (place // GRID, place % GRID):
            fit = torch.linalg.lstsq(features[:kept], F.one_hot(truth[:kept]).float()).solution
            right &= (features[kept:] @ fit).argmax(1) == truth[kept:]
        return right.float().mean().item()

    without = copy.deepcopy(built[0])
    place_patches(without, amplitude=-1.0)
    assert found(built[0]) > 0.5
    assert found(without) < 0.2


def test_only_answers_carry_loss(mixture, built):
    _, processor = built
    features = {name: torch.zeros(*stack.shape[:2], 1, GRID**2, 192) for name, stack in mixture.pictures.items()}
    for row in mixture.rows():
        mixture.rng = np.random.default_rng(row["row"])
        batch = Collator(mixture, processor, features)([row])
        mixture.rng = np.random.default_rng(row["row"])
        answers = [t["content"] for t in mixture.talk(row["kind"], row["row"]).messages if t["role"] == "assistant"]
        learned = processor.tokenizer.decode(batch["labels"][batch["labels"] >= 0])
        assert learned.replace("</s>", "").split() == " ".join(answers).split()


def test_every_kind_of_conversation_is_asked_for(mixture):
    """Clues given and asked for, descriptions, both ways to show a pair."""
    forms, given = set(), 0
    for _ in range(60):
        for row in mixture.rows():
            talk = mixture.talk(row["kind"], row["row"])
            forms.add((row["kind"], talk.pixels, bool(talk.template)))
            content = talk.messages[0]["content"]
            given += any(item["type"] == "clue" for item in content)
            assert not (talk.template and any(item["type"] == "clue" for item in content))
    assert ("pair", "pixel_values_pairs", False) in forms
    assert ("pair", "pixel_values", True) in forms
    assert {("single", "pixel_values", True), ("video", "pixel_values_videos", True)} <= forms
    assert {(kind, pixels) for kind, pixels, _ in forms if kind == "sequence"} == {("sequence", "pixel_values_videos")}
    assert given > 0


def test_one_conversation_never_asks_twice_about_one_thing(mixture, as_written):
    """The answer to the first question would tell that to the second."""
    asked = set()
    for row in range(3):
        for _ in range(40):
            questions = [
                item["text"]
                for turn in mixture.talk("single", row).messages
                if turn["role"] == "user"
                for item in turn["content"]
                if item["type"] == "text"
            ]
            asked |= set(questions)
            questions = [question for question in questions if " at the " not in question]  # of another place each
            for thing in ("building", "vehicle", "boat", "water", "parking lot", "solar farm"):
                assert sum(thing in question for question in questions) <= 1
    more = {one["question"] for word in mixture.words["single"] for one in word["more"]}
    assert more & asked == more


def test_clues_of_real_pairs_do_not_tell_whether_anything_changed(mixture):
    """A clue names the land that both dates were made of, and nothing of what is new."""
    dates = np.zeros((2, 8, 8, 3), np.uint8)
    made = [RealPair(dates, np.zeros((8, 8)), old, new, "a forest") for old, new in (("", ""), ("a forest", "houses"))]
    mixture.pictures["real_pair"], mixture.words["real_pair"] = np.stack([dates] * 2), made
    mixture.rng = np.random.default_rng(0)
    clues: list[list[str]] = [[], []]
    for row in (0, 1):
        for _ in range(600):
            content = mixture.talk("real_pair", row).messages[0]["content"]
            clues[row] += [item["text"] for item in content if item["type"] == "clue"]
    del mixture.pictures["real_pair"], mixture.words["real_pair"]
    assert set(clues[0]) == set(clues[1]) == {"An aerial view of a forest."}
    assert 0.5 < len(clues[0]) / len(clues[1]) < 2


def test_an_epoch_goes_more_often_through_kinds_with_fewer_pictures(mixture):
    kinds = Counter(row["kind"] for row in mixture.rows())
    assert (kinds["single"], kinds["pair"], kinds["video"], kinds["sequence"]) == (6, 9, 8, 6)


def test_patch_centres_by_hand():
    marked = patch_centres(np.array([[0, 0.0, 0.0], [1, 0.99, 0.5], [3, 0.5, 1.0]])).reshape(4, GRID, GRID)
    found = sorted((int(k), int(r), int(c)) for k, r, c in np.argwhere(marked))
    assert found == [(0, 0, 0), (1, GRID // 2, GRID - 1), (3, GRID - 1, GRID // 2)]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there")
def test_real_rows_name_their_class_and_never_contradict_it(tmp_path, monkeypatch, as_written):
    for number, name in enumerate(one.folder for one in SCENE_CLASSES):
        (tmp_path / name).mkdir()
        for path in sorted((REAL / name).glob("*.jpg"))[: 2 + number % 2]:
            (tmp_path / name / path.name).symlink_to(path.resolve())
    make_scenes(tmp_path / "scenes", {"single": 1}, 0, processes=1, quiet=True)
    for name in ("REAL_PAIRS", "OVER_PAIRS", "REAL_CLIPS"):
        monkeypatch.setattr(real_material, name, 6)
    mixture = Mixture(tmp_path / "scenes", tmp_path, 0, tasks=("single",))
    labels = mixture.words["real"]
    assert len(labels) == 3 * sum(2 + number % 2 for number in range(len(SCENE_CLASSES)))
    for row, label in enumerate(labels):
        for _ in range(8):
            text = words(mixture.talk("real", row).messages)
            if "Which scene is this?" in text:
                assert text.count(CLASSES[label]) > sum(CLASSES[label] in name for name in CLASSES)
            if CLASSES[label] == "forest":
                assert "urban " not in text.replace("rural or an urban", "")
    for kind in ("real_pair", "over_pair"):
        assert [one == NOWHERE for one in mixture.where_changed[kind]] == is_quiet(mixture.changes[kind][0]).tolist()
    assert {one["kind"] for one in mixture.rows()} <= {*mixture.pictures, *PICTURES_OF}
    pairs = [mixture.talk("real_pair", row) for row in range(6)]
    flags = ["no change" if not pair.new else "change" for pair in mixture.words["real_pair"]]
    for talk, flag in zip(pairs, flags, strict=True):
        if talk.pixels == "pixel_values_pairs":
            said = [t["content"] for t in talk.messages if t["role"] == "assistant"]
            assert ("yes" in said) == (flag == "change")


def test_a_copy_of_a_tuned_model_answers_with_its_own_weights(mixture, built, tmp_path):
    """TRL and accelerate patch `forward` on the instance; left there, every arm would speak through the base."""
    model, processor = copy.deepcopy(built[0]), built[1]
    features = {name: torch.zeros(*stack.shape[:2], 1, GRID**2, 192) for name, stack in mixture.pictures.items()}
    tune(model, processor, mixture, features, Schedule(1, 2, 1e-3, 0, tmp_path, warmup=0))
    twin = copy.deepcopy(model.eval())
    ids = torch.tensor([[1, 5, 9]])
    with torch.no_grad():
        before = twin(ids).logits
        twin.model.language_model.norm.weight.zero_()
        assert not torch.equal(twin(ids).logits, before)
        assert torch.equal(model(ids).logits, before)
