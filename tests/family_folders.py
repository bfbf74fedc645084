"""Small real tokenizers and model folders of SigLIP, SigLIP 2 and CLIPA, written by the libraries that publish them."""

import json
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

WORDS = (
    *("a photo of a cat", "two green dogs with a very long tail", "the quick brown fox jumps over the lazy dog"),
    *(
        "it is raining, again!",
        "snow_white & the 7 dwarfs",
        "CAPITAL letters",
        "ein Käse, zwei Brötchen",
        "crème brûlée",
    ),
)
ODD_TEXTS = [
    *(
        "a photo of a cat",
        "A PHOTO of a Cat!!!",
        "",
        "   ",
        "two-green_dogs, with: a (very) long tail?",
        "it’s raining…",
    ),
    *(
        "😀 cat 👩‍👩‍👧",
        "猫の写真",
        "crème brûlée",
        "cre\u0300me",
        "&amp;lt;b&amp;gt; AT&amp;T",
        "a\n\tb  c",
        "ﬁne ＷＩＤＥ",
    ),
    *("</s> <pad> [SEP] [CLS] <eos> <unk>", "x" * 300, "cat " * 200, "İstanbul ΣΑΣ", "1234 5.6%", "▁ under▁bar"),
    *("!!!", "a photo of a cat " * 3 + "dog", "\x00\x01 control", "C3PO's R2-D2"),
]


def t5_like(path: Path) -> None:
    """A Unigram with </s> at the end, as SigLIP's: pad 0, </s> 1, <unk> 2."""
    special = ["<pad>", "</s>", "<unk>"]
    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", "always")]
    )
    made.decoder = decoders.Metaspace("▁", "always")
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    made.train_from_iterator([text.lower() for text in WORDS] * 20, trainer)
    made.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    made.save(str(path))


def gemma_like(path: Path) -> None:
    """A BPE with byte fallback and <eos> at the end, as SigLIP 2's: <pad> 0, <eos> 1, <bos> 2, <unk> 3."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    made.train_from_iterator([text.lower() for text in WORDS] * 20, trainer)
    content = json.loads(made.to_str())
    content["added_tokens"] = content["added_tokens"][:5]  # bytes are tokens of the vocabulary, not special ones
    made = tokenizers.Tokenizer.from_str(json.dumps(content))
    made.post_processor = processors.TemplateProcessing("$A <eos>", "$A <eos> $B <eos>", [("<eos>", 1)])
    made.save(str(path))


def bert_like(path: Path) -> None:
    """A WordPiece, as CLIPA's: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.train_from_iterator(
        WORDS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    made.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", [("[CLS]", 2), ("[SEP]", 3)]
    )
    made.save(str(path))


KINDS = {
    "siglip": (
        t5_like,
        {"tokenizer_class": "T5TokenizerFast", "pad_token": "</s>", "eos_token": "</s>", "extra_ids": 0},
    ),
    "siglip2": (
        gemma_like,
        {
            "tokenizer_class": "GemmaTokenizer",
            "pad_token": "<pad>",
            "eos_token": "<eos>",
            "bos_token": "<bos>",
            "add_bos_token": False,
            "add_eos_token": True,
            "padding_side": "right",
        },
    ),
    "clipa": (
        bert_like,
        {"tokenizer_class": "BertTokenizer", "pad_token": "[PAD]", "sep_token": "[SEP]", "do_lower_case": True},
    ),
}


def write_tokenizer(folder: Path, kind: str, **changes) -> None:
    """tokenizer.json and tokenizer_config.json of a family."""
    make, settings = KINDS[kind]
    make(folder / "tokenizer.json")
    settings = settings | {"unk_token": "[UNK]" if kind == "clipa" else "<unk>"} | changes
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
