"""Zero-shot classification: a classifier made from texts, with scikit-learn's methods.

Source: CLIP paper, sections 3.1.2 and 3.1.4.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from diptych.embed.about import about, required_logit_scale
from diptych.embed.encoder import Encoder
from diptych.embed.estimator_folder import Saved, describe_model, open_model, read_estimator, write_estimator
from diptych.embed.image_batches import blank_picture
from diptych.embed.image_inputs import image_column, in_batches
from diptych.embed.shared_encoder import SharedEncoder, deep_copy_but_model, is_name
from diptych.errors import DataError, InputError, ShapeError
from diptych.evalsets.prompts import DEFAULT_TEMPLATES
from diptych.evaluate.metrics.classification import accuracy
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.evaluate.zero_shot.class_prompts import check_class_names, check_templates
from diptych.files import shown

PARAMETERS = ("model", "class_names", "templates", "cache_folder")
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


def _encodes_both(model: Any) -> bool:
    return all(callable(getattr(model, method, None)) for method in ("encode_images", "encode_texts"))


class ZeroShotClassifier:
    """A classifier made from texts, with scikit-learn's predict, predict_proba and score.

    The class embeddings are computed once, in the constructor, and again where `set_params` changes what they depend
    on. `fit` learns nothing. Clones and copies share the model and the class embeddings. Change parameters with
    `set_params`.

    Attributes:
        classes_: str (C,), the class names in the given order: the columns of `predict_proba`.
        class_embeddings: (C, E) float32, unit L2 norm.
        logit_scale: exp(t) of the model; None if the model states none. Then `predict_proba` raises InputError.
    """

    _estimator_type = "classifier"

    def __init__(
        self,
        model: Encoder | str | Path,
        class_names: Sequence[str],
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        *,
        cache_folder: str | Path | None = None,
    ) -> None:
        """Make a classifier from texts.

        Args:
            model: encodes texts and images; or a name, in any form that `diptych.load` takes.
            class_names: C >= 2 different names.
            templates: T texts with {c}, which is replaced by the class name; their embeddings are averaged.
            cache_folder: where to cache the class embeddings of models with a fingerprint; None caches nothing.
        Raises:
            InputError: there are fewer than two classes, a class name is blank or repeated, a template lacks {c}, or
                the model cannot encode both texts and images.
            WeightsError: there is no model of that name.
        """
        self._shared = SharedEncoder()
        self._make(model, class_names, templates, cache_folder)

    def _make(self, model: Any, class_names: Any, templates: Any, cache_folder: Any, embeddings: Any = None) -> None:
        """Check the parameters, encode the texts unless their embeddings are given, and only then store anything."""
        encoder = self._shared.get(model) if is_name(model) else model
        if not _encodes_both(encoder):
            raise InputError(
                f"a classifier needs a model with encode_images and encode_texts, as diptych.load gives it, or its "
                f"name, not {shown(model)}"
            )
        names, checked = check_class_names(class_names), check_templates(templates)
        if embeddings is None:
            embeddings = class_embeddings(encoder, names, checked, cache_folder=cache_folder)
        self.model, self.cache_folder = model, cache_folder
        self.class_names = names if isinstance(class_names, Iterator) else class_names
        self.templates = checked if isinstance(templates, Iterator) else templates
        self._encoder, self._templates = encoder, checked
        self.classes_ = np.array(names)
        self.class_embeddings = embeddings
        self.logit_scale = about(encoder).logit_scale

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Check that the labels are classes; nothing is learned, and the images are not read.

        Args:
            X: N images, or None.
            y: N class names, or N indices into `classes_`, or None.
        Raises:
            InputError: a label is not one of the classes.
            ShapeError: images and labels differ in number, or the labels are no list.
        """
        images = image_column(X)
        if y is not None:
            labels = self._indices(y)
            if hasattr(images, "__len__") and len(images) != len(labels):
                raise ShapeError(f"{len(images)} images and {len(labels)} labels")
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor by name."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def set_params(self, **parameters: Any) -> Self:
        """Replace some arguments of the constructor, and compute the class embeddings again.

        Raises:
            InputError: a name is unknown, or as in the constructor; then nothing is changed.
        """
        if unknown := [name for name in parameters if name not in PARAMETERS]:
            raise InputError(f"ZeroShotClassifier has no parameter {unknown[0]!r}; it has {', '.join(PARAMETERS)}")
        if any(value is not getattr(self, name) for name, value in parameters.items()):
            self._make(**(self.get_params() | parameters))
        return self

    def save(self, folder: str | Path) -> None:
        """Write the parameters, the class embeddings, and the model's name and fingerprints; not its weights.

        Raises:
            DataError: the folder holds other files, or cannot be written.
        """
        parameters = {"class_names": self.classes_.tolist(), "templates": self._templates}
        described = describe_model(self._encoder, self.model, texts=True)
        arrays = {"class_embeddings": self.class_embeddings.numpy()}
        write_estimator(folder, self, Saved(parameters, described, {}, arrays))

    @classmethod
    def load(cls, folder: str | Path, model: Encoder | str | Path | None = None) -> Self:
        """Read what `save` has written; the texts are not encoded again.

        Args:
            model: an encoder or a name; None loads the model by the name in the folder.
        Raises:
            DataError: the folder is missing or damaged.
            WeightsError: the model is missing, or a fingerprint differs from the saved one.
            InputError: the folder names code (python:...), and no model is given.
        """
        saved = read_estimator(folder, cls, {"class_names", "templates"}, {"class_embeddings": np.float32})
        names, embeddings = saved.parameters.get("class_names"), saved.arrays.get("class_embeddings")
        if not isinstance(names, list) or embeddings is None or embeddings.shape[:-1] != (len(names),):
            raise DataError(f"{folder} is damaged: it needs one embedding for each class name; save it again")
        new = cls.__new__(cls)
        new._shared = SharedEncoder()
        opened = open_model(saved, folder, model, new._shared)
        new._make(opened, names, saved.parameters.get("templates"), None, torch.from_numpy(embeddings))
        width = torch.as_tensor(new._encoder.encode_images([blank_picture()])).shape[1]
        if embeddings.shape[1:] != (width,) or np.abs(np.linalg.norm(embeddings, axis=1) - 1).max() > 1e-3:
            raise DataError(f"{folder} is damaged: class embeddings are {width} wide and of unit norm; save it again")
        return new

    def __repr__(self) -> str:
        """Model, classes and templates, without the embeddings."""
        names = ", ".join(map(repr, self.classes_[:5].tolist())) + (", ..." if len(self.classes_) > 5 else "")
        prompts = f"{self._templates[0]!r}" if len(self._templates) == 1 else f"{len(self._templates)} templates"
        return f"ZeroShotClassifier({self._encoder!r}, {len(self.classes_)} classes: {names}; {prompts})"

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
        truth = self._indices(labels)
        best = self._best(images)
        if len(truth) != len(best):
            raise ShapeError(f"{len(best)} images and {len(truth)} labels")
        return accuracy(truth, best)

    def decision_function(self, images: Iterable[Any]) -> np.ndarray:
        """Logits float32 (N, C), as in `scores_from_embeddings`; for two classes (N,), second minus first."""
        parts = map(self.scores_from_embeddings, self._embeddings(images))
        logits = torch.cat([torch.zeros(0, len(self.classes_)), *parts]).numpy()
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def _indices(self, labels: Any) -> np.ndarray:
        """Labels as indices into `classes_`, int64 (N,)."""
        labels = np.asarray(labels)
        if labels.ndim != 1:
            raise ShapeError(f"labels must be a list, one for each image, not of shape {labels.shape}")
        if labels.dtype.kind in "UO":
            index = {str(name): number for number, name in enumerate(self.classes_)}
            if unknown := [label for label in labels.tolist() if str(label).strip() not in index]:
                raise InputError(f"label {unknown[0]!r} is none of the {len(index)} classes")
            labels = np.array([index[str(label).strip()] for label in labels.tolist()], dtype=np.int64)
        elif labels.dtype.kind == "f" and not (labels == np.round(labels)).all():
            raise InputError("Unknown label type: continuous numbers; labels are class names or indices")
        elif labels.size and not 0 <= labels.min() <= labels.max() < len(self.classes_):
            raise InputError(f"labels must lie in [0, {len(self.classes_)}); found {labels.min()} to {labels.max()}")
        return labels

    def scores_from_embeddings(self, image_embeddings: torch.Tensor) -> torch.Tensor:
        """Logits, float32 (N, C), of image embeddings (N, E) of unit norm. Their softmax is `predict_proba`.

        Raises:
            InputError: the model states no logit_scale.
        """
        scale = required_logit_scale(self._encoder) if self.logit_scale is None else self.logit_scale
        return zero_shot_logits(image_embeddings, self.class_embeddings, scale)

    def _best(self, images: Iterable[Any]) -> np.ndarray:
        scale = 1.0 if self.logit_scale is None else self.logit_scale
        logits = (zero_shot_logits(batch, self.class_embeddings, scale) for batch in self._embeddings(images))
        best_classes = [batch.numpy().argmax(axis=1) for batch in logits]
        return np.concatenate([np.zeros(0, dtype=np.int64), *best_classes])

    def _embeddings(self, images: Iterable[Any]) -> Iterator[torch.Tensor]:
        for batch in in_batches(image_column(images), _PICTURES_PER_BATCH):
            yield self._encoder.encode_images(batch)

    # ------------------------------------------------------------------ scikit-learn's protocols

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=False),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(one_d_array=True, two_d_array=False, string=True),
            requires_fit=False,
        )

    def __sklearn_clone__(self) -> Self:
        return copy.copy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self._encoder)] = self._encoder
        return deep_copy_but_model(self, memo)

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: without the weights of a model that has a name."""
        state = dict(vars(self))
        if is_name(self.model):
            del state["_encoder"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if is_name(self.model):
            self._encoder = self._shared.get(self.model)
