"""Check that a checkpoint is what a run wrote, and that it fits this run.

The digest detects any change since it was written. Checkpoints of older versions have none. For these, and for states
built by hand, the content is checked as well: names, sizes, types, and that every number is possible.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch

DIGEST = "digest"
_OPTIONAL = {"content", "inputs", "num_updates"}  # entries that older versions did not write
_UNBOUNDED = {("", "config"), ("", "inputs"), ("loader", "must_match")}  # compared with the run's own values elsewhere


def state_digest(tree: Any) -> str:
    """BLAKE2 over nested dicts, lists and tuples of tensors and plain values: over types, names and every byte."""
    digest = hashlib.blake2b(digest_size=32)
    _add(tree, digest)
    return digest.hexdigest()


def _add(tree: Any, digest: Any) -> None:
    if isinstance(tree, dict):
        digest.update(f"dict {len(tree)} ".encode())
        for key, value in tree.items():
            _add(key, digest)
            _add(value, digest)
    elif isinstance(tree, list | tuple):
        digest.update(f"{'list' if isinstance(tree, list) else 'tuple'} {len(tree)} ".encode())
        for value in tree:
            _add(value, digest)
    elif isinstance(tree, torch.Tensor):
        digest.update(f"{tree.dtype} {tuple(tree.shape)} ".encode())
        if tree.numel():
            flat = tree.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy())
    else:
        digest.update(f"{type(tree).__name__} {tree!r} ".encode("utf-8", "surrogatepass"))


def check_saved(state: Any, step: int) -> None:
    """Refuse a state that no run can have written, before anything is built from it.

    Args:
        state: as read from the file.
        step: in the checkpoint's name.
    Raises:
        ValueError: names the entry, and what is wrong with it.
    """
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__} instead of a state")
    if isinstance(state.get("step"), bool) or not isinstance(state.get("step"), int) or state["step"] != step:
        raise ValueError(f"step is {state.get('step')!r:.40}, its name says {step}")
    _check_numbers(state, "")


def check_fits(state: Mapping[str, Any], template: Mapping[str, Any], num_shards: int) -> None:
    """Refuse a state that does not fit the run's own.

    Args:
        state: as read from the file.
        template: the run's own state, of the same configuration.
        num_shards: of the run's data.
    Raises:
        ValueError: names the entry, and what is wrong with it.
    """
    own = {name: value for name, value in template.items() if name not in ("optimizer", "loader")}
    known = {"optimizer", "loader", "step", "config"}
    if unknown := state.keys() - template.keys() - known:
        raise ValueError(f"unknown entries: {', '.join(sorted(map(str, unknown)))[:100]}; is it from a newer version?")
    if missing := template.keys() - state.keys() - _OPTIONAL:
        raise ValueError(f"{', '.join(sorted(missing))} is missing")
    if not isinstance(state.get("config"), dict) or not isinstance(state.get("inputs", {}), dict):
        raise ValueError("config or inputs is not a dict")
    for name, value in own.items():
        if name in state and name != "inputs":
            _check_like(state[name], value, name)
    for name, fingerprint in state.get("inputs", {}).items():
        if not isinstance(name, str) or not isinstance(fingerprint, str | None):
            raise ValueError(f"inputs.{name!r:.40} is {fingerprint!r:.40}")
    _check_optimizer(state["optimizer"], template["optimizer"], state["step"])
    _check_loader(state["loader"], template["loader"], num_shards)


def _check_numbers(value: Any, where: str) -> None:
    """Check that every float is finite and every integer, except in configurations, is 0 or more."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise ValueError(f"{where or 'the state'} has the key {key!r:.40}")
            if (where, key) not in _UNBOUNDED:
                _check_numbers(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_numbers(item, f"{where}.{index}")
    elif isinstance(value, torch.Tensor):
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{where} holds NaN or infinity")
        squares = where.endswith(("exp_avg_sq", "running_var", "num_batches_tracked", ".step"))
        if squares and value.numel() and value.min() < 0:
            raise ValueError(f"{where} holds numbers below 0, which is impossible")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}")
    elif where == "seconds" and isinstance(value, float) and value < 0:
        raise ValueError(f"seconds is {value}, below 0")
    elif isinstance(value, int) and not isinstance(value, bool) and value < 0:
        raise ValueError(f"{where} is {value}, below 0")
    elif not isinstance(value, int | float | str | None):
        raise ValueError(f"{where} is of the type {type(value).__name__}")


