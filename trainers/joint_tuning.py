"""Stage 2, joint tuning: one language model learns from singles, pairs and clips together (paper, section IV-B)."""

from __future__ import annotations

import copy
import inspect
import json
import time
from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import SFTConfig

from ..modeling_unirs import UniRSForConditionalGeneration
from ..processing import UniRSProcessor
from .adapters import Adapter, four_bits
from .collator import Collator, estimate_length
from .data_sets import DATA_SETS, DataError
from .feature_cache import FeatureCache, weights_hash
from .mixture import EpochSampler, Mixture
from .packing import padding_share
from .progress import Lines, draw_curve, duration
from .recipe import PARTS, JointTuning, closest, exactly
from .rows import Row, Visual, visuals_of
from .run_folder import LogFile, RunFolder, process_state
from .trainer import UniRSTrainer

# Arguments of SFTConfig that have a place of their own in a recipe, or that our rows need as they are.
OURS = (
    "output_dir", "seed", "data_seed", "remove_unused_columns", "dataset_kwargs", "disable_tqdm", "packing",
    "padding_free", "model_init_kwargs", "resume_from_checkpoint", "train_sampling_strategy", "label_names",
)  # fmt: skip
AT_LEAST_ONE = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
SAMPLED_ROWS = 200  # of which the padding is foretold
Say = Callable[[str], None]


@dataclass
class Loaded:
    network: UniRSForConditionalGeneration | PeftModel
    processor: UniRSProcessor
    adapter: Adapter | None


def tune(recipe: JointTuning, model: str, resume: bool, say: Say) -> dict[str, Any]:
    """Runs a recipe of stage 2 and leaves a model folder at its `output`.

    Args:
        model: Folder of the model that `recipe.model` names.
        resume: Go on from the newest whole checkpoint of the same run.
        say: Is told, on the main process, what a person wants to read.

    Returns:
        Steps, minutes, the last loss and the folder.

    Raises:
        DataError: The recipe or its data cannot be used, or a row is bad and `bad_rows` is stop.
    """
    state = process_state()
    say = say if state.is_main_process else lambda line: None
    started = time.monotonic()
    # 1. what to train on: the cheapest check first
    mixture = make_mixture(recipe.data, say)
    validation = make_mixture(recipe.validation, say, "validation ") if recipe.validation else None
    config = training_arguments(recipe)
    folder = RunFolder(recipe)
    with state.main_process_first():
        if state.is_main_process:
            folder.prepare(resume)
    # 2. what to train
    loaded = load(recipe, model)
    trainable = sum(p.numel() for p in loaded.network.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in loaded.network.parameters())
    if loaded.adapter is None:
        say(f"training {trainable:,} of {whole:,} weights")
    # 3. how samples become batches
    features = keep_features(recipe, loaded, [mixture, validation], say)
    collator = make_collator(recipe, loaded, config, folder, features)
    sampler = make_sampler(recipe, mixture, config, loaded.processor, say)
    # 4. train
    trainer = UniRSTrainer(
        model=loaded.network,
        args=config,
        train_dataset=places(0, len(mixture)),
        eval_dataset=places(len(mixture), len(validation)) if validation else None,
        processing_class=loaded.processor,
        data_collator=PlacesCollator(collator, mixture, validation),
        peft_config=loaded.adapter.peft_config(loaded.network) if loaded.adapter else None,
        sampler=sampler,
        callbacks=[LogFile(folder.log), Lines(say)],
    )
    if loaded.adapter is not None:
        trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        say(f"training {trainable:,} weights of the adapter beside {whole:,} frozen ones")
    _silence(trainer)
    checkpoint = folder.last_checkpoint(state.num_processes) if resume else None
    if resume:
        say(f"resuming from {checkpoint}" if checkpoint else "no whole checkpoint yet: starting from the first step")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    # 5. what it leaves
    save(trainer, recipe, folder, loaded.processor)
    if features is not None and (times := speed_up(features, trainer)):
        say(f"kept features made an epoch about {times:.1f} times as fast")
    skipped = count_lines(folder.bad_rows)
    if skipped:
        say(f"{skipped} rows were skipped: {folder.bad_rows}")
    history = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    minutes = (time.monotonic() - started) / 60
    say(f"{trainer.state.global_step} steps in {duration(minutes * 60)}; the model is in {folder.path}")
    return {
        "output": str(folder.path),
        "steps": trainer.state.global_step,
        "loss": history[-1] if history else None,
        "skipped": skipped,
        "minutes": round(minutes, 2),
    }


