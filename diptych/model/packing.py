"""Sequences of several lengths as the rows of one matrix, so that short texts cost little beside long ones."""

import dataclasses
from collections.abc import Iterator

import torch

# Texts are sorted and cut into this many groups, each as long as its longest. More groups, or smaller ones, save
# nothing more: each brings kernel launches of its own.
_MAX_GROUPS = 4
_MIN_GROUP = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Packing:
    """N sequences laid under each other as T rows, in groups of one length.

    Attributes:
        groups: (number of sequences, length) of each group; T is the sum of the products.
        positions: int (N,), the place in its sequence where each is read.
        causal: no row sees a later one of its sequence.
    """

    groups: tuple[tuple[int, int], ...]
    positions: torch.Tensor
    causal: bool

    def rows(self) -> torch.Tensor:
        """int (N,), the row of the T that is read of each sequence."""
        starts, before = [], 0
        for number, length in self.groups:
            starts.append(before + length * torch.arange(number, device=self.positions.device))
            before += number * length
        return torch.cat(starts) + self.positions

    def spans(self) -> Iterator[tuple[slice, slice, int, int]]:
        """Of each group: its rows, its sequences, their number and length."""
        row = sequence = 0
        for number, length in self.groups:
            yield slice(row, row + number * length), slice(sequence, sequence + number), number, length
            row, sequence = row + number * length, sequence + number

    def seen(self, sequences: slice, length: int) -> torch.Tensor | None:
        """bool (n, 1, 1, L), the rows that those read may look at; None for all of them."""
        if not self.causal:
            return None
        places = torch.arange(length, device=self.positions.device)
        return (places <= self.positions[sequences, None])[:, None, None]


def pack_texts(lengths: torch.Tensor, device: torch.device) -> tuple[Packing, torch.Tensor]:
    """Group texts by length; each is read at its end.

    Args:
        lengths: int64 (N,) on the CPU, tokens of each text with its start and end.
        device: where the tokens are.
    Returns:
        the Packing, and the order int64 (N,) on `device` in which it takes the texts.
    """
    num_groups = min(_MAX_GROUPS, max(1, len(lengths) // _MIN_GROUP))
    ordered, order = lengths.sort(stable=True)
    groups: list[tuple[int, int]] = []
    for group in ordered.tensor_split(num_groups):
        number, length = len(group), int(group[-1]) if len(group) else 0
        if groups and groups[-1][1] == length:
            number += groups.pop()[0]
        groups.append((number, length))
    return Packing(tuple(groups), (ordered - 1).to(device), causal=True), order.to(device)
