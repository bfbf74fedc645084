"""How the default model is made: the captions by hand, and the whole script on a miniature of the data."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import encoded, noise

from diptych import load
from diptych.data.open_source import open_source
from diptych.data.shards import write_shards
from diptych.records import Sample, read_results

SCRIPTS = Path(__file__).resolve().parents[1] / "models" / "default"
sys.path.insert(0, str(SCRIPTS))
from captions import captions_of, recaptioned  # noqa: E402
from photos import table  # noqa: E402

CAT = {
    "wnid": "n1",
    "lemmas": ["tabby", "tabby cat", "Felis catus"],
    "hypernyms": [["domestic cat", "house cat"], ["cat"], ["placental"], ["animal", "beast"]],
    "gloss": "a cat with stripes; common",
}
ALTAR = {"wnid": "n2", "lemmas": ["altar"], "hypernyms": [["structure"]], "gloss": "a raised structure"}
PICTURES = [encoded(noise(64, 64, seed), "PNG") for seed in range(2)]
NUM_PAIRS = 5002  # two more than make.py's shards hold, so that there is one to hold out


def test_captions_of_a_class():
    captions = captions_of(CAT)
    assert len(captions) == 40 and captions == captions_of(CAT)
    assert captions[:4] == ["a tabby", "a photo of a tabby.", "a picture of a tabby", "a bad photo of a small tabby."]
    assert captions[-1] == "tabby: a cat with stripes"
    assert sum("tabby cat" in text for text in captions) >= 5
    assert sum("domestic cat" in text for text in captions) >= 2
    assert "a tabby, a kind of a domestic cat." in captions
    assert not [text for text in captions if "Felis" in text or "placental" in text]


def test_everyday_words_are_said_often():
    lifeboat = {**CAT, "lemmas": ["lifeboat"], "hypernyms": [["sea boat"], ["boat"], ["vessel", "watercraft"]]}
    assert sum(re.search(r"\bship\b", text) is not None for text in captions_of(lifeboat)) == 4
    railway = {**CAT, "lemmas": ["freight wagon"], "hypernyms": [["car", "railcar"], ["vehicle"]]}
    assert not [text for text in captions_of(railway) if "automobile" in text]


def test_articles_fit_the_sound():
    captions = [text for row in (CAT, ALTAR) for text in captions_of(row)]
    assert not [text for text in captions if re.search(r"\ba [aeiou]|\ban [^aeiou]", text)]


def test_a_class_whose_kinds_nobody_says_has_its_name_alone():
    assert all("altar" in text for text in captions_of(ALTAR)) and len(captions_of(ALTAR)) == 40


@pytest.fixture
def data(tmp_path):
    """tiny-imagenet and cifar10 with two classes, in the layout of the real ones."""
    for name in ("tiny-imagenet", "cifar10"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        (folder / "classnames.txt").write_text("tabby\naltar\n")
        (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
        for split in ("train", "test"):
            labelled = (Sample(f"s{i}", PICTURES[i % 2], (), i % 2) for i in range(8))
            if (name, split) != ("tiny-imagenet", "train"):
                write_shards(labelled, folder / split)
    folder = tmp_path / "data" / "tiny-imagenet"
    (folder / "synsets.jsonl").write_text(json.dumps(CAT) + "\n" + json.dumps(ALTAR) + "\n")
    (folder / "wnids.txt").write_text("n1\nn2\n")
    wnids = ({"wnid": f"n{i % 2 + 1}"} for i in range(NUM_PAIRS))
    pairs = (Sample(f"s{i}", PICTURES[i % 2], ("old",), None, wnid) for i, wnid in enumerate(wnids))
    write_shards(pairs, folder / "train")
    return tmp_path / "data"


def test_recaptioned_pictures_are_the_same_and_their_captions_new(data):
    before = [item for item in open_source(str(data / "tiny-imagenet" / "train")).read(0)][:2]
    after = list(recaptioned(data / "tiny-imagenet"))
    assert len(after) == NUM_PAIRS and [item.image for item in after[:2]] == [item.image for item in before]
    assert after[0].texts == tuple(captions_of(CAT)) and after[1].texts == tuple(captions_of(ALTAR))


@pytest.mark.parametrize("choose", [True, False])
def test_the_script_from_shards_to_a_model_with_a_card(data, tmp_path, choose):
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPTS / "make.py"), str(data), "--out", str(out), "--pairs", "256"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, *["--choose"] * choose], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    results = read_results(out / "results.jsonl")
    sets = {(one.dataset, one.split, one.n) for one in results}
    if choose:
        assert sets == {("tiny-imagenet-held-out", "held-out", 2), ("cifar10", "train", 8)}
        assert not (out / "default").exists()
        return
    assert sets == {("tiny-imagenet", "test", 8), ("cifar10", "test", 8)}
    card = (out / "default" / "README.md").read_text()
    top_1 = next(one for one in results if one.metric == "accuracy")
    assert f"| {100 * top_1.value:.2f} |" in card and "| tabby |" in card and str(tmp_path) not in card
    assert load(out / "default").encode_texts(["a tabby"]).shape == (1, 256)


def test_shards_with_other_captions_are_refused(data, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPTS / "make.py"), str(data), "--out", str(out), "--pairs", "256"]
    (out / "shards").mkdir(parents=True)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "other captions" in done.stderr


def test_photographs_in_order_with_what_is_right_in_bold(tmp_path):
    names = ["tabby", "altar", "tabby"]
    samples = (Sample(f"s{i}", PICTURES[i % 2], (name,), None, {"wnid": f"n{i}"}) for i, name in enumerate(names))
    write_shards(samples, tmp_path / "photos")
    lines = list(table("default", tmp_path / "photos", {"n0"}))
    rows = [line.split(" | ") for line in lines[2:5]]
    assert [row[0].removeprefix("| ") for row in rows] == names and [row[1] for row in rows] == ["yes", "no", "no"]
    right = [row[2].startswith(f"**{name} ") for row, name in zip(rows, names, strict=True)]
    assert [row[2].startswith("**") for row in rows] == right
    assert lines[6].startswith(f"{right[0]:d} of 1 of trained")
    assert lines[7].startswith(f"{sum(right[1:])} of 2 of other")
