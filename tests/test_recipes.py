"""The recipes as data: what they say of themselves, and how they are found and changed."""

import ast
import dataclasses
import json
import re
from pathlib import Path

import pytest
import typer
from tiny_runs import invoke

from keras_resnets import catalog
from keras_resnets.commands.app import app
from keras_resnets.commands.options import help_of
from keras_resnets.training import recipe as recipes
from keras_resnets.training.config import RunConfig, parse_changes, resolve
from keras_resnets.training.recipe import Recipe, find_recipe, list_recipes

NAMES = list_recipes()
FOLDER = Path(recipes.__file__).parent / "recipes"


def test_the_recipes_are_those_of_the_papers_and_three_of_our_own():
    papers = "resnet cifar resnext resnest res2net rexnet torchvision_v2 a1 a2 a3"
    assert sorted([*papers.split(), "cifar_fast", "finetune", "quick"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_opens_with_its_source_its_command_and_what_it_reached(name):
    text = recipes.recipe_source(name)
    assert re.search(r"^Source: ", text, re.MULTILINE)
    command = re.search(r"^Command: keras-resnets train .*(\n    .*)*", text, re.MULTILINE)[0]
    assert f"--recipe {name}" in command
    assert re.search(r"^(Reported|Reaches)", text, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_data_of_known_models(name):
    recipe = find_recipe(name)
    assert recipe.name == name
    assert catalog.find_variant(recipe.model)
    # Patterns that match nothing would never be noticed.
    for pattern, changes in recipe.by_model:
        matching = [n for n in catalog.list_models() if recipe.for_model(n) != recipe]
        assert matching, pattern
        assert dataclasses.replace(recipe, **changes) in [recipe.for_model(n) for n in matching]


@pytest.mark.parametrize("name", NAMES)
def test_recipes_import_nothing_but_their_fields(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"keras_resnets.training.recipe", "keras_resnets.training.augmentation"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_survives_json(name):
    recipe = find_recipe(name)
    assert Recipe(**json.loads(json.dumps(recipe.as_dict()))).as_dict() == recipe.as_dict()


def test_an_unknown_recipe_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"Did you mean 'rexnet'\? Received: recipe='rexnett'"):
        find_recipe("rexnett")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("optimizer", "adam"),
        ("learning_rate", 0.0),
        ("crop_pct", 1.2),
        ("layer_decay", 0.0),
        ("layer_decay", 1.5),
        ("drop_block", 1.0),
        ("step_epochs", (30, 20)),
        ("clip_norm", -1),
        ("ema", 1.0),
        ("nesterov", 1),
        ("warmup_epochs", -1),
    ],
)
def test_values_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=f"Received: {field}="):
        dataclasses.replace(find_recipe("resnet"), **{field: value})


def test_every_field_of_a_recipe_is_explained():
    for field in dataclasses.fields(Recipe):
        assert re.search(rf"^    +{field.name}: ", Recipe.__doc__, re.MULTILINE), field.name


# Options -----------------------------------------------------------------------------------------


def test_changes_reach_the_recipe_its_augmentation_and_the_architecture():
    changes = parse_changes(["epochs=3", "mixup=0.3", "depths=1,1,1", "schedule=constant"])
    config = resolve("digits", recipe="quick", changes=changes)
    assert config.recipe.epochs == 3
    assert config.recipe.augmentation.mixup == 0.3
    assert config.recipe.config_changes == {"depths": (1, 1, 1)}
    assert config.recipe.schedule == "constant"


@pytest.mark.parametrize("recipe", ["cifar", "cifar_fast", "resnest", "a1"])
def test_warm_up_and_steps_move_with_the_epochs_unless_they_are_changed_too(recipe):
    whole = find_recipe(recipe)
    half = resolve("digits", recipe=recipe, changes={"epochs": whole.epochs // 2}).recipe
    assert half.warmup_epochs == pytest.approx(whole.warmup_epochs / 2, rel=0.01)
    assert half.step_epochs == tuple(round(epoch / 2) for epoch in whole.step_epochs)
    changes = {"epochs": whole.epochs // 2, "warmup_epochs": 1, "step_epochs": (1, 2)}
    changed = resolve("digits", recipe=recipe, changes=changes).recipe
    assert (changed.warmup_epochs, changed.step_epochs) == (1, (1, 2))


def test_the_fields_of_a_run_are_options_whose_help_is_their_documentation():
    command = typer.main.get_command(app).commands["train"]
    options = {option.name: option for option in command.get_params(typer.Context(command))}
    texts = help_of(RunConfig)
    assert set(texts) == {field.name for field in dataclasses.fields(RunConfig)}
    for field in dataclasses.fields(RunConfig):
        if field.name not in ("data", "model", "weights", "recipe"):
            assert options[field.name].help.startswith(texts[field.name])
            assert options[field.name].default is None, "--resume must see what was given"
    assert options["keep"].help == "How many checkpoints to keep. Default: 2."
    assert options["learning_rate"].help == (
        "The highest, for a batch of reference_batch_size. Default: the recipe's."
    )
    for option in ("--seed", "--learning-rate"):
        code, text = invoke("train", "--out", "never", option, "many")
        assert (code, option in text) == (2, True)


def test_an_unknown_change_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"Did you mean 'mixup'\?"):
        resolve("digits", changes={"mixupp": 0.2})


def test_a_tag_of_the_model_says_what_to_start_from():
    config = resolve("digits", "resnet50.a1_in1k", recipe="finetune")
    assert (config.model, config.weights) == ("resnet50", "a1_in1k")
    assert resolve("digits", recipe="finetune").weights == "imagenet"
    assert resolve("digits", recipe="finetune", weights="none").weights is None
    with pytest.raises(ValueError, match="weights must be left out"):
        resolve("digits", "resnet50.a1_in1k", "imagenet")


@pytest.mark.parametrize(
    "options", [{"dtype": "int8"}, {"accumulate": 0}, {"seed": -1}, {"class_weights": "some"}]
)
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"Received: {next(iter(options))}="):
        resolve("digits", **options)
