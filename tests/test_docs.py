"""What the pages show is what works: every block of README.md and docs/ is run on small data, or at least parsed."""

import glob
import gzip
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import peers  # noqa: F401  (before open_clip and transformers)
import pyarrow
import pyarrow.parquet
import pytest
import torch
import typer.main
from colours import write_set
from pictures import noise
from training import generated_pairs

from diptych.cli import app
from diptych.data.playground import Playground
from diptych.data.shards import write_shards
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed import Model
from diptych.evalsets import get_prompts
from diptych.evalsets.embedded import write_embedded
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig, TextConfig, ViTConfig
from diptych.model.presets import PRESETS
from diptych.records import Result, write_results

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BLOCK = re.compile(r"^```(sh|bash|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ACTIVATE = ". .venv/bin/activate"

# What stands in a page for the reader's own scale, and what it is here.
SMALLER = {
    "--pairs 300000": "--pairs 64 --batch-size 32",
    "--minutes 15": "--pairs 64 --batch-size 32",
    "--epochs 5": "--epochs 2 --batch-size 32",
    "num_pairs=300_000": "num_pairs=256",
    "--pairs 20000 --trials 20": "--pairs 64 --trials 1 --held-out 0.3 --set loader.global_batch_size=32",
    "playground:50000": "playground:200",
}
# The same for the sets that `diptych data embedded` writes: 27,000 images take a minute.
SMALLER_SETS = {"num_train": 50, "num_test": 50}
# Commands that are not run: their programs, files, targets and options are checked.
ONLY_PARSED = {
    "make ": "installs, or is what runs this test",
    "pytest ": "is what runs this test",
    "python benchmarks/": "measures for minutes",
    "python models/": "trains for an hour; tests/test_default_model.py runs it on a miniature",
    "python docs/": "writes into the pages, and needs a browser",
    "diptych paper figure2 ": "trains for half an hour; tests/paper/test_figure2.py runs a miniature",
    "diptych paper figure9 ": "trains for half an hour; tests/paper/test_figure9.py runs a miniature",
    "diptych data fetch": "needs the hub; tests/evalsets/test_cards_hub.py fetches from a server of its own",
    "diptych data prepare": "needs archives; tests/evalsets/test_cards_preparing.py prepares from miniatures",
    "--model openai/": "needs the hub; tests/cli/test_models_command.py classifies with a server of its own",
    "--ray auto": "needs a cluster; tests/embed/test_ray_executor.py starts one",
    "diptych push": "needs the hub; tests/embed/hub/test_pushing.py pushes to a server of its own",
    "hf-hub:me/": "needs the hub; tests/embed/hub/test_pushing.py loads from a server of its own",
    "--fetch": "needs the hub; tests/cli/test_models_command.py fetches from a server of its own",
    "--to openai": "needs OpenAI's vocabulary; tests/convert/test_convert_libraries.py converts",
    "--precision int8": "needs trained weights; tests/convert/test_convert_precision.py converts some",
    " hf:": "needs the hub; tests/embed/test_other_encoders.py loads from folders",
    " open_clip:": "needs weights of open_clip; tests/embed/test_other_encoders.py makes some",
    "diptych embed --urls": "needs a network; tests/cli/test_embed_command.py fetches from a server of its own",
    "diptych quickstart": "trains for minutes; tests/test_quickstart.py runs a short one",
    "diptych overlap review": "serves until it is ended; tests/serve opens it in a browser",
    "diptych recipes --pairs": "measures for half a minute; tests/recipes/test_guidance.py measures, too",
    "diptych benchmark": "measures for a minute; tests/train/test_profile.py measures a miniature",
    "--recipe ViT-B/32": "needs more than a test's machine",
    "--recipe ViT-B/16": "needs more than a test's machine",
}
# Numbers there were measured on data and machines that a test does not have.
PAGES_ONLY_PARSED = ("docs/results.md", "docs/overlap_cases.md")  # measurements of minutes and hours


# ---- the reader's folder


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with everything that the pages name: a model, pairs in every format, evaluation sets, pictures."""
    folder = tmp_path_factory.mktemp("home")
    pairs = generated_pairs(60)
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "orange.jpg", folder / "docs")
    (folder / "captions.txt").write_text("\n".join(pair.texts[0] for pair in pairs))
    write_model(folder)
    for name in ("shards", "more"):
        for shard in write_shards(pairs, folder / name, shard_size=5):
            shard.with_suffix(".tar.gz").write_bytes(gzip.compress(shard.read_bytes()))
            shard.unlink()
    write_pictures_and_tables(folder)
    for name in ("tiny-imagenet", "my-birds"):
        write_set(folder / name, [0, 1, 2, 3, 4, 5, 6])
    write_set(
        folder / "cifar10", list(range(10)), class_names=[names[0] for names in get_prompts("CIFAR10").class_names]
    )
    write_paper_set(folder / "sets")
    return folder


def write_paper_set(root: Path) -> None:
    """A miniature of CIFAR-10 as class folders, in a folder of evaluation sets."""
    for names in get_prompts("CIFAR10").class_names:
        for split, count in (("train", 6), ("test", 2)):
            (root / "CIFAR10" / split / names[0]).mkdir(parents=True)
            for number in range(count):
                noise(32, 32, number).save(root / "CIFAR10" / split / names[0] / f"{number}.png")


def write_model(folder: Path) -> None:
    captions = [text for sample in Playground(100).read(0) for text in sample.texts]
    tokenizer = Tokenizer.train(captions, vocab_size=600)
    config = CLIPConfig(32, ViTConfig(32, 16, width=64, layers=1), TextConfig(77, 600, width=64, layers=1))
    torch.manual_seed(0)
    model = Model(CLIP(config), tokenizer, Preprocessing(32))
    model.save(folder / "runs" / "quickstart" / "model")
    interval = (0.4, 0.6, "clopper-pearson 99.5%")
    result = Result("zero_shot", "shape", "test", "accuracy", 0.5, 100, *interval, "ensemble", "quickstart")
    for path in ("runs/quickstart/results.jsonl", "yfcc.jsonl", "sample.jsonl"):
        write_results([result], folder / path)
    torch.save(model.clip.state_dict(), folder / "ViT-B-32.pt")
    tokenizer.save(folder / "tokenizer.json")


def write_pictures_and_tables(folder: Path) -> None:
    pairs = generated_pairs(60)
    for name in ("photos", "pictures", "holiday", "pairs"):
        (folder / name).mkdir()
    lines = ["filepath,caption"]
    for pair in pairs:
        (folder / "photos" / f"{pair.key}.png").write_bytes(pair.image)
        (folder / "photos" / f"{pair.key}.txt").write_text(pair.texts[0])
        lines.append(f'photos/{pair.key}.png,"{pair.texts[0].replace(chr(34), chr(34) * 2)}"')
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    for part in range(2):
        rows = [{"image": {"bytes": p.image, "path": None}, "text": p.texts[0]} for p in pairs[part::2]]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "pairs" / f"{part}.parquet")
    for path in ("photo.jpg", "a.jpg", "b.png", "pictures/c.jpg", "pictures/d.png", "holiday/e.jpg"):
        noise(50, 40, len(path)).save(folder / path)
    (folder / "labels.txt").write_text("cat\ndog\na red car\n")


# ---- the blocks


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_works(page, home, command, tmp_path, monkeypatch):
    """In the page's order, in one folder and one Python session, as a reader would."""
    for name, number in SMALLER_SETS.items():
        assert number < write_embedded.__kwdefaults__[name]
        monkeypatch.setitem(write_embedded.__kwdefaults__, name, number)
    text = page.read_text(encoding="utf-8")
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    names: dict[str, object] = {"__name__": "page"}
    printed: list[str] | None = None  # by the block before, where everybody gets the same
    for match in BLOCK.finditer(text):
        where = f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}"
        code = match[2]
        for large, small in SMALLER.items():
            code = code.replace(large, small)
        if match[1] == "python":
            exec(compile(code, where, "exec"), names)  # noqa: S102  (our own pages)
            continue
        if match[1] == "text":
            if printed is not None:
                assert_same_output("".join(printed), code, where)
            continue
        # What is measured, or made by a model that each reader trains, differs.
        printed = None if "runs/" in code else []
        for line in code.replace("\\\n", " ").splitlines():
            if words := split(line):
                reason = next((why for part, why in ONLY_PARSED.items() if part in " ".join(words) + " "), None)
                check(words)
                if reason is not None or str(page.relative_to(ROOT)) in PAGES_ONLY_PARSED:
                    printed = None
                elif words[0] != ".":
                    output = run(words, command, monkeypatch, where)
                    printed = None if printed is None else [*printed, output]


