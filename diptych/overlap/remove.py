"""Write training data without the samples that overlap with evaluation sets, and without inner duplicates.

All training images are searched in the evaluation images here, so that every copy of an evaluation image is removed,
not only the nearest one.
"""

import dataclasses
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from diptych.data.exclusions import TRAINING_DATA, ExcludingSource
from diptych.data.shards import write_shards
from diptych.embed.neighbours import nearest_neighbours
from diptych.errors import DataError
from diptych.files import expanded, write_whole, writing
from diptych.overlap.checked_pairs import LEAST_COSINES, check_pairs, checks_of
from diptych.overlap.evaluation_images import Views
from diptych.overlap.find import Found
from diptych.overlap.training_index import TrainingIndex
from diptych.records import Sample

OVERLAP, DUPLICATE = "overlap", "duplicate"


@dataclasses.dataclass(frozen=True, slots=True)
class Removed:
    """A training sample that is removed.

    Attributes:
        train_key: its key.
        reason: "overlap" with an evaluation image, or "duplicate" of another training image.
        dataset, key: the evaluation image, or "" and the key of the training image that stays.
        score: of the pair; of a duplicate that the exact check found, the best of its links to the group.
    """

    train_key: str
    reason: str
    dataset: str
    key: str
    score: float


def overlapping_samples(
    index: TrainingIndex, sets: Mapping[str, Views], thresholds: Mapping[str, float]
) -> Iterator[Removed]:
    """Every training image that overlaps with an evaluation set, in the order of the index.

    Args:
        sets: the evaluation images, by set.
        thresholds: by set; a pair overlaps if its score is at least that of the set.
    """
    for shard in index.store.shards:
        vectors, keys = shard.vectors, shard.keys
        best: dict[int, Removed] = {}
        for dataset, views in sets.items():
            scores, places = _best_evaluation_image(vectors, views)
            for row in np.flatnonzero(scores >= np.float32(thresholds[dataset])).tolist():
                if row not in best or scores[row] > best[row].score:
                    key = views.keys[places[row]]
                    best[row] = Removed(keys[row], OVERLAP, dataset, key, float(scores[row]))
        yield from (best[row] for row in sorted(best))


def checked_samples(found: Found, sets: Mapping[str, Views], thresholds: Mapping[str, float]) -> Iterator[Removed]:
    """As `overlapping_samples`, with the scores of the exact check.

    Checked are the nearest training images of each evaluation image, and the nearest evaluation image of each training
    image.
    """
    index, least = found.index, LEAST_COSINES.get(found.config.detector, -1.0)
    best: dict[int, Removed] = {}
    for searched in found.sets:
        name, views = searched.nearest.dataset, sets[searched.nearest.dataset]
        places, ranks = np.nonzero(searched.neighbours.scores >= np.float32(least))
        rows = [searched.neighbours.rows[places, ranks]]
        keys = [views.keys[place] for place in places.tolist()]
        for start, shard in zip(index.store.starts.tolist(), index.store.shards, strict=False):
            scores, nearest = _best_evaluation_image(shard.vectors, views)
            chosen = np.flatnonzero(scores >= np.float32(least))
            rows.append(chosen + start)
            keys += [views.keys[place] for place in nearest[chosen].tolist()]
        all_rows = np.concatenate(rows)
        train_keys, shards = index.store.keys(all_rows), index.source_shards(all_rows).tolist()
        pairs = dict(zip(zip(keys, train_keys, strict=True), shards, strict=True))
        path, num_processes = checks_of(found.config.folder, name), found.config.num_processes
        checked = check_pairs(pairs, searched.images.source, index.source, path, num_processes)
        for row, key, train_key in zip(all_rows.tolist(), keys, train_keys, strict=True):
            score = checked[key, train_key]
            if np.float32(score) >= np.float32(thresholds[name]) and (row not in best or score > best[row].score):
                best[row] = Removed(train_key, OVERLAP, name, key, score)
    yield from (best[row] for row in sorted(best))


