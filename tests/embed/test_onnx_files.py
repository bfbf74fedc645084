"""ONNX files of unknown origin: nothing outside their folder is read, and no operator from elsewhere is loaded."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from embedding import small_tokenizer
from model_tools import random_clip

import diptych
from diptych.data.transforms import Preprocessing
from diptych.embed import Model, onnx_files
from diptych.embed.onnx_files import check_onnx
from diptych.errors import DiptychError, WeightsError
from diptych.model.clip_config import CLIPConfig, TextConfig, ViTConfig

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402  (after the check that it is there)

SIZE = 32
MEANS = ("Reshape", "ReduceMean")


def external(name: str, location: str, offset: int = 0, length: int = 4 * SIZE) -> onnx.TensorProto:
    """A weight of SIZE numbers in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[SIZE])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def write_graph(path: Path, weights=(), nodes=(), functions=(), opsets=()) -> Path:
    """A graph that gives the mean of an image's pixels in SIZE channels, plus its weights."""
    x = helper.make_tensor_value_info("pixel_values", 1, ["N", 3, SIZE, SIZE])
    y = helper.make_tensor_value_info("image_embeds", 1, ["N", SIZE])
    usual = [helper.make_node("ReduceMean", ["pixel_values"], ["sum"], axes=[1, 2], keepdims=0)]
    last = "sum"
    for weight in weights:
        usual.append(helper.make_node("Add", [last, weight.name], [f"{weight.name}_added"]))
        last = f"{weight.name}_added"
    usual.append(helper.make_node("Identity", [last], ["image_embeds"]))
    graph = helper.make_graph([*nodes, *usual], "mean", [x], [y], list(weights))
    imports = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in opsets)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8, functions=list(functions))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def secret(tmp_path):
    """A file outside the folder, of the right size."""
    (tmp_path / "secret").write_bytes(np.arange(SIZE, dtype=np.float32).tobytes())
    return tmp_path / "secret"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def test_weights_in_the_folder_are_read(folder):
    (folder / "weights").write_bytes(bytes(4 * SIZE))
    check_onnx(write_graph(folder / "graph.onnx", [external("w", "weights")]))


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "C:\\secret", "..\\secret", ""])
def test_weights_outside_the_folder_are_refused(location, folder, secret):
    path = write_graph(folder / "graph.onnx", [external("w", location)])
    with pytest.raises(WeightsError, match="not trusted"):
        check_onnx(path)


def test_links_that_leave_the_folder_are_refused(folder, secret):
    (folder / "weights").symlink_to(secret)
    (folder / "inner").symlink_to(secret.parent)
    (folder / "data").write_bytes(bytes(4 * SIZE))
    (folder / "same").symlink_to("data")
    for location in ("weights", "inner/secret"):
        with pytest.raises(WeightsError, match="leads out of its folder"):
            check_onnx(write_graph(folder / "graph.onnx", [external("w", location)]))
    check_onnx(write_graph(folder / "graph.onnx", [external("w", "same")]))
    write_graph(secret.parent / "other.onnx")
    (folder / "linked.onnx").symlink_to(secret.parent / "other.onnx")
    with pytest.raises(WeightsError, match="leads out of its folder"):
        check_onnx(folder / "linked.onnx")


def test_the_cache_of_the_hub_is_made_of_links_and_is_read(tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "1", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    write_graph(blobs / "123", [external("w", "graph.onnx.data")])
    (blobs / "456").write_bytes(bytes(4 * SIZE))
    (snapshot / "graph.onnx").symlink_to(blobs / "123")
    (snapshot / "graph.onnx.data").symlink_to(blobs / "456")
    check_onnx(snapshot / "graph.onnx")


@pytest.mark.parametrize(("offset", "length"), [(0, 4 * SIZE + 1), (8, 4 * SIZE), (-1, 4), (0, 10**15), (0, -4)])
def test_weights_beyond_the_end_of_their_file_are_refused(offset, length, folder):
    (folder / "weights").write_bytes(bytes(4 * SIZE))
    with pytest.raises(WeightsError, match="truncated or damaged"):
        check_onnx(write_graph(folder / "graph.onnx", [external("w", "weights", offset, length)]))


def test_a_missing_file_of_weights_and_a_pipe_are_refused(folder):
    with pytest.raises(WeightsError, match="none"):
        check_onnx(write_graph(folder / "graph.onnx", [external("w", "none")]))
    os.mkfifo(folder / "pipe")
    with pytest.raises(WeightsError, match="pipe"):
        check_onnx(write_graph(folder / "graph.onnx", [external("w", "pipe")]))


def hidden_places():
    """A weight outside the folder, or a foreign operator, in every place where a graph can hide one."""
    bad, foreign = external("w", "../secret"), helper.make_node("Run", [], ["z"], domain="evil.ops")
    condition = helper.make_tensor("c", TensorProto.BOOL, [], [True])
    z = helper.make_tensor_value_info("z", 1, [SIZE])
    inner = helper.make_graph([helper.make_node("Identity", ["w"], ["z"])], "inner", [], [z], [bad])
    calls = helper.make_graph([foreign], "calls", [], [z])
    yield "constant", {"nodes": [helper.make_node("Constant", [], ["k"], value=bad)]}
    for name, graph in (("branch", inner), ("branch with an operator", calls)):
        pair = {"then_branch": graph, "else_branch": graph}
        condition_node = helper.make_node("Constant", [], ["c"], value=condition)
        yield name, {"nodes": [condition_node, helper.make_node("If", ["c"], ["b"], **pair)]}
    imports = [helper.make_opsetid("", 17)]
    yield (
        "function",
        {"functions": [helper.make_function("local", "F", [], ["k"], [foreign], imports)]},
    )
    yield "operator", {"nodes": [foreign], "opsets": ["evil.ops"]}
    yield "extensions", {"nodes": [helper.make_node("X", [], ["k"], domain="ai.onnx.contrib")]}
    yield "compiled", {"nodes": [helper.make_node("EPContext", [], ["k"], domain="com.microsoft")]}


@pytest.mark.parametrize(("where", "parts"), list(hidden_places()), ids=lambda value: str(value)[:30])
def test_what_is_hidden_in_a_graph_is_found(where, parts, folder, secret):
    with pytest.raises(WeightsError, match=r"not trusted|from elsewhere"):
        check_onnx(write_graph(folder / "graph.onnx", **parts))


def test_operators_of_onnx_runtime_are_allowed(folder):
    node = helper.make_node("QuickGelu", ["pixel_values"], ["k"], domain="com.microsoft")
    check_onnx(write_graph(folder / "graph.onnx", nodes=[node], opsets=["com.microsoft", "com.ms.internal.nhwc"]))


def test_damage_and_size_are_found(folder, monkeypatch):
    path = write_graph(folder / "graph.onnx")
    content = path.read_bytes()
    for damaged in (b"", b"version https://git-lfs", content[: len(content) // 2], b"\xff" * 100):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="damaged"):
            check_onnx(path)
    path.write_bytes(content)
    monkeypatch.setattr(onnx_files, "MAX_GRAPH_BYTES", len(content) - 1)
    with pytest.raises(WeightsError, match="at most"):
        check_onnx(path)
    monkeypatch.setattr(onnx_files, "MAX_GRAPH_BYTES", len(content))
    monkeypatch.setattr(onnx_files, "MAX_NODES", 1)
    with pytest.raises(WeightsError, match="operators"):
        check_onnx(path)


def test_graphs_in_graphs_have_a_limit(folder):
    z = helper.make_tensor_value_info("z", 1, [SIZE])
    graph = helper.make_graph([helper.make_node("Identity", ["c"], ["z"])], "inner", [], [z])
    for _ in range(12):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["z"], then_branch=graph)], "outer", [], [z])
    with pytest.raises(DiptychError, match="deep"):
        check_onnx(write_graph(folder / "graph.onnx", nodes=[helper.make_node("If", ["c"], ["b"], then_branch=graph)]))


