"""The tokenizer against open_clip's, transformers' and the tokenizers library's; training, files and bad input."""

import gzip
import html
import importlib.util
import itertools
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

import ftfy
import pytest
import tokenizers
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diptych.data import text_cleaning, tokenizer, vocabulary
from diptych.data.tokenizer import Tokenizer
from diptych.errors import ConfigError, DataError, TextError

SHARED = Path(__file__).resolve().parents[2] / "shared"
needs_paper = pytest.mark.skipif(not (SHARED / "paper").is_dir(), reason=f"{SHARED / 'paper'} is absent")

FRAGMENTS = [
    *[
        "",
        "a photo of a cat",
        "Two DOGS!!",
        "don't we'll I'VE she's they're I'm he'd",
        "'S 'T 'RE",
        "rock 'n' roll",
        "'",
    ],
    *[
        "😀",
        "👩‍👩‍👧‍👦",
        "🏳️‍🌈",
        "❤️",
        "猫の写真",
        "一只猫",
        "고양이",
        "กขค",
        "नमस्ते",
        "שלום",
        "مرحبا",
        "café",
        "cafe\u0301",
    ],
    *[
        "&amp;",
        "&amp;amp;",
        "&amp;amp;amp;",
        "&lt;b&gt;",
        "&eacute;",
        "&#39;",
        "&#x1F600;",
        "&#0;",
        "&#x9f;",
        "&nbsp;",
        "&amp;nbsp;",
    ],
    *[
        "AT&T",
        "black & white",
        "&",
        "& ",
        "&&",
        "&copy",
        "&notit;",
        "a&#769;",
        "a&amp;#769;",
        "<br>&eacute;",
        "&amp;#1;",
        "&#xD800;",
    ],
    *[
        "Ã©tÃ©",
        "schÃ¶n",
        "â€œquotedâ€\x9d",
        "âœ” No problems",
        "l’humanitÃ©",
        "ã\x83\x84",
        "Ð¿Ñ€Ð¸Ð²ÐµÑ‚",
        "\x85\x91\x92",
    ],
    *[
        "a\xa0b",
        "a\u3000b",
        "a\u200bb",
        "a\u2028b",
        "a\x1fb",
        "\x1c\x1d",
        "a\tb",
        "a\r\nb",
        "\n",
        "a\x0bb\x0cc",
        "\u180e",
        "\ufeff",
        "a\x85b",
        "\x85",
    ],
    *[
        "\x00",
        "\x07bell",
        "\x1b[31mred\x1b[0m",
        "\x7f",
        "\x9b",
        "ﬁne ﬂoor",
        "ﬅart",
        "Ĳssel",
        "ŉ",
        "ＦＵＬＬ　ｗｉｄｔｈ",
        "ｱｲｳ",
        "“curly” ‘quotes’",
    ],
    *[
        "<|endoftext|>",
        "<|EndOfText|>",
        "<|startoftext|>",
        "<start_of_text>",
        "<END_of_Text>",
        "x<end_of_text>y",
        "!<end_of_text>",
    ],
    *[
        "<ſtart_of_text>",
        "<ﬅart_of_text>",
        "'ſ",
        "it'ſ",
        "İstanbul",
        "ıI",
        "ΣΊΣΥΦΟΣ",
        "ΟΔΟΣ.",
        "ΑΣ\u0301",
        "Σ",
        "ß ẞ",
        "K Å",
        "ǅ",
    ],
    *[
        "１２３",
        "٣٤",
        "½",
        "Ⅷ",
        "x²",
        "123abc456",
        "3.14",
        "snake_case_word",
        "__",
        "a-b--c",
        "</w>",
        "</w",
        "a</w>b",
        "\\N{x}",
        "%s {c} {0}",
    ],
    *[
        "𝒻𝒶𝓃𝒸𝓎",
        "\U000323b0a",
        "a\u0558b",
        "\ud83d",
        "\ud83d\ude00",
        "\udc80x",
        "\uffff",
        "\U0010ffff",
        "e\u0323\u0302",
        "ﷺ",
        "Ω",
        "z̸͔̈́",
    ],
    *["a" * 300, "!" * 90, "word " * 80, "12345 " * 20, "é" * 100, "猫" * 60, "a.b" * 40],
]


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return Tokenizer.openai()


