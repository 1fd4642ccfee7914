"""transformers' ProcessorTesterMixin on UniRS; run by `make test-common`, see run.sh and README.md."""

import unittest

from tests.test_processing_common import ProcessorTesterMixin
from transformers import AutoImageProcessor, AutoProcessor

import unirs

from .tiny import PATCH, SIZE, tiny_tokenizer


class UniRSProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = unirs.UniRSProcessor

    @classmethod
    def _setup_image_processor(cls):
        return unirs.UniRSImageProcessor(size={"height": SIZE, "width": SIZE})

    @classmethod
    def _setup_tokenizer(cls):
        return tiny_tokenizer()

    @classmethod
    def _setup_test_attributes(cls, processor):
        cls.image_token = processor.image_token
        cls.video_token = processor.video_token

    @staticmethod
    def prepare_processor_dict():
        return {"patch_size": PATCH, "num_frames": 4}

    @unittest.skip("num_frames is saved with the processor and may be changed for one call, as --num-frames does")
    def test_init_arguments_not_in_processor_kwargs(self):
        pass

    @unittest.skip("the names include pixel_values_pairs, and the mixin's batch has no pair")
    def test_model_input_names(self):
        pass

    @unittest.skip("the mixin writes an image and a video marker but hands no video over; refused on purpose")
    def test_processor_with_multiple_inputs(self):
        pass

    def test_processor_from_and_save_pretrained(self):
        """The mixin's test, but a saved custom processor gains an `auto_map`, which is left out of the comparison."""
        processor = self.get_processor()
        processor.save_pretrained(self.tmpdirname)
        reloaded = AutoProcessor.from_pretrained(self.tmpdirname)
        assert _settings(reloaded) == _settings(processor)

    def test_processor_from_and_save_pretrained_as_nested_dict(self):
        processor = self.get_processor()
        processor.save_pretrained(self.tmpdirname)
        image_processor = AutoImageProcessor.from_pretrained(self.tmpdirname)
        assert type(image_processor) is unirs.UniRSImageProcessor
        assert _settings(image_processor) == _settings(processor)["image_processor"]


def _settings(thing) -> dict:
    settings = {name: value for name, value in thing.to_dict().items() if name != "auto_map"}
    if "image_processor" in settings:
        settings["image_processor"].pop("auto_map", None)
    return settings
