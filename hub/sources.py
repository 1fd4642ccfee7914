"""The layouts that weights come in: VILA-1.5, released UniRS, separate parts, UniRS itself, a Change Extraction."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedConfig

from ..modeling_unirs.configuration_unirs import UniRSConfig
from ..processing import UniRSImageProcessor, UniRSProcessor, prepare_tokenizer
from .released_names import (
    CHANGE,
    PROJECTOR,
    PROJECTOR_NAMES,
    change_name,
    place_language,
    place_tower,
    prefixed,
    rename,
)
from .weight_files import Weight, WeightError, read_weights, weight_files

UNIRS = "UniRS"


@dataclass
class Source:
    """What a source holds, in our names."""

    kind: str
    config: UniRSConfig
    processor: UniRSProcessor
    files: list[Path]
    found: dict[str, Weight]  # by the source's names
    place: Callable[[str], str | None]  # the source's name to ours; None where it has none
    generation: dict[str, Any]


def open_source(folder: Path, language_model: Path | None) -> Source:
    if not folder.is_dir():
        raise WeightError(f"{folder}: is no folder; give the folder of a model")
    if (folder / "llm").is_dir() and (folder / "mm_projector").is_dir():
        return open_vila(folder)
    kind = read_json(folder / "config.json").get("model_type")
    if kind == "unirs":
        return open_unirs(folder)
    if language_model is None:
        raise WeightError(
            f"{folder}: is a model of type {kind}, without llm/, vision_tower/ and mm_projector/; "
            "for a vision tower give its language model too (--language-model)"
        )
    return open_parts(folder, language_model)


def open_vila(folder: Path) -> Source:
    """VILA-1.5's three sub-folders, with the projector of VILA-1.5 or of the released UniRS code."""
    settings = read_json(folder / "config.json")
    if settings.get("s2"):
        raise WeightError(f"{folder}: is an S2 (multi-scale) model; take one without S2")
    ratio = settings.get("image_aspect_ratio", "pad")
    if ratio not in ("pad", "resize"):
        raise WeightError(f"{folder}: image_aspect_ratio is {ratio!r}; 'pad' and 'resize' are known")
    parts = {name: read_weights(folder / name) for name in ("llm", "vision_tower", "mm_projector")}
    found = {f"{part}/{key}": weight for part, weights in parts.items() for key, weight in weights.items()}
    projector = [key.removeprefix("layers.") for key in parts["mm_projector"]]
    released = any(key.startswith("change.") for key in projector)

    def place(key: str) -> str | None:
        part, _, name = key.partition("/")
        if part != "mm_projector":
            return place_tower(name) if part == "vision_tower" else place_language(name)
        name = name.removeprefix("layers.")
        if released and name.startswith("change."):
            return prefixed(CHANGE, change_name(name.removeprefix("change.")))
        return prefixed(PROJECTOR, rename(name.removeprefix("single."), PROJECTOR_NAMES))

    config, processor = assemble(
        vision=folder / "vision_tower",
        language=folder / "llm",
        change={name: weight for key, weight in found.items() if (name := place(key)) and name.startswith(CHANGE)},
        image_aspect_ratio=ratio,
        num_frames=int(settings.get("num_video_frames") or 8),
    )
    resolution = settings.get("vision_resolution", -1)
    if resolution not in (-1, config.vision_config.image_size):
        raise WeightError(
            f"{folder}: vision_resolution is {resolution}, its tower's pictures have "
            f"{config.vision_config.image_size} pixels; only equal ones can be converted"
        )
    return Source(
        kind="released UniRS" if released else "VILA-1.5",
        config=config,
        processor=processor,
        files=[file for part in parts for file in weight_files(folder / part)],
        found=found,
        place=place,
        generation=read_json(folder / "llm" / "generation_config.json", needed=False),
    )


def open_parts(vision: Path, language: Path) -> Source:
    """A vision tower and a language model that have never met."""
    found = {f"vision_tower/{key}": weight for key, weight in read_weights(vision).items()}
    found |= {f"llm/{key}": weight for key, weight in read_weights(language).items()}
    config, processor = assemble(vision, language, {}, "pad", 8)

    def place(key: str) -> str | None:
        part, _, name = key.partition("/")
        return place_tower(name) if part == "vision_tower" else place_language(name)

    return Source(
        kind="vision tower and language model",
        config=config,
        processor=processor,
        files=weight_files(vision) + weight_files(language),
        found=found,
        place=place,
        generation=read_json(language / "generation_config.json", needed=False),
    )