@pytest.fixture(scope="module")
def open_clip() -> ModuleType:
    """open_clip's tokenizer module by itself; the whole package would import torchvision and timm as well."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        pytest.skip("open_clip is not installed")
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", Path(package.origin).with_name("tokenizer.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def theirs(open_clip: ModuleType):
    return open_clip.SimpleTokenizer()


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return Tokenizer.train(["ab " * 4, "ABC abc", "xbc"], vocab_size=600, context_length=8)


def assert_same(ours: Tokenizer, theirs, texts: Sequence[str]) -> None:
    """Ids and lengths of a batch equal open_clip's."""
    tokens, lengths = ours(texts, truncate=True, pad_to=77)
    expected = theirs(list(texts))
    assert tokens.dtype == torch.int32 and lengths.dtype == torch.int64
    wrong = (tokens != expected).any(dim=1).nonzero()[:, 0].tolist()
    assert not wrong, [(texts[i], tokens[i, : lengths[i]].tolist(), theirs.encode(texts[i])) for i in wrong[:3]]
    # The first EOT of the peer need not be the last token: a text may hold one.
    expected_lengths = (77 - (expected.flip(1) != 0).int().argmax(dim=1)).tolist()
    assert lengths.tolist() == expected_lengths


def prompts() -> Iterable[str]:
    """Every class name and template of the paper's sets, and every prompt made of them."""
    sets = json.loads((SHARED / "paper" / "prompts.json").read_text(encoding="utf-8"))
    templates = json.loads((SHARED / "paper" / "imagenet_templates.json").read_text(encoding="utf-8"))
    classes = (SHARED / "paper" / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    for names, forms in [*((s["classes"], s["templates"]) for s in sets.values()), (classes, templates)]:
        names = [alias for name in names for alias in ([name] if isinstance(name, str) else name)]
        yield from (*names, *forms)
        yield from (form.replace("{}", name) for form, name in itertools.product(forms, names))


def test_ids_of_odd_texts_equal_open_clips(ours, theirs):
    pairs = [first + second for first, second in itertools.product(FRAGMENTS, FRAGMENTS[::3])]
    texts = [*FRAGMENTS, *pairs, *(" ".join(pair) for pair in itertools.pairwise(FRAGMENTS))]
    assert len(set(texts)) > 3_000
    assert_same(ours, theirs, texts)
    assert all(ours.encode(text) == theirs.encode(text) for text in FRAGMENTS)


@needs_paper
def test_ids_of_the_papers_prompts_equal_open_clips(ours, theirs):
    texts = list(dict.fromkeys(prompts()))
    assert len(texts) > 3_000
    texts = texts if len(texts) <= 40_000 else random.Random(0).sample(texts, 40_000)
    assert_same(ours, theirs, texts)


@pytest.mark.long
@needs_paper
def test_ids_of_all_the_papers_prompts_equal_open_clips(ours, theirs):
    assert_same(ours, theirs, list(dict.fromkeys(prompts())))


any_text = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS),
        st.text(max_size=8),
        st.text(alphabet=st.characters(), max_size=4),
        st.text(alphabet=st.characters(max_codepoint=0x24F), max_size=8),
        st.text(alphabet=st.characters(categories=["Cs", "Co", "Cn", "Zs", "Cc", "Cf", "Mn"]), max_size=4),
        st.sampled_from([" ", "", "&", ";", "'", "<", ">", "_of_text>"]),
    ),
    max_size=6,
).map("".join)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(any_text, min_size=1, max_size=12))
def test_ids_of_arbitrary_texts_equal_open_clips(ours, theirs, texts):
    assert_same(ours, theirs, texts)


@pytest.mark.long
@settings(max_examples=15_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(any_text, min_size=1, max_size=12))
def test_ids_of_very_many_arbitrary_texts_equal_open_clips(ours, theirs, texts):
    assert_same(ours, theirs, texts)


@pytest.mark.long
def test_ids_of_every_code_point_equal_open_clips(ours, theirs):
    for start in range(0, 0x110000, 16_384):
        characters = map(chr, range(start, min(start + 16_384, 0x110000)))
        assert_same(ours, theirs, [f"a{c}B 1{c}{c} '{c}" for c in characters])


