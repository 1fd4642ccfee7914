"""Everything that is reported of change captions: the field's scores, and what they hide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .caption_floors import caption_floors
from .captions import ScoredCaptions
from .change_flags import says_change
from .cider import CiderD
from .meteor import MeteorError, meteor
from .statistics import bootstrap_mean, wilson

KINDS = ("change", "no_change")


def change_caption_scores(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    kinds: Sequence[str],
    with_meteor: bool = True,
) -> dict[str, Any]:
    """BLEU-1 to 4, ROUGE-L, CIDEr-D, METEOR and S*m (times 100), and beside them what a blind caption gets.

    - `s_m`: mean of BLEU-4, METEOR, ROUGE-L and CIDEr-D, the S*m of change captioning; null without METEOR.
    - `cider_d_interval_95`: bootstrap over pairs, with the document frequencies of all pairs kept.
    - `change_only`: the pairs that changed, with document frequencies of their own. (CIDEr-D of the others is always
      0: all have the same references.)
    - `change_flag_accuracy`: share of pairs, in 0..1, whose caption says rightly whether anything changed, by the rule
      of `change_flags.says_change`; a caption without words is wrong.
    - `floors`: see `caption_floors`.

    Args:
        predictions: One caption for each pair; an empty string where there is none.
        references: The captions that each pair has.
        kinds: "change" or "no_change" of each pair. If any is something else (captions of single pictures), the last
            three are left out, floors of flags too.
        with_meteor: Takes Java and about 10 s more.
    """
    scored = ScoredCaptions(predictions, references)
    scores: dict[str, Any] = {
        "n": len(predictions),
        **scored.bleu(),
        "rouge_l": float(scored.rouge_l.mean()),
        "cider_d": float(scored.cider_d.mean()),
        "cider_d_interval_95": bootstrap_mean(scored.cider_d),
    }
    scores |= _with_meteor(scored, scores, with_meteor)
    cider = CiderD(scored.true, scored.ngrams)
    changed = [kind == "change" for kind in kinds] if set(kinds) <= set(KINDS) else None
    if changed is not None:
        scores |= _flags(predictions, changed)
        scores["change_only"] = _change_only(scored, cider, changed)
    scores["floors"] = caption_floors(cider, scored.true, changed)
    return scores


def _with_meteor(scored: ScoredCaptions, scores: dict[str, Any], wanted: bool) -> dict[str, Any]:
    """`meteor` and `s_m`, or null and why."""
    if not wanted:
        return {"meteor": None, "s_m": None, "meteor_missing": "not asked for"}
    try:
        found = meteor(scored.said, scored.true)
    except MeteorError as error:
        return {"meteor": None, "s_m": None, "meteor_missing": str(error)}
    return {"meteor": found, "s_m": (scores["bleu_4"] + found + scores["rouge_l"] + scores["cider_d"]) / 4}


def _flags(predictions: Sequence[str], changed: Sequence[bool]) -> dict[str, Any]:
    """Does the caption say rightly whether anything changed?"""
    said = [says_change(caption) for caption in predictions]
    hits = [one == truth for one, truth in zip(said, changed, strict=True)]
    count = len(changed)
    found = {
        name: sum(hit for hit, truth in zip(hits, changed, strict=True) if truth == flag)
        for name, flag in (("change", True), ("no_change", False))
    }
    return {
        "change_flag_accuracy": sum(hits) / count,
        "change_flag": {
            "interval_95": wilson(sum(hits), count),
            "majority": max(sum(changed), count - sum(changed)) / count,
            "change": {"n": sum(changed), "right": found["change"]},
            "no_change": {"n": count - sum(changed), "right": found["no_change"]},
            "without_words": sum(one is None for one in said),
        },
    }


def _change_only(scored: ScoredCaptions, cider: CiderD, changed: Sequence[bool]) -> dict[str, Any]:
    """Scores of the pairs that changed, as if there were no others; null where none did."""
    places = [place for place, one in enumerate(changed) if one]
    if not places:
        return {"n": 0, **dict.fromkeys([*(f"bleu_{order}" for order in range(1, 5)), "rouge_l", "cider_d"])}
    scores = cider.part(places).scores([scored.said[place] for place in places])
    return {
        "n": len(places),
        **scored.bleu(places=places),
        "rouge_l": float(np.mean(scored.rouge_l[places])),
        "cider_d": float(scores.mean()),
        "cider_d_interval_95": bootstrap_mean(scores),
    }
