"""The tokenizer of a model folder of Hugging Face or open_clip, with the rules that its library applies to texts."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.data.library_tokenizer import SETTINGS, AnyTokenizer, LibraryTokenizer, TextRules, has_rules
from diptych.data.openai_vocabulary import find_openai_vocabulary
from diptych.data.tokenizer import Tokenizer
from diptych.embed.model_folder import TOKENIZER, read_json
from diptych.errors import ConfigError, DataError
from diptych.model.clip_config import CLIPConfig

logger = logging.getLogger(__name__)

OPENAI_VOCABULARY = 49_408
_SPECIAL_TOKENS = "special_tokens_map.json"
_SENTENCEPIECE = ("spiece.model", "sentencepiece.model", "sentencepiece.bpe.model", "tokenizer.model")
_GEMMA = ("Gemma", "Siglip2")
_KWARGS = ("clean", "strip_sep_token")
_CLEAN = ("whitespace", "lower", "canonicalize")


def optional_tokenizer(
    folder: Path, config: CLIPConfig, of_open_clip: Mapping[str, Any] | None = None
) -> AnyTokenizer | None:
    """The tokenizer in a folder; else OpenAI's, if the vocabulary has its size; else None, with a warning.

    Args:
        of_open_clip: the tokenizer_kwargs of a model of open_clip whose tokenizer is one of Hugging Face's; None for
            CLIP's own.
    """
    length, path = config.text.context_length, folder / TOKENIZER
    if path.is_file():
        if of_open_clip is not None or has_rules(path):
            return _library_tokenizer(path, config, of_open_clip or {})
        return Tokenizer.from_file(path, length)
    if of_open_clip is None and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return Tokenizer.from_vocab_and_merges(folder, length)
    if of_open_clip is None and config.text.vocab_size == OPENAI_VOCABULARY:
        try:
            tokenizer = Tokenizer.openai(find_openai_vocabulary(folder), length)
        except DataError as error:
            logger.warning("%s has no %s: images can be encoded, texts cannot. %s", folder, TOKENIZER, error)
            return None
        logger.warning("%s has no %s; taking OpenAI's vocabulary", folder, TOKENIZER)
        return tokenizer
    logger.warning("%s lacks %s: images can be encoded, texts cannot%s", folder, TOKENIZER, _hint(folder))
    return None


def siglip_tokenizer(folder: Path, config: CLIPConfig) -> AnyTokenizer | None:
    """The tokenizer of a SigLIP folder of Hugging Face, or None with a warning.

    Raises:
        ConfigError: it prepares texts in a way that Diptych does not support.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        logger.warning("%s lacks %s: images can be encoded, texts cannot%s", folder, TOKENIZER, _hint(folder))
        return None
    length = config.text.context_length
    if has_rules(path):
        return LibraryTokenizer.from_file(path, length)
    settings = _settings(folder)
    kind = str(settings.get("tokenizer_class") or "")
    cleaning = "siglip" if kind.startswith("SiglipTokenizer") else "lower_case"
    if settings.get("do_lower_case", True) is False:
        if cleaning == "siglip":
            raise ConfigError(f"{folder / SETTINGS}: do_lower_case = false is not supported")
        cleaning = "none"
    _check_side(folder, settings, kind)
    tokenizer = LibraryTokenizer.from_file(path, length, TextRules(cleaning))
    pad_id = _pad_id(folder, tokenizer, settings, "<pad>" if kind.startswith(_GEMMA) else "</s>")
    return LibraryTokenizer.from_file(path, length, TextRules(cleaning, pad_id))


def padded_like(config: CLIPConfig, tokenizer: AnyTokenizer | None) -> CLIPConfig:
    """The configuration with the tokenizer's padding, which a file's configuration often does not state."""
    text: Any = config.text
    if tokenizer is None or text.ignores_padding or text.pad_id == tokenizer.pad_id:
        return config
    return dataclasses.replace(config, text=dataclasses.replace(text, pad_id=tokenizer.pad_id))


def _library_tokenizer(path: Path, config: CLIPConfig, kwargs: Mapping[str, Any]) -> LibraryTokenizer:
    """A tokenizer of Hugging Face, wrapped as open_clip's HFTokenizer wraps it."""
    length = config.text.context_length
    if has_rules(path):
        return LibraryTokenizer.from_file(path, length)
    clean = kwargs.get("clean", "whitespace")
    if (unknown := sorted(set(kwargs) - set(_KWARGS))) or clean not in _CLEAN:
        raise ConfigError(f"tokenizer_kwargs {', '.join(unknown) or clean!r} of text_cfg is not supported")
    settings = _settings(path.parent)
    _check_side(path.parent, settings, str(settings.get("tokenizer_class") or ""))
    tokenizer = LibraryTokenizer.from_file(path, length, TextRules(clean))
    zeroed = None
    if kwargs.get("strip_sep_token"):
        zeroed = tokenizer.token_id(_content(settings.get("sep_token")) or "[SEP]")
    fallback = {250_000: "</s>", 32_000: "</s>"}.get(config.text.vocab_size, "<pad>")
    rules = TextRules(clean, _pad_id(path.parent, tokenizer, settings, "[PAD]" if zeroed else fallback), zeroed)
    return LibraryTokenizer.from_file(path, length, rules)


def _pad_id(folder: Path, tokenizer: LibraryTokenizer, settings: Mapping[str, Any], usual: str) -> int:
    """The id of the padding that the folder's files name, or else of `usual`."""
    named = settings.get("pad_token")
    if named is None and (folder / _SPECIAL_TOKENS).is_file():
        named = read_json(folder / _SPECIAL_TOKENS).get("pad_token")
    for token in (_content(named), usual):
        if token and (pad_id := tokenizer.token_id(token)) is not None:
            return pad_id
    raise DataError(f"{folder / TOKENIZER} has no padding token {_content(named) or usual!r}: name it in {SETTINGS}")


def _content(token: Any) -> str | None:
    """The text of a token, which is stored as it is or in an object."""
    content = token.get("content") if isinstance(token, Mapping) else token
    return content if isinstance(content, str) else None


def _settings(folder: Path) -> dict[str, Any]:
    return read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}


def _check_side(folder: Path, settings: Mapping[str, Any], kind: str) -> None:
    """Refuse padding on the left, which no published SigLIP was trained with."""
    side = settings.get("padding_side", "left" if kind.startswith(_GEMMA) else "right")
    if side != "right":
        raise ConfigError(
            f"{folder / SETTINGS}: texts padded on the {side} are not supported: set padding_side to right"
        )


def _hint(folder: Path) -> str:
    """What to do if there is a SentencePiece model alone."""
    if present := [name for name in _SENTENCEPIECE if (folder / name).is_file()]:
        return (
            f". Its {present[0]} is a SentencePiece model, which Diptych does not read: take the {TOKENIZER} of the "
            "same model, which open_clip's repository of it has (timm/ViT-... on the hub)"
        )
    return ""
