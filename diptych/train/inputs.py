"""Open the pairs and the tokenizer that a configuration names."""

import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from diptych.data.columns import ColumnNames
from diptych.data.content import path_fingerprint
from diptych.data.exclusions import excluding
from diptych.data.image_files import walk_images
from diptych.data.library_tokenizer import AnyTokenizer, read_tokenizer
from diptych.data.open_source import TABLE_SUFFIXES, open_source
from diptych.data.playground import Playground
from diptych.data.source import Source
from diptych.data.tables import read_header
from diptych.data.tally import why_unusable
from diptych.data.tokenizer import Tokenizer
from diptych.errors import ConfigError, DataError
from diptych.files import expanded
from diptych.records import Sample
from diptych.train.config import TOKENIZERS, TrainConfig
from diptych.train.initial import initial_tokenizer

logger = logging.getLogger(__name__)

# Enough captions for a vocabulary of thousands of tokens; more would only delay the first step.
_CAPTIONS_FOR_TOKENIZER = 100_000
_MOST_LISTED, _MOST_TEXTS, _SMALL_TEXT = 100_000, 1000, 100


def open_pairs(
    data: tuple[str, ...],
    image_size: int,
    seed: int = 0,
    columns: ColumnNames = ColumnNames(),  # noqa: B008  (frozen)
) -> Source:
    """The source that `data` names: files, or "playground:NUM" for NUM pairs of the embedded generator.

    Raises:
        ConfigError: there is no valid number after "playground:".
        DataError: there is nothing usable in the data.
    """
    if is_playground(data):
        number = data[0].removeprefix("playground:").replace("_", "")
        if not re.fullmatch(r"[0-9]{1,9}", number) or int(number) == 0:
            raise ConfigError(f"data is {data[0][:80]!r}; write playground:NUM, for example playground:50000")
        return Playground(int(number), seed=seed, size=image_size)
    return open_source(data, columns)


def pairs_of(config: TrainConfig) -> Source:
    """The pairs of a run: those that its data names, without those that it excludes.

    Raises:
        ConfigError, DataError: as for open_pairs and excluding.
    """
    source = open_pairs(config.data, config.preprocessing.image_size, config.loader.seed, config.columns)
    return source if config.exclude is None else excluding(source, config.exclude)


def is_playground(data: Sequence[str]) -> bool:
    """Whether `data` names the embedded generator."""
    return len(data) == 1 and data[0].startswith("playground:")


