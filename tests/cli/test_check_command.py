"""diptych check as a user runs it: exit status, table, JSON, records, and what is refused."""

import json
import shutil

import peers  # noqa: F401  (before transformers)
import pytest
import torch
from embedding import make_vit

from diptych.embed import load


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model folder, and one with another activation."""
    folder = tmp_path_factory.mktemp("models")
    make_vit().save(folder / "right")
    shutil.copytree(folder / "right", folder / "wrong")
    config = json.loads((folder / "right" / "config.json").read_text())
    config["model"]["activation"] = "gelu"
    (folder / "wrong" / "config.json").write_text(json.dumps(config))
    return folder


def test_equal_models_exit_with_0_and_a_table(models, command):
    outcome = command("check", models / "right", "--against", models / "right", "--device", "cpu")
    assert outcome.status == 0
    assert "preprocessed pixels" in outcome.out and "worst" in outcome.out
    assert outcome.out.splitlines()[-1] == "equal: 7 stages agree within the tolerance of fp32"


def test_different_models_exit_with_1_and_a_verdict(models, command):
    outcome = command("check", "--model", models / "wrong", "--against", models / "right", "--device", "cpu")
    assert outcome.status == 1 and not outcome.err
    assert "different: the first difference is in features: the image towers compute otherwise" in outcome.out
    assert "32 differ" in outcome.out and "and 28 more differ" in outcome.out


def test_json_is_one_object_and_is_written_too(models, command, tmp_path):
    words = ("check", models / "wrong", "--against", models / "right", "--json", "--out", tmp_path / "report.json")
    outcome = command(*words)
    printed = json.loads(outcome.out)
    assert outcome.status == 1 and printed == json.loads((tmp_path / "report.json").read_text())
    assert printed["equal"] is False and printed["first_difference"] == "features"
    stages = {row["stage"]: row for row in printed["stages"]}
    assert stages["tokens"]["equal"] and stages["features"]["differing"] and not stages["features"]["equal"]
    assert stages["features"]["limit"] == {"relative": 1e-5, "cosine": 0.999999}


def test_a_record_is_written_and_compared_with(models, command, tmp_path):
    outcome = command("check", models / "right", "--record", "reference.npz")
    assert outcome.status == 0 and "the vectors of right (diptych" in outcome.out
    assert command("check", models / "right", "--against", "reference.npz").status == 0
    assert command("check", models / "wrong", "--against", "reference.npz").status == 1
    assert command("check", models / "right", "--against", "reference.npz", "--precision", "bf16").status == 0


def test_a_weight_file_is_checked_with_what_is_stated_of_it(models, command, tmp_path):
    """The options belong to the file, not to the reference."""
    model = load(models / "right", "cpu")
    torch.save(model.clip.state_dict(), tmp_path / "weights.pt")
    model.tokenizer.save(tmp_path / "tokenizer.json")
    config = model.clip.config
    heads = f"{config.vision.heads},{config.text.heads}"
    words = ("check", "weights.pt", "--against", models / "right", "--heads", heads, "--activation")
    assert command(*words, "quick_gelu").status == 0
    outcome = command(*words, "gelu")
    assert outcome.status == 1 and "first difference is in features" in outcome.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name one model to check"),
        (("default", "--model", "default"), "name one model to check"),
        (("no-such-model",), "there is no model folder"),
        (("default",), "nothing is known that default could be compared with"),
        (("default", "--record", "a.npz", "--json"), "--record writes reference vectors and compares nothing"),
        (("default", "--record", "a.json"), "must end with .npz"),
        (("default", "--record", "/dev/null/a.npz"), "cannot write"),
        (("default", "--against", "missing.npz"), "cannot read missing.npz"),
        (("default", "--against", "no-such-model"), "there is no model folder"),
        (("default", "--against", "default", "--precision", "fp8"), "precision must be"),
    ],
)
def test_what_cannot_be_checked_is_said_in_one_line(words, says, command):
    command("check", *words).is_error(says)


def test_the_help_states_the_tolerances(command):
    outcome = command("check", "--help")
    text = " ".join(outcome.out.replace("│", " ").split())
    assert "fp32 1e-05, cos 0.999999" in text and "Exit status: 0" in text
