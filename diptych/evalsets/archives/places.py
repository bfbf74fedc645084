"""IM2GPS: geotagged images, and a reference set in which their nearest neighbors are searched."""

import math
from pathlib import Path

from diptych.data.image_files import walk_images
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import Layout, register
from diptych.evalsets.archives.reading import choose_split, field, inside, table
from diptych.evalsets.set_sources import Entry, ListedSource

_COLUMNS = {
    "file": ("img_id", "image", "file", "filename", "file_name", "image_file", "name"),
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lon", "lng", "long"),
}


def _read(folder: Path, split: str) -> Source:
    """Images at any depth below the set's folder, or below reference/ for training, and one table of coordinates.

    The table is a .csv with columns for image, latitude and longitude (degrees), such as im2gps_places365.csv. Images
    are found by file name.
    """
    base = folder / choose_split("IM2GPS", split, {"train": "reference", "test": "."})
    tables = sorted(base.glob("*.csv"))
    if len(tables) != 1:
        raise DataError(f"{base} should have one .csv with the images' coordinates; it has {len(tables)}")
    rows = list(table(tables[0]))
    columns = {what: _column(rows[0][1], names, tables[0], what) for what, names in _COLUMNS.items()}
    files: dict[str, str] = {}
    for file in walk_images(base):
        if split == "test" and file.startswith("reference/"):
            continue
        if (other := files.setdefault(Path(file).name, file)) != file:
            raise DataError(f"{base} has two images called {Path(file).name}: {other} and {file}")
    entries = []
    for where, row in rows:
        name = inside(row[columns["file"]], where)
        coordinates = {what: field(row, columns[what], float, where) for what in ("latitude", "longitude")}
        latitude, longitude = coordinates["latitude"], coordinates["longitude"]
        if not (abs(latitude) <= 90 and abs(longitude) <= 180) or math.isnan(latitude + longitude):
            raise DataError(f"{where}: {latitude}, {longitude} are not valid coordinates")
        # A missing image becomes Broken, under the name in the table.
        entries.append(Entry(files.get(Path(name).name, name), metadata=coordinates, key=name))
    return ListedSource(base, tuple(entries))


def _column(row: dict[str, str], names: tuple[str, ...], path: Path, what: str) -> str:
    for name in row:
        if name.lower() in names:
            return name
    raise DataError(f"{path} has no column for the {what}: {', '.join(names)}; it has {', '.join(row)}")


register({"IM2GPS": Layout(_read, ("*.csv",))})
