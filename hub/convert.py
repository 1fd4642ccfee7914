"""Weights of others become a UniRS folder: every tensor used or named, every parameter filled or named."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import GenerationConfig
from transformers.dynamic_module_utils import custom_object_save

from ..modeling_unirs.configuration_unirs import UniRSConfig
from ..modeling_unirs.modeling_unirs import UniRSForConditionalGeneration
from .released_names import CHANGE, LANGUAGE, PROJECTOR, reason_to_leave_out
from .sources import UNIRS, Source, one_line, open_source, read_change_extraction
from .weight_files import DTYPES, Weight, WeightError, of_tensor, same_bytes, weight_files, write_weights
from .whole_folder import check_free, counting, sha256, whole_folder

RECORD = "conversion.json"
LISTED = 8  # names in an error
LONGEST_ANSWER = 256  # tokens, where the caller says nothing


@dataclass(frozen=True)
class Report:
    """What `convert` did; saved as `conversion.json`."""

    source_format: str
    sources: dict[str, str]  # file, without the folders above what was given: SHA-256
    used: int
    left_out: dict[str, str]  # tensor of the source: why
    fresh: list[str]  # parameters that the source does not have, newly initialised
    parameters: int
    date: str
    versions: dict[str, str]


def convert(
    source: str | Path,
    target: str | Path,
    language_model: str | Path | None = None,
    change_extraction: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Makes a UniRS folder from weights in another layout, tensor by tensor.

    Args:
        source: A VILA-1.5 folder, a folder of the released UniRS code, a SigLIP folder (with `language_model`), or a
            UniRS folder (with `change_extraction`).
        target: Folder to make. It appears when it is complete, or not at all.
        language_model: Folder of a causal language model, where `source` is a vision tower alone.
        change_extraction: File or folder of a trained Change Extraction to put in, in our names or the released ones.
        seed: Of whatever the source lacks and is newly initialised.
        progress: Is told bytes written and bytes in all.

    Raises:
        WeightError: The source is incomplete, damaged or of another kind; the message lists what does not fit.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    check_free(target)
    opened = open_source(source, Path(language_model).expanduser() if language_model else None)
    grafted = Path(change_extraction).expanduser() if change_extraction else None
    if opened.kind == UNIRS and grafted is None:
        raise WeightError(
            f"{source}: is a UniRS folder already; put a Change Extraction in (--change-extraction), or publish it"
        )
    model = empty_model(source, opened)
    weights, left_out, fresh = fill(model, opened, grafted, seed)
    loaded = opened.config.dtype if opened.kind == UNIRS else None  # a whole model's type stays
    model.config.dtype = loaded or language_dtype(weights)

    needed = sum(weight.size for weight in weights.values())
    files = opened.files + (weight_files(grafted) if grafted else [])
    given = [source, *(Path(one).expanduser() for one in (language_model, change_extraction) if one)]
    # The record is published: it leaves out the folders that all sources share, mostly where they lie here.
    parents = zip(*(one.absolute().parent.parts for one in given), strict=False)
    above = sum(1 for _ in takewhile(lambda parts: len({*parts}) == 1, parents))
    named = {Path(*file.absolute().parts[above:]).as_posix(): file for file in files}
    # Hashing runs beside copying.
    with whole_folder(target, needed) as partial, ThreadPoolExecutor(1) as pool:
        hashes = pool.submit(lambda: {name: sha256(file) for name, file in named.items()})
        write_weights(partial, weights, tick=counting(progress, needed))
        write_rest(partial, opened, model)
        report = Report(
            source_format=opened.kind,
            sources=hashes.result(),
            used=len(weights) - sum(name in weights for name in fresh),
            left_out=left_out,
            fresh=fresh,
            parameters=sum(math.prod(weight.shape) for weight in weights.values()),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            versions={"transformers": transformers.__version__, "torch": torch.__version__},
        )
        (partial / RECORD).write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


def empty_model(folder: Path, source: Source) -> UniRSForConditionalGeneration:
    """The network that the source describes, without memory for its weights."""
    try:
        with torch.device("meta"):
            return UniRSForConditionalGeneration(source.config)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        raise WeightError(f"{folder}: its config.json describes no model that works ({one_line(error)})") from error


# -- filling ---------------------------------------------------------------------------------------------------------
def fill(
    model: UniRSForConditionalGeneration, source: Source, grafted: Path | None, seed: int
) -> tuple[dict[str, Weight], dict[str, str], list[str]]:
    """Weights by our names, tensors of the source left out with the reason, parameters that are fresh.

    Raises:
        WeightError: With the list of what has no place, fits no shape, or is missing.
    """
    tied = bool(source.config.tie_word_embeddings)
    expected = {
        name: of_tensor(tensor)
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    weights: dict[str, Weight] = {}
    left_out: dict[str, str] = {}
    wrong: list[str] = []
    for key, weight in source.found.items():
        name = source.place(key)
        if name in weights:
            wrong.append(f"{key} is there twice")
        elif grafted is not None and name is not None and name.startswith(CHANGE):
            left_out[key] = f"replaced by {grafted.name}"
        elif name is not None and name in expected:
            weights[name] = weight
        elif reason := reason_to_leave_out(key, name, expected, tied):
            left_out[key] = reason
        else:
            wrong.append(f"{key} has no place")
    if grafted is not None:
        trained = read_change_extraction(grafted)
        weights |= trained
        wrong += [f"{grafted.name}: {name} has no place" for name in trained if name not in expected]

    embeddings = weights.get(f"{LANGUAGE}embed_tokens.weight")
    for key in left_out:
        head = source.found[key]
        if source.place(key) == "lm_head.weight" and embeddings is not None and not same_bytes(head, embeddings):
            wrong.append(f"{key} is not the embeddings' matrix, with which config.json ties it (tie_word_embeddings)")

    fresh = pad_vocabulary(weights, source.config.text_config.vocab_size)
    missing = [name for name in expected if name not in weights]
    for module, prefix in ((model.model.change_extraction, CHANGE), (model.model.multi_modal_projector, PROJECTOR)):
        own = [name for name in expected if name.startswith(prefix)]
        if set(own) <= set(missing):
            dtype = language_dtype(weights)
            for name, tensor in fresh_module(model, module, seed).items():
                weights[prefix + name] = of_tensor(tensor.to(dtype) if tensor.is_floating_point() else tensor)
            fresh += own
    wrong += [f"{name} is missing" for name in expected if name not in weights]
    wrong += [
        f"{name} has the shape {list(weight.shape)}, not {list(expected[name].shape)}"
        for name, weight in weights.items()
        if name in expected and weight.shape != expected[name].shape
    ]
    if wrong:
        raise WeightError(
            f"{len(wrong)} tensors do not fit: {'; '.join(wrong[:LISTED])}{' ...' if len(wrong) > LISTED else ''}"
        )
    return {name: weights[name] for name in expected}, left_out, fresh


def language_dtype(weights: dict[str, Weight]) -> torch.dtype:
    """The type that the language model is stored in; the configuration names it and fresh weights get it."""
    return next((DTYPES[weight.dtype] for name, weight in weights.items() if name.startswith(LANGUAGE)), torch.float32)


def pad_vocabulary(weights: dict[str, Weight], rows: int) -> list[str]:
    """Rows for the markers, up to a multiple of 64: the mean of the others, so that none stands out.

    Embeddings differ from it in one place each, by what bfloat16 still tells apart: given `inputs_embeds` alone, the
    model knows a marker by its row.
    """
    fresh = []
    for name in (f"{LANGUAGE}embed_tokens.weight", "lm_head.weight"):
        weight = weights.get(name)
        if weight is not None and weight.shape[0] < rows:
            mean = weight.load().float().mean(0)
            added = mean.repeat(rows - weight.shape[0], 1)
            if name != "lm_head.weight":
                row, width = torch.arange(len(added)), len(mean)
                added[row, row % width] += (1 + row // width) * 2 * torch.finfo(torch.bfloat16).eps * mean.abs().max()
            weights[name] = weight.with_rows(added)
            fresh.append(f"{name}[{weight.shape[0]}:{rows}]")
    return fresh


def fresh_module(model: UniRSForConditionalGeneration, module: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """A module of the model on the meta device, initialised as transformers would, in memory."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module.to_empty(device="cpu")
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.reset_running_stats()
        module.apply(model._init_weights)
    return module.state_dict()


# -- what stands beside the weights ----------------------------------------------------------------------------------
def write_rest(folder: Path, source: Source, model: UniRSForConditionalGeneration) -> None:
    """Configuration, code, processor and generation settings, as `save_pretrained` writes them."""
    model.config.architectures = [type(model).__name__]
    custom_object_save(model, folder, config=model.config)
    model.config.save_pretrained(folder)
    for file in model.companion_files:
        shutil.copy(file, folder)
    source.processor.save_pretrained(folder)
    generation_config(source, model.config).save_pretrained(folder)


def generation_config(source: Source, config: UniRSConfig) -> GenerationConfig:
    """Settings of `generate`: those of a UniRS folder as they are, else the language model's end and no markers."""
    if source.kind == UNIRS and source.generation:
        return GenerationConfig(**source.generation)
    tokenizer = source.processor.tokenizer
    # No marker and no row of padding may ever be said.
    silent = {config.image_token_id, config.change_token_id, *config.frame_token_ids}
    silent |= set(range(len(tokenizer), config.text_config.vocab_size))
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=source.generation.get("eos_token_id", tokenizer.eos_token_id),
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=LONGEST_ANSWER,
        suppress_tokens=sorted(silent),
    )
