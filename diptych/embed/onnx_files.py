"""Check an ONNX file of unknown origin before a runtime opens it: what it reads, what it computes, how large it is.

A graph is data, but a runtime reads every file that it names as external data, and loads operators of other libraries.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from diptych.embed.library_encoder import import_library
from diptych.errors import WeightsError
from diptych.files import absence

MAX_GRAPH_BYTES = 2**31
"""Of the file with the graph; a file of protobuf cannot be larger."""
MAX_WEIGHT_BYTES = 80 * 10**9
"""Of one weight: as much as a whole model of 20 billion parameters."""
MAX_NODES = 1_000_000
DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Whose operators are part of ONNX Runtime. Those of any other domain would be code that comes from elsewhere."""
_READS_FILES = ("EPContext",)  # com.microsoft's operator that opens a compiled context, by a path of its own
_EXTERNAL, _MAX_DEPTH = 1, 8


def check_onnx(path: Path) -> None:
    """Refuse a graph that reaches outside its folder or asks for operators from elsewhere.

    Raises:
        WeightsError: the file is missing, damaged or too large; a weight lies outside the folder (an absolute path, ..,
            a link that leaves it) or beyond its file's end; or an operator is of an unknown domain.
        ConfigError: the package onnx is not installed.
    """
    onnx = import_library("onnx", "onnx")
    if not path.is_file():
        raise WeightsError(absence(path))
    size = path.stat().st_size
    if size > MAX_GRAPH_BYTES:
        raise WeightsError(f"{path} has {size:,} bytes; a graph has at most {MAX_GRAPH_BYTES:,}")
    _check_leads_nowhere(path, path.parent, path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own types
        raise WeightsError(f"{path} is no ONNX file, or it is damaged: {error}") from error
    if not model.graph.output:
        raise WeightsError(f"{path} is no ONNX file, or it is damaged: it has no graph with outputs")
    num_nodes = 0
    for graph in [*_graphs(model.graph, path, 0), *model.functions, *model.training_info]:
        for node in getattr(graph, "node", ()):
            num_nodes += 1
            _check_node(node, path)
        if num_nodes > MAX_NODES:
            raise WeightsError(f"{path} has more than {MAX_NODES:,} operators")
    for tensor in _tensors(model, path):
        if tensor.data_location == _EXTERNAL or tensor.external_data:
            _check_external(tensor, path)


def _graphs(graph: Any, path: Path, depth: int) -> Iterator[Any]:
    """A graph and those inside its nodes (branches, loops)."""
    if depth > _MAX_DEPTH:
        raise WeightsError(f"{path} has graphs inside graphs, more than {_MAX_DEPTH} deep")
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _graphs(inner, path, depth + 1)


def _tensors(model: Any, path: Path) -> Iterator[Any]:
    """All stored tensors: weights, and those in attributes, wherever they are."""
    for graph in _graphs(model.graph, path, 0):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices
        yield from _of_attributes(graph.node)
    for function in model.functions:
        yield from _of_attributes(function.node)


def _of_attributes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in [*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else [])]:
                yield sparse.values
                yield sparse.indices


def _check_node(node: Any, path: Path) -> None:
    if node.domain not in DOMAINS:
        raise WeightsError(
            f"{path} uses the operator {node.op_type!r:.80} of the domain {node.domain!r:.80}, which would be code "
            f"from elsewhere; only operators of ONNX and com.microsoft are computed"
        )
    if node.op_type in _READS_FILES:
        raise WeightsError(f"{path} uses the operator {node.op_type}, which opens files by itself; it is not trusted")


def _check_external(tensor: Any, path: Path) -> None:
    """The file of a weight lies in the graph's folder and is as long as the weight needs."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    name, what = path.parent / location, f"{path} keeps the weight {tensor.name!r:.80} in {location!r:.80}"
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if not location or posix.is_absolute() or windows.drive or windows.root or ".." in (*posix.parts, *windows.parts):
        raise WeightsError(f"{what}, which is no file in its folder; it is not trusted")
    _check_leads_nowhere(name, path.parent, path)
    if not name.is_file():
        raise WeightsError(f"{what}: {absence(name)}")
    try:
        offset, length = (int(entries.get(key, 0)) for key in ("offset", "length"))
    except ValueError:
        raise WeightsError(f"{what}, at a place that is no number") from None
    if offset < 0 or length < 0 or length > MAX_WEIGHT_BYTES or offset + length > name.stat().st_size:
        raise WeightsError(
            f"{what}, bytes {offset:,} to {offset + length:,}, and that file has {name.stat().st_size:,}: it is "
            "truncated or damaged"
        )


def _check_leads_nowhere(name: Path, folder: Path, path: Path) -> None:
    """A link may lead elsewhere only inside the folder; the hub's cache is made of links into its `blobs`."""
    if not name.is_symlink() and name.parent.resolve() == folder.resolve():
        return
    target, root = name.resolve(), folder.resolve()
    snapshots = next((parent for parent in root.parents if parent.name == "snapshots"), None)
    allowed = [root, *([] if snapshots is None else [snapshots.parent / "blobs"])]
    if not any(target.is_relative_to(place) for place in allowed):
        raise WeightsError(f"{path}: {name} is a link that leads out of its folder; it is not trusted")
