"""Country211: photos that know where they were taken, drawn by country."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.data.cards.archives.class_folders import COUNTRY_CODES
from diptych.data.cards.archives.reading import inside, shuffled
from diptych.data.cards.derived import Draft, draw
from diptych.data.cards.prompts import get_prompts
from diptych.data.samples import read_file
from diptych.errors import DataError

COUNTRY_SIZES = {"train": 150, "val": 50, "test": 100}
_PHOTOS_PER_COUNTRY = sum(COUNTRY_SIZES.values())


def country211(source: Path, seed: int) -> Draft:
    """150 + 50 + 100 photos of each country that has at least 300.

    Args:
        source: a .csv or .parquet with the columns path (relative to its folder), latitude, longitude and country (an
            ISO 3166 code of two letters). Rows without a place on the globe, countries outside of the 211, and files
            that are missing or empty are left out and counted.
    Raises:
        DataError: a column is missing, or fewer than two countries have 300 photos.
    """
    left_out = {"without a place": 0, "of another country": 0, "missing or empty files": 0}
    photos: dict[str, set[str]] = {}
    for row in _rows(source, ("path", "latitude", "longitude", "country")):
        code = str(row["country"] or "").strip().upper()
        if not _on_the_globe(row["latitude"], row["longitude"]):
            left_out["without a place"] += 1
        elif code not in COUNTRY_CODES:
            left_out["of another country"] += 1
        elif (kept := photos.setdefault(code, set())) is not None:
            kept.add(inside(str(row["path"]), str(source)))
            if len(kept) > 8 * _PHOTOS_PER_COUNTRY:  # the first in the order of drawing are enough
                photos[code] = set(shuffled(kept, seed)[: 4 * _PHOTOS_PER_COUNTRY])
    base, names = source.parent, get_prompts("Country211").class_names
    chosen: dict[str, list[str]] = {}
    for code in sorted(photos):
        good = [name for name in photos[code] if _has_content(base / name)]
        left_out["missing or empty files"] += len(photos[code]) - len(good)
        if len(good) >= _PHOTOS_PER_COUNTRY:
            chosen[code] = good
    if len(chosen) < 2:
        raise DataError(
            f"{source} has {len(chosen)} countries with {_PHOTOS_PER_COUNTRY} photos; two or more are needed"
        )
    splits: dict[str, list[tuple[str, int]]] = {split: [] for split in COUNTRY_SIZES}
    for label, code in enumerate(chosen):
        for split, drawn in draw(chosen[code], COUNTRY_SIZES, seed, code).items():
            splits[split] += [(name, label) for name in drawn]
    class_names = tuple(names[COUNTRY_CODES.index(code)][0] for code in chosen)
    return Draft(class_names, splits, lambda name: read_file(base / name), {"left out": left_out, "codes": [*chosen]})


def _rows(source: Path, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The rows of a .csv or .parquet, a few at a time in memory."""
    if source.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(source) as file:
                _check_columns(source, file.schema_arrow.names, columns)
                for batch in file.iter_batches(10_000, columns=list(columns)):
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot read {source}: {str(error)[:200]}") from None
        return
    try:
        with source.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text)
            _check_columns(source, reader.fieldnames or (), columns)
            yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from None


def _check_columns(source: Path, found: Sequence[str], wanted: Sequence[str]) -> None:
    if lacking := [name for name in wanted if name not in found]:
        raise DataError(f"{source} has no column {', '.join(lacking)}; it has {', '.join(found)[:200]}")


def _on_the_globe(latitude: Any, longitude: Any) -> bool:
    try:
        return abs(float(latitude)) <= 90 and abs(float(longitude)) <= 180
    except (TypeError, ValueError):
        return False


def _has_content(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0
    except OSError:
        return False
