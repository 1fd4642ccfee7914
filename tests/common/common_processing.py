"""transformers' ProcessorTesterMixin on UniRS; run by `make test-common`, see run.sh and README.md."""

import unittest

from tests.test_processing_common import ProcessorTesterMixin

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
