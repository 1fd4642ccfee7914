"""The model card: metadata that the hub reads, the uses, the scores, where the weights come from, their license."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .evaluated import card_record, is_of_evaluate
from .weight_files import WeightError

TEMPLATE = Path(__file__).with_name("model_card.md")
TAGS = ["unirs", "remote-sensing", "change-captioning", "visual-question-answering", "video-classification"]
TASK = "image-text-to-text"

# Of a score, what is not its value.
BESIDE = ("name", "count", "blind", "interval_95", "commonest_answer", "dataset", "aim")

# What weights carry by where they come from: the hub's name of the license, and the sentence of the card.
VILA_LICENSE = (
    "cc-by-nc-sa-4.0",
    "The weights derive from VILA-1.5 and carry its license, CC-BY-NC-SA-4.0: not for commercial use, share alike. "
    "Its language model derives from LLaMA 2, whose community license applies too.",
)
LICENSES = {
    "VILA-1.5": VILA_LICENSE,
    "released UniRS": VILA_LICENSE,
    "vision tower and language model": (
        "other",
        "The weights carry the licenses of the vision tower and of the language model that they were made from.",
    ),
}
UNKNOWN_LICENSE = ("other", "No license of the weights is recorded; ask whoever made them before you use them.")


@dataclass(frozen=True)
class Provenance:
    """What is recorded beside the weights; each is `{}` where nothing is."""

    conversion: dict[str, Any]  # of `unirs convert`
    training: dict[str, Any]  # of `unirs train`
    evaluation: dict[str, Any]  # {"dataset", "note", "command", "scores": {name: {"count", "accuracy", ...}}}

    FILES = ("conversion.json", "training.json", "evaluation.json")

    @classmethod
    def of_folder(cls, folder: Path, evaluation: Path | None = None) -> Provenance:
        """Raises `WeightError` for a record that is no JSON object, and for an evaluation without scores."""
        files = [folder / name for name in cls.FILES[:2]] + [evaluation or folder / cls.FILES[2]]
        conversion, training, scores = (_read(file) if file.is_file() else {} for file in files)
        if is_of_evaluate(scores):
            try:
                scores = card_record(scores)
            except (KeyError, TypeError, AttributeError) as error:
                raise WeightError(f"{files[2]}: is no whole scores.json of `unirs evaluate` ({error})") from error
        elif scores and not isinstance(scores.get("scores"), dict):
            raise WeightError(f"{files[2]}: has no scores; give the scores.json of `unirs evaluate`")
        return cls(conversion, training, scores)

    def write(self, folder: Path) -> None:
        for name, record in zip(self.FILES, (self.conversion, self.training, self.evaluation), strict=True):
            if record:
                (folder / name).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightError(f"{file}: is no JSON ({error}); mend or remove it") from error
    if not isinstance(found, dict):
        raise WeightError(f"{file}: holds no record; mend or remove it")
    return found


def score_rows(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """Scores as rows of the card's table: name, count, metric, value, interval, blind, commonest, data set.

    Raises:
        WeightError: A score has no number.
    """
    rows = []
    for name, score in evaluation.get("scores", {}).items():
        if not isinstance(score, dict):
            raise WeightError(f'the evaluation\'s score {name} is no object; write {{"count": 1, "accuracy": 0.5}}')
        numbers = {key: value for key, value in score.items() if key not in BESIDE}
        metric, value = next(iter(numbers.items()), ("", None))
        if not isinstance(value, int | float):
            raise WeightError(f'the evaluation\'s score {name} has no number; write {{"count": 1, "accuracy": 0.5}}')
        try:
            low, high = score.get("interval_95") or (None, None)
            rows.append(
                {
                    "name": score.get("name", name.replace("_", " ")),
                    "count": score.get("count", ""),
                    "metric": metric,
                    "value": value,
                    "interval": "" if low is None else f"{low:.3f}-{high:.3f}",
                    "blind": _shown(score.get("blind")),
                    "commonest": _shown(score.get("commonest_answer")),
                    "dataset": str(score.get("dataset", evaluation.get("dataset", "held-out"))),
                }
            )
        except (TypeError, ValueError) as error:
            raise WeightError(
                f"the evaluation's score {name} has no number for interval_95, blind or commonest_answer ({error}); "
                "write numbers, two for the interval"
            ) from error
    return rows


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def render_card(
    name: str,
    repo: str,
    provenance: Provenance,
    parameters: int,
    dtype: str,
    pixels: int,
    base_model: str | None = None,
    adapter: bool = False,
    license_id: str | None = None,
) -> str:
    """The text of README.md.

    Args:
        name: Title of the card.
        repo: What the snippets load: a folder or a hub id.
        license_id: The hub's name of a license; by default what the provenance says.
    """
    rows = score_rows(provenance.evaluation)
    recorded = LICENSES.get(provenance.conversion.get("source_format", ""), UNKNOWN_LICENSE)
    if provenance.training.get("license"):
        recorded = (provenance.training["license"], provenance.training.get("license_note", ""))
    if license_id and license_id != recorded[0]:
        recorded = (license_id, f"The weights are published under {license_id}.")
    data = ModelCardData(
        license=recorded[0],
        library_name="transformers",
        pipeline_tag=TASK,
        language="en",
        tags=[*TAGS, *(["lora", "peft"] if adapter else [])],
        base_model=base_model,
        datasets=provenance.training.get("datasets"),
        metrics=sorted({row["metric"] for row in rows}) or None,
        model_name=name if rows else None,
        eval_results=[
            EvalResult(
                task_type=TASK,
                dataset_type=row["dataset"].lower().replace(" ", "-"),
                dataset_name=row["dataset"],
                metric_type=row["metric"],
                metric_name=row["name"],
                metric_value=row["value"],
            )
            for row in rows
        ]
        or None,
    )
    fresh = sorted({one.partition("[")[0].rpartition(".")[0] or one for one in provenance.conversion.get("fresh", [])})
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        name=name,
        repo=repo,
        parameters=parameters,
        dtype=dtype,
        pixels=pixels,
        adapter=adapter,
        base_model=base_model,
        scores=rows,
        evaluation=provenance.evaluation,
        conversion=provenance.conversion,
        training=provenance.training,
        fresh=", ".join(fresh[:4]) + (", ..." if len(fresh) > 4 else ""),
        license_note=recorded[1],
    ).content
