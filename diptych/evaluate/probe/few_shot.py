"""Few-shot classifiers on frozen vectors: seeded, nested draws, and three classifiers that learn from them.

Three linear classifiers:

- "probe": L2-regularized logistic regression on features, like the linear probe.
- "zero-shot-initialised": logistic regression on embeddings whose penalty pulls towards the zero-shot classifier (class
  embeddings times logit_scale) instead of 0. Like the zero-shot classifier it has no bias, so it converges to the
  zero-shot classifier as the penalty grows. The paper tried it and dropped it.
- "interpolated": (1 - share) times the zero-shot weights plus share times the weights of a probe on embeddings.

The paper does not say how it chose the penalty with few examples. Here, with k examples per class:

- k >= 4: the penalty is chosen among PENALTIES by cross-validation within the draw. The examples of each class are
  dealt in turn to FOLDS folds; the penalty with the lowest cross-entropy on held-out examples wins, the larger one on
  ties. From k = 16 on, only one fold is held out, which has enough examples. Then all k examples are fitted.
- k < 4: no example can be held out, so the penalty is FIXED_PENALTY and the share FIXED_SHARE, round numbers near the
  values that are chosen for larger k.

The test split and examples that are not drawn do not influence any choice.

Penalties are relative: lambda is the penalty times the mean squared distance of the examples from their mean, so the
choice does not depend on the scale of the vectors. The share is chosen among SHARES in the same way and on the same
folds, after the probe's penalty.

Source: CLIP paper, sections 3.1.5 and 3.3, figures 6, 7 and 15.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from diptych.errors import DataError, ShapeError
from diptych.evaluate.probe.logistic import Fitted, fit_logistic

SHOTS = (1, 2, 4, 8, 16, 32, 64, 128)
CLASSIFIERS = ("probe", "zero-shot-initialised", "interpolated")
PENALTIES = tuple(10.0**power for power in range(-3, 5))
SHARES = tuple(tenths / 10 for tenths in range(11))
FIXED_PENALTY, FIXED_SHARE = 0.1, 0.5
FOLDS = 4

_MAX_ITERATIONS, _TOLERANCE = 300, 1e-5  # relative excess of the objective, far below the spread of the draws
_MIN_CHOOSING, _ONE_FOLD = 4, 16  # smallest k with a choice, and smallest k with a single fold


@dataclasses.dataclass(frozen=True)
class Fit:
    """A linear classifier learned from few examples.

    Attributes:
        weights: float32 (C, D).
        bias: float32 (C,).
        penalty: lambda of the probe, on the summed loss.
        share: share of the probe's weights for "interpolated"; otherwise None.
        choice: how penalty and share were chosen: "fixed", "4-fold cross-validation" or "a quarter held out".
    """

    weights: np.ndarray
    bias: np.ndarray
    penalty: float
    share: float | None
    choice: str

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Class scores, float32 (N, C), of vectors (N, D).

        Raises:
            ShapeError: the vectors have another width.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.weights.shape[1]:
            raise ShapeError(f"vectors {vectors.shape} do not fit weights {self.weights.shape}")
        return np.asarray(vectors, np.float32) @ self.weights.T + self.bias


def draw_ranks(keys: Sequence[str], labels: np.ndarray, seed: int) -> np.ndarray:
    """The rank of each sample in its class's drawing order, int64 (N,): the k-shot draw is `ranks < k`.

    Samples are ordered by a hash of the seed and the sample's key. So the ranks do not depend on the order of the
    files, added samples do not change the relative order of the others, and each draw contains the smaller draws.

    Args:
        keys: N sample keys; samples of a class with equal keys keep their order.
        labels: int (N,).
        seed: another seed gives an independent draw.
    Raises:
        ShapeError: keys and labels differ in number.
    """
    labels = np.asarray(labels)
    if labels.shape != (len(keys),):
        raise ShapeError(f"{len(keys)} keys and labels of shape {labels.shape}")
    hashed = np.array([_hash(seed, key) for key in keys], dtype=np.uint64)
    order = np.lexsort((hashed, labels))
    ranks = np.empty(len(keys), np.int64)
    ranks[order] = places_in_class(labels[order])
    return ranks


def drawn_rows(ranks: np.ndarray, labels: np.ndarray, shots: int) -> np.ndarray:
    """Rows of the k-shot draw, int64: k of each class (or all if it has fewer), sorted by class and rank."""
    rows = np.flatnonzero(np.asarray(ranks) < shots)
    return rows[np.lexsort((ranks[rows], np.asarray(labels)[rows]))]


def places_in_class(labels: np.ndarray) -> np.ndarray:
    """The number of earlier samples with the same label, int64 (N,)."""
    order = np.argsort(labels, kind="stable")
    inside = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    places = np.empty(len(labels), np.int64)
    places[order] = inside
    return places


def possible_shots(labels: np.ndarray, wanted: Sequence[int] = SHOTS) -> tuple[int, ...]:
    """The wanted numbers of examples per class that every class can fill; at least the smallest wanted number.

    The smallest class limits the curve (the paper: "where possible"); otherwise, some classes would have fewer than k
    examples, and the steps of the curve would not be doublings. Classes without examples do not count. `drawn_rows`
    itself takes all examples of a smaller class.

    Raises:
        DataError: fewer than two classes have an example.
    """
    sizes = np.bincount(np.asarray(labels, np.int64)) if len(labels) else np.zeros(0, np.int64)
    sizes = sizes[sizes > 0]
    if len(sizes) < 2:
        raise DataError(f"the training examples have {len(sizes)} class; few-shot learning needs two or more")
    return tuple(k for k in wanted if k <= sizes.min()) or (min(wanted),)


def fit_few_shot(
    classifier: str,
    vectors: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    shots: int,
    *,
    zero_shot: np.ndarray | None = None,
    device: torch.device | str | None = None,
) -> Fit:
    """Learn one of the CLASSIFIERS from a draw; the module docstring says how penalty and share are chosen.

    Args:
        classifier: one of CLASSIFIERS.
        vectors: float (n, D), the drawn examples: features for "probe", else embeddings.
        labels: int (n,), the examples of each class in drawing order, as `drawn_rows` gives them.
        num_classes: C.
        shots: k, which decides how much can be held out.
        zero_shot: float (C, D), class embeddings times logit_scale; required unless `classifier` is "probe".
        device: where to fit; None uses the default of `fit_logistic`.
    Raises:
        ShapeError: the zero-shot weights are missing or of another shape.
    """
    vectors, labels = np.asarray(vectors, np.float32), np.asarray(labels, np.int64)
    if classifier != "probe" and (zero_shot is None or zero_shot.shape != (num_classes, vectors.shape[1])):
        shape = None if zero_shot is None else zero_shot.shape
        raise ShapeError(f"{classifier} needs zero-shot weights {(num_classes, vectors.shape[1])}; got {shape}")
    toward = zero_shot if classifier == "zero-shot-initialised" else None
    start = zero_shot if classifier == "interpolated" else None
    draw = _Draw(vectors, labels, num_classes, toward, device)
    folds = _folds(labels, shots)
    penalty, trials = FIXED_PENALTY, []
    if folds:
        lambdas = [relative * draw.scale for relative in PENALTIES]
        trials = [(held_out, draw.fit(~held_out, lambdas, certify=False)) for held_out in folds]
        place = _best([sum(draw.loss(held, fits[i]) for held, fits in trials) for i in range(len(lambdas))])
        penalty = PENALTIES[place]
        trials = [(held_out, [fits[place]]) for held_out, fits in trials]
    (final,) = draw.fit(np.ones(len(labels), bool), [penalty * draw.scale])
    choice = "fixed" if not folds else f"{FOLDS}-fold cross-validation" if len(folds) > 1 else "a quarter held out"
    if start is None:
        return Fit(final.weights, final.bias, final.penalty, None, choice)
    share = FIXED_SHARE
    if trials:
        losses = [sum(draw.loss(held, interpolated(start, fits[0], s)) for held, fits in trials) for s in SHARES]
        share = SHARES[len(SHARES) - 1 - _best(losses[::-1])]  # on ties, the smaller share
    mixed = interpolated(start, final, share)
    return dataclasses.replace(mixed, choice=choice)


def interpolated(zero_shot: np.ndarray, probe: Fitted | Fit, share: float) -> Fit:
    """Interpolate between zero-shot (share 0) and a probe on the same vectors (share 1); both ends are exact.

    Args:
        zero_shot: float (C, D), class embeddings times logit_scale; it has no bias.
        probe: weights (C, D) and bias (C,).
        share: share of the probe.
    """
    weights = (1 - share) * np.asarray(zero_shot, np.float32) + share * probe.weights.astype(np.float32)
    return Fit(weights, share * probe.bias.astype(np.float32), probe.penalty, share, "given")


@dataclasses.dataclass(frozen=True)
class _Draw:
    """Drawn examples and how to fit them; `scale` is the mean squared distance of the examples from their mean."""

    vectors: np.ndarray
    labels: np.ndarray
    num_classes: int
    toward: np.ndarray | None
    device: torch.device | str | None

    @property
    def scale(self) -> float:
        centered = self.vectors - self.vectors.mean(axis=0, dtype=np.float64)
        return float(max((centered**2).sum(axis=1).mean(), 1e-12))  # not 0: all examples may be equal

    def fit(self, rows: np.ndarray, lambdas: Sequence[float], certify: bool = True) -> list[Fit]:
        fitted = fit_logistic(
            self.vectors[rows],
            self.labels[rows],
            self.num_classes,
            lambdas,
            toward=self.toward,
            intercept=self.toward is None,
            max_iterations=_MAX_ITERATIONS,
            tolerance=_TOLERANCE,
            certify=certify,
            device=self.device,
        )
        return [
            Fit(result.weights.astype(np.float32), result.bias.astype(np.float32), result.penalty, None, "given")
            for result in fitted
        ]

    def loss(self, rows: np.ndarray, fit: Fit) -> float:
        """Summed cross-entropy on the selected examples."""
        logits = torch.from_numpy(fit.scores(self.vectors[rows])).double()
        return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(self.labels[rows]), reduction="sum"))


def _folds(labels: np.ndarray, shots: int) -> list[np.ndarray]:
    """The examples held out in turn, bool (n,) per fold; empty if none can be held out."""
    if shots < _MIN_CHOOSING:
        return []
    dealt = places_in_class(labels) % FOLDS
    return [dealt == fold for fold in range(1 if shots >= _ONE_FOLD else FOLDS)]


def _best(losses: Sequence[float]) -> int:
    """Index of the lowest loss, the last one on ties."""
    return len(losses) - 1 - int(np.argmin(np.asarray(losses)[::-1]))


def _hash(seed: int, key: str) -> int:
    text = f"{seed}\n{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8])
