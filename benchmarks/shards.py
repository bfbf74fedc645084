"""Samples per second out of tar shards, undecoded, in one process, against webdataset or the bare tarfile module.

    python benchmarks/shards.py --peer webdataset --json

The shard is one of tiny-imagenet's: gzipped, 5,000 samples, a WebP of about 1 KiB, a caption and a .json each. Ours
parses the .json and checks the texts; webdataset groups the members and leaves them bytes; tarfile groups nothing.
"""

import sys
import tarfile
from pathlib import Path

import common

from diptych.data.shards import TarSource


def read_ours(shard: Path) -> int:
    """Number of samples."""
    return sum(1 for _ in TarSource((shard,)).read(0))


def read_webdataset(shard: Path) -> int:
    """Number of samples."""
    import webdataset

    return sum(1 for _ in webdataset.WebDataset(str(shard), shardshuffle=False))


def read_tarfile(shard: Path) -> int:
    """Number of samples, three members each."""
    count = 0
    with tarfile.open(shard, "r|*") as archive:
        for member in archive:
            file = archive.extractfile(member)
            count += len(file.read()) > 0 if file else 0
            archive.members = []  # or it keeps them all
    return count // 3


def main() -> None:
    """Measure on one shard."""
    peers = {"webdataset": read_webdataset, "tarfile": read_tarfile}
    arguments = common.parse_arguments(__doc__, peers=list(peers))
    shard = common.SHARED_DATA / "tiny-imagenet" / "train" / "0.tar.gz"
    if not shard.exists():
        sys.exit(f"no shard at {shard}")
    peer = peers[arguments.peer]
    count = read_ours(shard)
    assert count == peer(shard)
    seconds, peer_seconds = common.time_alternately(lambda: read_ours(shard), lambda: peer(shard), arguments.repeats)
    common.report(
        arguments, benchmark="shards", unit="samples/s", ours=count / seconds, peer=count / peer_seconds, samples=count
    )


if __name__ == "__main__":
    main()
