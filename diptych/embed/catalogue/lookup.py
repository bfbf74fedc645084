"""Find a published model by any of its names."""

import dataclasses
import difflib
import re
from collections.abc import Iterator

from diptych.embed.catalogue.catalogue_model import CatalogueModel
from diptych.embed.catalogue.hub_copies import COPIES
from diptych.embed.catalogue.published import MODELS

HUB = "hf-hub:"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,95}")
_REVISION = re.compile(r"[\w][\w./-]{0,199}")


@dataclasses.dataclass(frozen=True)
class Reference:
    """A published model as a user names it.

    Attributes:
        name: as given, without the revision.
        model: its row in the catalogue; None for a repository that is not in it.
        repository: the repository to fetch it from; None for a file outside the hub.
        revision: as given after "@"; None if not given.
    """

    name: str
    model: CatalogueModel | None
    repository: str | None
    revision: str | None = None


def find(name: str) -> Reference | None:
    """The published model that a name means; None if the name is neither in the catalogue nor a repository.

    Names are the catalogue's, the paper's, repositories of the hub in it, and hf-hub:OWNER/NAME for any repository.
    "@REVISION" may follow. Upper and lower case do not matter for names in the catalogue. Repositories of publishers
    in the catalogue (openai/, laion/, timm/, google/, ...) need no prefix.
    """
    bare = name.removeprefix(HUB)
    whole = _lookup(bare)  # first: the paper's ViT-L/14@336px contains "@"
    if whole is not None:
        return whole
    stem, at, revision = bare.rpartition("@")
    if at and not (_REVISION.fullmatch(revision) and ".." not in revision):
        return None
    stem, pinned = (stem, revision) if at else (bare, None)
    if (known := _lookup(stem)) is not None:
        return dataclasses.replace(known, revision=pinned)
    if is_repository(stem) and (name.startswith(HUB) or stem.partition("/")[0] in _PUBLISHERS):
        return Reference(stem, None, stem, pinned)
    return None


def is_repository(name: str) -> bool:
    """Whether a name has the form OWNER/NAME of a repository on the hub."""
    return bool(_REPOSITORY.fullmatch(name)) and ".." not in name and "--" not in name


def nearest(name: str, limit: int = 3) -> list[str]:
    """The most similar names of the catalogue, the best first; [] if none is similar."""
    wanted = name.removeprefix(HUB).lower()
    near = difflib.get_close_matches(wanted, _BY_NAME, limit * 2, 0.75)
    if not near and len(wanted) > 2:
        near = [spelling for spelling in _BY_NAME if wanted in spelling]
    return list(dict.fromkeys(_SPELLINGS[spelling] for spelling in near))[:limit]


def _lookup(name: str) -> Reference | None:
    spelling = name.lower().replace("-quickgelu/", "/")  # open_clip's other name; the weights state their activation
    model = _BY_NAME.get(spelling)
    if model is None:
        return None
    spelled = _SPELLINGS[spelling]
    copy = spelled in model.copies or spelled in COPIES
    return Reference(model.name, model, spelled if copy else model.repository, model.revision)


def _names(model: CatalogueModel) -> Iterator[str]:
    yield from (model.name, *model.aliases, *model.copies)
    if model.repository is not None:
        yield model.repository


_SPELLINGS: dict[str, str] = {}
_BY_NAME: dict[str, CatalogueModel] = {}
for _model in MODELS:
    for _name in _names(_model):
        _SPELLINGS.setdefault(_name.lower(), _name)
        _BY_NAME.setdefault(_name.lower(), _model)
_WITH_NAME = {model.name: model for model in MODELS}
for _name, _row in COPIES.items():
    _SPELLINGS[_name.lower()], _BY_NAME[_name.lower()] = _name, _WITH_NAME[_row]
_PUBLISHERS = {
    repository.partition("/")[0]
    for model in MODELS
    for repository in (model.repository, *model.copies, *COPIES)
    if repository is not None
}
