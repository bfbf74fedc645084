"""Zero-shot classification: a classifier made from texts, with scikit-learn's methods.

Source: CLIP paper, sections 3.1.2 and 3.1.4.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.embed.about import about, required_logit_scale
from diptych.embed.encoder import Encoder
from diptych.embed.image_batches import in_batches
from diptych.errors import InputError, ShapeError
from diptych.evalsets.prompts import DEFAULT_TEMPLATES
from diptych.evaluate.metrics.classification import accuracy
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.evaluate.zero_shot.class_prompts import check_class_names, check_templates
from diptych.files import shown

_PICTURES_PER_BATCH = 256


def zero_shot_logits(image_embeddings: torch.Tensor, classes: torch.Tensor, logit_scale: float) -> torch.Tensor:
    """Cosine similarities of images and classes, times the logit scale.

    Args:
        image_embeddings: (N, E) float, unit L2 norm.
        classes: (C, E) float32, unit L2 norm, from `class_embeddings`.
        logit_scale: exp(t).
    Returns:
        (N, C) float32, on the CPU.
    Raises:
        ShapeError: images and classes differ in E.
        InputError: an image's embedding is not finite.
    """
    try:
        images = torch.as_tensor(image_embeddings).float().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(f"embeddings are an array of numbers, not {shown(image_embeddings)}") from error
    if images.ndim != 2 or images.shape[1] != classes.shape[1]:
        raise ShapeError(f"embeddings {tuple(images.shape)} do not fit classes {tuple(classes.shape)}: (N, E), (C, E)")
    if broken := int((~images.isfinite()).any(dim=1).sum()):
        raise InputError(f"{broken} of {len(images)} image embeddings hold NaN or infinity; check the weights")
    return logit_scale * images @ classes.T


class ZeroShotClassifier:
    """A classifier made from texts, with scikit-learn's predict, predict_proba and score.

    The class embeddings are computed once, in the constructor.

    Attributes:
        classes_: str (C,), the class names in the given order: the columns of `predict_proba`.
        class_embeddings: (C, E) float32, unit L2 norm.
        logit_scale: exp(t) of the model; None if the model states none. Then `predict_proba` raises InputError.
    """

    def __init__(
        self,
        model: Encoder,
        class_names: Sequence[str],
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        *,
        cache_folder: str | Path | None = None,
    ) -> None:
        """Make a classifier from texts.

        Args:
            model: encodes texts and images.
            class_names: C >= 2 different names.
            templates: T texts with {c}, which is replaced by the class name; their embeddings are averaged.
            cache_folder: where to cache the class embeddings of models with a fingerprint; None caches nothing.
        Raises:
            InputError: there are fewer than two classes, a class name is blank or repeated, a template lacks {c}, or
                the model cannot encode both texts and images.
        """
        if not all(callable(getattr(model, method, None)) for method in ("encode_images", "encode_texts")):
            raise InputError(
                f"a classifier needs a model with encode_images and encode_texts, as diptych.load gives it, "
                f"not {shown(model)}"
            )
        names = check_class_names(class_names)
        self._model, self._templates = model, check_templates(templates)
        self.classes_ = np.array(names)
        self.class_embeddings = class_embeddings(model, names, self._templates, cache_folder=cache_folder)
        self.logit_scale = about(model).logit_scale

    def __repr__(self) -> str:
        """Model, classes and templates, without the embeddings."""
        names = ", ".join(map(repr, self.classes_[:5].tolist())) + (", ..." if len(self.classes_) > 5 else "")
        prompts = f"{self._templates[0]!r}" if len(self._templates) == 1 else f"{len(self._templates)} templates"
        return f"ZeroShotClassifier({self._model!r}, {len(self.classes_)} classes: {names}; {prompts})"

    def predict(self, images: Iterable[Any]) -> np.ndarray:
        """Names of the best classes, str (N,), for images as the model's `encode_images` takes them."""
        return self.classes_[self._best(images)]

    def predict_proba(self, images: Iterable[Any]) -> np.ndarray:
        """Probabilities of the classes, float32 (N, C): the softmax of the scaled cosines.

        Raises:
            InputError: the model states no logit_scale.
        """
        parts = map(self.scores_from_embeddings, self._embeddings(images))
        return torch.cat([torch.zeros(0, len(self.classes_)), *parts]).softmax(dim=1).numpy()

    def score(self, images: Iterable[Any], labels: Sequence[str] | Sequence[int] | np.ndarray) -> float:
        """Accuracy of `predict`, a fraction.

        Args:
            images: N >= 1, as the model's `encode_images` takes them.
            labels: N class names, or N indices into `classes_`.
        Raises:
            InputError: a label is not one of the classes.
            ShapeError: images and labels differ in number.
        """
        labels = np.asarray(labels)
        if labels.ndim != 1:
            raise ShapeError(f"labels must be a list, one for each image, not of shape {labels.shape}")
        if labels.dtype.kind in "UO":
            index = {str(name): number for number, name in enumerate(self.classes_)}
            if unknown := [label for label in labels.tolist() if str(label).strip() not in index]:
                raise InputError(f"label {unknown[0]!r} is none of the {len(index)} classes")
            labels = np.array([index[str(label).strip()] for label in labels.tolist()], dtype=np.int64)
        elif labels.size and not 0 <= labels.min() <= labels.max() < len(self.classes_):
            raise InputError(f"labels must lie in [0, {len(self.classes_)}); found {labels.min()} to {labels.max()}")
        best = self._best(images)
        if len(labels) != len(best):
            raise ShapeError(f"{len(best)} images and {len(labels)} labels")
        return accuracy(labels, best)

    def scores_from_embeddings(self, image_embeddings: torch.Tensor) -> torch.Tensor:
        """Logits, float32 (N, C), of image embeddings (N, E) of unit norm. Their softmax is `predict_proba`.

        Raises:
            InputError: the model states no logit_scale.
        """
        scale = required_logit_scale(self._model) if self.logit_scale is None else self.logit_scale
        return zero_shot_logits(image_embeddings, self.class_embeddings, scale)

    def _best(self, images: Iterable[Any]) -> np.ndarray:
        scale = 1.0 if self.logit_scale is None else self.logit_scale
        logits = (zero_shot_logits(batch, self.class_embeddings, scale) for batch in self._embeddings(images))
        best_classes = [batch.numpy().argmax(axis=1) for batch in logits]
        return np.concatenate([np.zeros(0, dtype=np.int64), *best_classes])

    def _embeddings(self, images: Iterable[Any]) -> Iterator[torch.Tensor]:
        for batch in in_batches(images, _PICTURES_PER_BATCH):
            yield self._model.encode_images(batch)
