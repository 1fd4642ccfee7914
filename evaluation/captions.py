"""Scores of change captions, as the field computes and prints them."""

from __future__ import annotations

import re
from collections.abc import Sequence


def normalise(text: str) -> str:
    """Lower case, no `. ? !`, single spaces.

    The references of LEVIR-CC are written so, and the scorers compare words as they stand: one full stop behind the
    same sentence takes CIDEr-D from 101.93 to 18.92.
    """
    return " ".join(re.sub(r"[.?!]", " ", text.lower()).split())


def caption_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1 to 4, ROUGE-L and CIDEr-D of a whole test set, times 100; both sides are normalised.

    CIDEr-D weighs words by how many of these references' pairs have them, so scores of a part are not comparable
    with those of the whole, and it is 0 where all pairs have the same references.

    Args:
        predictions: One caption for each pair.
        references: The captions that each pair has.
    """
    # Needed in training and evaluation only, and not installed for less.
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    if len(predictions) != len(references) or not predictions:
        raise ValueError(f"{len(predictions)} captions cannot be scored against {len(references)} pairs' references")
    if bare := [place for place, captions in enumerate(references) if not captions]:
        raise ValueError(f"pair {bare[0]} has no reference caption")
    said = {place: [normalise(caption)] for place, caption in enumerate(predictions)}
    true = {place: [normalise(caption) for caption in captions] for place, captions in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(true, said, verbose=0)
    rouge, _ = Rouge().compute_score(true, said)
    cider, _ = Cider().compute_score(true, said)  # Gaussian length penalty and clipping: this is CIDEr-D
    scores = {f"bleu_{order}": score for order, score in enumerate(bleu, 1)} | {"rouge_l": rouge, "cider_d": cider}
    return {name: 100 * float(score) for name, score in scores.items()}