def test_clean_texts_need_no_repair():
    printable = [chr(code) for code in range(32, 127)]
    texts = ["".join(pair) for pair in itertools.product(printable, repeat=2)]
    texts += ["".join(random.Random(seed).choices([*printable, "& ", "\n"], k=30)) for seed in range(2_000)]
    latin = [chr(code) for code in range(256)]
    texts += [*latin, *(f"{c}a" for c in latin), *(f"a{c}" for c in latin), *(f" {c} a{c}\n" for c in latin)]
    for text in texts:
        repaired = html.unescape(html.unescape(ftfy.fix_text(text)))
        assert text_cleaning.clean(text).split() == repaired.split()


def test_output_is_padded_to_the_longest_text(ours):
    tokens, lengths = ours(["a cat", "", "a photo of a cat"])
    assert tokens.tolist() == [
        [49406, 320, 2368, 49407, 0, 0, 0],
        [49406, 49407, 0, 0, 0, 0, 0],
        [49406, 320, 1125, 539, 320, 2368, 49407],
    ]
    assert lengths.tolist() == [4, 2, 7]
    assert ours(["a cat"], pad_to=9)[0].shape == (1, 9)
    assert torch.equal(ours("a cat")[0], ours(["a cat"])[0])
    assert torch.equal(ours(text for text in ["a", "b"])[0], ours(("a", "b"))[0])
    assert ours([])[0].shape == (0, 0) and ours([], pad_to=5)[0].shape == (0, 5) and ours([])[1].shape == (0,)


def test_too_long_a_text_raises_and_is_cut_on_demand(ours, theirs):
    texts = ["a cat", "cat " * 75, "dog " * 76, "a dog"]
    assert ours(texts[:2])[1].tolist() == [4, 77]
    with pytest.raises(TextError, match=r"text 2 of 4 has 78 tokens .* limit is 77: 'dog dog .*truncate=True"):
        ours(texts)
    tokens, lengths = ours(texts, truncate=True)
    assert lengths.tolist() == [4, 77, 77, 4] and tokens[2, -1] == ours.eot
    assert torch.equal(tokens.long(), theirs(texts))
    with pytest.raises(TextError, match=r"text 1 of 4 has 77 tokens .* limit is 6"):
        ours(texts, pad_to=6)
    assert ours(texts, truncate=True, pad_to=6)[0].tolist()[1] == [49406, *[2368] * 4, 49407]
    assert Tokenizer.openai(context_length=3)(["a b c"], truncate=True)[0].tolist() == [[49406, 320, 49407]]


@pytest.mark.parametrize("texts", [b"a cat", [b"a cat"], ["a", None], [1], 7, None, [["a"]]])
def test_anything_but_texts_is_refused(ours, texts):
    with pytest.raises(TextError, match="str"):
        ours(texts)


def test_bad_lengths_are_refused(ours, small, tmp_path):
    for pad_to in (1, 0, -3, 78):
        with pytest.raises(ConfigError, match="pad_to"):
            ours(["a"], pad_to=pad_to)
    small.save(tmp_path / "tokenizer.json")
    with pytest.raises(ConfigError, match="context_length is 0"):
        Tokenizer.from_file(tmp_path / "tokenizer.json", context_length=0)
    with pytest.raises(ConfigError, match="context_length"):
        Tokenizer.openai(context_length=1)


def test_decode(ours):
    assert ours.decode(ours("A photo of a CAT, café 猫 &lt;3", pad_to=40)[0][0]) == "a photo of a cat , café 猫 < 3"
    assert ours.decode(ours.encode("a</w>b")) == "a </ w > b" and ours.decode([]) == ""
    with pytest.raises(TextError, match="49408"):
        ours.decode([49408])


def test_the_word_cache_is_bounded_and_never_changes_ids(monkeypatch, theirs):
    monkeypatch.setattr(tokenizer, "_MAX_CACHED_WORDS", 100)
    bounded = Tokenizer.openai()
    texts = [f"w{i} common{i % 7} {'x' * (i % 50)}" for i in range(1_000)]
    assert_same(bounded, theirs, texts)
    assert_same(bounded, theirs, texts)
    assert len(bounded._word_ids) <= 100 and max(map(len, bounded._word_ids)) <= tokenizer._MAX_CACHED_LENGTH


