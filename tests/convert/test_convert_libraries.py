"""A converted folder in the library it was written for, by the README's own lines, from a file and a text to vectors.

Nothing of Diptych runs on that side. Each library must also load the folder without a warning.
"""

import converted
import numpy as np
import pytest
from converted import listening, of_siglips_defaults, read_me, unit, write_photo

import diptych

pytest.importorskip("open_clip")
pytest.importorskip("transformers")
MODELS = {
    name: getattr(converted, name)
    for name in ("openai_vit", "openai_resnet", "wide_vit", "floor_vit", "gelu_resnet", "siglip", "clipa")
}
GRAPHS = ("onnx", "torch-export", "openvino")
HELD = {
    "openai": ("openai_vit", "openai_resnet"),
    "open_clip": ("openai_vit", "openai_resnet", "wide_vit", "gelu_resnet", "clipa"),
    "huggingface": ("openai_vit", "wide_vit", "floor_vit", "siglip"),
    "sentence-transformers": ("openai_vit", "wide_vit", "siglip"),
    "onnx": tuple(MODELS),
    "torch-export": ("wide_vit", "gelu_resnet", "siglip", "clipa"),
    "openvino": ("openai_vit", "gelu_resnet", "siglip", "clipa"),
}
LIBRARY = {"openai": "clip", "sentence-transformers": "sentence_transformers", "openvino": "openvino"}
TEXTS = ("a photo of a cat", "Two green DOGS, and a very long tail!", "a cat  and\ta dog", "cats " * 30)


def convert(name: str, target: str, tmp_path, **options):
    """A model and its conversion."""
    pytest.importorskip(LIBRARY.get(target, "onnxruntime"))
    model = MODELS[name]()
    diptych.convert(model, target, tmp_path / "out", **options)
    return model, tmp_path / "out"


@pytest.mark.parametrize(("target", "name"), [(target, name) for target, names in HELD.items() for name in names])
def test_the_library_computes_the_same_from_file_and_text(target, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = write_photo(tmp_path)
    model, folder = convert(name, target, tmp_path)
    expected, known = model.encode_images([photo]).numpy(), of_siglips_defaults() if name == "siglip" else []
    for text in TEXTS if target != "openai" else TEXTS[:3]:  # OpenAI's code refuses what it would have to cut
        names: dict = {}
        with listening() as heard:
            exec(compile(read_me(folder, text=text), "README.md", "exec"), names)  # noqa: S102  (our own page)
        if target == "openai":  # the library's own way to read its archives
            heard.said = [line for line in heard.said if "torch.jit.load` is deprecated" not in line]
        assert [line for line in heard.said if line not in known] == []
        np.testing.assert_allclose(unit(names["images"]), expected, atol=1e-5, rtol=0)
        vectors = model.encode_texts([text], truncate=True).numpy()
        np.testing.assert_allclose(unit(names["texts"]), vectors, atol=1e-5, rtol=0)
    assert abs(expected).max() > 0.05 and np.std(expected) > 0.01


def test_transformers_has_the_classes_and_the_logits(tmp_path):
    import torch
    import transformers

    model, folder = convert("wide_vit", "huggingface", tmp_path)
    with listening() as heard:
        network = transformers.CLIPModel.from_pretrained(folder).eval()
        processor = transformers.CLIPProcessor.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert heard.said == [] and type(processor).__name__ == "CLIPProcessor"
    assert network.dtype == torch.float32 and tokenizer.model_max_length == 24
    photo, texts = write_photo(tmp_path), list(TEXTS[:2])
    pixels = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")(
        images=[__import__("PIL.Image").Image.open(photo)], return_tensors="pt"
    )
    with torch.no_grad():
        logits = network(**pixels, **tokenizer(texts, padding=True, return_tensors="pt")).logits_per_image
    expected = model.logit_scale * model.encode_images([photo]) @ model.encode_texts(texts).T
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_siglips_class_has_its_bias(tmp_path):
    import torch
    import transformers

    model, folder = convert("siglip", "huggingface", tmp_path)
    network = transformers.SiglipModel.from_pretrained(folder).eval()
    assert network.logit_bias.item() == pytest.approx(model.logit_bias)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(
        ["a cat"], padding="max_length", truncation=True, return_tensors="pt"
    )
    assert list(tokens) == ["input_ids"]  # a mask would hide the padding, which SigLIP was trained to read
    with torch.no_grad():
        vectors = network.get_text_features(**tokens).pooler_output
    np.testing.assert_allclose(unit(vectors), model.encode_texts(["a cat"]).numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("target", ["open_clip", "huggingface"])
def test_what_was_written_is_read_back(target, tmp_path):
    for name in HELD[target]:
        diptych.convert(MODELS[name](), target, tmp_path / name)
        model, again = MODELS[name](), diptych.load(tmp_path / name, "cpu")
        photo = write_photo(tmp_path)
        np.testing.assert_array_equal(again.encode_images([photo]), model.encode_images([photo]))
        np.testing.assert_array_equal(again.encode_texts(["a cat"]), model.encode_texts(["a cat"]))


def test_the_archive_of_openai_is_read_back(tmp_path):
    model, folder = convert("openai_resnet", "openai", tmp_path)
    again = diptych.load(folder / "model.pt", "cpu", heads=(32 * 16 // 64, 1), activation="quick_gelu")
    photo = write_photo(tmp_path)
    np.testing.assert_allclose(again.encode_images([photo]), model.encode_images([photo]), atol=1e-6)


@pytest.mark.long
def test_open_clip_holds_a_siglip_of_a_published_size(tmp_path, monkeypatch):
    """timm has its towers in published sizes alone: ViT-B/32 at 256 pixels."""
    import dataclasses

    from model_tools import random_clip

    from diptych.data.library_tokenizer import LibraryTokenizer
    from diptych.data.transforms import Preprocessing
    from diptych.embed import Model
    from diptych.model.open_clip_config import siglip_tower

    monkeypatch.chdir(tmp_path)
    tower, activation = siglip_tower("vit_base_patch32_siglip_256")
    small = MODELS["siglip"]()
    config = dataclasses.replace(small.clip.config, embed_dim=768, vision=tower, activation=activation)
    images = Preprocessing(256, **converted.HALVES)
    # transformers' cleaning of SigLIP's texts keeps HTML entities, which open_clip always resolves.
    of_transformers = Model(random_clip(config), small.tokenizer, images, "siglip-b32")
    with pytest.raises(diptych.errors.DiptychError, match="the tokenizers differ"):
        diptych.convert(of_transformers, "open_clip", tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    _, (content, length, rules) = small.tokenizer.__reduce__()
    of_open_clip = LibraryTokenizer(content, length, dataclasses.replace(rules, cleaning="canonicalize"))
    model = Model(of_transformers.clip, of_open_clip, images, "siglip-b32")
    diptych.convert(model, "open_clip", tmp_path / "out")
    photo, names = write_photo(tmp_path), {}
    with listening() as heard:
        exec(compile(read_me(tmp_path / "out"), "README.md", "exec"), names)  # noqa: S102
    assert heard.said == []
    np.testing.assert_allclose(unit(names["images"]), model.encode_images([photo]).numpy(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(unit(names["texts"]), model.encode_texts([converted.TEXT]).numpy(), atol=1e-5, rtol=0)
