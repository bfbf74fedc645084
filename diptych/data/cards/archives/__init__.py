"""Readers of the sets' original archives. Importing this makes them known: each module registers its own."""

from diptych.data.cards.archives import (
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
from diptych.data.cards.layouts import LAYOUTS

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
