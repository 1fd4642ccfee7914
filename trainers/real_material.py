"""All that the embedded checkpoint is tuned on of real pictures: views, made pairs, RS-World over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .far_views import far_views
from .over_real import over_clip, over_pair
from .real_scenes import SCENE_CLASSES, load_real, real_pair, relight, view
from .satellite_views import load_patches, satellite_views
from .scene_clips import soften
from .scene_shapes import Array
from .tiny_data import FRAMES, SIZE

VIEWS = 3  # of each picture: the whole, and parts in other lights
REAL_PAIRS, OVER_PAIRS, REAL_CLIPS = 4000, 3000, 2200


@dataclass(frozen=True)
class Material:
    """Pictures `(samples, pictures, SIZE, SIZE, 3)` of one kind, the words of each, and what changed in pairs."""

    pictures: Array
    words: list[Any]
    masks: Array | None = None  # (samples, SIZE, SIZE)


def real_material(rng: np.random.Generator, folder: Path, satellite: Path | None = None) -> dict[str, Material]:
    """Material by kind, of RSSCN7's training folder, and of EuroSAT's patches where they are at hand."""
    pictures, labels = load_real(folder)
    views = [view(rng, picture, SIZE, smallest=1.0) for picture in pictures]
    for _ in range(VIEWS - 1):
        views += [relight(rng, view(rng, picture, SIZE), 0.5) for picture in pictures]
    far = far_views(rng, pictures, labels, SIZE)
    pairs = [real_pair(rng, pictures, labels, SIZE, rng.random() < 0.5) for _ in range(REAL_PAIRS)]
    dry = np.flatnonzero([SCENE_CLASSES[label].cover != "water" for label in labels])
    over = [
        over_pair(rng, pictures[number], SCENE_CLASSES[labels[number]], SIZE, rng.random() < 0.5)
        for number in rng.choice(dry, OVER_PAIRS)
    ]
    clips, words = [], []
    for number in rng.choice(len(pictures), REAL_CLIPS):
        frames, name, clue = over_clip(rng, pictures[number], SCENE_CLASSES[labels[number]], SIZE, FRAMES)
        clips.append(frames)
        words.append({"label": name, "clue": clue})
    material = {
        "real": Material(np.stack([np.asarray(one) for one in views])[:, None], list(labels) * VIEWS),
        "far": Material(np.stack([np.asarray(one.strange) for one in far])[:, None], [one.told for one in far]),
        "real_pair": Material(np.stack([one.pictures for one in pairs]), pairs, np.stack([one.mask for one in pairs])),
        "over_pair": Material(
            np.stack([one.pictures for one in over]),
            [{"label": one.label, "clue": one.clue, "questions": [{"references": one.captions}]} for one in over],
            np.stack([one.mask for one in over]),
        ),
        "real_video": Material(soften(rng, np.stack(clips)), words),
    }
    if satellite:
        seen = satellite_views(rng, load_patches(satellite), pictures, labels, SIZE)
        material["satellite"] = Material(
            np.stack([np.asarray(one) for one, _ in seen])[:, None], [told for _, told in seen]
        )
    return material