def assert_same_output(output: str, shown: str, where: str) -> None:
    """The same words; numbers may differ in the last place, as between processors with and without bf16."""
    number = r"\d+(?:\.\d+)?"
    assert re.sub(number, "#", output) == re.sub(number, "#", shown), f"{where}: {output}"
    values = [[float(one) for one in re.findall(number, text)] for text in (output, shown)]
    assert values[0] == pytest.approx(values[1], abs=1), f"{where}: {output}"


def test_the_first_lines_of_the_readme_work_when_they_are_pasted(home, tmp_path):
    """Into a shell that has not heard of Diptych, in the folder where `make demo` has installed it and trained."""
    code, shown = re.search(
        r"```sh\n(\. \.venv.*?)```\n\n```text\n(.*?)```", PAGES[0].read_text("utf-8"), re.DOTALL
    ).groups()
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    if not (Path(sys.prefix) / "bin" / "activate").exists():
        pytest.skip("the tests do not run in a virtual environment")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shell = ["sh", "-euc", f"PS1=\n{code}"]
    done = subprocess.run(shell, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same_output(done.stdout, shown, "README.md")


def test_the_readme_activates_the_environment_before_it_needs_it():
    text = PAGES[0].read_text(encoding="utf-8")
    commands = re.search(r"^(diptych|python) ", "\n".join(m[2] for m in BLOCK.finditer(text)), re.MULTILINE)
    assert ACTIVATE in "\n".join(m[2] for m in BLOCK.finditer(text))[: commands.start()]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_within_sentences_exist(page):
    """With the options that they name; values may be placeholders."""
    for line in re.findall(r"`(diptych [^`]+)`", page.read_text(encoding="utf-8")):
        found, rest = typer.main.get_command(app), line.split()[1:]
        while rest and hasattr(found, "commands"):
            if not re.fullmatch(r"[a-z][\w-]*", rest[0]):
                break  # a placeholder: COMMAND, --version
            assert rest[0] in found.commands, f"{page.name}: {line}"
            found, rest = found.commands[rest[0]], rest[1:]
        known = {name for parameter in found.params for name in parameter.opts} | {"--help"}
        assert (
            not {word.strip("[],.").split("=")[0] for word in rest if word.startswith("--")} - known - {"--version"}
        ), line


def split(line: str) -> list[str]:
    """A line's words as a shell makes them: comments gone, unquoted patterns expanded, assignments left out."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    quoted = {word for word in words if f"'{word}'" in line or f'"{word}"' in line}
    found = [sorted(glob.glob(word)) if "*" in word and word not in quoted else [] for word in words]  # noqa: PTH207
    return [part for word, files in zip(words, found, strict=True) for part in files or [word]]


def check(words: list[str]) -> None:
    """The program, its files and its options are there; nothing is run."""
    program, *rest = words
    options = [word.split("=")[0] for word in rest if word.startswith("--")]
    if program == "diptych":
        found = typer.main.get_command(app)
        while hasattr(found, "commands") and not (found.invoke_without_command and rest[0].startswith("-")):
            name, *rest = rest
            found = found.commands[name]
        found.make_context(name, rest)  # raises for what the command does not know
    elif words == ACTIVATE.split():
        pass
    elif program == "torchrun":  # only parsed: the recipe needs GPUs
        check(words[words.index("diptych") :])
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert not [target for target in rest if "=" not in target and target not in targets], words
    elif program == "pytest":
        assert all((ROOT / word).exists() for word in rest if word.startswith("tests/")), words
    elif program == "python":
        script = Path("diptych/data/playground/__main__.py") if rest[0] == "-m" else Path(rest[0])
        source = (ROOT / script).read_text() + (ROOT / "benchmarks" / "common.py").read_text()
        assert not [option for option in options if f'"{option}"' not in source], words
    else:
        pytest.fail(f"nothing is known here of the program {program}: {shlex.join(words)}")


def run(words: list[str], command, monkeypatch, where: str) -> str:
    """Run the command in this process; what it printed."""
    if words[0] == "diptych":
        outcome = command(*words[1:])
        assert outcome.status == 0, f"{where}: {shlex.join(words)}\n{outcome.err}"
        return outcome.out
    assert words[:2] == ["python", "-m"], f"{where}: {shlex.join(words)}"
    monkeypatch.setattr(sys, "argv", words[2:])
    runpy.run_module(words[2], run_name="__main__")
    return ""


# ---- what else the pages say


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_figure_was_forgotten(page):
    assert not re.findall(r"\b[A-Z]+_HERE\b", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_the_page_of_commands_is_the_one_that_their_help_makes():
    script = runpy.run_path(str(ROOT / "docs" / "make_cli_page.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), "run: python docs/make_cli_page.py"


def test_the_page_of_commands_has_a_heading_for_each_that_exists():
    headings = re.findall(r"^## diptych (.*)$", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), re.MULTILINE)
    groups = typer.main.get_command(app).commands
    there = [
        name if not hasattr(found, "commands") else f"{name} {inner}"
        for name, found in groups.items()
        for inner in getattr(found, "commands", [""])
    ]
    there += [name for name, found in groups.items() if getattr(found, "invoke_without_command", False)]
    assert sorted(headings) == sorted(there) and len(set(headings)) == len(headings)


def test_the_architecture_page_is_that_of_the_packages():
    """After a change: python docs/make_architecture.py."""
    sys.path.insert(0, str(ROOT / "docs"))
    import make_architecture

    page, drawing = make_architecture.page(), make_architecture.drawing()
    assert make_architecture.PAGE.read_text(encoding="utf-8") == page
    assert make_architecture.DRAWING.read_text(encoding="utf-8") == drawing
    named = set(re.findall(r"`([\w/]+\.py)`", page))
    package = ROOT / "diptych"
    here = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    assert named >= {name for name in here if not name.endswith(("__init__.py", "__main__.py"))} and named <= here
    layers = [name for layer in make_architecture.layers() for name in layer]
    assert all(f">{name}</text>" in drawing for name in layers) and len(layers) >= 15
    assert all(cell.strip() for row in re.findall(r"^\| `[^`]+` \|(.*)\|$", page, re.M) for cell in [row])


def test_the_table_of_presets_is_right():
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/@-]+)` \| (\d+) \|.*\| ([\d,]+) \|$", text, re.MULTILINE)
    assert len(rows) == 9
    for name, pixels, parameters in rows:
        assert PRESETS[name].vision.image_size == int(pixels)
        assert PRESETS[name].num_parameters() == int(parameters.replace(",", ""))
