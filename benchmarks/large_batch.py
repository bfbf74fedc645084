"""One update with a very large batch on a small machine: time and peak memory, ours against open_clip's --accum-freq.

    python benchmarks/large_batch.py --json   # ViT-B/32, 32,768 pairs: an hour on two cores
    python benchmarks/large_batch.py --model tiny-vit --batch 2048 --micro 128 --peer-batch 2048

Random pictures, captions of 6 to 22 tokens, AdamW, gradients clipped at 1, autocast or weights in bf16 where the
processor has it. Each side is one fresh process under the same limit of memory. Ours is `ContrastiveStep` of a run with
`micro_batch_size`; open_clip's is its own `train_one_epoch` with as many micro-batches of the same size. It keeps every
picture as floats and computes the loss of the whole batch anew for each micro-batch, with its matrix of similarities:
the largest batch that fits is found by halving from --batch, with a model of one thin layer until the first backward
pass is through, which is when the most is held. Rates of both are pairs per second of the update.
"""

import argparse
import contextlib
import itertools
import json
import resource
import subprocess
import sys
import time
from types import SimpleNamespace

import common
import torch

from diptych.model.clip_config import CLIPConfig, TextConfig, ViTConfig
from diptych.model.presets import get_preset
from diptych.records import Batch

LIMIT_SHARE = 0.95  # of the machine's memory


