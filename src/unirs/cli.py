"""The command line. Heavy imports wait inside the commands: `unirs --help` answers at once."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_weights import convert, publish
from .model_source import find_model
from .terminal import InputError, Json, busy

if TYPE_CHECKING:
    from transformers import Pipeline

app = typer.Typer(
    help="UniRS reads remote-sensing images, before/after pairs and video.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(convert)
app.command()(publish)

Model = Annotated[str | None, typer.Option("--model", help="Folder or hub id. [default: the embedded unirs-tiny]")]
MaxNewTokens = Annotated[int, typer.Option(min=1, max=4096, help="Longest answer, in tokens.")]
NumBeams = Annotated[int, typer.Option(min=1, max=32, help="Beams of the search; 1 is greedy.")]

CHANGED = 0.5  # map values above this count as changed in `changed_share`
LONGEST_REASON = 300  # characters of another library's message that are worth showing
FILE_ENDINGS = {
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2"),
    *(".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".flv", ".wmv", ".ogv", ".mpg", ".mpeg"),
}


def load_pipeline(task: str, model: str | None) -> Pipeline:
    """A pipeline of the given task for a folder or hub id."""
    name = find_model(model)
    with busy("Loading the model"):
        import transformers
        from huggingface_hub.utils import disable_progress_bars
        from safetensors import SafetensorError
        from transformers import AutoModelForImageTextToText, AutoProcessor

        warnings.simplefilter("ignore")
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        disable_progress_bars()
        try:
            network, loading = AutoModelForImageTextToText.from_pretrained(name, output_loading_info=True)
            processor = AutoProcessor.from_pretrained(name)
        except (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError, SafetensorError) as error:
            raise InputError(f"{model or name} cannot be loaded as a UniRS model: {reason_of(error)}") from error
        # transformers fills gaps with random weights and only says so in its log.
        gaps = sorted(loading["missing_keys"]) + sorted(str(key) for key, *_ in loading["mismatched_keys"])
        if gaps:
            raise InputError(f"{model or name} lacks {len(gaps)} weights, {gaps[0]} first; copy the folder again")
        return transformers.pipeline(task, model=network, processor=processor)


def reason_of(error: Exception) -> str:
    """One line of another library's message; of a message with a traceback inside, its last line."""
    text = str(error).strip()
    line = " ".join((text.splitlines()[-1] if "Traceback (most recent" in text else text).split())
    return (line or type(error).__name__)[:LONGEST_REASON]


def same_model(task: str, pipe: Pipeline) -> Pipeline:
    """A pipeline of another task around a model that is loaded already."""
    import transformers

    return transformers.pipeline(task, model=pipe.model, processor=pipe.processor)


def read(load: Callable[..., Any], *source: Any) -> Any:
    """Reads a picture or a clip; a bad file is the user's to mend."""
    try:
        return load(*source)
    except ValueError as error:  # VisualInputError
        raise InputError(str(error)) from error


def run(pipe: Pipeline, *inputs: Any, **options: Any) -> dict[str, Any]:
    """Asks, with a spinner while the model looks."""
    with busy("Looking"):
        try:
            return pipe(*inputs, **options)
        except ValueError as error:  # the processor's and the model's word for input that does not fit
            raise InputError(str(error)) from error


