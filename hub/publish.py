"""A UniRS model becomes a repository: flat, complete, checked, loadable with one line by anyone."""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from ..modeling_unirs.configuration_unirs import UniRSConfig
from ..modeling_unirs.modeling_unirs import UniRSForConditionalGeneration
from ..processing import UniRSProcessor
from .card import Provenance, render_card
from .convert import empty_model, fill, language_dtype, write_rest
from .loading import LoadingError, check_whole
from .quantize import is_quantized
from .sources import UNIRS, one_line, open_source, read_json, read_processor
from .stranger import check
from .weight_files import Weight, WeightError, read_weights, write_weights
from .whole_folder import SUMS, check_free, counting, files_of, read_sums, verify, whole_folder, write_sums

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
LICENSE = Path(__file__).with_name("LICENSE")
# What a stranger needs to load and run the folder; versions are those of the package.
RUNTIME = ("torch", "transformers", "numpy", "pillow", "av", "safetensors", "jinja2")


@dataclass(frozen=True)
class Published:
    """What `publish` made."""

    files: dict[str, int]  # name: bytes
    parameters: int | None  # None where the folder was made before
    difference: float | None  # of the logits without the package, relative; None where it was not checked


def publish(
    model: str | Path,
    target: str | Path,
    *,
    name: str | None = None,
    base: str | None = None,
    merge: bool = False,
    evaluation: str | Path | None = None,
    license_id: str | None = None,
    checked: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Published:
    """Writes `target`: code, weights, processor, generation settings, model card, license, requirements, hashes.

    Args:
        model: A UniRS folder, or the folder of a LoRA adapter over one.
        target: Folder to make. It appears when it is complete, or not at all.
        name: What the card's snippets load; the target's name by default.
        base: Base model of the card; for an adapter, the folder or hub id that it is laid over from now on.
        merge: Put the adapter into the weights instead of publishing it alone.
        evaluation: JSON of scores for the card; by default `evaluation.json` in the model's folder.
        checked: Load the result where the package is absent and compare the logits.

    Raises:
        WeightError: The model is incomplete, or does not load for a stranger; nothing is left behind.
    """
    model, target = Path(model).expanduser(), Path(target).expanduser()
    evaluation = Path(evaluation).expanduser() if evaluation else None
    if evaluation and not evaluation.is_file():
        raise WeightError(f"{evaluation}: no such file; give the JSON of an evaluation")
    check_free(target)
    adapter = (model / ADAPTER_CONFIG).is_file()
    if merge and not adapter:
        raise WeightError(f"{model}: is no adapter, so there is nothing to merge")
    provenance = Provenance.of_folder(model, evaluation)
    with ExitStack() as stack:
        weights_of = model
        if adapter and merge:
            weights_of = Path(stack.enter_context(TemporaryDirectory(dir=target.absolute().parent)))
            merge_adapter(model, base, weights_of)
        needed = sum(file.stat().st_size for file in weights_of.glob("*.safetensors"))
        partial = stack.enter_context(whole_folder(target, needed))
        if adapter and not merge:
            base, settings, parameters = write_adapter(partial, model, base, counting(progress, needed))
        else:
            settings, parameters = write_model(partial, weights_of, counting(progress, needed))
        provenance.write(partial)
        card = render_card(
            name=Path(name or target.name).name,
            repo=name or target.name,
            provenance=provenance,
            parameters=parameters,
            dtype=stored_types(settings),
            pixels=settings.vision_config.image_size,
            base_model=base,
            adapter=adapter and not merge,
            license_id=license_id,
        )
        (partial / "README.md").write_text(card, encoding="utf-8")
        shutil.copy(LICENSE, partial / "LICENSE")
        (partial / "requirements.txt").write_text(
            requirements()
            + ("torchao>=0.15\n" if is_quantized(settings) else "")
            + ("peft>=0.19\n" if adapter and not merge else "")
        )
        write_sums(partial)
        difference = check(partial, model, partial if adapter else model, merge) if checked else None
        for cache in partial.glob("__pycache__"):
            shutil.rmtree(cache)
        files = {file: (partial / file).stat().st_size for file in files_of(partial)}
    return Published(files, parameters, difference)


def write_model(folder: Path, model: Path, tick: Callable[[int], None]) -> tuple[UniRSConfig, int]:
    """Weights, configuration, code, processor and generation settings of a complete UniRS folder.

    Returns:
        The configuration and the number of parameters.
    """
    source = open_source(model, None)
    if source.kind != UNIRS:
        raise WeightError(f"{model}: is no UniRS folder; make one by `unirs convert {model} FOLDER`")
    network = empty_model(model, source)
    if is_quantized(source.config):
        # as the quantiser wrote them: how each matrix is packed stands in the files' own metadata
        for file in (*source.files, *model.glob("*.safetensors.index.json")):
            shutil.copy(file, folder)
            tick(file.stat().st_size)
        write_rest(folder, source, network)
        return network.config, network.num_parameters()
    weights, _, fresh = fill(network, source, None, 0)
    if fresh:
        raise WeightError(f"{model}: lacks {', '.join(fresh[:5])}; a published model has all its weights")
    network.config.dtype = source.config.dtype or language_dtype(weights)  # it loads as it did
    write_weights(folder, weights, tick=tick)
    write_rest(folder, source, network)
    return network.config, network.num_parameters()


# -- adapters --------------------------------------------------------------------------------------------------------
def base_of(adapter: Path, base: str | None) -> str:
    found = base or read_json(adapter / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not found:
        raise WeightError(f"{adapter / ADAPTER_CONFIG}: names no base model; give it (--base)")
    return str(found)


def load_base(base: str) -> UniRSForConditionalGeneration:
    try:
        network, loading = UniRSForConditionalGeneration.from_pretrained(base, output_loading_info=True)
        check_whole(loading)
        return network
    except (LoadingError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise WeightError(f"the base model {base} cannot be loaded ({one_line(error)}); give it (--base)") from error


def check_base_is_on_the_hub(adapter: Path, base: str | None) -> None:
    """An adapter that names a folder of this machine can be loaded by nobody else.

    Raises:
        WeightError: It does.
    """
    if (adapter / ADAPTER_CONFIG).is_file() and Path(found := base_of(adapter, base)).expanduser().exists():
        raise WeightError(
            f"{adapter}: sits on {found}, a folder of this machine; push that too and give its hub id "
            "(--base OWNER/NAME), or --merge"
        )


def merge_adapter(adapter: Path, base: str | None, folder: Path) -> None:
    """Lays the adapter into its base's matrices and saves the sum.

    Raises:
        WeightError: The adapter is damaged, or is none of this base's.
    """
    from peft import PeftModel, get_peft_model_state_dict

    base = base_of(adapter, base)
    stored = adapter_weights(adapter)
    network = load_base(base)
    try:
        laid = PeftModel.from_pretrained(network, adapter)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:  # peft raises each of them on damaged settings
        raise WeightError(
            f"{adapter}: does not fit onto {base} ({one_line(error)}); save the adapter again"
        ) from error
    # peft leaves what it does not find as it was drawn
    if missing := sorted(get_peft_model_state_dict(laid, save_embedding_layers=False).keys() - stored.keys()):
        raise WeightError(f"{adapter}: lacks {len(missing)} weights, {missing[0]} first; save the adapter again")
    laid.merge_and_unload().save_pretrained(folder)
    processor_of(adapter, base).save_pretrained(folder)


def adapter_weights(adapter: Path) -> dict[str, Weight]:
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        raise WeightError(f"{adapter}: lacks {ADAPTER_WEIGHTS}; save the adapter again")
    return read_weights(adapter / ADAPTER_WEIGHTS)


def write_adapter(
    folder: Path, adapter: Path, base: str | None, tick: Callable[[int], None]
) -> tuple[str, UniRSConfig, int]:
    """The adapter's weights, its settings with the base that they name, and the processor.

    Returns:
        The base, its configuration, and the number of the adapter's own parameters.
    """
    base = base_of(adapter, base)
    weights = adapter_weights(adapter)
    try:
        config = UniRSConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise WeightError(f"the base model {base} cannot be read ({one_line(error)}); give it (--base)") from error
    settings = {**read_json(adapter / ADAPTER_CONFIG), "base_model_name_or_path": base}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings, indent=2) + "\n")
    written = write_weights(folder, weights, tick=tick)
    written[0].rename(folder / ADAPTER_WEIGHTS)
    processor_of(adapter, base).save_pretrained(folder)
    return base, config, sum(math.prod(weight.shape) for weight in weights.values())


def processor_of(adapter: Path, base: str) -> UniRSProcessor:
    return read_processor(adapter if (adapter / "processor_config.json").is_file() else base)


def stored_types(settings: UniRSConfig) -> str:
    """For the card: what the weights are stored in."""
    stored = str(settings.dtype).removeprefix("torch.")
    return f"{stored}, the language model's matrices int8 (torchao)" if is_quantized(settings) else stored


# -- what stands beside ----------------------------------------------------------------------------------------------
def requirements() -> str:
    """The lines of requirements.txt, as the package states them itself."""
    lines = [line for line in importlib.metadata.requires("unirs") or () if ";" not in line]
    names = {re.split(r"[<>=!~ \[]", line, maxsplit=1)[0].lower(): line for line in lines}
    return "".join(f"{names[name]}\n" for name in RUNTIME)


def published_before(folder: Path) -> Published:
    """A folder that `publish` made, as it was made."""
    if wrong := verify(folder):
        raise WeightError(f"{folder}: was changed since ({', '.join(wrong)}); publish it again")
    return Published({file: (folder / file).stat().st_size for file in files_of(folder)}, None, None)


def push(folder: Path, repo: str, private: bool = False, revision: str | None = None) -> str:
    """Uploads exactly the folder's files in one commit and returns its address.

    What an earlier push left, by its list of hashes, is removed; what somebody else put there stays.

    The token is the one that `hf auth login` or `HF_TOKEN` left. A push that was cut may be repeated: large files
    that arrived are not sent again.
    """
    api = HfApi(library_name="unirs")
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        if revision:
            api.create_branch(repo, branch=revision, exist_ok=True)
        names = files_of(folder)
        stale = _published_in(api, repo, revision) - {*names}
        done = api.create_commit(
            repo,
            [
                *(CommitOperationAdd(name, folder / name) for name in names),
                *(CommitOperationDelete(name) for name in sorted(stale)),  # what an earlier push left
            ],
            commit_message="Publish with UniRS",
            revision=revision,
        )
    except (HfHubHTTPError, OSError) as error:
        raise WeightError(
            f"{repo}: the hub refused ({one_line(error)}); {folder} is complete: log in with `hf auth login` or wait, "
            f"then `unirs publish {folder} --push {repo}`"
        ) from error
    return str(done.commit_url)


def _published_in(api: HfApi, repo: str, revision: str | None) -> set[str]:
    """The files that an earlier push brought."""
    there = set(api.list_repo_files(repo, revision=revision))
    if SUMS not in there:
        return set()
    return there & read_sums(Path(api.hf_hub_download(repo, SUMS, revision=revision))).keys()
