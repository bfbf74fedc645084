"""All targets of a GPU in one call; on a machine without one it says so and ends with status 2.

    python benchmarks/gpu.py --out gpu.json                       # about ten minutes on an H100
    python benchmarks/gpu.py --models ViT-B/32 --batch 1024

For each model: pairs per second of an update at --batch, ours as `fit` makes it and open_clip's (amp_bf16, context 77),
each eager and compiled and at the largest micro-batch that fits (open_clip's with --accum-freq's way of caching), in
turn; and the share that ours reaches of the measured rate of bf16 matrix products. Then the loss at 32,768 pairs: time
and peak memory. Where open_clip is not installed its columns are null.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from train_step import pairs, peer_model

from diptych.data.loader import LoaderConfig
from diptych.data.transforms import Preprocessing, normalise
from diptych.evaluate.provenance import commit
from diptych.model.flops import flops_per_pair
from diptych.model.presets import get_preset
from diptych.objective import contrastive_loss
from diptych.records import Batch
from diptych.train import TrainConfig
from diptych.train.network import build_network, build_step
from diptych.train.optimizer import build_optimizer
from diptych.train.profile import machine_rate

DEVICE = torch.device("cuda")
MICRO_BATCHES = (4096, 2048, 1024, 512, 256, 128)


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["ViT-B/32", "ViT-B/16", "RN50"])
    parser.add_argument("--batch", type=int, default=4096, help="pairs per update (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU here: nothing was measured", file=sys.stderr)
        sys.exit(2)
    rate = machine_rate(torch.bfloat16, DEVICE, seconds=3.0)
    figures = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "commit": commit(),
        "bf16_matrix_tflops": rate / 1e12,
        "models": {name: of_model(name, arguments.batch, arguments.repeats, rate) for name in arguments.models},
        "loss": of_loss(32_768, 512),
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def of_model(name: str, batch: int, repeats: int, rate: float) -> dict:
    """Ours and the peer's best variant, timed in turn."""
    config = get_preset(name)
    sides = {"ours": our_update, "peer": peer_update}
    chosen = {side: best_variant(make, config, batch) for side, make in sides.items()}
    updates = {
        side: sides[side](config, batch, one["micro_batch"], one["compiled"]) for side, one in chosen.items() if one
    }
    for update in updates.values():
        update()
    seconds: dict[str, list[float]] = {side: [] for side in updates}
    for _ in range(repeats):
        for side, update in updates.items():
            seconds[side].append(timed(update))
    for side, values in seconds.items():
        chosen[side]["pairs_per_second"] = batch / statistics.median(values)
    ours, peer = (chosen[side] and chosen[side]["pairs_per_second"] for side in ("ours", "peer"))
    flops = flops_per_pair(config, 14.0)
    return {
        **chosen,
        "batch": batch,
        "ratio": ours / peer if ours and peer else None,
        "share_of_matrix_rate": ours * flops / rate if ours else None,
    }


def best_variant(make: Callable, config, batch: int) -> dict | None:
    """Eager or compiled, whichever is faster; None where neither runs."""
    found = [best_fit(make, config, batch, compiled) for compiled in (False, True)]
    return max((one for one in found if one), key=lambda one: one["rate"], default=None)


def best_fit(make: Callable, config, batch: int, compiled: bool) -> dict | None:
    """What the update does with the largest micro-batch that fits into memory; None where it does not run here."""
    for micro in MICRO_BATCHES:
        try:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            update = make(config, batch, min(micro, batch), compiled)
            for _ in range(3):
                update()
            rate, peak = batch / timed(update), torch.cuda.max_memory_allocated() / 2**30
            return {"micro_batch": micro, "compiled": compiled, "rate": rate, "peak_gib": peak}
        except torch.OutOfMemoryError:
            continue
        except (ImportError, RuntimeError) as error:
            print(f"not measured ({make.__name__}, compiled {compiled}): {error}", file=sys.stderr)
            return None
    return None


def timed(update: Callable[[], None]) -> float:
    """Seconds of one update."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    update()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def our_update(config, batch: int, micro: int, compiled: bool) -> Callable[[], None]:
    """An update as `fit` makes it, from pinned bytes on."""
    run = TrainConfig(
        config,
        ("",),
        "",
        batch,
        Preprocessing(config.vision.image_size),
        loader=LoaderConfig(global_batch_size=batch),
        micro_batch_size=micro,
        compile="on" if compiled else "off",
    )
    network = build_network(run, None, DEVICE, torch.bfloat16).to(memory_format=torch.channels_last)
    step_on, optimizer = build_step(network, run, torch.bfloat16), build_optimizer(network, run.optimizer)
    batches = itertools.cycle(
        [
            Batch(pixels(images).pin_memory(), tokens[:, : int(lengths.max())], lengths, ("",) * batch)
            for images, tokens, lengths in pairs(config, batch)[:1]
        ]
    )
    numbers = itertools.count()

    def update() -> None:
        optimizer.zero_grad()
        step_on(next(batches), next(numbers))
        optimizer.step(1.0, 1.0)
        network.clip_logit_scale()

    return update


def peer_update(config, batch: int, micro: int, compiled: bool) -> Callable[[], None]:
    """An update of open_clip's, as its trainer makes it with as many micro-batches."""
    model, loss_of = peer_model(config, config.text.context_length)
    model = model.to(DEVICE)
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, fused=True)
    images, tokens, _ = pairs(config, batch)[0]
    images, tokens = pixels(images).pin_memory(), tokens.pin_memory()
    preprocessing = Preprocessing(config.vision.image_size)

    def update() -> None:
        sides = [
            (normalise(part.to(DEVICE, non_blocking=True), preprocessing), words.to(DEVICE, non_blocking=True))
            for part, words in zip(images.split(micro), tokens.split(micro), strict=True)
        ]
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            if len(sides) == 1:
                loss_of(*forward(*sides[0])[:3]).backward()
            else:
                with torch.no_grad():
                    cached = [forward(*side)[:2] for side in sides]
                for number, side in enumerate(sides):
                    *features, scale = forward(*side)[:3]
                    before, after = cached[:number], cached[number + 1 :]
                    whole = [torch.cat([one[k] for one in (*before, features, *after)]) for k in range(2)]
                    loss_of(*whole, scale).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return update


def pixels(images: torch.Tensor) -> torch.Tensor:
    """Noise as bytes."""
    return (40 * images + 128).clamp(0, 255).byte()


def of_loss(num_pairs: int, width: int) -> dict:
    """Time and peak memory of the loss, forward and backward."""
    sides = [torch.nn.functional.normalize(torch.randn(num_pairs, width, device=DEVICE), dim=1) for _ in range(2)]
    images, texts = (side.requires_grad_() for side in sides)
    scale = torch.tensor(14.3, device=DEVICE, requires_grad=True)

    def update() -> None:
        images.grad = texts.grad = scale.grad = None
        contrastive_loss(images, texts, scale).backward()

    update()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    seconds = statistics.median(timed(update) for _ in range(5))
    beyond = (torch.cuda.max_memory_allocated() - before) / 2**20
    return {"pairs": num_pairs, "width": width, "seconds": seconds, "mib_beyond_inputs_and_gradients": beyond}


if __name__ == "__main__":
    main()
