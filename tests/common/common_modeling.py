"""transformers' ModelTesterMixin on UniRS; run by `make test-common`, see run.sh and README.md."""

import copy
import unittest

import torch
from tests.test_modeling_common import ModelTesterMixin

import unirs

from .tiny import SIZE, tiny_config, tiny_processor, tiny_tokenizer


class UniRSModelTester:
    """A batch of two samples, one image each: what the common tests know how to slice."""

    is_training = True

    def __init__(self, parent):
        self.parent = parent
        self.processor = tiny_processor(tiny_tokenizer())
        self.batch_size, self.seq_length = 2, 12
        config = self.get_config()
        self.hidden_size = config.text_config.hidden_size
        self.num_hidden_layers = config.text_config.num_hidden_layers
        self.num_attention_heads = config.text_config.num_attention_heads

    def get_config(self):
        return tiny_config(self.processor)

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        ids = torch.randint(5, 300, (self.batch_size, self.seq_length))
        ids[:, 1 : 1 + config.image_seq_length] = config.image_token_id
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": torch.randn(self.batch_size, 3, SIZE, SIZE),
        }
        return config, inputs


class UniRSModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (unirs.UniRSModel, unirs.UniRSForConditionalGeneration)
    _is_composite = True
    test_resize_embeddings = True

    def setUp(self):
        self.model_tester = UniRSModelTester(self)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """The mixin adds labels by class name for its own models only."""
        inputs = copy.deepcopy(inputs_dict)
        if return_labels and model_class is unirs.UniRSForConditionalGeneration:
            inputs["labels"] = inputs["input_ids"].clone()
        return inputs
