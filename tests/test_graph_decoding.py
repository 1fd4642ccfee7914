"""What is recorded says what `generate` says. Without a GPU it runs as it is, not recorded."""

import pytest
import torch

from tests.test_generation import CONVERSATIONS
from tests.tiny import encode, tiny_model
from unirs.graph_decoding import CHUNK, GraphDecoder


@pytest.fixture(scope="module")
def spoken(processor):
    """A model that goes on speaking: no token ends its answers."""
    model = tiny_model(processor)
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture
def decoder(spoken, monkeypatch):
    """Steps run one by one where a GPU would replay them."""

    def recorded(self, run):
        self._compiled = self._next_token
        with torch.inference_mode(False), torch.no_grad():
            run()  # as on a GPU: once before, with whatever lies in the buffers
        return run

    monkeypatch.setattr(GraphDecoder, "_recorded", recorded)
    return GraphDecoder(spoken, max_length=512)


def prompts(processor):
    return {
        name: encode(processor, conversation, **options) for name, (conversation, options) in CONVERSATIONS.items()
    }


def says(model, inputs, tokens, **options):
    return model.generate(**inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=0, **options)[0].tolist()


def test_every_kind_of_prompt_is_answered_as_by_generate_one_after_another(spoken, decoder, processor):
    for inputs in prompts(processor).values():
        assert says(spoken, inputs, 24, custom_generate=decoder) == says(spoken, inputs, 24)


@pytest.mark.parametrize("tokens", [1, 2, CHUNK, CHUNK + 1, CHUNK + 2, 3 * CHUNK])
def test_an_answer_of_any_length_ends_where_it_should(spoken, decoder, processor, tokens):
    inputs = prompts(processor)["single"]
    assert says(spoken, inputs, tokens, custom_generate=decoder) == says(spoken, inputs, tokens)


@pytest.mark.parametrize("place", [0, 1, 5, CHUNK, CHUNK + 3])
def test_an_answer_ends_with_its_last_token(spoken, decoder, processor, place):
    inputs = prompts(processor)["pair"]
    answer = says(spoken, inputs, 40)[inputs["input_ids"].shape[1] :]
    end = {"eos_token_id": answer[place]}
    assert says(spoken, inputs, 40, custom_generate=decoder, **end) == says(spoken, inputs, 40, **end)


def test_what_is_suppressed_is_not_said_and_not_remembered(spoken, decoder, processor):
    inputs = prompts(processor)["video"]
    plain = says(spoken, inputs, 20)
    silent = {"suppress_tokens": plain[-3:]}
    assert says(spoken, inputs, 20, custom_generate=decoder, **silent) == says(spoken, inputs, 20, **silent) != plain
    assert says(spoken, inputs, 20, custom_generate=decoder) == plain


def test_the_step_is_one_graph(spoken, decoder, processor):
    """Inductor gets it whole, or nothing could be recorded."""
    inputs = prompts(processor)["single"]
    says(spoken, inputs, 2, custom_generate=decoder)
    whole = torch.compile(decoder._next_token, fullgraph=True, backend="eager")
    decoder._replay, decoder._compiled = decoder._step, whole
    assert says(spoken, inputs, 12, custom_generate=decoder) == says(spoken, inputs, 12)
    torch.compiler.reset()


def test_what_a_recorded_step_cannot_do_is_refused(spoken, decoder, processor, model):
    inputs = prompts(processor)["single"]
    filled = spoken(input_ids=torch.arange(5, 9)[None], use_cache=True).past_key_values
    two = {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in inputs.items()}
    cases = [
        (spoken, inputs, {"repetition_penalty": 1.3}, "does not know RepetitionPenaltyLogitsProcessor"),
        (spoken, inputs, {"max_time": 9.0}, "does not know MaxTimeCriteria"),
        (spoken, inputs, {"return_dict_in_generate": True}, "returns tokens alone"),
        (spoken, two, {}, "one sequence"),
        (spoken, {**inputs, "attention_mask": inputs["attention_mask"].clone().fill_(0)}, {}, "without padding"),
        (spoken, inputs, {"max_new_tokens": 600}, "larger max_length"),
        (model, inputs, {}, "another model"),
        (spoken, inputs, {"past_key_values": filled}, "no filled cache"),
        (spoken, inputs, {"position_ids": torch.arange(inputs["input_ids"].shape[1])[None] + 3}, "no position_ids"),
        (spoken, {"inputs_embeds": spoken.get_input_embeddings()(torch.arange(5, 9)[None])}, {}, "no inputs_embeds"),
    ]
    for asked, given, options, message in cases:
        with pytest.raises(ValueError, match=message):
            asked.generate(
                **given,
                custom_generate=decoder,
                **{"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0} | options,
            )


def test_a_model_in_training_is_refused(spoken, decoder, processor):
    spoken.train()
    try:
        with pytest.raises(ValueError, match="eval mode"):
            says(spoken, prompts(processor)["single"], 4, custom_generate=decoder)
    finally:
        spoken.eval()


def test_a_decoder_begun_in_inference_mode_goes_on_outside_of_it(spoken, decoder, processor):
    inputs = prompts(processor)["single"]
    with torch.inference_mode():
        begun = GraphDecoder(spoken, max_length=512)
        first = says(spoken, inputs, 6, custom_generate=begun)
    assert first == says(spoken, inputs, 6, custom_generate=begun) == says(spoken, inputs, 6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_use(spoken, processor):
    with pytest.raises(ValueError, match=r"unirs\.compiled_decoding"):
        says(spoken, prompts(processor)["single"], 4, custom_generate=GraphDecoder(spoken, max_length=512))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_the_recorded_step_says_the_same(processor):
    model = tiny_model(processor).cuda()
    model.generation_config.eos_token_id = None
    decoder = GraphDecoder(model, max_length=512, tuned=False)
    for inputs in prompts(processor).values():
        given = inputs.to("cuda")
        plain = says(model, given, 40)
        silent = {"suppress_tokens": plain[-3:]}
        assert says(model, given, 40, custom_generate=decoder, **silent) == says(model, given, 40, **silent) != plain
        assert says(model, given, 40, custom_generate=decoder) == plain
