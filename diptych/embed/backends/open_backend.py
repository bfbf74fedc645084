"""`load(..., backend=...)`: open a model on the back end that was asked for, or on the fastest one."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from diptych.data.library_tokenizer import read_tokenizer
from diptych.embed.backends.backend_model import BackendModel
from diptych.embed.backends.choose_backend import Candidate, measure_backends
from diptych.embed.backends.compile_model import SelfTestError, compile_model
from diptych.embed.backends.compiled_cache import add_to_entry, find_compiled, read_entry, remember_compiled
from diptych.embed.backends.compiled_model import TOKENIZER, CompiledModel
from diptych.embed.backends.runtimes import PRECISIONS, is_installed, library_version, require
from diptych.embed.model import Model
from diptych.errors import ConfigError
from diptych.files import read_or_none
from diptych.model.device import has_fast_bf16

logger = logging.getLogger(__name__)

BACKENDS = ("torch", "onnx", "openvino", "auto")
GRAPH_PRECISIONS = ("fp32", "bf16", "int8", "auto")


@dataclasses.dataclass(frozen=True)
class Source:
    """A model that can be loaded on torch, and compiled.

    Attributes:
        path: its file or folder, whose times tell whether a compiled model is still current.
        options: what else it depends on, such as a stated activation.
        load: precision -> the model on torch, on the CPU.
        reload: (backend, precision) -> a picklable function that loads the model so in another process.
    """

    path: Path
    options: str
    load: Callable[[str], Any]
    reload: Callable[[str, str], Callable[[], Any]]


def check_backend(backend: str, precision: str, device: torch.device) -> None:
    """Check the three together, before a model is loaded.

    Raises:
        ConfigError: one does not exist, they do not go together, or the library is not installed.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if precision not in GRAPH_PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(GRAPH_PRECISIONS)}, not {precision!r}")
    if backend == "auto":
        if precision == "int8" and not any(is_installed(name) for name in PRECISIONS if "int8" in PRECISIONS[name]):
            require("onnx", "int8")  # raises: it is not installed
        return
    if backend != "torch":
        if device.type != "cpu":
            raise ConfigError(f"the backend {backend} computes on the CPU here: leave --device out, or use torch")
        require(backend, _graph_precision(backend, precision))


def open_backend(source: Source, backend: str, precision: str) -> Any:  # a Model or a BackendModel
    """The model on a back end other than torch, or on the fastest one ("auto").

    A back end whose vectors differ too much from fp32 torch's is not used: the next slower one is, with a notice.

    Raises:
        ConfigError: see `check_backend`; or the model has no graph.
        WeightsError: the model cannot be loaded, or its graphs cannot be written.
    """
    if backend == "auto":
        chosen = _chosen(source, precision)
        if chosen.backend == "torch":
            return source.load(chosen.precision)
        return _open(source, chosen.backend, chosen.precision)
    wanted = _graph_precision(backend, precision)
    try:
        return _open(source, backend, wanted)
    except SelfTestError as error:
        logger.warning("%s. fp32 is used instead", error)
    if wanted != "fp32":
        try:
            return _open(source, backend, "fp32")
        except SelfTestError as error:
            logger.warning("%s. torch is used instead", error)
    return source.load("fp32")


def _graph_precision(backend: str, precision: str) -> str:
    """What "auto" means for one back end: bf16 if the processor and the back end have it, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if "bf16" in PRECISIONS.get(backend, ()) and has_fast_bf16(torch.device("cpu")) else "fp32"


def _open(source: Source, backend: str, precision: str) -> BackendModel:
    folder = find_compiled(source.path, source.options, backend, precision)
    if folder is not None and (compiled := read_or_none(folder, CompiledModel, "the compiled model")) is not None:
        compiled.repeat_notices()
        return _opened(compiled, source)
    with _warnings() as notices:
        model = source.load("fp32")
    if not isinstance(model, Model):
        raise ConfigError(f"{model.name} is computed by another library, and has the backend torch alone")
    compiled = compile_model(model, backend, precision, notices=notices)
    remember_compiled(source.path, source.options, backend, precision, compiled.folder)
    return _opened(compiled, source)


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect the warnings that Diptych logs inside the block; they are logged as usual."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("diptych").addHandler(handler)
    try:
        yield messages
    finally:
        logging.getLogger("diptych").removeHandler(handler)


def _opened(compiled: CompiledModel, source: Source) -> BackendModel:
    path, record = compiled.folder / TOKENIZER, compiled.record
    reload = source.reload(record.backend, record.precision)
    return BackendModel(compiled, read_tokenizer(path) if path.is_file() else None, reload)


def _chosen(source: Source, precision: str) -> Candidate:
    """The fastest candidate: remembered for this model, machine and these versions, or measured now."""
    name = f"fastest {precision} " + " ".join(
        library_version(backend) for backend in PRECISIONS if is_installed(backend)
    )
    remembered = read_entry(source.path, source.options).get(name)
    try:
        if remembered is not None:
            return Candidate(**remembered)
    except TypeError:
        pass  # of another version
    model = source.load("fp32")
    if not isinstance(model, Model):
        return Candidate("torch", "fp32")
    measured = measure_backends(model, precision, source.load)
    logger.info("%s: %s", model.name, "; ".join(map(str, measured)))
    best = next((candidate for candidate in measured if candidate.problem is None), None)
    best = best or Candidate("torch", "fp32", problem=f"no back end computes {precision} well enough")
    add_to_entry(source.path, source.options, {name: dataclasses.asdict(best)})
    return best
