"""Recipes: YAML files that name every value a run trains with."""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from .data_sets import DataError

PARTS = ("vision_tower", "change_extraction", "multi_modal_projector", "language_model")
BATCHINGS = ("padded", "grouped", "packed")


@dataclass(frozen=True)
class JointTuning:
    """Stage 2. `training` holds arguments of TRL's `SFTConfig` by their own names.

    Args:
        data: Data sets by a name of your choice: `{source, repeat, ...}`; the rest are arguments of the data set.
        validation: The same, for `training.eval_strategy`; or None.
        trainable: Parts of the model that are tuned; the others are frozen. With an adapter it alone is trained.
        adapter: `{method, r, lora_alpha, lora_dropout, target_modules}`, or None for full tuning.
        batching: "padded"; "grouped" puts samples of like length together; "packed" puts them end to end.
        dtype: Of the weights in training; `save_dtype`: of the weights that are saved.
        bad_rows: "stop" at a picture that cannot be read, or "skip" its row and report it.
        clues: Use the clues that rows carry.
        feature_cache: Folder for the features of frozen parts, for several epochs over a small set; or None.
    """

    stage: Literal["joint_tuning"]
    model: str
    output: str
    seed: int
    data: dict[str, dict[str, Any]]
    validation: dict[str, dict[str, Any]] | None
    trainable: list[str]
    adapter: dict[str, Any] | None
    batching: Literal["padded", "grouped", "packed"]
    dtype: Literal["float32", "bfloat16"]
    save_dtype: Literal["float32", "bfloat16"]
    bad_rows: Literal["stop", "skip"]
    clues: bool
    feature_cache: str | None
    training: dict[str, Any]

    def __post_init__(self) -> None:
        check_seed(self.seed)
        unknown = [part for part in self.trainable if part not in PARTS]
        if unknown:
            raise DataError(f"trainable names {unknown[0]!r}; the parts are {', '.join(PARTS)}")
        if not self.validation and self.training.get("eval_strategy", "no") not in ("no", None):
            raise DataError(
                "there is no validation data; set training.eval_strategy=no too, or name some as validation.NAME"
            )
        if self.feature_cache and set(self.trainable) != {"language_model"}:
            raise DataError("feature_cache keeps what frozen parts see; use it with trainable=[language_model]")


