"""A benchmark of copy detectors, made by seeded rules from any photographs: does a copy find its original?

Half of the queried photographs are in the database and half are not, so that a detector that always answers is wrong
half of the time. Each query is a copy (unseen_copies.py) of one photograph; a detector answers with the nearest image
of the database and its cosine. At a threshold, an answer at or above it is right if it is the query's original, and
wrong otherwise: another image, or any image where the original is absent. Precision is the share of right answers,
recall the share of right answers among the queries whose original is present.

The database also holds distractors: other photographs, of the same classes where classes are known, and images that
look alike by nature (distractors.py).
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from diptych.embed.encoder import Encoder
from diptych.embed.neighbours import nearest_neighbours
from diptych.errors import ConfigError
from diptych.overlap.distractors import DISTRACTORS, make_distractors
from diptych.overlap.exact_check import CERTAIN, check_pair
from diptych.overlap.image_views import USUAL_VIEWS, VIEWS
from diptych.overlap.score_normalisation import ScoreNormalisation
from diptych.overlap.unseen_copies import SEVERITIES, available_rules, make_copy

_BATCH = 256
NUM_CANDIDATES = 5
"""Nearest images of a query that the exact check looks at."""
HARD_RULE = "none"
"""The rule of hard queries: distractors that are no copies of anything in the database."""


@dataclasses.dataclass(frozen=True, eq=False)
class Photo:
    """A photograph of the benchmark.

    Attributes:
        key: unique name; it seeds the copies.
        image: RGB.
        label: class index; None if unknown.
        kind: "photo", or the kind of distractor.
    """

    key: str
    image: Image.Image
    label: int | None = None
    kind: str = "photo"


@dataclasses.dataclass(frozen=True, eq=False)
class CopyBenchmark:
    """Queried photographs and the database that they are searched in.

    Attributes:
        queried: P photographs whose copies are the queries.
        database: M images, all different.
        original: int64 (P,), each queried photograph's row in the database; -1 where it is absent.
        hard: images that are no copies of anything in the database, but resemble some.
    """

    queried: tuple[Photo, ...]
    database: tuple[Photo, ...]
    original: np.ndarray
    hard: tuple[Photo, ...] = ()

    @property
    def same_class(self) -> float | None:
        """Mean number of other database images of a queried photograph's class; None without labels."""
        labels = [photo.label for photo in self.database if photo.label is not None]
        asked = [photo.label for photo in self.queried if photo.label is not None]
        if not labels or len(asked) < len(self.queried):
            return None
        counts = np.bincount(labels, minlength=max(asked) + 1)
        return float(np.mean(counts[asked] - (self.original >= 0)))


@dataclasses.dataclass(frozen=True)
class Contender:
    """A detector in the benchmark.

    Attributes:
        name: in the results.
        encoder: only its `encode_images` is used.
        views: names of views (image_views.py); queries are encoded in each, database images once as they are.
        normalisation: lowers scores by a background; None for plain cosines.
    """

    name: str
    encoder: Encoder
    views: tuple[str, ...] = USUAL_VIEWS
    normalisation: ScoreNormalisation | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """One detector's answers to all queries, one row each.

    Attributes:
        rule: (Q,) names of copy rules; HARD_RULE for hard queries.
        severity: int64 (Q,), 0 for hard queries.
        photo: int64 (Q,), row in `queried`, or in `hard` for hard queries.
        present: bool (Q,), whether the original is in the database.
        nearest: int64 (Q,), row of the answer in the database.
        right: bool (Q,), whether it is the original.
        score: float64 (Q,).
        candidates: int64 (Q, K), rows of the nearest database images over all views, best first; a row may come twice.
    """

    rule: np.ndarray
    severity: np.ndarray
    photo: np.ndarray
    present: np.ndarray
    nearest: np.ndarray
    right: np.ndarray
    score: np.ndarray
    candidates: np.ndarray

    def where(self, rows: np.ndarray) -> "Answers":
        """Some of the rows, by bool (Q,) or indices."""
        return Answers(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})

    def of(self, rules: Sequence[str] | None = None, severity: int | None = None) -> "Answers":
        """The answers to copies by some rules, or of one severity; hard queries never."""
        chosen = self.rule != HARD_RULE
        if rules is not None:
            chosen = chosen & np.isin(self.rule, rules)
        return self.where(chosen if severity is None else chosen & (self.severity == severity))


