"""Where the time of a training step goes: each part alone, and the kernels inside.

    python benchmarks/where_time_goes.py                       # the recipe compact-rn
    python benchmarks/where_time_goes.py --recipe tiny-vit --repeats 20

Random pictures, captions of 3 to 20 tokens; a part's time is the median over the repeats, backward included where it
has one. The share of waiting for data stands in a run's log.jsonl.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable

import common
import torch
from torch.profiler import ProfilerActivity, profile

from diptych.data.transforms import normalise
from diptych.model.clip import CLIP, normalised
from diptych.objective import contrastive_loss
from diptych.recipes import get_recipe
from diptych.train.optimizer import build_optimizer
from diptych.train.precision import choose_dtype

NUM_KERNELS = 12


def main() -> None:
    parser = common.parser(__doc__, peers=[], repeats=10)
    parser.add_argument("--recipe", default="compact-rn")
    arguments = parser.parse_args()
    parts = training_step(arguments.recipe)
    seconds = {name: [] for name in parts}
    for repeat in range(arguments.repeats + 1):
        for name, run in parts.items():
            taken = common.time_once(run)
            if repeat:  # the first warms up
                seconds[name].append(taken)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    whole = sum(medians.values())
    for name, value in medians.items():
        print(f"{name:28} {1000 * value:8.1f} ms {value / whole:6.1%}")
    print_kernels(parts)
    batch = get_recipe(arguments.recipe)(("pairs",), "out", 10**6).global_batch_size
    common.report(arguments, benchmark="where_time_goes", unit="pairs/s", ours=batch / whole, parts=medians)


def training_step(recipe: str) -> dict[str, Callable[[], object]]:
    """The parts of a step, in its order; each can be called again and again."""
    torch.manual_seed(0)
    config = get_recipe(recipe)(("pairs",), "out", 10**6)
    clip, batch = CLIP(config.model).train().to(memory_format=torch.channels_last), config.global_batch_size
    optimizer, dtype = build_optimizer(clip, config.optimizer), choose_dtype(config.precision, torch.device("cpu"))
    size, vocabulary = config.model.vision.image_size, config.model.text.vocab_size
    pixels = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    lengths = torch.randint(3, 21, (batch,))
    tokens = torch.randint(1, vocabulary - 1, (batch, 20))
    tokens[torch.arange(batch), lengths - 1] = vocabulary - 1
    embeddings = [torch.randn(batch, config.model.embed_dim, requires_grad=True) for _ in range(2)]

    def prepare() -> torch.Tensor:
        return normalise(pixels, config.preprocessing).contiguous(memory_format=torch.channels_last)

    images = prepare()

    def image_tower() -> None:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            out = normalised(clip.encode_image(images))
        out.backward(torch.ones_like(out))

    def text_tower() -> None:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            out = normalised(clip.encode_text(tokens, lengths))
        out.backward(torch.ones_like(out))

    def loss() -> None:
        contrastive_loss(*map(normalised, embeddings), clip.logit_scale.exp()).backward()

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(clip.parameters(), config.optimizer.clip_norm or float("inf"))
        optimizer.step(1e-9)
        optimizer.zero_grad()

    return {
        "pixels to floats": prepare,
        "image tower": image_tower,
        "text tower": text_tower,
        "loss": loss,
        "clipping and optimizer": update,
    }


def print_kernels(parts: dict[str, Callable[[], object]]) -> None:
    """The operators that take longest, of all parts together."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for run in parts.values():
            run()
    times: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        times[event.key] += event.self_cpu_time_total
    whole = sum(times.values())
    print("\nkernels, share of the processor's time:")
    for name, value in sorted(times.items(), key=lambda item: -item[1])[:NUM_KERNELS]:
        print(f"  {name:44} {value / whole:6.1%}")


if __name__ == "__main__":
    main()
