"""Readers of the sets' original archives. Each module registers its readers when it is imported."""

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