def build_benchmark(
    photos: Sequence[Photo],
    others: Sequence[Photo] = (),
    *,
    num_queried: int = 200,
    num_distractors: int = 60,
    size: int = 128,
    seed: int = 0,
) -> CopyBenchmark:
    """Draw the queried photographs and make the database.

    Args:
        photos: different photographs; those that are not drawn are distractors in the database.
        others: further photographs for the database, such as more of the same classes.
        num_queried: photographs whose copies are queries; every second one is in the database.
        num_distractors: synthetic distractors of each kind in the database, and as many hard queries.
        size: side of synthetic distractors.
        seed: of the draw and of the distractors.
    Raises:
        ConfigError: there are fewer photographs than `num_queried`, it is below 4, or two share a key.
    """
    keys = [photo.key for photo in (*photos, *others)]
    if len(set(keys)) < len(keys):
        raise ConfigError(f"{len(keys) - len(set(keys))} photographs share a key with another; keys seed the copies")
    if not 4 <= num_queried <= len(photos):
        raise ConfigError(f"num_queried is {num_queried}; it must be in 4 ... {len(photos)}, the photographs")
    drawn = np.random.default_rng(seed).permutation(len(photos))
    queried = tuple(photos[row] for row in drawn[:num_queried])
    database = [*queried[::2], *(photos[row] for row in drawn[num_queried:]), *others]
    hard = []
    for kind in DISTRACTORS:
        named = make_distractors(kind, 2 * num_distractors, size, seed=seed)
        made = [Photo(key, image, kind=kind) for key, image in named]
        database += made[::2]
        hard += made[1::2]
    original = np.full(num_queried, -1)
    original[::2] = np.arange(len(queried[::2]))
    return CopyBenchmark(queried, tuple(database), original, tuple(hard))


def answer_copies(
    benchmark: CopyBenchmark,
    contenders: Sequence[Contender],
    *,
    rules: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    num_candidates: int = NUM_CANDIDATES,
    seed: int = 0,
    progress: Callable[[str], None] = lambda condition: None,
) -> dict[str, Answers]:
    """Search the copies of all queried photographs, and the hard queries, with each contender.

    Copies are made once, and all contenders see the same ones.

    Args:
        rules: names of copy rules; None for all that this installation can apply.
        severities: of the copies.
        num_candidates: nearest images of each view to keep, for `check_answers`.
        seed: of the copies.
        progress: called with the name of each condition before it is searched.
    Returns:
        name of the contender -> its answers.
    """
    if len({contender.name for contender in contenders}) < len(contenders):
        raise ConfigError("two contenders have the same name")
    database = _database_vectors(contenders, [photo.image for photo in benchmark.database])
    parts: dict[str, list[Answers]] = {contender.name: [] for contender in contenders}
    conditions = [(rule, severity) for rule in rules or available_rules() for severity in severities]
    for rule, severity in [*conditions, (HARD_RULE, 0)]:
        progress(f"{rule} {severity}")
        hard = rule == HARD_RULE
        images = [photo.image for photo in benchmark.hard] if hard else list(copies(benchmark, rule, severity, seed))
        if not images:
            continue
        original = np.full(len(images), -1) if hard else benchmark.original
        seen: dict[tuple[int, str], np.ndarray] = {}  # contenders of one encoder share vectors
        for contender in contenders:
            candidates, score = _nearest(contender, images, database[contender.name], seen, num_candidates)
            nearest = candidates[:, 0]
            parts[contender.name].append(
                Answers(
                    np.full(len(images), rule),
                    np.full(len(images), severity),
                    np.arange(len(images)),
                    original >= 0,
                    nearest,
                    (nearest == original) & (original >= 0),
                    score,
                    candidates,
                )
            )
    return {name: _joined(of_name) for name, of_name in parts.items()}


