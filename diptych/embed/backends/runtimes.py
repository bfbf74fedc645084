"""The libraries that compute a graph, each behind one function; imported only when a graph is opened.

A graph is opened in one of two ways. For many batches the library may copy and rearrange the weights, which takes half
a second for ViT-B/32. For one photograph (`once`) the weights stay in their file and are mapped into memory.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import ConfigError
from diptych.processor import num_threads

Run = Callable[[np.ndarray, Sequence[str]], list[np.ndarray]]
"""The graph's one input and the names of outputs -> these outputs."""

EXTRAS = {"onnx": ("onnxruntime", "onnx"), "openvino": ("openvino", "openvino")}
"""Back end -> the library that it needs, and the extra of diptych that installs it."""
PRECISIONS = {"torch": ("fp32", "bf16"), "onnx": ("fp32", "int8"), "openvino": ("fp32", "bf16")}
"""Back end -> the precisions that it computes."""
_OPENVINO_TYPES = {"fp32": "f32", "bf16": "bf16"}


def is_installed(backend: str) -> bool:
    """Whether the libraries of a back end are installed; none is imported."""
    if backend == "torch":
        return True
    library, _ = EXTRAS[backend]
    return all(importlib.util.find_spec(name) is not None for name in (library, "onnx"))


def require(backend: str, precision: str) -> None:
    """Check that a back end exists, computes a precision and is installed.

    Raises:
        ConfigError: it does not; the message lists what does, or names the extra to install.
    """
    if backend not in PRECISIONS:
        raise ConfigError(f"backend must be auto or one of {', '.join(PRECISIONS)}, not {backend!r}")
    if precision not in PRECISIONS[backend]:
        able = [name for name, precisions in PRECISIONS.items() if precision in precisions]
        others = f"; {precision} is computed by {' and '.join(able)}" if able else ""
        raise ConfigError(f"the backend {backend} computes {' or '.join(PRECISIONS[backend])}, not {precision}{others}")
    if not is_installed(backend):
        library, extra = EXTRAS[backend]
        raise ConfigError(f"the backend {backend} needs {library}: pip install 'diptych[{extra}]'")


def library_version(backend: str) -> str:
    """Name and version of a back end's library, such as "onnxruntime 1.32.0"."""
    library = "torch" if backend == "torch" else EXTRAS[backend][0]
    return f"{library} {importlib.metadata.version(library)}"


def optimise(graph: Path, optimised: Path) -> None:
    """Write a graph as ONNX Runtime computes it on this machine, so that opening it is only reading it.

    The weights stand in a second file beside it, `optimised` with the suffix .data.
    """
    options = _session_options()
    options.optimized_model_filepath = str(optimised)
    beside = f"{optimised.name}.data"
    optimised.with_name(beside).unlink(missing_ok=True)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", beside)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    _onnx_session(graph, options)


def open_graph(backend: str, graph: Path, precision: str, *, once: bool = False) -> Run:
    """Open a graph of `optimise` (onnx) or of diptych.model.graphs (openvino).

    Args:
        once: for few images: opening is fast and computing slower.
    Raises:
        ConfigError: the library cannot open it.
    """
    return _open_onnxruntime(graph, once) if backend == "onnx" else _open_openvino(graph, precision)


def _session_options() -> Any:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads()
    options.log_severity_level = 3  # errors alone: a graph for this machine alone is what is wanted
    return options


def _onnx_session(graph: Path, options: Any) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises its own types, which share no base class
        raise ConfigError(f"onnxruntime cannot open {graph}: {str(error).strip().splitlines()[0][:300]}") from error


def _open_onnxruntime(graph: Path, once: bool) -> Run:
    import onnxruntime

    options = _session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if once:
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
    session = _onnx_session(graph, options)
    (input_name,) = (value.name for value in session.get_inputs())
    return lambda values, outputs: session.run(list(outputs), {input_name: values})


def _open_openvino(graph: Path, precision: str) -> Run:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": _OPENVINO_TYPES[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": num_threads(),
        "CACHE_DIR": str(graph.parent / "openvino"),
    }
    try:
        compiled = openvino.Core().compile_model(str(graph), "CPU", settings)
    except Exception as error:
        raise ConfigError(f"openvino cannot open {graph}: {str(error).strip().splitlines()[0][:300]}") from error
    (input_name,) = (value.any_name for value in compiled.inputs)
    request = compiled.create_infer_request()

    def run(values: np.ndarray, outputs: Sequence[str]) -> list[np.ndarray]:
        request.infer({input_name: np.ascontiguousarray(values)})
        return [np.array(request.get_tensor(name).data) for name in outputs]

    return run
