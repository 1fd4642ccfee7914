"""One round of training of `unirs-tiny`, the checkpoint inside the package: about two hours on two CPU cores.

    python -m unirs.trainers.tiny --real ../shared/data/rsscn7 --output runs/unirs-tiny

The world is generated (scene_tasks.py); RSSCN7's training scenes, and EuroSAT's patches (`--satellite`), join where
they are at hand. Nothing is pretrained, so stage 1 comes first: the vision tower learns to name real scenes and the
land cover and objects of every patch, and Change Extraction to mark the patches that changed (heads thrown away); then
what is no change; and last of all the tower learns to see land in strange lights as in its own. In stage 2 TRL's
`SFTTrainer` tunes projector and language model on all input types, with clues.

The weights that ship went through several rounds, each begun from the last (`--start`), some of them averaged with it:
`training.json` beside them tells of each.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoProcessor, GenerationConfig, PreTrainedTokenizerFast

from ..modeling_unirs import UniRSConfig, UniRSForConditionalGeneration
from ..processing import UniRSImageProcessor, UniRSProcessor, prepare_tokenizer
from ..processing.tokenizer import MARKERS
from .far_tower import adapt_tower
from .far_views import far_views
from .real_scenes import load_real
from .scene_tasks import WORLD_VERSION
from .tiny_changes import CHANGE_SAMPLES, pretrain_changes
from .tiny_data import FRAMES, GRID, SIZE, make_scenes
from .tiny_mixture import PLACE_ROWS, Mixture, WhereFirst
from .tiny_patches import PatchSteps, place_patches, pretrain_patches
from .tiny_real import RealBatches, pretrain_real
from .tiny_tuning import Conversations, Schedule, keep_features, own_clues, tune

COUNTS = {"single": 14000, "pair": 6000, "video": 3000, "sequence": 3000}
PATCH = SIZE // GRID
VOCABULARY = 1472


# -- model -----------------------------------------------------------------------------------------------------------
def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-fallback BPE of LLaMA's kind on the words of the mixture."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(MARKERS), special_tokens=specials, initial_alphabet=letters, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    # The trainer made the byte pieces special; as ordinary vocabulary they only serve the byte fallback.
    state = json.loads(backend.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    backend = Tokenizer.from_str(json.dumps(state))
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
        model_max_length=2048,
    )
    return prepare_tokenizer(tokenizer)


def build(texts: list[str]) -> tuple[UniRSForConditionalGeneration, UniRSProcessor]:
    """A UniRS of 7 million weights: the paper's parts in small, with a 12x12 grid and 36 tokens for a picture."""
    tokenizer = train_tokenizer(texts)
    image_processor = UniRSImageProcessor(size={"height": SIZE, "width": SIZE})
    processor = UniRSProcessor(image_processor, tokenizer, patch_size=PATCH, num_frames=FRAMES)
    config = UniRSConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 8 + 1,  # layer -2 of nine: eight are built
            "num_attention_heads": 6,
            "image_size": SIZE,
            "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "max_position_embeddings": 2048,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": True,
        },
        image_token_id=processor.image_token_id,
        change_token_id=processor.change_token_id,
        frame_token_ids=processor.frame_token_ids,
    )
    model = UniRSForConditionalGeneration(config)
    place_patches(model)
    # No marker and no row of padding may ever be said.
    silent = [config.image_token_id, config.change_token_id, *config.frame_token_ids]
    silent += range(len(tokenizer), config.text_config.vocab_size)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=64,
        suppress_tokens=sorted(silent),
    )
    return model, processor