def copies(benchmark: CopyBenchmark, rule: str, severity: int, seed: int = 0) -> Iterator[Image.Image]:
    """The copies of all queried photographs by one rule."""
    for photo in benchmark.queried:
        yield make_copy(photo.image, rule, severity, photo.key, seed=seed)


def check_answers(
    benchmark: CopyBenchmark, answers: Answers, *, num_candidates: int = NUM_CANDIDATES, seed: int = 0
) -> Answers:
    """Check the candidates of each query exactly (exact_check.py); the best one is the answer, with the check's score.

    Candidates are checked from the nearest on, up to one that is certainly a copy. Each check takes about 0.1 s.

    Args:
        answers: of `answer_copies` with the same benchmark and seed.
        num_candidates: most candidates checked of each query.
    """
    scores, nearest = np.full(len(answers.score), -np.inf), answers.nearest.copy()
    for row in range(len(scores)):
        rule, severity = str(answers.rule[row]), int(answers.severity[row])
        photo = (benchmark.hard if rule == HARD_RULE else benchmark.queried)[answers.photo[row]]
        query = photo.image if rule == HARD_RULE else make_copy(photo.image, rule, severity, photo.key, seed=seed)
        for candidate in list(dict.fromkeys(answers.candidates[row].tolist()))[:num_candidates]:
            score = check_pair(query, benchmark.database[candidate].image).score
            if score > scores[row]:
                scores[row], nearest[row] = score, candidate
            if score >= CERTAIN:
                break
    original = np.where(answers.present, benchmark.original[np.where(answers.present, answers.photo, 0)], -1)
    right = answers.present & (nearest == original)
    return dataclasses.replace(answers, score=scores, nearest=nearest, right=right)


def _joined(parts: Sequence[Answers]) -> Answers:
    columns = [field.name for field in dataclasses.fields(Answers)]
    return Answers(**{column: np.concatenate([getattr(part, column) for part in parts]) for column in columns})


def _database_vectors(contenders: Sequence[Contender], images: Sequence[Image.Image]) -> Mapping[str, np.ndarray]:
    plain: dict[int, np.ndarray] = {}
    vectors = {}
    for contender in contenders:
        key = id(contender.encoder)
        if key not in plain:
            plain[key] = encode_in_batches(contender.encoder, images)
        rows = plain[key]
        vectors[contender.name] = contender.normalisation.augment_references(rows) if contender.normalisation else rows
    return vectors


def _nearest(
    contender: Contender,
    images: Sequence[Image.Image],
    database: np.ndarray,
    seen: dict[tuple[int, str], np.ndarray],
    num_candidates: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest database rows over all views, int64 (Q, K), best first, and the best scores, float64 (Q,)."""
    found = []
    for view in contender.views:
        key = (id(contender.encoder), view)
        if key not in seen:
            seen[key] = encode_in_batches(contender.encoder, [VIEWS[view](image) for image in images])
        queries = contender.normalisation.augment_queries(seen[key]) if contender.normalisation else seen[key]
        found.append(nearest_neighbours(queries, database, num_candidates))
    scores = np.concatenate([neighbours.scores for neighbours in found], axis=1)
    rows = np.concatenate([neighbours.rows for neighbours in found], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    best = np.take_along_axis(scores, order[:, :1], axis=1)[:, 0].astype(np.float64)
    return np.take_along_axis(rows, order, axis=1), best


def encode_in_batches(encoder: Encoder, images: Sequence[Image.Image]) -> np.ndarray:
    """Vectors of images, float32 (N, E)."""
    parts = [encoder.encode_images(images[start : start + _BATCH]).numpy() for start in range(0, len(images), _BATCH)]
    return np.concatenate(parts)
