"""What the embedded checkpoint knows about scenes it has never seen, generated and real.

    python benchmarks/unirs_tiny.py --data ../shared/data [--count 400] [--skip 250] [--clue] [--output RESULT.json]

Generated scenes come from RS-World's test split, whose layouts do not occur in training, and (in sum only) from its
validation split, whose layouts do. "Blind" is the same model with the same questions on a grey picture; of captions it
is the best one sentence for all.
"""

import argparse
import itertools
import json
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from unirs.evaluation.change_captions import change_caption_scores
from unirs.evaluation.change_flags import says_change
from unirs.evaluation.cider import CiderD
from unirs.evaluation.model_hash import model_hash
from unirs.evaluation.questions import normalise_answer
from unirs.evaluation.statistics import auc, bootstrap_mean, bootstrap_ratio, majority, wilson
from unirs.trainers.real_questions import REAL_QUESTION
from unirs.trainers.real_scenes import SCENE_CLASSES, misregister, relight
from unirs.trainers.scene_questions import COVER_QUESTION, PRESENCE_TEMPLATES, URBAN_QUESTION
from unirs.trainers.scene_tasks import (
    FLAG_QUESTION,
    HELD_OUT_SEED,
    TEST_SEED,
    WORLD_VERSION,
    clip_sample,
    pair_sample,
    sequence_sample,
    single_sample,
)
from unirs.trainers.tiny_data import FRAMES, GRID, SIZE, patch_shares
from unirs.trainers.tiny_mixture import clip_answer
from unirs.trainers.tiny_what_changed import change_odds, change_turn, changes_made, is_quiet
from unirs.trainers.tiny_where_changed import WHERE_CHANGED, changed_place
from unirs.trainers.unanswerable import UNKNOWN_ANSWER, UNKNOWN_HELD_OUT, UNTOLD_HELD_OUT, about_thing
from unirs.trainers.wordings import CLIP_QUESTIONS, PAIR_QUESTIONS, asked_by_choice, asked_by_yes_or_no, reworded
from unirs_tiny_rows import NAMES, NOTE, QUESTIONS, SKIPPED, told

import unirs
from unirs.closer_map import closer_change_map

LABELLED = ("levir_cd", "dsifn")  # folders of real pairs with masks
# Of real pictures of other sources, by eye: which covers are right, whether it is urban, what is and is not there.
OTHER_REAL = Path(__file__).parent / "other_real_pictures.json"
MARKED = 60  # of 255: masks of figures are colours on black, with a figure's blur
FAMILIAR, REWORDED = "familiar_", "reworded_"


@dataclass
class Case:
    """A question on pictures, with all accepted answers."""

    kind: str
    pictures: list[Image.Image]
    question: str
    references: tuple[str, ...]
    scene: int  # several questions may be asked of one
    clip: bool = False


def generated(first: int, count: int, prefix: str = ""):
    """Questions on seeds from `first` on; with a prefix those of the sums only."""
    for seed in range(first, first + count):
        sample = single_sample(seed, SIZE)
        for one in sample.questions:
            yield Case(prefix + one.kind, list(sample.images), one.question, one.references, seed)
        sample = pair_sample(seed, SIZE)
        caption, flag = sample.questions
        if not prefix:
            yield Case(caption.kind, list(sample.images), PAIR_QUESTIONS[0], caption.references, seed)
        yield Case(prefix + flag.kind, list(sample.images), FLAG_QUESTION, flag.references, seed)
        sample = clip_sample(seed, SIZE, FRAMES)
        answer = (clip_answer(sample.label),)
        yield Case(prefix + "clip_class", list(sample.images), CLIP_QUESTIONS[0], answer, seed, clip=True)
        if not prefix:
            sample = sequence_sample(seed, SIZE)
            when = sample.questions[1]
            yield Case("when", list(sample.images), when.question, when.references, seed)


def in_other_words(cases: list[Case]):
    """The same questions as nobody asked them in training, and such as no picture answers."""
    rng, coin, choice = map(np.random.default_rng, range(3))
    for case in cases:
        kind = REWORDED + case.kind
        if case.kind in QUESTIONS or kind in NAMES:
            yield replace(case, kind=kind, question=reworded(rng, case.question, held_out=True))
        if turn := asked_by_yes_or_no(coin, case.question, case.references[0], held_out=True):
            question, answer = turn
            about = "same_or_not" if case.kind == "change_flag" else "yes_or_no"
            yield replace(case, kind=about, question=question, references=(answer,))
        if turn := asked_by_choice(choice, case.question, case.references[0], held_out=True):
            yield replace(case, kind="choice", question=turn[0], references=(turn[1],))
        if case.kind == "scene":  # one of each picture
            question = UNKNOWN_HELD_OUT[int(rng.integers(len(UNKNOWN_HELD_OUT)))]
            yield replace(case, kind="not_known", question=question, references=(UNKNOWN_ANSWER,))
            question = about_thing(choice, UNTOLD_HELD_OUT[int(choice.integers(len(UNTOLD_HELD_OUT)))])
            yield replace(case, kind="unknown_thing", question=question, references=(UNKNOWN_ANSWER,))


