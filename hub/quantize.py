"""A UniRS folder with the language model's matrices as 8-bit integers: half of what each said token reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from transformers import TorchAoConfig

from ..extras import install_command
from ..modeling_unirs.configuration_unirs import UniRSConfig
from ..modeling_unirs.modeling_unirs import UniRSForConditionalGeneration
from ..processing import UniRSProcessor
from .card import Provenance
from .loading import LoadingError, check_whole
from .sources import UNIRS, one_line, open_source
from .weight_files import WeightError
from .whole_folder import check_free, whole_folder

# What sees stays as it is: it works once a picture, and its errors would reach every word. So does the head.
KEPT = ["model.vision_tower", "model.change_extraction", "model.multi_modal_projector", "lm_head"]


def is_quantized(config: UniRSConfig) -> bool:
    return getattr(config, "quantization_config", None) is not None


def quantize(source: str | Path, target: str | Path) -> int:
    """Makes a folder whose language model has int8 matrices, each row with a scale of its own (torchao, weight-only).

    transformers loads it like any other where torchao is installed. Without a compiled model torchao turns the
    matrices back at every step, which is slower than bfloat16: see `docs/performance.md`.

    Args:
        source: A UniRS folder.
        target: Folder to make. It appears when it is complete, or not at all.

    Returns:
        Bytes of the weight files.

    Raises:
        WeightError: The source is no complete UniRS folder, or is quantised already.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    check_free(target)
    if importlib.util.find_spec("torchao") is None:
        raise WeightError(f"int8 needs torchao, which is not installed: {install_command('int8')}")
    opened = open_source(source, None)
    if opened.kind != UNIRS:
        raise WeightError(f"{source}: is no UniRS folder; convert it first, without --int8")
    if is_quantized(opened.config):
        raise WeightError(f"{source}: is quantised already")
    from torchao.quantization import Int8WeightOnlyConfig

    settings = TorchAoConfig(Int8WeightOnlyConfig(version=2), modules_to_not_convert=KEPT)
    try:
        model, loading = UniRSForConditionalGeneration.from_pretrained(
            source, dtype=torch.bfloat16, quantization_config=settings, output_loading_info=True
        )
        check_whole(loading)
    except LoadingError as error:
        raise WeightError(f"{source}: {error}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightError(f"{source}: cannot be loaded ({one_line(error)})") from error
    record = Provenance.of_folder(source)
    with whole_folder(target, sum(file.stat().st_size for file in opened.files)) as partial:
        model.save_pretrained(partial)
        UniRSProcessor.from_pretrained(source).save_pretrained(partial)
        # scores were those of other weights
        Provenance(record.conversion, record.training, {}).write(partial)
        return sum(file.stat().st_size for file in partial.glob("*.safetensors"))