def say(task: str, answer: str, model: str | None, inputs: list[str], as_json: bool, **details: Any) -> None:
    """The answer as text, or all that is known about it as one JSON object."""
    found = {"task": task, "answer": answer, "model": model or "unirs-tiny", "inputs": inputs, **details}
    typer.echo(json.dumps(found, ensure_ascii=False) if as_json else answer)


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
    if not question.strip():
        raise InputError("the question is empty")
    check_given([image], model)
    from unirs.processing import load_image

    picture = read(load_image, image)  # before the model: a bad file is told at once
    pipe = load_pipeline("rs-visual-question-answering", model)
    found = run(pipe, picture, question, max_new_tokens=max_new_tokens, num_beams=num_beams)
    say("ask", found["answer"], model, [image], as_json, question=question)


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
    check_given([before, after], model)
    if heatmap:
        check_heatmap(heatmap, (before, after))
    from unirs.processing import load_image

    pictures = [read(load_image, before), read(load_image, after)]
    pipe = load_pipeline("change-captioning", model)
    options = {"max_new_tokens": max_new_tokens, "num_beams": num_beams, "change_map": True}
    found = run(pipe, *pictures, instruction, **options)
    change_map = found["change_map"]
    details: dict[str, Any] = {
        "instruction": instruction,
        "changed_share": round(float((change_map > CHANGED).mean()), 4),
        "change_map": {"mean": round(float(change_map.mean()), 4), "max": round(float(change_map.max()), 4)},
    }
    if heatmap:
        from unirs.report import overlay

        overlay(pictures[1], change_map, pipe.processor.image_processor.image_aspect_ratio).save(heatmap, format="PNG")
        details["heatmap"] = str(heatmap)
    say("change", found["answer"], model, [before, after], as_json, **details)
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
    if len(clip) > 1 and instruction is None and not looks_like_a_file(clip[-1]):
        *clip, instruction = clip
    check_given(clip, model)
    from unirs.processing import load_video

    source = clip if len(clip) > 1 else clip[0]
    read(load_video, source, 1)  # a bad file is told before the model is loaded
    pipe = load_pipeline("video-scene-classification", model)
    taken = num_frames or pipe.processor.num_frames
    frames = read(load_video, source, taken)
    found = run(pipe, frames, instruction, num_frames=taken, max_new_tokens=max_new_tokens, num_beams=num_beams)
    say(
        "video",
        found["answer"],
        model,
        clip,
        as_json,
        instruction=instruction,
        frames=len(frames),
    )


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for report.html and report.png, or the HTML file.")] = Path(
        "unirs-demo"
    ),
    model: Model = None,
    as_json: Json = False,
    max_new_tokens: MaxNewTokens = 64,
    num_beams: NumBeams = 1,
    seed: Annotated[int, typer.Option(min=0, max=10**9, help="Which generated scenes to show.")] = 0,
) -> None:
    """Show UniRS on generated scenes that it has never seen: pictures, pairs and clips."""
    page = output if output.suffix.lower() in (".html", ".htm") else output / "report.html"
    check_given([], model)
    check_page(page)
    single = load_pipeline("rs-visual-question-answering", model)
    pipes = {
        "single": single,
        "pair": same_model("change-captioning", single),
        "video": same_model("video-scene-classification", single),
    }
    from unirs.report import demo_report

    with busy("Looking at the scenes"):
        rows = demo_report(pipes, page, seed, max_new_tokens=max_new_tokens, num_beams=num_beams)
    sheet = page.with_suffix(".png")
    if as_json:
        found = {"task": "demo", "model": model or "unirs-tiny", "seed": seed, "report": str(page)}
        typer.echo(json.dumps({**found, "picture": str(sheet), "answers": rows}, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"{row['task']:<7} {row['question'][:60]:<62} {row['answer']}   (truth: {row['truth']})")
    typer.echo(f"\nReport: {page}\nPicture: {sheet}")


def looks_like_a_file(text: str) -> bool:
    """Whether the last word of `unirs video` is one more picture; a misspelt file must not become an instruction."""
    ending = os.path.splitext(text)[1].lower()
    return os.path.exists(text) or ending in FILE_ENDINGS or (" " not in text and len(ending) > 1)


def check_given(files: list[str], model: str | None) -> None:
    """The commonest slips are told at once: reading a picture takes seconds, because torch is loaded for it."""
    for file in files:
        if "://" not in file and not file.lower().startswith("data:") and not os.path.exists(file):
            raise InputError(f"{file}: no such file; check the path")
    find_model(model)


def check_heatmap(path: Path, inputs: tuple[str, ...]) -> None:
    """A wrong name is told before the model is loaded, and never costs the user a picture."""
    if path.suffix.lower() != ".png":
        raise InputError(f"--heatmap {path}: is written as PNG; give a name that ends in .png")
    if path.exists() and any(path.samefile(one) for one in inputs if os.path.exists(one)):
        raise InputError(f"--heatmap {path}: is one of the two pictures; give another name")
    check_writable(path)


def check_page(page: Path) -> None:
    """Makes the report's folder where it is missing."""
    try:
        page.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {page.parent}: cannot be made ({error.strerror})") from error
    check_writable(page)
    check_writable(page.with_suffix(".png"))


def check_writable(path: Path) -> None:
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{path}: the folder {folder} does not exist")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file name")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise InputError(f"{path}: no permission to write there")


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
    except (InputError, OSError) as error:  # whatever else is a fault of ours and shows its traceback
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"unirs: {reason}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
