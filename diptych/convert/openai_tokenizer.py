"""Whether a tokenizer is OpenAI's, which OpenAI's code and open_clip bring along."""

import functools

from diptych.data.library_tokenizer import AnyTokenizer
from diptych.data.tokenizer import Tokenizer
from diptych.data.vocabulary import NUM_OPENAI_IDS
from diptych.errors import DataError


def is_openai(tokenizer: AnyTokenizer) -> bool:
    """Whether a tokenizer gives the same ids as OpenAI's."""
    if not isinstance(tokenizer, Tokenizer) or tokenizer.vocab_size != NUM_OPENAI_IDS:
        return False
    return tokenizer.fingerprint == _openai_fingerprint()


@functools.cache
def _openai_fingerprint() -> str | None:
    """None if no installed library brings the vocabulary along: then no tokenizer is known to be OpenAI's."""
    try:
        return Tokenizer.openai().fingerprint
    except DataError:
        return None
