"""A saved folder must work for a stranger: transformers, no `unirs`, trust_remote_code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

import unirs
from tests.tiny import encode, picture, tiny_model, user

ROOT = Path(__file__).resolve().parents[1]
CODE = {path.name for folder in ("modeling_unirs", "processing", "hub") for path in (ROOT / folder).glob("*_unirs.py")}

# Runs where `unirs` cannot be imported, and saves what it sees.
STRANGER = """
import importlib.util, sys
from pathlib import Path
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (AutoConfig, AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoProcessor,
    pipeline)

sys.meta_path.insert(0, type("NoUniRS", (), {"find_spec": staticmethod(lambda name, *rest: (_ for _ in ()).throw(
    ModuleNotFoundError(name)) if name.split(".")[0] == "unirs" else None)}))
folder, work = Path(sys.argv[1]), Path(sys.argv[2])
trust = {"trust_remote_code": True}
pictures = [Image.open(path) for path in sorted(work.glob("picture-*.png"))]
processor = AutoProcessor.from_pretrained(folder, **trust)
model = AutoModelForImageTextToText.from_pretrained(folder, **trust)
assert AutoConfig.from_pretrained(folder, **trust).model_type == "unirs"
assert type(AutoModel.from_pretrained(folder, **trust)).__name__ == "UniRSModel"
assert type(AutoModelForMultimodalLM.from_pretrained(folder, **trust)).__name__ == "UniRSForConditionalGeneration"
messages = [{"role": "user", "content": [{"type": "image", "image": one} for one in pictures[:2]]}]
clip = [{"role": "user", "content": [{"type": "video", "video": pictures}]}]
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
with torch.no_grad():
    save_file({"logits": model(**inputs).logits}, work / "logits.safetensors")
answers = {}
stock = pipeline("image-text-to-text", model=str(folder), **trust)
single = [{"role": "user", "content": messages[0]["content"][:1]}]
for name, chat in (("single", single), ("pair", messages), ("clip", clip)):
    answers[name] = stock(text=chat, max_new_tokens=5, return_full_text=False)[0]["generated_text"]
for task, given in (("rs-visual-question-answering", (pictures[0], "Is there a road?")),
        ("change-captioning", tuple(pictures[:2])), ("video-scene-classification", (pictures,))):
    answers[task] = pipeline(task, model=str(folder), **trust)(*given, max_new_tokens=5)["answer"]
answers["clue"] = pipeline("change-captioning", model=str(folder), clue=True, **trust)(*pictures[:2], max_new_tokens=5)
model.save_pretrained(work / "again")
processor.save_pretrained(work / "again")
import json
(work / "answers.json").write_text(json.dumps(answers))
assert not any(name.split(".")[0] == "unirs" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory):
    from tests.tiny import save_tiny_model

    return save_tiny_model(processor, tmp_path_factory.mktemp("published") / "checkpoint")


def test_saved_folder_holds_all_code_unchanged(folder):
    assert {path.name for path in folder.glob("*.py")} == CODE
    for name in CODE:
        source = next(ROOT.glob(f"*/{name}"))
        assert (folder / name).read_bytes() == source.read_bytes()


def test_published_code_imports_only_what_is_promised():
    allowed = {"torch", "transformers", "numpy", "PIL", "torchvision", *sys.stdlib_module_names}
    for name in CODE:
        source = next(ROOT.glob(f"*/{name}"))
        for line in source.read_text().splitlines():
            if match := re.match(r"(\s*)(?:from|import) (\.?\w+)", line):
                indent, module = match.groups()
                local = module.startswith(".") and (source.parent / f"{module[1:]}.py").is_file()
                reader = indent and module in ("decord", "av", "cv2")
                assert module in allowed or local or reader, f"{name}: {line}"


def test_a_stranger_gets_the_same_logits_and_answers(folder, tmp_path):
    for number in range(3):
        picture(number, 40, 30).save(tmp_path / f"picture-{number}.png")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(folder), str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]

    pictures = [picture(number, 40, 30) for number in range(3)]
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    with torch.no_grad():
        expected = model(**encode(processor, user(*pictures[:2]))).logits
    assert torch.equal(load_file(tmp_path / "logits.safetensors")["logits"], expected)

    answers = json.loads((tmp_path / "answers.json").read_text())
    stock = pipeline("image-text-to-text", model=str(folder))
    for name, content in (("single", pictures[:1]), ("pair", pictures[:2]), ("clip", [pictures])):
        ours = stock(text=user(*content), max_new_tokens=5, return_full_text=False)[0]["generated_text"]
        assert answers[name] == ours
    assert (
        answers["change-captioning"]
        == pipeline("change-captioning", model=str(folder))(*pictures[:2], max_new_tokens=5)["answer"]
    )
    clued = pipeline("change-captioning", model=str(folder), clue=True)(*pictures[:2], max_new_tokens=5)
    assert clued["clue"]
    assert answers["clue"] == clued
    # What the stranger saves again is complete too.
    assert {path.name for path in (tmp_path / "again").glob("*.py")} == CODE


