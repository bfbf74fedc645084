"""Pictures as vectors, kept on disk: the same numbers with and without, and never another model's."""

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from embedding import make_resnet, make_vit
from listed_sets import Counting, Listed, pictures

from diptych.errors import ConfigError, DataError, InputError
from diptych.evaluate.encoded_set import encode_set
from diptych.records import Broken


@pytest.mark.parametrize("make", [make_vit, make_resnet])
def test_both_kinds_equal_the_model_s_own(tmp_path, make):
    model, benchmark = make(), pictures()
    images = [sample.image for sample in benchmark.source.read(0)]
    for cache in (None, tmp_path):
        features = encode_set(model, benchmark, "features", cache=cache)
        embeddings = encode_set(model, benchmark, "embeddings", cache=cache)
        assert np.array_equal(features.vectors, model.image_features(images).numpy())
        assert np.allclose(embeddings.vectors, model.encode_images(images).numpy(), atol=1e-6)
        assert features.fingerprint != embeddings.fingerprint
    assert isinstance(features.vectors, np.memmap)


def test_what_is_known_about_the_samples_comes_back(tmp_path):
    for _ in range(2):
        found = encode_set(Counting(), pictures(), cache=tmp_path)
        assert found.keys == tuple(f"p{i}" for i in range(7))
        assert found.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
        assert found.texts[2] == ("text 2", "text 2") and found.texts[0] == ()
        assert found.metadata[3] == {"place": 3} and found.metadata[0] == {}


def test_kept_vectors_are_used_and_only_for_the_same_model_and_data(tmp_path):
    first = Counting()
    kept = encode_set(first, pictures(), cache=tmp_path)
    again = encode_set(first, pictures(), cache=tmp_path)
    assert first.calls == 7 and np.array_equal(kept.vectors, again.vectors)
    for encoder, benchmark in ((Counting("other weights"), pictures()), (Counting(), pictures(mark="other data"))):
        encode_set(encoder, benchmark, cache=tmp_path)
        assert encoder.calls == 7


def test_an_encoder_without_a_fingerprint_keeps_nothing(tmp_path):
    encoder = Counting(None)
    encode_set(encoder, pictures(), cache=tmp_path)
    encode_set(encoder, pictures(), cache=tmp_path)
    assert encoder.calls == 14 and not list(tmp_path.iterdir())


FILES = ["vectors.npy", "labels.npy", "key_bytes.npy", "key_offsets.npy", "samples.parquet", "shard.json"]


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
def test_a_broken_cache_is_computed_again(tmp_path, file, caplog):
    encoder = Counting()
    kept = np.array(encode_set(encoder, pictures(), cache=tmp_path).vectors)
    [path] = tmp_path.rglob(file)
    path.write_bytes(path.read_bytes()[:-5])
    assert np.array_equal(encode_set(encoder, pictures(), cache=tmp_path).vectors, kept)
    assert encoder.calls == 14 and "broken" in caplog.text


def test_a_manifest_of_something_else_is_not_believed(tmp_path):
    encoder = Counting()
    encode_set(encoder, pictures(), cache=tmp_path)
    [path] = tmp_path.rglob("manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "x"}))
    encode_set(encoder, pictures(), cache=tmp_path)
    assert encoder.calls == 14


def test_what_an_earlier_version_kept_is_encoded_again_with_a_notice(tmp_path, caplog):
    """Its folder has the same name: vectors.f32, rows.parquet and a manifest with a shape."""
    encoder = Counting()
    vectors = np.array(encode_set(encoder, pictures(), cache=tmp_path).vectors)
    [folder] = (tmp_path / "pictures").iterdir()
    shutil.rmtree(folder)
    folder.mkdir()
    content = (vectors + 1).tobytes()
    (folder / "vectors.f32").write_bytes(content + hashlib.blake2b(content, digest_size=32).digest())
    (folder / "manifest.json").write_text(json.dumps({"fingerprint": "x", "shape": list(vectors.shape)}))
    assert np.array_equal(encode_set(encoder, pictures(), cache=tmp_path).vectors, vectors)
    assert "written by an earlier version" in caplog.text
    assert encoder.calls == 14 and not (folder / "vectors.f32").exists()


def test_broken_pictures_are_counted(tmp_path):
    good = pictures(200)
    items = (*good.source.items, Broken("bad", "memory", "cut off"))
    found = encode_set(Counting(), dataclasses.replace(good, source=Listed(items)), cache=tmp_path)
    assert (len(found.keys), found.num_broken) == (200, 1)
    assert encode_set(Counting(), dataclasses.replace(good, source=Listed(items)), cache=tmp_path).num_broken == 1


def test_too_many_broken_pictures_leave_no_cache(tmp_path):
    items = (*pictures().source.items, Broken("bad", "memory", "cut off"))
    with pytest.raises(DataError, match="1 of 8 samples are broken"):
        encode_set(Counting(), dataclasses.replace(pictures(), source=Listed(items)), cache=tmp_path)
    assert not list((tmp_path / "pictures").iterdir())


def test_nan_and_unknown_kinds_are_refused(tmp_path):
    class Broken_(Counting):
        def encode_images(self, images):
            return super().encode_images(images) * torch.nan

    with pytest.raises(InputError, match=r"7 of 7 images, first 'p0', are NaN"):
        encode_set(Broken_(), pictures(), cache=tmp_path)
    with pytest.raises(ConfigError, match="no 'thoughts'"):
        encode_set(Counting(), pictures(), "thoughts")
    with pytest.raises(ConfigError, match="mean colour gives no features"):
        encode_set(Counting(), pictures(), "features")


def test_a_key_that_comes_twice_keeps_both_samples(tmp_path):
    first, second = pictures(2).source.items
    items = (first, dataclasses.replace(second, key=first.key))
    found = encode_set(Counting(), dataclasses.replace(pictures(), source=Listed(items)), cache=tmp_path)
    assert found.keys == ("p0", "p0") and found.labels.tolist() == [0, 1] and found.metadata == ({}, {"place": 1})
