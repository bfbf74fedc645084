"""What is asked of images, and of which ones: checked before anything heavy is imported."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from diptych.data.image_files import PassedOver, walk_images
from diptych.errors import InputError
from diptych.evalsets.prompts import DEFAULT_TEMPLATES
from diptych.evaluate.zero_shot.prompts import check_class_names, check_templates

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Question:
    """Which of these labels fits?

    Attributes:
        labels: C >= 2 different class names.
        templates: T >= 1 prompts with {c} in the place of the class name.
        top_k: labels kept for each image, at least 1; all of them where there are fewer.
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
        """Labels in each row."""
        return min(self.top_k, len(self.labels))

    @property
    def identity(self) -> dict[str, str]:
        """What decides the rows, beside the model and the images, by name."""
        return {"labels": digest(self.labels), "templates": digest(self.templates), "top_k": str(self.num_kept)}


def digest(value: object) -> str:
    """Eight letters that differ where the contents do."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]


def find_images(given: Sequence[str | Path]) -> list[str]:
    """The paths of image files: those named, and all in the folders named, each once and a folder's sorted.

    A path takes some hundred bytes; nothing else grows with the number of images.

    Raises:
        InputError: there are none.
    """
    found: dict[str, None] = {}
    for path in map(Path, given):
        if not path.is_dir():
            found[str(path)] = None
            continue
        passed_over = PassedOver()
        names = sorted(walk_images(path, passed_over), key=lambda name: name.split("/"))
        found.update((str(path / name), None) for name in names)
        passed_over.log(path)
    if not found:
        raise InputError(f"no pictures in {', '.join(map(str, given)) or 'an empty list'}")
    return list(found)
