"""Recorded vectors: written, read back, compared; and files that are not what they seem."""

import dataclasses
import io
import json
import zipfile

import numpy as np
import peers  # noqa: F401  (before transformers)
import pytest
from checked_folders import change_json, change_weights, copy_of, write_huggingface
from test_check_stages import different_stages

from diptych.embed import load
from diptych.embed.check import recorded_check
from diptych.embed.check.recorded_check import weights_digest
from diptych.embed.check.reference_file import read_reference, write_reference
from diptych.embed.check.run_check import check_model, record_model
from diptych.embed.check.tolerances import DECODED, FEATURES, IMAGES, PIXELS, PROBABILITIES, TEXTS, TOKENS
from diptych.errors import DataError, InputError

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def huggingface(tmp_path_factory):
    return write_huggingface(tmp_path_factory.mktemp("models") / "hf")


@pytest.fixture(scope="module")
def recorded(huggingface, tmp_path_factory):
    """The vectors of the model as transformers computes them."""
    path = tmp_path_factory.mktemp("references") / "hf.npz"
    record_model(f"hf:{huggingface}", path, device="cpu")
    return path


@pytest.fixture
def changed(huggingface, tmp_path):
    return copy_of(huggingface, tmp_path / "changed")


def test_the_same_weights_give_the_recorded_vectors(huggingface, recorded):
    check = check_model(str(huggingface), str(recorded), device="cpu")
    assert check.is_equal and not check.notes and not any(row.not_compared for row in check.rows)
    assert f"{recorded}: hf (transformers " in check.reference
    assert recorded.stat().st_size < 500_000


def test_a_record_is_plain_arrays(recorded, huggingface):
    with np.load(recorded) as arrays:
        assert arrays["images"].shape == (32, 64) and arrays["texts"].shape == (64, 64)
        np.testing.assert_allclose(np.linalg.norm(arrays["images"], axis=1), 1, atol=1e-6)
        about = json.loads(arrays["about"].tobytes())
    assert about["versions"]["transformers"] and len(about["decoded"]) == 32
    assert about["weights"] == weights_digest(load(huggingface, "cpu"))  # whichever library holds them


def test_vectors_are_found_by_the_weights_whatever_the_settings(changed, recorded, monkeypatch, tmp_path):
    load(changed, "cpu").save(tmp_path / "own")
    with pytest.raises(InputError, match=r"nothing is known that .*own could be compared with.*--against hf:"):
        check_model(str(tmp_path / "own"), device="cpu")
    folder = tmp_path / "cache" / "diptych" / "references"
    folder.mkdir(parents=True)
    (folder / "any name.npz").write_bytes(recorded.read_bytes())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert check_model(str(tmp_path / "own"), device="cpu").is_equal
    change_json(tmp_path / "own" / "config.json", lambda values: values["model"].update(activation="gelu"))
    assert check_model(str(tmp_path / "own"), device="cpu").first_difference == FEATURES
    check = check_model(str(tmp_path / "own"), device="cpu", precision="bf16")
    assert str(folder) in check.reference  # by the digest of the weights in fp32
    assert "check in fp32, too" in check.notes[0]  # two layers of the other activation are within bf16's tolerance


def test_another_activation_is_found(changed, recorded):
    change_json(changed / "config.json", lambda values: values["vision_config"].update(hidden_act="gelu"))
    check = check_model(f"hf:{changed}", str(recorded), device="cpu")
    assert different_stages(check) == [FEATURES, IMAGES]


def test_another_preprocessing_is_found_and_nothing_is_said_of_the_towers(changed, recorded):
    change_json(changed / "preprocessor_config.json", lambda values: values.update(resample=2))
    check = check_model(str(changed), str(recorded), device="cpu")
    assert different_stages(check) == [PIXELS]
    row = next(row for row in check.rows if row.stage == FEATURES)
    assert row.num_compared < 32 or row.not_compared == "the input of every item differs already"


def test_other_weights_are_found_and_named(changed, recorded):
    def change(tensors):
        tensors["text_projection.weight"][3, 5] += 1e-3
        tensors["logit_scale"].add_(0.01)

    change_weights(changed, change)
    check = check_model(str(changed), str(recorded), device="cpu")
    assert different_stages(check) == [TEXTS, PROBABILITIES]
    assert check.notes == ("the weights are not those of the recorded model",)


