"""Find the state dict in a trainer's file: unpack containers and remove wrappers' prefixes."""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from diptych.errors import WeightsError

logger = logging.getLogger(__name__)

# Where trainers keep a state dict; the first one present is taken. "module" is DeepSpeed's, "network" Lightning's.
CONTAINERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "module", "network", "net", "clip", "params"),
    *("ema", "ema_state_dict", "model_ema", "ema_model", "state_dict_ema", "shadow"),
)
# torch.compile, FSDP and activation checkpointing insert these into names.
_BETWEEN = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Each known layout of a CLIP has one of these names; any text before it is the prefix of a wrapper.
_ANCHOR = re.compile(
    r"(?P<prefix>(?:.*?\.)?)(visual\.(conv1\.weight|class_embedding|trunk\..+|stages\.0\.0\.conv1\.weight|layer1\.0\.conv1\.weight)"
    r"|vision_model\.embeddings\.(class_embedding|patch_embedding\.weight)|image_encoder\.model\..+)"
)


def unwrap(contents: Any, path: Path) -> dict[str, torch.Tensor]:
    """The state dict that a weight file holds, with the model's own names.

    Raises:
        WeightsError: there is none; the message says what the file holds instead.
    """
    contents = _out_of_containers(contents, path)
    if not isinstance(contents, Mapping) or not contents:
        raise WeightsError(f"{path} holds {_described(contents)}, not a state dict of names and tensors")
    return {_BETWEEN.sub("", name) if isinstance(name, str) else name: value for name, value in contents.items()}


def _out_of_containers(contents: Any, path: Path) -> Any:
    while isinstance(contents, Mapping) and not _has_tensors(contents):
        inside = [key for key in CONTAINERS if isinstance(contents.get(key), Mapping) and contents[key]]
        if not inside:
            return contents
        if len(inside) > 1:
            logger.warning("%s holds %s; taking %s", path, " and ".join(map(repr, inside)), repr(inside[0]))
        contents = contents[inside[0]]
    return contents


def _has_tensors(contents: Mapping[Any, Any]) -> bool:
    """Whether this is a state dict. A container holds more dictionaries than tensors."""
    tensors = sum(isinstance(value, torch.Tensor) for value in contents.values())
    return tensors > sum(isinstance(value, Mapping) for value in contents.values())


def _described(contents: Any) -> str:
    if isinstance(contents, Mapping):
        names = ", ".join(str(key)[:40] for key in list(contents)[:6])
        return f"a dictionary of {names}{', ...' if len(contents) > 6 else ''}" if contents else "an empty dictionary"
    return type(contents).__name__


def without_prefix(names: Iterable[str]) -> dict[str, str]:
    """Each name -> the name without the prefix that all of a CLIP's names share ("module.", "model.", "clip.").

    Raises:
        WeightsError: the names belong to several CLIPs, such as a student and its teacher.
    """
    prefixes = sorted(
        {match["prefix"] for name in names if (match := _ANCHOR.fullmatch(name))},
        key=lambda prefix: (len(prefix), prefix),
    )
    if not prefixes or prefixes[0] == "":
        return {name: name for name in names}
    if len(prefixes) > 1:
        raise WeightsError(
            f"these are the weights of {len(prefixes)} models, with the prefixes {', '.join(prefixes)}: save one alone"
        )
    return {name: name.removeprefix(prefixes[0]) for name in names}
