"""The search of a linear probe's penalty: seconds, against scikit-learn's LogisticRegression in the same search.

    python benchmarks/linear_probe.py --peer sklearn --json [--samples 50000] [--width 512] [--classes 10 100]

Features are made with a seed: standard deviations fall by a power law over directions that are turned at random, far
from the origin, as those of image encoders are; the classes overlap. Both sides walk the same lattice, 7 to 15
penalties, and judge by accuracy on the same validation rows; scikit-learn as one uses it, float32 features,
max_iter=1000 and tol=1e-4, each fit from zero. Objectives are computed in float64, of both, at each penalty that both
tried. The classifiers chosen are compared on test rows that neither side saw, enough of them that a tenth of a point
is not chance. With 10 classes it takes ten minutes on two cores, with 100 half an hour: scikit-learn does.
"""

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence

import common
import numpy as np
import torch

from diptych.evaluate.probe.logistic import make_design
from diptych.evaluate.probe.penalty_search import Judged, Search, lattice, search_lattice, search_penalty

NUM_TEST = 100_000
DECAY = 0.9  # of standard deviations, by the direction's rank


@dataclasses.dataclass(frozen=True)
class Rows:
    """Features float32 (N, D) and labels int64 (N,)."""

    features: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Solution:
    """One classifier: weights (C, D), bias (C,), whether its solver says that it converged, and its accuracy."""

    weights: np.ndarray
    bias: np.ndarray
    converged: bool
    accuracy: float


def make_rows(sizes: Sequence[int], width: int, num_classes: int, seed: int = 0) -> list[Rows]:
    """Rows of one distribution, as many sets of them as there are sizes."""
    rng = np.random.default_rng(seed)
    scales = np.arange(1, width + 1) ** -DECAY * np.sqrt(width)
    distance = 3 + 1.2 * np.log10(num_classes)  # between class means, in standard deviations
    means = rng.standard_normal((num_classes, width)) * distance / np.sqrt(2 * width)
    turned = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)
    origin = rng.standard_normal(width).astype(np.float32)
    made = []
    for size in sizes:
        labels = rng.integers(0, num_classes, size)
        features = rng.standard_normal((size, width), dtype=np.float32)
        features = (features + means.astype(np.float32)[labels]) * scales.astype(np.float32) @ turned + origin
        made.append(Rows(features, labels))
    return made


def search_with_diptych(train: Rows, held: Rows, num_classes: int) -> tuple[Search, dict[float, Solution]]:
    """The search of LinearProbe."""
    found: dict[float, Solution] = {}

    def judge(fitted) -> Judged:
        accuracy = float((fitted.scores(held.features).argmax(axis=1) == held.labels).mean())
        found[fitted.penalty] = Solution(fitted.weights, fitted.bias, fitted.converged, accuracy)
        return Judged(accuracy)

    search, _ = search_penalty(make_design(train.features), train.labels, num_classes, judge)
    return search, found


