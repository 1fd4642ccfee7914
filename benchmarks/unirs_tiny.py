"""What the embedded checkpoint knows about scenes it has never seen, generated and real.

    python benchmarks/unirs_tiny.py --data ../shared/data [--count 400] [--skip 250] [--clue] [--output RESULT.json]

Generated scenes come from RS-World's test split, whose layouts do not occur in training, and (in sum only) from its
validation split, whose layouts do. "Blind" is the same model with the same questions on a grey picture; of captions it
is the best one sentence for all.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from unirs.evaluation.captions import normalise
from unirs.evaluation.change_captions import change_caption_scores
from unirs.evaluation.change_flags import says_change
from unirs.evaluation.cider import CiderD
from unirs.evaluation.model_hash import model_hash
from unirs.evaluation.questions import normalise_answer
from unirs.evaluation.statistics import auc, bootstrap_mean, bootstrap_ratio, majority, wilson
from unirs.trainers.scene_tasks import HELD_OUT_SEED, TEST_SEED, WORLD_VERSION, pair_sample
from unirs_tiny_cases import (
    FAMILIAR,
    FLAG_OF,
    LABELLED,
    LEVIR,
    REWORDED,
    Case,
    changes_asked_for,
    figure_crops,
    generated,
    in_other_words,
    labelled_pairs,
    levir_pairs,
    other_real,
    real,
    real_clips,
)
from unirs_tiny_rows import NAMES, NOTE, QUESTIONS, SKIPPED, told

import unirs
from unirs.closer_map import closer_change_map


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
        if case.kind in FLAG_OF:
            truth = says_change(case.references[0])
            flags = [says_change(one) == truth for one in words]
            found[FLAG_OF[case.kind]].append((case.scene, *flags, (case.kind, frozenset({str(truth)}))))
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


def levir_captions(cases: list[Case], said: list[str], known: list[tuple[str, ...]]) -> dict:
    """CIDEr-D of LEVIR-CC's pairs, which are few.

    Args:
        known: Captions of other pairs, so that what is often said counts little; these pairs' own are left out.
    """
    pairs = [(case, text) for case, text in zip(cases, said, strict=True) if case.kind == LEVIR]
    own, words = [case.references for case, _ in pairs], [text for _, text in pairs]
    known = [some for some in known if some not in own]
    cider = CiderD([*own, *known])
    values = cider.scores([*map(normalise, words), *[""] * len(known)])[: len(own)]
    floor = max(
        float(cider.scores_of_all(one)[: len(own)].mean()) for one in sorted({one for some in own for one in some})
    )
    return {
        "name": NAMES["levir_cider_d"],
        "count": len(own),
        "cider_d": round(float(values.mean()), 2),
        "interval_95": [round(end, 2) for end in bootstrap_mean(values)],
        "blind": round(floor, 2),
    }


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
        everything += [*real(args.data), *other_real(args.data), *real_clips(args.data), *levir_pairs(args.data)]
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
        listed = json.loads((args.data / "levir_cc" / "levir_cc_captions.json").read_text())["train"]
        known = [tuple(map(normalise, some)) for some in listed.values()]
        scores["levir_cider_d"] = levir_captions(everything, said[False], known)
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
