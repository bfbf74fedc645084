"""What the writers of a conversion are told."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Options:
    """How a model is written.

    Attributes:
        precision: of the stored weights, one of PRECISIONS of diptych.convert.targets.
        pixels: "float32", the input of the image graph is normalized; or "uint8", the graph normalizes it.
    """

    precision: str = "fp32"
    pixels: str = "float32"
