"""What unirs-tiny is asked by unirs_tiny.py: questions on scenes it has never seen, generated and real."""

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from unirs.evaluation.captions import normalise
from unirs.processing.video_loading_unirs import load_video
from unirs.trainers.real_questions import REAL_QUESTION
from unirs.trainers.real_scenes import SCENE_CLASSES, misregister, relight
from unirs.trainers.scene_questions import COVER_QUESTION, PRESENCE_TEMPLATES, URBAN_QUESTION
from unirs.trainers.scene_tasks import FLAG_QUESTION, clip_sample, pair_sample, sequence_sample, single_sample
from unirs.trainers.tiny_data import FRAMES, GRID, SIZE, patch_shares
from unirs.trainers.tiny_mixture import clip_answer
from unirs.trainers.tiny_what_changed import change_odds, change_turn, changes_made, is_quiet
from unirs.trainers.tiny_where_changed import WHERE_CHANGED, changed_place
from unirs.trainers.unanswerable import UNKNOWN_ANSWER, UNKNOWN_HELD_OUT, UNTOLD_HELD_OUT, about_thing
from unirs.trainers.wordings import CLIP_QUESTIONS, PAIR_QUESTIONS, asked_by_choice, asked_by_yes_or_no, reworded
from unirs_tiny_rows import NAMES, QUESTIONS

LABELLED = ("levir_cd", "dsifn")  # folders of real pairs with masks
# Of real pictures of other sources, by eye: which covers are right, whether it is urban, what is and is not there.
OTHER_REAL = Path(__file__).parent / "other_real_pictures.json"
MARKED = 60  # of 255: masks of figures are colours on black, with a figure's blur
FAMILIAR, REWORDED = "familiar_", "reworded_"
LEVIR = "levir_caption"
FLAG_OF = {"change_caption": "change_flag_of_caption", LEVIR: "levir_flag_of_caption"}  # of captions, by their kind


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


def real_clips(data: Path):
    """Films from drones and the like, labelled by eye; and of clips of ERA the two frames that a figure shows."""
    number = itertools.count()
    for name, one in json.loads((data / "video" / "labels.json").read_text()).items():
        frames, label = load_video(data / "video" / name, FRAMES), clip_answer(one["era_class"])
        yield Case("film_class", frames, CLIP_QUESTIONS[0], (label,), next(number), clip=True)
    for one in json.loads((data / "era_frames" / "labels.json").read_text()):
        frames = [Image.open(data / "era_frames" / name).convert("RGB") for name in one["frames"]]
        frames, label = [frame for frame in frames for _ in range(FRAMES // len(frames))], clip_answer(one["label"])
        yield Case("era_class", frames, CLIP_QUESTIONS[0], (label,), next(number), clip=True)


def levir_pairs(data: Path):
    """The pairs of LEVIR-CC at hand whose captions are known; something changed in each."""
    for scene, one in enumerate(json.loads((data / "levir_cc" / "pairs.json").read_text())):
        if references := tuple(normalise(caption) for caption in one.get("captions") or ()):
            dates = [Image.open(data / "levir_cc" / one[date]).convert("RGB") for date in "ab"]
            yield Case(LEVIR, dates, PAIR_QUESTIONS[0], references, scene)