def test_a_pickled_tokenizer_is_the_same(small):
    copy = pickle.loads(pickle.dumps(small))  # noqa: S301 - our own bytes
    assert copy.fingerprint == small.fingerprint and copy.context_length == 8
    assert torch.equal(copy(["ab x"])[0], small(["ab x"])[0])


def test_training_learns_the_most_frequent_pairs(small):
    # ab: 4, abc: 2, xbc: 1. (a, b</w>) 4 times, (b, c</w>) 3, then (a, bc</w>) 2; (x, bc</w>) occurs once only.
    assert small.merges == (("a", "b</w>"), ("b", "c</w>"), ("a", "bc</w>"))
    assert small.tokens[:2] == ("!", '"') and small.tokens[256] == "!</w>"
    assert small.tokens[512:] == ("ab</w>", "bc</w>", "abc</w>", "<|startoftext|>", "<|endoftext|>")
    assert (small.vocab_size, small.sot, small.eot) == (517, 515, 516)
    assert small("ab xbc Ab")[0].tolist() == [[515, 512, small.tokens.index("x"), 513, 512, 516]]
    assert Tokenizer.train(["ab ab abc abc"], vocab_size=515).vocab_size == 515
    assert Tokenizer.train([], vocab_size=514).merges == ()


def captions(count: int) -> list[str]:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdeéß猫", k=rng.randint(1, 6))) for _ in range(2_000)]
    return [" ".join(rng.choices(words, k=6)) for _ in range(count)]