def _best_evaluation_image(vectors: np.ndarray, views: Views) -> tuple[np.ndarray, np.ndarray]:
    """The largest score (n,) of each training image over all evaluation images and views, and that image's place."""
    found = [nearest_neighbours(vectors, view, 1) for view in views.vectors]
    scores = np.stack([neighbours.scores[:, 0] for neighbours in found])
    view = scores.argmax(axis=0)
    rows = np.arange(len(view))
    return scores[view, rows], np.stack([neighbours.rows[:, 0] for neighbours in found])[view, rows]


def write_removed(removed: Sequence[Removed], path: str | Path, training_data: str) -> None:
    """Write the list of removed samples, which `diptych train --exclude` takes.

    Args:
        training_data: fingerprint of the training source.
    Raises:
        DataError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {field.name: [getattr(row, field.name) for row in removed] for field in dataclasses.fields(Removed)}
    kinds = {name: pa.float32() if name == "score" else pa.string() for name in columns}
    table = pa.table({name: pa.array(values, kinds[name]) for name, values in columns.items()})
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({TRAINING_DATA: training_data.encode()}), buffer)
    with writing(Path(path)):
        write_whole(expanded(path), buffer.getvalue())


@dataclasses.dataclass
class Datasheet:
    """What was removed from training data and why; written as datasheet.json beside the shards.

    Attributes:
        training_data: paths of the data. detector: the detector's name and fingerprint.
        thresholds: by evaluation set. decided_by: how the thresholds were chosen.
        evaluation_sets: paths of the sets. inner: the lowest score of inner duplicates; None if they are kept.
        made_by: command, commit and machine.
        num_samples: samples read. num_kept: samples written. num_broken: unreadable samples, which are left out, too.
        num_overlapping: removed samples by evaluation set. num_duplicates: inner duplicates that were removed.
    """

    training_data: Sequence[str]
    detector: str
    thresholds: Mapping[str, float]
    decided_by: Mapping[str, str]
    evaluation_sets: Sequence[str] = ()
    inner: float | None = None
    made_by: Mapping[str, str] = dataclasses.field(default_factory=dict)
    num_samples: int = 0
    num_kept: int = 0
    num_broken: int = 0
    num_overlapping: Mapping[str, int] = dataclasses.field(default_factory=dict)
    num_duplicates: int = 0


def write_clean(
    index: TrainingIndex, removed: Sequence[Removed], folder: str | Path, sheet: Datasheet, *, shard_size: int = 5000
) -> Datasheet:
    """Write the training data without the removed samples as tar shards, with removed.parquet and datasheet.json.

    Args:
        folder: must not contain shards.
        sheet: the facts that the caller knows; the counts are filled in.
    Returns:
        The complete datasheet.
    Raises:
        DataError: a sample cannot be stored, or the disk is full.
    """
    folder = expanded(folder)
    clean = ExcludingSource(index.source, frozenset(row.train_key for row in removed))
    counts = {"kept": 0, "broken": 0}

    def samples() -> Iterator[Sample]:
        for shard in range(len(clean.shards)):
            readable = index.keys_in(shard)
            for item in clean.read(shard):
                is_readable = isinstance(item, Sample) and item.key in readable
                counts["kept" if is_readable else "broken"] += 1
                if isinstance(item, Sample) and is_readable:
                    yield item

    write_shards(samples(), folder, shard_size)
    if not counts["kept"]:
        raise DataError(f"{folder}: all training samples were removed or broken; check the thresholds")
    overlapping = [row.dataset for row in removed if row.reason == OVERLAP]
    sheet = dataclasses.replace(
        sheet,
        num_samples=counts["kept"] + counts["broken"] + len(removed),
        num_kept=counts["kept"],
        num_broken=counts["broken"],
        num_overlapping={name: overlapping.count(name) for name in sheet.thresholds},
        num_duplicates=len(removed) - len(overlapping),
    )
    write_removed(removed, folder / "removed.parquet", index.source.fingerprint)
    content = json.dumps(dataclasses.asdict(sheet), indent=1) + "\n"
    with writing(folder / "datasheet.json"):
        write_whole(folder / "datasheet.json", content.encode())
    return sheet
