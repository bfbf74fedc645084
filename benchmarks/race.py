"""So many minutes on this machine from the same shards: open_clip's trainer and ours, and what their models know.

    python benchmarks/race.py --json                             # 15 minutes each; needs ../shared/data
    python benchmarks/race.py --minutes 2 --racers compact-rn    # a short look at one of them

Three racers in turn, each in a process of its own: open_clip's trainer with the tiny ViT of this file, ours with the
same architecture and tokenizer, ours with our recipe for small photographs. Each trains for a moment to find its rate
and then, anew, on as many pairs as fit the budget, decoding included; ours do so by themselves (`minutes`), within the
budget. All are measured by the same evaluator.
"""

import argparse
import dataclasses
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import torch

from diptych import load
from diptych.data.transforms import Augmentation
from diptych.evalsets.benchmark import open_benchmark
from diptych.evaluate import ZeroShot
from diptych.model.clip_config import CLIPConfig, TextConfig, ViTConfig
from diptych.model.device import has_fast_bf16
from diptych.recipes import compact_rn, tiny_vit
from diptych.train import TrainConfig, fit
from diptych.train.length import NO_LIMIT

SAME = CLIPConfig(256, ViTConfig(64, 8, 192, 12), TextConfig(width=256, layers=4), activation="gelu")
# The same for open_clip: gelu and a vocabulary of 49,408 are its defaults.
PEER_CONFIG = {
    "embed_dim": SAME.embed_dim,
    "vision_cfg": {"image_size": 64, "layers": 12, "width": 192, "head_width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49_408, "width": 256, "heads": 4, "layers": 4},
}
PEER, SAME_VIT, COMPACT = RACERS = ("open_clip", "same-vit", "compact-rn")
BATCH = 256
TRIAL_STEPS = 12  # of the peer
# Seconds around the steps, of the whole budget: imports, the tokenizer, the last checkpoint.
SPARE_SECONDS = 20


def main() -> None:
    parser = common.parser(__doc__, peers=[PEER])
    parser.add_argument("--minutes", type=float, default=15.0, help="for each racer (%(default)s)")
    parser.add_argument("--racers", nargs="+", choices=RACERS, default=RACERS, help="who runs, in this order")
    parser.add_argument("--data", type=Path, default=common.SHARED_DATA, help="folder of tiny-imagenet/ and cifar10/")
    parser.add_argument("--out", type=Path, default=Path("runs/race"), help="a new folder is made in it")
    # One run, in a process: so many pairs of the peer, so many minutes of ours.
    parser.add_argument("--train", nargs=2, metavar=("RACER", "LENGTH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        racer, length = arguments.train
        train(racer, arguments.data, arguments.out, float(length))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    out = Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=arguments.out))
    figures = {racer: race(racer, arguments.data, out / racer, arguments.minutes) for racer in arguments.racers}
    rates = {racer: figures[racer]["pairs_per_second"] for racer in figures}
    ours = rates.get(SAME_VIT, rates.get(COMPACT, 0.0))
    common.report(arguments, benchmark="race", unit="pairs/s", ours=ours, peer=rates.get(PEER), racers=figures)


def race(racer: str, data: Path, out: Path, minutes: float) -> dict[str, float]:
    """Find the rate, train for the budget, measure."""
    budget = max(1.0, minutes * 60 - SPARE_SECONDS)
    length = budget / 60
    if racer == PEER:
        spawn(racer, data, out / "trial", TRIAL_STEPS * BATCH)
        rate = read_rate(racer, out / "trial")
        length = max(BATCH, int(rate * budget) // BATCH * BATCH)
        print(f"{racer}: {rate:.0f} pairs/s, so {length:,} pairs in {minutes:g} minutes", flush=True)
    seconds = common.time_once(lambda: spawn(racer, data, out / "run", length))
    pairs = length if racer == PEER else json.loads((out / "run" / "config.json").read_text())["num_pairs"]
    figures = {"pairs": pairs, "seconds": seconds, "pairs_per_second": read_rate(racer, out / "run")}
    model = load(peer_checkpoint(out / "run"), activation="gelu") if racer == PEER else load(out / "run" / "model")
    for name in ("tiny-imagenet", "cifar10"):
        results = ZeroShot(open_benchmark(data / name))(model)
        figures |= {f"{name} ({result.protocol})": result.value for result in results if result.metric == "accuracy"}
    print(f"{racer}: {json.dumps(figures)}", flush=True)
    return figures


def spawn(racer: str, data: Path, out: Path, length: float) -> None:
    """Train in a new process; its output goes to a file beside the run."""
    out.mkdir(parents=True)
    command = [sys.executable, __file__, "--train", racer, str(length), "--data", str(data), "--out", str(out)]
    with (out / "output.txt").open("w") as output:
        if subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode:
            sys.exit(f"{racer} failed; see {output.name}")


def train(racer: str, data: Path, out: Path, length: float) -> None:
    """One run of one racer, in this process."""
    if racer == PEER:
        train_open_clip(data, out, int(length))
    else:
        config = our_config(racer, (str(data / "tiny-imagenet" / "train"),), str(out), NO_LIMIT)
        fit(dataclasses.replace(config, minutes=length))


def our_config(racer: str, shards: tuple[str, ...], out: str, pairs: int) -> TrainConfig:
    """Our recipe, or the peer's architecture with the peer's hyper-parameters and tokenizer."""
    if racer == COMPACT:
        return compact_rn(shards, out, pairs)
    config = tiny_vit(shards, out, pairs)
    return dataclasses.replace(
        config,
        model=SAME,
        tokenizer="openai",
        augmentation=Augmentation(rescale=(0.9, 1.0)),  # open_clip's default
        optimizer=dataclasses.replace(config.optimizer, clip_norm=None),
        schedule=dataclasses.replace(config.schedule, warmup_steps=warmup_steps(pairs)),
    )


def warmup_steps(pairs: int) -> int:
    return min(40, pairs // BATCH // 10)


def train_open_clip(data: Path, out: Path, pairs: int) -> None:
    """open_clip's own main; it makes the folder out/peer."""
    sys.path.insert(0, str(common.ROOT))
    import tests.peers  # noqa: F401  (before open_clip)

    import open_clip  # isort: skip
    from open_clip_train.main import main as train_peer  # isort: skip

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "same-vit.json").write_text(json.dumps(PEER_CONFIG))
        open_clip.add_model_config(folder)
    shards = sorted((data / "tiny-imagenet" / "train").glob("*.tar.gz"))
    options = {
        "model": "same-vit",
        "train-data": f"{shards[0].parent}/{{0..{len(shards) - 1}}}.tar.gz",
        "train-num-samples": pairs,
        "dataset-type": "webdataset",
        "batch-size": BATCH,
        "precision": "amp_bf16" if has_fast_bf16(torch.device("cpu")) else "fp32",
        "workers": 1,
        "epochs": 1,
        "lr": 1e-3,
        "wd": 0.1,
        "warmup": warmup_steps(pairs),
        "log-every-n-steps": 5,
        "logs": out,
        "name": "peer",
        "device": "cpu",
    }
    train_peer([text for name, value in options.items() for text in (f"--{name}", str(value))])


def peer_checkpoint(out: Path) -> Path:
    return out / "peer" / "checkpoints" / "epoch_1.pt"


def read_rate(racer: str, out: Path) -> float:
    """Median over the log's rows, pairs per second; the first row, which pays for the start, is left out."""
    if racer == PEER:
        rates = [float(rate) for rate in re.findall(r"([\d.]+)/s, ", (out / "peer" / "out.log").read_text())]
    else:
        rows = map(json.loads, (out / "log.jsonl").read_text().splitlines())
        rates = [row["pairs_per_second"] for row in rows]
    return statistics.median(rates[1:] or rates)


if __name__ == "__main__":
    main()
