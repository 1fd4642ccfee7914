"""The command line. Heavy imports wait inside the commands: `unirs --help` answers at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_app import app as web_page
from .cli_data import data
from .cli_evaluate import evaluate
from .cli_map import map_scene
from .cli_predict import predict
from .cli_reproduce import reproduce
from .cli_serve import serve
from .cli_train import train
from .cli_weights import convert, publish
from .given import check_clip, check_heatmap, check_page, check_pair, check_pictures, check_words, is_a_file
from .model_source import EMBEDDED, find_model, load_base, load_model
from .terminal import InputError, Json, StoppedError, busy

if TYPE_CHECKING:
    from transformers import Pipeline

    from unirs.geo import Composition

app = typer.Typer(
    help="UniRS reads remote-sensing images, before/after pairs and video.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("map")(map_scene)
app.command()(train)
app.add_typer(data, name="data")
app.command()(evaluate)
app.command()(predict)
app.command()(serve)
app.command("app")(web_page)
app.command()(reproduce)
app.command()(convert)
app.command()(publish)

INTERRUPTED = 130
UsageError: Any = typer.BadParameter.__bases__[0]  # click's, or typer's own copy of click

Model = Annotated[
    str | None, typer.Option("--model", help="Folder or hub id.", show_default="the embedded unirs-tiny")
]
Bands = Annotated[
    str | None,
    typer.Option(help="Bands of rasters as red, green, blue, by number or name: 4,3,2.", show_default="usual ones"),
]
WithClue = Annotated[
    bool, typer.Option("--clue/--no-clue", help="Let the base model look first; its words enter the prompt.")
]
Base = Annotated[
    str | None, typer.Option(help="Folder or hub id of the base model.", show_default="--model, its adapter left out")
]
MaxNewTokens = Annotated[int, typer.Option(min=1, max=4096, help="Longest answer, in tokens.")]
NumBeams = Annotated[int, typer.Option(min=1, max=32, help="Beams of the search; 1 is greedy.")]


def load_pipeline(task: str, model: str | None, clue: bool = False, base: str | None = None) -> Pipeline:
    """A pipeline of the given task for a folder or hub id; with `clue`, the base model for its clues too."""
    with busy("Loading the model"):
        network, processor = load_model(model)
        second = None if base is None else load_base(base, processor)
        if clue and second is None and not getattr(network, "_hf_peft_config_loaded", False):
            typer.echo(f"No --base: {model or EMBEDDED} is asked for its own clue.", err=True)
        import transformers

        options: dict[str, Any] = {"clue": True, "base": second} if clue else {}
        pipe = transformers.pipeline(task, model=network, processor=processor, **options)
        if second is not None:
            second.to(pipe.device)
        return pipe


def check_clue(clue: bool, base: str | None) -> None:
    if base is not None and not clue:
        raise InputError("--base is the model that is asked for clues; add --clue")
    if base is not None:
        find_model(base, "--base")


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


def tell_bands(files: list[str], compositions: list[Composition], as_json: bool) -> None:
    """As `unirs map` tells it; with --json the answer holds it."""
    if as_json or not compositions:
        return
    from .picture_files import notes_on_bands

    for note in notes_on_bands(files, compositions):
        typer.echo(note, err=True)


def run(pipe: Pipeline, *inputs: Any, **options: Any) -> dict[str, Any]:
    """Asks, with a spinner while the model looks."""
    with busy("Looking"):
        try:
            return pipe(*inputs, **options)
        except ValueError as error:  # the processor's and the model's word for input that does not fit
            raise InputError(str(error)) from error


def tell_shapes(before: tuple[int, int], after: tuple[int, int]) -> dict[str, str]:
    """Two pictures of other shapes cannot show the same ground: said at once, and returned for `--json`."""
    ratio = before[0] * after[1] / (before[1] * after[0])
    if 0.98 < ratio < 1.02:
        return {}
    first, second = (f"{width} x {height}" for width, height in (before, after))
    warning = f"BEFORE is {first} and AFTER {second} pixels: where the two lie one over the other is a guess"
    typer.echo(warning, err=True)
    return {"warning": warning}


def say(task: str, found: dict[str, Any], model: str | None, inputs: list[str], as_json: bool, **details: Any) -> None:
    """The answer as text, its clue on the error stream; or all that is known about it as one JSON object."""
    clue: dict[str, Any] = {name: found[name] for name in ("clue", "no_clue") if name in found}
    if as_json:
        shown = {"task": task, "answer": found["answer"], "model": model or EMBEDDED, "inputs": inputs}
        typer.echo(json.dumps({**shown, **clue, **details}, ensure_ascii=False))
        return
    if clue:
        typer.echo(f"Clue: {clue['clue']}" if clue["clue"] else f"No clue: {clue['no_clue']}", err=True)
    typer.echo(found["answer"])


@app.command()
def ask(
    image: Annotated[str, typer.Argument(help="Picture file.")],
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    bands: Bands = None,
    model: Model = None,
    clue: WithClue = False,
    base: Base = None,
    as_json: Json = False,
    max_new_tokens: MaxNewTokens = 64,
    num_beams: NumBeams = 1,
) -> None:
    """Answer a question about one picture."""
    check_words(question, "the question")
    check_pictures([image], f"unirs video {image}")
    find_model(model)
    check_clue(clue, base)
    from .picture_files import details_of_bands, read_dates

    (picture,), compositions = read(read_dates, [image], bands)  # before the model: a bad file is told at once
    tell_bands([image], compositions, as_json)
    pipe = load_pipeline("rs-visual-question-answering", model, clue, base)
    found = run(pipe, picture, question, max_new_tokens=max_new_tokens, num_beams=num_beams)
    say("ask", found, model, [image], as_json, question=question, **details_of_bands(compositions))


@app.command()
def change(
    before: Annotated[str, typer.Argument(help="Picture of the first date.")],
    after: Annotated[str, typer.Argument(help="Picture of the second date.")],
    instruction: Annotated[str | None, typer.Argument(help="What to say about the change.")] = None,
    heatmap: Annotated[Path | None, typer.Option(help="Write AFTER with the change map over it to this PNG.")] = None,
    closer: Annotated[
        bool, typer.Option("--closer", help="Change map of twice the detail: nine parts are looked at too.")
    ] = False,
    bands: Bands = None,
    model: Model = None,
    clue: WithClue = False,
    base: Base = None,
    as_json: Json = False,
    max_new_tokens: MaxNewTokens = 64,
    num_beams: NumBeams = 1,
) -> None:
    """Describe what changed between two dates."""
    check_pair(before, after, instruction)
    find_model(model)
    check_clue(clue, base)
    if heatmap:
        check_heatmap(heatmap, (before, after))
    if closer and not (heatmap or as_json):
        raise InputError("--closer is for the change map; add --heatmap OUT.png or --json")
    from .picture_files import details_of_bands, read_dates

    pictures, compositions = read(read_dates, [before, after], bands)
    tell_bands([before, after], compositions, as_json)
    warning = tell_shapes(*(one.size for one in pictures))
    pipe = load_pipeline("change-captioning", model, clue, base)
    options = {"max_new_tokens": max_new_tokens, "num_beams": num_beams, "change_map": not closer}
    found = run(pipe, *pictures, instruction, **options)
    from .closer_map import closer_change_map
    from .report import changed_share, overlay
    from .whole_file import whole_or_absent

    if closer:
        with busy("Looking closer"):
            change_map = closer_change_map(pipe.model, pipe.processor, *pictures)
    else:
        change_map = found["change_map"]

    aspect_ratio = pipe.processor.image_processor.image_aspect_ratio
    details: dict[str, Any] = {
        "instruction": instruction,
        "changed_share": round(changed_share(change_map, pictures[1].size, aspect_ratio), 4),
        "change_map": {"mean": round(float(change_map.mean()), 4), "max": round(float(change_map.max()), 4)},
        **details_of_bands(compositions),
        **warning,
    }
    if heatmap:
        drawn = overlay(pictures[1], change_map, aspect_ratio)
        details["heatmap"] = str(heatmap)
    say("change", found, model, [before, after], as_json, **details)
    if heatmap:
        try:
            with whole_or_absent(heatmap) as part:
                drawn.save(part, format="PNG")
        except OSError as error:  # after the answer, which is not lost
            raise InputError(f"--heatmap {heatmap}: cannot be written ({error.strerror or error})") from error
    if heatmap and not as_json:
        typer.echo(f"Heat map: {heatmap} (clear: same; from dark red to pale yellow: more and more change)", err=True)


@app.command()
def video(
    clip: Annotated[list[str], typer.Argument(help="A video file, or three and more dated pictures in order.")],
    instruction: Annotated[str | None, typer.Option("--instruction", "-i", help="What to say about it.")] = None,
    num_frames: Annotated[int | None, typer.Option(min=1, max=64, help="Frames to take from the clip.")] = None,
    bands: Bands = None,
    model: Model = None,
    clue: WithClue = False,
    base: Base = None,
    as_json: Json = False,
    max_new_tokens: MaxNewTokens = 64,
    num_beams: NumBeams = 1,
) -> None:
    """Name the scene of a clip or of a dated sequence. A last argument that is no file is the instruction."""
    if len(clip) > 1 and instruction is None and not is_a_file(clip[-1]):
        *clip, instruction = clip
    if instruction is not None:
        check_words(instruction, "the instruction")
    check_clip(clip)
    find_model(model)
    check_clue(clue, base)
    from unirs.processing import load_video
    from unirs.processing.frame_sampling_unirs import DatedSequence, sample_date_indices

    from .picture_files import details_of_bands, read_dates

    if bands is not None and len(clip) == 1:
        raise InputError(f"--bands {bands}: is for rasters; a clip has none")
    source, compositions = read(read_dates, clip, bands) if len(clip) > 1 else (clip[0], [])
    read(load_video, source, 1)  # a bad file is told before the model is loaded
    tell_bands(clip, compositions, as_json)
    pipe = load_pipeline("video-scene-classification", model, clue, base)
    taken = num_frames or pipe.processor.num_frames
    frames = read(load_video, DatedSequence(source) if len(clip) > 1 else source, taken)
    dates = [place + 1 for place in sample_date_indices(len(clip), taken)] if len(clip) > 1 else []
    if len(dates) < len(clip) and dates:
        told = ", ".join(map(str, dates))
        typer.echo(
            f"Of {len(clip)} pictures the model looks at {len(dates)}: {told}. Dates in its answer count these; "
            f"--num-frames {len(clip)} shows all.",
            err=True,
        )
    found = run(pipe, frames, instruction, num_frames=taken, max_new_tokens=max_new_tokens, num_beams=num_beams)
    say(
        "video",
        found,
        model,
        clip,
        as_json,
        instruction=instruction,
        frames=len(frames),
        **({"dates": dates} if dates else {}),
        **details_of_bands(compositions),
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
    is_page = output.suffix.lower() in (".html", ".htm")
    page = output if is_page else output / "report.html"
    samples = None if is_page else output
    find_model(model)
    check_page(page, samples)
    single = load_pipeline("rs-visual-question-answering", model)
    pipes = {
        "single": single,
        "pair": same_model("change-captioning", single),
        "video": same_model("video-scene-classification", single),
    }
    from unirs.report import demo_report

    with busy("Looking at the scenes"):
        rows = demo_report(pipes, page, seed, samples, max_new_tokens=max_new_tokens, num_beams=num_beams)
    sheet = page.with_suffix(".png")
    if as_json:
        found = {"task": "demo", "model": model or "unirs-tiny", "seed": seed, "report": str(page)}
        typer.echo(json.dumps({**found, "picture": str(sheet), "answers": rows}, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"{row['task']:<7} {row['question'][:60]:<62} {row['answer']}   (truth: {row['truth']})")
    typer.echo(f"\nReport: {page}\nPicture: {sheet}")
    if samples:
        typer.echo(f"To try the other commands on: scene.png, before.png, after.png and clip.mp4 in {samples}")


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
    """Exit 0 = done, 2 = bad input and 130 = Ctrl-C, with one line that says so."""
    command = typer.main.get_command(app)
    try:
        code = command.main(prog_name="unirs", standalone_mode=False)
        if code != INTERRUPTED:  # typer's word for Ctrl-C
            sys.exit(code)
        reason = "stopped"
    except UsageError as error:
        kind = type(error).__name__
        if kind == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        where = error.ctx.command_path if error.ctx else "unirs"
        hint = "; words that begin with a dash go behind --" if kind == "NoSuchOption" else ""
        said = error.format_message().rstrip(".").replace("Value error, ", "")  # pydantic's, of choices
        reason, code = f"{said} (see {where} --help{hint})", 2
    except StoppedError as error:
        reason, code = str(error), INTERRUPTED
    except (InputError, OSError) as error:  # whatever else is a fault of ours and shows its traceback
        reason, code = str(error) or type(error).__name__, 2
    print(f"unirs: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