def _check_like(value: Any, like: Any, where: str, *, sizes: bool = True) -> None:
    """Check for the run's own types, names of dicts, dtypes of tensors and, with `sizes`, shapes."""
    if isinstance(like, torch.Tensor):
        if not isinstance(value, torch.Tensor) or value.dtype != like.dtype or value.ndim != like.ndim:
            raise ValueError(f"{where} is {_kind(value)}, it must be {_kind(like)}")
        if sizes and value.shape != like.shape:
            raise ValueError(f"{where} has the shape {tuple(value.shape)}, it must be {tuple(like.shape)}")
        return
    numbers = (int, float) if isinstance(like, float) else type(like)
    right = isinstance(value, dict) if isinstance(like, dict) else isinstance(value, numbers)
    if not right or isinstance(value, bool) != isinstance(like, bool):
        raise ValueError(f"{where} is {_kind(value)}, it must be {_kind(like)}")
    if isinstance(like, dict) and like:
        if differing := (value.keys() ^ like.keys()) - _OPTIONAL:
            raise ValueError(f"{where} lacks or adds {', '.join(sorted(map(str, differing)))[:100]}")
        for name, item in like.items():
            if name in value:
                _check_like(value[name], item, f"{where}.{name}", sizes=sizes)
    elif isinstance(like, list) and not all(isinstance(item, int | float) for item in value):
        raise ValueError(f"{where} holds other things than numbers")


def _check_optimizer(state: Any, template: Mapping[str, Any], step: int) -> None:
    if not isinstance(state, dict) or state.keys() != template.keys():
        raise ValueError(f"optimizer has other parts than {', '.join(template)}")
    for part, own in template.items():
        where, saved = f"optimizer.{part}", state[part]
        if not isinstance(saved, dict) or saved.keys() != own.keys() or not isinstance(saved["state"], dict):
            raise ValueError(f"{where} has other entries than {', '.join(own)}")
        groups = saved["param_groups"]
        if not isinstance(groups, list) or len(groups) != len(own["param_groups"]):
            raise ValueError(f"{where} has other groups of parameters than this run")
        for number, (group, like) in enumerate(zip(groups, own["param_groups"], strict=True)):
            _check_like(group, like, f"{where}.param_groups.{number}")
            for name, value in like.items():
                if name == "lr" and group[name] < 0:
                    raise ValueError(f"{where}.param_groups.{number}.lr is {group[name]}, below 0")
                if name not in ("lr", "num_updates") and group.get(name, value) != value:
                    raise ValueError(f"{where}.param_groups.{number}.{name} is {group[name]!r:.60}, here {value!r:.60}")
            if group.get("num_updates", 0) > step:
                raise ValueError(f"{where}.param_groups.{number}.num_updates is more than the run's {step} steps")


def check_moments(moments: Any, parameter: torch.Tensor, names: tuple[str, ...], where: str) -> None:
    """Refuse an optimizer state that a parameter cannot have.

    Raises:
        ValueError: names the entry, and what is wrong with it.
    """
    if not isinstance(moments, dict) or moments.keys() - {"step"} != set(names):
        raise ValueError(f"{where} has other entries than {', '.join(names)}")
    for name, value in moments.items():
        shape = () if name == "step" else tuple(parameter.shape)
        types = {torch.float32} if name == "step" else {torch.float32, torch.bfloat16, parameter.dtype}
        if not isinstance(value, torch.Tensor) or tuple(value.shape) != shape or value.dtype not in types:
            raise ValueError(f"{where}.{name} is {_kind(value)}, it must be float32 or bf16 with the shape {shape}")


def _check_loader(state: Any, template: Mapping[str, Any], num_shards: int) -> None:
    lanes = template["lanes"]
    like = {**template, "lanes": {}, "must_match": {}}
    _check_like(state, like, "loader")
    if not isinstance(state["must_match"].get("source"), str):
        raise ValueError("loader.must_match names no source")
    if state["must_match"].get("lanes") == template["must_match"]["lanes"] and state["lanes"].keys() != lanes.keys():
        raise ValueError("loader.lanes differ from this run's")
    own = next(iter(lanes.values()))
    for name, lane in state["lanes"].items():
        _check_lane(lane, own, f"loader.lanes.{name}", num_shards)


def _check_lane(lane: Any, like: Mapping[str, Any], where: str, num_shards: int) -> None:
    _check_like({**lane, "tally": {}} if isinstance(lane, dict) else lane, {**like, "tally": {}}, where, sizes=False)
    position, buffer = lane["position"], lane["position"]["buffer"]
    if buffer.ndim != 2 or buffer.shape[1] != 2:
        raise ValueError(f"{where}.position.buffer has the shape {tuple(buffer.shape)}")
    highest = int(buffer[:, 0].max()) if len(buffer) else 0
    if position["shard"] > num_shards or (len(buffer) and (int(buffer.min()) < 0 or highest >= num_shards)):
        raise ValueError(f"{where}.position is beyond the last of {num_shards} shards")
    tally, own = lane["tally"], like["tally"]
    if not isinstance(tally, dict) or tally.keys() != own.keys():
        raise ValueError(f"{where}.tally has other entries than {', '.join(own)}")
    for name, value in tally.items():
        if name == "reasons":
            right = isinstance(value, dict) and all(isinstance(k, str) and type(n) is int for k, n in value.items())
        elif name == "lost":
            right = isinstance(value, list) and all(
                isinstance(pair, list | tuple) and len(pair) == 2 and all(type(n) is int for n in pair)
                for pair in value
            )
        else:
            right = type(value) is int
        if not right:
            raise ValueError(f"{where}.tally.{name} is {value!r:.60}")


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of {value.dtype}, {tuple(value.shape)}"
    return f"{type(value).__name__} {value!r:.40}" if isinstance(value, int | float | str) else type(value).__name__
