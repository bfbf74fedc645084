"""Images to vectors as a scikit-learn transformer, for pipelines and searches.

    make_pipeline(ImageEmbedder(), LogisticRegression()).fit(paths, labels)

The encoder is loaded once and shared by all clones. Nothing is learned from the images, so `transform` works without
`fit`.
"""

import copy
import logging
from collections.abc import Callable, Iterable
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from diptych.data.decoding import decode_image
from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.embed.estimator_folder import Saved, describe_model, open_model, read_estimator, write_estimator
from diptych.embed.image_batches import blank_picture, encode_apart, in_batches, in_short, scattered
from diptych.embed.image_inputs import ImageInput, image_column
from diptych.embed.shared_encoder import SharedEncoder, deep_copy_but_model
from diptych.errors import ConfigError, ImageError, InputError
from diptych.files import shown

ON_ERROR = ("raise", "nan")
KINDS = ("embeddings", "features")
Encode = Callable[[list[Any]], torch.Tensor]
_log = logging.getLogger(__name__)


class ImageEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embeds images with a CLIP model; a scikit-learn transformer without state.

    Attributes:
        encoder_: the loaded model. Clones share it.
    """

    def __init__(
        self,
        model: str | Path | Encoder = "default",
        kind: str = "embeddings",
        batch_size: int = 256,
        on_error: str = "raise",
    ) -> None:
        """Store the parameters; `fit` and `transform` check them and load the model.

        Args:
            model: a name, in any form that `diptych.load` takes, or a loaded encoder.
            kind: "embeddings", of unit norm; or "features", the image tower's output before the projection, from which
                linear probes learn more (CLIP paper, appendix A.3).
            batch_size: images decoded and encoded at a time.
            on_error: for an image that cannot be decoded: "raise"; or "nan": the error is logged, and its row is NaN.
        """
        self.model = model
        self.kind = kind
        self.batch_size = batch_size
        self.on_error = on_error

    def fit(self, X: Iterable[ImageInput], y: Any = None) -> Self:
        """Check the parameters and load the model; nothing is learned.

        Args:
            X: as for `transform`; the images are not decoded.
            y: ignored.
        Raises:
            ConfigError: a parameter is out of range, or the model has no features.
            WeightsError: there is no such model.
            InputError: X is not a list of images.
        """
        images = image_column(X)
        if not hasattr(images, "__next__"):  # a generator would be used up
            next(in_batches(images, 1), None)
        self._encode()
        return self

    def transform(self, X: Iterable[ImageInput]) -> np.ndarray:
        """Embed images.

        Args:
            X: N images: paths, PIL images, encoded bytes, or uint8 arrays (height, width, 3), in a list, an array, a
                column of a table, or a generator.
        Returns:
            float32 (N, E); (0, E) for no images.
        Raises:
            ImageError: an image cannot be decoded and `on_error` is "raise"; the message has its index.
            ConfigError, WeightsError, InputError: as in `fit`.
        """
        encode = self._encode()
        parts, start = [], 0
        for batch in in_batches(image_column(X), self.batch_size):
            parts.append(_encode_batch(encode, batch, start, self.on_error))
            start += len(batch)
        return (torch.cat(parts) if parts else encode([blank_picture()])[:0]).numpy()

    def save(self, folder: str | Path) -> None:
        """Write the parameters, and the model's name and fingerprint; not its weights.

        Raises:
            DataError: the folder holds other files, or cannot be written.
            WeightsError: there is no such model.
        """
        parameters = {name: value for name, value in self.get_params().items() if name != "model"}
        write_estimator(folder, self, Saved(parameters, describe_model(self.encoder_, self.model, texts=False)))

    @classmethod
    def load(cls, folder: str | Path, model: str | Path | Encoder | None = None) -> Self:
        """Read what `save` has written.

        Args:
            model: the model, a name or an encoder; None loads it by the name in the folder.
        Raises:
            DataError: the folder is missing or damaged.
            WeightsError: the model is missing, or its fingerprint differs from the saved one.
            InputError: the folder names code (python:...), and no model is given.
        """
        saved = read_estimator(folder, cls, {"kind", "batch_size", "on_error"})
        shared = SharedEncoder()
        new = cls(open_model(saved, folder, model, shared), **saved.parameters)
        new._shared = shared
        new._check()
        return new

    @property
    def encoder_(self) -> Encoder:
        """The loaded model."""
        return self._sharing().get(self.model)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False  # a list of images is no table of numbers
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = False
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_clone__(self) -> Self:
        new = type(self)(**self.get_params())
        new._shared = self._sharing()
        for setting in ("_sklearn_output_config", "_metadata_request"):  # what scikit-learn's own clone takes over
            if hasattr(self, setting):
                setattr(new, setting, copy.deepcopy(getattr(self, setting)))
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        self._sharing()
        return deep_copy_but_model(self, memo)

    @property
    def _n_features_out(self) -> int:
        return self._encode()([blank_picture()]).shape[1]

    def _sharing(self) -> SharedEncoder:
        """Made when it is first needed: the constructor only stores its arguments."""
        if not hasattr(self, "_shared"):
            self._shared = SharedEncoder()
        return self._shared

    def _encode(self) -> Encode:
        """The function that embeds a batch, after a check of the parameters."""
        self._check()
        encoder: Any = self.encoder_
        if self.kind == "features" and not about(encoder).has_features:
            raise ConfigError(f'{encoder.name} gives no features before the projection; set kind="embeddings"')
        return encoder.image_features if self.kind == "features" else encoder.encode_images

    def _check(self) -> None:
        for name, values in (("kind", KINDS), ("on_error", ON_ERROR)):
            if getattr(self, name) not in values:
                raise ConfigError(f"{name} must be {' or '.join(map(repr, values))}, not {shown(getattr(self, name))}")
        size = self.batch_size
        if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
            raise ConfigError(f"batch_size must be a whole number, at least 1, not {shown(size)}")


def _encode_batch(encode: Encode, batch: list[ImageInput], start: int, on_error: str) -> torch.Tensor:
    """Embed a batch, float32 (n, E); only if that fails, find the images that are broken.

    Args:
        start: the number of images before the batch, for messages.
    """
    try:
        return torch.as_tensor(encode(batch)).float().cpu()
    except InputError as error:
        decoded: dict[int, Image.Image] = {}
        broken: dict[int, Exception] = {}
        for index, image in enumerate(batch):
            try:
                decoded[index] = decode_image(image)
            except ImageError as problem:
                broken[index] = problem
                if on_error == "raise":
                    raise ImageError(f"image {start + index}: {problem}") from problem
        if on_error == "raise":
            raise
        rows, indices = None, list(decoded)
        if decoded:
            rows, failed = encode_apart(encode, list(decoded.values()))
            broken |= {indices[row]: reason for row, reason in failed.items()}
        elif not broken:
            raise error
    for index, reason in sorted(broken.items()):
        _log.warning("image %d becomes a row of NaN: %s", start + index, in_short(reason))
    good = [index for index in decoded if index not in broken]
    if rows is None:  # a blank image gives the width of a row, or raises if no image can be encoded
        rows = encode([blank_picture()])[:0]
    return scattered(rows.float().cpu(), good, len(batch))
