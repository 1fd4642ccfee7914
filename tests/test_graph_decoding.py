"""What is recorded says what `generate` says. Without a GPU it runs as it is, not recorded."""

import importlib.metadata

import pytest
import torch

from tests.test_generation import CONVERSATIONS, mixed_batch
from tests.tiny import encode, picture, tiny_model, user
from unirs.graph_decoding import BLOCK, CHUNK, WARM_UP, GraphDecoder


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
            for _ in range(WARM_UP):  # as on a GPU, with whatever lies in the buffers
                run()
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


@pytest.mark.parametrize("batch_size", [5, 8])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_batch_of_all_kinds_says_what_each_says_alone(spoken, decoder, processor, batch_size, attention):
    """Padded on the left, with rows that nobody asks, again and again."""
    spoken.set_attn_implementation(attention)
    try:
        many, inputs = GraphDecoder(spoken, max_length=512, batch_size=batch_size), mixed_batch(processor)
        assert not inputs["attention_mask"].all()
        for tokens in (24, 1):
            output = spoken.generate(**inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
            found = spoken.generate(
                **inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=0, custom_generate=many
            )
            assert torch.equal(found, output)
        as_bool = {**inputs, "attention_mask": inputs["attention_mask"].bool()}
        assert torch.equal(
            spoken.generate(**as_bool, max_new_tokens=1, do_sample=False, pad_token_id=0, custom_generate=many), found
        )
        alone = prompts(processor)["text"]
        assert says(spoken, alone, 12, custom_generate=many) == says(spoken, alone, 12)
    finally:
        spoken.set_attn_implementation("sdpa")


def test_rows_of_a_batch_end_on_their_own(spoken, decoder, processor):
    inputs = mixed_batch(processor)
    many = GraphDecoder(spoken, max_length=512, batch_size=5)
    plain = spoken.generate(**inputs, max_new_tokens=40, do_sample=False, pad_token_id=0)
    answers = plain[:, inputs["input_ids"].shape[1] :]
    ends = [int(answers[0, 2]), int(answers[1, CHUNK + 3])]
    options = {"max_new_tokens": 40, "do_sample": False, "eos_token_id": ends, "pad_token_id": 7}
    expected = spoken.generate(**inputs, **options)
    assert len({int(row.sum()) for row in expected == 7}) > 1  # some went on when others had ended
    assert torch.equal(spoken.generate(**inputs, **options, custom_generate=many), expected)
    all_at_once = {**options, "eos_token_id": answers[:, 0].tolist()}
    assert torch.equal(
        spoken.generate(**inputs, **all_at_once, custom_generate=many), spoken.generate(**inputs, **all_at_once)
    )


def with_words(processor, inputs, tokens):
    """The same pictures before a longer question: a prompt of so many tokens."""
    ids = inputs["input_ids"]
    more = torch.full((1, tokens - ids.shape[1]), processor.tokenizer("road")["input_ids"][-1])
    longer = torch.cat([ids, more], 1)
    return {**inputs, "input_ids": longer, "attention_mask": torch.ones_like(longer)}


def test_each_picture_is_looked_at_anew_though_all_have_one_shape(spoken, decoder, processor):
    questions = [encode(processor, user(picture(seed), "Is there a road?")) for seed in (11, 12, 11)]
    plain = [says(spoken, inputs, 12) for inputs in questions]
    assert plain[0] != plain[1]
    assert [says(spoken, inputs, 12, custom_generate=decoder) for inputs in questions] == plain


def test_prompts_of_any_length_follow_each_other(spoken, decoder, processor):
    inputs = prompts(processor)["single"]
    whole = BLOCK * (inputs["input_ids"].shape[1] // BLOCK + 1)
    for tokens in (whole + 40, whole, whole + 1, whole - 1, 511, whole):  # room for 512
        asked, count = with_words(processor, inputs, tokens), min(6, 512 - tokens)
        assert says(spoken, asked, count, custom_generate=decoder) == says(spoken, asked, count)


def test_features_take_the_place_of_pixels(spoken, decoder, processor):
    inputs = dict(prompts(processor)["single"])
    with torch.no_grad():
        seen = spoken.get_image_features(inputs.pop("pixel_values"))
    other = {**inputs, "image_features": -seen}
    inputs["image_features"] = seen
    plain = [says(spoken, one, 12) for one in (inputs, other)]
    assert plain[0] != plain[1]
    assert [says(spoken, one, 12, custom_generate=decoder) for one in (inputs, other)] == plain


def test_a_decoder_whose_first_answers_had_one_token_goes_on_to_longer_ones(spoken, decoder, processor):
    inputs = prompts(processor)["text"]
    room = BLOCK * (inputs["input_ids"].shape[1] // BLOCK + 1)
    small = GraphDecoder(spoken, max_length=room)
    longest = with_words(processor, inputs, room - 1)
    assert says(spoken, longest, 1, custom_generate=small) == says(spoken, longest, 1)
    assert says(spoken, inputs, 8, custom_generate=small) == says(spoken, inputs, 8)


def test_a_prompt_that_gave_no_numbers_spoils_no_later_one(spoken, decoder, processor):
    spoiled = dict(prompts(processor)["video"])
    spoiled["pixel_values_videos"] = torch.full_like(spoiled["pixel_values_videos"], torch.nan)
    says(spoken, spoiled, 20, custom_generate=decoder)
    for inputs in prompts(processor).values():
        assert says(spoken, inputs, 12, custom_generate=decoder) == says(spoken, inputs, 12)


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
    right = inputs["attention_mask"].clone()
    right[:, -1] = 0
    two = {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in inputs.items()}
    cases = [
        (spoken, inputs, {"repetition_penalty": 1.3}, "does not know RepetitionPenaltyLogitsProcessor"),
        (spoken, inputs, {"max_time": 9.0}, "does not know MaxTimeCriteria"),
        (spoken, inputs, {"return_dict_in_generate": True}, "returns tokens alone"),
        (spoken, two, {}, "a larger batch_size"),
        (spoken, inputs, {"num_beams": 2}, "num_beams=1"),
        (spoken, {**inputs, "attention_mask": right}, {}, "padding on the left alone"),
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


def test_autocast_is_refused(spoken, decoder, processor):
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="autocast"):
        says(spoken, prompts(processor)["single"], 4, custom_generate=decoder)


@pytest.mark.parametrize("there", [None, "3.4.0"])
def test_own_kernels_without_a_triton_of_their_kind_say_what_they_need(spoken, monkeypatch, there):
    def version(name):
        if name == "triton" and there is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return there

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ValueError, match=rf"needs Triton 3\.5, which PyTorch 2\.9 .* here is {there or 'none'}"):
        GraphDecoder(spoken, max_length=512, kernels=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_use(spoken, processor):
    with pytest.raises(ValueError, match=r"unirs\.compiled_decoding"):
        says(spoken, prompts(processor)["single"], 4, custom_generate=GraphDecoder(spoken, max_length=512))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_a_recorded_batch_says_the_same(processor):
    model = tiny_model(processor).cuda()
    model.generation_config.eos_token_id = None
    decoder = GraphDecoder(model, max_length=512, tuned=False, batch_size=8)
    inputs = mixed_batch(processor).to("cuda")
    options = {"max_new_tokens": 40, "do_sample": False, "pad_token_id": 0}
    plain = model.generate(**inputs, **options)
    for _ in range(2):
        assert torch.equal(model.generate(**inputs, **options, custom_generate=decoder), plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_the_recorded_step_says_the_same(processor):
    model = tiny_model(processor).cuda()
    model.generation_config.eos_token_id = None
    decoder = GraphDecoder(model, max_length=512, tuned=False)
    other = encode(processor, user(picture(12), "Is there a road?"))  # of a shape that was recorded before
    for inputs in [*prompts(processor).values(), other]:
        given = inputs.to("cuda")
        plain = says(model, given, 40)
        silent = {"suppress_tokens": plain[-3:]}
        assert says(model, given, 40, custom_generate=decoder, **silent) == says(model, given, 40, **silent) != plain
        assert says(model, given, 40, custom_generate=decoder) == plain
