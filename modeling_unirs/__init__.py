"""The network. `*_unirs.py` are published with every checkpoint, flat and unchanged."""

import transformers  # noqa: F401 - first, because UniRS registers itself once this is loaded

from .configuration_unirs import UniRSConfig
from .modeling_unirs import UniRSForConditionalGeneration, UniRSModel, UniRSPreTrainedModel
from .prompt_augmentation_unirs import PromptAugmenter

__all__ = ["PromptAugmenter", "UniRSConfig", "UniRSForConditionalGeneration", "UniRSModel", "UniRSPreTrainedModel"]