# ---- a whole folder


@pytest.fixture
def whole(tmp_path):
    """A folder of Diptych, and its model."""
    text = TextConfig(24, 600, 64, layers=1)
    clip = random_clip(CLIPConfig(SIZE, ViTConfig(SIZE, 16, 64, 1), text, "gelu"))
    model = Model(clip, small_tokenizer(), Preprocessing(SIZE), "small")
    diptych.convert(model, "onnx", tmp_path / "whole")
    return tmp_path / "whole"


def changed(folder: Path, key: str, value) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["diptych"][key] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("key", "value"),
    [("logit_scale", "7"), ("logit_bias", True), ("model", 3), ("preprocessing", {"std": [0, 0, 0]}), ("model", {})],
)
def test_wrong_values_of_the_configuration_are_refused(key, value, whole):
    changed(whole, key, value)
    with pytest.raises(DiptychError, match=r"config\.json"):
        diptych.load(f"onnx:{whole}")


def test_missing_parts_are_named(whole, tmp_path):
    with pytest.raises(WeightsError, match="there is no folder"):
        diptych.load(f"onnx:{tmp_path / 'none'}")
    (whole / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        diptych.load(f"onnx:{whole}").encode_texts(["a"])
    (whole / "onnx" / "text_model.onnx").unlink()
    encoder = diptych.load(f"onnx:{whole}")
    assert encoder.about.no_texts is not None and len(encoder.encode_images([np.zeros((9, 9, 3), np.uint8)])) == 1
    (whole / "onnx" / "vision_model.onnx").unlink()
    with pytest.raises(WeightsError, match=r"vision_model\.onnx"):
        diptych.load(f"onnx:{whole}")


def test_graphs_of_another_form_are_refused(whole):
    vision, text = (whole / "onnx" / f"{name}_model.onnx" for name in ("vision", "text"))
    text.write_bytes(vision.read_bytes())
    with pytest.raises(WeightsError, match="the graph gives"):
        diptych.load(f"onnx:{whole}")
    text.unlink()
    write_graph(vision)  # 32 channels of means, and not the embedding that config.json states: still vectors
    assert diptych.load(f"onnx:{whole}").encode_images([np.ones((9, 9, 3), np.uint8)]).shape == (1, SIZE)
    write_graph(vision, [external("w", "../../secret")])
    with pytest.raises(WeightsError, match="not trusted"):
        diptych.load(f"onnx:{whole}")


def test_a_folder_in_the_layout_of_transformers_js_is_read(whole, tmp_path):
    """Without Diptych's own values: configuration, tokenizer and preprocessing as Hugging Face's files state them."""
    own = diptych.load(f"onnx:{whole}")
    config = json.loads((whole / "config.json").read_text())
    del config["diptych"]
    (whole / "config.json").write_text(json.dumps(config))
    again = diptych.load(f"onnx:{whole}")
    assert again.preprocessing.resize == "shortest_floor" and again.logit_scale is None
    image = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    np.testing.assert_allclose(again.encode_images([image]), own.encode_images([image]), atol=1e-6)
    np.testing.assert_allclose(again.encode_texts(["a cat"]), own.encode_texts(["a cat"]), atol=1e-6)


def test_precision_backend_and_options_of_weights_do_not_apply(whole):
    for options in ({"precision": "int8"}, {"backend": "onnx"}, {"activation": "gelu"}):
        with pytest.raises(DiptychError):
            diptych.load(f"onnx:{whole}", **options)
