"""Registers the pipelines of UniRS with transformers, where the package is installed."""

from pathlib import Path

from transformers import AutoModelForImageTextToText
from transformers.pipelines import PIPELINE_REGISTRY

from .pipeline_unirs import (
    ChangeCaptioningPipeline,
    VideoSceneClassificationPipeline,
    VisualQuestionAnsweringPipeline,
)

PIPELINES = {
    "rs-visual-question-answering": VisualQuestionAnsweringPipeline,
    "change-captioning": ChangeCaptioningPipeline,
    "video-scene-classification": VideoSceneClassificationPipeline,
}
PIPELINE_FILE = Path(__file__).with_name("pipeline_unirs.py")


def register_pipelines() -> None:
    for task, pipeline_class in PIPELINES.items():
        if task not in PIPELINE_REGISTRY.get_supported_tasks():
            PIPELINE_REGISTRY.register_pipeline(
                task, pipeline_class=pipeline_class, pt_model=AutoModelForImageTextToText, type="multimodal"
            )
