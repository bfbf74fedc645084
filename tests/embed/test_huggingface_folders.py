"""hf: of a local folder reads what FOLDER reads: files in it and nothing else, by one rule."""

import json
import os
import pickle
import warnings

import peers  # noqa: F401  (before transformers)
import pytest
from safetensors.torch import load_file, save_file
from test_huggingface_kinds import small_clip

from diptych.embed import load
from diptych.errors import WeightsError
from diptych.model.weights import read_tensors

transformers = pytest.importorskip("transformers")
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The tensors of a small CLIP, in a folder beside those of the tests."""
    folder = tmp_path_factory.mktemp("other")
    small_clip(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """That model in two files and an index; the function writes the index again, with all tensors in one place."""
    tensors = load_file(whole / "model.safetensors")
    names = sorted(tensors)
    files = {name: f"{'ab'[place % 2]}.safetensors" for place, name in enumerate(names)}
    for file in set(files.values()):
        part = {name: tensors[name] for name in names if files[name] == file}
        save_file(part, tmp_path / file, metadata={"format": "pt"})
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    write(tmp_path / INDEX, files)
    return tmp_path


def write(index, files, **more):
    index.write_text(json.dumps({"metadata": {}, "weight_map": files} | more))


def all_from(folder, place):
    return dict.fromkeys(json.loads((folder / INDEX).read_text())["weight_map"], str(place))


def test_the_files_of_an_index_are_read(folder, whole):
    assert load(f"hf:{folder}", "cpu").image_fingerprint == load(f"hf:{whole}", "cpu").image_fingerprint


@pytest.mark.parametrize("kind", ["absolute", "relative", "bin", "stated"])
def test_an_index_that_leads_out_of_the_folder_is_not_trusted(folder, whole, kind):
    """The library loads the weights of the other folder; in "bin" once the index of safetensors is gone."""
    outside = whole / "model.safetensors"
    files = all_from(folder, os.path.relpath(outside, folder) if kind == "relative" else outside)
    if kind == "bin":
        write(folder / "pytorch_model.bin.index.json", files)
    elif kind == "stated":
        write(folder / "other.safetensors.index.json", files)
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(
            json.dumps(values | {"transformers_weights": "other.safetensors.index.json"})
        )
    else:
        write(folder / INDEX, files)
    with pytest.raises(WeightsError, match=r"index\.json names .*which is not a file next to it; refusing to read it"):
        load(f"hf:{folder}", "cpu")


def test_an_index_in_a_folder_below_is_not_trusted(folder, whole):
    """What it names is looked for from the folder above, by a rule of the library's own."""
    files = all_from(folder, whole / "model.safetensors")
    (folder / "below").mkdir()
    write(folder / "below" / INDEX, files)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"transformers_weights": f"below/{INDEX}"}))
    with pytest.raises(WeightsError, match=r"names 'below/.*as transformers_weights.*it is not trusted"):
        load(f"hf:{folder}", "cpu")


def test_a_link_to_a_file_elsewhere_is_read_as_in_a_cache_of_the_hub(folder, tmp_path_factory):
    """FOLDER follows links, too: who has the folder made them, and the hub's own cache is made of them."""
    blob = tmp_path_factory.mktemp("blobs") / "blob"
    (folder / "a.safetensors").rename(blob)
    (folder / "a.safetensors").symlink_to(blob)
    assert load(f"hf:{folder}", "cpu").image_fingerprint
    assert len(read_tensors(folder / INDEX)) == len(all_from(folder, blob))


@pytest.mark.parametrize("metadata", [None, []])
def test_an_index_without_metadata_is_named(folder, metadata):
    index = folder / INDEX
    values = {"weight_map": json.loads(index.read_text())["weight_map"]}
    index.write_text(json.dumps(values if metadata is None else values | {"metadata": metadata}))
    with pytest.raises(WeightsError, match=rf"{INDEX} lacks the object metadata"):
        load(f"hf:{folder}", "cpu")


def test_an_index_that_is_not_used_may_be_old(whole, tmp_path):
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    assert load(f"hf:{tmp_path}", "cpu").image_fingerprint


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_the_place_of_weights_is_not_waited_for(folder):
    (folder / "a.safetensors").unlink()
    os.mkfifo(folder / "a.safetensors")
    with pytest.raises(WeightsError, match=r"a\.safetensors is not a regular file but a named pipe"):
        load(f"hf:{folder}", "cpu")
    (folder / INDEX).unlink()
    (folder / "model.safetensors").symlink_to("/dev/zero")
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a regular file but a device"):
        load(f"hf:{folder}", "cpu")


def test_a_pickle_of_another_protocol_is_refused_without_a_warning(folder):
    """PyTorch warns of the protocol, asks for a report to itself, and then refuses what the pickle names."""
    (folder / INDEX).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": print}, protocol=4))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for name in (f"hf:{folder}", folder / "pytorch_model.bin"):
            with pytest.raises(WeightsError, match=r"pytorch_model\.bin cannot be read as weights"):
                load(name, "cpu")
    assert not [one for one in told if "pickle" in str(one.message)]
