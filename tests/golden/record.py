"""Record what a change of structure must not change, and compare two commits.

    python tests/golden/record.py before.json                      # at the commit before
    python tests/golden/record.py after.json --compare before.json # after the change, on the same machine

Recorded: the losses of 20 updates of every small recipe and of two scaled-down paper recipes, with and without
micro-batches; all Results of `diptych evaluate default --suite paper` on the embedded sets and on 500 images of
CIFAR-10 (where ../shared/data has it); digests of encoded images and texts; and digests of all exhibits, made from the
paper's own numbers and from those Results.

Every number goes through the command line or a public name, so that the same script runs on any commit. Results of two
commits are compared as the later one reads them, so that fields that were renamed on purpose are no difference:

    PYTHONPATH=OTHER_CHECKOUT python tests/golden/record.py other.json

Losses and digests depend on the processor and on torch: a record is worth something on the machine that made it, and
none is kept in the repository.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CIFAR10 = Path(__file__).parents[3] / "shared/data/cifar10"
NUM_CIFAR10 = 500

SMALL_RECIPES = ("quickstart", "playground-rn", "compact-rn", "tiny-rn", "tiny-vit", "siglip")
_TEXT = ("model.text.width=64", "model.text.layers=2", "model.text.vocab_size=600", "model.text.context_length=32")
SCALED = {
    "ViT-B/32": (
        *("model.vision.image_size=64", "model.vision.patch_size=16", "model.vision.width=64"),
        *("model.vision.layers=2", "model.vision.heads=1", "preprocessing.image_size=64"),
    ),
    "RN50": (
        *("model.vision.image_size=64", "model.vision.width=16", "model.vision.layers=(1,1,1,1)"),
        *("model.vision.heads=8", "preprocessing.image_size=64"),
    ),
}
NUM_STEPS, BATCH, MICRO_BATCH = 20, 32, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the record is written here")
    parser.add_argument("--compare", type=Path, help="a record made before: differences are printed, and fail")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="some parts alone")
    arguments = parser.parse_args()
    record = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only:
            print(f"recording {name}", flush=True)
            (Path(folder) / name).mkdir()
            record[name] = PARTS[name](Path(folder) / name)
    arguments.out.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    if arguments.compare:
        before = json.loads(arguments.compare.read_text())
        parts = {name: (before[name], record[name]) for name in arguments.only}
        if "results" in parts:
            parts["results"] = (comparable(before["results"]), comparable(record["results"]))
        differences = [line for name, pair in parts.items() for line in compare(*pair, name)]
        print("\n".join(differences) or f"{', '.join(arguments.only)}: nothing changed")
        sys.exit(bool(differences))


def losses(folder: Path) -> dict[str, list[float]]:
    """The loss of each update of each recipe, by recipe and micro-batch."""
    found = {}
    for recipe in (*SMALL_RECIPES, *SCALED):
        settings = ["log_steps=1", "schedule.warmup_steps=5", "loader.lanes=1"]
        if recipe in SCALED:
            settings += [*SCALED[recipe], *_TEXT, "model.embed_dim=32", "tokenizer=train"]
        for micro_batch in (None, MICRO_BATCH):
            out = folder / f"{recipe.replace('/', '-')}-{micro_batch}"
            chosen = settings if micro_batch is None else [*settings, f"micro_batch_size={micro_batch}"]
            options = [word for setting in chosen for word in ("--set", setting)]
            run(
                *("train", "playground:2000", "--out", out, "--recipe", recipe, "--batch-size", BATCH),
                *("--pairs", BATCH * NUM_STEPS, "--workers", 0, "--precision", "fp32", "--device", "cpu", *options),
            )
            rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
            found[out.name] = [row["loss"] for row in rows if "loss" in row]
            assert len(found[out.name]) == NUM_STEPS, f"{out.name} has {len(found[out.name])} losses"
    return found


def results(folder: Path) -> dict[str, Any]:
    """The suite's Results and their exhibits."""
    run("data", "embedded", folder / "sets")
    if CIFAR10.is_dir():
        write_part_of_cifar10(folder / "sets" / "cifar10")
    run("evaluate", "default", "--suite", "paper", "--data-root", folder / "sets", "--out", folder / "out")
    rows = [json.loads(line) for line in (folder / "out/results.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in row.items() if name != "run"} for row in rows]
    return {"rows": kept, "exhibits": exhibits_of(folder / "out")}


NUMBERS = ("value", "n", "low", "high", "interval")
OLD_IDENTITY = ("task", "dataset", "split", "metric", "protocol", "model")


def comparable(record: Mapping[str, Any]) -> dict[str, Any]:
    """Results of a record by what they measure, read as this version of Diptych reads the files of either commit.

    Records of before had no rows, but "numbers" by the fields of OLD_IDENTITY with "/" between.
    """
    from diptych.records import parse_results

    rows = record.get("rows")
    if rows is None:
        rows = [
            {**dict(zip(OLD_IDENTITY, name.split("/", 5), strict=True)), **dict(zip(NUMBERS, values, strict=True))}
            for name, values in record["numbers"].items()
        ]
    found = parse_results(rows)
    numbers = {str(one.identity): [getattr(one, name) for name in NUMBERS] for one in found}
    assert len(numbers) == len(found), "two Results of one identity"
    return {"numbers": numbers, "exhibits": record["exhibits"]}


def paper(folder: Path) -> dict[str, str]:
    """Exhibits of the paper's own numbers alone."""
    listed = subprocess.run(
        [sys.executable, "-c", "from diptych.paper.exhibit_table import EXHIBITS; print(*EXHIBITS)"],
        *(), check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    for name in listed:
        run("paper", name, "--out", folder)
    return exhibits_of(folder)


def exhibits_of(folder: Path) -> dict[str, str]:
    """Digest by file, without what names the command, the commit and the machine."""
    paths = sorted(path for path in (folder / "exhibits").iterdir() if path.suffix in (".csv", ".md", ".svg", ".json"))
    return {path.name: hashlib.sha256(without_facts(path.read_text()).encode()).hexdigest() for path in paths}


def without_facts(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not re.search(r"\b(command|commit|machine)\b", line))


def vectors(folder: Path) -> dict[str, str]:
    """Digests of the embeddings and features of generated images, and of the embeddings of their captions."""
    program = """
import hashlib, json
import diptych
from diptych.data.playground import Playground
samples = list(Playground(64, size=96).read(0))
model = diptych.load("default", "cpu")
arrays = {
    "images": model.encode_images([sample.image for sample in samples]),
    "features": model.image_features([sample.image for sample in samples]),
    "texts": model.encode_texts([sample.texts[0] for sample in samples]),
}
print(json.dumps({name: hashlib.sha256(array.numpy().tobytes()).hexdigest() for name, array in arrays.items()}))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def write_part_of_cifar10(folder: Path) -> None:
    """The first images of both splits, in the same layout."""
    program = """
import itertools, shutil, sys
from pathlib import Path
from diptych import open_benchmark
from diptych.data.shards import write_shards
source, folder, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for split in ("train", "test"):
    found = open_benchmark(source, split).source
    samples = (sample for index in range(len(found.shards)) for sample in found.read(index))
    write_shards(itertools.islice(samples, number), folder / split)
for name in ("classnames.txt", "zeroshot_classification_templates.txt"):
    shutil.copy(source / name, folder / name)
"""
    words = [sys.executable, "-c", program, str(CIFAR10), str(folder), str(NUM_CIFAR10)]
    subprocess.run(words, check=True)


def run(*words: object) -> None:
    """A command of diptych; what it says is shown where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "diptych", *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"diptych {' '.join(map(str, words))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def compare(before: Any, after: Any, where: str) -> list[str]:
    """A line for each difference."""
    if isinstance(before, dict) and isinstance(after, dict):
        lines = [f"{where}: {name} is gone" for name in before.keys() - after.keys()]
        lines += [f"{where}: {name} is new" for name in after.keys() - before.keys()]
        both = sorted(before.keys() & after.keys())
        return lines + [line for name in both for line in compare(before[name], after[name], f"{where} {name}")]
    return [] if before == after else [f"{where}: {before} before, {after} now"]


PARTS = {"losses": losses, "vectors": vectors, "paper": paper, "results": results}

if __name__ == "__main__":
    main()
