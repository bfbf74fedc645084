"""Groups the members of a tar shard into samples by webdataset's rule, and counts every image that the rule loses.

A key ends at the first dot of the last path component. The members of a sample share a key and are consecutive. So
dog.v2.001.jpg and dog.v2.002.jpg form one sample "dog", which has no image: both images are lost, and both are counted.
"""

import re
from collections.abc import Iterator

from diptych.data.image_files import IMAGE_EXTENSIONS
from diptych.data.samples import make_sample
from diptych.data.tar import Member
from diptych.records import Broken, Sample

MAX_SAMPLE_BYTES, MAX_SAMPLE_FILES = 128 << 20, 64
_KEY_AND_EXTENSION = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)
_EXTENSIONS_READ = {*IMAGE_EXTENSIONS, "txt", "json", "cls", "npy"}
_DOTS = "a key ends at the first dot of a file's name (webdataset's rule)"


def key_and_extension(member: Member) -> tuple[str, str]:
    """A member's key and extension; ("", "") if webdataset ignores it. A refused member is its own key."""
    match = _KEY_AND_EXTENSION.fullmatch(member.name)
    if match and not (member.name.startswith("__") and member.name.endswith("__")):
        return match[1], match[2].lower()
    return (member.name, "") if member.refusal else ("", "")


class Group:
    """The consecutive members of a shard that share a key.

    Args:
        key: the key in the shard; "" for the group before the first member.
        name: the shard's name in the source.
        shard: the shard's path, for messages.
        came_before: number of earlier groups in the shard with the same key.
        lost_before: why the last of these was broken, and whether it has an image; None if none was broken.
        images_only: captions and labels are ignored.
    """

    def __init__(
        self,
        key: str,
        name: str,
        shard: str,
        came_before: int = 0,
        lost_before: tuple[str, bool] | None = None,
        *,
        images_only: bool = False,
    ) -> None:
        self.key, self._lost_before, self._images_only = key, lost_before, images_only
        self._name, self._shard, self._came_before = name, shard, came_before
        self._files: dict[str, bytes] = {}
        self._images: list[str] = []  # extensions of all images, including lost ones
        self._bytes = 0
        self._trouble, self._by_layout = "", False

    def add(self, extension: str, member: Member) -> None:
        """Add a member; after the first error, images are only counted."""
        if extension.rpartition(".")[2] in IMAGE_EXTENSIONS:
            self._images.append(extension)
        if self._trouble:
            return
        self._bytes += len(member.data)
        if member.refusal:
            self._trouble = f"{member.name} {member.refusal}"
        elif extension in self._files:
            self._trouble, self._by_layout = f"two members are named {member.name}", True
        elif self._bytes > MAX_SAMPLE_BYTES or len(self._files) >= MAX_SAMPLE_FILES:
            self._trouble = f"more than {MAX_SAMPLE_BYTES >> 20} MiB or {MAX_SAMPLE_FILES} members for one key"
        else:
            self._files[extension] = member.data if extension in _EXTENSIONS_READ else b""
        if self._trouble:
            self._files.clear()

    def finish(self) -> Iterator[Sample | Broken]:
        """The sample, or a Broken per image (at least one); also a Broken for each image lost because of its name."""
        if not self.key:
            return
        if self._trouble:
            yield from self._all_lost()
            return
        plain = [extension for extension in self._images if "." not in extension]
        dotted = [extension for extension in self._images if "." in extension]
        if dotted and not plain and "npy" not in self._files:
            yield from (self._lost(extension, self._dots(dotted)) for extension in dotted)
            return
        suffix = f"~{self._came_before + 1}" if self._came_before else ""  # keys must be unique
        sample = make_sample(
            f"{self._name}/{self.key}{suffix}", self._shard, self._files, images_only=self._images_only
        )
        if isinstance(sample, Broken) and self._came_before:
            reason = f"{sample.reason}; other members with its key come earlier in the shard, but the members of a "
            reason += "sample must follow each other: repack it with tar --sort=name"
            yield Broken(sample.key, self._shard, reason, by_layout=True, instead_of=self._counted_as())
        else:
            yield sample
        used = next((extension for extension in IMAGE_EXTENSIONS if extension in self._files), "")
        for extension in plain:
            if extension != used:
                yield self._lost(extension, f"its key has {len(plain)} images; only .{used} is used")
        # seg.png next to png is a part of the sample; next to seg.txt it is an image with its own caption.
        captioned = [
            extension
            for extension in dotted
            if any(f"{extension.rpartition('.')[0]}.{text}" in self._files for text in ("txt", "cls"))
        ]
        yield from (self._lost(extension, self._dots(captioned)) for extension in captioned)

    @property
    def has_image(self) -> bool:
        """Whether one of its members is an image."""
        return bool(self._images)

    def _counted_as(self) -> str | None:
        """The reason under which this sample is already counted as lost, if any.

        An image and its caption in separate groups count as one lost sample, two images as two.
        """
        if self._lost_before is None or (self.has_image and self._lost_before[1]):
            return None
        return self._lost_before[0]

    def _all_lost(self) -> Iterator[Broken]:
        many = len(self._images) > 1
        reason = f"{len(self._images)} images share a key: {self._trouble}" if many else self._trouble
        if many and any("." in extension for extension in self._images):
            reason = self._dots(self._images)
        for extension in self._images or [""]:
            yield self._lost(extension, reason, self._by_layout or many)

    def _lost(self, extension: str, reason: str, by_layout: bool = True) -> Broken:
        name = f"{self.key}.{extension}" if extension and by_layout else self.key
        return Broken(f"{self._name}/{name}", self._shard, reason, by_layout=by_layout)

    def _dots(self, extensions: list[str]) -> str:
        first = f"{self.key}.{extensions[0]}"
        if len(extensions) == 1:
            return f"{_DOTS}: {first} has the key {self.key}, which has no image; rename it without dots"
        second = f"{self.key}.{extensions[1]}"
        return (
            f"{len(extensions)} images share the key {self.key}: {_DOTS}, so that {first} and {second} are one sample; "
            "rename them without dots"
        )
