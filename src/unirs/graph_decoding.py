"""Decoding on an NVIDIA GPU at the rate at which its memory gives the weights: a token is one CUDA graph.

    decoder = GraphDecoder(model)
    model.generate(**inputs, custom_generate=decoder)

`generate` runs some Python and waits for the device at every token, which takes longer than a token's work on a fast
GPU, as does the Python before the first token about one picture. Here the look at the pictures, the reading of the
prompt and the step of one token, with its choice, are recorded once for each shape; replaying them needs neither.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from packaging.version import Version
from transformers import StaticCache
from transformers.generation import EosTokenCriteria, MaxLengthCriteria, SuppressTokensLogitsProcessor

from .modeling_unirs.modeling_unirs import VISUAL_INPUTS, insert_features

if TYPE_CHECKING:
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    from .llama_kernels import LlamaStep
    from .modeling_unirs import UniRSForConditionalGeneration

T = TypeVar("T")
BLOCK = 64  # a prompt is read as if it were a multiple of these long, so that few lengths are recorded
CHUNK = 16  # tokens between two looks at whether the answer has ended; what is said after its end is thrown away
OLDEST_TRITON = "3.5"  # for dependent launches
WARM_UP = 3  # runs before recording: Inductor compiles in the first, libraries choose their kernels


class GraphDecoder:
    """Greedy decoding of one sequence, or of a batch, at a time; for `generate(custom_generate=...)`.

    The first answer compiles and records, which takes about a minute; keep the decoder for all others, one call at a
    time. The first prompt of another 64 tokens, and of one sequence with as many pictures, records once more, in up to
    two seconds, and keeps what it recorded. A streamer hears nothing: transformers hands none to `custom_generate`.

    Args:
        model: On an NVIDIA GPU. Its weights may be changed in place later; moved or replaced, or with another adapter
            or attention, it needs a new decoder: what is recorded goes on with the old ones.
        max_length: Tokens of prompt and answer together. Every step reads the keys and values of all.
        tuned: Let Inductor try block sizes, and write products of one row as sums: slower to compile.
        batch_size: Sequences of a call, padded on the left. Fewer take as long as so many.
        kernels: Our own Triton kernels (llama_kernels.py) in place of what Inductor compiles, for one sequence and a
            plain LLaMA. Tested by Triton's interpreter alone so far, never run on a GPU.

    Raises:
        ValueError: `generate` is asked for what a recorded step cannot do, or `model` is on no NVIDIA GPU.
    """

    def __init__(
        self,
        model: UniRSForConditionalGeneration,
        max_length: int = 2048,
        tuned: bool = True,
        batch_size: int = 1,
        kernels: bool = False,
    ):
        self.model, self.max_length, self.batch_size = model, max_length, batch_size
        room = _whole_blocks(max_length)
        options: dict[str, str | int | bool | Callable] = {"coordinate_descent_tuning": True} if tuned else {}
        self._compiled = torch.compile(self._next_token, fullgraph=True, dynamic=False, options=options)
        self._step_class = self._own_kernels() if kernels else None
        self._kernels: LlamaStep | None = None
        # What is recorded reads and writes these, in place; made in inference mode they could not be outside of it.
        with torch.inference_mode(False), model.device:
            self._cache = StaticCache(config=model.config, max_cache_len=room)
            self._place = torch.zeros(1, 1, dtype=torch.long)  # of the newest token, the same in all rows
            self._token = torch.zeros(batch_size, 1, dtype=torch.long)
            self._said = torch.zeros(batch_size, room, dtype=torch.long)
            self._seen = torch.ones(batch_size, room, dtype=torch.bool)  # all but padding
            self._padding = torch.zeros(batch_size, 1, dtype=torch.long)  # tokens on the left
            self._silent = torch.zeros(1, model.lm_head.out_features, dtype=torch.bool)
            self._embeds = torch.zeros(batch_size, room, model.lm_head.in_features, dtype=model.lm_head.weight.dtype)
            self._places = torch.arange(room)[None]
        if any(layer.is_sliding for layer in self._cache.layers):
            raise ValueError("GraphDecoder cannot record a language model with a sliding window; leave it out")
        self._replay: Callable[[], None] | None = None
        self._reads: dict[int, Callable[[], None]] = {}  # by length
        self._looks: dict[tuple, tuple[dict[str, torch.Tensor], Callable[[], dict[str, torch.Tensor]]]] = {}
        self._pool: Any = None

    def _own_kernels(self) -> type[LlamaStep]:
        try:
            version = importlib.metadata.version("triton")
        except importlib.metadata.PackageNotFoundError:
            version = "none"
        if version == "none" or Version(version) < Version(OLDEST_TRITON):
            raise ValueError(
                f"kernels=True needs Triton {OLDEST_TRITON}, which PyTorch 2.9 for NVIDIA GPUs brings; here is "
                f"{version}"
            )
        from .llama_kernels import LlamaStep

        if self.batch_size > 1 or not LlamaStep.fits(self.model.model.language_model, self.model.lm_head):
            raise ValueError(
                "kernels=True is for one sequence and a plain LLaMA, without adapters, quantised weights or hooks; "
                "leave it out"
            )
        return LlamaStep

    def __call__(
        self,
        model: UniRSForConditionalGeneration,
        input_ids: torch.LongTensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **model_kwargs,
    ) -> torch.LongTensor:
        """What `generate` calls in place of its own loop: `(rows, prompt)` to `(rows, prompt + answer)`."""
        (rows, prompt), longest = input_ids.shape, stopping_criteria.max_length
        self._check(model, input_ids, logits_processor, stopping_criteria, generation_config, model_kwargs)
        if self._replay is None and longest > prompt + 1:
            self._replay = self._recorded_step()
        self._silent.zero_()
        for one in logits_processor:
            self._silent[:, one.suppress_tokens.to(model.device)] = True
        # 1. the prompts, and the first token of each
        length = _whole_blocks(prompt)
        embeds = self._embedded(input_ids, model_kwargs)
        mask = model_kwargs.get("attention_mask")
        seen = torch.ones_like(input_ids) if mask is None else mask.long()
        # Rows that nobody asks are copies of the first.
        for buffer, value in (
            (self._embeds, embeds),
            (self._seen, seen.bool()),
            (self._padding, seen.argmax(1, True)),
        ):
            buffer[:rows, : value.shape[1]] = value
            buffer[rows:, : value.shape[1]] = value[:1]
        self._embeds[:, prompt:length] = 0  # hidden, but hidden infinities of an earlier prompt would still be NaN
        self._seen[:, prompt:] = True
        self._place.fill_(prompt)
        if length not in self._reads:
            self._reads[length] = self._recorded(lambda: self._read(length))
        self._reads[length]()
        # 2. the others, a chunk at a time
        ends = torch.tensor(
            [
                token
                for one in stopping_criteria
                if isinstance(one, EosTokenCriteria)
                for token in one.eos_token_id.tolist()
            ],
            dtype=torch.long,
        )
        said = self._said[:rows, prompt : prompt + 1].cpu()
        replay = cast(Callable[[], None], self._replay)  # of answers of one token there may be none
        while not torch.isin(said, ends).any(1).all() and prompt + said.shape[1] < longest:
            start = prompt + said.shape[1]
            stop = min(start + CHUNK, longest)
            for _ in range(start, stop):
                replay()
            said = torch.cat([said, self._said[:rows, start:stop].cpu()], 1)  # waits for the device
        ended = torch.isin(said, ends)
        behind = ended.cumsum(1) > ended.long()  # the first end of each row
        if ended.any():
            said = said.masked_fill(behind, int(generation_config._pad_token_tensor))
        said = said[:, : int((~behind).any(0).sum())]
        return torch.cat([input_ids, said.to(input_ids.device)], 1)  # type: ignore[return-value]

    def _check(self, model, input_ids, logits_processor, stopping_criteria, generation_config, model_kwargs) -> None:
        """What is recorded knows no history."""
        odd = [one for one in logits_processor if not isinstance(one, SuppressTokensLogitsProcessor)]
        odd += [one for one in stopping_criteria if not isinstance(one, (MaxLengthCriteria, EosTokenCriteria))]
        mask, places = model_kwargs.get("attention_mask"), model_kwargs.get("position_ids")
        cache = model_kwargs.get("past_key_values")
        if model is not self.model:
            raise ValueError("this GraphDecoder was made for another model; make one for each")
        if torch.is_autocast_enabled(model.device.type):
            raise ValueError(
                "GraphDecoder cannot record autocast's copies of the weights; give the model its own dtype"
            )
        if model.training or model.config.get_text_config()._attn_implementation not in ("sdpa", "eager"):
            raise ValueError("GraphDecoder needs a model in eval mode, with the attention sdpa or eager")
        if not input_ids.shape[1] or (cache is not None and cache.get_seq_length()):
            raise ValueError("GraphDecoder starts from whole input_ids: give no inputs_embeds and no filled cache")
        if mask is not None and not (bool(mask[:, -1].all()) and bool((mask.long().diff(dim=1) >= 0).all())):
            raise ValueError("GraphDecoder takes padding on the left alone; set padding_side='left'")
        if places is not None:
            real = torch.ones_like(input_ids) if mask is None else mask.long()
            if not torch.equal(places[real.bool()], (real.cumsum(1) - 1)[real.bool()]):
                raise ValueError("GraphDecoder counts positions from 0; give no position_ids")
        if generation_config.do_sample or generation_config.num_beams > 1 or generation_config.return_dict_in_generate:
            raise ValueError(
                "GraphDecoder takes the likeliest token and returns tokens alone; set do_sample=False and num_beams=1"
            )
        if len(input_ids) > self.batch_size:
            raise ValueError(
                f"this GraphDecoder answers {self.batch_size} at a time and is given {len(input_ids)}; make it with a "
                "larger batch_size"
            )
        if odd:
            raise ValueError(f"GraphDecoder does not know {type(odd[0]).__name__}; leave custom_generate out")
        if stopping_criteria.max_length > self.max_length:
            raise ValueError(
                f"prompt and answer may come to {stopping_criteria.max_length} tokens, and this GraphDecoder has room "
                f"for {self.max_length}; give GraphDecoder a larger max_length, or generate fewer max_new_tokens"
            )

    def _likeliest(self, logits: torch.Tensor) -> torch.Tensor:
        """`(batch, vocabulary)` to `(batch, 1)`."""
        return logits.float().masked_fill(self._silent, -torch.inf).argmax(-1, keepdim=True)

    def _embedded(self, input_ids: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """The prompt as the language model reads it, pictures looked at: `(rows, prompt, dim)`."""
        core = self.model.model
        embeds = core.get_input_embeddings()(input_ids)
        given = {name: inputs[name] for name in VISUAL_INPUTS if inputs.get(name) is not None}
        if not given:
            return embeds
        kind = tuple((name, value.shape, value.dtype) for name, value in given.items())
        # Features need no look, and of a batch the look is work enough to hide its Python.
        if self.batch_size > 1 or not any(name.startswith("pixel_values") for name in given):
            features = core.get_visual_features(given)
        elif kind in self._looks:
            held, look = self._looks[kind]
            for name, value in given.items():
                held[name].copy_(value)
            features = look()
        else:
            with torch.inference_mode(False):
                held = {name: value.to(self.model.device, copy=True) for name, value in given.items()}
            look = self._recorded(lambda: core.get_visual_features(held))
            self._looks[kind] = held, look
            features = look()
        return insert_features(embeds, core.get_placeholder_masks(input_ids, None), features)

    def _mask(self, queries: torch.Tensor) -> torch.Tensor:
        """What the tokens at the places `(1, queries)` see: `(batch, 1, queries, room)`, to be added to the scores."""
        queries = queries[:, None, :, None]
        keys = self._places[:, None, None]
        # Padding sees itself, or its states would be no numbers.
        seen = (self._seen[:, None, None] & (keys <= queries)) | (keys == queries)
        hidden = torch.finfo(self._embeds.dtype).min
        return torch.zeros_like(seen, dtype=self._embeds.dtype).masked_fill(~seen, hidden)

    def _read(self, length: int) -> None:
        """Reads the prompts that lie in the buffers and says a token of each.

        What lies behind their end is read too: nothing before it sees that, and its keys are written over or hidden.
        """
        self._cache.reset()
        places = self._places[:, :length]
        hidden = self.model.model.language_model(
            inputs_embeds=self._embeds[:, :length],
            attention_mask=self._mask(places),
            position_ids=(places - self._padding).clamp(min=0),
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state  # (batch, length, dim)
        last = hidden.index_select(1, self._place[0] - 1)[:, 0]
        self._token.copy_(self._likeliest(self.model.lm_head(last)))
        self._keep()
        for layer in self._cache.layers:
            layer.cumulative_length.copy_(self._place[0, 0])

    def _next_token(self) -> torch.Tensor:
        hidden = self.model.model.language_model(
            input_ids=self._token,
            attention_mask=self._mask(self._place),
            position_ids=(self._place - self._padding).clamp(min=0),
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state  # (batch, 1, dim)
        return self._likeliest(self.model.lm_head(hidden[:, 0]))

    def _keep(self) -> None:
        self._said.scatter_(1, self._place.expand(self.batch_size, 1), self._token)

    def _step(self) -> None:
        """Says one token more of each, by what lies in the buffers, into the buffers."""
        if self._kernels is not None:
            self._kernels(self._token, self._place, self._padding, self._said, self._silent)
            return
        self._token.copy_(self._compiled())
        self._place += 1
        self._keep()

    @torch.inference_mode(False)
    @torch.no_grad()
    def _recorded_step(self) -> Callable[[], None]:
        # It moves on as it runs: from the start, whatever was answered before, or it would leave the buffers.
        self._cache.reset()
        self._place.zero_()
        self._next_token()  # makes the cache's tensors, which must not happen in what is compiled
        if self._step_class is not None:
            self._kernels = self._step_class(self.model.model.language_model, self.model.lm_head, self._cache)
        return self._recorded(self._step)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _recorded(self, run: Callable[[], T]) -> Callable[[], T]:
        """`run` as a graph; what it returns is the same tensors each time, valid until the next replay of any."""
        if self.model.device.type != "cuda":
            raise ValueError("GraphDecoder needs an NVIDIA GPU; on a CPU unirs.compiled_decoding does what it does")
        with torch.cuda.device(self.model.device):
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(WARM_UP):
                    run()
            torch.cuda.current_stream().wait_stream(beside)
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=beside, capture_error_mode="thread_local"):
                found = run()

        def replay() -> T:
            graph.replay()
            return found

        return replay


def _whole_blocks(tokens: int) -> int:
    return -(-tokens // BLOCK) * BLOCK
