"""Fetch a model repository of the Hugging Face hub into the hub's own cache, and verify every file.

Files are stored as huggingface_hub stores them (blobs/HASH, linked from snapshots/COMMIT/NAME): other tools find them,
and files of other tools are used. huggingface_hub itself checks no hash and starts an interrupted download again from
the beginning, so the content is downloaded here.
"""

import contextlib
import logging
import os
import shutil
import urllib.parse
from pathlib import Path

from diptych.embed.catalogue import License, Reference
from diptych.embed.hub import hub_listing
from diptych.embed.hub.cache_record import COMMIT, CachedRepository
from diptych.embed.hub.hub_listing import ListedFile, Listing
from diptych.embed.hub.licenses import announce_license, check_license, license_named
from diptych.embed.hub.offline import is_offline
from diptych.embed.hub.repository_files import MAX_SMALL_BYTES, Layout, is_weights, layout_of, wanted_files
from diptych.embed.hub.resumable_download import RemoteFile, StatusError, UnreachableError, download, is_intact
from diptych.errors import WeightsError

logger = logging.getLogger(__name__)

_SPARE_BYTES = 100_000_000  # of a weight file beyond its parameters in fp32: names, buffers, an optimizer's leftovers


def fetch_repository(reference: Reference, layout: Layout | None = None) -> tuple[Path, Layout]:
    """The folder with the model's files, and its layout. Nothing is requested if all of them are there.

    Raises:
        WeightsError: the model is not on the hub or cannot be fetched; or it is not here and the network is off.
        ConfigError: huggingface_hub is not installed.
    """
    repository = str(reference.repository)
    cached = CachedRepository(repository)
    explicit = reference.revision is not None and not COMMIT.fullmatch(reference.revision)
    commit = None if explicit else (reference.revision or cached.pinned)
    check_license(reference.name, reference.model.license if reference.model else license_named(cached.license))
    if commit is not None and (known := _verified(cached, commit, layout, repository)) is not None:
        return known
    if is_offline():
        return _without_network(reference, cached, commit, layout)
    try:
        listing = hub_listing.ask(repository, commit or reference.revision)
    except UnreachableError as error:
        if (here := _local(reference, cached, commit, layout)) is not None:
            logger.warning("%s; taking the files that are here", error)
            return here
        raise WeightsError(f"{error}. {advice(reference, layout)}") from error
    try:
        return _fetch_listed(reference, cached, listing, layout)
    except UnreachableError as error:
        raise UnreachableError(
            f"{error}. {advice(reference, layout)}" if "resume" not in str(error) else str(error)
        ) from error


def advice(reference: Reference, layout: Layout | None = None) -> str:
    """What to do on a machine without a network."""
    repository = str(reference.repository)
    folder = repository.rpartition("/")[2]
    revision = f" --revision {reference.revision}" if reference.revision else ""
    patterns = "--exclude '*.h5' '*.msgpack' '*.onnx' '*.ot'"
    return (
        f"On a machine with a network run: hf download {repository}{revision} {patterns} --local-dir {folder}\n"
        f"Copy the folder {folder} here, and give its path instead of the name"
    )


def _fetch_listed(
    reference: Reference, cached: CachedRepository, listing: Listing, layout: Layout | None
) -> tuple[Path, Layout]:
    repository, commit = str(reference.repository), listing.commit
    layout = layout or layout_of(listing.files)
    wanted = [listing.files[name] for name in wanted_files(listing.files, layout, repository)]
    for file in wanted:
        _check_stated(reference, file)
    license = _license(reference, listing)
    check_license(reference.name, license)
    missing = [file for file in wanted if not _is_here(cached, commit, file)]
    if missing:
        announce_license(reference.name, license)
        size = sum(file.size for file in missing)
        logger.info("fetching %s (%s MB) from %s", repository, f"{size / 1e6:,.1f}", hub_listing.endpoint())
    for file in missing:
        _fetch_file(repository, cached, commit, file)
    cached.license = listing.license
    if reference.revision is None and cached.pinned is None:
        cached.pinned = commit
    cached.save()
    if not COMMIT.fullmatch(reference.revision or ""):
        with contextlib.suppress(OSError):
            cached.write_reference(reference.revision or "main", commit)
    return cached.snapshot(commit), layout


def _check_stated(reference: Reference, file: ListedFile) -> None:
    """Refuse a file without a hash, and one that is larger than the model can be."""
    if file.size < 0 or file.sha256 is file.git_sha1 is None:
        raise WeightsError(
            f"{hub_listing.endpoint()} states no size or no hash for {reference.repository}/{file.name}, so the file "
            "could not be verified; use another mirror (HF_ENDPOINT)"
        )
    largest = MAX_SMALL_BYTES
    if is_weights(file.name):
        if reference.model is None:
            return
        largest = reference.model.num_bytes * 3 // 2 + _SPARE_BYTES
    if file.size > largest:
        raise WeightsError(
            f"{reference.repository}/{file.name} has {file.size:,} bytes on {hub_listing.endpoint()}, and at most "
            f"{largest:,} are expected: it is not fetched"
        )


