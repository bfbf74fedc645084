"""--model, --dataset and --set mean the same in every command; published old spellings keep working."""

import sys

import pytest
import typer.main
from colours import NAMES, picture, write_set

from diptych.cli import app
from diptych.records import read_results

MODEL = "python:tinted:ColourEncoder"


@pytest.fixture
def tints(tmp_path, command):
    """A folder of two evaluation sets, and a model that knows colours."""
    (tmp_path / "tinted.py").write_text("from colours import ColourEncoder\n")
    for folder in ("tints", "shades"):
        for place, name in enumerate(NAMES[:3]):
            path = tmp_path / "sets" / folder / "test" / name
            path.mkdir(parents=True)
            picture(name, seed=place).save(path / "0.png")
    yield tmp_path
    sys.modules.pop("tinted", None)


def leaves(group):
    """Every command of the command line, by its words."""
    for name, found in group.commands.items():
        if hasattr(found, "commands"):
            yield from ((f"{name} {words}", inner) for words, inner in leaves(found))
        else:
            yield name, found


COMMANDS = dict(leaves(typer.main.get_command(app)))


def shown_options(command) -> dict[str, str]:
    """The options that --help shows, with their help."""
    return {name: one.help or "" for one in command.params for name in one.opts if not getattr(one, "hidden", False)}


def test_an_option_means_the_same_in_all_commands():
    options = {words: shown_options(found) for words, found in COMMANDS.items()}
    fields = {texts["--set"] for texts in options.values() if "--set" in texts}
    assert len(fields) == 1 and "field of the configuration" in fields.pop()
    takes_models = {words for words, texts in options.items() if "--model" in texts}
    assert {"classify", "evaluate", "suite", "paper table11", "paper pairs"} <= takes_models
    # Where the first words of a command are models, --model can take their place.
    for words, found in COMMANDS.items():
        if any(one.name in ("models", "model_and_datasets") for one in found.params):
            assert "--model" in options[words], words
    assert {words for words, texts in options.items() if "--dataset" in texts} >= {"evaluate", "suite", "data check"}


def test_suite_and_its_alias_write_the_same_results(tints, command):
    words = ("--data-root", "sets", "--workers", 0, "--task", "zero_shot")
    first = command("suite", MODEL, *words, "--dataset", "tints", "--out", "a")
    assert first.status == 0 and "the report: a/report.html" in first.out, first.err
    numbers = [(row.dataset, row.metric, row.protocol, row.value) for row in read_results(tints / "a/results.jsonl")]
    assert {row[0] for row in numbers} == {"tints"}
    forms = {
        "b": ("evaluate", MODEL, "--suite", "paper", *words, "--dataset", "tints"),
        "c": ("suite", "--model", MODEL, *words, "--dataset", "tints"),
        "d": ("evaluate", MODEL, "--suite", "paper", *words, "--set", "tints"),
    }
    for out, form in forms.items():
        found = command(*form, "--out", out)
        rows = read_results(tints / out / "results.jsonl")
        assert [(row.dataset, row.metric, row.protocol, row.value) for row in rows] == numbers
        assert found.out.replace(f"{out}/", "a/") == first.out
        assert ("notice: --set" in found.err and "--dataset" in found.err) is (out == "d")


def test_the_old_spelling_of_data_sets_keeps_working_with_a_notice(tints, command):
    old = command("data", "check", "sets", "--set", "CIFAR10", "--set", "tints")
    new = command("data", "check", "sets", "--dataset", "CIFAR10", "--dataset", "tints")
    assert old.status == new.status == 0 and old.out == new.out and "CIFAR10" in new.out
    assert old.err.startswith("notice: --set") and new.err == ""
    assert command("suite", MODEL, "--data-root", "sets", "--set", "tints").status == 2  # was never published


def test_evaluate_takes_sets_as_words_and_as_datasets(tints, command):
    write_set(tints / "wds", [0, 1, 2, 3, 4, 5, 6])
    first = command("evaluate", MODEL, "wds", "sets/tints", "--workers", 0)
    assert first.status == 0 and "wds" in first.out and "tints" in first.out
    for form in (
        ("evaluate", "--model", MODEL, "wds", "sets/tints"),
        ("evaluate", MODEL, "wds", "--dataset", "sets/tints"),
        ("evaluate", "--model", MODEL, "--dataset", "wds", "--dataset", "sets/tints"),
    ):
        assert command(*form, "--workers", 0).out == first.out
    refused = command("evaluate", MODEL, "wds", "--set", "sets/tints")  # was an option of --suite alone
    assert refused.status == 1 and refused.err.splitlines()[-1].endswith("--partial are options of diptych suite")


def test_a_back_end_is_an_option_of_every_command_that_measures(tints, command):
    outcomes = [
        command("evaluate", "default", "sets/tints", "--workers", 0, *words)
        for words in ([], ["--backend", "onnx"], ["--backend", "onnx", "--precision", "int8"])
    ]
    assert all(outcome.status == 0 for outcome in outcomes)
    assert outcomes[0].out == outcomes[1].out == outcomes[2].out
    assert ["compiled default for" in outcome.log for outcome in outcomes] == [False, True, True]
    command("evaluate", "default", "sets/tints", "--backend", "abacus").is_error("backend must be one of")
    words = ("suite", "default", "--data-root", "sets", "--dataset", "tints", "--task", "zero_shot", "--workers", 0)
    again = command(*words, "--backend", "onnx", "--out", "runs")
    assert again.status == 0 and "compiled" not in again.log
    assert read_results(tints / "runs" / "results.jsonl")


def test_exhibits_take_models_as_words_and_by_the_option(tints, command):
    words = ("--data-root", "sets", "--dataset", "tints", "--workers", 0)
    first = command("paper", "pairs", MODEL, *words, "--out", "a")
    again = command("paper", "pairs", "--model", MODEL, *words, "--out", "b")
    assert first.status == again.status == 0 and again.out.replace("b/", "a/") == first.out
    assert read_results(tints / "b/results.jsonl")
