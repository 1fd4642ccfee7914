"""One token of a LLaMA for one sequence, as Triton kernels that read each weight once.

    step = LlamaStep(language_model, lm_head, cache)
    step(token, place, padding, said, silent)

A token is five kernels a layer: the three products behind the first norm, attention, its product, the two products
behind the second norm, theirs. From Hopper on each loads its weights before it waits for the kernel before it
(programmatic dependent launch), so that the memory need not idle between two. Sums are in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import nn
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaMLP, LlamaRMSNorm

if TYPE_CHECKING:
    from transformers import StaticCache

# Chosen by hand; benchmarks/llama_kernels.py tries others on a GPU.
COLUMNS = 512  # of a matrix, that a program multiplies at once
ROWS = {"products": 4, "attended": 4, "gated": 4, "inner": 4, "head": 8}  # of a matrix, to a program
WARPS = {"products": 4, "attended": 4, "gated": 8, "inner": 8, "head": 4}
KEYS = 128  # places to a program of the attention
KEYS_WARPS = 8
HIDDEN = tl.constexpr(-1e30)  # a score that counts for nothing


@triton.jit
def _wait(DEPENDENT: tl.constexpr):
    """Lets the next kernel load its weights, and waits for the one before."""
    if DEPENDENT:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@triton.jit
def _tiles(weight, rows, count, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    """The rows of a matrix `(count, WIDTH)`, as a tuple of `(rows, COLUMNS)`."""
    tiles = ()
    for start in tl.static_range(0, WIDTH, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        at = weight + rows.to(tl.int64)[:, None] * WIDTH + columns[None]
        mask = (rows < count)[:, None] & (columns < WIDTH)[None]
        tiles = tiles + (tl.load(at, mask, 0.0, eviction_policy="evict_first"),)  # type: ignore[assignment]  # noqa: RUF005
    return tiles


@triton.jit
def _parts(vector, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    """A vector `(WIDTH,)`, as a tuple of `(COLUMNS,)`."""
    parts = ()
    for start in tl.static_range(0, WIDTH, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        parts = parts + (tl.load(vector + columns, columns < WIDTH, 0.0).to(tl.float32),)  # type: ignore[assignment]  # noqa: RUF005
    return parts


@triton.jit
def _normed(hidden, scales, eps, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    """Root mean square norm of `hidden` `(WIDTH,)`: its parts, and the factor that they still need."""
    parts = ()
    squares = tl.zeros([COLUMNS], tl.float32)
    given = _parts(hidden, WIDTH, COLUMNS)
    for index in tl.static_range(len(scales)):
        squares += given[index] * given[index]
        parts = parts + (given[index] * scales[index],)  # type: ignore[assignment]  # noqa: RUF005
    return parts, tl.rsqrt(tl.sum(squares) / WIDTH + eps)


@triton.jit
def _product(tiles, parts, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows of a matrix times a vector: `(ROWS,)`."""
    found = tl.zeros([ROWS, COLUMNS], tl.float32)
    for index in tl.static_range(len(tiles)):
        found += tiles[index].to(tl.float32) * parts[index][None]
    return tl.sum(found, 1)


