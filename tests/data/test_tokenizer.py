"""The tokenizer: ids against open_clip's, the shape of its output, and bad texts."""

import html
import itertools
import json
import pickle
import random
import subprocess
import sys
from pathlib import Path

import ftfy
import pytest
import tokenizing
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizing import FRAGMENTS, PAPER, assert_same, open_clip_module, prompts

from diptych.data import text_cleaning, tokenizer
from diptych.data.tokenizer import Tokenizer
from diptych.errors import ConfigError, TextError
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig, TextConfig, ViTConfig

needs_paper = pytest.mark.skipif(not PAPER.is_dir(), reason=f"{PAPER} is absent")


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return tokenizing.openai()


@pytest.fixture(scope="module")
def theirs():
    return open_clip_module().SimpleTokenizer()


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return tokenizing.small()


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


def test_a_text_is_pooled_at_its_first_end(ours):
    """As in CLIP, with lengths and without: a caption may hold the name of the special token."""
    texts = [
        "a cat",
        "a cat <end_of_text> and a dog",
        "<END_OF_TEXT>",
        "cat " * 90 + "<end_of_text>",
        "cat<end_of_text>",
    ]
    tokens, lengths = ours(texts, truncate=True)
    assert lengths.tolist() == [4, 4, 2, 77, 3]
    assert tokens[1, :9].tolist() == [49406, 320, 2368, 49407, 537, 320, 1929, 49407, 0]
    torch.manual_seed(0)
    text = TextConfig(vocab_size=ours.vocab_size, width=64, layers=2)
    clip = CLIP(CLIPConfig(16, ViTConfig(image_size=32, patch_size=16, width=64, layers=1), text)).eval()
    with torch.no_grad():
        with_lengths, without = clip.encode_text(tokens, lengths), clip.encode_text(tokens)
    assert torch.equal(with_lengths, without)
    torch.testing.assert_close(with_lengths[0], with_lengths[1])


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


@pytest.mark.long
def test_ten_times_as_fast_as_open_clip():
    script = Path(__file__).parents[2] / "benchmarks" / "tokenizer.py"
    run = subprocess.run([sys.executable, script, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout.splitlines()[-1])["ratio"] >= 10


def test_the_pattern_for_ascii_is_the_pattern_of_clip():
    """All words of three printable characters out of a set that covers every branch, and random longer ones."""
    whole = text_cleaning._pieces()
    letters = "aZst'rvemld09<>_|-.\\\"&~"
    rng = random.Random(0)
    printable = [chr(code) for code in range(33, 127)]
    words = ["".join(word) for word in itertools.product(letters, repeat=3)]
    words += ["".join(rng.choices(printable, k=rng.randint(1, 12))) for _ in range(5000)]
    words += [f"{a}{special}{b}" for special in (text_cleaning.START, text_cleaning.END) for a in "a1'" for b in "s<9"]
    assert [text_cleaning.pieces(word) for word in words] == [whole.findall(word) for word in words]
    assert text_cleaning.pieces("été٣") == ["été", "٣"] and text_cleaning.pieces("a\x1cb") == whole.findall("a\x1cb")