def main() -> None:
    """Measure both sides, each in a process of its own."""
    parser = common.parser(__doc__, peers=["open_clip"], repeats=1)
    parser.add_argument("--model", default="ViT-B/32", help="a ViT preset (%(default)s)")
    parser.add_argument("--batch", type=int, default=32_768, help="pairs per update (%(default)s)")
    parser.add_argument("--micro", type=int, default=128, help="pairs computed at once (%(default)s)")
    parser.add_argument("--peer-batch", type=int, default=None, help="the peer's batch; found where it is not given")
    parser.add_argument("--side", choices=["ours", "peer", "peer-probe"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        measure(arguments)
        return
    ours = in_fresh_process("ours", arguments.model, arguments.batch, arguments.micro)
    peer_batch, peer, tried = arguments.peer_batch or arguments.batch, {}, {}
    while "seconds" not in peer and peer_batch >= arguments.micro:
        for side in ["peer-probe"] * (arguments.peer_batch is None) + ["peer"]:
            peer = in_fresh_process(side, arguments.model, peer_batch, arguments.micro)
            if "error" in peer:
                tried[peer_batch] = peer["error"]
                break
        peer_batch //= 2
    common.report(
        arguments,
        benchmark="large_batch",
        unit="pairs/s",
        ours=ours.get("pairs_per_second", float("nan")),
        peer=peer.get("pairs_per_second"),
        model=arguments.model,
        micro_batch=arguments.micro,
        ours_run=ours,
        peer_run=peer,
        peer_ran_out_of_memory=tried,
    )


def in_fresh_process(side: str, model: str, batch: int, micro: int) -> dict:
    """Run one side; {"batch", "seconds", "pairs_per_second", "peak_gib"}, or {"error"} where it ran out of memory."""
    command = [sys.executable, __file__, "--side", side, "--model", model, "--batch", str(batch), "--micro", str(micro)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        print(f"{side}: {done.stdout.strip().splitlines()[-1]}", file=sys.stderr)
        return json.loads(done.stdout.strip().splitlines()[-1])
    lines = (done.stderr.strip() or f"ended with {done.returncode}").splitlines()
    print(f"{side}, batch {batch}: {lines[-1]}", file=sys.stderr)
    return {"batch": batch, "error": lines[-1][:300]}


def measure(arguments: argparse.Namespace) -> None:
    """One update of one side, in this process."""
    with open("/proc/meminfo") as file:  # noqa: PTH123
        total = int(file.readline().split()[1]) * 1024
    # An allocation beyond it fails in this process, in place of any process's end.
    resource.setrlimit(resource.RLIMIT_DATA, (int(LIMIT_SHARE * total),) * 2)
    config = get_preset(arguments.model)
    if arguments.side == "peer-probe":
        vision = ViTConfig(config.vision.image_size, config.vision.image_size, 64, 1, 1)
        config = CLIPConfig(config.embed_dim, vision, TextConfig(77, 49_408, 64, 1, 1))
    torch.manual_seed(0)
    batch = random_batch(config, arguments.batch)
    began = time.perf_counter()
    if arguments.side == "ours":
        our_update(config, batch, arguments.micro)
    else:
        peer_update(config, batch, arguments.micro, first_pass_only=arguments.side == "peer-probe")
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rate = arguments.batch / seconds
    print(json.dumps({"batch": arguments.batch, "seconds": seconds, "pairs_per_second": rate, "peak_gib": peak}))


def random_batch(config: CLIPConfig, n: int) -> Batch:
    """Random pictures as bytes, captions of 6 to 22 tokens."""
    size, text = config.vision.image_size, config.text
    lengths = torch.randint(6, 23, (n,))
    tokens = torch.randint(1, text.vocab_size - 2, (n, 22), dtype=torch.int32)
    tokens[torch.arange(22) >= lengths[:, None]] = 0
    tokens[torch.arange(n), lengths - 1] = text.vocab_size - 1
    return Batch(torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8), tokens, lengths, ("",) * n)


def our_update(config: CLIPConfig, batch: Batch, micro: int) -> None:
    """One update as `fit` makes it."""
    from diptych.data.loader import LoaderConfig
    from diptych.data.transforms import Preprocessing
    from diptych.model.allocator import keep_freed_memory
    from diptych.model.device import choose_dtype
    from diptych.train import TrainConfig
    from diptych.train.network import build_network, build_step
    from diptych.train.optimizer import build_optimizer

    run = TrainConfig(
        model=config,
        data=("",),
        out="",
        num_pairs=len(batch),
        preprocessing=Preprocessing(config.vision.image_size),
        loader=LoaderConfig(global_batch_size=len(batch)),
        micro_batch_size=micro,
    )
    device = torch.device("cpu")
    dtype = choose_dtype("auto", device)
    keep_freed_memory()
    clip = build_network(run, None, device, dtype).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(clip, run.optimizer)
    build_step(clip, run, dtype)(batch, 0)
    optimizer.step(1e-3, run.optimizer.clip_norm)


class FirstPassDone(Exception):
    """The peer's first micro-batch has gone backwards, and its second one has come to the loss."""


def peer_update(config: CLIPConfig, batch: Batch, micro: int, *, first_pass_only: bool = False) -> None:
    """One update by open_clip's own train_one_epoch."""
    from train_step import peer_model

    from diptych.data.transforms import Preprocessing, normalise
    from diptych.model.device import has_fast_bf16

    model, loss = peer_model(config, config.text.context_length)  # also prepares the import of open_clip
    import open_clip_train.train as trainer  # isort: skip

    model.output_dict = True
    texts = torch.zeros(len(batch), config.text.context_length, dtype=torch.long)
    texts[:, : batch.tokens.shape[1]] = batch.tokens
    preprocessing = Preprocessing(config.vision.image_size)

    def batches():
        # As its data loader hands them out: normalised floats.
        for rows in torch.arange(len(batch)).split(micro):
            yield normalise(batch.images[rows], preprocessing), texts[rows]

    class Data:
        num_batches, num_samples = -(-len(batch) // micro), len(batch)

        def __iter__(self):
            return batches()

    arguments = SimpleNamespace(
        device="cpu",
        precision="amp_bf16" if has_fast_bf16(torch.device("cpu")) else "fp32",
        distill=False,
        accum_freq=Data.num_batches,
        skip_scheduler=True,
        horovod=False,
        grad_clip_norm=1.0,
        rank=0,
        local_rank=0,
        world_size=1,
        batch_size=micro,
        log_every_n_steps=1,
        log_local=False,
        wandb=False,
    )
    data = {"train": SimpleNamespace(dataloader=Data(), set_epoch=lambda _: None)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    calls = itertools.count()

    def counted_loss(**inputs):
        if first_pass_only and next(calls) == 1:
            raise FirstPassDone
        return loss(**inputs)

    with contextlib.suppress(FirstPassDone):
        trainer.train_one_epoch(model, data, counted_loss, 0, optimizer, None, None, None, arguments)


if __name__ == "__main__":
    main()