def changes_asked_for(first: int, count: int):
    """Of the changed pairs of seeds from `first` on, whether one kind of thing changed ("yes" as often as "no"), and
    where they did."""
    samples = [pair_sample(seed, SIZE) for seed in range(first, first + count)]
    made = changes_made(
        [{"label": one.label, "questions": [{"references": one.questions[0].references}]} for one in samples]
    )
    odds, rng = change_odds(made), np.random.default_rng(0)
    for row in np.flatnonzero(~is_quiet(made) & odds.any(1)):
        question, answer = change_turn(rng, made[row], odds[row], held_out=True)
        yield Case("what_changed", list(samples[row].images), question, (answer,), first + int(row))
    for row in np.flatnonzero(~is_quiet(made)):
        if place := changed_place(patch_shares(samples[row].change_mask.astype(np.float32)).reshape(GRID, GRID)):
            question = reworded(rng, WHERE_CHANGED, held_out=True)
            yield Case("where_changed", list(samples[row].images), question, (place,), first + int(row))


def labelled_pairs(data: Path, folder: str):
    """Both dates and the mask of the real pairs of a folder that have one."""
    for label in sorted((data / folder / "label").iterdir()):
        dates = [next((data / folder / date).glob(f"{label.stem}.*")) for date in "AB"]
        yield [Image.open(path).convert("RGB") for path in dates], np.asarray(Image.open(label).convert("L")) > 0


def figure_crops(data: Path):
    """As `labelled_pairs`, of figures of LEVIR-CC, but for those of its test split: buildings and roads are marked.

    Of two of the five no split is known; the mask of one is empty. Masks are a few pixels larger than the dates, as
    the figures show them.
    """
    folder = data / "levir_cc" / "figure_crops"
    for label in sorted((folder / "mask").iterdir()):
        if not label.stem.startswith("test_"):
            dates = [next((folder / date).glob(f"{label.stem}.*")) for date in "AB"]
            mask = np.asarray(Image.open(label).convert("RGB")).max(-1) > MARKED
            yield [Image.open(path).convert("RGB") for path in dates], mask


def real(data: Path):
    number, rng = itertools.count(), np.random.default_rng(0)
    for one in SCENE_CLASSES:
        for path in sorted((data / "rsscn7" / "test" / one.folder).glob("*.jpg")):
            pictures, scene = [Image.open(path).convert("RGB")], next(number)
            yield Case("real_scene", pictures, REAL_QUESTION, (one.name,), scene)
            there = bool(one.shown) and rng.random() < 0.5
            question = PRESENCE_TEMPLATES[0].format(a=rng.choice(one.shown if there else one.hidden))
            yield Case("real_presence", pictures, question, ("yes" if there else "no",), scene)
            if one.urban is not None:
                truth = "urban" if one.urban else "rural"
                yield Case("real_rural_urban", pictures, URBAN_QUESTION, (truth,), scene)
            if one.cover is not None:
                yield Case("real_cover", pictures, COVER_QUESTION, (one.cover,), scene)
    rng = np.random.default_rng(0)
    for dates, mask in itertools.chain(*(labelled_pairs(data, folder) for folder in LABELLED)):
        yield Case("real_change", dates, FLAG_QUESTION, ("yes" if mask.any() else "no",), next(number))
        for date in dates:
            again = misregister(rng, relight(rng, date))
            yield Case("real_no_change", [date, again], FLAG_QUESTION, ("no",), next(number))


def other_real(data: Path):
    """Questions on real pictures of other sources than those of training, from Sentinel-2 to 0.1 m a pixel."""
    for scene, (name, seen) in enumerate(json.loads(OTHER_REAL.read_text()).items()):
        pictures = [Image.open(data / name).convert("RGB")]
        if seen["cover"]:
            yield Case("other_cover", pictures, COVER_QUESTION, tuple(seen["cover"]), scene)
        if seen["urban"] is not None:
            truth = "urban" if seen["urban"] else "rural"
            yield Case("other_rural_urban", pictures, URBAN_QUESTION, (truth,), scene)
        for thing, truth in [(one, "yes") for one in seen["shown"]] + [(one, "no") for one in seen["hidden"]]:
            yield Case("other_presence", pictures, PRESENCE_TEMPLATES[0].format(a=thing), (truth,), scene)