def test_training_is_deterministic(tmp_path):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(captions(500)))
    program = (
        "import json, sys; from pathlib import Path; from diptych.data.tokenizer import Tokenizer\n"
        "print(Tokenizer.train(json.loads(Path(sys.argv[1]).read_text()), 900).fingerprint)"
    )
    settings = [{"RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "1"}, {"RAYON_NUM_THREADS": "4", "PYTHONHASHSEED": "2"}]
    runs = [
        subprocess.run(
            [sys.executable, "-c", program, path], env=os.environ | s, capture_output=True, text=True, check=True
        )
        for s in settings
    ]
    assert len({*(run.stdout.strip() for run in runs), Tokenizer.train(captions(500), 900).fingerprint}) == 1


def test_trained_merges_give_open_clips_ids(open_clip, tmp_path):
    trained = Tokenizer.train(captions(2_000), vocab_size=1_200)
    assert trained.vocab_size == 1_200
    path = tmp_path / "merges.txt.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(["#version", *(" ".join(merge) for merge in trained.merges)]))
    assert_same(trained, open_clip.SimpleTokenizer(str(path)), captions(3_000)[1_000:])
    assert Tokenizer.openai(path).fingerprint == trained.fingerprint


def test_training_refuses_bad_input():
    for size in (513, 0, -1, 2**40):
        with pytest.raises(ConfigError, match="vocab_size"):
            Tokenizer.train(["a"], vocab_size=size)
    for bad in (["a", b"b"], "a caption", b"x", None, ["a", None]):
        with pytest.raises(TextError, match="str"):
            Tokenizer.train(bad, vocab_size=600)


def test_a_saved_tokenizer_is_the_same_everywhere(small, tmp_path):
    path = tmp_path / "tokenizer.json"
    small.save(path)
    small.save(path)
    again = Tokenizer.from_file(path)
    assert again.fingerprint == small.fingerprint and again.context_length == 8
    assert Tokenizer.from_file(path, context_length=5).context_length == 5
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]
    library = tokenizers.Tokenizer.from_file(str(path))
    for text in ["ab abc xbc", "", "it's 12!", "a b c d e f g h i j"]:
        assert library.encode(text).ids == small(text, truncate=True)[0][0].tolist()
    assert library.decode(library.encode("ab abc").ids) == "ab abc "


def test_transformers_reads_a_saved_tokenizer(ours, tmp_path):
    transformers = pytest.importorskip("transformers")
    ours.save(tmp_path / "tokenizer.json")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    texts = [f for f in FRAGMENTS if f.isascii() and f.isprintable() and "&" not in f and "of_text>" not in f.lower()]
    for text in ["a photo of a cat", *(t for t in texts if "oftext" not in t.lower() and len(t) < 60)]:
        assert fast(text)["input_ids"] == ours(text)[0][0].tolist()


@pytest.mark.parametrize("old", [False, True], ids=["transformers 5", "merges as strings"])
def test_the_tokenizer_of_a_hugging_face_clip_loads(ours, tmp_path, old):
    transformers = pytest.importorskip("transformers")
    vocab = {token: id for id, token in enumerate(ours.tokens)}
    transformers.CLIPTokenizer(vocab=vocab, merges=list(ours.merges)).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    if old:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
        content["truncation"] = None
        path.write_text(json.dumps(content), encoding="utf-8")
    loaded = Tokenizer.from_file(path)
    assert loaded.fingerprint == ours.fingerprint and loaded.context_length == 77


def changed(small: Tokenizer, path: Path, change) -> Path:
    """A saved tokenizer with `change` applied to its parsed content."""
    small.save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


CHANGES = {
    "not a tokenizer": lambda c: c.clear(),
    "no vocabulary": lambda c: c["model"].pop("vocab"),
    "not BPE": lambda c: c["model"].update(type="WordPiece"),
    "no suffix": lambda c: c["model"].update(end_of_word_suffix=None),
    "cased": lambda c: c.update(normalizer={"type": "NFC"}),
    "a gap in the ids": lambda c: c["model"]["vocab"].update({"ab</w>": 10_000_000_000}),
    "an id that is not a number": lambda c: c["model"]["vocab"].update({"ab</w>": "512"}),
    "a merge of unknown tokens": lambda c: c["model"]["merges"].append(["q", "q"]),
    "a merge of three": lambda c: c["model"]["merges"].append(["q", "q", "q"]),
    "merges that are numbers": lambda c: c["model"].update(merges=[1, 2]),
    "a byte lacks": lambda c: c["model"]["vocab"].update({"??": c["model"]["vocab"].pop("!")}),
    "a character that is no byte": lambda c: c["model"]["vocab"].update({"\ud800": c["model"]["vocab"].pop("abc</w>")}),
    "EOT not last": lambda c: c["added_tokens"].append({"content": "<more>", "id": 517}),
    "an odd context length": lambda c: c["truncation"].update(max_length="long"),
    "model a list": lambda c: c.update(model=[]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_wrong_tokenizer_file_is_refused(small, tmp_path, change):
    with pytest.raises(DataError, match=r"tokenizer\.json: "):
        Tokenizer.from_file(changed(small, tmp_path / "tokenizer.json", change))


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"{", b"[]", b"null", b"[" * 200_000, b"9" * 10_000, b'{"model": 1}']
)
def test_garbage_is_refused(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"tokenizer\.json: "):
        Tokenizer.from_file(path)
    with pytest.raises(DataError, match="bpe_simple_vocab_16e6"):
        Tokenizer.openai(path)


def test_missing_and_absurd_files_are_refused(tmp_path, monkeypatch):
    for read in (Tokenizer.from_file, Tokenizer.openai):
        with pytest.raises(DataError, match="absent"):
            read(tmp_path / "absent")
        with pytest.raises(DataError, match=str(tmp_path)):
            read(tmp_path)
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(DataError, match="at most"):
        Tokenizer.from_file(huge)
    bomb = tmp_path / "bomb.txt.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(bytes(70 * 2**20))
    with pytest.raises(DataError, match="64 MiB"):
        Tokenizer.openai(bomb)
    for lines in ("#version\na b c", "#version\nqq zz", "#version"):
        path = tmp_path / "merges.txt.gz"
        path.write_bytes(gzip.compress(lines.encode()))
        with pytest.raises(DataError, match=r"merges\.txt\.gz"):
            Tokenizer.openai(path)
    monkeypatch.setattr(vocabulary.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="install open_clip_torch"):
        Tokenizer.openai()


@pytest.mark.long
def test_ten_times_as_fast_as_open_clip():
    script = Path(__file__).parents[1] / "benchmarks" / "tokenizer.py"
    run = subprocess.run([sys.executable, script, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout.splitlines()[-1])["ratio"] >= 10