def spread_captions(source: Source, limit: int) -> list[str]:
    """Captions drawn evenly from all shards, because the data may be sorted by topic; in the source's order.

    Each shard is read from its start until its share is reached. If it has fewer captions, the next shards make up for
    it; the last shard, which is often short, comes first. Only if that is not enough, longer shards are read again,
    further.

    Args:
        source: the pairs. If it has more shards than `limit`, evenly spaced ones are read.
        limit: number of captions; the result has fewer if there are fewer.
    """
    stride = max(1, len(source.shards) // limit)
    unread = list(range(len(source.shards)))[::-stride]
    captions: dict[int, list[str]] = {}
    missing = limit
    while missing and unread:
        longer = []
        for place, shard in enumerate(unread):
            before = len(captions.get(shard, ()))
            wanted = before + missing // (len(unread) - place)
            if wanted > before:
                captions[shard] = list(itertools.islice(_captions(source, shard), wanted))
                missing -= len(captions[shard]) - before
            if len(captions.get(shard, ())) == wanted:
                longer.append(shard)
        unread = longer
    return [caption for shard in sorted(captions) for caption in captions[shard]]


def _captions(source: Source, shard: int) -> Iterator[str]:
    for sample in source.read(shard):
        if isinstance(sample, Sample):
            yield from sample.texts


def count_pairs(source: Source, *, captions: bool = True) -> int:
    """Number of usable samples in a source, counted by reading it once; generated sources need no reading.

    Args:
        captions: count only samples with a caption.
    """
    if source.num_samples is not None and next(source.files(1), None) is None:  # generated, so no sample is broken
        return source.num_samples
    items = (item for index in range(len(source.shards)) for item in source.read(index))
    return sum(isinstance(item, Sample) and (bool(item.texts) or not captions) for item in items)


def no_pairs(data: Sequence[str], source: Source) -> DataError:
    """The error about a source without a usable pair: what is wrong with it, and what else is in its folders."""
    reasons = why_unusable(source)
    tables = "".join(f"\n  {line}" for line in itertools.islice(_tables_below(data), 3))
    advice = f"\nname one of these tables:{tables}" if tables else _unmatched_texts(data)
    return DataError(f"no captions in {', '.join(data)}: training needs (image, text) pairs:\n{reasons}{advice}")


def _tables_below(data: Sequence[str]) -> Iterator[str]:
    """Tables in the folders that `data` names and in their subfolders, or why they cannot be read."""
    texts = 0
    for folder in (path for path in map(expanded, data) if path.is_dir()):
        for path in sorted((*folder.glob("*.*"), *folder.glob("*/*.*"))):
            if path.suffix.lower() == ".txt":
                texts += 1
                header = _header_of_a_table(path) if texts <= _MOST_TEXTS else ""
                if header:
                    yield f"{path} looks like a table ({header}): rename it to .csv; paths are relative to its folder"
            elif path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
                try:
                    open_source(path)
                    yield str(path)
                except DataError as error:
                    yield str(error)[:400]


def _header_of_a_table(path: Path) -> str:
    """The header of a text file that looks like a table of images and captions; "" for other files."""
    try:
        return ",".join(read_header(path).names)[:200] if path.stat().st_size > _SMALL_TEXT else ""
    except (DataError, OSError):
        return ""


def _unmatched_texts(data: Sequence[str]) -> str:
    """Advice about text files that belong to no image, for example captions in a separate folder."""
    for folder in (path for path in map(expanded, data) if path.is_dir()):
        files = itertools.islice((path for path in folder.rglob("*") if not path.name.startswith(".")), _MOST_LISTED)
        names = [path.relative_to(folder).with_suffix("").as_posix() for path in files if path.suffix.lower() == ".txt"]
        images = {Path(name).with_suffix("").as_posix() for name in walk_images(folder)}
        if unmatched := [name for name in names if name not in images]:
            example = min(images, default="a")
            return (
                f"\n  {len(unmatched)} .txt files belong to no image (e.g. {min(unmatched)}.txt): put each caption "
                f"next to its image, with the same name ({example}.txt)"
            )
    return ""


def prepare_tokenizer(config: TrainConfig, source: Source, folder: Path) -> AnyTokenizer | None:
    """The run's tokenizer, stored in the run's folder so that a resumed run has the same one; None without captions.

    Raises:
        ConfigError: its vocabulary does not fit the text encoder.
        DataError: there is no caption to learn from.
    """
    if config.copies is not None:
        return None
    path = folder / "tokenizer.json"
    text = config.model.text
    if path.exists():
        tokenizer: AnyTokenizer = read_tokenizer(path, context_length=text.context_length)
        _check_named_tokenizer(config, tokenizer)
    elif config.tokenizer == "train":
        captions = spread_captions(source, _CAPTIONS_FOR_TOKENIZER)
        if not captions:
            raise no_pairs(config.data, source)
        logger.info("learning a vocabulary from %d captions", len(captions))
        tokenizer = Tokenizer.train(captions, vocab_size=text.vocab_size, context_length=text.context_length)
    elif config.tokenizer == "openai":
        tokenizer = Tokenizer.openai(context_length=text.context_length)
    elif config.tokenizer == "init":
        tokenizer = initial_tokenizer(config.init)
    else:
        tokenizer = read_tokenizer(expanded(config.tokenizer), context_length=text.context_length)
    if tokenizer.vocab_size > text.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the text encoder's table only {text.vocab_size}: "
            "set model.text.vocab_size, or use another tokenizer"
        )
    if not path.exists():
        tokenizer.save(path)
    return tokenizer


_NAME = "named "  # prefix for weights that are not a file here: a published model, or a file that is gone


def input_fingerprints(config: TrainConfig, tokenizer: AnyTokenizer | None) -> dict[str, str | None]:
    """Fingerprints of the files that a configuration names in addition to its pairs, independent of their paths."""
    weights = config.init.weights
    fingerprint = None if weights is None else path_fingerprint(expanded(weights)) or _NAME + weights
    return {"tokenizer": None if tokenizer is None else tokenizer.fingerprint, "init.weights": fingerprint}


def merge_inputs(saved: Mapping[str, str | None], ours: Mapping[str, str | None]) -> dict[str, str | None]:
    """The fingerprints of a resumed run. Initial weights may be gone: the checkpoint's weights are used.

    Raises:
        ConfigError: a file's content differs from the one that the run started with.
    """
    for name, fingerprint in ours.items():
        before = saved.get(name, fingerprint)
        gone = (fingerprint or "").startswith(_NAME) and not (before or "").startswith(_NAME)
        if before != fingerprint and not gone:
            raise ConfigError(
                f"cannot resume: {name} is not what the run started with: the file's content differs. Put the original "
                "back, or start a new run in another folder (--out)"
            )
    return {**ours, **saved}


def _check_named_tokenizer(config: TrainConfig, kept: AnyTokenizer) -> None:
    """Refuse a tokenizer.json that differs from the run's own copy."""
    if config.tokenizer in TOKENIZERS or not (path := expanded(config.tokenizer)).exists():
        return
    if read_tokenizer(path, context_length=kept.context_length).fingerprint != kept.fingerprint:
        raise ConfigError(
            f"cannot resume {config.out}: {path} is not the tokenizer that the run started with, which is "
            f"{config.out}/tokenizer.json"
        )
