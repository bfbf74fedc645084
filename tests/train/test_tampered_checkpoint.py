"""A checkpoint that was changed is never gone on from, whatever was changed in it, and never ends in a traceback."""

import copy
import dataclasses
import logging
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from training import COMPACT, tiny_config

from diptych.errors import CheckpointError, DiptychError
from diptych.train import fit, read_log
from diptych.train.checkpoint import Checkpoints

Place = tuple[Any, ...]


@pytest.fixture(scope="module", params=[False, True], ids=["full", "sharded"])
def run(request, tmp_path_factory):
    """A finished run with AdamW, Muon and an average, and checkpoints after its last two steps."""
    config = tiny_config(tmp_path_factory.mktemp("run") / "run", 3, average_decay=0.9, **COMPACT)
    policy = dataclasses.replace(config.checkpoint, every_steps=1, sharded=request.param)
    config = dataclasses.replace(config, checkpoint=policy)
    fit(config)
    return config


def newest_file(config) -> Path:
    path = Checkpoints(Path(config.out) / "checkpoints", config.checkpoint).paths()[-1]
    return path / "rank-0-of-1.pt" if path.is_dir() else path


def places(tree: Any, place: Place = ()) -> Iterator[Place]:
    """Every entry of nested dicts and lists; of many alike (tensors by name, lanes) the first three."""
    items = list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ())
    kinds: dict[tuple, int] = {}
    for key, value in items:
        kind = (type(value), value.ndim if isinstance(value, torch.Tensor) else isinstance(value, dict) and len(value))
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] <= 3 or not isinstance(value, torch.Tensor | dict):
            yield (*place, key)
            yield from places(value, (*place, key))


def changed(tree: Any, place: Place, change: Callable[[Any], Any]) -> Any:
    """A copy with the entry at `place` changed; DELETE takes it out."""
    if not place:
        return change(tree)
    key, *rest = place
    if isinstance(tree, tuple):
        items = [changed(item, tuple(rest), change) if index == key else item for index, item in enumerate(tree)]
        return tuple(item for item in items if item is not DELETE)
    copied = copy.copy(tree)
    value = changed(tree[key], tuple(rest), change)
    if value is DELETE:
        del copied[key]
    else:
        copied[key] = value
    return copied


DELETE = object()
WRONG: dict[str, Callable[[Any], Any]] = {
    "deleted": lambda value: DELETE,
    "none": lambda value: "" if value is None else None,
    "list": lambda value: [1.5, "x"],
    "dict": lambda value: {"x": 1},
    "text": lambda value: "x" if not isinstance(value, str) else 5,
    "nan": lambda value: value * float("nan") if isinstance(value, torch.Tensor) else float("nan"),
    "negative": lambda value: -value - 1 if isinstance(value, torch.Tensor | int | float) else -1,
    "huge": lambda value: 10**30,
    "tensor": lambda value: value[..., None] if isinstance(value, torch.Tensor) else torch.zeros(3),
    "half": lambda value: value.half() if isinstance(value, torch.Tensor) else True,
}


def test_any_change_is_told_by_the_digest_and_the_sound_one_before_is_taken(run, tmp_path, caplog):
    path = newest_file(run)
    whole = torch.load(path, weights_only=True)
    folder = path.parent.parent if path.parent.name.startswith("step-") else path.parent
    older = min(folder.glob("step-*"))
    (tmp_path / older.name).symlink_to(older)
    variants = 0
    for place in list(places({name: value for name, value in whole.items() if name != "digest"})):
        for name in ("deleted", "text", "negative"):
            variants += 1
            if variants % 23:  # each costs a file; the rest is in the test below
                continue
            bad = changed(whole, place, WRONG[name])
            target = tmp_path / path.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            torch.save(bad, target)
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                saved = Checkpoints(tmp_path, run.checkpoint).newest()
            assert saved["step"] == 2, (place, name)
            assert "digest does not match" in caplog.text or "is missing" in caplog.text, (place, name, caplog.text)
    assert variants > 300


def test_one_changed_bit_of_a_weight_is_told(run, tmp_path):
    path = newest_file(run)
    whole = torch.load(path, weights_only=True)
    if run.checkpoint.sharded:
        whole["rest"]["model"]["logit_scale"] += 1e-6
        (tmp_path / "step-000000003").mkdir()
        torch.save(whole, tmp_path / "step-000000003/rank-0-of-1.pt")
    else:
        whole["model"]["logit_scale"] += 1e-6
        torch.save(whole, tmp_path / "step-000000003.pt")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read"):
        Checkpoints(tmp_path, run.checkpoint).newest()


@pytest.mark.parametrize("kind", WRONG)
def test_without_a_digest_no_wrong_shape_type_or_number_is_accepted(run, tmp_path, monkeypatch, kind):
    """As a checkpoint of an older version, or of somebody who took the digest out: each entry, changed in this way."""
    if run.checkpoint.sharded:
        pytest.skip("what a state holds is checked alike in both forms")
    whole = torch.load(newest_file(run), weights_only=True)
    del whole["digest"]
    from diptych.train import loop
    from diptych.train.state import Training

    caught: dict[str, Training] = {}
    load = Training.load_state_dict
    monkeypatch.setattr(Training, "load_state_dict", lambda self, state: caught.update(x=self) or load(self, state))
    fit(run, resume=True)
    training = caught["x"]
    monkeypatch.undo()
    accepted, sound = [], copy.deepcopy(whole)
    for place in places(whole):
        value = whole
        for key in place:
            value = value[key]
        # A configuration is compared with the run's own, entry by entry, in test_cli_bad_input.py.
        if (
            place[0] == "inputs"
            or (place[0] == "config" and place[1:] not in ((), ("num_pairs",)))
            or _may_be(place, kind, value)
        ):
            continue
        bad = changed(whole, place, WRONG[kind])
        try:
            _go_on(bad, training, run, loop)
        except DiptychError as error:
            assert str(error)
        else:
            accepted.append((place, str(value)[:40]))
    assert not accepted
    leaves = [torch.utils._pytree.tree_leaves(tree) for tree in (whole, sound)]
    assert all(
        torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two for one, two in zip(*leaves, strict=True)
    ), "what was gone on from is changed, so the later changes were made to something else"


