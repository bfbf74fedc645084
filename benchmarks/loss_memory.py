"""The contrastive loss in blocks against the one that holds the whole similarity matrix: memory and time, fp32.

    python benchmarks/loss_memory.py --peer open_clip --json
    python benchmarks/loss_memory.py --loss sigmoid --pairs 32768 --dense-pairs 8192

Memory is the peak of a fresh process, forward and backward, beyond the embeddings and their gradients: ours at --pairs,
the dense loss at --dense-pairs, from where it grows with the square. Time is at --dense-pairs, in turn in one process:
ours, the dense loss, and open_clip's. The headline is pairs per second against open_clip's loss.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import common
import torch

sys.path.insert(0, str(common.ROOT / "tests"))
from dense_losses import dense_contrastive_loss, dense_sigmoid_loss, random_embeddings

from diptych.objective import contrastive_loss, sigmoid_loss

SCALE, BIAS = 50.0, -10.0
MIB = 2**20


def main() -> None:
    """Measure memory in other processes, then time here."""
    parser = common.parser(__doc__, peers=["open_clip"], repeats=3)
    parser.add_argument("--loss", choices=["contrastive", "sigmoid"], default="contrastive")
    parser.add_argument("--pairs", type=int, default=32_768, help="at which our memory is measured (%(default)s)")
    parser.add_argument("--dense-pairs", type=int, default=8192, help="at which the dense loss is held (%(default)s)")
    parser.add_argument("--embed-dim", type=int, default=512, help="width of the embeddings (%(default)s)")
    parser.add_argument("--measure", choices=["ours", "dense"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure_here(arguments)))
        return
    memory = {name: measure_apart(arguments, name) for name in ("ours", "dense")}
    for name, found in memory.items():
        print(f"{name}: {found['pairs']:,} pairs, {found['beyond_mib']:,.0f} MiB, {found['seconds']:.1f} s")
    seconds = time_all(arguments)
    for name, value in seconds.items():
        print(
            f"{name}: {arguments.dense_pairs:,} pairs, {1000 * value:,.0f} ms, {value / seconds['dense']:.2f} of dense"
        )
    rates = {"ours": arguments.dense_pairs / seconds["ours"], "peer": arguments.dense_pairs / seconds["peer"]}
    details = {"loss": arguments.loss, "embed_dim": arguments.embed_dim, "memory": memory, "seconds": seconds}
    details["time_of_dense"] = seconds["ours"] / seconds["dense"]
    common.report(arguments, benchmark="loss_memory", unit="pairs/s", **rates, **details)


def our_losses(name: str) -> dict[str, Callable[..., torch.Tensor]]:
    """Ours and the dense loss, of (images, texts, scale)."""
    if name == "contrastive":
        return {"ours": contrastive_loss, "dense": dense_contrastive_loss}
    return {"ours": with_bias(sigmoid_loss), "dense": with_bias(dense_sigmoid_loss)}


def peer_loss(name: str) -> Callable[..., torch.Tensor]:
    """open_clip's loss; imported here, because the processes that measure memory need none of it."""
    import peers  # noqa: F401  (before open_clip)
    from open_clip.loss import ClipLoss, SigLipLoss

    return ClipLoss() if name == "contrastive" else with_bias(SigLipLoss())


def with_bias(loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A sigmoid loss of (images, texts, scale) alone."""
    bias = torch.tensor(BIAS, requires_grad=True)
    return lambda *inputs: loss(*inputs, bias)


def inputs(num: int, width: int) -> list[torch.Tensor]:
    """Embeddings of both sides and the scale, of which the loss has gradients."""
    pairs = random_embeddings(num, width, likeness=0.3, dtype=torch.float32)
    return [*(one.requires_grad_() for one in pairs), torch.tensor(SCALE, requires_grad=True)]


def measure_apart(arguments: argparse.Namespace, name: str) -> dict[str, float]:
    """measure_here in a process of its own."""
    pairs = arguments.pairs if name == "ours" else arguments.dense_pairs
    options = {"loss": arguments.loss, "pairs": pairs, "embed-dim": arguments.embed_dim, "measure": name}
    words = [word for option, value in options.items() for word in (f"--{option}", str(value))]
    run = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def measure_here(arguments: argparse.Namespace) -> dict[str, float]:
    """Peak memory of one forward and backward, MiB beyond inputs and gradients, and its seconds."""
    loss = our_losses(arguments.loss)[arguments.measure]
    warm = inputs(64, arguments.embed_dim)
    loss(*warm).backward()  # what the first product of a process allocates is not the loss's
    given = inputs(arguments.pairs, arguments.embed_dim)
    forget_peak()
    before = memory("VmRSS")
    seconds = common.time_once(lambda: loss(*given).backward())
    gradients = sum(one.grad.nbytes for one in given)
    beyond = memory("VmHWM") - before - gradients
    return {"pairs": arguments.pairs, "beyond_mib": beyond / MIB, "seconds": seconds}


def forget_peak() -> None:
    """Let the peak of this process's memory count from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(field: str) -> int:
    """Bytes of resident memory of this process: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def time_all(arguments: argparse.Namespace) -> dict[str, float]:
    """Median seconds of forward and backward, all sides in turn."""
    given = inputs(arguments.dense_pairs, arguments.embed_dim)
    losses = our_losses(arguments.loss) | {"peer": peer_loss(arguments.loss)}
    seconds: dict[str, list[float]] = {}
    for repeat in range(arguments.repeats + 1):
        for name, loss in losses.items():
            taken = common.time_once(lambda loss=loss: torch.autograd.grad(loss(*given), given))
            if repeat:  # the first warms up
                seconds.setdefault(name, []).append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
