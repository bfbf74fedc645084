"""Fetch a published model by name: from the hub, or from a fixed address."""

import dataclasses
from pathlib import Path
from typing import Literal

from diptych.embed.catalogue import CatalogueModel, Reference, find, nearest
from diptych.embed.hub.openai_archive import fetch_file
from diptych.embed.hub.repository import fetch_repository
from diptych.embed.hub.repository_files import Layout
from diptych.errors import WeightsError


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A model on this machine.

    Attributes:
        path: a folder, or a weight file.
        layout: of the folder; "file" for a weight file.
        name: for results.
        model: its row in the catalogue; None for other repositories.
    """

    path: Path
    layout: Layout | Literal["file"]
    name: str
    model: CatalogueModel | None


def fetch(name: str | Reference, *, layout: Layout | None = None) -> Fetched:
    """Fetch a published model, or find it in the cache. Every file is verified against its published hash.

    Args:
        name: as for `catalogue.find`, or what it returned.
        layout: "open_clip" or "huggingface", for a repository that holds both; by default open_clip's.
    Raises:
        WeightsError: there is no such model, it cannot be fetched or verified, its licence is not wanted
            (DIPTYCH_LICENSES), or it is not here and the network is off.
        ConfigError: huggingface_hub is not installed.
    """
    reference = find(name) if isinstance(name, str) else name
    if reference is None:
        near = nearest(str(name))
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `diptych models` lists all"
        raise WeightsError(f"there is no published model {name!r} in the catalogue{hint}")
    if "naflex" in reference.name.lower():
        raise WeightsError(
            f"{reference.name} takes images of any shape (NaFlex), which is not supported: take a SigLIP 2 of fixed "
            "resolution, such as ViT-B-16-SigLIP2-256/webli"
        )
    model = reference.model
    if reference.repository is None:
        if model is None or reference.revision is not None:
            raise WeightsError(
                f"{reference.name} is a single file, which has no revisions: leave out @{reference.revision}"
            )
        return Fetched(fetch_file(model), "file", Path(model.files[0]).stem, model)
    path, found = fetch_repository(reference, layout)
    short = model.name.replace("/", " ") if model else reference.repository.rpartition("/")[2]
    return Fetched(path, found, short, model)
