"""Time of scoring LEVIR-CC's whole test set, beside pycocoevalcap called bare.

    python benchmarks/evaluation.py [--data ../shared/data/levir_cc] [--rounds 9] [--output RESULT.json]

Bare: `Bleu(4)`, `Rouge()` and `Cider()` on tokens that are normalised already. Ours: `change_caption_scores` on
captions as a model writes them, without METEOR; that is the same scores, those of changed pairs, the change flag, the
floors, and bootstrap intervals. Both alternate in one process; medians count. Captions are drawn from the references
in two ways: "usual", where most pairs without a change get the same sentence, and "all different", where no two are
equal and so nothing can be scored once for many pairs.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from unirs.evaluation.captions import normalise
from unirs.evaluation.change_captions import change_caption_scores
from unirs.evaluation.change_flags import NO_CHANGE_SENTENCES

SURE = 0.95  # share of pairs whose change is seen rightly in "usual"


def captions_of(pairs: list[list[str]], kinds: list[str], all_different: bool) -> list[str]:
    """What a model might say: of a pair that it takes for changed, a caption of some changed pair."""
    rng = random.Random(0)
    changed = [some for some, kind in zip(pairs, kinds, strict=True) if kind == "change"]
    said = []
    for place, kind in enumerate(kinds):
        seen = (kind == "change") == (rng.random() < SURE)
        caption = rng.choice(rng.choice(changed)) if seen else NO_CHANGE_SENTENCES[2]
        said.append(f"{caption} number {place}." if all_different else f"{caption.capitalize()}.")
    return said


def bare(pairs: list[list[str]], said: list[str]) -> dict[str, float]:
    true, found = dict(enumerate(pairs)), {place: [caption] for place, caption in enumerate(said)}
    bleu, _ = Bleu(4).compute_score(true, found, verbose=0)
    rouge, _ = Rouge().compute_score(true, found)
    cider, _ = Cider().compute_score(true, found)
    return {"bleu_4": 100 * bleu[3], "rouge_l": 100 * float(rouge), "cider_d": 100 * float(cider)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/levir_cc"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/evaluation.json"))
    args = parser.parse_args()

    pairs = list(json.loads((args.data / "levir_cc_captions.json").read_text())["test"].values())
    kinds = ["no_change" if NO_CHANGE_SENTENCES[0] in some else "change" for some in pairs]
    cases = {}
    for name in ("usual", "all different"):
        said = captions_of(pairs, kinds, name == "all different")
        clean = [normalise(caption) for caption in said]
        times: dict[str, list[float]] = {"bare": [], "ours": []}
        for _ in range(args.rounds):
            started = time.perf_counter()
            theirs = bare(pairs, clean)
            middle = time.perf_counter()
            ours = change_caption_scores(said, pairs, kinds, with_meteor=False)
            times["bare"].append(middle - started)
            times["ours"].append(time.perf_counter() - middle)
        assert all(abs(ours[key] - value) < 1e-6 for key, value in theirs.items()), (ours, theirs)
        medians = {key: statistics.median(some) for key, some in times.items()}
        cases[name] = {
            **{f"{key}_seconds": round(value, 3) for key, value in medians.items()},
            "ratio": round(medians["ours"] / medians["bare"], 3),
            "ratios": sorted(round(two / one, 3) for one, two in zip(times["bare"], times["ours"], strict=True)),
            "cider_d": round(theirs["cider_d"], 2),
        }
        print(name, cases[name])
    result = {
        "scoring": {
            "what": "LEVIR-CC test, 1,929 pairs; METEOR aside",
            "command": " ".join(["python benchmarks/evaluation.py", *sys.argv[1:]]),
            "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
            "load_1_minute": round(os.getloadavg()[0], 1),
            "versions": {
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in ("numpy", "pycocoevalcap")},
            },
            "rounds": args.rounds,
            "cases": cases,
        }
    }
    known = json.loads(args.output.read_text()) if args.output.exists() else {}
    args.output.write_text(json.dumps(known | result, indent=1) + "\n")


if __name__ == "__main__":
    main()
