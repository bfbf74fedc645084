"""The linear probe as a scikit-learn estimator: logistic regression on features, with a search for the penalty.

    probe = LinearProbe().fit(features, labels)                    # a fifth of the rows of each class is held out
    probe = LinearProbe().fit(features, labels, validation=(more_features, more_labels))
    probe.score(test_features, test_labels), probe.lambda_

The penalty is searched on the validation rows (`search.py`); the final classifier is fitted to training and validation
rows together. Source: CLIP paper, appendix A.3.
"""

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from diptych.errors import InputError, ShapeError
from diptych.evaluate.metrics.classification import accuracy
from diptych.evaluate.metrics.ranking import average_precision_11_point
from diptych.evaluate.probe.design import READ_ROWS
from diptych.evaluate.probe.feature_tables import Chosen, Joined, Rows
from diptych.evaluate.probe.logistic import Fitted, fit_logistic, make_design
from diptych.evaluate.probe.penalty_search import Judged, Search, search_penalty, stratified_rows
from diptych.evaluate.probe.saved_probe import read_probe, write_probe

Metric = Callable[[np.ndarray, np.ndarray], float]

_log = logging.getLogger(__name__)


class LinearProbe:
    """Multinomial logistic regression with an L2 penalty; for two classes, binary as in scikit-learn.

    It follows scikit-learn's estimator interface (clone, get_params, set_params, score), and works in its pipelines.

    Labels are one class per row, of any sortable type, or bool (N, C) for several labels per row. Then each class has
    its own classifier, `classes_` are the column indices, and `predict` gives bool (N, C). Masked entries of a masked
    array (N, C) do not count, such as Pascal VOC's difficult objects.

    Attributes (after `fit`):
        classes_: (C,), sorted.
        coef_, intercept_: float64 (C, D) and (C,); for two classes (1, D) and (1,), for the second class.
        lambda_: the penalty on the summed loss, 1 / C in scikit-learn's terms.
        search_: the Search; None with a fixed penalty.
        fitted_: the Fitted of the final fit, with its objective.
        n_features_in_, n_iter_: D, and the number of steps of the final fit.
        feature_names_in_: the columns of X, if it was a data frame.
    """

    _estimator_type = "classifier"

    def __init__(
        self,
        penalty: float | None = None,
        *,
        metric: str | Metric = "default",
        validation_share: float = 0.2,
        seed: int = 0,
        max_iterations: int = 1000,
        device: str | None = None,
    ) -> None:
        """Store the parameters; `fit` checks them.

        Args:
            penalty: a fixed lambda; None searches.
            metric: what the search maximizes on validation rows: "accuracy", or a function of labels, int (N,) into
                `classes_` or bool (N, C), and scores (N, C). "default" is accuracy, and with several labels per row
                the mean over classes of the 11-point average precision.
            validation_share: share of the rows to hold out if `fit` gets no validation rows.
            seed: seed of that draw.
            max_iterations: limit for each fit.
            device: where to compute; None uses a GPU if there is one.
        """
        self.penalty = penalty
        self.metric = metric
        self.validation_share = validation_share
        self.seed = seed
        self.max_iterations = max_iterations
        self.device = device

    def fit(self, X: Rows, y: Any, validation: tuple[Rows, Any] | None = None) -> Self:
        """Search the penalty, then fit training and validation rows together.

        Args:
            X: features (N, D); may be memory-mapped, and is then read in parts.
            y: N labels, or bool (N, C).
            validation: features and labels to search on; None holds out some rows of X. With a fixed penalty they are
                used as further training rows.
        Raises:
            InputError: a feature is NaN or infinite, there is only one class, or a class has only one row, so none can
                be held out.
            ShapeError: features and labels do not fit together.
        """
        features, labels = _checked(X, y)
        _note_columns(self, X, reset=True)
        num_held, width = 0, features.shape[1]
        if validation is not None:
            more_features, more_labels = _checked(*validation)
            if more_features.shape[1] != width or more_labels.shape[1:] != labels.shape[1:]:
                raise ShapeError(
                    f"training rows {features.shape} {labels.shape}, "
                    f"validation {more_features.shape} {more_labels.shape}"
                )
            features, labels, num_held = (
                Joined(features, more_features),
                np.ma.concatenate([labels, more_labels]),
                len(more_labels),
            )
        self._several, self._label_type = labels.ndim > 1, labels.dtype
        self.classes_ = np.arange(labels.shape[1]) if self._several else np.unique(np.asarray(labels))
        if len(self.classes_) < 2 and not self._several:
            raise InputError(f"all labels are of one class, {self.classes_[0]}; a probe needs two or more classes")
        targets = self._targets(labels)
        self.search_: Search | None = None
        start = None if self.penalty is not None else self._search(features, targets, num_held)
        self.lambda_ = start.penalty if start else float(self.penalty or 0)
        (self.fitted_,) = fit_logistic(
            features,
            targets,
            self._num_outputs,
            [self.lambda_],
            starts=[start],
            max_iterations=self.max_iterations,
            device=self.device,
        )
        self._warn()
        self.coef_, self.intercept_ = self.fitted_.weights, self.fitted_.bias
        self.n_features_in_ = width
        self.n_iter_ = np.array([self.fitted_.iterations], np.int32)
        return self

    def decision_function(self, X: Rows) -> np.ndarray:
        """Scores float32 (N, C); for two classes (N,), for the second class."""
        scores = self._scores(X)
        return scores[:, 0] if scores.shape[1] == 1 and not self._several else scores

    def predict(self, X: Rows) -> np.ndarray:
        """The best class of each row, (N,); with several labels per row, whether the row has each class, (N, C)."""
        scores = self._scores(X)
        if self._several:
            return (scores > 0).astype(self._label_type)
        return self.classes_[(scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)]

    def predict_proba(self, X: Rows) -> np.ndarray:
        """Probabilities float64 (N, C); with several labels per row, each class has an independent probability."""
        from scipy.special import expit, softmax  # imported here: loading scipy takes long

        scores = self._scores(X).astype(np.float64)
        if self._several:
            return expit(scores)
        return softmax(_two_columns(scores), axis=1)

    def score(self, X: Rows, y: Any) -> float:
        """The share of rows with a correct prediction; with several labels per row, all of them must be correct."""
        right = self.predict(X) == np.asarray(y)
        return float(right.all(axis=1).mean() if self._several else right.mean())

    def save(self, folder: str | Path) -> None:
        """Write the parameters and what `fit` learned as JSON and safetensors; an older probe there is replaced.

        Raises:
            DataError: the folder holds other files, or cannot be written.
            InputError: the metric is a function, or a label is neither a text nor a number.
        """
        write_probe(folder, self)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` has written. It predicts the same as the saved probe.

        Raises:
            DataError: the folder is missing, damaged, or of another estimator.
        """
        return read_probe(folder, cls())

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **parameters: Any) -> Self:
        """Replace some arguments of the constructor; raises InputError for an unknown name."""
        known = self.get_params()
        for name, value in parameters.items():
            if name not in known:
                raise InputError(f"LinearProbe has no parameter {name!r}; it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        parameters = inspect.signature(type(self)).parameters.items()
        changed = [
            (name, getattr(self, name)) for name, parameter in parameters if getattr(self, name) != parameter.default
        ]
        return f"LinearProbe({', '.join(f'{name}={value!r}' for name, value in changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coef_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        target = TargetTags(required=True, multi_output=True)
        return Tags(
            estimator_type="classifier",
            target_tags=target,
            classifier_tags=ClassifierTags(multi_label=True),
            input_tags=InputTags(),
        )

    # ------------------------------------------------------------------ the search, and labels as the solver takes them

    @property
    def _num_outputs(self) -> int:
        return len(self.classes_) if self._several or len(self.classes_) > 2 else 1

    def _targets(self, labels: np.ndarray) -> np.ndarray:
        """int8 (N, C) of 1, -1 and 0 for several labels per row, bool (N, 1) for two classes, else int (N,)."""
        if self._several:
            signs = np.where(np.ma.getdata(labels).astype(bool), 1, -1).astype(np.int8)
            return np.where(np.ma.getmaskarray(labels), np.int8(0), signs)
        places = np.searchsorted(self.classes_, np.asarray(labels))
        return places if self._num_outputs > 1 else (places == 1)[:, None]

    def _search(self, features: Rows, targets: np.ndarray, num_held: int) -> Fitted:
        """Search on the last `num_held` rows; if it is 0, on rows that are held out here."""
        if num_held:
            fit_rows, held_rows = np.split(np.arange(len(targets)), [len(targets) - num_held])
        else:
            groups = targets if self._several or targets.ndim == 1 else targets[:, 0]
            fit_rows, held_rows = stratified_rows(groups, self.validation_share, self.seed)
        measure = self._metric()
        truth = targets[held_rows]
        if callable(self.metric) and self._several:
            truth = truth > 0
        elif not self._several and truth.ndim > 1:
            truth = truth[:, 0].astype(np.int64)
        held_features = Chosen(features, held_rows)

        def judge(fitted: Fitted) -> Judged:
            if measure is accuracy:  # in parts: the scores of ImageNet's held-out rows would take a gigabyte
                return _share_right(fitted, held_features, truth)
            scores = fitted.scores(held_features)
            if not self._several:
                scores = _two_columns(scores)
            loss = _sigmoid_loss(targets[held_rows], scores) if self._several else _softmax_loss(truth, scores)
            return Judged(measure(truth, scores), loss / len(truth))

        design = make_design(Chosen(features, fit_rows), self.device)
        fit = (design, targets[fit_rows], self._num_outputs, judge)
        self.search_, best = search_penalty(*fit, max_iterations=self.max_iterations)
        return best

    def _warn(self) -> None:
        """Warn if the search ended at its edge, or the fit did not reach its minimum."""
        if self.search_ is not None and self.search_.edge is not None:
            _log.warning(
                "the search ended at the %s penalty that is tried, %g: the best one may lie beyond it",
                *(self.search_.edge, self.lambda_),
            )
        if not self.fitted_.converged:
            _log.warning(
                "the probe did not reach its minimum in %d steps: the objective %g may lie up to %.2g above it",
                *(self.fitted_.iterations, self.fitted_.objective, self.fitted_.excess),
            )

    def _metric(self) -> Metric:
        if callable(self.metric):
            return self.metric
        if self.metric == "default" and self._several:
            return _average_precision
        if self.metric in ("default", "accuracy") and not self._several:
            return accuracy
        raise InputError(f"for these labels there is no metric {self.metric!r}; give a function of labels and scores")

    def _scores(self, features: Rows) -> np.ndarray:
        if not self.__sklearn_is_fitted__():
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("this LinearProbe is not fitted yet; call fit first")
        _note_columns(self, features, reset=False)
        table = _features(features)
        if table.shape[1] != self.n_features_in_:
            raise ShapeError(
                f"X has {table.shape[1]} features, but LinearProbe is expecting {self.n_features_in_} features as input"
            )
        scores = self.fitted_.scores(table)
        if not np.isfinite(scores).all():
            raise InputError("the features hold NaN or infinity (inf); check the model's weights")
        return scores


def _note_columns(probe: LinearProbe, table: Any, *, reset: bool) -> None:
    """Keep a data frame's column names when fitting, compare them later; raises ValueError if they differ."""
    if hasattr(table, "columns") or hasattr(probe, "feature_names_in_"):
        from sklearn.utils.validation import _check_feature_names

        _check_feature_names(probe, table, reset=reset)


def _share_right(fitted: Fitted, rows: Rows, truth: np.ndarray) -> Judged:
    """Accuracy and loss on rows, scored in parts."""
    num_correct, loss = 0, 0.0
    for start in range(0, len(truth), READ_ROWS):
        part = slice(start, start + READ_ROWS)
        scores = _two_columns(fitted.scores(rows[part]))
        num_correct += int((scores.argmax(axis=1) == truth[part]).sum())
        loss += _softmax_loss(truth[part], scores)
    return Judged(num_correct / len(truth), loss / len(truth))


def _softmax_loss(truth: np.ndarray, scores: np.ndarray) -> float:
    """Cross-entropy summed over rows."""
    logits = torch.from_numpy(scores).double()
    return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(truth.astype(np.int64)), reduction="sum"))


def _sigmoid_loss(signs: np.ndarray, scores: np.ndarray) -> float:
    """Summed cross-entropy of independent classes; signs int8 (N, C) of 1, -1 and 0, where 0 does not count."""
    return float((np.logaddexp(0, -signs * scores.astype(np.float64)) * (signs != 0)).sum())


def _average_precision(signs: np.ndarray, scores: np.ndarray) -> float:
    """Mean over the classes that some rows have and some rows lack; signs int8 (N, C)."""
    columns = [column for column in range(signs.shape[1]) if {1, -1} <= set(signs[:, column].tolist())]
    if not columns:
        raise InputError("no class is both present and absent in the validation rows; give others")
    precisions = [
        average_precision_11_point(signs[:, column] > 0, scores[:, column], signs[:, column] != 0) for column in columns
    ]
    return float(np.mean(precisions))


def _two_columns(scores: np.ndarray) -> np.ndarray:
    """Turn scores (N, 1) of the second of two classes into (N, 2); other scores stay unchanged."""
    return np.concatenate([-scores / 2, scores / 2], axis=1) if scores.shape[1] == 1 else scores


def _features(values: Any) -> Rows:
    """Check a table of numbers; the messages contain the words that scikit-learn's estimator checks look for."""
    if hasattr(values, "toarray"):
        raise InputError("sparse features are not supported; use X.toarray()")
    table = values if isinstance(values, np.ndarray | Chosen | Joined) else np.asarray(values)
    if len(table.shape) != 2:
        raise ShapeError(f"features must be (N, D), one row per sample; got {table.shape}. Reshape your data")
    if not all(table.shape):
        raise InputError(
            f"{table.shape[1]} feature(s) (shape={table.shape}) while a minimum of 1 is required, in 1 row"
        )
    if table.dtype.kind == "c":
        raise InputError("features must be real numbers. Complex data not supported")
    if isinstance(table, np.ndarray) and table.dtype.kind not in "fiub":
        try:
            return table.astype(np.float64)
        except ValueError as error:
            raise InputError(f"features must be numbers: {error}") from error
    return table


def _checked(values: Any, labels: Any) -> tuple[Rows, np.ndarray]:
    if labels is None:
        raise InputError("a probe requires y to be passed, but the target y is None")
    features = _features(values)
    targets = labels if isinstance(labels, np.ma.MaskedArray) else np.asarray(labels)
    if targets.ndim == 2 and targets.shape[1] == 1 and targets.dtype != bool:
        targets = targets[:, 0]
    if targets.shape[:1] != features.shape[:1] or targets.ndim > 2:
        raise ShapeError(f"{features.shape[0]} rows of features need as many labels; got labels {targets.shape}")
    if (
        targets.ndim == 1
        and targets.dtype.kind == "f"
        and not (np.isfinite(targets) & (targets == np.round(targets))).all()
    ):
        raise InputError("Unknown label type: continuous numbers, NaN or infinity; labels must name classes")
    if targets.ndim == 2 and not np.isin(np.ma.getdata(targets), (0, 1)).all():
        raise ShapeError("labels (N, C) must be bool: whether each row has each class")
    return features, targets