def answer(model, processor, batch: list[Case], blind: bool, augmenter) -> list[str]:
    conversations = []
    for case in batch:
        pictures = case.pictures
        if blind:
            pictures = [Image.new("RGB", picture.size, (127, 127, 127)) for picture in pictures]
        items = [{"type": "image", "image": one} for one in pictures]
        items = [{"type": "video", "video": pictures}] if case.clip else items
        conversations.append([{"role": "user", "content": [*items, {"type": "text", "text": case.question}]}])
    if augmenter:
        conversations = augmenter(conversations)
    inputs = processor.encode_chats(conversations, {})
    with torch.no_grad():
        output = model.generate(**inputs, do_sample=False, max_new_tokens=40)
    return processor.post_process_image_text_to_text(output[:, inputs["input_ids"].shape[1] :])


@torch.no_grad()
def map_aucs(model, processor, pairs: Iterable[tuple[list[Image.Image], np.ndarray]]) -> dict[str, list[float]]:
    """AUC of both change maps, spread over the picture, against each mask that holds both kinds of pixel."""
    found: dict[str, list[float]] = {"change_map": [], "closer_map": []}
    for dates, mask in pairs:
        if not mask.any() or mask.all():
            continue
        pixels = processor.image_processor(dates, return_tensors="pt")["pixel_values"][None]
        maps = model.get_change_map(pixels)[0].float().numpy(), closer_change_map(model, processor, *dates)
        for values, aucs in zip(maps, found.values(), strict=True):
            spread = np.asarray(Image.fromarray(values).resize(mask.shape[::-1], Image.Resampling.BILINEAR))
            aucs.append(auc(spread.ravel(), mask.ravel()))
    return found


def map_scores(found: dict[str, list[float]], prefix: str = "") -> dict[str, dict]:
    """Means of what `map_aucs` found, and of the gain of the closer map, pair by pair."""
    scores = {
        prefix + kind: {"name": NAMES[prefix + kind], "count": len(aucs), **_mean("auc", aucs), "blind": 0.5}
        for kind, aucs in found.items()
    }
    scores[prefix + "closer_map"]["gain"] = _mean("auc", np.subtract(found["closer_map"], found["change_map"]))
    return scores


def _mean(metric: str, values: Sequence[float]) -> dict:
    return {
        metric: round(float(np.mean(values)), 4),
        "interval_95": [round(end, 4) for end in bootstrap_mean(values)],
    }


def best_sentence(references: list[tuple[str, ...]]) -> tuple[str, float]:
    """Of all true captions the one that scores best when it is said of every pair, and its CIDEr-D."""
    cider = CiderD(references)
    scores = {
        one: float(cider.scores_of_all(one).mean()) for one in sorted({one for some in references for one in some})
    }
    best = max(scores, key=lambda one: scores[one])
    return best, scores[best]


# Scene, whether right, whether right when blind, and what was asked with all that is accepted.
Row = tuple[int, bool, bool, tuple[str, frozenset[str]]]


def accuracies(cases: list[Case], said: list[str], blind: list[str]) -> dict[str, dict]:
    """Shares of right answers by kind, with and without a picture, and the share of the commonest answer."""
    found: dict[str, list[Row]] = defaultdict(list)
    for case, *words in zip(cases, said, blind, strict=True):
        truths = [normalise_answer(one) for one in case.references]
        right = [normalise_answer(one) in truths for one in words]
        asked = case.question if case.kind == "other_presence" else case.kind  # things there are rarer or commoner
        row = (case.scene, *right, (asked, frozenset(truths)))
        found[case.kind].append(row)
        kind = case.kind.removeprefix(FAMILIAR).removeprefix(REWORDED)
        if kind in QUESTIONS:
            found[case.kind.replace(kind, "vqa_micro")].append(row)
        if case.kind == "change_caption":
            truth = says_change(case.references[0])
            flags = [says_change(one) == truth for one in words]
            found["change_flag_of_caption"].append((case.scene, *flags, (case.kind, frozenset({str(truth)}))))
    return {kind: accuracy(kind, rows) for kind, rows in found.items() if kind in NAMES}


def accuracy(kind: str, rows: list[Row]) -> dict:
    scenes, right, blind = (np.array(column) for column in list(zip(*rows, strict=True))[:3])
    truths: dict[str, list[str]] = defaultdict(list)  # of several kinds, each has a commonest answer of its own
    for *_, (one, accepted) in rows:
        truths[one] += accepted
    commonest = sum(majority(some)[1] for some in truths.values())
    _, places = np.unique(scenes, return_inverse=True)
    if places.max() + 1 == len(rows):
        low, high = wilson(int(right.sum()), len(rows))
    else:
        low, high = bootstrap_ratio(np.bincount(places, right), np.bincount(places))
    return {
        "name": NAMES[kind],
        "count": len(rows),
        "accuracy": round(float(right.mean()), 4),
        "interval_95": [round(low, 4), round(high, 4)],
        "blind": round(float(blind.mean()), 4),
        "commonest_answer": round(commonest / len(rows), 4),
    }


