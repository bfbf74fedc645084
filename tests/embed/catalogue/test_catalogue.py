"""The catalogue: one row a model, compared with open_clip's tables and with the published accuracies."""

import csv
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import peers  # noqa: F401
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from diptych.embed.catalogue import MODELS, choose, find, nearest, parse_size
from diptych.embed.catalogue.architectures import ARCHITECTURES
from diptych.embed.catalogue.catalogue_model import CatalogueModel
from diptych.embed.catalogue.hub_copies import COPIES
from diptych.embed.catalogue.tinyclip_models import TINYCLIP
from diptych.errors import ConfigError
from diptych.model.presets import PRESETS

open_clip = pytest.importorskip("open_clip")

PAPER = Path(__file__).resolve().parents[4] / "shared" / "paper"
IDS = [row.name for row in MODELS]
UNCOUNTED = ("roberta-ViT-B-32", "xlm-roberta-base-ViT-B-32", "xlm-roberta-large-ViT-H-14")
# open_clip's table names the repository of the epoch before for these weights.
OTHER_SOURCE = ("ViT-B-16-plus-240/laion400m_e32",)


def published(row: CatalogueModel) -> dict:
    return open_clip.get_pretrained_cfg(*row.open_clip)


def test_every_model_has_one_row():
    assert [name for name, count in Counter(IDS).items() if count > 1] == []
    sources = Counter(row.source for row in MODELS)
    assert [source for source, count in sources.items() if count > 1] == []
    assert all(row.architecture is ARCHITECTURES[row.open_clip[0]] for row in MODELS)
    assert {row.open_clip[0] for row in MODELS} == set(ARCHITECTURES)


@pytest.mark.parametrize("row", [row for row in MODELS if row.family is not TINYCLIP], ids=lambda row: row.name)
def test_a_row_is_what_open_clip_lists(row):
    config = published(row)
    assert config, f"open_clip has no {row.name}"
    if row.repository is not None:
        assert config["hf_hub"].rstrip("/") == row.repository
    else:
        assert config["url"] == row.url
        assert row.name in OTHER_SOURCE or config["hf_hub"].rstrip("/") in row.copies
    if row.activation is not None:
        assert row.activation == ("quick_gelu" if config.get("quick_gelu") else "gelu")


def test_every_model_of_open_clip_that_is_asked_for_is_listed():
    """All of OpenAI, LAION, DataComp, CommonPool, MetaCLIP, DFN, CLIPA, SigLIP, MobileCLIP and PE-Core."""
    out_of_scope = re.compile(r"EVA|ViTamin|nllb|coca|ViT-SO400M-14-SigLIP-378")
    listed = {f"{name}/{tag}" for name, tag in open_clip.list_pretrained() if not out_of_scope.search(name)}
    assert {name.replace("-quickgelu/", "/") for name in listed} == set(IDS) - {
        row.name for row in MODELS if row.family is TINYCLIP
    }


COUNTED = sorted(name for name in set(ARCHITECTURES) - set(UNCOUNTED) if not name.startswith("TinyCLIP"))
QUICK = ("RN50", "ViT-B-32", "ViT-B-16-SigLIP2", "MobileCLIP2-S0", "PE-Core-T-16-384", "ViT-L-14-CLIPA")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in COUNTED]
)
def test_the_numbers_of_an_architecture(name):
    row = ARCHITECTURES[name]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.device("meta"):
            network = open_clip.create_model(name, device="meta", load_weights=False).eval()
        size = network.visual.image_size
        assert row.image_size == (size if isinstance(size, int) else size[0])
        assert row.parameters == sum(parameter.numel() for parameter in network.parameters())
        images = torch.zeros(1, 3, row.image_size, row.image_size, device="meta")
        texts = torch.zeros(1, network.context_length, dtype=torch.long, device="meta")
        assert row.image_gflops == pytest.approx(gflops(network.encode_image, images), abs=0.006)
        assert row.text_gflops == pytest.approx(gflops(network.encode_text, texts), abs=0.006)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def gflops(function, *inputs) -> float:
    with FlopCounterMode(display=False) as counter:
        function(*inputs)
    return counter.get_total_flops() / 1e9


@pytest.mark.parametrize(
    ("name", "vision", "text", "gmacs"),
    [  # the configurations of its repository, and the operations in its README, counted in pairs
        ("TinyCLIP-ViT-8M-16-Text-3M", (10, 256, 16), (256, 4, 3), 2.0),
        ("TinyCLIP-ViT-39M-16-Text-19M", (12, 512, 16), (512, 8, 6), 9.5),
        ("TinyCLIP-ViT-40M-32-Text-19M", (12, 512, 32), (512, 8, 6), 3.5),
        ("TinyCLIP-ViT-61M-32-Text-29M", (12, 640, 32), (512, 8, 9), 5.3),
    ],
)
def test_the_numbers_of_tinyclip(name, vision, text, gmacs):
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    with torch.device("meta"):
        network = CLIP(
            512,
            CLIPVisionCfg(layers=vision[0], width=vision[1], patch_size=vision[2]),
            CLIPTextCfg(width=text[0], heads=text[1], layers=text[2]),
        )
    row = ARCHITECTURES[name]
    assert row.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert (row.image_gflops + row.text_gflops) / 2 == pytest.approx(gmacs, abs=0.05)


