"""The folder of a run: whether a run may start or resume there, and which other runs are near it."""

import difflib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from diptych import distributed
from diptych.embed.model_folder import check_can_save
from diptych.errors import CheckpointError, ConfigError
from diptych.train.checkpoint import Checkpoints
from diptych.train.config import TrainConfig, check_same_run
from diptych.train.folder_lock import FolderLock

logger = logging.getLogger(__name__)

_NEAR = 5  # number of folders that a message names
_LOOKED_AT = 1000  # entries of a folder at most


Resume = bool | Literal["if begun"]


def should_resume(folder: Path, resume: Resume) -> bool:
    """Whether to look for a checkpoint; the same answer in all ranks, which call it together.

    Raises:
        ConfigError: `resume` is True and there is no run in the folder; the message names runs near it.
    """
    # Each machine's torchrun has its own count: one that restarted its processes is enough.
    if distributed.any_rank(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0):
        return True
    if resume is True:
        distributed.on_main(lambda: _check_holds_run(folder))
    return bool(resume)


def _check_holds_run(folder: Path) -> None:
    if (folder / "config.json").is_file() or (folder / "checkpoints").is_dir():
        return
    what = "there is no run in it" if folder.is_dir() else "there is no such folder"
    near = _runs_near(folder)
    others = f"runs near it: {', '.join(map(str, near))}; name one of them (--out), or " if near else ""
    raise ConfigError(f"cannot resume {folder}: {what}; {others}leave out --resume to start a run there")


def saved_config(saved: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration in a checkpoint.

    Raises:
        CheckpointError: it holds no configuration.
    """
    config = saved.get("config")
    if not isinstance(config, dict) or type(config.get("num_pairs")) is not int or config["num_pairs"] < 1:
        raise CheckpointError(
            f"the newest checkpoint in {folder} holds no configuration: move it away, then --resume continues from the "
            "one before it"
        )
    return config


def claim(
    folder: Path, lock: FolderLock, checkpoints: Checkpoints, config: TrainConfig, saved: Mapping[str, Any] | None
) -> None:
    """Claim the folder for this run, or raise an error that says why not.

    A run that ended before its first checkpoint has nothing to lose and starts again.
    """
    check_can_save(folder / "model")
    if saved is not None:
        check_same_run(saved_config(saved, checkpoints.folder), config, compare_paths="inputs" not in saved)
    elif checkpoints.paths():
        raise ConfigError(f"{folder} holds a run already: continue it (--resume), or choose another folder (--out)")
    elif (folder / "model").exists():
        raise ConfigError(
            f"{folder} holds a trained model and no checkpoint to resume from: choose another folder (--out)"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        if saved is None:
            for leftover in (
                "log.jsonl",
                "evaluations.jsonl",
                "results.jsonl",
                "tokenizer.json",
                "tokenizer_config.json",
            ):
                (folder / leftover).unlink(missing_ok=True)
            write_config(config, folder)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}; choose another folder (--out)") from error


def write_config(config: TrainConfig, folder: Path) -> None:
    """Write the run's configuration to config.json."""
    (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")


def _runs_near(folder: Path) -> list[Path]:
    """Folders with a run inside the folder or next to it; those with similar names first."""
    parent = next(path for path in (folder.absolute().parent, *folder.absolute().parents) if path.is_dir())
    runs = []
    for where in (folder, parent):
        try:
            entries = [entry for entry, _ in zip(where.iterdir(), range(_LOOKED_AT), strict=False)]
            runs += [entry for entry in entries if (entry / "checkpoints").is_dir()]
        except OSError:
            continue  # it does not exist, or is not readable
    difference = {run: -difflib.SequenceMatcher(None, run.name, folder.name).ratio() for run in runs}
    return sorted(difference, key=lambda run: (difference[run], run.name))[:_NEAR]
