"""Tokenizers of SigLIP, SigLIP 2 and CLIPA: ids of open_clip's and transformers' own wrappers, on odd texts."""

import dataclasses
import io
import json
import pickle

import peers  # noqa: F401  (before open_clip)
import pytest
import torch
from family_folders import KINDS, ODD_TEXTS, WORDS, t5_like, write_tokenizer

from diptych.data.library_tokenizer import SETTINGS, LibraryTokenizer, TextRules, read_tokenizer
from diptych.data.tokenizer import Tokenizer
from diptych.errors import ConfigError, DataError, TextError

open_clip = pytest.importorskip("open_clip")
transformers = pytest.importorskip("transformers")
LENGTH = 16
RULES = {
    "siglip": TextRules("canonicalize", pad_id=1),
    "siglip2": TextRules("canonicalize"),
    "clipa": TextRules("whitespace", zeroed=3),
}
KWARGS = {"siglip": {"clean": "canonicalize"}, "siglip2": {"clean": "canonicalize"}, "clipa": {"strip_sep_token": True}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, folder in made.items():
        write_tokenizer(folder, kind)
    return made


def ours(folder, kind, **changes):
    return LibraryTokenizer.from_file(folder / "tokenizer.json", LENGTH, dataclasses.replace(RULES[kind], **changes))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clean", ["whitespace", "lower", "canonicalize"])
def test_ids_are_open_clip_s(folders, kind, clean):
    kwargs = KWARGS[kind] | {"clean": clean}
    theirs = open_clip.tokenizer.HFTokenizer(str(folders[kind]), context_length=LENGTH, **kwargs)
    tokenizer = ours(folders[kind], kind, cleaning=clean)
    expected = theirs(ODD_TEXTS)
    tokens, lengths = tokenizer(ODD_TEXTS, truncate=True, pad_to=LENGTH)
    assert torch.equal(tokens.long(), expected)
    for row, length in zip(tokens, lengths, strict=True):
        assert (row[length:] == tokenizer.pad_id).all()
    shorter, again = tokenizer(ODD_TEXTS[:2], truncate=True)
    assert torch.equal(shorter, tokens[:2, : shorter.shape[1]]) and torch.equal(again, lengths[:2])
    assert shorter.shape[1] == lengths[:2].max()


@pytest.mark.parametrize("name", ["gemma", "t5"])
def test_ids_are_those_of_open_clip_s_siglip_tokenizer(folders, name):
    """Its wrapper of SigLIP's vocabularies, which always canonicalizes; made here without a download."""
    kind = "siglip2" if name == "gemma" else "siglip"
    theirs = open_clip.tokenizer.SigLipTokenizer.__new__(open_clip.tokenizer.SigLipTokenizer)
    theirs.tokenizer = transformers.AutoTokenizer.from_pretrained(folders[kind])
    theirs.context_length = LENGTH
    theirs.tokenizer.pad_token_id = 0 if name == "gemma" else 1
    tokens, _ = ours(folders[kind], kind)(ODD_TEXTS, truncate=True, pad_to=LENGTH)
    assert torch.equal(tokens.long(), theirs(ODD_TEXTS))


def test_lower_case_is_transformers_siglip_2(folders, tmp_path):
    write_tokenizer(tmp_path, "siglip2", tokenizer_class="Siglip2Tokenizer")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert type(theirs).__name__ == "Siglip2Tokenizer" and theirs.padding_side == "right"
    expected = theirs(ODD_TEXTS, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    tokens, _ = ours(folders["siglip2"], "siglip2", cleaning="lower_case")(ODD_TEXTS, truncate=True, pad_to=LENGTH)
    assert torch.equal(tokens.long(), expected.input_ids)


def test_siglip_is_transformers_siglip(tmp_path):
    """Its tokenizer runs SentencePiece itself; the same pieces and scores as a tokenizer.json give the same ids."""
    spm = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([text.lower() for text in WORDS] * 20),
        model_writer=model,
        vocab_size=90,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "spiece.model").write_bytes(model.getvalue())
    theirs = transformers.SiglipTokenizer(str(tmp_path / "spiece.model"))
    processor = spm.SentencePieceProcessor(model_proto=model.getvalue())
    t5_like(tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    count = processor.get_piece_size()
    content["model"]["vocab"] = [[processor.id_to_piece(id), processor.get_score(id)] for id in range(count)]
    content["normalizer"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    # Texts with special tokens or without a known piece are left out: the two libraries join unknown pieces otherwise.
    texts = [text for text in ODD_TEXTS if text.isascii() and "<" not in text and "\x00" not in text and text.strip()]
    expected = theirs(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids
    tokenizer = LibraryTokenizer.from_file(tmp_path / "tokenizer.json", LENGTH, TextRules("siglip", pad_id=1))
    tokens = tokenizer(texts, truncate=True, pad_to=LENGTH)[0].long()
    assert len(texts) >= 8 and torch.equal(tokens, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_read_it_is_the_same(folders, kind, tmp_path):
    tokenizer = ours(folders[kind], kind)
    tokenizer.save(tmp_path / "tokenizer.json")
    for again in (read_tokenizer(tmp_path / "tokenizer.json"), pickle.loads(pickle.dumps(tokenizer))):  # noqa: S301
        assert isinstance(again, LibraryTokenizer) and again.fingerprint == tokenizer.fingerprint
        assert again.context_length == LENGTH and again.rules == RULES[kind]
        assert torch.equal(again(ODD_TEXTS, truncate=True)[0], tokenizer(ODD_TEXTS, truncate=True)[0])
    assert read_tokenizer(tmp_path / "tokenizer.json", 8).context_length == 8
    other = ours(folders[kind], kind, cleaning="none")
    assert other.fingerprint != tokenizer.fingerprint
    # transformers reads what was saved; texts that are clean have the same ids there.
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "a photo of a cat"
    ids = theirs(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
    expected = tokenizer(text, pad_to=LENGTH)[0].long()
    assert torch.equal(torch.where(ids == RULES[kind].zeroed, 0, ids) if RULES[kind].zeroed else ids, expected)


def test_a_clip_s_tokenizer_is_read_as_before(tmp_path):
    Tokenizer.train(WORDS, 600).save(tmp_path / "tokenizer.json")
    assert isinstance(read_tokenizer(tmp_path / "tokenizer.json"), Tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_are_too_long(folders, kind):
    tokenizer = ours(folders[kind], kind)
    with pytest.raises(TextError, match=r"text 1 of 2 has \d+ tokens with start and end, the limit is 16"):
        tokenizer(["a cat", "cat " * 200])
    assert tokenizer.num_tokens("cat " * 200) > 100
    assert tokenizer.num_tokens("a cat") == int(tokenizer("a cat")[1])
    assert tokenizer("cat " * 200, truncate=True)[1].item() == LENGTH
    with pytest.raises(ConfigError, match="pad_to is 99"):
        tokenizer("a cat", pad_to=99)
    with pytest.raises(TextError, match="text 0 is not a str"):
        tokenizer([3])
    assert tokenizer.decode(tokenizer.encode("a photo of a cat")) == "a photo of a cat"
    with pytest.raises(TextError, match="outside the vocabulary"):
        tokenizer.decode([10**6])


def test_no_texts(folders):
    tokens, lengths = ours(folders["siglip"], "siglip")([])
    assert tokens.shape == (0, 0) and lengths.shape == (0,)


@pytest.mark.parametrize(
    ("content", "settings", "words"),
    [
        ('{"model": {"type": "Unigram"}}', {}, "not a lower-cased BPE"),
        ("[]", {"diptych": {}}, "holds list, not an object"),
        ('{"model": {"type": "Unigram"}}', {"diptych": {}}, "does not say how texts are cleaned"),
        ('{"model": {"type": "X"}}', {"diptych": {}, "model_max_length": 9}, "that the tokenizers library reads"),
        (None, {"diptych": {"cleaning": "shout"}, "model_max_length": 9}, "the cleaning of texts is one of"),
        (None, {"diptych": {"pad_id": 10**6}, "model_max_length": 9}, "its settings name 1000000"),
        (None, {"diptych": {"pad_id": "0"}, "model_max_length": 9}, "pad_id of a tokenizer must be a whole number"),
        (None, {"diptych": {"zeroed": -3}, "model_max_length": 9}, "zeroed of a tokenizer must be a whole number"),
        (None, {"diptych": {"code": "x"}, "model_max_length": 9}, "does not say how texts are cleaned"),
        (None, {"diptych": {}, "model_max_length": "9"}, "does not say how texts are cleaned"),
    ],
)
def test_damaged_files(folders, tmp_path, content, settings, words):
    good = (folders["siglip"] / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(good if content is None else content)
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(DataError, match=words):
        read_tokenizer(tmp_path / "tokenizer.json")


def test_a_context_that_is_too_short(folders):
    with pytest.raises(ConfigError, match="context_length is 2; the ids that the tokenizer adds need 2"):
        LibraryTokenizer.from_file(folders["clipa"] / "tokenizer.json", 2, RULES["clipa"])
