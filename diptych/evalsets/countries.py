"""Country211: geotagged photos, sampled by country."""

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.data.parquet_process import ParquetError, describe, read_batches
from diptych.data.samples import read_file
from diptych.errors import DataError
from diptych.evalsets.archive_class_names import COUNTRY_CODES
from diptych.evalsets.archives.reading import inside, shuffled
from diptych.evalsets.derived import Draft, draw
from diptych.evalsets.prompts import get_prompts

logger = logging.getLogger(__name__)

COUNTRY_SIZES = {"train": 150, "val": 50, "test": 100}
_PHOTOS_PER_COUNTRY = sum(COUNTRY_SIZES.values())


def country211(source: Path, seed: int) -> Draft:
    """150 + 50 + 100 photos of each country that has at least 300.

    Args:
        source: a .csv or .parquet with the columns path (relative to its folder), latitude, longitude and country (a
            two-letter ISO 3166 code). Rows without valid coordinates, countries outside of the 211, and missing or
            empty files are left out and counted; only files that sampling considered are checked. Countries with fewer
            photos are named in the log.
        seed: of the sampling.
    Raises:
        DataError: a column is missing, or fewer than two countries have 300 photos.
    """
    left_out = {"without a place": 0, "of another country": 0, "missing or empty files": 0}
    photos: dict[str, dict[str, bool]] = {}  # by country: file -> whether it is known to exist
    base, known = source.parent, set(COUNTRY_CODES)
    for row in _rows(source, ("path", "latitude", "longitude", "country")):
        code = str(row["country"] or "").strip().upper()
        if not _on_the_globe(row["latitude"], row["longitude"]):
            left_out["without a place"] += 1
        elif code not in known:
            left_out["of another country"] += 1
        else:
            candidates = photos.setdefault(code, {})
            candidates.setdefault(inside(str(row["path"]), str(source)), False)
            # A list may have tens of millions of rows: keep only what sampling can choose.
            if len(candidates) > 8 * _PHOTOS_PER_COUNTRY:
                photos[code], lost = _first_existing(candidates, base, seed)
                left_out["missing or empty files"] += lost
    names = get_prompts("Country211").class_names
    chosen: dict[str, dict[str, bool]] = {}
    few: dict[str, int] = {}
    for code in sorted(photos):
        existing, lost = _first_existing(photos[code], base, seed)
        left_out["missing or empty files"] += lost
        if len(existing) == _PHOTOS_PER_COUNTRY:
            chosen[code] = existing
        else:
            few[code] = len(existing)
    if len(chosen) < 2:
        raise DataError(
            f"{source} has {len(chosen)} countries with {_PHOTOS_PER_COUNTRY} photos; two or more are needed "
            f"({left_out['missing or empty files']:,} of its files are missing or empty)"
        )
    if few:
        listed = ", ".join(f"{code} {count}" for code, count in few.items())
        logger.warning("Country211: left out for fewer than %d photos: %s", _PHOTOS_PER_COUNTRY, listed)
    splits: dict[str, list[tuple[str, int]]] = {split: [] for split in COUNTRY_SIZES}
    for label, code in enumerate(chosen):
        for split, drawn in draw(chosen[code], COUNTRY_SIZES, seed, code).items():
            splits[split] += [(name, label) for name in drawn]
    class_names = tuple(names[COUNTRY_CODES.index(code)][0] for code in chosen)
    remarks = {"left out": left_out, "codes": [*chosen], "countries with fewer photos": few}
    return Draft(class_names, splits, lambda name: read_file(base / name), remarks)


def _first_existing(names: Mapping[str, bool], base: Path, seed: int) -> tuple[dict[str, bool], int]:
    """The first 300 existing files in sampling order, and the number of missing ones before them.

    Later files can never be chosen, whatever the rest of the list holds. So this may run repeatedly while the list is
    being read.
    """
    existing: dict[str, bool] = {}
    lost = 0
    for name in shuffled(names, seed):
        if names[name] or _has_content(base / name):
            existing[name] = True
        else:
            lost += 1
        if len(existing) == _PHOTOS_PER_COUNTRY:
            break
    return existing, lost


def _rows(source: Path, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The rows of a .csv or .parquet file; only a few are in memory at a time."""
    if source.suffix.lower() == ".parquet":
        try:
            file = describe(source)
            _check_columns(source, file.schema.names, columns)
            for index, group in enumerate(file.groups):
                weight = sum(size for _, _, size in group)
                for batch in read_batches(source, index, columns, 10_000, weight):
                    yield from batch.to_pylist()
        except ParquetError as error:
            raise DataError(f"cannot read {source}: {str(error)[:200]}") from None
        return
    try:
        with source.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text)
            _check_columns(source, reader.fieldnames or (), columns)
            yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from None


def _check_columns(source: Path, columns: Sequence[str], required: Sequence[str]) -> None:
    if absent := [name for name in required if name not in columns]:
        raise DataError(f"{source} has no column {', '.join(absent)}; it has {', '.join(columns)[:200]}")


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
