"""Which recipe for how many pairs: hand-made cases, and the command."""

import json

import pytest

from diptych.errors import ConfigError
from diptych.recipes import RECIPES
from diptych.recipes.guidance import KNOWN_RUNS, PURPOSES, candidates, choose, recipe_rows

DAY = 86_400.0


@pytest.mark.parametrize(
    ("num_pairs", "seconds", "recipe", "words"),
    [
        (500, {}, None, "too few"),
        (9_999, {}, None, "too few"),
        (10_000, {"compact-rn": 600.0}, "compact-rn", "small enough for a CPU"),
        (60_000, {"compact-rn": 15 * DAY}, None, "compact-rn would take 15 days here"),
        (60_000, {"compact-rn": None}, None, "could not be measured"),
        (15_000_000, {"RN50": 13 * DAY, "compact-rn": DAY}, "RN50", "published"),
        (15_000_000, {"RN50": 400 * DAY, "compact-rn": DAY}, "compact-rn", "RN50 would take 400 days here"),
        (400_000_000, {"ViT-B/16": 20 * DAY, "ViT-B/32": 5 * DAY}, "ViT-B/32", "ViT-B/16 would take 20 days here"),
    ],
)
def test_hand_made_cases(num_pairs, seconds, recipe, words):
    advice = choose(num_pairs, seconds)
    assert advice.recipe == recipe and words in advice.reason
    assert "a published model" in advice.instead[0]
    assert (len(advice.instead) == 1) == (num_pairs >= 100_000_000)


def test_an_upper_bound_is_called_one():
    advice = choose(60_000, {"compact-rn": 15 * DAY}, at_most=["compact-rn"])
    assert advice.recipe is None and "compact-rn could take up to 15 days here" in advice.reason


def test_no_pairs_are_an_error():
    with pytest.raises(ConfigError, match="at least 1"):
        candidates(0)


def test_known_runs_are_of_about_as_many_pairs():
    known = {run.result for candidate in candidates(15_000_000) for run in candidate.known}
    assert known == {"36.45 % ImageNet", "32.7 % ImageNet"}
    assert [run.num_pairs for run in candidates(60_000)[0].known] == [60_000, 60_000]


def test_every_recipe_has_its_row():
    assert list(PURPOSES) == list(RECIPES)
    assert {run.recipe for run in KNOWN_RUNS} <= set(RECIPES)
    rows = {row["recipe"]: row for row in recipe_rows()}
    assert rows["ViT-B/32"]["parameters"] == 151_277_313  # peers' and the paper's
    assert (rows["RN50x64"]["image_size"], rows["RN50x64"]["batch"]) == (448, 32_768)
    assert rows["lit"]["parameters"] is None


def test_the_command_lists_all(command):
    rows = json.loads(command("recipes", "--json").out)
    assert [row["recipe"] for row in rows] == list(RECIPES)
    assert "ViT-L/14@336px" in command("recipes").out


def test_the_command_measures_and_says_why(command):
    outcome = command("recipes", "playground:20000", "--json")
    found = json.loads(outcome.out)
    assert found["num_pairs"] == 20_000 and found["seconds"]["compact-rn"] > 0 and found["reason"]
    assert "counting" in outcome.err and "compact-rn" in outcome.err
    few = command("recipes", "--pairs", "200").out
    assert "none: do not train from scratch" in few and "too few" in few and "finetune" in few


def test_the_command_refuses_what_is_no_number_of_pairs(command, tmp_path):
    command("recipes", "--pairs", "0").is_error("at least 1")
    (tmp_path / "empty").mkdir()
    assert command("recipes", "empty").status == 1
