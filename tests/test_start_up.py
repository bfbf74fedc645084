"""What each command imports before it can answer: counted in modules, which no busy machine changes."""

import contextlib
import gc
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import noise

import diptych.embed
import diptych.evaluate
import diptych.objective
import diptych.report
import diptych.train
from diptych.lazy import uncollected_imports

HEAVY = ("torch", "numpy", "scipy", "sklearn", "pyarrow", "tokenizers", "jinja2", "ftfy", "transformers", "pandas")
LATER = ("scipy", "sklearn", "pyarrow", "jinja2", "ftfy", "rich.progress", "sympy", "torch.distributed.tensor")


def imported(
    words: list[str], folder: Path, code: str = "from diptych.cli import main; main()"
) -> tuple[int, set[str]]:
    """The exit status of a command, and the modules that it had imported at its end."""
    listing = folder / "modules"
    code = (
        f"import atexit, sys; from pathlib import Path\n"
        f"atexit.register(lambda: Path({str(listing)!r}).write_text(chr(10).join(sys.modules)))\n{code}"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, set(listing.read_text().split("\n"))


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["train", "--help"], 0),
        (["classify", "photo.png", "--labels", "cat"], 1),
        (["classify", "photo.png", "--labels", "cat,"], 1),
        (["classify", "photo.png", "--labels", "@nowhere.txt"], 1),
        (["classify", "photo.png", "--labels", "cat,dog", "--template", "a photo"], 1),
        (["classify", "photo.png", "--labels", "cat,dog", "--top-k", "0"], 1),
        (["classify", "photo.png", "--labels", "cat,dog", "--device", "abacus"], 1),
        (["classify", "photo.png", "--labels", "cat,dog", "--out", "labels.xyz"], 1),
        (["classify", "photo.png", "--labels", "cat,dog", "--model", "defualt"], 1),
        (["evaluate", "nowhere/model", "empty"], 1),
        (["evaluate", "default", "empty", "--device", "cuda:one"], 1),
        (["train", "empty", "--pairs", "64", "--out", "run", "--device", "abacus"], 1),
        (["suite", "default", "hf-openai", "--data-root", "empty"], 1),
        (["evaluate", "default", "hf-openai", "--suite", "paper", "--data-root", "empty"], 1),
        (["paper", "table1", "nowhere/model", "--data-root", "empty"], 1),
        (["interpolate", "default", "nowhere", "--share", "0.5", "--out", "between"], 1),
        (["train", "empty", "--init", "nowhere", "--pairs", "64", "--out", "run"], 1),
        (["classify", "empty", "--labels", "cat,dog"], 1),
        (["classify", "--labels", "cat,dog"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_torch_is_not_imported_to_say_no(words, status, tmp_path):
    (tmp_path / "empty").mkdir()
    noise(30, 20).save(tmp_path / "photo.png")
    found, modules = imported(words, tmp_path)
    assert found == status
    assert "torch" not in modules and not {"scipy", "pyarrow", "tokenizers"} & modules


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "default", "nowhere"],
        ["evaluate", "default", "empty"],
        ["train", "empty", "--pairs", "64", "--out", "run", "--evaluate", "nowhere"],
    ],
    ids=" ".join,
)
def test_sets_are_opened_before_torch_is_imported(words, tmp_path):
    (tmp_path / "empty").mkdir()
    status, modules = imported(words, tmp_path)
    assert status == 1 and "torch" not in modules and "diptych.evalsets.benchmark" in modules


EVERY_COMMAND = """
import contextlib, io, sys
import typer.main
from diptych.cli import app
from diptych.cli.paper_exhibits import ABOUT

NUMBERS = "IntParamType", "IntRange", "FloatParamType", "FloatRange"
diptych = typer.main.get_command(app)

def commands(group, words=()):
    for name, found in group.commands.items():
        yield from commands(found, (*words, name)) if hasattr(found, "commands") else [((*words, name), found)]

def run(*words):
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            diptych.main(args=list(words), prog_name="diptych")
    except SystemExit as end:
        print(end.code or 0, "torch" in sys.modules, "Traceback" in err.getvalue(), *words)

run("--help")
for words, command in commands(diptych):
    run(*words, "--help")
    if words[-1] in ABOUT and words[-1] != "table11":  # one function makes them all
        continue
    run(*words, "--no-such-option")
    for one in command.params:
        if type(one.type).__name__ in NUMBERS:
            run(*words, one.opts[0], "many")
    if any(one.required for one in command.params):
        run(*words)
"""


