"""One update of the weights, forward to optimizer, on the CPU: ours against open_clip's model and loss.

    python benchmarks/train_step.py --peer open_clip --json
    python benchmarks/train_step.py --model ViT-B/32 --batch 64 --repeats 3

Both sides see the same pictures and captions of 17 tokens, in autocast bf16 where the processor has it, with AdamW.
open_clip computes its texts at the full context of 77, as its trainer does; ours only up to the longest caption.
"""

import sys

import common
import torch

sys.path.insert(0, str(common.ROOT / "tests"))
import peers  # noqa: F401  (before open_clip)
from open_clip import CLIP as PeerCLIP
from open_clip import ClipLoss

from diptych.model.clip import CLIP
from diptych.model.config import CLIPConfig, ViTConfig
from diptych.model.device import has_fast_bf16
from diptych.model.presets import get_preset
from diptych.objective import contrastive_loss

CAPTION = 17


def main() -> None:
    """Time updates of both, in turn."""
    parser = common.parser(__doc__, peers=["open_clip"])
    parser.add_argument("--model", default="tiny-vit", help="a ViT preset (%(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="pairs per update (%(default)s)")
    arguments = parser.parse_args()
    config = get_preset(arguments.model)
    ours, peer = our_update(config, arguments.batch), peer_update(config, arguments.batch)
    ours(), peer()
    seconds, peer_seconds = common.time_alternately(ours, peer, arguments.repeats)
    rates = {"ours": arguments.batch / seconds, "peer": arguments.batch / peer_seconds}
    details = {"model": arguments.model, "batch": arguments.batch, "caption_tokens": CAPTION}
    common.report(arguments, benchmark="train_step", unit="pairs/s", **rates, **details)


def our_update(config: CLIPConfig, batch: int):
    """A function that makes one update of our model."""
    model = CLIP(config).to(memory_format=torch.channels_last).train()
    images, tokens = pairs(config, batch)
    cut = tokens[:, :CAPTION].contiguous()
    return update(model, lambda: contrastive_loss(*model(images, cut)))


def peer_update(config: CLIPConfig, batch: int):
    """A function that makes one update of open_clip's model of the same architecture."""
    vision, text = config.vision, config.text
    assert isinstance(vision, ViTConfig), "give a ViT preset"
    model = PeerCLIP(
        config.embed_dim,
        vision_cfg={
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "width": vision.width,
            "layers": vision.layers,
            "head_width": vision.width // vision.heads,
        },
        text_cfg={
            "context_length": text.context_length,
            "vocab_size": text.vocab_size,
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
        },
        quick_gelu=config.activation == "quick_gelu",
    ).train()
    loss = ClipLoss()
    images, tokens = pairs(config, batch)
    return update(model, lambda: loss(*model(images, tokens)[:3]))


def pairs(config: CLIPConfig, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pictures and captions of CAPTION tokens, zero-padded to the context."""
    torch.manual_seed(0)
    size, text = config.vision.image_size, config.text
    tokens = torch.zeros(batch, text.context_length, dtype=torch.long)
    tokens[:, :CAPTION] = torch.randint(1, text.vocab_size - 2, (batch, CAPTION))
    tokens[:, CAPTION - 1] = text.vocab_size - 1
    return torch.randn(batch, 3, size, size), tokens


def update(model: torch.nn.Module, loss_of):
    """The update that both trainers make."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    bf16 = has_fast_bf16(torch.device("cpu"))

    def run() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = loss_of()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return run


if __name__ == "__main__":
    main()