def provenance(args: argparse.Namespace, pictures: int) -> dict[str, str]:
    """What the model card says of the weights, for `pictures` real ones of RSSCN7."""
    real = (
        f"and on the {pictures:,} pictures of {args.real / 'train'} (RSSCN7): their classes, pairs of dates made of "
        "them, RS-World's changes and clips laid over them, and views of them in other cameras' light and from afar. "
        if pictures
        else "alone. "
    )
    terms = (
        "They derive from generated scenes and from RSSCN7 (Zou et al. 2015), whose pictures were published for "
        "research with no terms stated."
    )
    if args.satellite:
        real += f"And on the patches of {args.satellite} (EuroSAT, Sentinel-2), by class and beside each other. "
        terms = terms.removesuffix(".") + ", and from patches of EuroSAT (Helber et al. 2019, MIT)."
    return {
        "note": f"Trained by `trainers/tiny.py` on RS-World's generated scenes (version {WORLD_VERSION}, training "
        f"seeds) {real}Not trained on: RSSCN7's test pictures, LEVIR-CD, DSIFN, any picture of LEVIR-CC; of its "
        "captions only the five sentences that say that nothing changed, and how many of the training split's tell of "
        "houses, roads and large buildings."
        + (f" It went on from the checkpoint {args.start}, of the same provenance." if args.start else ""),
        "license": "apache-2.0",
        "license_note": "The weights are Apache-2.0. " + (terms if pictures else "They derive from generated scenes."),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=Path, default=Path("runs/scenes/train"))
    parser.add_argument("--real", type=Path, default=None, help="RSSCN7 with train/ and test/")
    parser.add_argument(
        "--satellite", type=Path, default=None, help="EuroSAT's patches with labels.json, beside --real"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/unirs-tiny"))
    parser.add_argument("--steps-real", type=int, default=500, help="of stage 1 on real pictures alone")
    parser.add_argument("--steps-stage-1", type=int, default=1300)
    parser.add_argument("--steps-changes", type=int, default=300, help="of stage 1 on changes alone, features kept")
    parser.add_argument("--steps-far", type=int, default=700, help="of stage 1 on real land in strange lights")
    parser.add_argument("--steps", type=int, default=1700, help="of stage 2; 0 ends after stage 1")
    parser.add_argument("--steps-where", type=int, default=450, help="before stage 2: mostly where things lie")
    parser.add_argument("--place-rows", type=float, default=PLACE_ROWS, help="share of conversations about places")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--learning-rate-stage-1", type=float, default=1e-3)
    parser.add_argument("--start", type=Path, default=None, help="go on from this checkpoint: all weights, its words")
    parser.add_argument(
        "--place-patches", action="store_true", help="add positions to --start's embedding, as a new model's has them"
    )
    parser.add_argument("--scale", type=int, default=1, help="of the batches of stage 1 but for real land")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw batches, for an accelerator")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.satellite and not args.real:
        parser.error("--satellite goes with --real: its woods and towns are RSSCN7's")
    return args


def main() -> None:
    args = parse()
    torch.manual_seed(args.seed)
    make_scenes(args.scenes, COUNTS, 0)
    real = args.real / "train" if args.real else None
    mixture = Mixture(args.scenes, real, args.seed, place_rows=args.place_rows, satellite=args.satellite)
    started = time.time()
    if args.start:
        model = UniRSForConditionalGeneration.from_pretrained(args.start, dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(args.start)
        if args.place_patches:
            place_patches(model)
    else:
        model, processor = build(mixture.texts())
    print(f"{sum(p.numel() for p in model.parameters()):,} weights, {len(processor.tokenizer)} tokens", flush=True)
    if torch.cuda.is_available():
        model.to("cuda")
    else:  # plain attention: PyTorch's fused one has no fast backward pass on CPUs
        model.set_attn_implementation("eager")
    batches = RealBatches(*load_real(real), SIZE, GRID) if real else None
    if batches and args.steps_real:
        pretrain_real(model, batches, args.steps_real, args.seed)
    if args.steps_stage_1:
        shown = PatchSteps(args.scenes, batches, args.steps_stage_1, args.seed, args.scale)
        pretrain_patches(model, shown, args.learning_rate_stage_1, args.workers)
    if batches and args.steps_changes:
        shown = PatchSteps(args.scenes, batches, args.steps_changes, args.seed, args.scale, CHANGE_SAMPLES)
        pretrain_changes(model, shown, args.workers)
    if batches and args.steps_far:
        far = far_views(np.random.default_rng(args.seed), batches.pictures, batches.labels, SIZE)
        strange, plain = (np.stack([np.asarray(getattr(one, name)) for one in far]) for name in ("strange", "plain"))
        kept = [stack for kind, stack in mixture.pictures.items() if kind not in ("far", "satellite")]
        adapt_tower(model, strange, plain, kept, args.steps_far, args.seed)
    model.save_pretrained(args.output / "stage-1")
    processor.save_pretrained(args.output / "stage-1")
    if not args.steps:
        return
    features, log = keep_features(model, mixture.pictures), []
    if args.start:  # a model that has learnt to describe errs in its clues, on these pictures less than on new ones
        mixture.own_clues = dict(enumerate(own_clues(model, processor, features["single"])))
    # what lies between matrix products is fused: a third off each step, for two minutes of compiling
    model.model.language_model.compile(dynamic=True)
    parts: list[tuple[Conversations, int]] = [(WhereFirst(mixture), args.steps_where), (mixture, args.steps)]
    for conversations, steps in parts[not args.steps_where :]:
        schedule = Schedule(
            steps, args.batch, args.learning_rate, args.seed, args.output / "checkpoints", 50, args.workers
        )
        log += tune(model, processor, conversations, features, schedule, say=lambda line: print(line, flush=True))
    model.set_attn_implementation("sdpa")
    model.to(torch.bfloat16).save_pretrained(args.output)
    processor.save_pretrained(args.output)
    record = {
        **provenance(args, len(batches.pictures) if batches else 0),
        "arguments": {name: str(value) for name, value in vars(args).items()},
        "minutes": round((time.time() - started) / 60, 1),
        "log": log,
    }
    (args.output / "training.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
