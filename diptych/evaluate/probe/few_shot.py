"""Few-shot classifiers on frozen vectors: seeded, nested draws, and three ways to learn from them.

Three classifiers, all linear:

- "probe": L2-regularized logistic regression on features, as the linear probe is.
- "zero-shot-initialised": logistic regression on embeddings whose penalty pulls towards the zero-shot classifier (class
  embeddings times logit_scale) and not towards 0. It has no bias, as the zero-shot classifier has none, so that with a
  growing penalty it becomes the zero-shot classifier. The paper tried it and dropped it.
- "interpolated": (1 - share) of the zero-shot weights and share of those of a probe on embeddings.

The paper does not say how it chose the penalty with few examples. Here, with k examples per class:

- k >= 4: among PENALTIES by cross-validation inside the draw: each class's examples are dealt in turn to FOLDS folds,
  and the penalty with the lowest cross-entropy on held-out examples wins, the larger of equal ones. From k = 16 on one
  fold alone is held out: there are enough examples in it. Then all k examples are fitted.
- k < 4: no example can be spared, so the penalty is FIXED_PENALTY and the share FIXED_SHARE, round numbers near what is
  chosen where something can be.

The test split has no part in any choice: what is not drawn is not seen.

Penalties are relative: lambda is the penalty times the mean squared distance of the examples from their mean, so that
the choice does not change with the units of the vectors. The share is chosen among SHARES in the same way and on the
same folds, after the probe's penalty.

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

_MAX_ITERATIONS, _TOLERANCE = 300, 1e-5  # relative excess of the objective: far below the spread of the draws
_MIN_CHOOSING, _ONE_FOLD = 4, 16  # examples per class from which on something is chosen, and on one fold alone


@dataclasses.dataclass(frozen=True)
class Fit:
    """A linear classifier that was learned from few examples.

    Attributes:
        weights: float32 (C, D).
        bias: float32 (C,).
        penalty: lambda on the summed loss, of the probe in it.
        share: of the probe's weights, where there is a zero-shot part; None elsewhere.
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
            ShapeError: the vectors are of another length.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.weights.shape[1]:
            raise ShapeError(f"vectors {vectors.shape} do not fit weights {self.weights.shape}")
        return np.asarray(vectors, np.float32) @ self.weights.T + self.bias


def draw_ranks(keys: Sequence[str], labels: np.ndarray, seed: int) -> np.ndarray:
    """Each sample's place in its class's queue for being drawn, int64 (N,): the k-shot draw is `ranks < k`.

    The queue is in the order of a hash of the seed and the sample's key. So it does not depend on the order of the
    files, a sample keeps its place towards the others when some are added, and every draw holds the smaller ones.

    Args:
        keys: N sample keys; of equal ones in a class the first goes first.
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
    """Rows of the k-shot draw, int64: k of each class or all it has, sorted by class and then by place in the queue."""
    rows = np.flatnonzero(np.asarray(ranks) < shots)
    return rows[np.lexsort((ranks[rows], np.asarray(labels)[rows]))]


def places_in_class(labels: np.ndarray) -> np.ndarray:
    """How many earlier samples have a sample's own label, int64 (N,)."""
    order = np.argsort(labels, kind="stable")
    inside = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    places = np.empty(len(labels), np.int64)
    places[order] = inside
    return places


def possible_shots(labels: np.ndarray, wanted: Sequence[int] = SHOTS) -> tuple[int, ...]:
    """Of the wanted examples per class those that every class has; at least the smallest wanted one.

    A k that some class cannot fill would be a k for the others alone, and the curve's steps would no longer be
    doublings. So the smallest class decides how far the curve goes (the paper: "where possible"); classes without any
    example do not count. `drawn_rows` itself takes all that a smaller class has.

    Raises:
        DataError: fewer than two classes have an example.
    """
    sizes = np.bincount(np.asarray(labels, np.int64)) if len(labels) else np.zeros(0, np.int64)
    sizes = sizes[sizes > 0]
    if len(sizes) < 2:
        raise DataError(f"the training examples are of {len(sizes)} class; few-shot learning needs two or more")
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
    """Learn one of the CLASSIFIERS from a draw; see the module for how penalty and share are chosen.

    Args:
        classifier: one of CLASSIFIERS.
        vectors: float (n, D), the drawn examples: features for "probe", else embeddings.
        labels: int (n,), each class's examples in the order of their draw (`drawn_rows` gives it).
        num_classes: C.
        shots: k, which decides how much can be held out.
        zero_shot: float (C, D), class embeddings times logit_scale; for the two that begin there.
        device: where to fit; None leaves it to `fit_logistic`.
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
        lambdas = [one * draw.scale for one in PENALTIES]
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
        share = SHARES[len(SHARES) - 1 - _best(losses[::-1])]  # of equal ones the smaller share of the probe
    mixed = interpolated(start, final, share)
    return dataclasses.replace(mixed, choice=choice)


def interpolated(zero_shot: np.ndarray, probe: Fitted | Fit, share: float) -> Fit:
    """The classifier between zero-shot (share 0) and a probe on the same vectors (share 1); both ends are exact.

    Args:
        zero_shot: float (C, D), class embeddings times logit_scale; it has no bias.
        probe: weights (C, D) and bias (C,).
        share: of the probe.
    """
    weights = (1 - share) * np.asarray(zero_shot, np.float32) + share * probe.weights.astype(np.float32)
    return Fit(weights, share * probe.bias.astype(np.float32), probe.penalty, share, "given")


@dataclasses.dataclass(frozen=True)
class _Draw:
    """Drawn examples and how they are fitted; `scale` is the mean squared distance of the examples from their mean."""

    vectors: np.ndarray
    labels: np.ndarray
    num_classes: int
    toward: np.ndarray | None
    device: torch.device | str | None

    @property
    def scale(self) -> float:
        centred = self.vectors - self.vectors.mean(axis=0, dtype=np.float64)
        return float(max((centred**2).sum(axis=1).mean(), 1e-12))  # all examples may be equal

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
            Fit(one.weights.astype(np.float32), one.bias.astype(np.float32), one.penalty, None, "given")
            for one in fitted
        ]

    def loss(self, rows: np.ndarray, fit: Fit) -> float:
        """Summed cross-entropy of some of the examples."""
        logits = torch.from_numpy(fit.scores(self.vectors[rows])).double()
        return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(self.labels[rows]), reduction="sum"))


def _folds(labels: np.ndarray, shots: int) -> list[np.ndarray]:
    """What is held out in turn, bool (n,) each; empty where no example can be spared."""
    if shots < _MIN_CHOOSING:
        return []
    dealt = places_in_class(labels) % FOLDS
    return [dealt == fold for fold in range(1 if shots >= _ONE_FOLD else FOLDS)]


def _best(losses: Sequence[float]) -> int:
    """Place of the lowest loss, of equal ones the last."""
    return len(losses) - 1 - int(np.argmin(np.asarray(losses)[::-1]))


def _hash(seed: int, key: str) -> int:
    text = f"{seed}\n{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8])
