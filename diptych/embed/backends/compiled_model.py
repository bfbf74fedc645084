"""A model compiled for one back end: a folder with graphs and a record, opened without torch.

    record.json      the record below
    image.onnx       uint8 pixels -> embeddings and features; image.onnx.data holds the weights
    text.onnx        tokens -> embeddings; missing if the model has no text side
    tokenizer.json   texts -> tokens; missing if the model came without one

A folder is written once and renamed into place, and its name is a digest of everything that its numbers depend on.
"""

import dataclasses
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.preprocessing import Preprocessing
from diptych.embed.backends.runtimes import Run, open_graph
from diptych.errors import WeightsError

logger = logging.getLogger(__name__)

RECORD, IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER = "record.json", "image.onnx", "text.onnx", "tokenizer.json"
_MAX_RECORD_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompiledRecord:
    """What a compiled model is.

    Attributes:
        name: of the model in results.
        backend, precision: how it is computed.
        library: the library with its version.
        embed_dim, features_dim: E and W.
        preprocessing: of the images, as in config.json.
        logit_scale: exp(t); None for a model without. logit_bias: of SigLIP's logits.
        gflops: billions of multiply-adds for one image.
        source_image_fingerprint, source_text_fingerprint: of the fp32 model on torch that it was made from.
        no_texts: why it encodes no texts; None if it does.
        worst_image_cosine, worst_text_cosine: the lowest cosine with that model's vectors in the self-test; None for a
            model without a text side.
        notices: what loading the model warned of, such as an activation that its file does not name; warned of again
            whenever the compiled model is opened.
        files: bytes of each file of the folder.
    """

    name: str
    backend: str
    precision: str
    library: str
    embed_dim: int
    features_dim: int
    preprocessing: Mapping[str, Any]
    logit_scale: float | None
    logit_bias: float | None
    gflops: float
    source_image_fingerprint: str
    source_text_fingerprint: str | None
    no_texts: str | None
    worst_image_cosine: float
    worst_text_cosine: float | None
    notices: Sequence[str] = ()
    files: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def worst_cosine(self) -> float:
        """The lower of the two worst cosines."""
        texts = self.worst_text_cosine
        return self.worst_image_cosine if texts is None else min(self.worst_image_cosine, texts)

    def fingerprint(self, source: str) -> str:
        """The fingerprint of vectors computed so, from the fingerprint on torch in fp32."""
        return f"{source}-{self.backend}-{self.precision}"


class CompiledModel:
    """Graphs on disk that compute a model's vectors: NumPy arrays in and out.

    Attributes:
        folder: holds the graphs.
        record: see CompiledRecord.
        preprocessing: how an image becomes pixels.
    """

    def __init__(self, folder: Path, *, once: bool = False) -> None:
        """Read the record; a graph is opened when it is first needed.

        Args:
            once: for few images and texts, see `open_graph`.
        Raises:
            WeightsError: a file is missing or damaged.
        """
        self.folder, self.record, self._once = folder, _read_record(folder / RECORD), once
        self._graphs: dict[tuple[str, int], Run] = {}
        for name, size in self.record.files.items():
            if not (folder / name).is_file() or (folder / name).stat().st_size != size:
                raise WeightsError(f"{folder / name} is damaged: it should have {size} bytes")
        self.preprocessing = Preprocessing.from_dict(self.record.preprocessing)

    def repeat_notices(self) -> None:
        """Log the warnings of the model's loading again."""
        for notice in self.record.notices:
            logger.warning("%s", notice)

    @property
    def has_texts(self) -> bool:
        """Whether it has the text side."""
        return self.record.source_text_fingerprint is not None

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, 3, R, R) -> (N, E) float32, unit norm."""
        return self._graph(IMAGE_GRAPH)(pixels, ["embeddings"])[0]

    def pixel_features(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, 3, R, R) -> (N, W) float32, before the projection."""
        return self._graph(IMAGE_GRAPH)(pixels, ["features"])[0]

    def features_and_embeddings(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (N, 3, R, R) -> (N, W) and (N, E), both float32, in one run."""
        features, embeddings = self._graph(IMAGE_GRAPH)(pixels, ["features", "embeddings"])
        return features, embeddings

    def embed_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """int (N, L) -> (N, E) float32, unit norm."""
        return self._graph(TEXT_GRAPH)(tokens.astype(np.int64), ["embeddings"])[0]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_graphs": {}}

    def close(self) -> None:
        """Close the graphs; they are opened again when they are needed, perhaps in a forked process."""
        self._graphs.clear()

    def _graph(self, name: str) -> Run:
        """The opened graph. A forked process opens its own: the library's threads do not survive a fork."""
        key = name, os.getpid()
        if key not in self._graphs:
            self._graphs[key] = open_graph(
                self.record.backend, self.folder / name, self.record.precision, once=self._once
            )
        return self._graphs[key]


def write_record(path: Path, record: CompiledRecord) -> None:
    """Write the record as JSON."""
    path.write_text(json.dumps(dataclasses.asdict(record), indent=1) + "\n", encoding="utf-8")


def _read_record(path: Path) -> CompiledRecord:
    try:
        if path.stat().st_size > _MAX_RECORD_BYTES:
            raise ValueError("it is too large")
        return CompiledRecord(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} cannot be read as the record of a compiled model: {error}") from error
