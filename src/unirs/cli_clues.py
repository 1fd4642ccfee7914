"""`unirs data clues`: the base model asked about every row of a data set."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .extras import install_command
from .given import check_writable
from .model_source import find_model, load_model
from .terminal import InputError, Json, busy, counted

if TYPE_CHECKING:
    from unirs.trainers.clues import Found

SHOWN_FAILURES = 5


def clues(
    path: Annotated[
        Path, typer.Argument(help="JSONL, Parquet, a `datasets` folder or LLaVA's JSON; or see --source.")
    ],
    base: Annotated[str, typer.Option(help="Folder or hub id of the base model that is asked.")],
    output: Annotated[Path, typer.Option(help="File (or folder) for the rows with their clues.")],
    source: Annotated[
        str, typer.Option(help="Your own rows, or a data set of a recipe: OUTPUT is then a table of id and clue.")
    ] = "own",
    split: Annotated[str | None, typer.Option(help="Split, of a data set that has several.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder that paths are relative to.", show_default="PATH's")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="KIND=WORDS", help="What is asked of a single, a pair or a video.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=1024, help="Longest clue, in tokens.")] = 32,
    num_frames: Annotated[int | None, typer.Option(min=1, max=64, help="Frames to take from a clip.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Questions asked at a time.")] = 8,
    as_json: Json = False,
) -> None:
    """Ask the base model for the clue of every row. Stopped at any moment, the same command goes on where it was."""
    if not output.is_dir():
        check_writable(output)
    prompts = dict(map(split_prompt, prompt or []))
    find_model(base, "--base")
    try:
        from datasets import disable_progress_bars

        from unirs.trainers.clue_output import check_ids, check_output, write_rows, write_table
        from unirs.trainers.clues import Journal, find_clues
        from unirs.trainers.data_sets import DataError, OwnData
        from unirs.trainers.recipe_data import make_data_set
    except ImportError as error:
        raise InputError(f"clues for data need more packages ({error.name}): {install_command('train')}") from error

    disable_progress_bars()
    given = {"source": source, "path": str(path), "split": split, "images": images and str(images)}
    options = {} if num_frames is None else {"num_frames": num_frames}
    try:
        data = make_data_set("PATH", {name: value for name, value in given.items() if value is not None})
        if not len(data):
            raise InputError(f"{path}: holds no rows; check the path and --split")
        check_output(data, output) if isinstance(data, OwnData) else check_ids(data)
        journal_path = output.with_name(f"{output.name}.clues")
        if output.exists() and not journal_path.exists():
            raise InputError(f"{output}: is there already; remove it, or give another name")
        augmenter, made_with = load_augmenter(base, prompts, max_new_tokens)
        made_with |= {**given, **options}
        with closing(Journal(journal_path, made_with)) as journal:
            ready = sum(row < len(data) for row in journal.found)  # others were removed since
            if ready and not as_json:
                typer.echo(f"Going on: {ready:,} rows of {len(data):,} have their clues already.", err=True)
            with counted("Asking for clues", unit="rows") as progress:
                found = find_clues(data, augmenter, journal, batch_size, progress, **options)
        write_rows(data, found, output) if isinstance(data, OwnData) else write_table(data, found, output)
    except DataError as error:
        raise InputError(str(error)) from error
    except RuntimeError as error:  # the accelerator's memory
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the base model failed ({reason}); what was asked is kept: go on, with a smaller --batch-size"
        ) from error
    except OSError as error:  # what was asked is in the journal
        raise InputError(f"{output}: cannot be written ({error.strerror or error}); run the command again") from error
    unreadable = tell(list(found.values()), path, output, as_json)
    if unreadable:  # the journal stays: once they are mended, only they are asked
        raise InputError(
            f"{unreadable:,} of {len(found):,} rows of {path} gave no clue and stay plain in {output}; mend them and "
            "run the command again"
        )
    journal_path.unlink()


def split_prompt(given: str) -> tuple[str, str]:
    kind, equals, words = given.partition("=")
    if not equals or kind not in ("single", "pair", "video") or not words.strip():
        raise InputError(f"--prompt {given}: write it as single=WORDS, pair=WORDS or video=WORDS")
    return kind, words


def load_augmenter(base: str, prompts: dict[str, str], max_new_tokens: int) -> tuple[Any, dict[str, Any]]:
    """What asks, on the accelerator where there is one; and all that its clues depend on."""
    with busy("Loading the base model"):
        import torch

        from unirs.trainers.feature_cache import weights_hash

        network, processor = load_model(base, "--base")
        augmenter = network.eval().prompt_augmenter(processor, prompts=prompts, max_new_tokens=max_new_tokens)
        made_with = {"base": base, "weights": weights_hash([network]), "prompts": augmenter.prompts}
        if torch.accelerator.is_available():
            network.to(torch.accelerator.current_accelerator())
    return augmenter, {**made_with, "max_new_tokens": max_new_tokens}


def tell(found: list[Found], path: Path, output: Path, as_json: bool) -> int:
    """Says how many rows have a clue, and which could not be read; gives the number of these."""
    from unirs.modeling_unirs.prompt_augmentation_unirs import EMPTY, NO_PICTURE

    without = [one for one in found if one.clue is None]
    unreadable = sorted((one for one in without if one.failure not in (EMPTY, NO_PICTURE)), key=lambda one: one.row)
    if as_json:
        counts = {"rows": len(found), "with_clue": len(found) - len(without), "failed": len(unreadable)}
        typer.echo(json.dumps({"task": "data clues", "path": str(path), "output": str(output), **counts}))
    else:
        typer.echo(f"{len(found) - len(without):,} of {len(found):,} rows have a clue: {output}")
    for one in unreadable[:SHOWN_FAILURES]:
        reason = str(one.failure).removeprefix(f"{path}, row {one.row + 1}: ")
        typer.echo(f"row {one.row + 1}: no clue: {reason}", err=True)
    return len(unreadable)