def _license(reference: Reference, listing: Listing) -> License | None:
    """The licence of the catalogue, or the hub's if that is stricter or newer."""
    stated = license_named(listing.license)
    if reference.model is None or stated is None or stated.name == reference.model.license.name:
        return reference.model.license if reference.model else stated
    if stated.terms != "permissive":
        logger.warning("%s: the hub states the licence %s now", reference.name, stated.name)
        return stated
    return reference.model.license


def _is_here(cached: CachedRepository, commit: str, file: ListedFile) -> bool:
    """Whether a verified copy is in the cache, fetched by any tool; it is then linked and recorded."""
    if cached.is_verified(commit, file.name) and cached.known_hash(commit, file.name) == (file.hash, file.size):
        return True
    remote = _remote("", cached, commit, file)
    target = cached.snapshot(commit) / file.name
    if not is_intact(remote):
        if not is_intact(remote, target):
            return False
    else:
        _link(remote.path, target)
    cached.add(commit, file.name, file.hash)
    return True


def _fetch_file(repository: str, cached: CachedRepository, commit: str, file: ListedFile) -> None:
    remote = _remote(repository, cached, commit, file)
    for old in (remote.path, cached.snapshot(commit) / file.name):
        if os.path.lexists(old):  # not intact, or it would not be fetched
            logger.warning("%s is damaged or belongs to another version; fetching it again", old)
            old.unlink()
    try:
        download(remote)
    except StatusError as error:
        if error.status in (401, 403):
            raise StatusError(hub_listing.login_message(repository), error.status) from error
        raise
    _link(remote.path, cached.snapshot(commit) / file.name)
    cached.add(commit, file.name, file.hash)


def _remote(repository: str, cached: CachedRepository, commit: str, file: ListedFile) -> RemoteFile:
    base = hub_listing.endpoint()
    return RemoteFile(
        url=f"{base}/{repository}/resolve/{commit}/{urllib.parse.quote(file.name)}",
        path=cached.blob(file.hash),
        label=f"{repository}/{file.name}" if repository else file.name,
        sha256=file.sha256,
        git_sha1=file.git_sha1,
        size=file.size,
        headers=hub_listing.headers() if repository else {},
    )


def _link(blob: Path, target: Path) -> None:
    """Put a file into the commit's folder: a relative link, or a copy where links are not possible."""
    if target.is_file() and os.path.realpath(target) == os.path.realpath(blob):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    try:
        target.symlink_to(os.path.relpath(blob, target.parent))
    except OSError:
        shutil.copyfile(blob, target)


def _verified(
    cached: CachedRepository, commit: str, layout: Layout | None, repository: str
) -> tuple[Path, Layout] | None:
    """The folder of a commit whose wanted files are all recorded; None if one is missing."""
    names = [name for name in cached.names(commit) if cached.is_verified(commit, name)]
    chosen = layout or layout_of(names)
    try:
        wanted_files(names, chosen, repository)
    except WeightsError:
        return None
    return cached.snapshot(commit), chosen


def _without_network(
    reference: Reference, cached: CachedRepository, commit: str | None, layout: Layout | None
) -> tuple[Path, Layout]:
    here = _local(reference, cached, commit, layout)
    if here is None:
        raise WeightsError(
            f"{reference.name} is not in the cache ({cached.folder}), and the network is off (--offline, or "
            f"DIPTYCH_OFFLINE or HF_HUB_OFFLINE). {advice(reference, layout)}"
        )
    return here


def _local(
    reference: Reference, cached: CachedRepository, commit: str | None, layout: Layout | None
) -> tuple[Path, Layout] | None:
    """What is in the cache, fetched by any tool; files whose name is their SHA-256 are verified."""
    commit = commit or cached.reference(reference.revision or "main")
    if commit is None:
        return None
    names = cached.names(commit)
    layout = layout or layout_of(names)
    try:
        wanted = wanted_files(names, layout, str(reference.repository))
    except WeightsError:
        return None
    for name in wanted:
        if not cached.is_verified(commit, name):
            _verify_blob(cached, commit, name)
    cached.save()
    return cached.snapshot(commit), layout


def _verify_blob(cached: CachedRepository, commit: str, name: str) -> None:
    path = cached.snapshot(commit) / name
    hash, size = cached.known_hash(commit, name) or (Path(os.path.realpath(path)).name, path.stat().st_size)
    if len(hash) not in (40, 64):
        logger.warning("%s: no hash of it is known here, so it is not verified", path)
        return
    sha256, git = (hash, None) if len(hash) == 64 else (None, hash)
    if not is_intact(RemoteFile(url="", path=path, label=name, sha256=sha256, git_sha1=git, size=size)):
        raise WeightsError(f"{path} is damaged: its hash is not {hash}. Delete it, and fetch it again with a network")
    cached.add(commit, name, hash)