def search_with_sklearn(train: Rows, held: Rows, num_classes: int) -> tuple[Search, dict[float, Solution]]:
    """The same with a LogisticRegression for each penalty."""
    from sklearn.linear_model import LogisticRegression

    found: dict[float, Solution] = {}

    def score(indices: list[int]) -> list[Judged]:
        for penalty in map(lattice, indices):
            fitted = LogisticRegression(C=1 / penalty, max_iter=1000, tol=1e-4).fit(train.features, train.labels)
            accuracy = float(fitted.score(held.features, held.labels))
            converged = int(fitted.n_iter_[0]) < 1000
            found[penalty] = Solution(fitted.coef_, fitted.intercept_, converged, accuracy)
        return [Judged(found[penalty].accuracy) for penalty in map(lattice, indices)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that 1,000 steps are not enough is in `converged`
        return search_lattice(score), found


def accuracy_on(solution: Solution, rows: Rows) -> float:
    """Share of rows that a classifier names rightly."""
    return float(((rows.features @ solution.weights.T + solution.bias).argmax(axis=1) == rows.labels).mean())


def objective(solution: Solution, rows: Rows, penalty: float) -> float:
    """Nats, summed over rows, in float64."""
    total = penalty / 2 * float(np.square(solution.weights).sum())
    for start in range(0, len(rows.labels), 8192):
        part = slice(start, start + 8192)
        scores = rows.features[part].astype(np.float64) @ solution.weights.T + solution.bias
        top = scores.max(axis=1)
        own = scores[np.arange(len(scores)), rows.labels[part]]
        total += float((np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - own).sum())
    return total


def timed(run: Callable[..., tuple[Search, dict[float, Solution]]], *where) -> tuple[float, Search, dict]:
    """Seconds of a search, and what it found."""
    start = time.perf_counter()
    search, found = run(*where)
    return time.perf_counter() - start, search, found


def measure(arguments, num_classes: int) -> dict:
    """One number of classes: both sides once, ours first."""
    sizes = (arguments.samples, arguments.samples // 5, NUM_TEST)
    train, held, test = make_rows(sizes, arguments.width, num_classes)
    ours, search, mine = timed(search_with_diptych, train, held, num_classes)
    print(f"{num_classes} classes, diptych: {ours:.1f} s, {len(mine)} fits, best lambda {search.best.penalty:.3g}")
    row = {"classes": num_classes, "seconds": ours, "fits": len(mine), "lambda": search.best.penalty}
    row["validation_accuracy"] = search.best.score
    row["accuracy"] = accuracy_on(mine[search.best.penalty], test)
    if arguments.peer == "none":
        return row
    peer, other, theirs = timed(search_with_sklearn, train, held, num_classes)
    print(f"{num_classes} classes, sklearn: {peer:.1f} s, {len(theirs)} fits, best lambda {other.best.penalty:.3g}")
    ratios = {}
    for penalty in sorted(set(mine) & set(theirs)):
        pair = [objective(side[penalty], train, penalty) for side in (mine, theirs)]
        ratios[penalty] = pair[0] / pair[1]
        accuracies = f"accuracy {mine[penalty].accuracy:.4f} and {theirs[penalty].accuracy:.4f}"
        ended = "" if theirs[penalty].converged else ", sklearn stopped at 1,000 steps"
        print(f"  lambda {penalty:9.3g}: objective / sklearn's = 1 {pair[0] / pair[1] - 1:+.1e}, {accuracies}{ended}")
    row["peer_validation_accuracy"] = other.best.score
    row["peer_accuracy"] = accuracy_on(theirs[other.best.penalty], test)
    accuracies = f"{row['accuracy']:.4f} and {row['peer_accuracy']:.4f}"
    print(f"  {peer / ours:.1f} times as fast; accuracy on test rows {accuracies}")
    row |= {"peer_seconds": peer, "peer_fits": len(theirs), "peer_lambda": other.best.penalty}
    row |= {"worst_objective_ratio": max(ratios.values()), "speedup": peer / ours}
    return row


def main() -> None:
    parser = common.parser(__doc__, ["sklearn"], repeats=1, alone=True)
    parser.add_argument("--samples", type=int, default=50_000, help="training rows (%(default)s)")
    parser.add_argument("--width", type=int, default=512, help="features per row (%(default)s)")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100], help="numbers of classes (10 100)")
    arguments = parser.parse_args()
    make_design(np.eye(8, dtype=np.float32))  # whatever is slow the first time only
    rows = [measure(arguments, num_classes) for num_classes in arguments.classes]
    fits, seconds = sum(row["fits"] for row in rows), sum(row["seconds"] for row in rows)
    peer = None
    if arguments.peer != "none":
        peer = 60 * sum(row["peer_fits"] for row in rows) / sum(row["peer_seconds"] for row in rows)
    details = {"samples": arguments.samples, "width": arguments.width, "rows": rows, "threads": torch.get_num_threads()}
    common.report(arguments, benchmark="linear_probe", unit="fits/min", ours=60 * fits / seconds, peer=peer, **details)


if __name__ == "__main__":
    main()