def open_unirs(folder: Path) -> Source:
    try:
        config = UniRSConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightError(f"{folder}: its config.json describes no UniRS model ({one_line(error)})") from error
    generation = read_json(folder / "generation_config.json", needed=False)
    try:
        GenerationConfig(**generation).validate(strict=True)  # as saving will, once the weights are written
    except (ValueError, TypeError, AttributeError) as error:
        file = folder / "generation_config.json"
        raise WeightError(f"{file}: cannot be used ({one_line(error)}); mend or remove it") from error
    return Source(
        kind=UNIRS,
        config=config,
        processor=read_processor(folder),
        files=weight_files(folder),
        found=read_weights(folder),
        place=lambda key: key,
        generation=generation,
    )


def assemble(
    vision: Path, language: Path, change: dict[str, Weight], image_aspect_ratio: str, num_frames: int
) -> tuple[UniRSConfig, UniRSProcessor]:
    """Configuration and processor of a vision tower and a language model."""
    vision_config = read_config(vision)
    vision_config = getattr(vision_config, "vision_config", vision_config)
    text_config = read_config(language)
    try:
        tokenizer = AutoTokenizer.from_pretrained(language, trust_remote_code=False)
    except Exception as error:  # tokenizers raises nothing narrower on a damaged file
        raise WeightError(f"{language}: its tokenizer cannot be read ({one_line(error)})") from error
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.unk_token or tokenizer.eos_token
    prepare_tokenizer(tokenizer)
    preprocessing = read_json(vision / "preprocessor_config.json", needed=False)
    image_processor = UniRSImageProcessor(
        size={"height": vision_config.image_size, "width": vision_config.image_size},
        image_aspect_ratio=image_aspect_ratio,
        **{name: preprocessing[name] for name in ("image_mean", "image_std", "resample") if name in preprocessing},
    )
    processor = UniRSProcessor(image_processor, tokenizer, patch_size=vision_config.patch_size, num_frames=num_frames)
    text_config.vocab_size = max(text_config.vocab_size, -(-len(tokenizer) // 64) * 64)
    layers = [int(match[1]) for name in change if (match := re.match(rf"{CHANGE}layers\.(\d+)\.", name))]
    width = {weight.shape[0] for name, weight in change.items() if name.endswith("per_date.attention.q_proj.weight")}
    config = UniRSConfig(
        vision_config=vision_config,
        text_config=text_config,
        image_token_id=processor.image_token_id,
        change_token_id=processor.change_token_id,
        frame_token_ids=processor.frame_token_ids,
        # SigLIP's towers have none; others may put class and register tokens before the patches
        vision_feature_select_strategy="full" if vision_config.model_type.startswith("siglip") else "default",
        change_num_hidden_layers=max(layers, default=-1) + 1,
        **({"change_attention_dim": width.pop()} if width else {}),
    )
    return config, processor


def read_change_extraction(path: Path) -> dict[str, Weight]:
    """A trained Change Extraction from a file or folder, by our names; whatever else the file holds is not read."""
    if not path.exists():
        raise WeightError(f"{path}: no such file or folder; give the Change Extraction that stage 1 saved")
    found: dict[str, Weight] = {}
    for key, weight in read_weights(path).items():
        if "layers.change." in key:
            name = change_name(key.rpartition("layers.change.")[2])
        elif "change_extraction." in key:
            name = key.rpartition("change_extraction.")[2]
        else:
            continue
        if name:
            found[CHANGE + name] = weight
    if not found:
        raise WeightError(f"{path}: holds no tensors of a Change Extraction (change_extraction.* or layers.change.*)")
    return found


def read_json(file: Path, needed: bool = True) -> dict[str, Any]:
    if not needed and not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightError(f"{file}: is missing; copy or download the folder again") from error
    except (OSError, ValueError) as error:
        raise WeightError(f"{file}: cannot be read ({one_line(error)})") from error
    if not isinstance(found, dict):
        raise WeightError(f"{file}: holds no settings; copy or download it again")
    return found


def read_config(folder: Path) -> PreTrainedConfig:
    read_json(folder / "config.json")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightError(f"{folder}: its config.json names no model of transformers ({one_line(error)})") from error


def read_processor(folder: str | Path) -> UniRSProcessor:
    try:
        return UniRSProcessor.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # tokenizers raises nothing narrower on a damaged file
        raise WeightError(f"{folder}: its processor cannot be read ({one_line(error)}); save it again") from error


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
