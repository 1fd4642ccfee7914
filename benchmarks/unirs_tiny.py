"""What the embedded checkpoint knows about generated scenes it has never seen, and what a blind one guesses.

    python benchmarks/unirs_tiny.py --real ../shared/data/rsscn7 [--count 400] [--output RESULT.json]

"Blind" is the same model with the same questions on a blank picture: what it scores comes from the words alone.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from unirs.evaluation.statistics import wilson
from unirs.trainers.scene_changes import NO_CHANGE_SENTENCES
from unirs.trainers.scene_tasks import HELD_OUT_SEED, clip_sample, pair_sample, single_sample
from unirs.trainers.tiny import CLIP_QUESTIONS, PAIR_QUESTIONS, REAL_CLASSES, REAL_QUESTION, clip_answer, real_class
from unirs.trainers.tiny_data import SIZE

import unirs

NOTE = (
    "On generated scenes that were never trained on, and on RSSCN7's test pictures (the last row). "
    '"No picture" is the same model with the same question on a grey picture.'
)
NAMES = {
    "vqa_micro": "questions on one image, all",
    "presence": "presence",
    "comparison": "comparison",
    "rural_urban": "rural or urban",
    "count": "count",
    "scene": "land cover",
    "change_caption": "change caption is one of five references",
    "change_flag_of_caption": "caption says rightly whether anything changed",
    "change_flag": "has anything changed, yes or no",
    "clip_class": "clip class, of 25 named",
    "real_scene": "RSSCN7 class, of 7 (real pictures)",
}


def cases(count: int, real: Path | None):
    """`(kind, pictures, is it a clip, question, accepted answers)`"""
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        sample = single_sample(seed, SIZE)
        for question in sample.questions:
            yield question.kind, list(sample.images), False, question.question, question.references
        sample = pair_sample(seed, SIZE)
        for question, words in zip(sample.questions, (PAIR_QUESTIONS[0], None), strict=True):
            yield question.kind, list(sample.images), False, words or question.question, question.references
        sample = clip_sample(seed, SIZE, 8)
        yield "clip_class", list(sample.images), True, CLIP_QUESTIONS[0], (clip_answer(sample.label),)
    if real:
        for folder in sorted(one for one in real.iterdir() if one.is_dir()):
            for path in sorted(folder.glob("*.jpg")):
                name = REAL_CLASSES[real_class(folder.name)]
                yield "real_scene", [Image.open(path).convert("RGB")], False, REAL_QUESTION, (name,)


def answer(model, processor, batch, blind: bool) -> list[str]:
    conversations = []
    for _, pictures, is_clip, question, _ in batch:
        if blind:
            pictures = [Image.new("RGB", picture.size, (127, 127, 127)) for picture in pictures]
        items = (
            [{"type": "video", "video": pictures}] if is_clip else [{"type": "image", "image": p} for p in pictures]
        )
        conversations.append([{"role": "user", "content": [*items, {"type": "text", "text": question}]}])
    inputs = processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )
    with torch.no_grad():
        output = model.generate(**inputs, do_sample=False, max_new_tokens=40)
    return processor.post_process_image_text_to_text(output[:, inputs["input_ids"].shape[1] :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=unirs.default_checkpoint())
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--real", type=Path, help="RSSCN7 with test/; without it that row is left out")
    parser.add_argument("--output", type=Path, help="[default: evaluation.json in the model]")
    args = parser.parse_args()
    output = args.output or Path(args.model) / "evaluation.json"

    model = AutoModelForImageTextToText.from_pretrained(args.model, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(args.model)
    everything = list(cases(args.count, args.real and args.real / "test"))
    unchanged = set(NO_CHANGE_SENTENCES)
    started = time.time()
    scores: dict[str, dict[str, list[int]]] = {"seeing": defaultdict(list), "blind": defaultdict(list)}
    for name, blind in (("seeing", False), ("blind", True)):
        for start in range(0, len(everything), args.batch):
            batch = everything[start : start + args.batch]
            for (kind, *_, references), said in zip(batch, answer(model, processor, batch, blind), strict=True):
                said = said.lower().rstrip(".")
                scores[name][kind].append(said in [reference.lower() for reference in references])
                if kind == "change_caption":  # does the caption at least say rightly whether anything changed?
                    scores[name]["change_flag_of_caption"].append((said in unchanged) == (references[0] in unchanged))
    table = {
        kind: {
            "count": len(rights),
            "accuracy": round(sum(rights) / len(rights), 4),
            "interval_95": [round(end, 4) for end in wilson(sum(rights), len(rights))],
            "blind": round(sum(scores["blind"][kind]) / len(rights), 4),
        }
        for kind, rights in scores["seeing"].items()
    }
    questions = ("presence", "comparison", "rural_urban", "count", "scene")
    for name in ("seeing", "blind"):
        rights = [right for kind in questions for right in scores[name][kind]]
        table.setdefault("vqa_micro", {"count": len(rights)})["accuracy" if name == "seeing" else "blind"] = round(
            sum(rights) / len(rights), 4
        )
    result = {
        "model": Path(args.model).name,
        "dataset": "generated scenes",
        "note": NOTE,
        "weights": sum(p.numel() for p in model.parameters()),
        "first_seed": HELD_OUT_SEED,
        "samples_of_each_task": args.count,
        "minutes": round((time.time() - started) / 60, 1),
        "command": " ".join(["python benchmarks/unirs_tiny.py", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "scores": {kind: {"name": name, **table[kind]} for kind, name in NAMES.items() if kind in table},
    }
    output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{'kind':<24}{'n':>6}{'UniRS':>9}{'blind':>9}")
    for kind, row in table.items():
        print(f"{kind:<24}{row['count']:>6}{row['accuracy']:>9.3f}{row['blind']:>9.3f}")


if __name__ == "__main__":
    main()