def captions(cases: list[Case], said: list[str]) -> tuple[dict, dict]:
    """CIDEr-D of changed pairs, and of all pairs with the one caption for all."""
    pairs = [(case, words) for case, words in zip(cases, said, strict=True) if case.kind == "change_caption"]
    kinds = ["change" if says_change(case.references[0]) else "no_change" for case, _ in pairs]
    changed = [case.references for case, _ in pairs if says_change(case.references[0])]
    found = change_caption_scores([words for _, words in pairs], [case.references for case, _ in pairs], kinds, False)
    sentence, floor = best_sentence(changed)
    row = {
        "name": NAMES["change_only_cider_d"],
        "count": len(changed),
        "cider_d": round(found["change_only"]["cider_d"], 2),
        "interval_95": [round(end, 2) for end in found["change_only"]["cider_d_interval_95"]],
        "blind": round(floor, 2),
    }
    return row, {"best_one_caption": sentence, "cider_d_of_all_pairs": round(found["cider_d"], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=unirs.default_checkpoint())
    parser.add_argument("--count", type=int, default=400, help="generated scenes of each task and split")
    parser.add_argument("--skip", type=int, default=0, help="first scenes of each split to leave out: seen before")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument(
        "--data", type=Path, help="the shared data, its MANIFEST.md in it; without it no real pictures"
    )
    parser.add_argument("--clue", action="store_true", help="ask with prompt augmentation, the model its own base")
    parser.add_argument("--output", type=Path, help="[default: evaluation.json in the model]")
    args = parser.parse_args()
    output = args.output or Path(args.model) / "evaluation.json"

    model = AutoModelForImageTextToText.from_pretrained(args.model, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(args.model)
    augmenter = model.prompt_augmenter(processor) if args.clue else None
    if args.skip < 0:
        parser.error("--skip must be 0 or more: seeds below are those of training")
    test, familiar = TEST_SEED + args.skip, HELD_OUT_SEED + args.skip
    everything = list(generated(test, args.count))
    everything += [*generated(familiar, args.count, FAMILIAR), *in_other_words(everything)]
    everything += changes_asked_for(test, args.count)
    if args.data:
        everything += [*real(args.data), *other_real(args.data)]
    # read before anything is asked: a folder that is missing is told in time
    crops_of_figures = list(figure_crops(args.data)) if args.data else []
    weights = model_hash(args.model)
    started = time.time()
    said: dict[bool, list[str]] = {}
    for blind in (False, True):
        said[blind] = []
        for start in range(0, len(everything), args.batch):
            said[blind] += answer(model, processor, everything[start : start + args.batch], blind, augmenter)
    scores = accuracies(everything, said[False], said[True])
    scores["change_only_cider_d"], beside = captions(everything, said[False])
    world = ((list(one.images), one.change_mask) for one in map(pair_sample, range(test, test + args.count)))
    scores |= map_scores(map_aucs(model, processor, world))
    if args.data:
        sets = {name: map_aucs(model, processor, labelled_pairs(args.data, name)) for name in LABELLED}
        both = {kind: [one for found in sets.values() for one in found[kind]] for kind in sets[LABELLED[0]]}
        crops = map_aucs(model, processor, crops_of_figures)
        for name, found in {"real": both, **sets, "crops": crops}.items():
            scores |= map_scores(found, f"{name}_")
    result = {
        "model": Path(args.model).name,
        "dataset": "RS-World",
        "world": WORLD_VERSION,
        "note": NOTE + (SKIPPED.format(args.skip) if args.skip else ""),
        "weights": sum(p.numel() for p in model.parameters()),
        "model_sha256": weights,
        "first_seeds": {"test": test, "validation": familiar},
        "scenes_of_each_task": args.count,
        "clues": args.clue,
        **beside,
        "minutes": round((time.time() - started) / 60, 1),
        "command": " ".join(["python benchmarks/unirs_tiny.py", *sys.argv[1:]]).replace(str(args.data), "DATA"),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "scores": told(scores),
    }
    output.write_text(json.dumps(result, indent=1) + "\n")
    for kind, row in result["scores"].items():
        value = next(row[name] for name in ("accuracy", "cider_d", "auc") if name in row)
        print(f"{kind:<24}{row['count']:>6}{value:>9.3f}{row['blind']:>9.3f}")


if __name__ == "__main__":
    main()
