"""The graphs of a conversion in their runtimes: any batch, any length of texts, raw pixels, weights beside them."""

import json

import converted
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from converted import listening, unit, write_photo

import diptych
from diptych.data.transforms import evaluation_pixels, normalise
from diptych.embed.graph_encoder import GraphEncoder
from diptych.model.graphs import graph_writer

MODELS = {name: getattr(converted, name) for name in ("openai_vit", "wide_vit", "gelu_resnet", "siglip", "clipa")}
TEXTS = ["a cat", "two green dogs and a very long tail", "", "A photo of a cat, two dogs."]


def sessions(folder):
    names = ("vision", "text")
    return [onnxruntime.InferenceSession(str(folder / "onnx" / f"{name}_model.onnx")) for name in names]


def tokens_of(model, texts, length=None):
    """int64 (N, L), padded to the longest text or to `length`."""
    return model.tokenizer(list(texts), truncate=True, pad_to=length)[0].numpy().astype(np.int64)


def inputs(model, count):
    rng = np.random.default_rng(count)
    size = model.preprocessing.image_size
    pixels = torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))
    return pixels, normalise(pixels, model.preprocessing).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_onnx_takes_any_batch_and_any_length(name, tmp_path):
    model = MODELS[name]()
    diptych.convert(model, "onnx", tmp_path / "out")
    vision, text = sessions(tmp_path / "out")
    for count in (1, 2, 7):
        pixels, normalized = inputs(model, count)
        (images,) = vision.run(["image_embeds"], {"pixel_values": normalized})
        np.testing.assert_allclose(images, model.encode_pixels(pixels).numpy(), atol=1e-5, rtol=0)
        texts = (TEXTS * 2)[:count]
        for length in (None, model.clip.config.text.context_length):
            (vectors,) = text.run(["text_embeds"], {"input_ids": tokens_of(model, texts, length)})
            np.testing.assert_allclose(vectors, model.encode_texts(texts, truncate=True).numpy(), atol=1e-5, rtol=0)
    assert [value.name for value in vision.get_outputs()] == ["image_embeds"]
    for file in (tmp_path / "out" / "onnx").iterdir():
        graph = onnx.load(file)
        onnx.checker.check_model(graph)
        assert {node.domain for node in graph.graph.node} == {""} and [one.domain for one in graph.opset_import] == [""]


@pytest.mark.parametrize("name", ["wide_vit", "siglip", "gelu_resnet"])
@pytest.mark.parametrize("target", ["torch-export", "openvino"])
def test_the_other_runtimes_take_any_batch_and_any_length(target, name, tmp_path):
    pytest.importorskip("openvino")
    model, folder = MODELS[name](), tmp_path / "out"
    diptych.convert(model, target, folder)
    with listening() as heard:
        if target == "openvino":
            import openvino

            core, exact = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
            read = [core.read_model(folder / f"{side}_model.xml") for side in ("vision", "text")]
            compiled = [core.compile_model(one, "CPU", exact) for one in read]
            vision, text = (lambda values, one=one: one(values)[0] for one in compiled)
        else:
            modules = [torch.export.load(folder / f"{side}_model.pt2").module() for side in ("vision", "text")]
            vision, text = (lambda values, one=one: one(torch.from_numpy(values)).detach().numpy() for one in modules)
    assert heard.said == []
    for count in (1, 2, 7):
        pixels, normalized = inputs(model, count)
        np.testing.assert_allclose(vision(normalized), model.encode_pixels(pixels).numpy(), atol=1e-5, rtol=0)
        texts = (TEXTS * 2)[:count]
        for length in (None, model.clip.config.text.context_length):
            expected = model.encode_texts(texts, truncate=True).numpy()
            np.testing.assert_allclose(text(tokens_of(model, texts, length)), expected, atol=1e-5, rtol=0)


def test_a_program_of_torch_holds_one_tower(tmp_path):
    model = MODELS["wide_vit"]()
    diptych.convert(model, "torch-export", tmp_path / "out")
    total = sum(tensor.numel() for tensor in model.clip.state_dict().values()) - 1  # the temperature
    sides = [torch.export.load(tmp_path / "out" / f"{side}_model.pt2") for side in ("vision", "text")]
    assert sum(tensor.numel() for side in sides for tensor in side.state_dict.values()) == total


@pytest.mark.parametrize("name", ["wide_vit", "gelu_resnet"])
def test_a_graph_may_normalize_pixels_itself(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = MODELS[name]()
    conversion = diptych.convert(model, "onnx", tmp_path / "out", pixels="uint8")
    pixels, _ = inputs(model, 3)
    vision, _ = sessions(tmp_path / "out")
    (images,) = vision.run(["image_embeds"], {"pixel_values": pixels.numpy()})
    np.testing.assert_allclose(images, model.encode_pixels(pixels).numpy(), atol=1e-5, rtol=0)
    assert conversion.check.is_equal
    photo, names = write_photo(tmp_path), {}
    exec(compile(converted.read_me(tmp_path / "out"), "README.md", "exec"), names)  # noqa: S102  (our own page)
    np.testing.assert_allclose(unit(names["images"]), model.encode_images([photo]).numpy(), atol=1e-5, rtol=0)


def test_large_weights_stand_beside_the_graph(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_writer, "_INLINE_BYTES", 1000)
    model = MODELS["wide_vit"]()
    diptych.convert(model, "onnx", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "onnx").iterdir())
    assert names == [f"{side}_model.onnx{end}" for side in ("text", "vision") for end in ("", ".data")]
    (tmp_path / "out").rename(tmp_path / "moved")
    again = diptych.load(f"onnx:{tmp_path / 'moved'}")
    np.testing.assert_allclose(
        again.encode_texts(TEXTS, truncate=True), model.encode_texts(TEXTS, truncate=True), atol=1e-5
    )


@pytest.mark.parametrize("name", MODELS)
def test_an_onnx_folder_is_an_encoder(name, tmp_path):
    model = MODELS[name]()
    diptych.convert(model, "onnx", tmp_path / "out")
    again, photo = diptych.load(f"onnx:{tmp_path / 'out'}"), write_photo(tmp_path, 97, 60)
    assert isinstance(again, GraphEncoder) and isinstance(again, diptych.Encoder) and again.name == "out"
    np.testing.assert_allclose(again.encode_images([photo]), model.encode_images([photo]), atol=1e-5)
    np.testing.assert_allclose(
        again.encode_texts(TEXTS, truncate=True), model.encode_texts(TEXTS, truncate=True), atol=1e-5
    )
    assert again.logit_scale == pytest.approx(model.logit_scale) and again.logit_bias == model.logit_bias
    classes = diptych.ZeroShotClassifier(again, ["cat", "dog"]).predict([photo])
    assert classes == diptych.ZeroShotClassifier(model, ["cat", "dog"]).predict([photo])
    before = again.image_fingerprint
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    config["diptych"]["logit_scale"] = 7
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    assert diptych.load(f"onnx:{tmp_path / 'out'}").image_fingerprint != before


def test_pixels_are_those_of_the_library(tmp_path):
    """The processor of the README prepares an image as Diptych does, with the folder's own numbers."""
    import transformers
    from PIL import Image

    model = converted.floor_vit()
    diptych.convert(model, "onnx", tmp_path / "out")
    photo = Image.open(write_photo(tmp_path, 97, 60))
    prepare = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out", backend="pil")
    theirs = prepare(images=[photo], return_tensors="np")["pixel_values"]
    ours = normalise(evaluation_pixels(photo, model.preprocessing)[None], model.preprocessing).numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-5, rtol=0)
