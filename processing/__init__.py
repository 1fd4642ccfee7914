"""Pictures, pairs, clips and words to tensors. `*_unirs.py` are published with every checkpoint."""

import transformers  # noqa: F401 - first, because UniRS registers itself once this is loaded

from .image_loading_unirs import VisualInputError, load_image
from .image_processing_unirs import UniRSImageProcessor
from .processing_unirs import UniRSProcessor
from .tokenizer import prepare_tokenizer
from .video_loading_unirs import load_video
from .video_processing_unirs import UniRSVideoProcessor

__all__ = [
    "UniRSImageProcessor",
    "UniRSProcessor",
    "UniRSVideoProcessor",
    "VisualInputError",
    "load_image",
    "load_video",
    "prepare_tokenizer",
]
