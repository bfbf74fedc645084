"""The inputs of a classification, labels and images: checked before anything heavy is imported."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from diptych.data.image_files import PassedOver, walk_images
from diptych.errors import InputError
from diptych.evalsets.prompts import DEFAULT_TEMPLATES
from diptych.evaluate.zero_shot.class_prompts import check_class_names, check_templates

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Question:
    """The labels to choose from, and how.

    Attributes:
        labels: C >= 2 different class names.
        templates: T >= 1 prompts with {c} for the class name.
        top_k: labels kept for each image, at least 1; all labels if there are fewer.
    Raises:
        InputError: one of them cannot be used.
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    top_k: int = 5

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise InputError(f"top_k must be at least 1; got {self.top_k}")
        object.__setattr__(self, "labels", check_class_names(self.labels))
        object.__setattr__(self, "templates", check_templates(self.templates or DEFAULT_TEMPLATES))

    @property
    def num_kept(self) -> int:
        """Number of labels in each row."""
        return min(self.top_k, len(self.labels))

    @property
    def identity(self) -> dict[str, str]:
        """Digests of everything that determines the rows, except the model and the images."""
        return {"labels": digest(self.labels), "templates": digest(self.templates), "top_k": str(self.num_kept)}


def digest(value: object) -> str:
    """A digest of eight hexadecimal digits."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]


def find_images(files_and_folders: Sequence[str | Path]) -> list[str]:
    """The paths of image files: the given files, and all files in the given folders, sorted; each path once.

    Memory grows by about a hundred bytes per path.

    Raises:
        InputError: there are no images.
    """
    paths: dict[str, None] = {}
    for path in map(Path, files_and_folders):
        if not path.is_dir():
            paths[str(path)] = None
            continue
        passed_over = PassedOver()
        names = sorted(walk_images(path, passed_over), key=lambda name: name.split("/"))
        paths.update((str(path / name), None) for name in names)
        passed_over.log(path)
    if not paths:
        raise InputError(f"no images in {', '.join(map(str, files_and_folders)) or 'an empty list'}")
    return list(paths)
