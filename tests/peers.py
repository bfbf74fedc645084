"""Import this before open_clip, timm or transformers: it makes torchvision importable where torch is a CPU build.

torchvision's wheels need CUDA; without it the import fails because two detection operators are missing. They are
declared here but not defined, since no CLIP calls them. open_clip and timm are installed with --no-deps.
"""

import torch

if torch.version.cuda is None:
    _library = torch.library.Library("torchvision", "FRAGMENT")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
