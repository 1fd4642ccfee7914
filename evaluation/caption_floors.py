"""What captions score that look at no picture: the measured floors to stand beside CIDEr-D."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .cider import CiderD

COMMONEST = 5  # captions that are tried on all pairs; on LEVIR-CC these are its five no-change sentences
CHANGE_CAPTIONS = 25  # the commonest captions of changed pairs that are tried behind a perfect flag


def caption_floors(
    cider: CiderD, references: Sequence[Sequence[str]], changed: Sequence[bool] | None
) -> dict[str, Any]:
    """CIDEr-D, times 100, of captions that need no picture. It depends on the references only.

    - `always`: the commonest references, each said of every pair; best first.
    - `perfect_flag`: as if it were known whether anything changed, and nothing else: the best of the commonest
      no-change captions for pairs without a change, one and the same change caption for the others. Its words are
      chosen by these very references, so it bounds what such a caption can get.

    Args:
        cider: Made of the references.
        references: The normalised captions of each pair.
        changed: Whether each pair shows a change; None where nobody knows.
    """
    always = [
        {"caption": caption, "cider_d": float(cider.scores_of_all(caption).mean())}
        for caption in _commonest(references, COMMONEST)
    ]
    floors: dict[str, Any] = {"always": sorted(always, key=lambda row: -row["cider_d"])}
    if changed is None or all(changed) or not any(changed):
        return floors
    flags, best = np.array(changed), {}
    for flag, count in ((False, COMMONEST), (True, CHANGE_CAPTIONS)):
        tried = _commonest([some for some, one in zip(references, changed, strict=True) if one == flag], count)
        best[flag] = max(tried, key=lambda caption: cider.scores_of_all(caption)[flags == flag].sum())
    floors["perfect_flag"] = {
        "no_change_caption": best[False],
        "change_caption": best[True],
        "cider_d": float(np.where(flags, cider.scores_of_all(best[True]), cider.scores_of_all(best[False])).mean()),
    }
    return floors


def _commonest(references: Sequence[Sequence[str]], count: int) -> list[str]:
    counts = Counter(caption for captions in references for caption in captions)
    return sorted(counts, key=lambda caption: (-counts[caption], caption))[:count]
