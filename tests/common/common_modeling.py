"""transformers' ModelTesterMixin on UniRS; run by `make test-common`, see run.sh and README.md."""

import copy
import unittest
import unittest.mock

import torch
from tests.test_modeling_common import ModelTesterMixin

import unirs

from .tiny import SIZE, tiny_config, tiny_processor, tiny_tokenizer


class UniRSModelTester:
    """A batch of two samples with an image and a pair each: what the common tests know how to slice."""

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
        length = config.image_seq_length
        ids[:, 1 : 1 + length] = config.image_token_id
        ids[:, 2 + length : 2 + 2 * length] = config.change_token_id
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": torch.randn(self.batch_size, 3, SIZE, SIZE),
            "pixel_values_pairs": torch.randn(self.batch_size, 2, 3, SIZE, SIZE),
        }
        return config, inputs


FEATURES = "the public get_image_features and get_video_features return a tensor (n, 196, dim)"


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

    def check_training_gradient_checkpointing(self, *args, **kwargs):
        with self._only_with_head():
            super().check_training_gradient_checkpointing(*args, **kwargs)

    def test_training(self):
        with self._only_with_head():
            super().test_training()

    def _only_with_head(self):
        """Only the model with a head has a loss; the mixin knows that of transformers' own models by name."""
        return unittest.mock.patch.object(self, "all_model_classes", (unirs.UniRSForConditionalGeneration,))

    @unittest.skip("GenerationTesterMixin is not in the source distribution; tests/test_generation.py stands for it")
    def test_generation_tester_mixin_inheritance(self):
        pass


def _skip(reason):
    def test(self):
        self.skipTest(reason)

    return test


for kind in ("image", "video"):
    for what in ("output_0", "output_1", "output_2", "hidden_states", "attentions"):
        setattr(UniRSModelTest, f"test_get_{kind}_features_{what}", _skip(FEATURES))
