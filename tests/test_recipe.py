"""Recipes: what they hold, how they are changed, what is wrong with them."""

import pytest
from unirs.trainers.data_sets import DataError
from unirs.trainers.recipe import as_yaml, load_recipe, shipped

PAPER = {  # PAPER.md, training; RELEASED_CODE.md for the accumulation
    "learning_rate": 1e-4,
    "weight_decay": 0.0,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "num_train_epochs": 1,
    "bf16": True,
    "gradient_checkpointing": True,
    "max_length": 4096,
    "optim": "adamw_torch",
}


def test_the_recipes_are_there():
    expected = (
        "change_pretraining further_rsvqa_lr individual_pair individual_single individual_video joint_tuning lora"
    )
    assert shipped() == [*expected.split(), "own_data", "qlora"]


def test_own_data_are_not_validated_on_generated_scenes(tmp_path):
    own = "data.own={source: own, path: x.jsonl}"
    asked = "validation.own={source: own, path: y.jsonl}"
    assert load_recipe("own_data", []).validation["own"]["source"] == "generated"
    assert load_recipe("own_data", ["seed=1"]).training["eval_strategy"] == "epoch"
    alone = load_recipe("own_data", [own])
    assert (alone.validation, alone.training["eval_strategy"]) == (None, "no")
    both = load_recipe("own_data", [own, asked])
    assert (both.validation["own"]["path"], both.training["eval_strategy"]) == ("y.jsonl", "epoch")
    mine = tmp_path / "recipe of mine.yaml"  # whose validation is its author's
    mine.write_text(as_yaml(load_recipe("own_data", [])))
    assert load_recipe(str(mine), [own]).validation["own"]["source"] == "generated"
    for change in ("training.eval_strategy=epoch", "validation={}"):
        with pytest.raises(DataError, match="there is no validation data"):
            load_recipe("own_data", [own, change])


def test_validation_is_named_where_a_recipe_has_none():
    """As the message about missing validation data advises."""
    entry = {"source": "generated", "kind": "pair", "count": 2}
    change = "validation.few={source: generated, kind: pair, count: 2}"
    found = load_recipe("joint_tuning", ["training.eval_strategy=epoch", change])
    assert found.validation == {"few": entry}
    with pytest.raises(DataError, match="output has no values inside"):
        load_recipe("joint_tuning", ["output.x=1"])


def test_joint_tuning_has_the_numbers_of_the_paper():
    recipe = load_recipe("joint_tuning", [])
    training = recipe.training
    assert {name: training[name] for name in PAPER} == PAPER
    assert training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] == 128
    assert [recipe.data[kind]["repeat"] for kind in ("single", "pair", "video")] == [1, 5, 10]
    assert recipe.trainable == ["language_model"]


@pytest.mark.parametrize("name", ["individual_single", "individual_pair", "individual_video"])
def test_the_ablation_differs_from_joint_tuning_in_its_data_alone(name):
    joint, alone = load_recipe("joint_tuning", []), load_recipe(name, [])
    kind = name.removeprefix("individual_")
    assert alone.data == {kind: joint.data[kind]}
    same = [
        line
        for line in as_yaml(joint).splitlines()
        if not line.startswith(("output", "data", "  single", "  pair", "  video", "    "))
    ]
    assert [line for line in as_yaml(alone).splitlines() if line in same] == same


def test_values_are_changed_by_their_path():
    recipe = load_recipe("joint_tuning", [
        "training.learning_rate=3e-5", "training.save_strategy=no",
        "data.video=null", "data.new={source: own, path: a b.jsonl}",
    ])  # fmt: skip
    assert recipe.training["learning_rate"] == 3e-5
    assert recipe.training["save_strategy"] == "no"  # YAML 1.1 would say false
    assert recipe.data["video"] is None
    assert recipe.data["new"] == {"source": "own", "path": "a b.jsonl"}


def test_a_saved_recipe_reads_as_it_was(tmp_path):
    recipe = load_recipe("lora", ["training.learning_rate=1e-7", "output=no"])
    (tmp_path / "r.yaml").write_text(as_yaml(recipe))
    assert load_recipe(str(tmp_path / "r.yaml"), []) == recipe


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("nothing.yaml", [], "nothing.yaml: no such recipe file; the package brings change_pretraining, "),
        ("lora", ["seed"], "--set seed: write it as key=value"),
        ("lora", ["trainig.bf16=true"], r"trainig has no values inside \(did you mean training\?\)"),
        ("lora", ["batchin=packed"], r"batchin is no value of it \(did you mean batching\?\)"),
        ("lora", ["batching=best"], "batching is 'best'; it can be padded, grouped, packed"),
        ("lora", ["seed=true"], "seed is True; it must be of the kind int"),
        ("lora", ["seed=one"], "seed is 'one'; it must be of the kind int"),
        ("lora", ["adapter=[1"], r"--set adapter=\[1: is no YAML"),
        ("lora", ["stage=3"], "stage is 3; the stages are joint_tuning and change_pretraining"),
        ("joint_tuning", ["trainable=[head]"], "trainable names 'head'; the parts are vision_tower"),
        ("joint_tuning", ["trainable=[vision_tower]", "feature_cache=x"], "feature_cache keeps what frozen parts see"),
    ],
)
def test_a_wrong_recipe_is_told_in_one_line(name, changes, reason):
    with pytest.raises(DataError, match=reason) as caught:
        load_recipe(name, changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"stage: lora\n  x: [", "is no YAML"), (b"- 1", "holds no recipe"), (b"\xff\xfe\x00", "cannot be read as text"),
     (b"", "no recipe"),
     (b"stage: joint_tuning", "model, output, seed.* is missing; a recipe names every value")],
)  # fmt: skip
def test_a_file_that_is_no_recipe_is_named(content, reason, tmp_path):
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(DataError, match=rf"r\.yaml: .*{reason}"):
        load_recipe(str(tmp_path / "r.yaml"), [])


def test_yaml_cannot_make_objects(tmp_path):
    (tmp_path / "r.yaml").write_text("stage: !!python/object/apply:os.system ['touch x']")
    with pytest.raises(DataError, match="is no YAML"):
        load_recipe(str(tmp_path / "r.yaml"), [])


def test_stage_1_on_pairs_of_ones_own_asks_for_validation_pairs():
    """The best epoch of a ship's captions was chosen by generated scenes, on which all epochs have BLEU 0."""
    own = "data.pair={source: levir_cc, path: LEVIR-CC}"
    with pytest.raises(DataError, match="its validation pairs are generated, and the best epoch is chosen by them"):
        load_recipe("change_pretraining", [own])
    assert load_recipe("change_pretraining", [own, "validation.pair={source: levir_cc, path: LEVIR-CC, split: val}"])
    assert load_recipe("change_pretraining", ["data.pair.count=8"])
