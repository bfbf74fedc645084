"""BatchNorm with statistics over the images of all ranks."""

import torch
import torch.distributed as dist
from torch import nn

from diptych import distributed


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d over the images of all ranks; identical to nn.BatchNorm2d in evaluation and on one rank.

    torch's SyncBatchNorm, which `synchronise_batch_norm` uses on GPUs, does not run on CPUs.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, R, R) -> the same; n may differ between ranks."""
        if not self.training or distributed.world_size() == 1:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        wide = x.float() if x.dtype != torch.float64 else x
        here = torch.cat([wide.sum((0, 2, 3)), wide.new_tensor([x.numel() // x.shape[1]])])
        total = _SumOverRanks.apply(here)
        count = total[-1]
        mean = total[:-1] / count
        centered = wide - mean[:, None, None]
        variance = _SumOverRanks.apply(centered.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), momentum)
            self.num_batches_tracked.add_(1)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _SumOverRanks(torch.autograd.Function):
    """The sum over ranks, on all ranks. Its gradient is summed too: each rank's term affects the losses of all."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return distributed.sum_over_ranks(x)

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return distributed.sum_over_ranks(gradient)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> None:
    """Make every BatchNorm2d in `module` use statistics over all ranks; parameters and names stay unchanged."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            if device.type == "cuda":
                setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child, dist.group.WORLD))
            else:
                child.__class__ = SynchronisedBatchNorm2d
        else:
            synchronise_batch_norm(child, device)


def average_batch_norm(module: nn.Module) -> None:
    """Replace the running statistics by their mean over ranks, for saving and measuring.

    Needed if ranks have their own statistics. The running mean of a mean is the mean of the running means, so the
    number of calls does not matter.
    """
    if distributed.world_size() == 1:
        return
    for name, buffer in module.named_buffers():
        if buffer.is_floating_point() and name.endswith(("running_mean", "running_var")):
            buffer.copy_(distributed.sum_over_ranks(buffer) / distributed.world_size())
