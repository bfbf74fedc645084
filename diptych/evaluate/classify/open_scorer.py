"""Open the model of a classification: without torch if it was compiled earlier, else as every command does."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.embed.backends.runtimes import PRECISIONS, is_installed, require
from diptych.embed.image_inputs import OnError
from diptych.embed.local_models import LocalModel, local_model
from diptych.embed.weight_file_options import stated_in_command
from diptych.evaluate.classify.question import Question, digest
from diptych.evaluate.classify.scorer import Scorer
from diptych.evaluate.zero_shot.class_vector_cache import default_cache_folder
from diptych.evaluate.zero_shot.class_vectors import class_vectors
from diptych.files import read_or_none

if TYPE_CHECKING:
    from diptych.embed.backends.compiled_model import CompiledModel

_FEW_IMAGES = 64  # so few are done on the CPU before a GPU is found
_ONCE = 8  # for fewer images, arranging the weights takes longer than it saves
_LARGEST_COMPILED = 1 << 30  # bytes of weights that are compiled without being asked to
_BATCH_SIZE = 64


def open_scorer(
    model: str, question: Question, num_images: int, *, device: str = "auto", backend: str = "", precision: str = "fp32"
) -> Scorer:
    """The model with the labels' vectors.

    Args:
        model: its name.
        num_images: how many images will be classified, about.
        device: "auto" or a device of torch.
        backend: torch, onnx, openvino or auto; "" takes onnx where it is installed and the model is small, else torch.
        precision: see `diptych.load`.
    Raises:
        WeightsError, ConfigError, InputError: as `diptych.load` and `class_embeddings`.
    """
    automatic, local = not backend, local_model(model, stated_in_command())
    backend = backend or _usual_backend(local, num_images, device, precision)
    # Other devices, "auto" and models of other libraries are for `load` to decide.
    quick = local if backend not in ("torch", "auto") and precision != "auto" and device in ("auto", "cpu") else None
    if quick is not None:
        require(backend, precision)
        if (scorer := _quick_scorer(quick, question, num_images, backend, precision, repeat_notices=True)) is not None:
            return scorer
        if automatic and quick.num_bytes > _LARGEST_COMPILED:
            backend, quick = "torch", None
    from diptych.embed.resolver import load  # imports torch

    encoder = load(model, None if device == "auto" else device, precision, backend=backend)
    scorer = scorer_of(encoder, question)
    if quick is None:
        return scorer
    # Opened as later runs of the same command open it, so that they print the same digits.
    return _quick_scorer(quick, question, num_images, backend, precision) or scorer


def scorer_of(encoder: Any, question: Question) -> Scorer:
    """A loaded model with the labels' vectors, which are cached for models with a fingerprint.

    Raises:
        InputError: the model encodes no texts, or states no logit scale.
    """
    from diptych.embed.about import about, required_logit_scale
    from diptych.embed.resolver import as_encoder
    from diptych.evaluate.zero_shot.classifier import ZeroShotClassifier

    encoder = as_encoder(encoder)
    folder = default_cache_folder()
    classifier = ZeroShotClassifier(encoder, question.labels, question.templates, cache_folder=folder)
    facts, scale = about(encoder), required_logit_scale(encoder)

    def encode(paths: Sequence[str], on_error: OnError) -> np.ndarray:
        return encoder.encode_images(paths, on_error=on_error).numpy()

    identity = model_identity(facts.image_fingerprint, facts.text_fingerprint, facts.logit_scale, encoder.name)
    return Scorer(encode, classifier.class_embeddings.numpy(), scale, identity)


def model_identity(image: str | None, text: str | None, logit_scale: float | None, name: str) -> str:
    """A digest of the model's fingerprints, or of its name if it has none."""
    return digest([image, text, logit_scale] if image and text else name)


def _quick_scorer(
    model: LocalModel,
    question: Question,
    num_images: int,
    backend: str,
    precision: str,
    *,
    repeat_notices: bool = False,
) -> Scorer | None:
    """The model as it was compiled earlier; None if it was not."""
    from diptych.embed.backends.array_encoder import encode_arrays
    from diptych.embed.backends.compiled_cache import find_compiled
    from diptych.embed.backends.compiled_model import TOKENIZER, CompiledModel

    folder = find_compiled(model.path, model.options, backend, precision)
    if folder is None:
        return None
    open_folder = functools.partial(CompiledModel, once=num_images <= _ONCE)
    compiled = read_or_none(folder, open_folder, "the compiled model")
    if compiled is None:
        return None  # it is damaged, or of an older version
    record = compiled.record
    texts = record.source_text_fingerprint and record.fingerprint(record.source_text_fingerprint)
    if record.logit_scale is None or texts is None or not (folder / TOKENIZER).is_file():
        return None  # `load` says what is missing
    if repeat_notices:
        compiled.repeat_notices()
    classes = class_vectors(
        _text_encoder(compiled),
        record.name,
        texts,
        question.labels,
        question.templates,
        default_cache_folder(),
    )

    identity = model_identity(
        record.fingerprint(record.source_image_fingerprint), texts, record.logit_scale, record.name
    )
    return Scorer(
        lambda paths, on_error: encode_arrays(compiled, paths, _BATCH_SIZE, on_error),
        classes,
        record.logit_scale,
        identity,
    )


def _text_encoder(compiled: "CompiledModel") -> Callable[[Sequence[str]], np.ndarray]:
    """Texts to vectors; the tokenizer is read for the first texts, so never if the labels' vectors are cached."""

    @functools.cache
    def tokenizer() -> Any:
        from diptych.data.library_tokenizer import read_tokenizer
        from diptych.embed.backends.compiled_model import TOKENIZER

        return read_tokenizer(compiled.folder / TOKENIZER)

    def encode(texts: Sequence[str]) -> np.ndarray:
        from diptych.embed.backends.array_encoder import encode_text_arrays

        return encode_text_arrays(compiled, tokenizer(), texts, _BATCH_SIZE)

    return encode


def _usual_backend(model: LocalModel | None, num_images: int, device: str, precision: str) -> str:
    """onnx where it is installed and runs; torch for many images on a machine with a GPU, and for other libraries."""
    if device not in ("auto", "cpu") or model is None or precision not in PRECISIONS["onnx"]:
        return "torch"
    if not is_installed("onnx"):
        return "torch"
    if device == "auto" and num_images > _FEW_IMAGES:
        import torch

        return "torch" if torch.cuda.is_available() else "onnx"
    return "onnx"
