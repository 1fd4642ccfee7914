"""Stage 2, joint tuning: one language model learns from singles, pairs and clips together (paper, section IV-B)."""

from __future__ import annotations

import copy
import json
import time
from contextlib import suppress
from dataclasses import Field, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import SFTConfig

from ..hub.loading import LoadingError, check_whole, reason_of
from ..modeling_unirs import UniRSForConditionalGeneration
from ..processing import UniRSProcessor
from .adapters import Adapter, four_bits
from .collator import TEMPLATE_TOKENS, Collator, estimate_length
from .data_sets import DataError
from .feature_cache import FeatureCache
from .frozen_parts import check_kept, keep_features, speed_up
from .mixture import EpochSampler, Mixture
from .packing import padding_share, tells_samples_apart
from .progress import Lines, draw_curve, duration
from .recipe import PARTS, JointTuning, closest, exactly
from .recipe_data import PlacesCollator, Say, data_record, make_mixture, places
from .rows import items_of
from .run_folder import LogFile, RunFolder, begun_from, process_state
from .trainer import UniRSTrainer

# Arguments of SFTConfig that have a place of their own in a recipe, or that our rows need as they are.
OURS = (
    "output_dir", "seed", "data_seed", "remove_unused_columns", "dataset_kwargs", "disable_tqdm", "packing",
    "padding_free", "model_init_kwargs", "resume_from_checkpoint", "train_sampling_strategy", "label_names",
)  # fmt: skip
AT_LEAST = {
    "per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0, "learning_rate": 0,
}  # fmt: skip
SAMPLED_ROWS = 200  # of which the padding is foretold


@dataclass
class Loaded:
    network: UniRSForConditionalGeneration | PeftModel
    processor: UniRSProcessor
    adapter: Adapter | None

    @property
    def language_model(self) -> Any:
        network: Any = self.network.get_base_model() if isinstance(self.network, PeftModel) else self.network
        return network.model.language_model


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
    check_trainable(recipe, model)
    folder = RunFolder(recipe)
    with folder.held(state.is_main_process):
        with state.main_process_first():
            if state.is_main_process:
                sets, others = (of.sets if of else [] for of in (mixture, validation))
                folder.prepare(
                    resume,
                    data_record("data", recipe.data, sets)
                    | data_record("validation", recipe.validation or {}, others),
                )
        if resume and (log := folder.done()):  # the Trainer would make one step more
            say(f"it is done already, {log[-1]['step']} steps; the model is in {folder.path}")
            return found_by(log, log[-1]["step"], folder, 0.0)
        checkpoint = folder.last_checkpoint(state.num_processes) if resume else None
        # 2. what to train
        loaded = load(recipe, model)
        trainable = sum(p.numel() for p in loaded.network.parameters() if p.requires_grad)
        whole = sum(p.numel() for p in loaded.network.parameters())
        if loaded.adapter is None:
            say(f"training {trainable:,} of {whole:,} weights")
        # 3. how samples become batches
        features = keep_features(recipe, loaded.network, loaded.processor, [mixture, validation], say)
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
        if features is not None:
            check_kept(trainer.model)
        _silence(trainer)
        if resume:
            say(begun_from(checkpoint))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        # 5. what it leaves
        trainer.check_weights()
        save(trainer, recipe, folder, loaded.processor, mixture)
        if features is not None and (times := speed_up(features, trainer)):
            say(f"kept features made an epoch about {times:.1f} times as fast")
        skipped = count_lines(folder.bad_rows)
        if skipped:
            say(f"rows skipped: {skipped}, listed in {folder.bad_rows}")
        minutes = (time.monotonic() - started) / 60
        say(f"{trainer.state.global_step} steps in {duration(minutes * 60)}; the model is in {folder.path}")
        return found_by(trainer.state.log_history, trainer.state.global_step, folder, minutes)


