"""transformers 4 and 5 give the same vectors, and a check says so in either."""

import json
import subprocess
import sys
from pathlib import Path

import peers  # noqa: F401  (before transformers)
import pytest
from checked_folders import write_huggingface

from diptych.embed.check.run_check import record_model

transformers = pytest.importorskip("transformers")
TESTS = Path(__file__).resolve().parents[2]
# What transformers 4 needs and transformers 5 does not have in the same version.
OLD = ("transformers<5", "huggingface_hub<1", "tokenizers<0.23", "requests", "urllib3", "idna", "certifi")
MORE = ("charset_normalizer", "pyyaml")
# tests/peers.py comes first, as in every test that imports a library beside torchvision.
RUN = f"import sys; sys.path.insert(0, {str(TESTS)!r}); import peers; from diptych.cli import main; main()"


@pytest.fixture(scope="module")
def old_libraries(tmp_path_factory):
    """A folder with transformers 4, to stand before the installed packages."""
    folder = tmp_path_factory.mktemp("transformers4")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*install, *OLD, *MORE], capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"pip cannot install transformers 4: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.mark.long
def test_transformers_4_gives_the_vectors_of_transformers_5(old_libraries, tmp_path, monkeypatch):
    assert transformers.__version__ >= "5"
    folder = write_huggingface(tmp_path / "hf")
    record_model(f"hf:{folder}", tmp_path / "five.npz", device="cpu")
    places = [str(old_libraries), str(TESTS.parent)]
    monkeypatch.setenv("PYTHONPATH", ":".join(places))

    def check(*words):
        command = [sys.executable, "-c", RUN, "check", *map(str, words), "--device", "cpu", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
        assert done.returncode in (0, 1) and done.stdout, done.stderr
        return json.loads(done.stdout)

    assert "(transformers 4." in check(f"hf:{folder}")["reference"]
    for words in ([f"hf:{folder}"], [folder], [f"hf:{folder}", "--against", "five.npz"]):
        result = check(*words)
        assert result["equal"] and not [row for row in result["stages"] if row["not_compared"]], result
    assert "five.npz: hf (transformers 5." in result["reference"] and "(transformers 4." in result["model"]
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "gelu"
    (folder / "config.json").write_text(json.dumps(config))
    assert check(f"hf:{folder}", "--against", "five.npz")["first_difference"] == "features"