def _may_be(place: Place, kind: str, value: Any) -> bool:
    """Changes that make another sound state, which nothing but a digest tells."""
    name = place[-1]
    if name == "num_updates" and kind in ("deleted",):
        return True  # older versions did not write it
    if "must_match" in place and name == "content" and kind == "deleted":
        return True
    if name == "reasons" and kind == "dict":
        return True
    if kind == "half" and not isinstance(value, torch.Tensor) and value == 1:
        return True  # True is 1
    if kind == "negative":  # weights and momenta may be negative
        tensor = isinstance(value, torch.Tensor)
        signed = tensor and value.is_floating_point() and not str(name).endswith(("exp_avg_sq", "running_var", "step"))
        return signed or (tensor and name == "random")
    if kind == "huge":
        counters = ("num_seen", "used", "epoch", "item", "emitted", "in_a_row", "num_skipped", "seconds", "lr")
        return name in counters or (isinstance(value, int) and "tally" in place)
    if kind == "deleted":
        return (
            len(place) >= 4 and place[0] == "optimizer" and place[2] == "state" and (len(place) == 4 or name == "step")
        )
    return False


def _go_on(state: Any, training: Any, config: Any, loop: Any) -> None:
    """As `fit` does with what it read."""
    from diptych.train.config import check_same_run
    from diptych.train.length import resumed_length
    from diptych.train.run_folder import saved_config
    from diptych.train.state_check import check_saved

    checkpoints = Checkpoints(Path(config.out) / "checkpoints", config.checkpoint)
    with checkpoints.naming_errors():
        check_saved(state, 3)
        before = saved_config(state, checkpoints.folder)
        check_same_run(before, resumed_length(config, before), compare_paths="inputs" not in state)
        training.load_state_dict(_with_own_containers(state))


def _with_own_containers(tree: Any) -> Any:
    """Copies of the dicts and lists, with the same tensors: thousands of copied tensors took half of the time."""
    if isinstance(tree, dict):
        return {key: _with_own_containers(value) for key, value in tree.items()}
    return type(tree)(map(_with_own_containers, tree)) if type(tree) in (list, tuple) else tree


def test_what_does_not_fit_is_one_error_that_names_the_file_and_what_to_do(run, tmp_path):
    if run.checkpoint.sharded:
        pytest.skip("the same code")
    whole = torch.load(newest_file(run), weights_only=True)
    del whole["digest"]
    whole["model"]["text_projection"] = whole["model"]["text_projection"][:, :-1]
    path = newest_file(run)
    before = path.read_bytes()
    torch.save(whole, path)
    try:
        with pytest.raises(
            CheckpointError, match=r"step-000000003\.pt does not fit this run: model\.text_projection has "
        ):
            fit(run, resume=True)
    finally:
        path.write_bytes(before)
    assert fit(run, resume=True).step == 3


def repacked(path: Path, **options: Any) -> None:
    """The same members in a zip archive of another making."""
    with zipfile.ZipFile(path) as archive:
        members = [(one.filename, archive.read(one)) for one in archive.infolist()]
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members:
            archive.writestr(name, content)


BOMBS: dict[str, Callable[[Path, Any], None]] = {
    "compressed": lambda path, state: repacked(path, compression=zipfile.ZIP_DEFLATED),
    "repeated": lambda path, state: torch.save({**state, "more": torch.zeros(1).expand(1 << 45)}, path),
    "sparse": lambda path, state: torch.save({**state, "more": torch.eye(3).to_sparse()}, path),
    "no digest but none": lambda path, state: torch.save({**state, "digest": None}, path),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_what_claims_more_than_the_file_holds_is_set_aside_and_the_one_before_serves(run, tmp_path, caplog, kind):
    """Nothing of its size is allocated: 128 TiB would be an error of another kind."""
    folder = Path(run.out) / "checkpoints"
    shutil.copytree(folder, tmp_path / "checkpoints")
    path = tmp_path / "checkpoints" / newest_file(run).relative_to(folder)
    BOMBS[kind](path, torch.load(path, weights_only=True))
    with caplog.at_level(logging.WARNING):
        assert Checkpoints(tmp_path / "checkpoints", run.checkpoint).newest()["step"] == 2
    assert "cannot read checkpoint" in caplog.text and "memory" not in caplog.text


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", b'{"step": "1"}\n[]\n7\n', b"[" * 100_000 + b"\n", b"{}\n"])
def test_a_damaged_log_costs_its_rows_and_no_more(run, tmp_path, caplog, damage):
    shutil.copytree(run.out, tmp_path / "run")
    log = tmp_path / "run" / "log.jsonl"
    rows = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(damage + rows[0] + damage + b"".join(rows[1:]))
    (tmp_path / "run" / "evaluations.jsonl").write_bytes(damage)
    again = dataclasses.replace(run, out=str(tmp_path / "run"))
    assert fit(again, resume=True).step == 3
    assert [row["step"] for row in read_log(tmp_path / "run")] == [1, 2, 3]
    assert "damaged and left out" in caplog.text
