"""What vLLM calls in each of its processes where this package is installed (entry point `vllm.general_plugins`)."""

from typing import Any

import transformers  # noqa: F401 - first, because UniRS registers itself once this is loaded
from transformers import AutoProcessor

from .modeling_unirs.configuration_unirs import UniRSConfig
from .processing import processing_unirs
from .processing.prompts_unirs import FRAME_MARKERS, VIDEO_MARKER

CLIP_MARKER = FRAME_MARKERS[0]  # stands in prompts where `<video>` stands elsewhere


class UniRSProcessor(processing_unirs.UniRSProcessor):
    """The processor with `<Frame 1>` for a clip in its chat template. AutoProcessor finds it by this name.

    vLLM looks for markers among token ids. `<video>` is no token of its own, so there it could not be told from the
    same word typed by somebody.
    """

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> "UniRSProcessor":
        """Like every processor's.

        Raises:
            ValueError: The folder has several chat templates.
        """
        processor = super().from_pretrained(*args, **kwargs)
        if not isinstance(processor.chat_template, str):
            raise ValueError("vLLM takes one chat template, this folder has several: keep chat_template.jinja alone")
        processor.chat_template = processor.chat_template.replace(VIDEO_MARKER, CLIP_MARKER)
        return processor


def register() -> None:
    from vllm import ModelRegistry

    # By name, because vLLM wants to import models late.
    ModelRegistry.register_model("UniRSForConditionalGeneration", "unirs.vllm_model:UniRSForVLLM")
    AutoProcessor.register(UniRSConfig, UniRSProcessor, exist_ok=True)