# -- data ------------------------------------------------------------------------------------------------------------
def make_mixture(entries: dict[str, dict[str, Any]], say: Say = lambda line: None, kind: str = "") -> Mixture:
    """Data sets as a recipe names them: `{name: {source, repeat, ...}}`."""
    parts = []
    for name, entry in entries.items():
        if entry is None:  # switched off by --set data.name=null
            continue
        data, repeat = make_data_set(name, entry), entry.get("repeat", 1)
        if type(repeat) is not int or repeat < 1:
            raise DataError(f"data.{name}: repeat is {repeat!r}; give 1 or more, or leave the data set out")
        parts.append((data, repeat))
    mixture = Mixture(parts)
    for name, count, repeat in mixture.describe():
        say(f"{kind}data: {name}, {count:,} samples x{repeat}")
    return mixture


def make_data_set(name: str, entry: dict[str, Any]) -> Any:
    """One data set of a recipe.

    Raises:
        DataError: An unknown source, or arguments that the data set does not take; or its files are missing.
    """
    source = entry.get("source") if isinstance(entry, dict) else None
    if source not in DATA_SETS:
        raise DataError(f"data.{name}: source is {source!r}; the sources are {', '.join(DATA_SETS)}")
    arguments = {key: value for key, value in entry.items() if key not in ("source", "repeat")}
    taken = inspect.signature(DATA_SETS[source]).parameters
    for key in arguments:
        if key not in taken:
            raise DataError(
                f"data.{name}: {source} has no {key}{closest(key, list(taken))}; it takes {', '.join(taken)}"
            )
    missing = [key for key, one in taken.items() if one.default is one.empty and key not in arguments]
    if missing:
        raise DataError(f"data.{name}: {source} needs {', '.join(missing)}")
    try:
        return DATA_SETS[source](**arguments)
    except TypeError as error:  # a word where a number belongs
        raise DataError(f"data.{name}: {source} cannot be made of {arguments} ({error})") from error


def places(first: int, count: int) -> Dataset:
    """What the Trainer holds: numbers only; rows are read by the collator, in the loader's processes."""
    return Dataset.from_dict({"place": list(range(first, first + count))})