@dataclass(frozen=True)
class ChangePretraining:
    """Stage 1, by Chg2Cap's recipe.

    Args:
        data, validation: Before/after pairs with captions, by a name of your choice: `{source, ...}`.
        metric: What tells the best epoch on the validation pairs: bleu_4 or cider_d.
        feature_cache: Folder for the frozen tower's features, or None.
    """

    stage: Literal["change_pretraining"]
    model: str
    output: str
    seed: int
    data: dict[str, dict[str, Any]]
    validation: dict[str, dict[str, Any]]
    metric: Literal["bleu_4", "cider_d"]
    feature_cache: str | None
    training: dict[str, Any]

    def __post_init__(self) -> None:
        check_seed(self.seed)


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise DataError(f"seed is {seed}; give 0 to {2**32 - 1}")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 1e-4 for a word and `no` for false; here the one is a number and the other a word."""


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool"]
    for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false|True|False)$"), list("tfTF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_recipe(name: str, changes: list[str]) -> JointTuning | ChangePretraining:
    """Reads a recipe file, or one that comes with the package by its name, and applies `key=value` changes.

    Raises:
        DataError: The file is missing or no recipe; a key is unknown, missing or of the wrong type.
    """
    text, where = _find(name)
    values = _parse(text, where)
    if not isinstance(values, dict):
        raise DataError(f"{where}: holds no recipe; it must be `key: value` lines")
    for change in changes:
        _apply(values, change)
    kinds = {"joint_tuning": JointTuning, "change_pretraining": ChangePretraining}
    stage = values.get("stage")
    own = Path(name).expanduser().is_file()
    if not own and stage == "joint_tuning" and _replaced(changes, "data"):
        _forget_validation(values, changes)
    if not own and stage == "change_pretraining":
        _check_validation(values, where)
    if stage not in kinds:
        raise DataError(f"{where}: stage is {stage!r}; the stages are {' and '.join(kinds)}")
    return kinds[stage](**exactly(values, kinds[stage], where))


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("unirs.trainers.recipes")
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def as_yaml(recipe: JointTuning | ChangePretraining) -> str:
    return yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False, allow_unicode=True)


def closest(name: str, names: list[str]) -> str:
    """` (did you mean x?)`, or nothing."""
    found = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {found[0]}?)" if found else ""


def _find(name: str) -> tuple[str, str]:
    path = Path(name).expanduser()
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as text ({error}); give a YAML file") from error
    stem = name.removesuffix(".yaml")
    if stem in shipped():
        file = resources.files("unirs.trainers.recipes") / f"{stem}.yaml"
        return file.read_text(encoding="utf-8"), f"recipe {stem}"
    raise DataError(f"{name}: no such recipe file; the package brings {', '.join(shipped())}")


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise DataError(f"{where}: is no YAML: {' '.join(str(error).split())}") from error


def _apply(values: dict[str, Any], change: str) -> None:
    """`training.max_steps=3` and the like; a mapping is given whole as `data.own={source: own, path: x.jsonl}`."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise DataError(f"--set {change}: write it as key=value")
    *path, last = key.split(".")
    place = values
    for step in path:
        if step in place and place[step] is None:  # as `validation` of most recipes is
            place[step] = {}
        if not isinstance(place.get(step), dict):
            raise DataError(f"--set {change}: {step} has no values inside{closest(step, list(place))}")
        place = place[step]
    place[last] = _parse(text, f"--set {change}")


def _replaced(changes: list[str], part: str) -> bool:
    return any(change.partition("=")[0].partition(".")[0] == part for change in changes)


def _forget_validation(values: dict[str, Any], changes: list[str]) -> None:
    """A recipe of the package validates on generated scenes, which say nothing about a user's own data."""
    if _replaced(changes, "validation"):
        return
    values["validation"] = None
    if not any(change.startswith("training.eval_strategy=") for change in changes):
        values["training"]["eval_strategy"] = "no"


def _check_validation(values: dict[str, Any], where: str) -> None:
    """Stage 1 keeps the epoch that says best what the validation pairs show: of a user's own pairs, no others can."""

    def generated(part: str) -> list[bool]:
        given = values.get(part)
        sets = given.values() if isinstance(given, dict) else ()
        return [one.get("source") == "generated" for one in sets if isinstance(one, dict)]

    if not all(generated("data")) and all(generated("validation")):
        raise DataError(
            f"{where}: its validation pairs are generated, and the best epoch is chosen by them; give your own: "
            "--set 'validation.pair={source: ..., split: ...}'"
        )


def _check_type(name: str, value: Any, hint: Any, where: str) -> None:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise DataError(f"{where}: {name} is {value!r}; it can be {', '.join(get_args(hint))}")
        return
    kinds = [get_origin(one) or one for one in (get_args(hint) if isinstance(hint, UnionType) else (hint,))]
    if float in kinds:
        kinds.append(int)
    if not isinstance(value, tuple(kinds)) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
        raise DataError(f"{where}: {name} is {value!r}; it must be of the kind {wanted}")


def exactly(values: dict[str, Any], kind: type, where: str) -> dict[str, Any]:
    """The values, if they are all those of a dataclass and no others.

    Raises:
        DataError: One is unknown or missing; it is named.
    """
    hints = get_type_hints(kind)
    for name in values:
        if name not in hints:
            raise DataError(f"{where}: {name} is no value of it{closest(name, list(hints))}")
    missing = [name for name in hints if name not in values]
    if missing:
        raise DataError(f"{where}: {', '.join(missing)} is missing; a recipe names every value (null for none)")
    for name, hint in hints.items():
        _check_type(name, values[name], hint, where)
    return values
