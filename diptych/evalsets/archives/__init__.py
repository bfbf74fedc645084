"""Readers of the sets' original archives. Importing this makes them known: each module registers its own."""

from diptych.evalsets.archive_registry import LAYOUTS
from diptych.evalsets.archives import (
    binary,
    captions,
    class_folders,
    driving,
    faces,
    folders,
    imagenet,
    lists,
    matlab,
    memes,
    objects,
    pathology,
    places,
    robust_frames,
    scenes,
    text_in_pictures,
    videos,
)

__all__ = [
    "LAYOUTS",
    "binary",
    "captions",
    "class_folders",
    "driving",
    "faces",
    "folders",
    "imagenet",
    "lists",
    "matlab",
    "memes",
    "objects",
    "pathology",
    "places",
    "robust_frames",
    "scenes",
    "text_in_pictures",
    "videos",
]
