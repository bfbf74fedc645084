"""Damaged runs: resumed, they make the numbers of one that was never stopped, or end in one error."""

import ast
import copy
import dataclasses
import io
import random
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mutations import ODD_VALUES
from target import Seed, Target
from training import COMPACT, tiny_config

from diptych.train import TrainConfig, fit, read_log
from diptych.train.state_check import DIGEST

STEPS, KEPT = 5, "step-000000004"
_saved: dict[str, bytes] = {}  # the newest checkpoint of each kind, for `changed_state`


def config(out: Path, kind: str) -> TrainConfig:
    """With every kind of state: AdamW, Muon, an average, the loader's lanes."""
    made = tiny_config(out, STEPS, average_decay=0.9, **COMPACT)
    policy = dataclasses.replace(made.checkpoint, every_steps=2, keep=9, sharded=kind == "sharded")
    return dataclasses.replace(made, checkpoint=policy)


def run_seeds(folder: Path) -> list[Seed]:
    """A run that was stopped after its fourth update, with checkpoints of the second and fourth, in either form."""
    seeds = []
    for kind in ("whole", "sharded"):
        run = folder.parent / "runs" / kind
        fit(config(run, kind))
        (run.parent / f"{kind}.numbers").write_text(repr(numbers(run)))
        shutil.rmtree(run / "tensorboard", ignore_errors=True)
        shutil.rmtree(run / "model")
        last = next((run / "checkpoints").glob(f"step-{STEPS:09d}*"))
        last.unlink() if last.is_file() else shutil.rmtree(last)
        paths = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name not in ("run.lock",)]
        seeds += [Seed(f"{kind}/{path.relative_to(run)}", path.read_bytes()) for path in paths if KEPT in str(path)]
        seeds += [
            Seed(f"{kind}/{path.name}", path.read_bytes())
            for path in paths
            if path.parent == run and path.stat().st_size
        ]
    checkpoint = next(seed for seed in seeds if seed.name == f"whole/checkpoints/{KEPT}.pt")
    _saved.update({seed.name: seed.data for seed in seeds if KEPT in seed.name})
    state = torch.load(io.BytesIO(checkpoint.data), weights_only=True)
    del state[DIGEST]
    log = next(seed for seed in seeds if seed.name == "whole/log.jsonl")
    renamed = Seed(log.name, log.data.replace(b'"loss"', b'"lost"', 1))
    return [*seeds, renamed, Seed(f"undigested/checkpoints/{KEPT}.pt", stored(state))]


def changed_state(rng: random.Random) -> Seed:
    """One entry of a state replaced, taken out, or renamed; half of the states have no digest, as in older versions."""
    name = rng.choice(sorted(_saved))
    state = torch.load(io.BytesIO(_saved[name]), weights_only=True)
    places = list(entries(state))
    for _ in range(rng.choice([1, 1, 2])):
        parent, key = rng.choice(places)
        kind = rng.random()
        if isinstance(parent, tuple) or (isinstance(parent, dict) and key not in parent):
            continue
        if kind < 0.6 or isinstance(parent, list):
            parent[key] = odd(parent[key], rng)
        elif kind < 0.8:
            del parent[key]
        else:
            parent[rng.choice([f"{key} ", 3, None, (1, "x")])] = parent.pop(key)
    if rng.random() < 0.5 and "whole" in name:
        state.pop(DIGEST, None)
        name = name.replace("whole", "undigested")
    return Seed(name, stored(state), sound=False)


def odd(value: Any, rng: random.Random) -> Any:
    """Another value: of another type, or a tensor of another shape, type or content."""
    if not isinstance(value, torch.Tensor) or rng.random() < 0.3:
        return copy.deepcopy(rng.choice([*ODD_VALUES, torch.zeros(3), torch.tensor(float("nan"))]))
    changes = [value[..., None], value.double(), value.bool(), value.to(torch.int8), value.flatten()[:0], value * -3]
    changes += [value.new_full(value.shape, float("nan") if value.is_floating_point() else 2**7 - 1), value.to_sparse()]
    return rng.choice(changes)


def entries(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every entry of nested dicts and lists, with what holds it."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from entries(value)


def stored(state: Any) -> bytes:
    """As torch.save writes it."""
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def check_resumed(path: Path) -> None:
    """The run goes on to the same losses and weights; without a digest a changed number may go unnoticed."""
    folder = next(parent for parent in path.parents if parent.parent.name == "input")
    kind = "whole" if folder.name == "undigested" else folder.name
    runs, work = folder.parent.parent / "runs", folder.parent / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(runs / kind, work)
    shutil.copy(path, work / path.relative_to(folder))
    run = fit(config(work, kind), resume=True)
    assert run.finished and run.step == STEPS
    if folder.name != "undigested":
        rows, weights = ast.literal_eval((runs / f"{kind}.numbers").read_text())
        assert numbers(work)[1] == weights, "other weights"
        again = numbers(work)[0]
        assert path.name == "log.jsonl" or again == rows, f"other losses: {again} for {rows}"


def numbers(run: Path) -> tuple[dict[int, float], int]:
    """The loss of each update, and the weights."""
    weights = (run / "model" / "model.safetensors").read_bytes()
    return {row["step"]: row["loss"] for row in read_log(run)}, zlib.crc32(weights)


TRAINING = (Target("resume", run_seeds, check_resumed, changed_state, slow=True),)
