"""One update of the weights, forward to optimizer, on the CPU: ours against open_clip's model and loss.

    python benchmarks/train_step.py --model ViT-B/32 --batch 64 --peer open_clip --json
    python benchmarks/train_step.py --model RN50 --batch 32 --context 16 --peer-compile
    python benchmarks/train_step.py                                  # the tiny ViT at 64 px, batch 256

Both sides see the same pictures and captions of 6 to 22 tokens, 14 on average, in bf16 where the processor has it, with
fused AdamW and the gradient clipped at 1. open_clip runs as its trainer does with --precision amp_bf16: autocast, and
texts computed at the full context of 77: what every published recipe does, and the headline. Its main branch (4.2-dev)
can pad captions only to the longest of the batch (`variable_text`) and form batches of similar lengths
(--length-bucketing). The same work is measured on the same architecture as two more sides, "variable" and "bucketed":
ours against the faster of them is printed beside the headline. With --context 16 the peer is also measured with
--force-context-length 16, which cuts longer captions; with --peer-compile also compiled. --peer-source FOLDER takes
open_clip from a checkout. Each side has a process of its own, as trainers have, and they work in turn. --one-thread
counts the processor's time of a single thread: for machines that have other work to do.
"""

import argparse
import contextlib
import dataclasses
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import common
import torch

from diptych.data.loader import LoaderConfig
from diptych.data.transforms import Preprocessing
from diptych.model.allocator import keep_freed_memory
from diptych.model.clip_config import CLIPConfig, CompactResNetConfig, ViTConfig
from diptych.model.device import choose_dtype, has_fast_bf16
from diptych.model.flops import flops_per_pair
from diptych.model.presets import get_preset
from diptych.model.products import affine, onednn_beats_mkl
from diptych.records import Batch
from diptych.train import TrainConfig
from diptych.train.network import build_network, build_step
from diptych.train.optimizer import OptimizerConfig, build_optimizer

SHORTEST, LONGEST = 6, 22
NUM_BATCHES = 4
TIMED = 2  # steps of a turn; one more comes first, so that turns go round all batches
Drawn = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # pictures, tokens, lengths of a batch
OURS, PEER, COMPILED = "diptych", "open_clip", "open_clip compiled"
LIMIT, LIMIT_SIZE = "matrix limit", 2048
ONEDNN_LIMIT = "matrix limit, oneDNN"  # in fp32 on processors where torch's own product is not the fastest
VARIABLE, BUCKETED = "open_clip, variable", "open_clip, bucketed"


