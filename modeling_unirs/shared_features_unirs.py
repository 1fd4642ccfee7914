"""What base and tuned model see of a batch: looked at once for both where tower and projector are the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Features = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Blocks:
    """The pictures of one conversation in the order of their features; `clips` holds the frames of each."""

    singles: int
    pairs: int
    clips: tuple[int, ...]


@dataclass(frozen=True)
class Shown:
    """Features `(tokens, dim)` of what one question shows the base model: images (a pair is two), frames by clip."""

    images: list[torch.Tensor]
    clips: list[list[torch.Tensor]]


def blocks_of(input_ids: torch.Tensor, processor: Any) -> list[Blocks]:
    """The pictures of each row of `(batch, tokens)`, read off its placeholders."""
    length = processor.image_seq_length
    frame_number = {token: number for number, token in enumerate(processor.frame_token_ids)}
    found = []
    for row in input_ids.tolist():
        numbers = [frame_number[token] for token in row if token in frame_number][::length]  # of frames in clips
        starts = [place for place, number in enumerate(numbers) if number == 0]
        ends = [*starts[1:], len(numbers)]
        clips = [end - start for start, end in zip(starts, ends, strict=False)]  # no start, no clip
        singles, pairs = (
            row.count(token) // length for token in (processor.image_token_id, processor.change_token_id)
        )
        found.append(Blocks(singles, pairs, tuple(clips)))
    return found


def see_alike(one: Any, other: Any) -> bool:
    """Whether two [`UniRSModel`]s give the same features of pictures: settings, and every weight of both towers and
    projectors by its value. Weights are compared anew at each call, since nothing tells when one was written to.
    """
    if _settings(one.config) != _settings(other.config):
        return False
    for name in ("vision_tower", "multi_modal_projector"):
        weights, others = (getattr(core, name).state_dict() for core in (one, other))
        if weights.keys() != others.keys():  # an adapter in one of them
            return False
        if not all(_equal(weight, others[key]) for key, weight in weights.items()):
            return False
    return True


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    same_memory = one.data_ptr() == other.data_ptr() and one.stride() == other.stride()
    return same_memory or (one.device == other.device and torch.equal(one, other))


def _settings(config: Any) -> tuple:
    ignored = ("_name_or_path", "transformers_version", "dtype")
    vision = {key: value for key, value in config.vision_config.to_dict().items() if key not in ignored}
    return vision, config.vision_feature_layer, config.vision_feature_select_strategy


def answer_features(core: Any, inputs: Features, encoded_pairs: torch.Tensor | None) -> Features:
    """What the tuned model reads: `image_features`, `video_features`, and `change_features` of fused pairs."""
    features = _plain_features(core, inputs)
    if encoded_pairs is not None:
        features["change_features"] = core.multi_modal_projector(core.change_extraction(encoded_pairs))
    return features


def pair_features(core: Any, encoded_pairs: torch.Tensor) -> torch.Tensor:
    """Both dates as two plain images, the base model's way: `(pairs, 2, tokens, dim)`."""
    return core.multi_modal_projector(encoded_pairs.flatten(0, 1)).unflatten(0, (-1, 2))


def own_features(core: Any, inputs: Features) -> Features:
    """What a base model that sees otherwise reads, by its own look at the pixels."""
    pixels = {name: value.to(core.device) for name, value in inputs.items() if name.startswith("pixel_values")}
    features = _plain_features(core, pixels)
    if "pixel_values_pairs" in pixels:
        features["pair_features"] = pair_features(core, core.encode_pairs(pixels["pixel_values_pairs"]))
    return features


def _plain_features(core: Any, inputs: Features) -> Features:
    features = {}
    if "pixel_values" in inputs:
        features["image_features"] = core.get_image_features(inputs["pixel_values"])
    if "pixel_values_videos" in inputs:
        features["video_features"] = core.get_video_features(inputs["pixel_values_videos"])
    return features


def shown_by(questions: Sequence[Any], rows: Sequence[Blocks], features: Features) -> list[Shown | None]:
    """Each question's share of the features; it is about the last turn with pictures, so about the last of a row.

    Args:
        questions: A conversation of one turn, or whatever is none, by row.
        features: `image_features`, `pair_features` and `video_features` of all rows.

    Raises:
        ValueError: A row's placeholders are not those of its pictures.
    """
    rest: dict[str, Iterator[torch.Tensor]] = {name: iter(value) for name, value in features.items()}
    found: list[Shown | None] = []
    for question, row in zip(questions, rows, strict=True):
        singles = [next(rest["image_features"]) for _ in range(row.singles)]
        pairs = [next(rest["pair_features"]) for _ in range(row.pairs)]  # (2, tokens, dim) each
        clips = [[next(rest["video_features"]) for _ in range(length)] for length in row.clips]
        if not isinstance(question, list):
            found.append(None)
            continue
        kinds = [item["type"] for item in question[0]["content"]]
        images, videos = sum(kind.startswith("image") for kind in kinds), kinds.count("video")
        taken = videos + (images > 2)  # three and more images are a clip
        shown = [] if images > 2 else list(pairs[-1]) if images == 2 and pairs else singles[len(singles) - images :]
        if taken > len(clips) or (images <= 2 and len(shown) != images):
            raise ValueError(
                f"a turn has {images} images and {videos} clips, and its row placeholders for {row.singles} images, "
                f"{row.pairs} pairs and {len(row.clips)} clips: prompt and conversation do not belong together"
            )
        found.append(Shown(shown, clips[len(clips) - taken :]))
    return found


__all__ = ["Shown", "answer_features", "blocks_of", "own_features", "pair_features", "see_alike", "shown_by"]