def test_another_tokenizer_is_found(changed, recorded):
    change_json(changed / "tokenizer_config.json", lambda values: values.update(padding_side="left"))
    assert check_model(f"hf:{changed}", str(recorded), device="cpu").first_difference == TOKENS


def test_a_decoder_that_differs_is_told_apart_from_the_model(huggingface, recorded, tmp_path):
    reference = read_reference(recorded)
    digest = recorded_check._digest(np.zeros((2, 2, 3), np.uint8))
    write_reference(
        tmp_path / "other.npz", dataclasses.replace(reference, decoded=[digest, *list(reference.decoded)[1:]])
    )
    check = check_model(str(huggingface), str(tmp_path / "other.npz"), device="cpu")
    assert different_stages(check) == [DECODED] and check.rows[0].differing == ("noise",)
    assert [row.num_compared for row in check.rows if row.stage in (PIXELS, FEATURES, IMAGES)] == [31, 31, 31]


def rewritten(recorded, path, change):
    """The record with its arrays changed, written as any tool may write it."""
    with np.load(recorded) as arrays:
        contents = dict(arrays)
    change(contents)
    buffer = io.BytesIO()
    np.savez(buffer, **contents)
    path.write_bytes(buffer.getvalue())
    return path


def described(**changes):
    def change(contents):
        values = json.loads(contents["about"].tobytes()) | changes
        contents["about"] = np.frombuffer(json.dumps(values).encode(), np.uint8)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda contents: contents.pop("images"), "lacks images"),
        (lambda contents: contents.pop("about"), "about"),
        (lambda contents: contents.update(extra=np.zeros(3)), "it holds 'extra'"),
        (lambda contents: contents.update(images=np.zeros((32, 4))), "images is float64"),
        (lambda contents: contents.update(images=np.zeros((5, 4), np.float32)), "one row for each image"),
        (lambda contents: contents.update(texts=np.array([{}], object)), "texts is object"),
        (lambda contents: contents.update(token_lengths=np.full(64, 9)), "token_lengths do not fit"),
        (lambda contents: contents.update(texts=np.zeros((2**24, 2), np.float32)), "larger than"),
        (described(format_version=9), "another format_version"),
        (described(name=7), "is not a text"),
        (described(logit_scale="1"), "logit_scale is not a number"),
    ],
)
def test_a_file_that_is_no_record_is_refused(recorded, tmp_path, change, says):
    with pytest.raises(DataError, match=f"holds no reference vectors, or is damaged: .*{says}"):
        read_reference(rewritten(recorded, tmp_path / "bad.npz", change))


def test_an_array_that_is_shorter_than_it_says_is_refused_before_it_is_made(recorded, tmp_path):
    """A header may claim terabytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**20, 2**20)})
    with zipfile.ZipFile(recorded) as old, zipfile.ZipFile(tmp_path / "bad.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, header.getvalue() if name == "texts.npy" else old.read(name))
    with pytest.raises(DataError, match="texts is float32"):
        read_reference(tmp_path / "bad.npz")


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.npz holds no reference vectors, or is damaged"):
        read_reference(tmp_path / "bad.npz")
    with pytest.raises(DataError, match=r"cannot read .*missing\.npz"):
        read_reference(tmp_path / "missing.npz")


def test_a_record_of_other_inputs_is_refused(recorded, tmp_path, huggingface):
    path = rewritten(recorded, tmp_path / "old.npz", described(inputs="0"))
    with pytest.raises(InputError, match=r"recorded of other images and texts.*record them again"):
        check_model(str(huggingface), str(path), device="cpu")


def test_a_damaged_file_in_the_folder_of_records_is_named(changed, tmp_path, monkeypatch):
    folder = tmp_path / "cache" / "diptych" / "references"
    folder.mkdir(parents=True)
    (folder / "bad.npz").write_bytes(b"PK")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load(changed, "cpu").save(tmp_path / "own")
    with pytest.raises(DataError, match=r"bad\.npz"):
        check_model(str(tmp_path / "own"), device="cpu")