def test_the_stock_pipeline_answers_a_batch_as_it_answers_one_by_one():
    """Padded behind the words, as tokenizers do by default, the shorter ones got words of no sense."""
    stock = pipeline("image-text-to-text", model=unirs.default_checkpoint())
    questions = (
        "What is the main land cover?",
        "Describe the image.",
        "Is there a river?",
        "How many cars are there?",
    )
    asked = [user(picture(number, 40, 30), question) for number, question in enumerate(questions)]
    said = {}
    for size in (1, 4):
        answers = stock(text=asked, batch_size=size, max_new_tokens=12, return_full_text=False)
        said[size] = [answer[0]["generated_text"] for answer in answers]
    assert said[4] == said[1]
    assert stock.tokenizer.padding_side == "left"


def test_saving_again_with_the_package_is_complete(folder, tmp_path):
    AutoModelForImageTextToText.from_pretrained(folder).save_pretrained(tmp_path)
    AutoProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in folder.iterdir()}
    for name in ("processor_config.json", "chat_template.jinja"):
        assert (tmp_path / name).read_text() == (folder / name).read_text()
    again, first = (json.loads((path / "config.json").read_text()) for path in (tmp_path, folder))
    assert {**again, "text_config": 0, "vision_config": 0} == {**first, "text_config": 0, "vision_config": 0}


def test_importing_unirs_does_not_import_torch():
    code = "import sys, unirs, unirs.cli; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


@pytest.mark.parametrize(
    "first",
    [
        "import unirs",
        "import transformers",
        "import unirs.processing",
        "import unirs.modeling_unirs",
        "import unirs.hub.tasks",
        # Many packages look whether transformers is there before they import it, or never do.
        "import unirs, importlib.util; assert importlib.util.find_spec('transformers')",
        "import unirs, trl",
    ],
)
def test_registration_works_in_whatever_order_things_are_imported(first, folder):
    code = (
        f"{first}; import unirs; from transformers import AutoProcessor, AutoModel;"
        f"assert type(AutoProcessor.from_pretrained({str(folder)!r})) is unirs.UniRSProcessor;"
        f"assert type(AutoModel.from_pretrained({str(folder)!r})) is unirs.UniRSModel"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_public_names_are_listed_and_load():
    for name in unirs.__all__:
        assert getattr(unirs, name) is not None
        assert name in dir(unirs)
    with pytest.raises(AttributeError, match="no attribute 'UniRSNothing'"):
        _ = unirs.UniRSNothing


@pytest.mark.parametrize(
    ("place", "revision"),
    [("transformers_modules/me/unirs/" + 5 * "01234567", 5 * "01234567"), ("modeling_unirs", None)],
)
def test_code_that_is_saved_along_is_of_the_commit_that_was_loaded(place, revision, processor, monkeypatch):
    """A pinned revision was reviewed; the newest one need not be."""
    from unirs.modeling_unirs import modeling_unirs

    asked = []
    monkeypatch.setattr(modeling_unirs, "__file__", f"/cache/{place}/modeling_unirs.py")
    monkeypatch.setattr(modeling_unirs, "cached_file", lambda *given, **options: asked.append((given, options)))
    model = tiny_model(processor)
    model.config._name_or_path = "me/unirs"
    assert model._loaded_companion_files() == []
    (given, options), *_ = asked
    assert (given, options["revision"]) == (("me/unirs", "pipeline_unirs.py"), revision)


def test_folder_saved_without_the_pipelines_says_so_and_the_hub_is_asked_once(processor, tmp_path, monkeypatch):
    """Without a network each save waited for 23 seconds, and left the file out without a word."""
    from unirs.modeling_unirs import modeling_unirs

    asked, said = [], []
    monkeypatch.setattr(
        modeling_unirs, "cached_file", lambda *given, **options: asked.append(options["local_files_only"])
    )
    monkeypatch.setattr(modeling_unirs.logger, "warning", said.append)
    model = tiny_model(processor)
    monkeypatch.setattr(type(model), "companion_files", ())  # as in remote code
    model.config._name_or_path = "me/unirs"
    for _ in range(2):
        model.save_pretrained(tmp_path)
    assert asked == [True, False, True]
    assert all(f"{tmp_path}: saved without pipeline_unirs.py" in sentence for sentence in said)
    assert len(said) == 2