def found_by(log: list[dict[str, Any]], steps: int, folder: RunFolder, minutes: float) -> dict[str, Any]:
    losses = [one["loss"] for one in log if "loss" in one]
    return {
        "output": str(folder.path),
        "steps": steps,
        "loss": losses[-1] if losses else None,
        "skipped": count_lines(folder.bad_rows),
        "minutes": round(minutes, 2),
    }


# -- data ------------------------------------------------------------------------------------------------------------
def make_collator(
    recipe: JointTuning, loaded: Loaded, config: SFTConfig, folder: RunFolder, features: FeatureCache | None
) -> Collator:
    text_config = loaded.network.config.get_text_config()
    flash = "flash" in (getattr(text_config, "_attn_implementation", "sdpa") or "sdpa")
    packed = recipe.batching == "packed"
    if packed and not flash and not tells_samples_apart(loaded.language_model):
        raise DataError(
            f"batching=packed does not work with this language model ({text_config.model_type}): the samples of a row "
            "would see each other; set batching=grouped"
        )
    return Collator(
        loaded.processor,
        packed=packed,
        one_row=packed and flash,
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
    together = batch * config.world_size
    if config.dataloader_drop_last and len(mixture) < together:
        raise DataError(
            f"{len(mixture)} rows make no whole batch of {together}; set training.dataloader_drop_last=false, or a "
            "smaller training.per_device_train_batch_size"
        )
    grouped = recipe.batching == "grouped"
    random = EpochSampler(len(mixture), batch, recipe.seed)
    measured = list(random) if grouped else list(islice(random, SAMPLED_ROWS))
    length = {}
    for place in measured:
        try:
            length[place] = estimate_length(mixture.row(place), processor)
        except DataError:
            if recipe.bad_rows == "stop":
                raise
            length[place] = TEMPLATE_TOKENS  # it will be left out
    sampler = random
    if grouped:
        lengths = [length[place] for place in range(len(mixture))]
        sampler = EpochSampler(len(mixture), together, recipe.seed, lengths)
    plain = padding_share([length[place] for place in measured], batch, packed=False)
    order = list(sampler) if grouped else measured
    chosen = padding_share([length[place] for place in order], batch, packed=recipe.batching == "packed")
    say(f"padding: {plain:.1%} of all tokens if padded at random, {chosen:.1%} {recipe.batching} (estimated)")
    return sampler


# -- model -----------------------------------------------------------------------------------------------------------
def load(recipe: JointTuning, model: str) -> Loaded:
    """The model with all but the recipe's `trainable` parts frozen; an adapter's folder gives its base and itself."""
    source, trained_adapter = model, None
    if is_adapter(model):
        if recipe.adapter is not None:
            raise DataError(
                f"{model}: is an adapter; train it further with adapter=null, or merge it (unirs publish --merge)"
            )
        trained_adapter = model
        source = json.loads((Path(model) / "adapter_config.json").read_text())["base_model_name_or_path"]
    if Path(source).is_dir():
        source = str(Path(source).absolute())  # an adapter notes it, and is used from other folders
    adapter = Adapter(**exactly(recipe.adapter, Adapter, "adapter")) if recipe.adapter else None
    arguments: dict[str, Any] = {"dtype": getattr(torch, recipe.dtype)}
    if adapter is not None and adapter.method == "qlora":
        arguments |= {"quantization_config": four_bits(), "device_map": {"": process_state().device}}
    try:
        network, loading = AutoModelForImageTextToText.from_pretrained(source, output_loading_info=True, **arguments)
        check_whole(loading)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise DataError(f"{source}: cannot be loaded as a UniRS model: {reason_of(error)}") from error
    except LoadingError as error:
        raise DataError(f"{source}: {error}") from error
    processor = AutoProcessor.from_pretrained(model)
    freeze(network, recipe.trainable)
    if trained_adapter is not None:
        network = PeftModel.from_pretrained(network, trained_adapter, is_trainable=True)
    return Loaded(network, processor, adapter)


def is_adapter(model: str) -> bool:
    return (Path(model) / "adapter_config.json").is_file()


def check_trainable(recipe: JointTuning, model: str) -> None:
    """With an adapter it alone is trained, and a recipe that names other parts would tell what was not done."""
    others = [part for part in recipe.trainable if part != "language_model"]
    if others and (recipe.adapter is not None or is_adapter(model)):
        raise DataError(
            f"trainable names {', '.join(others)}, but with an adapter it alone is trained; set "
            "trainable=[language_model], or train without an adapter"
        )
    if not recipe.trainable and recipe.adapter is None and not is_adapter(model):
        raise DataError(f"trainable is empty; name one or more of {', '.join(PARTS)}, or give an adapter")


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
    elif value is None and "None" in hint:
        return
    elif isinstance(known.default, int | float) and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise DataError(f"{name} is {value!r}; it must be a number")
    elif (known.type is int or hint.startswith("int |")) and isinstance(value, float):
        raise DataError(f"{name} is {value!r}; it must be a whole number, written without a point or an exponent")


def training_arguments(recipe: JointTuning) -> SFTConfig:
    known = {field.name: field for field in fields(SFTConfig)}
    names = list(known)
    for key, value in recipe.training.items():
        if key in OURS:
            raise DataError(f"training.{key}: is set by UniRS; remove it (output and seed stand at the recipe's top)")
        if key not in names:
            raise DataError(f"training.{key}: TRL's SFTConfig has no such argument{closest(key, names)}")
        check_like(f"training.{key}", value, known[key])
        if key in AT_LEAST and not value >= AT_LEAST[key]:  # as .nan is not
            raise DataError(f"training.{key} is {value}; give {AT_LEAST[key]} or more")
        if key == "max_steps" and value != -1 and value < 1:
            raise DataError(f"training.max_steps is {value}; give 1 or more, or -1 for whole epochs")
    epochs = recipe.training.get("num_train_epochs", 1)
    if not epochs > 0 and recipe.training.get("max_steps", -1) == -1:
        raise DataError(f"training.num_train_epochs is {epochs}; give more than 0")
    try:
        config = SFTConfig(
            output_dir=str(RunFolder(recipe).checkpoints),
            seed=recipe.seed,
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            disable_tqdm=True,
            **{
                "use_cpu": not torch.accelerator.is_available(),
                "logging_nan_inf_filter": False,  # it logs 0.0 for a loss that is no number
                # The language model is in every step; the other parts only in steps with their kind of picture.
                "ddp_find_unused_parameters": set(recipe.trainable) != {"language_model"}
                or bool((recipe.adapter or {}).get("target_modules")),
                **recipe.training,
            },
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"training: {' '.join(str(error).split())}") from error
    # One process takes one device: TRL refuses nn.DataParallel, which would deal out words and pictures apart.
    config._n_gpu = min(1, config.n_gpu)
    return config


def save(
    trainer: UniRSTrainer, recipe: JointTuning, folder: RunFolder, processor: UniRSProcessor, mixture: Mixture
) -> None:
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
    data = ", ".join(f"{name} ({count:,} samples, x{repeat})" for name, count, repeat in mixture.describe())
    note = f"Tuned by `unirs train` from {recipe.model} on {data}."
    # Evaluation says by it which arm of the ablation a model is.
    record = {"note": note, "clues": recipe.clues and carries_clues(mixture), "log": history}
    draw_curve(history, folder.path / "loss.png", f"{recipe.stage}: {recipe.output}")
    folder.write_record(record)


def carries_clues(mixture: Mixture) -> bool:
    """Whether any of some rows, evenly spread, has a clue."""
    step = max(1, len(mixture) // SAMPLED_ROWS)
    for place in range(0, len(mixture), step):
        with suppress(DataError):  # a row that was left out
            if items_of(mixture.row(place)["messages"], "clue"):
                return True
    return False


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


def count_lines(file: Path) -> int:
    """Different ones: a bad row comes again in each epoch."""
    return len(set(file.read_text(encoding="utf-8").splitlines())) if file.is_file() else 0


def _silence(trainer: UniRSTrainer) -> None:
    """Without the Trainer's own printing of whole dictionaries."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
