"""Vocabularies: training, tokenizer.json as transformers and tokenizers read it, OpenAI's merges, bad files."""

import gzip
import importlib.machinery
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
import tokenizing
from tokenizing import FRAGMENTS, assert_same, captions, open_clip_module

from diptych.data.openai_vocabulary import FILE, VARIABLE, find_openai_vocabulary
from diptych.data.tokenizer import Tokenizer
from diptych.errors import ConfigError, DataError, TextError


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return tokenizing.openai()


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return tokenizing.small()


def test_training_learns_the_most_frequent_pairs(small):
    assert small.merges == (("a", "b</w>"), ("b", "c</w>"), ("a", "bc</w>"))
    assert small.tokens[:2] == ("!", '"') and small.tokens[256] == "!</w>"
    assert small.tokens[512:] == ("ab</w>", "bc</w>", "abc</w>", "<|startoftext|>", "<|endoftext|>")
    assert (small.vocab_size, small.sot, small.eot) == (517, 515, 516)
    assert small("ab xbc Ab")[0].tolist() == [[515, 512, small.tokens.index("x"), 513, 512, 516]]
    assert Tokenizer.train(["ab ab abc abc"], vocab_size=515).vocab_size == 515
    assert Tokenizer.train([], vocab_size=514).merges == ()


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


def test_trained_merges_give_open_clips_ids(tmp_path):
    trained = Tokenizer.train(captions(2_000), vocab_size=1_200)
    assert trained.vocab_size == 1_200
    path = tmp_path / "merges.txt.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(["#version", *(" ".join(merge) for merge in trained.merges)]))
    assert_same(trained, open_clip_module().SimpleTokenizer(str(path)), captions(3_000)[1_000:])
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
        Tokenizer.openai(path.rename(tmp_path / "merges.txt.gz"))


def test_missing_and_absurd_files_are_refused(tmp_path):
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


# ---- where OpenAI's vocabulary is found


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine with no package and no cache that has the vocabulary."""
    for name in ("HF_HUB_CACHE", "HF_HOME", VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return tmp_path


def test_without_the_vocabulary_all_ways_to_it_are_said(bare):
    ways = r"open_clip_torch.*hf download.*next to the weights.*DIPTYCH_OPENAI_VOCABULARY"
    with pytest.raises(DataError, match=ways):
        Tokenizer.openai()


def test_the_vocabulary_is_found_without_any_package(bare, monkeypatch):
    assert (VARIABLE, FILE) == ("DIPTYCH_OPENAI_VOCABULARY", "bpe_simple_vocab_16e6.txt.gz")  # as the docs say
    source = find_openai_vocabulary_of_a_package()
    truth = Tokenizer.openai(source)
    truth.save(bare / "tokenizer.json")
    cached = bare / "cache" / "huggingface" / "hub" / "models--openai--clip-vit-base-patch32" / "snapshots" / "abc"
    cached.mkdir(parents=True)
    for place, file in ((cached / "tokenizer.json", bare / "tokenizer.json"), (bare / "cache/clip" / FILE, source)):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
        assert Tokenizer.openai().fingerprint == truth.fingerprint
        place.unlink()
    (bare / FILE).write_bytes(source.read_bytes())
    assert find_openai_vocabulary(bare) == bare / FILE
    monkeypatch.setenv(VARIABLE, str(bare / "tokenizer.json"))
    assert Tokenizer.openai().fingerprint == truth.fingerprint
    monkeypatch.setenv(VARIABLE, str(bare / "absent"))
    with pytest.raises(DataError, match="absent, which is not a file"):
        Tokenizer.openai()


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_every_place_is_looked_into_in_the_order_that_is_promised(bare, monkeypatch):
    """Files are put from the last place to the first: each one goes before all that lie there already."""
    hub = bare / "cache" / "huggingface" / "hub"
    models = (
        "apple--MobileCLIP-S1",
        "timm--vit_base_clip_224",
        "laion--CLIP-ViT-B-32",
        "openai--clip-vit-large-patch14",
    )
    places = [
        hub / f"models--{model}" / "snapshots" / "abc" / name
        for model in models
        for name in ("vocab.json", "tokenizer.json")
    ]
    places += [bare / "cache" / folder / FILE for folder in ("diptych", "clip")]
    for number, package in enumerate(("longclip", "cn_clip", "mobileclip", "eva_clip", "clip", "open_clip")):
        places.append(bare / package / ("clip" if number % 2 else "") / FILE)
    packages = {path.relative_to(bare).parts[0] for path in places[-6:]}
    spec = importlib.machinery.ModuleSpec

    def find(name):
        found = spec(name, None, is_package=True) if name in packages else None
        if found:
            found.submodule_search_locations = [str(bare / name)]
        return found

    monkeypatch.setattr("importlib.util.find_spec", find)
    put(hub / "models--openai--whisper" / "snapshots" / "abc" / "tokenizer.json")
    put(hub / "models--google--siglip" / "snapshots" / "abc" / "tokenizer.json")
    with pytest.raises(DataError, match="not on this machine"):
        find_openai_vocabulary(bare)
    for place in places:
        put(place)
        assert find_openai_vocabulary(bare) == place
    assert find_openai_vocabulary(bare) == places[-1]
    assert find_openai_vocabulary(put(bare / FILE).parent) == bare / FILE
    assert find_openai_vocabulary() == places[-1]


def test_the_caches_lie_where_their_variables_say(bare, monkeypatch):
    model = Path("models--openai--clip-vit-base-patch32/snapshots/abc/tokenizer.json")
    ours = put(bare / "home" / ".cache" / "clip" / FILE)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(bare / "home"))
    monkeypatch.setenv("USERPROFILE", str(bare / "home"))
    assert find_openai_vocabulary() == ours
    ours.unlink()
    usual = put(bare / "home" / ".cache" / "huggingface" / "hub" / model)
    assert find_openai_vocabulary() == usual
    monkeypatch.setenv("HF_HOME", str(bare / "hf"))
    moved = put(bare / "hf" / "hub" / model)
    assert find_openai_vocabulary() == moved
    monkeypatch.setenv("HF_HUB_CACHE", str(bare / "hub"))
    nearest = put(bare / "hub" / model)
    assert find_openai_vocabulary() == nearest
    earlier = [put(nearest.parents[1] / f"{mark}" / nearest.name) for mark in ("b2", "a3", "a1", "c0", "a2")]
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: reversed(sorted(glob(self, pattern))))
    assert find_openai_vocabulary() == earlier[2]  # of several snapshots the first by name, not as the disk lists them


def find_openai_vocabulary_of_a_package() -> Path:
    """open_clip's file, found as the fixture `bare` does not allow."""
    return (
        Path(next(folder for folder in map(Path, sys.path) if (folder / "open_clip" / FILE).is_file()))
        / "open_clip"
        / FILE
    )


def test_another_vocabulary_is_not_taken_for_openais(small, tmp_path):
    small.save(tmp_path / "tokenizer.json")
    with pytest.raises(DataError, match="OpenAI's vocabulary has 49,408"):
        Tokenizer.openai(tmp_path / "tokenizer.json")