@triton.jit
def _embed(token, table, hidden, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    row = table + tl.load(token) * WIDTH + columns
    tl.store(hidden + columns, tl.load(row, columns < WIDTH, 0.0).to(tl.float32), columns < WIDTH)


@triton.jit
def _queries_keys_values(
    hidden, norm, eps, query, key, value, out, queries, keys,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """`out` `(queries + 2 * keys,)`: three products of the normed hidden states."""
    program = tl.program_id(0)
    first, more = tl.cdiv(queries, ROWS), tl.cdiv(keys, ROWS)
    if program < first:
        weight, count, block, at = query, queries, program, 0
    elif program < first + more:
        weight, count, block, at = key, keys, program - first, queries
    else:
        weight, count, block, at = value, keys, program - first - more, queries + keys
    rows = block * ROWS + tl.arange(0, ROWS)
    tiles = _tiles(weight, rows, count, WIDTH, COLUMNS)
    scales = _parts(norm, WIDTH, COLUMNS)
    _wait(DEPENDENT)
    parts, factor = _normed(hidden, scales, eps, WIDTH, COLUMNS)
    tl.store(out + at + rows, _product(tiles, parts, ROWS, COLUMNS) * factor, rows < count)


@triton.jit
def _attend(
    heads_in, cosines, sines, place, padding, keys_held, values_held, parts, out, arrived, heads, kept, room, scale,
    DIM: tl.constexpr, KEYS: tl.constexpr, SPLITS: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Attention of one head over a part of the places; the last part to end adds them up into `out` `(heads * DIM,)`.

    `heads_in` `(heads + 2 * kept, DIM)` are queries, keys and values before rotation; the new key and value are kept.
    `parts` `(heads, SPLITS, DIM + 2)` are weighted values, the largest score and the sum of the weights.
    """
    head, split = tl.program_id(0), tl.program_id(1)
    dims, half = tl.arange(0, DIM), DIM // 2
    now, hidden = tl.load(place), tl.load(padding)
    if split * KEYS > now:
        _wait(DEPENDENT)
    else:
        group = heads // kept
        own = head // group
        places = split * KEYS + tl.arange(0, KEYS)
        at = own * room * DIM + places[:, None] * DIM + dims[None]
        older = (places < now)[:, None]
        # Earlier tokens wrote these, so they need not wait.
        keys = tl.load(keys_held + at, older, 0.0)
        values = tl.load(values_held + at, older, 0.0)
        turned = (now - hidden) * DIM + dims
        cosine, sine = tl.load(cosines + turned), tl.load(sines + turned)
        sign = tl.where(dims < half, -1.0, 1.0)
        across = (dims + half) % DIM
        _wait(DEPENDENT)
        query = tl.load(heads_in + head * DIM + dims) * cosine
        query += sign * tl.load(heads_in + head * DIM + across) * sine
        key = tl.load(heads_in + (heads + own) * DIM + dims) * cosine
        key += sign * tl.load(heads_in + (heads + own) * DIM + across) * sine
        value = tl.load(heads_in + (heads + kept + own) * DIM + dims)
        here = (places == now)[:, None]
        scores = tl.sum(tl.where(here, key[None], keys.to(tl.float32)) * query[None], 1) * scale
        # A number, or a part that is all padding would be none.
        scores = tl.where((places <= now) & (places >= hidden), scores, HIDDEN)
        largest = tl.max(scores)
        weights = tl.exp(scores - largest)
        found = tl.sum(tl.where(here, value[None], values.to(tl.float32)) * weights[:, None], 0)
        total = tl.sum(weights)
        if (now < (split + 1) * KEYS) & (head % group == 0):
            mine = own * room * DIM + now * DIM + dims
            tl.store(keys_held + mine, key.to(keys_held.dtype.element_ty))
            tl.store(values_held + mine, value.to(values_held.dtype.element_ty))
        used = now // KEYS + 1
        if used == 1:
            tl.store(out + head * DIM + dims, (found / total).to(out.dtype.element_ty))
        else:
            base = parts + (head * SPLITS + split) * (DIM + 2)
            tl.store(base + dims, found)
            tl.store(base + DIM, largest)
            tl.store(base + DIM + 1, total)
            tl.debug_barrier()
            if tl.atomic_add(arrived + head, 1, sem="acq_rel") == used - 1:
                largest = HIDDEN
                total = 0.0
                found = tl.zeros([DIM], tl.float32)
                for other in range(used):
                    base = parts + (head * SPLITS + other) * (DIM + 2)
                    theirs = tl.load(base + DIM, cache_modifier=".cg")
                    both = tl.maximum(largest, theirs)
                    before, after = tl.exp(largest - both), tl.exp(theirs - both)
                    found = found * before + tl.load(base + dims, cache_modifier=".cg") * after
                    total = total * before + tl.load(base + DIM + 1, cache_modifier=".cg") * after
                    largest = both
                tl.store(out + head * DIM + dims, (found / total).to(out.dtype.element_ty))
                tl.store(arrived + head, 0)


@triton.jit
def _residual(
    vector, weight, hidden, count,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Adds the product with `vector` `(WIDTH,)` to `hidden` `(count,)`."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    tiles = _tiles(weight, rows, count, WIDTH, COLUMNS)
    _wait(DEPENDENT)
    found = _product(tiles, _parts(vector, WIDTH, COLUMNS), ROWS, COLUMNS)
    tl.store(hidden + rows, tl.load(hidden + rows, rows < count, 0.0) + found, rows < count)


@triton.jit
def _gated(
    hidden, norm, eps, gate, up, out, count,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """`out` `(count,)`: SiLU of one product of the normed hidden states, times another."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    gates, ups = _tiles(gate, rows, count, WIDTH, COLUMNS), _tiles(up, rows, count, WIDTH, COLUMNS)
    scales = _parts(norm, WIDTH, COLUMNS)
    _wait(DEPENDENT)
    parts, factor = _normed(hidden, scales, eps, WIDTH, COLUMNS)
    opened = _product(gates, parts, ROWS, COLUMNS) * factor
    found = opened * tl.sigmoid(opened) * _product(ups, parts, ROWS, COLUMNS) * factor
    tl.store(out + rows, found.to(out.dtype.element_ty), rows < count)


@triton.jit
def _likeliest_of_rows(
    hidden, norm, eps, head, silent, logits, tokens, count,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """The largest logit of a program's rows of the head that is not silent, and its token."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    tiles = _tiles(head, rows, count, WIDTH, COLUMNS)
    scales = _parts(norm, WIDTH, COLUMNS)
    mute = tl.load(silent + rows, rows < count, 1)
    _wait(DEPENDENT)
    parts, factor = _normed(hidden, scales, eps, WIDTH, COLUMNS)
    found = _product(tiles, parts, ROWS, COLUMNS) * factor
    found = tl.where(mute != 0, -float("inf"), found)
    largest = tl.max(found)
    tl.store(logits + tl.program_id(0), largest)
    tl.store(tokens + tl.program_id(0), tl.min(tl.where(found == largest, rows, count - 1)))


@triton.jit
def _choose(logits, tokens, token, place, said, blocks, last, BLOCKS: tl.constexpr, DEPENDENT: tl.constexpr):
    """Says the token of the largest logit, the first of several, and moves on a place."""
    _wait(DEPENDENT)
    index = tl.arange(0, BLOCKS)
    found = tl.load(logits + index, index < blocks, -float("inf"))
    theirs = tl.load(tokens + index, index < blocks, last)
    chosen = tl.min(tl.where(found == tl.max(found), theirs, last)).to(tl.int64)  # of no numbers the last token
    now = tl.load(place) + 1
    tl.store(token, chosen)
    tl.store(said + now, chosen)
    tl.store(place, now)


class LlamaStep:
    """Says the next token of one sequence, into the tensors that it is given: see `__call__`.

    Args:
        language_model: A `LlamaModel` as `LlamaStep.fits` wants it. Its weights are read where they lie.
        lm_head: `(vocabulary, dim)`, without bias.
        cache: With filled layers of `(1, heads, room, dim of a head)`; keys and values of the token are added to it.
    """

    def __init__(self, language_model: LlamaModel, lm_head: nn.Linear, cache: StaticCache):
        config: Any = language_model.config
        weight, device = lm_head.weight, lm_head.weight.device
        self.model: Any = language_model
        self.head = lm_head
        self.cache: list[Any] = cache.layers
        self.heads, self.kept, self.dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.width, self.inner, self.eps = config.hidden_size, config.intermediate_size, config.rms_norm_eps
        self.room = self.cache[0].keys.shape[2]
        self.splits = triton.cdiv(self.room, KEYS)
        self.blocks = triton.cdiv(weight.shape[0], ROWS["head"])
        self.dependent = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self._hidden = empty(self.width)
        self._heads = empty((self.heads + 2 * self.kept) * self.dim)
        self._parts = empty(self.heads, self.splits, self.dim + 2)
        self._attended = empty(self.heads * self.dim, dtype=weight.dtype)
        self._arrived = empty(self.heads, dtype=torch.int32)
        self._inner = empty(self.inner, dtype=weight.dtype)
        self._logits, self._tokens = empty(self.blocks), empty(self.blocks, dtype=torch.int32)
        places = torch.arange(self.room, device=device)[None]
        # (1, room, dim of a head)
        cosines, sines = language_model.rotary_emb(self._hidden, places)
        self._cosines, self._sines = cosines.contiguous(), sines.contiguous()

    @staticmethod
    def fits(language_model: nn.Module, lm_head: nn.Module) -> bool:
        """Whether these are what the kernels compute: LLaMA's layers, plain matrices, no adapters, nothing between."""
        if type(language_model) is not LlamaModel:
            return False
        config: Any = language_model.config
        turning: Any = language_model.rotary_emb
        layers: Any = language_model.layers
        if (
            config.hidden_act != "silu"
            or config.head_dim != triton.next_power_of_2(config.head_dim)
            or turning.rope_type in ("dynamic", "longrope")  # these change with the prompt
            or any(type(one) is not LlamaDecoderLayer for one in layers)
            or any((type(one.self_attn), type(one.mlp)) != (LlamaAttention, LlamaMLP) for one in layers)
        ):
            return False
        width, inner, words = config.hidden_size, config.intermediate_size, config.vocab_size
        queries, keys = (heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads))
        matrices: list[tuple[Any, tuple[int, int]]] = [(lm_head, (words, width))]
        norms: list[Any] = [language_model.norm]
        for layer in layers:
            attention, mlp = layer.self_attn, layer.mlp
            norms += [layer.input_layernorm, layer.post_attention_layernorm]
            matrices += [(attention.q_proj, (queries, width)), (attention.o_proj, (width, queries))]
            matrices += [(one, (keys, width)) for one in (attention.k_proj, attention.v_proj)]
            matrices += [(one, (inner, width)) for one in (mlp.gate_proj, mlp.up_proj)]
            matrices.append((mlp.down_proj, (width, inner)))
        plain = [(one, nn.Linear) for one, _ in matrices] + [(one, LlamaRMSNorm) for one in norms]
        plain.append((language_model.embed_tokens, nn.Embedding))
        return (
            all(type(one) is wanted and type(one.weight) is nn.Parameter for one, wanted in plain)
            and all(one.weight.is_contiguous() for one, _ in plain)
            and all(one.bias is None and one.weight.shape == shape for one, shape in matrices)
            and len({one.weight.dtype for one, _ in matrices}) == 1
            and not any(map(_is_meddled_with, (*language_model.modules(), lm_head)))
        )

    def __call__(
        self,
        token: torch.Tensor,
        place: torch.Tensor,
        padding: torch.Tensor,
        said: torch.Tensor,
        silent: torch.Tensor,
    ) -> None:
        """Reads `token` `(1, 1)` at `place` `(1, 1)`; the next token goes there and to `said` `(1, room)`, place + 1.

        `padding` `(1, 1)` places on the left hold none; `silent` `(1, vocabulary)` are the tokens not to be said.
        """
        # Launched plainly: it waits for all of the token before, so that later kernels may read that one's place, keys
        # and values before they wait.
        _embed[(triton.cdiv(self.width, COLUMNS),)](
            token, self.model.embed_tokens.weight, self._hidden, self.width, COLUMNS
        )
        queries, kept = self.heads * self.dim, self.kept * self.dim
        for layer, held in zip(self.model.layers, self.cache, strict=True):
            attention, mlp, norms = layer.self_attn, layer.mlp, (layer.input_layernorm, layer.post_attention_layernorm)
            rows = ROWS["products"]
            programs = triton.cdiv(queries, rows) + 2 * triton.cdiv(kept, rows)
            self._launch(
                _queries_keys_values, programs, "products", self.width,
                self._hidden, norms[0].weight, self.eps, attention.q_proj.weight, attention.k_proj.weight,
                attention.v_proj.weight, self._heads, queries, kept,
            )  # fmt: skip
            _attend[(self.heads, self.splits)](
                self._heads, self._cosines, self._sines, place, padding, held.keys, held.values, self._parts,
                self._attended, self._arrived, self.heads, self.kept, self.room, attention.scaling,
                self.dim, KEYS, self.splits, self.dependent, num_warps=KEYS_WARPS, launch_pdl=self.dependent,
            )  # fmt: skip
            self._add("attended", self._attended, attention.o_proj)
            self._launch(
                _gated, triton.cdiv(self.inner, ROWS["gated"]), "gated", self.width,
                self._hidden, norms[1].weight, self.eps, mlp.gate_proj.weight, mlp.up_proj.weight, self._inner,
                self.inner,
            )  # fmt: skip
            self._add("inner", self._inner, mlp.down_proj)
        words = self.head.out_features
        self._launch(
            _likeliest_of_rows, self.blocks, "head", self.width, self._hidden, self.model.norm.weight, self.eps,
            self.head.weight, silent, self._logits, self._tokens, words,
        )  # fmt: skip
        _choose[(1,)](
            self._logits, self._tokens, token, place, said, self.blocks, words - 1,
            triton.next_power_of_2(self.blocks), self.dependent, launch_pdl=self.dependent,
        )  # fmt: skip

    def _add(self, kind: str, vector: torch.Tensor, matrix: nn.Linear) -> None:
        self._launch(
            _residual, triton.cdiv(self.width, ROWS[kind]), kind, matrix.in_features,
            vector, matrix.weight, self._hidden, self.width,
        )  # fmt: skip

    def _launch(self, kernel: Any, programs: int, kind: str, width: int, *args: Any) -> None:
        kernel[(programs,)](
            *args, ROWS[kind], width, COLUMNS, self.dependent,
            num_warps=WARPS[kind], launch_pdl=self.dependent,
        )  # fmt: skip


def _is_meddled_with(module: nn.Module) -> bool:
    """Whether something looks at what passes through it, or has put itself in its place."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    # transformers' own hooks only note what passes.
    return "forward" in vars(module) or any(not hook.__module__.startswith("transformers.") for hook in hooks)
