"""Images and texts to stores by one call: the same vectors as by hand, however they are decoded and computed."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from made_sources import Noise, digests
from pictures import noise
from PIL import Image
from sklearn.datasets import load_sample_images

import diptych
from diptych.data import stream
from diptych.embed.broken_samples import all_broken_samples
from diptych.embed.embed_source import embed_source
from diptych.embed.stage_times import StageTimes
from diptych.embed.store import open_store
from diptych.errors import ConfigError, DataError, TextError
from diptych.progress import progress_line
from tests.embedding import make_compact, make_vit

SMALL = {"batch_size": 16, "rows_per_shard": 32}


def photos(folder, number=20):
    folder.mkdir()
    for index in range(number):
        noise(60, 50 + index, index).save(folder / f"{index:02d}.jpg")
    return folder


def all_vectors(store):
    return store.vectors(np.arange(len(store)))


def test_a_folder_becomes_a_store_of_the_models_own_vectors(tmp_path):
    model, folder = make_vit(), photos(tmp_path / "photos")
    (folder / "07.jpg").write_bytes((folder / "07.jpg").read_bytes()[:700])
    times = StageTimes()
    store = diptych.embed_images(model, folder, tmp_path / "vectors", times=times)
    names = [f"{index:02d}.jpg" for index in range(20) if index != 7]
    assert store.keys(np.arange(len(store))) == names
    expected = model.encode_images([folder / name for name in names]).numpy()
    assert np.allclose(all_vectors(store), expected, atol=1e-6)
    [(key, reason)] = all_broken_samples(store)
    assert key == "07.jpg" and "truncated" in reason
    assert set(times.shares) == {"reading", "decoding", "computing", "writing"} and times.computing > 0
    assert sum(times.shares.values()) == pytest.approx(1) and times.limit == next(iter(times.shares))
    features = diptych.embed_images(model, folder, tmp_path / "features", kind="features")
    assert features.manifest.dim == 128 and features.manifest.kind == "features"


@pytest.mark.parametrize("how", [{"num_threads": 0}, {"num_threads": 1}, {"num_threads": 3}, {"num_workers": 2}])
def test_how_images_are_decoded_changes_nothing(tmp_path, how):
    torch.manual_seed(0)
    model = make_vit()
    plain = embed_source(Noise(2, 40), model, tmp_path / "plain", **SMALL, num_threads=2)
    other = embed_source(Noise(2, 40), model, tmp_path / "other", **SMALL, **how)
    assert digests(plain) == digests(other)
    assert [*all_broken_samples(plain)] == [*all_broken_samples(other)] != []


@pytest.mark.parametrize("num_threads", [0, 2])
def test_large_images_end_batches_early_and_parts_stay_exact(tmp_path, monkeypatch, num_threads):
    """A batch is cut at a number of bytes. It must not reach into the next part, which a resumed run reads again."""
    monkeypatch.setattr(stream, "_MAX_CHUNK_BYTES", 10 * 8 * 8 * 3)  # ten images of Noise
    model = make_vit()
    whole = embed_source(Noise(1, 90), model, tmp_path / "whole", **SMALL, num_threads=num_threads)
    assert [shard.num_items for shard in whole.shards] == [32, 32, 26] and whole.num_broken == 13
    keys = whole.keys(np.arange(len(whole)))
    assert len(set(keys)) == len(keys) == 77
    (tmp_path / "cut").mkdir()
    whole.manifest.write(tmp_path / "cut")
    whole.shards[0].folder.rename(tmp_path / "cut" / "000000-000000")
    again = embed_source(Noise(1, 90), model, tmp_path / "cut", **SMALL, num_threads=num_threads)
    assert again.keys(np.arange(len(again))) == keys
    assert [shard.digests for shard in again.shards[1:]] == [shard.digests for shard in whole.shards[1:]]


def test_an_error_of_the_source_or_the_model_ends_the_threads(tmp_path):
    class Fails(Noise):
        def read(self, index):
            yield from super().read(index)
            raise DataError("the disk is gone")

    with pytest.raises(DataError, match="the disk is gone"):
        embed_source(Fails(1, 40), make_vit(), tmp_path / "a", **SMALL, num_threads=2)

    class Model(type(make_vit())):
        calls = 0

        def encode_pixels(self, images, batch_size=64):
            self.calls += 1
            if self.calls > 2:
                raise ConfigError("no more")
            return super().encode_pixels(images, batch_size)

    model = make_vit()
    with pytest.raises(ConfigError, match="no more"):
        embed_source(
            Noise(1, 90),
            Model(model.clip, model.tokenizer, model.preprocessing, "fails"),
            tmp_path / "b",
            **SMALL,
            num_threads=2,
        )
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("diptych-")]


# ---- texts


def test_texts_become_a_store_of_the_same_format(tmp_path, caplog):
    model = make_vit()
    texts = ["a photo of a cat", "two green dogs", "a very long tail " * 30, "dogs"] * 3
    store = diptych.embed_texts(model, texts, tmp_path / "vectors", batch_size=5)
    assert store.manifest.kind == "text embeddings" and store.manifest.model_fingerprint == model.fingerprint
    assert store.keys(np.arange(12)) == [str(index) for index in range(12)]
    expected = model.encode_texts(texts, truncate=True).numpy()
    assert np.allclose(all_vectors(store), expected, atol=1e-6)
    assert [row[0] for shard in store.shards for row in shard.samples()["texts"].to_pylist()] == texts
    assert "3 texts are longer than the model's context and were cut there" in caplog.text
    assert next(store.embeddings()).vectors.shape == (12, 64)
    (tmp_path / "texts.txt").write_text("\n".join([*texts[:4], ""]) + "\n")
    again = diptych.embed_texts(model, tmp_path / "texts.txt", tmp_path / "more")
    assert again.keys(np.arange(4)) == ["1", "2", "3", "4"] and [*all_broken_samples(again)] == [("5", "empty text")]
    assert np.allclose(all_vectors(again), expected[:4], atol=1e-6)


def test_lists_without_texts(tmp_path):
    with pytest.raises(TextError, match="at least one"):
        diptych.embed_texts(make_vit(), [], tmp_path / "vectors")
    with pytest.raises(TextError, match="text 1 is not a str but int"):
        diptych.embed_texts(make_vit(), ["a", 3], tmp_path / "vectors")


# ---- back ends


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    make_compact().save(tmp_path / "model")
    return tmp_path / "model"


def test_the_manifest_tells_the_back_end_and_both_values_of_what_differs(tmp_path, saved):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = photos(tmp_path / "photos")
    store = diptych.embed_images(diptych.load(saved, device="cpu"), folder, tmp_path / "vectors")
    assert store.manifest.backend == f"torch {torch.__version__}" and store.manifest.precision == "fp32"
    onnx = diptych.load(saved, backend="onnx")
    other = diptych.embed_images(onnx, folder, tmp_path / "others")
    assert other.manifest.backend == f"onnxruntime {onnxruntime.__version__}"
    words = rf"backend: torch .* there, onnxruntime {onnxruntime.__version__} here; choose another folder; or allow"
    with pytest.raises(DataError, match=words):
        diptych.embed_images(onnx, folder, tmp_path / "vectors")
    with pytest.raises(DataError, match=r"the data differ .*; choose another folder$"):
        diptych.embed_images(onnx, photos(tmp_path / "more", 3), tmp_path / "others", allow_other_backend=True)


def test_another_back_end_adds_to_a_store_if_its_vectors_agree(tmp_path, saved):
    pytest.importorskip("onnxruntime")
    model, onnx = diptych.load(saved, device="cpu"), diptych.load(saved, backend="onnx")
    whole = embed_source(Noise(1, 90), model, tmp_path / "whole", **SMALL)
    begun = tmp_path / "begun"
    begun.mkdir()
    whole.manifest.write(begun)
    whole.shards[0].folder.rename(begun / "000000-000000")
    store = embed_source(Noise(1, 90), onnx, begun, **SMALL, allow_other_backend=True)
    assert store.is_complete and store.manifest.backend.startswith("torch")
    [added] = store.manifest.added_by.values()
    assert added.startswith("onnxruntime") and "worst cosine 1.000" in added
    assert embed_source(Noise(1, 90), onnx, begun, **SMALL) and embed_source(Noise(1, 90), model, begun, **SMALL)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_encoding_processes_open_a_back_end_of_their_own(tmp_path, saved, backend):
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    one = embed_source(Noise(2, 40), diptych.load(saved, backend=backend), tmp_path / "one", **SMALL)
    model = diptych.load(saved, backend=backend)
    model.encode_images([Image.new("RGB", (32, 32))])  # its threads do not survive the fork
    several = embed_source(Noise(2, 40), model, tmp_path / "several", **SMALL, num_processes=2)
    assert np.allclose(all_vectors(one), all_vectors(several), atol=1e-5) and several.is_complete


def test_another_back_end_whose_vectors_differ_is_refused(tmp_path):
    model, other = make_vit(), make_vit()
    embed_source(Noise(1, 40), model, tmp_path / "store", **SMALL)

    class Rounded(type(model)):
        """The same model in a precision that computes wrong vectors."""

        @property
        def about(self):
            return dataclasses.replace(super().about, precision="int4", image_fingerprint="rounded")

        def encode_pixels(self, images, batch_size=64):
            return torch.nn.functional.normalize(super().encode_pixels(images, batch_size).round(decimals=1), dim=1)

    rounded = Rounded(other.clip, other.tokenizer, other.preprocessing, "vit")
    with pytest.raises(DataError, match=r"int4 gives vectors with a cosine of 0\.\d+ at worst, below 0\.999"):
        embed_source(Noise(1, 40), rounded, tmp_path / "store", **SMALL, allow_other_backend=True)
    assert open_store(tmp_path / "store").manifest.added_by == {}


# ---- speed


def test_fast_decoding_keeps_a_cosine_of_0_999_on_photographs_and_is_recorded(tmp_path):
    """Two photographs of scikit-learn and one of these pages, as large as cameras make them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    images = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    images.append(Image.open(Path(__file__).parents[2] / "docs" / "orange.jpg").convert("RGB"))
    for index, image in enumerate(images):
        size = (image.width * 2001 // min(image.size), image.height * 2001 // min(image.size))
        image.resize(size, Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=92)
    model = diptych.load("default", device="cpu")
    exact = diptych.embed_images(model, folder, tmp_path / "exact")
    fast = diptych.embed_images(model, folder, tmp_path / "fast", fast_decoding=True)
    cosines = (all_vectors(exact) * all_vectors(fast)).sum(axis=1)
    assert cosines.min() > 0.999 and (all_vectors(exact) != all_vectors(fast)).any()
    assert fast.manifest.preprocessing.endswith("; JPEGs decoded at a reduced size")
    with pytest.raises(DataError, match=r"preprocessing: .* there, .*reduced size here"):
        diptych.embed_images(model, folder, tmp_path / "exact", fast_decoding=True)


def test_progress_states_rate_time_left_and_limit():
    line = progress_line("ViT-B/32 (images)", 1200, 10_000, 6.0, "limited by decoding")
    assert line == "ViT-B/32 (images): 1,200/10,000, 200/s, 44 s left, limited by decoding"
    assert progress_line("m", 1200, None, 6.0, "") == "m: 1,200, 200/s"
    assert progress_line("m", 100, 100_000, 100.0, "") == "m: 100/100,000, 1/s, 1665 min left"


def test_progress_lines_are_printed_where_there_is_no_terminal(tmp_path, capsys):
    embed_source(Noise(1, 40), make_vit(), tmp_path / "store", **SMALL, seconds_per_line=0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all("limited by " in line and "/s" in line for line in lines)