def test_the_paper_s_nine_models_have_the_size_of_their_presets():
    for name in [name for name in PRESETS if re.match(r"RN|ViT-", name)]:
        reference = find(name)
        assert reference is not None and reference.model is not None
        assert reference.model.architecture.parameters == PRESETS[name].num_parameters()
        assert reference.model.architecture.image_size == PRESETS[name].vision.image_size
        assert find(f"openai/{name.replace('/', '-')}") == reference


@pytest.mark.skipif(not PAPER.is_dir(), reason="needs the extracted tables")
def test_the_accuracies_are_those_of_the_published_table():
    with (PAPER / "openclip_results.csv").open() as file:
        table = {(line["name"], line["pretrained"]): line for line in csv.DictReader(file)}
    compared = 0
    for row in MODELS:
        architecture, tag = row.open_clip
        quick = published(row).get("quick_gelu") and (f"{architecture}-quickgelu", tag) in table
        line = table.get((f"{architecture}-quickgelu" if quick else architecture, tag))
        if line is None:
            line = table.get((f"{architecture}-quickgelu", tag))
        if line is not None and row.family.source.startswith("open_clip"):
            assert row.imagenet == float(line["ImageNet 1k"]), row.name
            assert row.average_38 == float(line["Average perf. on 38 datasets"]), row.name
            assert row.architecture.parameters / 1e6 == pytest.approx(float(line["params (M)"]), abs=0.006), row.name
            assert row.gflops == pytest.approx(float(line["FLOPs (B)"]), abs=0.02), row.name
            compared += 1
    assert compared >= 95


def test_the_numbers_are_in_their_ranges():
    for row in MODELS:
        assert row.imagenet is None or 0.02 < row.imagenet < 0.9
        assert row.average_38 is None or 0.1 < row.average_38 < 0.75
        assert row.revision is None, "a commit that was not checked on the hub"
        assert row.images_per_second is None or row.images_per_second > 0


# ---- names


@pytest.mark.parametrize("row", MODELS, ids=IDS)
def test_every_name_of_a_row_leads_to_it(row):
    for name in (row.name, row.name.upper(), *row.aliases, *row.copies, *([row.repository] if row.repository else [])):
        reference = find(name)
        assert reference is not None and reference.model is row
        pinned = find(f"{name}@v1.0")
        assert pinned is not None and pinned.model is row and pinned.revision == "v1.0"
    for repository in [*row.copies, *(copy for copy, name in COPIES.items() if name == row.name)]:
        reference = find(f"hf-hub:{repository}")
        assert reference is not None and (reference.model, reference.repository) == (row, repository)


@pytest.mark.parametrize(
    ("name", "repository", "revision"),
    [
        ("hf-hub:somebody/birds", "somebody/birds", None),
        ("hf-hub:somebody/birds@3f2a", "somebody/birds", "3f2a"),
        ("timm/some_other.model", "timm/some_other.model", None),
        ("laion/new-model@refs/pr/1", "laion/new-model", "refs/pr/1"),
    ],
)
def test_repositories_that_are_not_in_the_catalogue(name, repository, revision):
    reference = find(name)
    assert reference is not None
    assert (reference.model, reference.repository, reference.revision) == (None, repository, revision)


@pytest.mark.parametrize(
    "name",
    ["somebody/birds", "runs/model", "ViT-B-33", "", "hf-hub:", "hf-hub:a/b/c", "hf-hub:../x", "laion/..", "laion/x@",
     "laion/x@../..", "hf-hub:a--b/c", "tiny-vit", "laion/a b", "timm/x\n", "C:\\laion\\x"],
)  # fmt: skip
def test_what_is_no_published_model(name):
    assert find(name) is None


def test_similar_names():
    assert nearest("ViT-B32")[0] == "ViT-B/32"
    assert nearest("ViT-B-32/laion2b_s34b_b79")[0] == "ViT-B-32/laion2b_s34b_b79k"
    assert nearest("open-ai/clip-vit-base-patch32")[0] == "openai/clip-vit-base-patch32"
    assert any("SigLIP2" in name for name in nearest("siglip2"))
    assert nearest("completely different") == []


# ---- choosing


def test_conditions_narrow_the_catalogue():
    assert choose() == list(MODELS)
    small = choose(fits=parse_size("2GB"), license="permissive")
    assert small and len(small) < len(MODELS)
    assert max(row.architecture.parameters for row in small) * 4 <= 2e9
    assert {row.license.name for row in small} == {"mit", "apache-2.0"}
    assert {row.family.name for row in choose(languages="many")} == {
        *("LAION multilingual", "MetaCLIP 2", "SigLIP i18n", "SigLIP 2")
    }
    assert {row.family.name for row in choose(family="siglip")} == {"SigLIP", "SigLIP i18n", "SigLIP 2"}
    with pytest.raises(ConfigError, match="permissive, any"):
        choose(license="free")


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2e9), ("2 gb", 2e9), ("1.5GiB", 1.5 * 2**30), ("800MB", 8e8), ("1000", 1000), ("10 KiB", 10240)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "2TB", "-1GB", "two", "1e9", "2GB x"])
def test_wrong_sizes(text):
    with pytest.raises(ConfigError, match="such as 2GB"):
        parse_size(text)


def test_the_catalogue_needs_no_torch():
    code = "import sys, diptych.embed.catalogue, diptych.embed.hub; print([n for n in sys.modules if n == 'torch'])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
