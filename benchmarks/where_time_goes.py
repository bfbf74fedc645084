"""Where the time of a training step goes: its parts, the share of the machine's rate, and the kernels inside.

    python benchmarks/where_time_goes.py                       # the recipe compact-rn
    python benchmarks/where_time_goes.py --recipe tiny-vit --repeats 20
    python benchmarks/where_time_goes.py --recipe ViT-B/32 --micro-batch 64 --data playground:2000

The step is that of the trainer, on the playground's pairs unless --data says otherwise; a part's time is the median
over the repeats, forward and backward together.
"""

import dataclasses
from collections import defaultdict

import common
from torch.profiler import ProfilerActivity, profile

from diptych.recipes import get_recipe
from diptych.train import TrainConfig
from diptych.train.profile import profile_training

NUM_KERNELS = 12


def main() -> None:
    """Print parts and kernels."""
    parser = common.parser(__doc__, peers=[], repeats=10)
    parser.add_argument("--recipe", default="compact-rn")
    parser.add_argument("--data", default="playground:20000", help="pairs to train on (%(default)s)")
    parser.add_argument("--micro-batch", type=int, help="pairs of the measured step; the recipe's batch without")
    parser.add_argument("--tokenizer", default=None, help="the recipe's without")
    arguments = parser.parse_args()
    config = get_recipe(arguments.recipe)((arguments.data,), "out", 10**9)
    config = dataclasses.replace(config, micro_batch_size=arguments.micro_batch or config.micro_batch_size)
    config = dataclasses.replace(config, tokenizer=arguments.tokenizer or config.tokenizer)
    found = profile_training(config, arguments.repeats)
    whole = sum(seconds for _, seconds in found.parts)
    for name, seconds in found.parts:
        print(f"{name:16} {1000 * seconds:8.1f} ms {seconds / whole:6.1%}")
    print(
        f"{found.num_pairs} pairs of {found.caption_tokens:.1f} tokens, {found.flops_per_pair / 1e9:.2f} GFLOP each: "
        f"{found.share_of_rate:.0%} of {found.machine_rate / 1e9:,.0f} GFLOP/s"
    )
    print_kernels(config, found.machine_rate)
    details = dataclasses.asdict(found) | {"recipe": arguments.recipe, "share_of_rate": found.share_of_rate}
    common.report(arguments, benchmark="where_time_goes", unit="pairs/s", ours=found.pairs_per_second, **details)


def print_kernels(config: TrainConfig, rate: float) -> None:
    """The operators that take longest, in three steps."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        profile_training(config, 1, rate)
    times: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        times[event.key] += event.self_cpu_time_total
    whole = sum(times.values())
    print("\nkernels, share of the processor's time:")
    for name, value in sorted(times.items(), key=lambda item: -item[1])[:NUM_KERNELS]:
        print(f"  {name:44} {value / whole:6.1%}")


if __name__ == "__main__":
    main()