def test_no_command_imports_torch_for_its_help_or_to_refuse_how_it_is_called(tmp_path):
    """All commands in one process: what one of them imports shows in all lines after it."""
    done = subprocess.run(
        [sys.executable, "-c", EVERY_COMMAND], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(lines) > 100, done.stderr
    assert [line for line in lines if line[1:3] != ["False", "False"]] == []
    assert [line for line in lines if line[0] != ("0" if line[-1] == "--help" else "2")] == []
    assert list(tmp_path.iterdir()) == []


def test_one_photograph_imports_torch_once_and_never_again(tmp_path):
    noise(30, 20).save(tmp_path / "photo.png")
    for labels, first in (("cat,dog", True), ("a tree,a house", False), ("cat,dog", False)):
        status, modules = imported(["classify", "photo.png", "--labels", labels], tmp_path)
        assert status == 0 and ("torch" in modules) is first
    assert not {*LATER, "tokenizers", "transformers", "pandas"} & modules


def test_one_photograph_on_torch_imports_little_else(tmp_path):
    noise(30, 20).save(tmp_path / "photo.png")
    status, modules = imported(["classify", "photo.png", "--labels", "cat,dog", "--backend", "torch"], tmp_path)
    assert status == 0 and "torch" in modules
    _, torch_alone = imported([], tmp_path, "import torch")
    assert not [name for name in LATER if name in modules - torch_alone]
    new = {name for name in modules - torch_alone if name.split(".")[0] == "torch"}
    assert len(new) < 40, sorted(new)
    others = ("diptych.train", "diptych.recipes", "diptych.paper", "diptych.report", "diptych.evaluate.tasks")
    assert not [name for name in modules if name.startswith((*others, "diptych.data.loader", "diptych.data.parquet"))]


def test_import_diptych_imports_nothing_heavy(tmp_path):
    _, modules = imported([], tmp_path, "import diptych; diptych.errors; dir(diptych)")
    assert not set(HEAVY) & modules


def test_the_lazy_names_are_those_of_all():
    for package in (diptych, diptych.embed, diptych.evaluate, diptych.objective, diptych.report, diptych.train):
        assert all(getattr(package, name) is not None for name in package.__all__)
        assert set(package.__all__) <= set(dir(package))
        with pytest.raises(AttributeError, match="nonsense"):
            package.nonsense  # noqa: B018


# ------------------------------------------------------------------ garbage


COUNT = """
import gc, sys
count = 0
def counted(phase, info):
    global count
    torch = sys.modules.get("torch")
    count += phase == "start" and getattr(getattr(torch, "__spec__", None), "_initializing", False)
gc.callbacks.append(counted)
"""
SAY = "print(count, gc.isenabled(), 'torch' in sys.modules)"


def test_commands_import_torch_without_a_search_for_garbage(tmp_path):
    """The import alone makes Python search some hundred times; what is measured then is searched as always."""
    found = []
    for code in ("import torch", "from diptych.cli import main\ntry: main()\nexcept SystemExit: pass"):
        done = subprocess.run(
            [sys.executable, "-c", f"{COUNT}\n{code}\n{SAY}", *["train", "nowhere", "--pairs", "64", "--out", "run"]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        found.append(done.stdout.split())
    assert int(found[0][0]) > 50 and found[0][1:] == ["True", "True"]
    assert int(found[1][0]) < 5 and found[1][1:] == ["True", "True"], "a collection may fall between two modules"


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("enabled", [False, True])
def test_the_search_for_garbage_goes_on_after_an_import_whatever_happens(fails, enabled, tmp_path, monkeypatch):
    package = tmp_path / "heavy_one"
    package.mkdir()
    (package / "__init__.py").write_text("import gc\nsearched = [gc.isenabled()]\nfrom heavy_one import part\n")
    fault = "raise RuntimeError('broken installation')" if fails else ""
    (package / "part.py").write_text(f"import gc, heavy_one\nheavy_one.searched.append(gc.isenabled())\n{fault}\n")
    (tmp_path / "light_one.py").write_text("import gc\nsearched = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    (gc.enable if enabled else gc.disable)()
    try:
        with uncollected_imports(("heavy_one", "absent_one")):
            with pytest.raises(RuntimeError, match="broken") if fails else contextlib.nullcontext():
                assert importlib.import_module("heavy_one").searched == [False, False]
            assert gc.isenabled() is enabled
            assert importlib.import_module("light_one").searched is enabled
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module("absent_one")
        assert gc.isenabled() is enabled and sys.meta_path == before
    finally:
        gc.enable()
        for name in ("heavy_one", "heavy_one.part", "light_one"):
            sys.modules.pop(name, None)


def test_a_command_leaves_the_imports_as_they_were_also_where_it_fails(command):
    before = list(sys.meta_path)
    for words in (("--help",), ("classify", "x.png", "--labels", "cat"), ("evaluate", "default", "nowhere")):
        command(*words)
        assert sys.meta_path == before and gc.isenabled()
