"""One kind of input and its reader."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Seed:
    """A file.

    Attributes:
        name: under which it is written.
        data: its content.
        sound: it must be accepted; the others may be refused.
    """

    name: str
    data: bytes
    sound: bool = True


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: for the command line.
        seeds: makes the seeds; what else the reader needs is written into the folder that is handed in.
        check: reads a file and asserts that what came back is sound; a DiptychError is an answer, too.
        make: a file of its own making, from random numbers.
        slow: it imports much, or runs long for each file; left out of the ordinary tests.
    """

    name: str
    seeds: Callable[[Path], list[Seed]]
    check: Callable[[Path], None]
    make: Callable[[random.Random], Seed] | None = None
    slow: bool = False