class PlacesCollator:
    """Looks rows up and collates them; places behind the training mixture are those of the validation mixture."""

    def __init__(self, collator: Collator, train: Mixture, validation: Mixture | None):
        self.collator, self.train, self.validation = collator, train, validation

    def row(self, place: int) -> Row:
        if self.validation is not None and place >= len(self.train):
            return self.validation.row(place - len(self.train))
        return self.train.row(place)

    def __call__(self, places: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        return self.collator([self.row(one["place"]) for one in places])


def make_collator(
    recipe: JointTuning, loaded: Loaded, config: SFTConfig, folder: RunFolder, features: FeatureCache | None
) -> Collator:
    attention = getattr(loaded.network.config.get_text_config(), "_attn_implementation", "sdpa") or "sdpa"
    return Collator(
        loaded.processor,
        packed=recipe.batching == "packed",
        one_row=recipe.batching == "packed" and "flash" in attention,
        max_length=config.max_length,
        on_bad=recipe.bad_rows,
        bad_rows=folder.bad_rows,
        features=features.read if features else None,
        clues=recipe.clues,
    )


def make_sampler(
    recipe: JointTuning, mixture: Mixture, config: SFTConfig, processor: UniRSProcessor, say: Say
) -> EpochSampler:
    """The order of an epoch; tells how much padding it costs, and what plain padding would."""
    batch = config.per_device_train_batch_size
    grouped = recipe.batching == "grouped"
    random = EpochSampler(len(mixture), batch, recipe.seed)
    measured = list(random) if grouped else list(islice(random, SAMPLED_ROWS))
    length = {place: estimate_length(mixture.row(place), processor) for place in measured}
    sampler = random
    if grouped:
        lengths = [length[place] for place in range(len(mixture))]
        sampler = EpochSampler(len(mixture), batch * config.world_size, recipe.seed, lengths)
    plain = padding_share([length[place] for place in measured], batch, packed=False)
    order = list(sampler) if grouped else measured
    chosen = padding_share([length[place] for place in order], batch, packed=recipe.batching == "packed")
    say(f"padding: {plain:.1%} of all tokens if padded at random, {chosen:.1%} {recipe.batching} (estimated)")
    return sampler


def keep_features(
    recipe: JointTuning, loaded: Loaded, mixtures: list[Mixture | None], say: Say
) -> FeatureCache | None:
    """Fills the cache, each process its share of the rows; None without a cache."""
    if recipe.feature_cache is None:
        return None
    state = process_state()
    if loaded.network.device != state.device:
        loaded.network.to(state.device)
    seer = Seer(loaded.network, loaded.processor)
    cache = FeatureCache(Path(recipe.feature_cache).expanduser(), seer.origin(), seer.look)
    # A picture that cannot be read is told again, by its row, when it is trained on: there the run stops or skips it.
    on_bad = None if recipe.bad_rows == "stop" else lambda visual, error: None
    for mixture in filter(None, mixtures):
        rows = (mixture.row(place) for place in range(state.process_index, len(mixture), state.num_processes))
        cache.fill((visual for row in rows for visual in visuals_of(row["messages"])), on_bad)
    state.wait_for_everyone()
    say(f"features: {cache.computed:,} looked at in {duration(cache.seconds)}, kept in {cache.folder}")
    return cache


class Seer:
    """The frozen parts: pictures to projected features."""

    def __init__(self, network: Any, processor: UniRSProcessor):
        whole: Any = network.get_base_model() if isinstance(network, PeftModel) else network
        self.base = whole.model.eval()
        self.processor = processor

    def origin(self) -> str:
        """Names the weights and the processing."""
        parts = (self.base.vision_tower, self.base.change_extraction, self.base.multi_modal_projector)
        settings = {**self.processor.image_processor.to_dict(), "num_frames": self.processor.num_frames}
        return weights_hash(parts) + json.dumps(settings, sort_keys=True, default=str)

    def look(self, visual: Visual) -> torch.Tensor:
        """Projected features of one visual: `(blocks, tokens, dim)`, a block for a picture, a pair or a frame."""
        device = self.base.device
        if visual.kind == "video":
            clip = visual.sources[0] if len(visual.sources) == 1 else list(visual.sources)
            pixels = self.processor.video_processor([clip], num_frames=self.processor.num_frames)
            return self.base.get_video_features(pixels["pixel_values_videos"].to(device))
        pixels = self.processor(images=list(visual.sources))["pixel_values"].to(device)
        if visual.kind == "image":
            return self.base.get_image_features(pixels)
        return self.base.get_change_features(pixels[None])


# -- model -----------------------------------------------------------------------------------------------------------
def load(recipe: JointTuning, model: str) -> Loaded:
    """The model with all but the recipe's `trainable` parts frozen; an adapter's folder gives its base and itself."""
    source, trained_adapter = model, None
    if (Path(model) / "adapter_config.json").is_file():
        if recipe.adapter is not None:
            raise DataError(
                f"{model}: is an adapter; train it further with adapter=null, or merge it (unirs publish --merge)"
            )
        trained_adapter = model
        source = json.loads((Path(model) / "adapter_config.json").read_text())["base_model_name_or_path"]
    adapter = Adapter(**exactly(recipe.adapter, Adapter, "adapter")) if recipe.adapter else None
    arguments: dict[str, Any] = {"dtype": getattr(torch, recipe.dtype)}
    if adapter is not None and adapter.method == "qlora":
        arguments |= {"quantization_config": four_bits(), "device_map": {"": process_state().device}}
    try:
        network, loading = AutoModelForImageTextToText.from_pretrained(source, output_loading_info=True, **arguments)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise DataError(
            f"{source}: cannot be loaded as a UniRS model: {' '.join(str(error).split())[:300]}"
        ) from error
    if loading["missing_keys"]:
        raise DataError(f"{source}: lacks weights, {sorted(loading['missing_keys'])[0]} first; copy the folder again")
    processor = AutoProcessor.from_pretrained(model)
    freeze(network, recipe.trainable)
    if trained_adapter is not None:
        network = PeftModel.from_pretrained(network, trained_adapter, is_trainable=True)
    return Loaded(network, processor, adapter)


def freeze(network: UniRSForConditionalGeneration, trainable: list[str]) -> None:
    """All parts but the named ones; the head belongs to the language model. Four-bit weights never have gradients."""
    modules = {part: getattr(network.model, part) for part in PARTS} | {"head": network.lm_head}
    wanted = {*trainable, *(["head"] if "language_model" in trainable else [])}
    for name, module in modules.items():
        for parameter in module.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(name in wanted)


def check_like(name: str, value: Any, known: Field) -> None:
    """Numbers where the default is a number: SFTConfig takes words too, and fails hours later."""
    hint = str(known.type)
    if "bool" in hint and "str" not in hint:
        if value is not None and not isinstance(value, bool):
            raise DataError(f"{name} is {value!r}; it can be true or false")
    elif isinstance(known.default, int | float) and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise DataError(f"{name} is {value!r}; it must be a number")


def training_arguments(recipe: JointTuning) -> SFTConfig:
    known = {field.name: field for field in fields(SFTConfig)}
    names = list(known)
    for key, value in recipe.training.items():
        if key in OURS:
            raise DataError(f"training.{key}: is set by UniRS; remove it (output and seed stand at the recipe's top)")
        if key not in names:
            raise DataError(f"training.{key}: TRL's SFTConfig has no such argument{closest(key, names)}")
        check_like(f"training.{key}", value, known[key])
        if key in AT_LEAST_ONE and value < 1:
            raise DataError(f"training.{key} is {value}; give 1 or more")
    try:
        return SFTConfig(
            output_dir=str(RunFolder(recipe).checkpoints),
            seed=recipe.seed,
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            disable_tqdm=True,
            **{
                "use_cpu": not torch.accelerator.is_available(),
                # The language model is in every step; the other parts only in steps with their kind of picture.
                "ddp_find_unused_parameters": set(recipe.trainable) != {"language_model"},
                **recipe.training,
            },
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"training: {' '.join(str(error).split())}") from error


def save(trainer: UniRSTrainer, recipe: JointTuning, folder: RunFolder, processor: UniRSProcessor) -> None:
    """Model (or adapter), processor, loss curve and, for the model card, where the weights come from."""
    network = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(network, PeftModel):
        trainer.save_model(str(folder.path))
        (folder.path / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nobody needs
    else:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # every process gives its shards
        if trainer.is_world_process_zero():
            save_whole(network, state, getattr(torch, recipe.save_dtype), folder.path)
    if not trainer.is_world_process_zero():
        return
    processor.save_pretrained(folder.path)
    history = trainer.state.log_history
    shares = make_mixture(recipe.data).describe()
    data = ", ".join(f"{name} ({count:,} samples, x{repeat})" for name, count, repeat in shares)
    record = {"note": f"Tuned by `unirs train` from {recipe.model} on {data}.", "log": history}
    (folder.path / "training.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    draw_curve(history, folder.path / "loss.png", f"{recipe.stage}: {recipe.output}")


def save_whole(network: Any, state: dict[str, torch.Tensor], dtype: torch.dtype, folder: Path) -> None:
    """Saves gathered weights through a fresh model.

    FSDP2 makes the network an instance of a class of torch's, whose source files would be saved beside the weights.
    """
    with torch.device("meta"):
        fresh = UniRSForConditionalGeneration(copy.deepcopy(network.config))
    fresh.to(dtype)
    fresh.generation_config = network.generation_config
    tied = fresh._tied_weights_keys if network.config.tie_word_embeddings else ()
    state = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in state.items()
        if name not in tied
    }
    fresh.save_pretrained(folder, state_dict=state)


def speed_up(features: FeatureCache, trainer: UniRSTrainer) -> float | None:
    last = trainer.state.log_history[-1]
    epochs = trainer.state.epoch or 0.0
    return features.speed_up(last["train_runtime"] / epochs) if epochs and "train_runtime" in last else None


def count_lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else 0


def _silence(trainer: UniRSTrainer) -> None:
    """Without the Trainer's own printing of whole dictionaries."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
