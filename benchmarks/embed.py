"""Images and texts to vectors on this machine, ours against open_clip's best simple loop, in one alternating run.

    python benchmarks/embed.py --part images --json      # JPEG files to vectors on disk
    python benchmarks/embed.py --part decoded --json     # decoded pixels to vectors, and the share of the matrix limit
    python benchmarks/embed.py --part texts --json       # captions to vectors

Both sides have the same random ViT-B/32 (QuickGELU). Ours is what `diptych embed` does, with --backend and --precision
(auto by default: the fastest that passed its self-test, chosen before the run). The peer is open_clip with its weights
cast once to bf16 where the processor has it, its own transforms in a DataLoader with as many workers as cores, batches
of 64, inference mode. --images names the photographs; by default the full-size ones of the shared data are repeated.

The matrix limit is the rate of torch's product of 2048 x 2048 matrices in the precision that ours computed in, measured
in the same run; a ViT-B/32 needs 8.8 billion operations an image.
"""

import argparse
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from zero_shot import build_peer

import diptych
from diptych.data.shards import TarSource
from diptych.embed.embed_inputs import embed_images
from diptych.model.device import has_fast_bf16
from diptych.processor import num_cores

BATCH = 64
CAPTION = "a photograph of {number} people who walk along the beach with a dog in the evening"


def main() -> None:
    """Measure one part."""
    parser = common.parser(__doc__, peers=["open_clip"], repeats=3, alone=True)
    parser.add_argument("--part", choices=("images", "decoded", "texts"), default="images")
    parser.add_argument("--images", type=Path, help="folder of JPEG files")
    parser.add_argument("--number", type=int, default=256, help="images or texts a measurement (%(default)s)")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    peer, preprocess, tokenizer, weights = build_peer()
    peer_dtype = torch.bfloat16 if has_fast_bf16(torch.device("cpu")) else torch.float32
    reference = diptych.load(weights, "cpu", backend="torch")
    model = diptych.load(weights, "cpu", arguments.precision, backend=arguments.backend)
    record = model.about
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[..., Any]] = {"images": images, "decoded": decoded, "texts": texts}
        ours, theirs, details = parts[arguments.part](
            arguments, model, reference, peer.to(peer_dtype), (preprocess, tokenizer), Path(folder)
        )
        seconds, peer_seconds = common.time_alternately(
            ours, None if arguments.peer == "none" else theirs, repeats=arguments.repeats
        )
    rate = arguments.number / seconds
    details |= {"backend": str((getattr(model, "compiled", None) and model.compiled.record.library) or "torch")}
    details |= {"precision": record.precision, "peer_precision": str(peer_dtype), "number": arguments.number}
    if arguments.part == "decoded":
        details["share_of_matrix_limit"] = rate * 2 * model.gflops / (details.pop("limit") / 1e9)
    print(f"{arguments.part}: {details}")
    common.report(
        arguments,
        benchmark=f"embed {arguments.part}",
        unit="texts/s" if arguments.part == "texts" else "images/s",
        ours=rate,
        peer=arguments.number / peer_seconds if peer_seconds else None,
        **details,
    )


def images(
    arguments: argparse.Namespace, model: Any, reference: Any, peer: Any, preparation: tuple, folder: Path
) -> tuple[Callable[[], None], Callable[[], None], dict[str, Any]]:
    """JPEG files to vectors on disk."""
    files = _photographs(arguments, folder / "photographs")
    runs = iter(range(1000))
    worst = float((model.encode_images(files[:16]) * reference.encode_images(files[:16])).sum(dim=1).min())

    def ours() -> None:
        embed_images(model, folder / "photographs", folder / f"store{next(runs)}")

    def theirs() -> None:
        data = torch.utils.data.DataLoader(_Files(files, preparation[0]), BATCH, num_workers=num_cores())
        with torch.inference_mode():
            parts = [peer.encode_image(batch.to(peer.dtype), normalize=True).float() for batch in data]
        np.save(folder / "peer.npy", torch.cat(parts).numpy())

    peer.dtype = next(peer.parameters()).dtype
    return ours, theirs, {"worst_cosine": worst}


def decoded(
    arguments: argparse.Namespace, model: Any, reference: Any, peer: Any, preparation: tuple, folder: Path
) -> tuple[Callable[[], None], Callable[[], None], dict[str, Any]]:
    """Pixels in memory to vectors, and the matrix limit in the same precision, in operations a second."""
    size, dtype = model.preprocessing.image_size, next(peer.parameters()).dtype
    pixels = torch.randint(0, 256, (arguments.number, 3, size, size), dtype=torch.uint8)
    normalized = torch.randn(arguments.number, 3, size, size).to(dtype)
    worst = float((model.encode_pixels(pixels[:16]) * reference.encode_pixels(pixels[:16])).sum(dim=1).min())

    def theirs() -> None:
        with torch.inference_mode():
            for batch in normalized.split(BATCH):
                peer.encode_image(batch, normalize=True)

    matrix = torch.randn(2048, 2048, dtype=torch.bfloat16 if model.about.precision == "bf16" else torch.float32)
    for _ in range(3):
        seconds = min(common.time_once(lambda: matrix @ matrix) for _ in range(10))
    return lambda: model.encode_pixels(pixels), theirs, {"worst_cosine": worst, "limit": 2 * 2048**3 / seconds}


def texts(
    arguments: argparse.Namespace, model: Any, reference: Any, peer: Any, preparation: tuple, folder: Path
) -> tuple[Callable[[], None], Callable[[], None], dict[str, Any]]:
    """Captions to vectors, the tokenizer included."""
    captions = [CAPTION.format(number=number) for number in range(arguments.number)]
    worst = float((model.encode_texts(captions[:16]) * reference.encode_texts(captions[:16])).sum(dim=1).min())

    def theirs() -> None:
        with torch.inference_mode():
            for start in range(0, len(captions), BATCH):
                peer.encode_text(preparation[1](captions[start : start + BATCH]), normalize=True)

    return lambda: model.encode_texts(captions), theirs, {"worst_cosine": worst}


class _Files(torch.utils.data.Dataset):
    """The peer's data: files through its transforms."""

    def __init__(self, files: list[str], preprocess: Any) -> None:
        self.files, self.preprocess = files, preprocess

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        from PIL import Image

        return self.preprocess(Image.open(io.BytesIO(Path(self.files[index]).read_bytes())).convert("RGB"))


def _photographs(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """A folder of JPEG files, as many as are measured; the photographs are repeated."""
    folder.mkdir()
    if arguments.images is not None:
        contents = [path.read_bytes() for path in sorted(arguments.images.rglob("*.jp*g"))]
    else:
        source = TarSource((common.SHARED_DATA / "photos" / "0.tar.gz",))
        contents = [bytes(item.image) for item in source.read(0) if hasattr(item, "image")]
    files = []
    for number in range(arguments.number):
        file = folder / f"{number:06}.jpg"
        first = folder / f"{number % len(contents):06}.jpg"
        if first.exists():
            os.link(first, file)
        else:
            file.write_bytes(contents[number % len(contents)])
        files.append(str(file))
    return files


if __name__ == "__main__":
    main()
