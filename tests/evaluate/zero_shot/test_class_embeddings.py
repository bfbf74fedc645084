import itertools
import logging

import peers  # noqa: F401
import pytest
import safetensors.torch
import torch
from colours import NAMES, TEMPLATES, ColourEncoder, FingerprintedEncoder

from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed import Model
from diptych.errors import InputError, ShapeError
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.evaluate.zero_shot.class_vector_cache import default_cache_folder
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig, TextConfig, ViTConfig


def count(encoder, *arguments, **options):
    """The class embeddings, and how many texts were encoded for them."""
    before = encoder.texts_seen
    return class_embeddings(encoder, *arguments, **options), encoder.texts_seen - before


def test_many_prompts_in_batches_of_like_length():
    class Watching(ColourEncoder):
        batches = ()

        def encode_texts(self, texts):
            self.batches += (texts,)
            return super().encode_texts(texts)

    names = [f"{'thing ' * (index % 9)}{index} red" for index in range(700)]
    encoder = Watching()
    found = class_embeddings(encoder, names, TEMPLATES)
    assert found.shape == (700, 7) and len(encoder.batches) == 3
    lengths = [[len(text) for text in batch] for batch in encoder.batches]
    assert all(max(before) <= min(after) for before, after in itertools.pairwise(lengths))
    for index in (0, 350, 699):
        torch.testing.assert_close(found[index], class_embeddings(encoder, names[index : index + 1], TEMPLATES)[0])


def test_the_classifier_equals_open_clips():
    """open_clip's own tokenizer, text tower and build_zero_shot_classifier, with the same weights."""
    import open_clip

    torch.manual_seed(0)
    text = {"width": 64, "heads": 1, "layers": 2}
    vision = open_clip.CLIPVisionCfg(layers=1, width=64, patch_size=16, image_size=32)
    peer = open_clip.CLIP(32, vision, open_clip.CLIPTextCfg(**text), quick_gelu=True).eval()
    clip = CLIP(CLIPConfig(32, ViTConfig(image_size=32, patch_size=16, width=64, layers=1), TextConfig(**text)))
    clip.load_state_dict(peer.state_dict(), strict=True)
    model = Model(clip, Tokenizer.openai(), Preprocessing(image_size=32))
    names = [f"{first} {second}" for first in ("", "très", "an extremely long") for second in NAMES]
    peers_templates = [template.replace("{c}", "{}") for template in TEMPLATES]
    expected = open_clip.build_zero_shot_classifier(peer, open_clip.get_tokenizer("ViT-B-32"), names, peers_templates)
    torch.testing.assert_close(class_embeddings(model, names, TEMPLATES), expected.T, atol=1e-6, rtol=1e-5)


def test_a_classifier_is_kept_on_disk(tmp_path):
    first, encoded = count(FingerprintedEncoder(), NAMES, TEMPLATES, cache_folder=tmp_path)
    assert encoded == len(NAMES) * len(TEMPLATES)
    again, encoded = count(FingerprintedEncoder(), NAMES, TEMPLATES, cache_folder=tmp_path)
    assert encoded == 0 and torch.equal(first, again)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("fingerprint", "names", "templates"),
    [("colours-2", NAMES, TEMPLATES), ("colours-1", NAMES[::-1], TEMPLATES), ("colours-1", NAMES, TEMPLATES[:1])],
)
def test_another_model_name_or_template_is_another_classifier(tmp_path, fingerprint, names, templates):
    class_embeddings(FingerprintedEncoder(), NAMES, TEMPLATES, cache_folder=tmp_path)
    other, encoded = count(FingerprintedEncoder(fingerprint), names, templates, cache_folder=tmp_path)
    assert encoded == len(names) * len(templates)
    torch.testing.assert_close(other, class_embeddings(ColourEncoder(), names, templates))


def test_nothing_is_kept_without_fingerprint_or_folder(tmp_path):
    class_embeddings(ColourEncoder(), NAMES, TEMPLATES, cache_folder=tmp_path)
    class_embeddings(FingerprintedEncoder(), NAMES, TEMPLATES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 100,
        (2**40).to_bytes(8, "little") + b"{}",
        safetensors.torch.save({"other": torch.ones(7, 7)}),
        safetensors.torch.save({"class_embeddings": torch.ones(6, 7)}),
        safetensors.torch.save({"class_embeddings": torch.ones(7, 7)}),
        safetensors.torch.save({"class_embeddings": torch.full((7, 7), float("nan"))}),
        safetensors.torch.save({"class_embeddings": torch.eye(7, dtype=torch.float64)}),
        "cut",
    ],
    ids=["empty", "noise", "lying header", "other name", "other shape", "no unit norm", "NaN", "other type", "cut"],
)
def test_a_broken_file_is_computed_again(tmp_path, caplog, content):
    good = class_embeddings(FingerprintedEncoder(), NAMES, TEMPLATES, cache_folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3] if content == "cut" else content)
    with caplog.at_level(logging.WARNING):
        found, encoded = count(FingerprintedEncoder(), NAMES, TEMPLATES, cache_folder=tmp_path)
    assert encoded == len(NAMES) * len(TEMPLATES) and torch.equal(found, good)
    assert "broken" in caplog.text and path.name in caplog.text
    assert count(FingerprintedEncoder(), NAMES, TEMPLATES, cache_folder=tmp_path)[1] == 0  # it was written anew


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    with caplog.at_level(logging.WARNING):
        found = class_embeddings(FingerprintedEncoder(), NAMES, TEMPLATES, cache_folder=tmp_path / "file" / "cache")
    assert found.shape == (7, 7) and "cannot be cached" in caplog.text


def test_texts_without_a_usable_embedding():
    class Broken(ColourEncoder):
        value = float("nan")

        def encode_texts(self, texts):
            embeddings = super().encode_texts(texts)
            embeddings[["blue" in text for text in texts]] = self.value
            return embeddings

    for value in (float("nan"), 0.0):
        Broken.value = value
        with pytest.raises(InputError, match="'blue'"):
            class_embeddings(Broken(), NAMES, TEMPLATES)


def test_an_encoder_that_loses_a_text():
    class Lossy(ColourEncoder):
        def encode_texts(self, texts):
            return super().encode_texts(texts)[1:]

    with pytest.raises(ShapeError, match="28 texts"):
        class_embeddings(Lossy(), NAMES, TEMPLATES)


def test_the_default_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "diptych" / "classifiers"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_folder() == tmp_path / "home" / ".cache" / "diptych" / "classifiers"
