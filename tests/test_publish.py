"""What `unirs publish` makes is whole, loads for a stranger, and tells when it was changed."""

# ruff: noqa: F811 - tests take the imported fixture by its name

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText
from unirs.hub import convert as conversion
from unirs.hub import publish as publishing
from unirs.hub.card import score_rows
from unirs.hub.convert import convert
from unirs.hub.publish import publish, requirements
from unirs.hub.stranger import check, largest_difference, stranger_python
from unirs.hub.weight_files import WeightError
from unirs.hub.whole_folder import verify

import unirs
from tests.publishing import run_unirs, source  # noqa: F401 - a fixture
from tests.test_published import CODE, ROOT
from tests.tiny import encode, picture, user


@pytest.fixture(scope="module")
def published(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "unirs"
    publish(source, folder, checked=False)
    return folder


@pytest.fixture(scope="module")
def adapter(source, processor, tmp_path_factory):
    """A LoRA over `source` that says something else."""
    folder = tmp_path_factory.mktemp("lora") / "adapter"
    torch.manual_seed(0)
    settings = LoraConfig(r=2, target_modules=r".*language_model.*\.(q_proj|v_proj)", init_lora_weights=False)
    get_peft_model(AutoModelForImageTextToText.from_pretrained(source), settings).save_pretrained(folder)
    return folder


def test_the_embedded_checkpoint_becomes_a_repository_whose_card_runs_for_a_stranger(tmp_path):
    """The command checks the folder itself; then a stranger types what the card says."""
    done = run_unirs("publish", "unirs-tiny", tmp_path / "unirs", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["difference"] == 0
    assert made["files"] == {path.name: path.stat().st_size for path in (tmp_path / "unirs").iterdir()}
    evaluation = json.loads((tmp_path / "unirs" / "evaluation.json").read_text())
    assert made["parameters"] == evaluation["weights"]

    card = ModelCard.load(tmp_path / "unirs" / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "image-text-to-text")
    assert card.data.license == "apache-2.0"
    scores = re.findall(r"^\| .* \| (?:accuracy|cider_d|auc) \|", card.text, re.MULTILINE)
    assert len(card.data.eval_results) == len(scores) == len(evaluation["scores"]) == 50
    told = {(one.dataset_name, one.metric_name) for one in card.data.eval_results}
    rows = evaluation["scores"].values()
    assert told == {(row.get("dataset", evaluation["dataset"]), row["name"]) for row in rows}
    assert len({dataset for dataset, _ in told}) == 9
    blocks = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert len(blocks) == 3
    for seed, name in enumerate(("scene.png", "before.png", "after.png")):
        picture(seed, 40, 40).save(tmp_path / name)
    code = "\n".join(blocks).replace('"clip.mp4"', '["scene.png", "before.png", "after.png"]')
    done = subprocess.run(
        [stranger_python(tmp_path / "venv"), "-c", code],
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3), done.stderr[-2000:]


def test_the_folder_is_flat_whole_and_its_code_is_the_packages_byte_for_byte(published, source):
    names = {path.name for path in published.iterdir()}
    assert names == CODE | {path.name for path in source.iterdir()} | {
        "README.md",
        "LICENSE",
        "requirements.txt",
        "SHA256SUMS",
    }
    assert all(path.is_file() and not path.is_symlink() for path in published.iterdir())
    for name in CODE:
        assert (published / name).read_bytes() == next(ROOT.glob(f"*/{name}")).read_bytes()
    assert (published / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    ours, theirs = load_file(source / "model.safetensors"), load_file(published / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    settings = [json.loads((folder / "generation_config.json").read_text()) for folder in (source, published)]
    assert settings[0] == settings[1]


def test_the_card_says_that_nothing_was_measured_and_no_license_is_known(published):
    text = (published / "README.md").read_text()
    assert "Treat the model as unmeasured" in text
    assert "No license of the weights is recorded" in text
    assert ModelCard(text).data.license == "other"


def test_the_card_tells_vilas_license_the_fresh_parts_and_the_given_scores(source, tmp_path):
    model = shutil.copytree(source, tmp_path / "model")
    record = {
        "source_format": "VILA-1.5",
        "date": "2026-01-01",
        "used": 7,
        "left_out": {"head.weight": "why"},
        "fresh": ["model.change_extraction.fuse.weight", "lm_head.weight[10:64]"],
    }
    (model / "conversion.json").write_text(json.dumps(record))
    scores = {
        "presence": {
            "count": 20,
            "accuracy": 0.75,
            "interval_95": [0.531, 0.888],
            "blind": 0.5,
            "commonest_answer": 0.6,
        }
    }
    (tmp_path / "scores.json").write_text(json.dumps({"dataset": "RSVQA-LR", "scores": scores}))
    publish(model, tmp_path / "out", evaluation=tmp_path / "scores.json", base="A/VILA", checked=False)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.base_model, card.data.metrics) == ("cc-by-nc-sa-4.0", "A/VILA", ["accuracy"])
    assert card.data.eval_results[0].metric_value == 0.75
    assert "LLaMA 2" in card.text
    assert "| presence | 20 | accuracy | 0.750 | 0.531-0.888 | 0.500 | 0.600 |" in card.text
    assert "**not trained**: lm_head, model.change_extraction.fuse" in card.text
    assert json.loads((tmp_path / "out" / "conversion.json").read_text()) == record


def test_requirements_name_every_third_party_import_of_the_published_code():
    listed = {re.split(r"[<>=]", line)[0] for line in requirements().splitlines()}
    imported = {
        match
        for name in CODE
        for match in re.findall(r"^(?:from|import) (\w+)", next(ROOT.glob(f"*/{name}")).read_text(), re.MULTILINE)
    }
    packages = {"PIL": "pillow"}
    assert {packages.get(name, name) for name in imported - set(sys.stdlib_module_names)} <= listed


def test_a_model_that_lacks_a_weight_is_not_published(source, tmp_path):
    model = shutil.copytree(source, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    del weights["model.multi_modal_projector.linear_1.weight"]
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightError, match=r"linear_1\.weight is missing"):
        publish(model, tmp_path / "out", checked=False)
    lacks = [name for name in weights if name.startswith("model.multi_modal_projector.")]
    for name in lacks:
        del weights[name]
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightError, match="a published model has all its weights"):
        publish(model, tmp_path / "out", checked=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def change_json(**changes):
    return lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("tokenizer.json", lambda file: file.write_bytes(file.read_bytes()[:500]), "its processor cannot be read"),
        ("tokenizer.json", lambda file: file.write_text('{"version": "1.0"}'), "its processor cannot be read"),
        ("tokenizer.json", lambda file: file.write_text(file.read_text().replace('"BPE"', '"ABC"')), "its processor"),
        (
            "tokenizer_config.json",
            change_json(tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", "own.Own"]}),
            "its processor cannot be read .*contains custom code",
        ),
        ("config.json", change_json(vision_config={"model_type": "none"}), "its config.json describes no UniRS model"),
        ("config.json", change_json(vision_feature_layer=-99), "vision_feature_layer is -99"),
        ("config.json", change_json(vision_feature_select_strategy=[]), "its config.json describes no UniRS model"),
        ("generation_config.json", change_json(do_sample=False, temperature=0.5), "generation_config.json: cannot be"),
    ],
)
def test_damaged_settings_are_told_before_anything_is_written(name, spoil, message, source, tmp_path, monkeypatch):
    """They were tracebacks, those of `generate` after all weights."""
    model = shutil.copytree(source, tmp_path / "model")
    spoil(model / name)
    (model / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    def written(*args):
        raise AssertionError("weights were written")

    monkeypatch.setattr(conversion, "write_weights", written)
    monkeypatch.setattr(publishing, "write_weights", written)
    with pytest.raises(WeightError, match=message) as told:
        publish(model, tmp_path / "out", checked=False)
    assert "\n" not in str(told.value)
    with pytest.raises(WeightError, match=message):
        convert(model, tmp_path / "out", change_extraction=source)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_strangers_check_sees_other_weights_and_missing_code(published, source, tmp_path):
    changed = shutil.copytree(published, tmp_path / "changed")
    weights = load_file(changed / "model.safetensors")
    weights["lm_head.weight"][:, 0] += 1
    save_file(weights, changed / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightError, match="logits differ"):
        check(changed, source)
    (changed / "projector_unirs.py").unlink()
    with pytest.raises(WeightError, match=r"does not load without the package.*projector_unirs"):
        check(changed, source)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give MODEL and a folder"),
        (["unirs-tiny"], "give MODEL and a folder"),
        (["nowhere", "out"], "no such folder"),
        (["unirs-tiny", "out", "--private"], "--push OWNER/NAME, which is not given"),
        (["unirs-tiny", "out", "--push", "name"], "OWNER/NAME"),
        (["unirs-tiny", "out", "--merge"], "nothing to merge"),
        (["unirs-tiny", "out", "--evaluation", "none.json"], "no such file"),
        (["unirs-tiny", "."], "is there already"),
        (["unirs-tiny", "none/out"], "does not exist"),
        (["--verify", "."], "SHA256SUMS"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(arguments, reason, tmp_path, monkeypatch, capsys):
    from unirs import cli

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["unirs", "publish", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    assert reason in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_not_a_number_is_no_agreement():
    """Python's max(0.0, nan) is 0.0: broken weights once counted as equal."""
    good = {"a": torch.ones(3), "b": torch.ones(3)}
    assert largest_difference(good, {"a": torch.ones(3), "b": torch.ones(3) * 1.5}) == pytest.approx(0.5)
    broken = largest_difference(good, {**good, "b": torch.tensor([1, float("nan"), 1])})
    assert not broken <= 1e-5


def test_verify_tells_changed_missing_and_added_files(published, tmp_path):
    folder = shutil.copytree(published, tmp_path / "copy")
    assert verify(folder) == {}
    (folder / ".gitattributes").touch()  # the hub's
    assert verify(folder) == {}
    with (folder / "modeling_unirs.py").open("a") as file:
        file.write("\n")
    (folder / "LICENSE").unlink()
    (folder / "sitecustomize.py").touch()
    assert verify(folder) == {"sitecustomize.py": "added", "LICENSE": "missing", "modeling_unirs.py": "changed"}
    done = run_unirs("publish", "--verify", folder)
    assert (done.returncode, sorted(done.stdout.split())) == (
        1,
        sorted(["added:", "sitecustomize.py", "missing:", "LICENSE", "changed:", "modeling_unirs.py"]),
    )


def test_the_hashes_are_those_of_sha256sum(published):
    for line in (published / "SHA256SUMS").read_text().splitlines():
        value, name = line.split("  ")
        assert hashlib.sha256((published / name).read_bytes()).hexdigest() == value


@pytest.mark.parametrize("line", ["", "abc  README.md", f"{'0' * 64}  ../secret", f"{'0' * 64}  /etc/passwd", "\0"])
def test_a_damaged_list_of_hashes_is_told(line, published, tmp_path):
    folder = shutil.copytree(published, tmp_path / "copy")
    (folder / "SHA256SUMS").write_text(line)
    with pytest.raises(WeightError, match="SHA256SUMS"):
        verify(folder)


def logits(folder, processor):
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**encode(processor, user(picture(0), picture(1)))).logits


def test_a_published_model_is_of_the_type_that_it_was(source, processor, tmp_path):
    """Language in bfloat16, all else and the settings in float32: loaded as bfloat16 it answered otherwise."""
    mixed = shutil.copytree(source, tmp_path / "mixed")
    weights = load_file(mixed / "model.safetensors")
    for name in weights:
        if "language_model" in name or name.startswith("lm_head"):
            weights[name] = weights[name].bfloat16()
    save_file(weights, mixed / "model.safetensors", metadata={"format": "pt"})
    publish(mixed, tmp_path / "out", checked=False)
    assert torch.equal(logits(tmp_path / "out", processor), logits(mixed, processor))


def test_an_adapter_alone_is_small_names_its_base_and_loads(adapter, source, processor, tmp_path):
    made = publish(adapter, tmp_path / "out")
    assert made.difference == 0
    assert "model.safetensors" not in made.files
    assert made.files["adapter_model.safetensors"] < (source / "model.safetensors").stat().st_size / 10
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(source)
    assert "holds only the adapter" in (tmp_path / "out" / "README.md").read_text()
    assert "peft>=" in (tmp_path / "out" / "requirements.txt").read_text()
    assert torch.equal(logits(tmp_path / "out", processor), logits(adapter, processor))
    assert not torch.allclose(logits(adapter, processor), logits(source, processor), atol=1e-2)


def test_a_merged_adapter_is_a_whole_model_with_the_same_logits(adapter, processor, tmp_path):
    made = publish(adapter, tmp_path / "out", merge=True)
    assert made.difference < 1e-5
    assert "adapter_config.json" not in made.files
    torch.testing.assert_close(logits(tmp_path / "out", processor), logits(adapter, processor), atol=1e-4, rtol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def other_weights(change):
    def spoil(folder):
        file = folder / "adapter_model.safetensors"
        save_file(dict(map(change, load_file(file).items())), file)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "lacks adapter_model.safetensors"),
        (lambda folder: os.truncate(folder / "adapter_model.safetensors", 700), "copy or download it again"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "does not fit onto .*peft_type"),
        (other_weights(lambda one: (one[0], one[1][:, :1].clone())), "does not fit onto .*size mismatch"),
        (
            other_weights(lambda one: (one[0].replace("q_proj", "other"), one[1])),
            r"lacks 4 weights, base_model.model.*q_proj.lora_A.weight first",
        ),
    ],
    ids=["no weights", "cut", "no settings", "other shapes", "other names"],
)
def test_an_adapter_that_does_not_fit_is_not_merged(spoil, message, adapter, source, tmp_path):
    """The first four were tracebacks; of the last, what was missing was merged as it had been drawn at random."""
    spoiled = shutil.copytree(adapter, tmp_path / "adapter")
    spoil(spoiled)
    with pytest.raises(WeightError, match=message):
        publish(spoiled, tmp_path / "out", base=str(source), merge=True, checked=False)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_base_that_cannot_be_read_is_named(adapter, processor, tmp_path, monkeypatch):
    """It was told of the target: "cannot be written (We couldn't connect ...)"."""

    def unreachable(name):
        raise OSError("We couldn't connect")

    alone = shutil.copytree(adapter, tmp_path / "adapter")
    processor.save_pretrained(alone)
    monkeypatch.setattr(publishing.UniRSConfig, "from_pretrained", unreachable)
    with pytest.raises(WeightError, match=r"the base model some/base cannot be read \(We couldn't connect\)"):
        publish(alone, tmp_path / "out", base="some/base", checked=False)


def test_an_adapter_without_its_base_is_told(adapter, tmp_path):
    alone = shutil.copytree(adapter, tmp_path / "adapter")
    settings = json.loads((alone / "adapter_config.json").read_text())
    (alone / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": None}))
    with pytest.raises(WeightError, match="--base"):
        publish(alone, tmp_path / "out", checked=False)


@pytest.mark.parametrize("name", ["configuration_unirs.py", "processing_unirs.py"])
def test_transformers_4_is_told_what_to_do(name, monkeypatch):
    monkeypatch.setattr(sys.modules["transformers"], "__version__", "4.57.1")  # which replaces itself at times
    with pytest.raises(ImportError, match=r"needs transformers 5\.17 or newer, and this is 4\.57\.1"):
        runpy.run_path(str(next(ROOT.glob(f"*/{name}"))))


@pytest.mark.parametrize("name", ["configuration_unirs.py", "processing_unirs.py"])
def test_files_that_transformers_4_opens_first_name_all_that_they_need(name):
    """It copies only what a file names itself; a missing file would hide the refusal."""
    from transformers.dynamic_module_utils import get_relative_import_files, get_relative_imports

    file = next(ROOT.glob(f"*/{name}"))
    needed = {Path(one).stem for one in get_relative_import_files(file)}
    assert needed == set(get_relative_imports(file))


def test_the_embedded_name_yields_to_a_folder_of_that_name(tmp_path, monkeypatch, source):
    from unirs.model_source import find_model

    monkeypatch.chdir(tmp_path)
    assert find_model("unirs-tiny") == unirs.default_checkpoint()
    shutil.copytree(source, Path("unirs-tiny"))
    assert find_model("unirs-tiny") == "unirs-tiny"


def test_a_score_that_is_no_object_is_told(source, tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps({"scores": {"presence": 0.91}}))
    with pytest.raises(WeightError, match="score presence is no object; write"):
        publish(source, tmp_path / "out", evaluation=tmp_path / "scores.json", checked=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("beside", [{"interval_95": [0.1]}, {"interval_95": ["a", "b"]}, {"blind": "half"}])
def test_numbers_beside_a_score_that_are_none_are_told(beside):
    """They were tracebacks."""
    with pytest.raises(WeightError, match="score presence has no number for interval_95, blind or commonest_answer"):
        score_rows({"scores": {"presence": {"accuracy": 0.5, **beside}}})


def test_a_score_without_a_blind_one_and_a_data_set_that_is_a_number_are_shown():
    (row,) = score_rows({"dataset": 2024, "scores": {"presence": {"accuracy": 0.5, "blind": None}}})
    assert (row["blind"], row["dataset"]) == ("", "2024")
