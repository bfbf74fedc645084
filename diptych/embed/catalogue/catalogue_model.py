"""One published model of the catalogue, and what models of a family share."""

import dataclasses
from typing import Literal

Terms = Literal["permissive", "custom", "research"]
Runs = Literal["native", "open_clip", "transformers"]

BYTES_PER_PARAMETER = 4  # fp32, the default precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class License:
    """The licence of weights, as their publisher states it.

    Attributes:
        name: the identifier that the Hugging Face hub uses.
        terms: "permissive": any use; "research": no commercial use; "custom": the publisher's own text, to be read.
    """

    name: str
    terms: Terms


MIT = License(name="mit", terms="permissive")
APACHE = License(name="apache-2.0", terms="permissive")
CC_BY_NC = License(name="cc-by-nc-4.0", terms="research")
APPLE_RESEARCH = License(name="apple-amlr", terms="research")
APPLE_SAMPLE_CODE = License(name="apple-sample-code-license", terms="custom")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What the models of one publisher and kind share.

    Attributes:
        name: for tables and `diptych models --family`.
        license: as stated by the publisher of the weights.
        runs: which code computes the models: Diptych's own towers ("native"), or the named library behind an adapter.
        languages: of the texts that the models were trained on.
        source: where the accuracies are published.
    """

    name: str
    license: License
    runs: Runs
    languages: str = "English"
    source: str = "open_clip's docs/openclip_results.csv"


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The numbers of an architecture.

    Attributes:
        image_size: pixels of a side.
        parameters: of the whole model.
        image_gflops, text_gflops: billion operations for one image and one text of full length; a multiplication and
            an addition are two.
    """

    image_size: int
    parameters: int
    image_gflops: float
    text_gflops: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatalogueModel:
    """One published model.

    Attributes:
        name: as in open_clip, ARCHITECTURE/TAG.
        family, architecture: what it shares with other models.
        repository: its repository on the Hugging Face hub; None if it is fetched from `url`.
        url: address of its weight file outside the hub.
        sha256: SHA-256 of the file at `url`, or the first digits of it, as far as they are published.
        revision: commit of the repository. None: the newest one when the model is first fetched, pinned from then on.
        activation: of a file at `url`, which does not state it.
        files: files to fetch; () means that they are chosen from the repository's list.
        aliases: other names, such as the paper's.
        copies: repositories of the hub that hold the same weights, often in another layout.
        imagenet: zero-shot accuracy on ImageNet's validation set, in [0, 1]; None if the source states none.
        average_38: mean zero-shot metric over the 38 sets of DataComp's evaluation, in [0, 1]; None likewise.
        images_per_second: measured by Diptych's benchmarks; None if not measured yet.
    """

    name: str
    family: Family
    architecture: Architecture
    repository: str | None = None
    url: str | None = None
    sha256: str | None = None
    revision: str | None = None
    activation: str | None = None
    files: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    imagenet: float | None = None
    average_38: float | None = None
    images_per_second: float | None = None

    @property
    def open_clip(self) -> tuple[str, str]:
        """Architecture and tag in open_clip."""
        architecture, _, tag = self.name.partition("/")
        return architecture, tag

    @property
    def license(self) -> License:
        """The licence of the weights."""
        return self.family.license

    @property
    def runs(self) -> Runs:
        """Which code computes the model."""
        return self.family.runs

    @property
    def multilingual(self) -> bool:
        """Whether it was trained on texts in other languages than English."""
        return self.family.languages != "English"

    @property
    def num_bytes(self) -> int:
        """Size of the weights in fp32, in bytes."""
        return BYTES_PER_PARAMETER * self.architecture.parameters

    @property
    def gflops(self) -> float:
        """Billion operations for one image and one text."""
        return self.architecture.image_gflops + self.architecture.text_gflops

    @property
    def source(self) -> str:
        """Where the weights come from: the address of a file, or hf-hub:REPOSITORY."""
        return self.url or f"hf-hub:{self.repository}"
