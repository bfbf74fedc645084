"""Search evaluation images in a store of training images: exact, part by part, restartable.

    nearest = search_store([vectors, vectors_of_mirrored], train, "OUT/search/cifar10", k=5)
    find_copies(image, train, encoder=detector)

Each image is searched in several variants, as it is and mirrored. The score of a pair is the largest over the variants.
Scores are exact and equal scores are ordered by row number (embed/neighbours.py), so neither the number of processes,
nor the parts, nor an interruption changes the result.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from diptych.embed.encoder import Encoder
from diptych.embed.executor import Executor, map_shards
from diptych.embed.neighbours import Neighbours, nearest_neighbours
from diptych.embed.store import Store
from diptych.embed.store_origin import encoder_manifest
from diptych.errors import ConfigError, DataError, ShapeError
from diptych.files import expanded, new_digest, remove_unfinished
from diptych.overlap.search_parts import (
    SearchManifest,
    finished_parts,
    open_search,
    part_folder,
    write_part,
)
from diptych.progress import progress_bar

ROWS_PER_PART = 4 * 65_536


def search_store(
    queries: Sequence[np.ndarray],
    train: Store,
    folder: str | Path,
    *,
    k: int = 5,
    num_processes: int = 1,
    executor: Executor = map_shards,
    precision: str = "fp32",
    rows_per_part: int = ROWS_PER_PART,
) -> Neighbours:
    """The k training images with the largest score for each query. Call it again to resume an interrupted run.

    Shards that a finished part covers are not searched again; so a store to which shards were added is searched in
    these alone. A killed run loses at most the parts in hand. Memory holds the queries, one tile and the result.

    Args:
        queries: V arrays (Q, E), variants of the same Q images.
        train: store of the training images.
        folder: folder of the search; created if it is missing.
        k: neighbours per query; K = min(k, rows of the store).
        num_processes: each searches one part at a time with one torch thread.
        executor: maps the search over the parts.
        precision: how candidates are selected, "fp32" or "int8"; all are scored exactly, so the result is the same.
        rows_per_part: consecutive shards are joined until a part has so many rows; it does not change the result.
    Returns:
        rows (Q, K) and scores (Q, K); each row occurs once per query.
    Raises:
        ShapeError: the variants differ in shape, or in width from the store.
        ConfigError: the folder holds a search with other settings (the message names them), or a setting is wrong.
        DataError: the folder holds something else, or cannot be written; a shard is damaged.
        InputError: a vector is not finite.
    """
    stacked, num_variants = _stacked(queries, train.manifest.dim)
    num_queries, folder = len(stacked) // num_variants, expanded(folder)
    for name, number in (("k", k), ("rows_per_part", rows_per_part), ("num_processes", num_processes)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise ConfigError(f"{name} must be a whole number, at least 1, not {number!r:.40}")
    nearest_neighbours(stacked[:1], np.zeros((1, train.manifest.dim), np.float32), 1, selection=precision)  # checks it
    open_search(folder, _manifest(stacked, num_variants, int(k), train))
    search = _SearchPart(stacked, num_variants, int(k), train, folder, precision)
    parts = list(finished_parts(folder, train, num_queries))
    covered = {shard for part in parts for shard in part.shards}
    pending = list(_grouped(train, covered, rows_per_part))
    total = sum(train.shards[number].num_rows for group in pending for number in group)
    try:
        done = executor(search, pending, is_finished=search.is_finished, num_processes=num_processes)
        for _ in progress_bar(done, "search (training images)", total, lambda result: result[1]):
            pass
    finally:  # an error kills the other processes while they write
        remove_unfinished(folder)
    best = Neighbours(np.empty((num_queries, 0), np.int64), np.empty((num_queries, 0), np.float32))
    num_rows = 0
    for part in finished_parts(folder, train, num_queries):
        best = best_of([best, part.neighbours(train)], int(k))
        num_rows += sum(train.shards[number].num_rows for number in part.shards)
    if num_rows != len(train):
        raise DataError(f"parts of {folder} were deleted or damaged during the search; search again")
    return best


def find_copies(
    query: np.ndarray | Image.Image, store: Store, *, encoder: Encoder | None = None, k: int = 5
) -> Neighbours:
    """The k images of a store that are most similar to one image: rows (1, K) and scores (1, K).

    Args:
        query: vector (E,), vectors (V, E) of variants of one image, or the image. An image is encoded as it is and
            mirrored.
        store: store of the detector's vectors.
        encoder: the detector; needed for an image.
        k: neighbours; K = min(k, rows of the store).
    Raises:
        ConfigError: an image without an encoder, or the store was made by another encoder.
        ShapeError: the widths differ.
    """
    if isinstance(query, Image.Image):
        if encoder is None:
            raise ConfigError("an image needs encoder=, the detector that made the store; or pass its vectors")
        about = encoder_manifest(encoder)
        _check_same(
            (about["model"], about["model_fingerprint"], store.manifest.kind, store.manifest.dim), store, "the encoder"
        )
        image = query.convert("RGB")
        query = encoder.encode_images([image, ImageOps.mirror(image)]).cpu().numpy()
    variants = np.atleast_2d(query)
    if variants.ndim != 2:
        raise ShapeError(f"vectors of shape {variants.shape} do not fit: (E,) or (V, E) is needed")
    return _by_query(nearest_neighbours(variants, store.vector_shards(), k), len(variants))


def check_same_detector(first: Store, second: Store) -> None:
    """Check that the vectors of two stores can be compared.

    Raises:
        ConfigError: another detector, or another version of it, made one of them; the message names both.
    """
    about = first.manifest
    _check_same((about.model, about.model_fingerprint, about.kind, about.dim), second, str(first.folder))


def best_of(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """The k best of several results for the same queries. A row that occurs twice counts once, with its larger score.

    Args:
        parts: rows (Q, K_i) and scores (Q, K_i).
    Returns:
        rows (Q, K), best first; equal scores are ordered by row. K = min(k, distinct rows of a query), the smallest
        of all queries.
    """
    rows = np.concatenate([part.rows for part in parts], axis=1)
    scores = np.concatenate([part.scores for part in parts], axis=1)
    order = np.lexsort((-scores, rows), axis=1)
    rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    repeated = np.zeros(rows.shape, bool)
    repeated[:, 1:] = rows[:, 1:] == rows[:, :-1]
    order = np.lexsort((rows, -scores, repeated), axis=1)
    kept = min(k, int((~repeated).sum(axis=1).min(initial=rows.shape[1])))
    order = order[:, :kept]
    return Neighbours(np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1))


@dataclasses.dataclass(frozen=True, eq=False)
class _SearchPart:
    """Searches one part, a tuple of positions of shards, and writes it. Executors pass it to their processes."""

    queries: np.ndarray
    num_variants: int
    k: int
    store: Store
    folder: Path
    precision: str

    def is_finished(self, part: tuple[int, ...]) -> bool:
        return (part_folder(self.folder, [self.store.shards[number] for number in part]) / "part.json").exists()

    def __call__(self, part: tuple[int, ...]) -> int:
        shards = [self.store.shards[number] for number in part]
        vectors = (shard.vectors for shard in shards)
        of_variants = nearest_neighbours(self.queries, vectors, self.k, selection=self.precision)
        write_part(self.folder, shards, _by_query(of_variants, self.num_variants))
        return sum(shard.num_rows for shard in shards)


def _by_query(of_variants: Neighbours, num_variants: int) -> Neighbours:
    """The best of each query's variants, from the best of V * Q vectors, all first variants before all second ones.

    The best k over the variants are among the best k of one of them: whatever is better than an item for the variant
    that gives its score is better over all variants, too.
    """
    per_variant = zip(np.split(of_variants.rows, num_variants), np.split(of_variants.scores, num_variants), strict=True)
    return best_of([Neighbours(rows, scores) for rows, scores in per_variant], of_variants.rows.shape[1])


def _stacked(queries: Sequence[np.ndarray], dim: int) -> tuple[np.ndarray, int]:
    shapes = [np.shape(variant) for variant in queries]
    if not shapes or any(shape != shapes[0] for shape in shapes) or len(shapes[0]) != 2 or shapes[0][1] != dim:
        raise ShapeError(f"queries of shapes {shapes} do not fit: one or more arrays of the same shape (Q, {dim})")
    return np.concatenate([np.asarray(variant, np.float32) for variant in queries]), len(shapes)


def _manifest(stacked: np.ndarray, num_variants: int, k: int, train: Store) -> SearchManifest:
    digest = new_digest()
    digest.update(np.ascontiguousarray(stacked, "<f4").data)
    return SearchManifest(
        queries=digest.hexdigest(),
        num_queries=len(stacked) // num_variants,
        num_variants=num_variants,
        k=k,
        train=train.manifest.fingerprint,
        model=train.manifest.model,
        model_fingerprint=train.manifest.model_fingerprint,
    )


def _grouped(store: Store, covered: set[int], rows_per_part: int) -> Iterator[tuple[int, ...]]:
    """Consecutive shards that are not covered, joined to parts of at most `rows_per_part` rows, or of one shard."""
    group: list[int] = []
    num_rows = 0
    for number, shard in enumerate(store.shards):
        ends = number in covered or num_rows + shard.num_rows > rows_per_part
        if group and ends:
            yield tuple(group)
            group, num_rows = [], 0
        if number not in covered and shard.num_rows:
            group.append(number)
            num_rows += shard.num_rows
    if group:
        yield tuple(group)


def _check_same(ours: tuple[str, str, str, int], store: Store, where: str) -> None:
    about = store.manifest
    theirs = (about.model, about.model_fingerprint, about.kind, about.dim)
    if ours[1:] != theirs[1:]:
        names = [
            f"{name} {mark[:12] or 'without a fingerprint'} ({kind}, {dim}-d)"
            for name, mark, kind, dim in (ours, theirs)
        ]
        raise ConfigError(
            f"{where} has vectors of {names[0]}, but {store.folder} has those of {names[1]}: they cannot be compared; "
            "embed one of them again, with the detector of the other"
        )
    if not ours[1]:
        raise ConfigError(
            f"{ours[0]} has no image_fingerprint, so it is unknown whether {where} and {store.folder} hold vectors of "
            "the same detector; define image_fingerprint and embed them again"
        )
