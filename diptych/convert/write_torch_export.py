"""Programs of torch.export for both towers (.pt2), with any batch and any length of texts."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diptych.convert.graph_files import graph_encoder, require_text_tower, write_beside
from diptych.convert.options import Options
from diptych.embed.graph_encoder import GraphEncoder
from diptych.embed.model import Model
from diptych.model.clip import CLIP, normalised

VISION, TEXT = "vision_model.pt2", "text_model.pt2"
_FEWEST_TOKENS = 2  # start and end


class _Images(nn.Module):
    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.tower = _part(clip, [], [])
        # Model keeps kernels in channels_last, which the archive's writer takes for a slice of something larger.
        self.tower.visual = copy.deepcopy(clip.visual).to(memory_format=torch.contiguous_format)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return normalised(self.tower.encode_image(pixel_values))


class _Texts(nn.Module):
    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        modules = [name for name, _ in clip.named_children() if name != "visual"]
        self.tower = _part(clip, modules, ["positional_embedding", "text_projection"])

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return normalised(self.tower.encode_rows(input_ids))


def _part(clip: CLIP, modules: list[str], parameters: list[str]) -> Any:
    """The same network with some of its parts alone, so that a program does not hold the other tower's weights."""
    part = copy.copy(clip)
    part._modules = {name: clip._modules[name] for name in modules}
    part._parameters = {
        name: nn.Parameter(clip._parameters[name].detach(), requires_grad=False)  # type: ignore[union-attr]
        for name in parameters
        if clip._parameters.get(name) is not None
    }
    return part


def write(model: Model, folder: Path, options: Options) -> None:
    """Write vision_model.pt2 and text_model.pt2, and config.json, preprocessor_config.json and tokenizer.json.

    Raises:
        ConfigError: the text tower is no Transformer, or the model came without a tokenizer.
    """
    require_text_tower(model)
    clip, config = model.clip.eval(), model.clip.config
    text: Any = config.text
    size, any_batch = config.vision.image_size, torch.export.Dim("batch", min=1)
    any_length = torch.export.Dim("length", min=_FEWEST_TOKENS, max=text.context_length)
    pixels = torch.zeros(2, 3, size, size)
    tokens = torch.full((2, min(9, text.context_length)), text.vocab_size - 1)
    with torch.no_grad():
        _export(_Images(clip), pixels, {0: any_batch}, folder / VISION)
        _export(_Texts(clip), tokens, {0: any_batch, 1: any_length}, folder / TEXT)
    write_beside(model, folder, options)


def _export(network: nn.Module, example: torch.Tensor, dynamic: dict[int, Any], path: Path) -> None:
    program = torch.export.export(network.eval(), (example,), dynamic_shapes=(dynamic,))
    torch.export.save(program, str(path))


def open_again(folder: Path) -> GraphEncoder:
    """The model as torch.export.load reads it, which unpickles: only for a folder that `write` has just written."""

    def graph(name: str) -> Any:
        program = torch.export.load(str(folder / name)).module()

        def run(values: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return program(torch.from_numpy(values)).numpy()

        return run

    return graph_encoder(folder, f"torch.export {torch.__version__}", graph(VISION), graph(TEXT))
