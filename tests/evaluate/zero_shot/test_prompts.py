import json
from pathlib import Path

import pytest
from colours import NAMES, ColourEncoder

from diptych.errors import DataError, InputError
from diptych.evaluate import ZeroShotClassifier, read_labels, read_templates
from diptych.evaluate.zero_shot.class_prompts import check_class_names, check_templates, fill_template

PAPER = Path(__file__).resolve().parents[4] / "shared" / "paper"


def test_names_and_templates_are_literal():
    for name in ("{0.__class__}", "{c}", "{}", "%s", "{c!r:>99}", r"\1", "50 % {"):
        assert fill_template("a {c} and {} and {0}, {c}", name) == f"a {name} and {{}} and {{0}}, {name}"


def test_the_encoder_sees_the_names_as_they_are():
    class Listening(ColourEncoder):
        heard: tuple = ()

        def encode_texts(self, texts):
            self.heard += tuple(texts)
            return super().encode_texts(texts)

    encoder = Listening()
    ZeroShotClassifier(encoder, [" {0.__class__} ", "{c}"], "a {c} {x}")
    assert sorted(encoder.heard) == ["a {0.__class__} {x}", "a {c} {x}"]


def test_names_are_stripped():
    assert check_class_names([" cat", "dog\n"]) == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "dog", "cat"], "more than once: 'cat'"),
        (["cat", " cat "], "more than once: 'cat'"),
        (["cat"], "at least two"),
        ([], "at least two"),
        (["cat", ""], "blank.*position 1"),
        (["cat", " \t", "dog"], "blank.*position 1"),
        ("cat,dog", "list of texts"),
        (["cat", 3], "3 .int"),
    ],
)
def test_class_names_that_cannot_be_used(names, message):
    with pytest.raises(InputError, match=message):
        ZeroShotClassifier(ColourEncoder(), names)


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ([], "at least one template"),
        (["a {c}", "a photo"], "'a photo' has no {c}"),
        (["a photo of a {}."], "has no {c}"),
        ("a photo", "'a photo' has no {c}"),
        ([lambda name: name], "must be a text"),
    ],
)
def test_templates_that_cannot_be_used(templates, message):
    with pytest.raises(InputError, match=message):
        ZeroShotClassifier(ColourEncoder(), NAMES, templates)


def test_one_template_as_a_text():
    assert check_templates("a {c}") == ("a {c}",)


def test_labels_of_a_command_line(tmp_path):
    assert read_labels("cat,red dog") == ["cat", "red dog"]
    (tmp_path / "labels.txt").write_bytes("\ufeffcat, big\n\n  Hündin \r\nred dog".encode())
    assert read_labels(f"@{tmp_path / 'labels.txt'}") == ["cat, big", "Hündin", "red dog"]


def test_templates_of_a_command_line(tmp_path):
    (tmp_path / "templates.txt").write_text("a {c}.\na photo of a {}.\n")
    assert read_templates(["x {c}", f"@{tmp_path / 'templates.txt'}"]) == ["x {c}", "a {c}.", "a photo of a {c}."]
    # Only a file's template with exactly one {} and no {c} is read in the paper's form.
    (tmp_path / "templates.json").write_text(json.dumps(["{}", "{} or {}", "{c} in {}"]))
    assert read_templates([f"@{tmp_path / 'templates.json'}"]) == ["{c}", "{} or {}", "{c} in {}"]
    assert read_templates(["{}"]) == ["{}"]


@pytest.mark.skipif(not PAPER.exists(), reason=f"{PAPER} is not there")
def test_the_papers_templates():
    templates = read_templates([f"@{PAPER / 'imagenet_templates.json'}"])
    assert len(templates) == 80 and check_templates(templates)[0] == "a bad photo of a {c}."


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "cannot read"),
        ("latin.txt", "Hündin".encode("latin-1"), "not UTF-8 .byte 1"),
        ("broken.json", b"[", "not JSON"),
        ("deep.json", b"[" * 200_000, "not JSON"),
        ("other.json", b'{"a": 1}', "list of texts"),
        ("numbers.json", b'["a {c}", 1]', "list of texts"),
        ("large.txt", b"a" * (16 * 2**20 + 1), "larger than 16 MiB"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_templates([f"@{tmp_path / name}"])


def test_a_folder_is_no_file_of_labels(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_labels(f"@{tmp_path}")


def test_letters_typed_in_an_ascii_locale_are_the_letters():
    """Python hands them on as bytes in disguise; a label that is taken so would be another word to the tokenizer."""
    typed = "réd,été {c}".encode().decode("ascii", "surrogateescape")
    assert read_labels(typed) == ["réd", "été {c}"] and read_templates([typed]) == ["réd,été {c}"]
    with pytest.raises(InputError, match="is not UTF-8"):
        read_labels("r\udce9d")
