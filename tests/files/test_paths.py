"""Names of files that begin with ~, on the command line and in Python: one rule, which a shell sets."""

import csv
import getpass
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from embedding import make_vit
from pictures import noise

import diptych
from diptych.cli import app, parse
from diptych.cli.options import device
from diptych.cli.paper_exhibits import ABOUT
from diptych.data.open_source import open_source
from diptych.data.tokenizer import Tokenizer
from diptych.errors import InputError
from diptych.evaluate.tasks.task import Setting
from diptych.files import cache_folder, expanded
from diptych.records import Result, read_results, write_results

NOBODY = "~no-such-user-here"
PARSERS = (parse.path, parse.model, parse.text_or_file)
# Of the parameters that are text, all that name no file.
WORDS = {
    *(
        "activation",
        "backend",
        "caption_column",
        "dataset",
        "endpoint",
        "first",
        "heads",
        "image_column",
        "name",
        "tasks",
    ),
    *("objective", "old_datasets", "precision", "recipe", "revision", "sampler", "search", "settings", "shares"),
    *("reviewer", "split", "suite", "task", "threshold", "fits", "license", "languages", "family"),
    *("backend", "repository", "base_model", "message"),
    *("kind", "progress", "text_column", "ray"),
    *("pixels", "target"),
}
TEMPLATES = {("paper", "figure2"), ("paper", "figure9")}  # their --template takes no @FILE