def main() -> None:
    """Time updates of all sides, in turn."""
    parser = common.parser(__doc__, peers=["open_clip"], repeats=NUM_BATCHES)
    parser.add_argument("--model", default="tiny-vit", help="a preset of a ViT or a ResNet (%(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="pairs per update (%(default)s)")
    parser.add_argument("--context", type=int, help="measure the peer with captions cut to so many tokens, too")
    parser.add_argument("--peer-compile", action="store_true", help="measure the peer compiled by torch, too")
    parser.add_argument("--peer-source", metavar="FOLDER", help="take open_clip from this checkout")
    parser.add_argument(
        "--against",
        nargs="*",
        choices=("full", "variable", "bucketed"),
        default=("full", "variable", "bucketed"),
        help="which of the peer's forms; none for the matrix limit alone (each needs its memory all the time)",
    )
    parser.add_argument("--one-thread", action="store_true", help="count the processor's seconds of a single thread")
    parser.add_argument("--side", help=argparse.SUPPRESS)  # one side, in a process of its own
    arguments = parser.parse_args()
    if arguments.side:
        work(arguments)
        return
    full = ([PEER] if "full" in arguments.against else []) + [COMPILED] * arguments.peer_compile
    shorter = [f"{PEER}, {form}" for form in arguments.against if form != "full"]
    sides = [OURS, *full, *shorter]
    sides += [f"{side}, context {arguments.context}" for side in full if arguments.context]
    limits = [LIMIT, ONEDNN_LIMIT] if computes_in() == torch.float32 and onednn_beats_mkl() else [LIMIT]
    rates = measure([*sides, *limits], arguments)
    # The products with the weights at the rate of a large product: no program on this processor can be faster.
    found = [rates.pop(side) / arguments.batch * 2 * LIMIT_SIZE**3 for side in limits]
    limit, fastest = found[0], max(found)
    flops = flops_per_pair(get_preset(arguments.model), (SHORTEST + LONGEST) / 2)
    for side, rate in rates.items():
        print(f"{side:32} {rate:8.1f} pairs/s, ours is {rates[OURS] / rate:.2f} times as fast", flush=True)
    share = rates[OURS] * flops / limit
    print(f"ours computes {rates[OURS] * flops / 1e9:.0f} GFLOP/s, {share:.0%} of the matrix limit, {limit / 1e9:.0f}")
    if fastest > limit:
        print(f"by oneDNN the limit is {fastest / 1e9:.0f}, of which ours is {rates[OURS] * flops / fastest:.0%}")
    common.report(
        arguments,
        benchmark="train_step",
        unit="pairs/s",
        ours=rates[OURS],
        peer=max((rates[side] for side in full), default=None),
        matrix_limit_gflops=limit / 1e9,
        share_of_matrix_limit=share,
        fastest_limit_gflops=fastest / 1e9,
        ratio_variable=rates[OURS] / max(rates[side] for side in shorter) if shorter else None,
        model=arguments.model,
        batch=arguments.batch,
        caption_tokens=(SHORTEST + LONGEST) / 2,
        rates=rates,
    )


def measure(sides: list[str], arguments: argparse.Namespace) -> dict[str, float]:
    """Pairs per second of each side: all take steps in turn, and each batch counts with its median over the repeats."""
    command = [sys.executable, __file__, "--model", arguments.model, "--batch", str(arguments.batch)]
    if arguments.context:
        command += ["--context", str(arguments.context)]
    command += ["--one-thread"] * arguments.one_thread
    if arguments.peer_source:
        command += ["--peer-source", arguments.peer_source]
    processes = {}
    seconds: dict[str, dict[int, list[float]]] = {side: {} for side in sides}
    try:
        for side in sides:  # one after the other: each warms up undisturbed
            processes[side] = subprocess.Popen(
                [*command, "--side", side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            take_turn(processes[side], side)
        for repeat in range(arguments.repeats):
            for side in sides if repeat % 2 == 0 else reversed(sides):
                for batch, value in take_turn(processes[side], side):
                    seconds[side].setdefault(batch, []).append(value)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    # Bucketed batches differ in length, so each counts with its own median.
    mean_step = {side: statistics.mean(map(statistics.median, found.values())) for side, found in seconds.items()}
    return {side: arguments.batch / value for side, value in mean_step.items()}


def take_turn(process: subprocess.Popen, side: str) -> list[tuple[int, float]]:
    """Have a side take its turn; the number of the batch and the seconds of each timed step."""
    assert process.stdin and process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("seconds "):
            words = line.split()[1:]
            return [(int(batch), float(value)) for batch, value in zip(words[::2], words[1::2], strict=True)]
    sys.exit(f"{side} ended before its turn")


def work(arguments: argparse.Namespace) -> None:
    """One side: for each line on stdin a turn of some steps, and a line with their batches and seconds."""
    config = get_preset(arguments.model)
    torch.manual_seed(0)
    clock = time.perf_counter
    if arguments.one_thread:
        torch.set_num_threads(1)
        clock = time.process_time
    if arguments.side in (LIMIT, ONEDNN_LIMIT):
        step = matrix_step(arguments.side)
    elif arguments.side == OURS:
        step = our_step(config, arguments.batch)
    else:
        if arguments.peer_source:
            sys.path.insert(0, str(Path(arguments.peer_source) / "src"))
        context = arguments.context if "context" in arguments.side else config.text.context_length
        step = peer_step(config, arguments.batch, context, arguments.side)
    number = 0
    for _ in range(NUM_BATCHES if COMPILED in arguments.side else 2):
        step()
        number += 1
    for _ in sys.stdin:
        timed = []
        for _ in range(1 + TIMED):  # the first is not timed: memory that lay idle may have to be mapped again
            start = clock()
            step()
            timed += [str(number % NUM_BATCHES), str(clock() - start)]
            number += 1
        print("seconds", *timed[2:], flush=True)


def computes_in() -> torch.dtype:
    """The format that a step computes in here."""
    return torch.bfloat16 if has_fast_bf16(torch.device("cpu")) else torch.float32


def matrix_step(side: str) -> Callable[[], None]:
    """A function that multiplies two large matrices, as torch does or by oneDNN."""
    left, right = (torch.randn(LIMIT_SIZE, LIMIT_SIZE).to(computes_in()) for _ in range(2))
    keep_freed_memory()

    def step() -> None:
        if side == LIMIT:
            torch.mm(left, right)
        else:
            affine(left, right, None)

    return step


def our_step(config: CLIPConfig, batch: int) -> Callable[[], None]:
    """A function that makes one update of our model, as `fit` does."""
    keep_freed_memory()
    run = TrainConfig(
        config, ("",), "", batch, Preprocessing(config.vision.image_size), loader=LoaderConfig(global_batch_size=batch)
    )
    device = torch.device("cpu")
    dtype = choose_dtype("auto", device)
    network = build_network(run, None, device, dtype).to(memory_format=torch.channels_last)
    step_on = build_step(network, run, dtype)
    optimizer = build_optimizer(network, OptimizerConfig(learning_rate=1e-4))
    # Pixels as the loader hands them out, so that ours also pays for their normalisation.
    batches = itertools.cycle(
        [
            Batch((40 * images + 128).clamp(0, 255).byte(), tokens[:, : int(lengths.max())], lengths, ("",) * batch)
            for images, tokens, lengths in pairs(config, batch)
        ]
    )
    numbers = itertools.count()

    def step() -> None:
        optimizer.zero_grad()
        step_on(next(batches), next(numbers))
        optimizer.step(1.0, 1.0)
        network.clip_logit_scale()

    return step


def peer_step(config: CLIPConfig, batch: int, context: int, side: str) -> Callable[[], None]:
    """A function that makes one update of open_clip's model of the same architecture."""
    model, loss_of = peer_model(config, context)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    bf16 = has_fast_bf16(torch.device("cpu"))
    drawn = bucketed(pairs(config, batch)) if side == BUCKETED else pairs(config, batch)
    longest = [int(lengths.max()) if side in (VARIABLE, BUCKETED) else context for _, _, lengths in drawn]
    batches = itertools.cycle([(drawn[i][0], cut(drawn[i][1], length)) for i, length in enumerate(longest)])
    forward = torch.compile(model) if COMPILED in side else model
    positions, mask = model.positional_embedding, model.attn_mask

    def step() -> None:
        images, tokens = next(batches)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            if tokens.shape[1] < context:  # what `variable_text` does: positions and mask of the longest alone
                with shortened(model, positions, mask, tokens.shape[1]):
                    loss = loss_of(*forward(images, tokens)[:3])
            else:
                loss = loss_of(*forward(images, tokens)[:3])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)

    return step


@contextlib.contextmanager
def shortened(model: torch.nn.Module, positions: torch.nn.Parameter, mask: torch.Tensor, length: int) -> Iterator[None]:
    """The model with the first `length` positions of its text tower; gradients reach the whole parameter."""
    del model._parameters["positional_embedding"]
    model.positional_embedding, model.attn_mask = positions[:length], mask[:length, :length]
    try:
        yield
    finally:
        del model.positional_embedding
        model.positional_embedding, model.attn_mask = positions, mask


def bucketed(drawn: list[Drawn]) -> list[Drawn]:
    """The same pairs in batches of similar caption lengths, as --length-bucketing forms them."""
    images, tokens, lengths = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    order = lengths.argsort(stable=True)
    return [(images[rows], tokens[rows], lengths[rows]) for rows in order.chunk(len(drawn))]


def peer_model(config: CLIPConfig, context: int) -> tuple[torch.nn.Module, Callable[..., torch.Tensor]]:
    """open_clip's model and loss."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    import peers  # noqa: F401  (before open_clip)

    from open_clip import CLIP as PeerCLIP  # isort: skip
    from open_clip import ClipLoss  # isort: skip

    vision = config.vision
    assert not isinstance(vision, CompactResNetConfig), "open_clip has no such model: give a ViT or a ResNet"
    sizes = {"image_size": vision.image_size, "width": vision.width, "layers": vision.layers}
    if isinstance(vision, ViTConfig):
        sizes |= {"patch_size": vision.patch_size, "head_width": vision.width // vision.heads}
    text = dataclasses.asdict(config.text) | {"context_length": context}
    model = PeerCLIP(config.embed_dim, sizes, text, quick_gelu=config.activation == "quick_gelu").train()
    return model, ClipLoss()


def pairs(config: CLIPConfig, batch: int) -> list[Drawn]:
    """Some batches of random pictures (N, 3, R, R), tokens (N, 77) padded with zeros, and their lengths (N,)."""
    generator = torch.Generator().manual_seed(0)
    size, text = config.vision.image_size, config.text
    batches = []
    for _ in range(NUM_BATCHES):
        lengths = torch.randint(SHORTEST, LONGEST + 1, (batch,), generator=generator)
        tokens = torch.randint(1, text.vocab_size - 2, (batch, text.context_length), generator=generator)
        tokens[torch.arange(text.context_length) >= lengths[:, None]] = 0
        tokens[torch.arange(batch), lengths - 1] = text.vocab_size - 1
        batches.append((torch.randn(batch, 3, size, size, generator=generator), tokens, lengths))
    return batches


def cut(tokens: torch.Tensor, context: int) -> torch.Tensor:
    """Tokens (N, L) -> (N, context), longer texts ended where they are cut."""
    shorter = tokens[:, :context].clone()
    longer = tokens[:, context:].any(dim=1)
    shorter[longer, -1] = tokens.amax(dim=1)[longer]
    return shorter


if __name__ == "__main__":
    main()
