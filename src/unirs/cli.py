"""The command line. Heavy imports wait inside the commands: `unirs --help` answers at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from transformers import Pipeline

app = typer.Typer(
    help="UniRS reads remote-sensing images, before/after pairs and video.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[str | None, typer.Option("--model", help="Folder or hub id. [default: the embedded unirs-tiny]")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, max=4096, help="Longest answer, in tokens.")]
NumBeams = Annotated[int, typer.Option(min=1, max=32, help="Beams of the search; 1 is greedy.")]


class InputError(Exception):
    """What the user gave cannot be used; the message is the one line that is shown."""


@contextmanager
def busy(message: str) -> Iterator[None]:
    """A spinner on the terminal's error stream, so that answers can be piped."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(message, total=None)
        yield


def load_pipeline(task: str, model: str | None) -> Pipeline:
    """A pipeline of the given task for a folder or hub id."""
    import unirs

    with busy("Loading the model"):
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        name = model or unirs.default_checkpoint()
        if not model and not (Path(name) / "config.json").is_file():
            raise InputError(
                f"this installation has no embedded checkpoint at {name}; reinstall unirs or give --model"
            )
        try:
            return transformers.pipeline(task, model=name, trust_remote_code=False)
        except (OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"{name} cannot be loaded as a UniRS model: {reason}") from error


def run(pipe: Pipeline, *inputs: Any, **options: Any) -> dict[str, Any]:
    """Asks, and turns what is wrong with the input into one line."""
    with busy("Looking"):
        return pipe(*inputs, **options)


def say(answer: str, as_json: bool, **details: Any) -> None:
    typer.echo(json.dumps({**details, "answer": answer}, ensure_ascii=False) if as_json else answer)


@app.command()
def ask(
    image: Annotated[str, typer.Argument(help="Picture file.")],
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    model: Model = None,
    as_json: Json = False,
    max_new_tokens: MaxNewTokens = 64,
    num_beams: NumBeams = 1,
) -> None:
    """Answer a question about one picture."""
    from unirs.processing import load_image

    if not question.strip():
        raise InputError("the question is empty")
    picture = load_image(image)  # before the model: a bad file is told at once
    pipe = load_pipeline("rs-visual-question-answering", model)
    found = run(pipe, picture, question, max_new_tokens=max_new_tokens, num_beams=num_beams)
    say(found["answer"], as_json, task="ask", image=image, question=question, model=model or "unirs-tiny")


@app.command()
def change(
    before: Annotated[str, typer.Argument(help="Picture of the first date.")],
    after: Annotated[str, typer.Argument(help="Picture of the second date.")],
    instruction: Annotated[str | None, typer.Argument(help="What to say about the change.")] = None,
    heatmap: Annotated[Path | None, typer.Option(help="Write AFTER with the change map over it to this PNG.")] = None,
    model: Model = None,
    as_json: Json = False,
    max_new_tokens: MaxNewTokens = 64,
    num_beams: NumBeams = 1,
) -> None:
    """Describe what changed between two dates."""
    from unirs.processing import load_image

    pictures = [load_image(before), load_image(after)]
    check_writable(heatmap)
    pipe = load_pipeline("change-captioning", model)
    options = {"max_new_tokens": max_new_tokens, "num_beams": num_beams, "change_map": True}
    found = run(pipe, *pictures, instruction, **options)
    change_map = found["change_map"]
    details: dict[str, Any] = {"task": "change", "before": before, "after": after, "model": model or "unirs-tiny"}
    details |= {
        "change_map_mean": round(float(change_map.mean()), 4),
        "change_map_max": round(float(change_map.max()), 4),
    }
    if heatmap:
        from unirs.report import overlay

        overlay(pictures[1], change_map, pipe.processor.image_processor.image_aspect_ratio).save(heatmap, format="PNG")
        details["heatmap"] = str(heatmap)
    say(found["answer"], as_json, **details)
    if heatmap and not as_json:
        typer.echo(f"Heat map: {heatmap}", err=True)


@app.command()
def video(
    clip: Annotated[list[str], typer.Argument(help="A video file, or three and more dated pictures in order.")],
    instruction: Annotated[str | None, typer.Option("--instruction", "-i", help="What to say about it.")] = None,
    num_frames: Annotated[int | None, typer.Option(min=1, max=64, help="Frames to take from the clip.")] = None,
    model: Model = None,
    as_json: Json = False,
    max_new_tokens: MaxNewTokens = 64,
    num_beams: NumBeams = 1,
) -> None:
    """Name the scene of a clip or of a dated sequence. A last argument that is no file is the instruction."""
    from unirs.processing import load_image, load_video

    if len(clip) > 1 and instruction is None and not looks_like_a_file(clip[-1]):
        *clip, instruction = clip
    # Read twice, here a frame and later all: a bad file is told before the model is loaded.
    frames = [load_image(one) for one in clip] if len(clip) > 1 else load_video(clip[0], num_frames or 8)
    pipe = load_pipeline("video-scene-classification", model)
    taken = num_frames or pipe.processor.num_frames
    if len(clip) == 1 and len(frames) != taken:
        frames = load_video(clip[0], taken)
    found = run(pipe, frames, instruction, num_frames=taken, max_new_tokens=max_new_tokens, num_beams=num_beams)
    say(
        found["answer"],
        as_json,
        task="video",
        inputs=clip,
        frames=min(len(frames), taken),
        model=model or "unirs-tiny",
    )


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for report.html and report.png.")] = Path("unirs-demo"),
    model: Model = None,
    as_json: Json = False,
    seed: Annotated[int, typer.Option(min=0, help="Which generated scenes to show.")] = 0,
) -> None:
    """Show UniRS on generated scenes that it has never seen: a picture, pairs and clips."""
    from unirs.report import demo_report

    output.mkdir(parents=True, exist_ok=True)
    pipes = {
        "single": load_pipeline("rs-visual-question-answering", model),
        "pair": load_pipeline("change-captioning", model),
        "video": load_pipeline("video-scene-classification", model),
    }
    with busy("Looking at the scenes"):
        rows = demo_report(pipes, output, seed)
    if as_json:
        typer.echo(json.dumps({"task": "demo", "report": str(output / "report.html"), "answers": rows}))
        return
    for row in rows:
        typer.echo(f"{row['task']:<7} {row['question'][:60]:<62} {row['answer']}   (truth: {row['truth']})")
    typer.echo(f"\nReport: {output / 'report.html'}\nPicture: {output / 'report.png'}")


def looks_like_a_file(text: str) -> bool:
    return Path(text).exists() or (" " not in text and bool(Path(text).suffix))


def check_writable(path: Path | None) -> None:
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"{path}: the folder {path.absolute().parent} does not exist")


def version(value: bool) -> None:
    if value:
        import unirs

        typer.echo(f"unirs {unirs.__version__}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None: ...


def main() -> None:
    """Exit 0 = done, 2 = bad input with one line that says why."""
    try:
        app()
    except (InputError, ValueError, OSError) as error:  # VisualInputError is a ValueError
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"unirs: {reason}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
