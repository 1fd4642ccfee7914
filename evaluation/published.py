"""What others have printed for the benchmarks, and how it was averaged. Per cent, or CIDEr-D times 100.

Read from the UniRS paper's own tables except where `source` says otherwise. Whether an average is micro (over all
questions) or macro (over types) is printed nowhere: `average` is what the paper's per-type figures give when they are
averaged so (tests/test_published_scores.py), or "unknown" where they do not tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Average = Literal["micro", "macro", "unknown"]


@dataclass(frozen=True)
class Published:
    """A row of a table.

    Args:
        method: As it calls itself.
        score: The benchmark's head figure: accuracy over all types, CIDEr-D, overall accuracy.
        average: How `score` came about; "micro" also for one figure over all samples.
        source: Where it was read.
        per_type: Figures of single types, where printed; named as RSVQA names them ("comp" is comparison).
    """

    method: str
    score: float
    average: Average
    source: str
    per_type: tuple[tuple[str, float], ...] = ()


def _lr(
    method: str,
    presence: float,
    comparison: float,
    rural_urban: float,
    score: float,
    average: Average,
    source: str = "UniRS, table III",
) -> Published:
    types = (("presence", presence), ("comp", comparison), ("rural_urban", rural_urban))
    return Published(method, score, average, source, types)


def _hr(
    method: str, presence: float, comparison: float, score: float, source: str, average: Average = "micro"
) -> Published:
    return Published(method, score, average, source, (("presence", presence), ("comp", comparison)))


RSVQA_LR = (
    _lr("VILA-1.5 (3B)", 68.49, 64.99, 64.00, 66.44, "micro"),
    _lr("RSVQA", 87.47, 81.5, 90.00, 86.32, "macro"),
    _lr("Bi-Modal", 91.06, 91.16, 92.66, 91.63, "macro"),
    _lr("SHRNet", 91.03, 90.48, 94.00, 91.84, "macro"),
    _lr("RSGPT", 91.17, 91.7, 94.00, 92.29, "macro"),
    _lr("SkyEyeGPT (7B)", 88.93, 88.63, 75.00, 84.19, "macro"),
    _lr("LHRS-Bot (7B)", 89.07, 88.51, 90.00, 89.19, "macro"),
    _lr("GeoChat (7B)", 91.09, 90.33, 94.00, 90.70, "micro"),
    _lr("UniRS (individual)", 91.51, 91.38, 92.00, 91.44, "micro", "UniRS, table VIII"),
    _lr("UniRS (without prompt augmentation)", 91.68, 91.85, 92.00, 91.80, "micro", "UniRS, table X"),
    _lr("UniRS", 91.64, 92.68, 90.00, 92.21, "micro"),
    _lr("UniRS (further training)", 91.81, 93.23, 93.00, 92.63, "micro"),
)
RSVQA_HR = (
    _hr("UniRS (individual)", 61.07, 80.03, 71.68, "UniRS, table VIII"),
    _hr(
        "UniRS (without prompt augmentation)",
        *(56.95, 83.91, 72.21),
        "UniRS, table X; its own types give 72.04 (micro) or 70.43 (macro)",
        "unknown",
    ),
    _hr("UniRS", 59.29, 84.05, 73.15, "UniRS, tables VIII and X; test set 2, zero-shot"),
)
_SPLIT = 'split unknown: "10 %", "1,000" and the printed values contradict each other'
_AGAIN = "GeoChat (arXiv 2311.15826), zero-shot scene classification; as others repeat it"

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "rsvqa-lr": RSVQA_LR,
    "lrben": RSVQA_LR,
    "rsvqa-hr": RSVQA_HR,
    "hrben": RSVQA_HR,
    "crsvqa": (
        Published("GeoChat", 82.50, "unknown", f"UniRS, section IV-B3; {_SPLIT}"),
        Published("UniRS (without prompt augmentation)", 84.00, "unknown", f"UniRS, table X; {_SPLIT}"),
        Published("UniRS", 86.67, "unknown", f"UniRS, tables VIII and X; {_SPLIT}"),
    ),
    "levir-cc": (
        Published("VILA-1.5 (3B), zero-shot", 6.22, "micro", "UniRS, section IV-C"),
        Published("UniRS, neither joint training nor Change Extraction", 126.41, "micro", "UniRS, table IX"),
        Published("GeoChat, tuned", 128.36, "micro", "UniRS, section IV-C (139.12 - 10.76)"),
        Published("UniRS, without Change Extraction", 131.28, "micro", "UniRS, table IX"),
        Published("Chg2Cap", 136.61, "micro", "UniRS, section IV-C (139.12 - 2.51)"),
        Published("UniRS (individual)", 137.61, "micro", "UniRS, tables VIII and IX"),
        Published("UniRS (without prompt augmentation)", 138.47, "micro", "UniRS, table X"),
        Published("UniRS", 139.12, "micro", "UniRS, tables VIII, IX and X"),
        Published("SAT-Cap", 140.23, "micro", "later work, as PAPER.md repeats it"),
        Published("CCExpert-7b", 143.32, "micro", "later work, as PAPER.md repeats it"),
    ),
    "era": (
        Published("VILA-1.5 (3B), zero-shot", 41.7, "micro", "UniRS, table VII"),
        Published("HDense", 63.0, "micro", "UniRS, table VII"),
        Published("FuTH-Net", 66.8, "micro", "UniRS, table VII"),
        Published("TRM", 66.8, "unknown", "UniRS, table VII; its row repeats FuTH-Net's"),
        Published("MSTN", 67.4, "unknown", "UniRS, table VII"),
        Published("ASAT", 68.1, "unknown", "UniRS, table VII"),
        Published("UniRS (individual)", 84.4, "micro", "UniRS, table VIII"),
        Published("UniRS (without prompt augmentation)", 86.1, "micro", "UniRS, table X"),
        Published("UniRS", 87.8, "micro", "UniRS, tables VII, VIII and X"),
    ),
    "aid": (Published("GeoChat (7B)", 72.03, "unknown", _AGAIN),),
    "ucmerced": (Published("GeoChat (7B)", 84.43, "unknown", _AGAIN),),
}
