"""CLEVR Counts: the number of objects in a rendered scene."""

from pathlib import Path
from typing import Any

from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import register
from diptych.evalsets.archives.reading import below, choose_split, find_file, find_folder, inside, read_json, shuffled
from diptych.evalsets.prompts import get_prompts
from diptych.evalsets.set_sources import Entry, ListedSource

SIZES = {"train": 2000, "test": 500}


def _read(folder: Path, split: str) -> Source:
    """2,000 of CLEVR's training scenes and 500 of its validation scenes, sampled by name; the paper states no rule."""
    part = choose_split("CLEVR Counts", split, {"train": "train", "test": "val"})
    path = find_file(folder, f"scenes/CLEVR_{part}_scenes.json")
    find_folder(folder, f"images/{part}")
    counts = object_counts(path)
    index = {names[0]: label for label, names in enumerate(get_prompts("CLEVRCounts").class_names)}
    if invalid := {count for count in counts.values() if str(count) not in index}:
        raise DataError(f"{path} has scenes of {sorted(invalid)[:3]} objects; there should be 3 to 10")
    chosen = sorted(shuffled(counts)[: SIZES[split]])
    return ListedSource(
        folder, tuple(Entry(f"images/{part}/{inside(name, str(path))}", index[str(counts[name])]) for name in chosen)
    )


def object_counts(path: Path) -> dict[str, int]:
    """Number of objects by image. The file is large, so each scene is reduced to these two values during parsing."""
    parsed = read_json(path, _shorten)
    scenes = parsed.get("scenes") if isinstance(parsed, dict) else None
    if not isinstance(scenes, list) or not all(isinstance(scene, tuple) for scene in scenes):
        raise DataError(f"{path} is damaged: it should be a list of scenes, each with image_filename and objects")
    counts: dict[str, int] = dict(scenes)
    if len(counts) < len(scenes):
        raise DataError(f"{path} is damaged: it describes an image twice")
    return counts


def _shorten(value: dict[str, Any]) -> Any:
    name, objects = value.get("image_filename"), value.get("objects")
    if isinstance(name, str) and isinstance(objects, list):
        return name, len(objects)
    return {"scenes": value["scenes"]} if "scenes" in value else None


register({"CLEVRCounts": below(_read, ["scenes/CLEVR_*_scenes.json"], ["CLEVR_v1.0"])})