def commands(group: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""
    group = typer.main.get_command(app) if group is None else group
    for name, found in group.commands.items():
        if hasattr(found, "commands"):
            yield from commands(found, (*words, name))
        else:
            yield (*words, name), found


def path_parameters() -> list[tuple[tuple[str, ...], Any]]:
    """Every parameter that names files, with the words of its command."""
    parsed = [(words, one) for words, found in commands() for one in found.params if hasattr(one.type, "func")]
    return [(words, one) for words, one in parsed if one.type.func is not device]


def test_every_parameter_names_files_by_one_of_the_parsers_or_is_a_word():
    kinds = set()
    for words, command in commands():
        for one in command.params:
            kind = type(one.type).__name__
            kinds.add(kind)
            if kind == "FuncParamType":
                assert one.type.func in (*PARSERS, device), (words, one.name)
            elif kind == "StringParamType":
                template = one.name == "template" and words in TEMPLATES
                assert one.name in WORDS or template, f"{words}: does {one.name} name a file? Give it a parser"
            else:  # Path, File: typer's own types expand nothing
                assert kind in ("BoolParamType", "IntParamType", "IntRange", "FloatParamType"), (words, one.name, kind)
    assert {"FuncParamType", "StringParamType"} <= kinds and len(path_parameters()) > 130


def typed(one: Any, value: str) -> list[str]:
    """A parameter as a user types it, where a shell expands nothing."""
    value = f"@{value}" if one.type.func is parse.text_or_file else value
    return [value] if one.param_type_name == "argument" else [f"{one.opts[0]}={value}"]


def test_every_path_of_every_command_refuses_a_user_that_is_not_there(command):
    """The first error of each: what stands before the parameter is given, and nothing else is looked at."""
    exhibits = {("paper", name) for name in ABOUT if name != "table11"}  # one function makes them all
    for words, one in path_parameters():
        if words in exhibits:
            continue
        values = typed(one, f"{NOBODY}/x")
        if one.name in ("out", "source") and one.param_type_name == "argument":  # after other arguments
            values = ["x", *values] if one.name == "source" or words[-1] == "fetch" else ["x", "x", *values]
        elif one.name in ("sample", "fine_tuned"):
            values = ["x", *values]
        command(*words, *values).is_error(f"{NOBODY}/x: there is no user 'no-such-user-here' on this machine")
        if one.type.func is parse.model:
            for form in ("hf:", "open_clip:", "open_clip:ViT-B-32@"):
                values = values[:-1] + typed(one, f"{form}{NOBODY}/x")
                command(*words, *values).is_error("there is no user 'no-such-user-here'")


def test_the_parsers_expand_what_a_shell_would(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for text, there in {
        "~/x": f"{tmp_path}/x",
        "~": f"{tmp_path}",
        "~/a/{0..3}.tar": f"{tmp_path}/a/{{0..3}}.tar",
        "./~/x": f"{tmp_path}/~/x",
        "a/~/x": "a/~/x",
        "x~": "x~",
        "./x": "./x",
        "playground:100": "playground:100",
        "//a/b": "//a/b",
    }.items():
        assert parse.path(text) == there and parse.model(text) == there
        assert parse.path(there) == there, "what is expanded once stays"
        assert parse.text_or_file(text) == text and parse.text_or_file(f"@{text}") == f"@{there}"
    assert parse.model("hf:~/x") == f"hf:{tmp_path}/x"
    assert parse.model("open_clip:~/x") == f"open_clip:{tmp_path}/x"
    assert parse.model("open_clip:local-dir:~/x") == f"open_clip:local-dir:{tmp_path}/x"
    assert parse.model("open_clip:ViT-B-32@~/x") == f"open_clip:ViT-B-32@{tmp_path}/x"
    assert parse.model("open_clip:ViT-B-32@openai") == "open_clip:ViT-B-32@openai"
    assert parse.model("python:a:b") == "python:a:b" and parse.model("hf:openai/x") == "hf:openai/x"
    assert parse.text_or_file("~cat,dog") == "~cat,dog"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no list of users' folders")
def test_a_name_of_a_user_is_that_users_folder_as_the_shell_has_it():
    user = getpass.getuser()
    shell = subprocess.run(["sh", "-c", f"echo ~{user}/x ~root/y"], capture_output=True, text=True, check=True)
    assert [parse.path(f"~{user}/x"), parse.path("~root/y")] == shell.stdout.split()


def test_a_file_of_the_working_folder_may_begin_with_the_sign(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("~$draft.png").touch()
    assert expanded("~$draft.png") == Path("~$draft.png")
    assert expanded(expanded("./~root")) == tmp_path / "~root"
    for wrong in ("~\0/x", "~\udcff/x", f"{NOBODY}\\x"):
        with pytest.raises(InputError, match="there is no user"):
            expanded(wrong)


def test_a_user_without_a_home(monkeypatch):
    """In a container with a number for a user: no HOME, no line in /etc/passwd."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert cache_folder() is None
    with pytest.raises(InputError, match="no home folder"):
        expanded("~/x")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere")


def test_commands_read_and_write_at_home(command, monkeypatch, tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    make_vit().save("~/model")
    noise(30, 20).save(home / "photo.png")
    (home / "labels.txt").write_text("cat\ndog\n")
    words = ("classify", "~/photo.png", "--labels=@~/labels.txt", "--model=~/model", "--out=~/rows.csv")
    assert command(*words).status == 0
    assert [row["path"] for row in csv.DictReader((home / "rows.csv").open())] == [str(home / "photo.png")]
    assert command("paper", "table11", "--out=~/paper").status == 0 and (home / "paper/exhibits/table11.md").is_file()
    words = (
        "train",
        "playground:64",
        "--pairs=64",
        "--batch-size=32",
        "--set=out=~/run",
        "--set=tokenizer=~/none.json",
        "--out=x",
    )
    command(*words).is_error(f"{home}/none.json")
    assert list(work.iterdir()) == []


def test_python_takes_the_same_names(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    result = Result("zero_shot", "x", "test", "accuracy", 0.5, 2, None, None, None, "single", "m")
    write_results([result], "~/results.jsonl")
    assert read_results("~/results.jsonl") == [result] == read_results(tmp_path / "results.jsonl")
    make_vit().save("~/model")
    diptych.load("~/model").tokenizer.save("~/tokenizer.json")
    assert Tokenizer.from_file("~/tokenizer.json").vocab_size == Tokenizer.from_file("tokenizer.json").vocab_size
    assert Setting(Path("~/sets"), cache="~/c").data == tmp_path / "sets"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "results.jsonl", "tokenizer.json"]
    for refuse in (diptych.load, diptych.open_benchmark, open_source, read_results, Tokenizer.from_file):
        with pytest.raises(InputError, match="there is no user 'no-such-user-here'"):
            refuse(f"{NOBODY}/x")
