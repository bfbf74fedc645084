"""Zero-shot classification: texts become a classifier with scikit-learn's methods.

Source: CLIP paper, sections 3.1.2 and 3.1.4.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.embed.about import about, required_logit_scale
from diptych.embed.encoder import Encoder
from diptych.embed.pictures import in_batches
from diptych.errors import InputError, ShapeError
from diptych.evalsets.prompts import DEFAULT_TEMPLATES
from diptych.evaluate.metrics.classification import accuracy
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.evaluate.zero_shot.prompts import check_class_names, check_templates
from diptych.files import shown

_PICTURES_PER_BATCH = 256


def zero_shot_logits(image_embeddings: torch.Tensor, classes: torch.Tensor, logit_scale: float) -> torch.Tensor:
    """Scaled cosines between images and classes.

    Args:
        image_embeddings: (N, E) float, unit L2 norm.
        classes: (C, E) float32, unit L2 norm, as `class_embeddings` gives them.
        logit_scale: exp(t).
    Returns:
        (N, C) float32, on the CPU.
    Raises:
        ShapeError: the two differ in E.
        InputError: an image's embedding is not finite.
    """
    try:
        images = torch.as_tensor(image_embeddings).float().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(f"embeddings are an array of numbers, not {shown(image_embeddings)}") from error
    if images.ndim != 2 or images.shape[1] != classes.shape[1]:
        raise ShapeError(f"embeddings {tuple(images.shape)} do not fit classes {tuple(classes.shape)}: (N, E), (C, E)")
    if broken := int((~images.isfinite()).any(dim=1).sum()):
        raise InputError(f"{broken} of {len(images)} picture embeddings hold NaN or infinity; are the weights sound?")
    return logit_scale * images @ classes.T


class ZeroShotClassifier:
    """A classifier made of texts, with scikit-learn's predict, predict_proba and score.

    The classes' embeddings are computed once, here; afterwards each image costs one matrix product.

    Attributes:
        classes_: str (C,), the class names in the order given; columns of `predict_proba`, and what `predict` returns.
        class_embeddings: (C, E) float32, unit L2 norm.
        logit_scale: exp(t) of the model; None if the model states none: it then gives classes and no probabilities.
    """

    def __init__(
        self,
        model: Encoder,
        class_names: Sequence[str],
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        *,
        cache_folder: str | Path | None = None,
    ) -> None:
        """Turn texts into a classifier.

        Args:
            model: encodes texts and images.
            class_names: C >= 2 different names.
            templates: T texts with {c}, which the name replaces literally; their embeddings are averaged.
            cache_folder: keep the class embeddings there, for models with a fingerprint; None keeps nothing.
        Raises:
            InputError: fewer than two classes, a blank name or one given twice, or a template without {c}; or the model
                encodes no texts or no images.
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
        """Model, classes and templates, not their numbers."""
        names = ", ".join(map(repr, self.classes_[:5].tolist())) + (", ..." if len(self.classes_) > 5 else "")
        prompts = f"{self._templates[0]!r}" if len(self._templates) == 1 else f"{len(self._templates)} templates"
        return f"ZeroShotClassifier({self._model!r}, {len(self.classes_)} classes: {names}; {prompts})"

    def predict(self, pictures: Iterable[Any]) -> np.ndarray:
        """Names of the best classes, str (N,), for images as the model's `encode_images` takes them."""
        return self.classes_[self._best(pictures)]

    def predict_proba(self, pictures: Iterable[Any]) -> np.ndarray:
        """Probabilities of the classes, float32 (N, C): the softmax of the scaled cosines.

        Raises:
            InputError: the model states no logit_scale.
        """
        parts = map(self.scores_from_embeddings, self._embeddings(pictures))
        return torch.cat([torch.zeros(0, len(self.classes_)), *parts]).softmax(dim=1).numpy()

    def score(self, pictures: Iterable[Any], labels: Sequence[str] | Sequence[int] | np.ndarray) -> float:
        """Accuracy of `predict`, a fraction.

        Args:
            pictures: N >= 1, as the model's `encode_images` takes them.
            labels: N class names, or N indices into `classes_`.
        Raises:
            InputError: a label is none of the classes.
            ShapeError: images and labels differ in number.
        """
        labels = np.asarray(labels)
        if labels.ndim != 1:
            raise ShapeError(f"labels must be a list, one for each picture, not of shape {labels.shape}")
        if labels.dtype.kind in "UO":
            index = {str(name): number for number, name in enumerate(self.classes_)}
            if unknown := [label for label in labels.tolist() if str(label).strip() not in index]:
                raise InputError(f"label {unknown[0]!r} is none of the {len(index)} classes")
            labels = np.array([index[str(label).strip()] for label in labels.tolist()], dtype=np.int64)
        elif labels.size and not 0 <= labels.min() <= labels.max() < len(self.classes_):
            raise InputError(f"labels must lie in [0, {len(self.classes_)}); found {labels.min()} to {labels.max()}")
        best = self._best(pictures)
        if len(labels) != len(best):
            raise ShapeError(f"{len(best)} pictures and {len(labels)} labels")
        return accuracy(labels, best)

    def scores_from_embeddings(self, image_embeddings: torch.Tensor) -> torch.Tensor:
        """Logits, float32 (N, C), of images encoded before: (N, E), unit norm. Their softmax is `predict_proba`.

        Raises:
            InputError: the model states no logit_scale.
        """
        scale = required_logit_scale(self._model) if self.logit_scale is None else self.logit_scale
        return zero_shot_logits(image_embeddings, self.class_embeddings, scale)

    def _best(self, pictures: Iterable[Any]) -> np.ndarray:
        scale = 1.0 if self.logit_scale is None else self.logit_scale
        logits = (zero_shot_logits(one, self.class_embeddings, scale) for one in self._embeddings(pictures))
        best = [one.numpy().argmax(axis=1) for one in logits]
        return np.concatenate([np.zeros(0, dtype=np.int64), *best])

    def _embeddings(self, pictures: Iterable[Any]) -> Iterator[torch.Tensor]:
        for batch in in_batches(pictures, _PICTURES_PER_BATCH):
            yield self._model.encode_images(batch)
