"""Compile a Model for another back end: write its graphs, test them against fp32 torch, and keep what passed."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from diptych.embed.backends.backend_model import BackendModel
from diptych.embed.backends.compiled_cache import compiled_folder, graph_key
from diptych.embed.backends.compiled_model import (
    IMAGE_GRAPH,
    RECORD,
    TEXT_GRAPH,
    TOKENIZER,
    CompiledModel,
    CompiledRecord,
    write_record,
)
from diptych.embed.backends.runtimes import library_version, optimise, require
from diptych.embed.backends.self_test import LEAST_COSINE, PROBE_TEXTS, probe_pixels, worst_cosine
from diptych.embed.model import Model
from diptych.errors import ConfigError, DiptychError
from diptych.files import new_folder, read_or_none
from diptych.model.graphs import has_image_graph, has_text_graph, write_image_graph, write_text_graph
from diptych.model.graphs.graph_writer import GraphWriter
from diptych.processor import has_vnni

logger = logging.getLogger(__name__)

_DIALECTS = {"onnx": "onnxruntime", "openvino": "standard"}
_GRAPH_PRECISIONS = {"fp32": "fp32", "bf16": "fp32", "int8": "int8"}  # OpenVINO rounds a graph in fp32 itself


_NO_GRAPH = "has a text side that only the backend torch computes"


class SelfTestError(DiptychError):
    """A back end's vectors differ from fp32 torch's by more than is allowed."""


def compile_model(
    model: Model, backend: str, precision: str, *, notices: Sequence[str] = (), folders: Path | None = None
) -> CompiledModel:
    """Compile a model, or open what was compiled before.

    Args:
        model: in fp32; its vectors are the reference of the self-test.
        backend, precision: see PRECISIONS of diptych.embed.backends.runtimes.
        notices: warnings to repeat whenever the compiled model is opened.
        folders: where compiled models are kept; by default the user's cache.
    Raises:
        SelfTestError: its vectors differ too much from the model's, see LEAST_COSINE; nothing is kept.
        ConfigError: there is no such back end, it is not installed, or the model has no graph.
        WeightsError: the graphs cannot be written.
    """
    require(backend, precision)
    facts, folders = model.about, folders or compiled_folder()
    if folders is None:
        raise ConfigError("there is no folder for compiled models: set XDG_CACHE_HOME")
    if not has_image_graph(model.clip):
        raise ConfigError(f"{model.name}: its image tower runs on the backend torch alone")
    assert facts.image_fingerprint is not None
    text_fingerprint = facts.text_fingerprint if has_text_graph(model.clip) else None
    folder = folders / graph_key((facts.image_fingerprint, text_fingerprint), backend, precision, model.name, notices)
    if (compiled := _compiled(folder)) is not None:
        return compiled
    start = time.monotonic()
    with new_folder(folder, stays=lambda: _compiled(folder) is not None) as unfinished:
        _write_graphs(model, unfinished, backend, precision, with_texts=text_fingerprint is not None)
        if model.tokenizer is not None:
            model.tokenizer.save(unfinished / TOKENIZER)
        record = _record(model, backend, precision, text_fingerprint, notices)
        write_record(unfinished / RECORD, record)
        record = _tested(model, CompiledModel(unfinished), record)
        files = {path.name: path.stat().st_size for path in unfinished.iterdir() if path.is_file()}
        del files[RECORD]
        write_record(unfinished / RECORD, dataclasses.replace(record, files=files))
    logger.info(
        "compiled %s for %s %s in %.1f s (worst cosine with fp32 torch %.6f), kept in %s",
        *(model.name, backend, precision, time.monotonic() - start, record.worst_cosine, folder),
    )
    return CompiledModel(folder)


def _compiled(folder: Path) -> CompiledModel | None:
    """The complete compiled model in a folder; None, with a warning, if it is damaged."""
    return read_or_none(folder, CompiledModel, "the compiled model")


def _write_graphs(model: Model, folder: Path, backend: str, precision: str, *, with_texts: bool) -> None:
    def writer() -> GraphWriter:
        return GraphWriter(_DIALECTS[backend], _GRAPH_PRECISIONS[precision], reduced_range=not has_vnni())

    normalization = model.preprocessing.mean, model.preprocessing.std
    with _placed(backend, folder / IMAGE_GRAPH) as graph:
        write_image_graph(model.clip, graph, normalization, writer())
    if with_texts:
        with _placed(backend, folder / TEXT_GRAPH) as graph:
            write_text_graph(model.clip, graph, writer())


@contextlib.contextmanager
def _placed(backend: str, graph: Path) -> Iterator[Path]:
    """Where to write a graph; afterwards it stands in its place, optimised for this machine if its back end can."""
    if backend != "onnx":
        yield graph
        return
    raw = graph.with_name("raw.onnx")
    yield raw
    optimise(raw, graph)
    for file in (raw, raw.with_name(f"{raw.name}.data")):
        file.unlink(missing_ok=True)


def _record(
    model: Model, backend: str, precision: str, text_fingerprint: str | None, notices: Sequence[str]
) -> CompiledRecord:
    config, facts = model.clip.config, model.about
    assert facts.image_fingerprint is not None
    return CompiledRecord(
        name=model.name,
        backend=backend,
        precision=precision,
        library=library_version(backend),
        embed_dim=config.embed_dim,
        features_dim=config.vision.features_dim,
        preprocessing=model.preprocessing.to_dict(),
        logit_scale=facts.logit_scale,
        logit_bias=facts.logit_bias,
        gflops=model.gflops,
        source_image_fingerprint=facts.image_fingerprint,
        source_text_fingerprint=text_fingerprint,
        no_texts=facts.no_texts or (None if text_fingerprint else _NO_GRAPH),
        notices=tuple(notices),
        worst_image_cosine=-1.0,
        worst_text_cosine=None if text_fingerprint is None else -1.0,
    )


def _tested(model: Model, compiled: CompiledModel, record: CompiledRecord) -> CompiledRecord:
    """The record with the worst cosines of the self-test; SelfTestError if one is too low."""
    pixels = probe_pixels(model.preprocessing.image_size)
    features = model.pixel_features(torch.from_numpy(pixels))
    expected = features.numpy(), model.project_features(features).numpy()
    computed = compiled.features_and_embeddings(pixels)
    images = min(worst_cosine(*pair, "images") for pair in zip(computed, expected, strict=True))
    texts = None
    if compiled.has_texts and model.tokenizer is not None:
        reference = model.encode_texts(PROBE_TEXTS, truncate=True).numpy()
        vectors = BackendModel(compiled, model.tokenizer).encode_texts(PROBE_TEXTS, truncate=True).numpy()
        texts = worst_cosine(vectors, reference, "texts")
    record = dataclasses.replace(record, worst_image_cosine=images, worst_text_cosine=texts)
    if record.worst_cosine < LEAST_COSINE:
        raise SelfTestError(
            f"{model.name} on {record.backend} in {record.precision} differs from fp32 torch: the worst cosine is "
            f"{images:.4f} for images{'' if texts is None else f', {texts:.4f} for texts'}; at least {LEAST_COSINE} is "
            "required"
        )
    return record
