"""diptych models, and commands that take a published model by its name, from a hub on this machine."""

import json
import subprocess
import sys

import pytest
from hub_server import HubServer, Repository, serving
from pictures import noise
from published import LAION, NAME, open_clip_files

from diptych.embed.catalogue import MODELS, advise

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    with serving(HubServer({LAION: Repository(open_clip_files())})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_the_list_says_what_to_take(command):
    done = command("models")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    for row in MODELS:
        assert [line for line in lines if line.split()[:1] == [row.name[:48]] or row.name in line], row.name
    for entry in advise():
        place = next(number for number, line in enumerate(lines) if line.startswith(f"  {entry.purpose} ("))
        assert lines[place + 1].startswith(f"    {entry.model.name} (")
    assert max(map(len, lines)) <= 120


def test_conditions_narrow_the_list(command):
    done = command("models", "--fits", "2GB", "--license", "permissive", "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert {row["license"] for row in rows} == {"mit", "apache-2.0"}
    assert max(row["bytes_fp32"] for row in rows) <= 2e9
    assert {"ViT-B-32/openai", "ViT-B-16-SigLIP2/webli"} <= {row["name"] for row in rows}
    command("models", "--fits", "1MB").is_error("none of the 140 models")
    command("models", "--fits", "big").is_error("such as 2GB")
    command("models", "--license", "free").is_error("permissive, any")
    command("models", "ViT-B/32", "--fits", "2GB").is_error("narrow the list")
    command("models", "--fetch").is_error("needs the name")


def test_one_model_in_full(command):
    done = command("models", "ViT-B/32")
    assert "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af" in done.out
    assert "diptych classify photo.jpg --model ViT-B-32/openai" in done.out
    assert json.loads(command("models", "ViT-B/32", "--json").out)["parameters"] == 151_277_313
    assert "for research only" in command("models", "ViT-B-16/metaclip_400m").out
    command("models", "ViT-B/33").is_error("did you mean ViT-B/32")
    command("models", "hf-hub:somebody/birds").is_error("does not describe")


def test_the_list_needs_neither_torch_nor_a_network():
    code = (
        "import sys, socket\n"
        "socket.socket = socket.create_connection = None\n"
        "sys.argv = ['diptych', 'models', '--license', 'permissive']\n"
        "from diptych.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "assert 'torch' not in sys.modules and 'huggingface_hub' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_photograph_is_classified_by_a_model_that_nobody_fetched(command, hub, tmp_path):
    noise(60, 50, 1).save(tmp_path / "photo.jpg")
    words = ("classify", "photo.jpg", "--model", NAME, "--labels", "cat,dog")
    command(*words, "--offline").is_error("is not in the cache", f"hf download {LAION}")
    assert hub.requests == []
    done = command(*words)
    assert done.status == 0, done.err
    assert f"fetching {LAION}" in done.log
    hub.requests.clear()
    again = command(*words, "--offline")
    assert (again.status, again.out) == (0, done.out)
    assert hub.requests == []


def test_a_model_is_fetched_ahead(command, hub, tmp_path):
    done = command("models", NAME, "--fetch")
    assert done.status == 0, done.err
    assert (tmp_path / "hf") in __import__("pathlib").Path(done.out.strip()).parents
    assert command("models", NAME, "--fetch", "--offline").out == done.out


def test_every_command_that_takes_a_model_has_the_option():
    import typer.main

    from diptych.cli import app

    def commands(group, words=()):
        for name, found in group.commands.items():
            if hasattr(found, "commands"):
                yield (*words, name), found
                yield from commands(found, (*words, name))
            else:
                yield (*words, name), found

    lacking = []
    for words, found in commands(typer.main.get_command(app)):
        names = {parameter.name for parameter in found.params}
        takes_model = names & {"model", "models", "init", "zero_shot", "model_and_datasets"}
        if takes_model and "offline" not in names and words != ("push",):  # which needs the network
            lacking.append(words)
    assert lacking == []


def test_the_option_ends_with_its_command(command, hub, monkeypatch):
    import os

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    command("models", "--offline")
    assert "HF_HUB_OFFLINE" not in os.environ
