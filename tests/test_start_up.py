"""What each command imports before it can answer: counted in modules, which no busy machine changes."""

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


def test_one_photograph_imports_torch_and_little_else(tmp_path):
    noise(30, 20).save(tmp_path / "photo.png")
    status, modules = imported(["classify", "photo.png", "--labels", "cat,dog"], tmp_path)
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
