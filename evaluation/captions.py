"""Scores of change captions, as the field computes and prints them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from .cider import count_ngrams


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
    scored = ScoredCaptions(predictions, references)
    return {**scored.bleu(), "rouge_l": float(scored.rouge_l.mean()), "cider_d": float(scored.cider_d.mean())}


class ScoredCaptions:
    """What pycocoevalcap's scorers say of each pair.

    Half of LEVIR-CC's pairs have the same five references: what depends on them alone is counted once.

    Args:
        predictions: One caption for each pair.
        references: The captions that each pair has.
    """

    def __init__(self, predictions: Sequence[str], references: Sequence[Sequence[str]]):
        if len(predictions) != len(references) or not predictions:
            raise ValueError(
                f"{len(predictions)} captions cannot be scored against {len(references)} pairs' references"
            )
        if bare := [place for place, captions in enumerate(references) if not captions]:
            raise ValueError(f"pair {bare[0]} has no reference caption")
        clean = {caption: normalise(caption) for captions in (predictions, *references) for caption in captions}
        self.said = [clean[caption] for caption in predictions]
        self.true = [tuple(clean[caption] for caption in captions) for captions in references]
        self.ngrams = {caption: count_ngrams(caption) for caption in clean.values()}
        self._bleu_counts = self._count_for_bleu()
        self.rouge_l = self._rouge_l()  # (pairs,)
        self.cider_d = self._cider_d()  # (pairs,)

    def bleu(self, places: Sequence[int] | None = None) -> dict[str, float]:
        """BLEU-1 to 4 of a corpus, times 100: counts are summed over pairs before they are divided.

        Args:
            places: The pairs that count. All, if None.
        """
        from pycocoevalcap.bleu.bleu_scorer import BleuScorer

        scorer = BleuScorer(n=4)
        counts = self._bleu_counts if places is None else [self._bleu_counts[place] for place in places]
        scorer.ctest, scorer.crefs = counts, [None] * len(counts)  # references are in the counts already
        scores, _ = scorer.compute_score(option="closest", verbose=0)
        return {f"bleu_{order}": 100 * float(score) for order, score in enumerate(scores, 1)}

    def _count_for_bleu(self) -> list[dict[str, Any]]:
        """Of each pair: its lengths, and how many n-grams are there and are right."""
        # Needed in training and evaluation only, and not installed for less.
        from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

        cooked = {captions: cook_refs(captions) for captions in set(self.true)}
        pairs = list(zip(self.said, self.true, strict=True))
        known = {(caption, captions): cook_test(caption, cooked[captions]) for caption, captions in set(pairs)}
        return [known[pair] for pair in pairs]

    def _rouge_l(self) -> np.ndarray:
        from pycocoevalcap.rouge.rouge import Rouge

        pairs = list(zip(self.said, self.true, strict=True))
        # Silence scores nothing: beside a reference without words it would have all.
        known = {pair: Rouge().calc_score([pair[0]], pair[1]) if pair[0] else 0.0 for pair in set(pairs)}
        return 100 * np.array([known[pair] for pair in pairs])

    def _cider_d(self) -> np.ndarray:
        from pycocoevalcap.cider.cider_scorer import CiderScorer

        # A score depends on the caption, the pair's references and the frequencies in all references, so equal pairs
        # are scored once. The scorer counts `crefs`, and goes through them for as long as there is a `ctest`.
        pairs = list(zip(self.said, self.true, strict=True))
        first = {pair: place for place, pair in reversed(list(enumerate(pairs)))}
        others = set(range(len(pairs))) - set(first.values())
        scorer = CiderScorer()  # Gaussian length penalty and clipping: this is CIDEr-D
        captions = [true for _, true in first] + [self.true[place] for place in others]
        scorer.crefs = [[self.ngrams[caption] for caption in some] for some in captions]
        scorer.ctest = [self.ngrams[caption] for caption, _ in first]
        scorer.compute_doc_freq()
        scores = dict(zip(first, scorer.compute_cider(), strict=True))
        return 100 * np.array([scores[pair] for pair in pairs])
