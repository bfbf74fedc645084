"""Captions for Tiny ImageNet, written anew: from one line a picture to a list of captions a class.

    python models/default/captions.py ../shared/data/tiny-imagenet --out runs/recaptioned

Reads `synsets.jsonl` (names, hypernyms and a gloss of each class, from WordNet) and the shards of `train/`; writes
shards whose `.json` holds the list "captions", of which the loader draws one anew each time that it meets the picture.
"""

import argparse
import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.data.open_source import open_source
from diptych.data.shards import write_shards
from diptych.errors import DataError
from diptych.records import Sample

# How many captions of a class hold its first name, another one, a name and a kind, an everyday word, a kind, the gloss.
FIRST, OTHER, PAIRED, EVERYDAY, KIND, GLOSS = 16, 4, 6, 8, 5, 1
# How people begin a caption; {c} comes with its article, and sometimes with an adjective.
TEMPLATES = (
    "{c}",
    "a photo of {c}.",
    "a picture of {c}",
    "a bad photo of {c}.",
    "a blurry photo of {c}.",
    "itap of {c}.",
    "a close-up photo of {c}.",
    "{c} in a photograph",
    "a good photo of {c}.",
    "an image of {c}",
    "a low resolution photo of {c}.",
)
ADJECTIVES = ("", "", "", "small ", "", "large ", "")
PAIRS = ("{c}, a kind of {k}.", "a photo of {c}, {k}.", "{c} ({k})")
# Hypernyms that nobody says before a photograph: too abstract, or known to zoologists and grocers alone.
_UNSAID = """
animate being, anseriform bird, anthozoan, article, attachment, barrier, bovid, bovine, carnivore, cavy,
coelenterate, commodity, connection, consumer goods, conveyance, course, covering, craft, crocodilian reptile,
cruciferous vegetable, cyprinid, cypriniform fish, danaid, decapod crustacean, device, diapsid, dictyopterous
insect, dipterous insect, durables, echinoderm, equipment, establishment, even-toed ungulate, fastener, foodstuff,
furnishing, gastropod, hymenopterous insect, implement, ingredient, instrument, invertebrate, lepidopterous insect,
ligament, mechanical device, mechanism, medium, mercantile establishment, metatherian, movable barrier, natural
elevation, natural object, nutriment, obstruction, odonate, orthopterous insect, phalanger, phasmid, place of
business, placental, plant organ, plant part, press, procyonid, proboscidean, produce, protective covering,
reproducer, reproductive structure, restraint, ridge, ruminant, self-propelled vehicle, soft-finned fish,
solanaceous vegetable, solid, source of illumination, sphenisciform seabird, stony coral, structural member,
structure, support, teleost fish, trap, upright, ware, white goods, winder
"""
UNSAID = frozenset(re.split(r",\s", _UNSAID.strip()))
# What most people call the kind. WordNet has these words too; without this table one caption in forty says "dog".
_ITSELF = """
antelope, ape, bag, ball, bear, beetle, bird, bottle, bowl, box, bread, bridge, building, bus, butterfly, camel, cat,
chair, coat, coral, dessert, dog, drink, elephant, fence, fish, food, frog, fruit, furniture, gun, hat, house,
lamp, lobster, monkey, mountain, musical instrument, pan, phone, robe, shirt, shoe, shop, skirt, snake, spider, stick,
sweater, table, tie, tool, tower, toy, train, truck, vegetable, vehicle, weapon
"""
COMMON = {word: (word,) for word in re.split(r",\s", _ITSELF.strip())} | {
    "big cat": ("cat",),
    "boat": ("boat", "ship"),
    "bony fish": ("fish",),
    "cattle": ("cow",),
    "clothing": ("clothes",),
    "coffee": ("coffee", "drink"),
    "edible fruit": ("fruit",),
    "insect": ("insect", "bug"),
    "mountain sheep": ("sheep",),
    "passenger train": ("train",),
    "penguin": ("penguin", "bird"),
    "plaything": ("toy",),
    "spectacles": ("glasses",),
    "swine": ("pig",),
    "telephone": ("phone",),
}
_LATIN = re.compile(r"[A-Z][a-z]+ [a-z]*(us|is|a|um|ii|os|ax|cola|er|tes|trui|mys|con|color|fa)")


def captions_of(synset: Mapping[str, Any]) -> list[str]:
    """The captions of one class, always 40 and in the same order; one that stands there twice is drawn twice as often.

    Args:
        synset: "lemmas", "hypernyms" (nearest first, each a list of synonyms) and "gloss".
    """
    first, *rest = synset["lemmas"]
    others = [name for name in rest if not _LATIN.fullmatch(name)] or [first]
    kinds = list(_kinds(synset["hypernyms"])) or others
    common = list(_common(synset["hypernyms"])) or [first, *kinds]
    frames = zip(itertools.cycle(TEMPLATES), itertools.cycle(ADJECTIVES), strict=False)
    pairs = zip(itertools.cycle(PAIRS), itertools.cycle([first, *others]), itertools.cycle(kinds), strict=False)

    def framed(names: Sequence[str], number: int) -> list[str]:
        chosen = itertools.islice(itertools.cycle(names), number)
        return [next_frame(name) for name in chosen]

    def next_frame(name: str) -> str:
        template, adjective = next(frames)
        return template.format(c=_with_article(adjective + name))

    return [
        *framed([first], FIRST),
        *framed(others, OTHER),
        *(pair.format(c=_with_article(c), k=_with_article(k)) for pair, c, k in itertools.islice(pairs, PAIRED)),
        *framed(common, EVERYDAY),
        *framed(kinds, KIND),
        *[f"{first}: {synset['gloss'].split(';')[0]}"] * GLOSS,
    ]


def _kinds(hypernyms: Sequence[Sequence[str]]) -> Iterator[str]:
    """What the class is a kind of, nearest first; at most as many as there are captions for them."""
    said = [synonyms for synonyms in hypernyms if synonyms[0] not in UNSAID]
    # First the common name of each kind, then the synonyms of the two nearest.
    words = [synonyms[0] for synonyms in said] + [word for synonyms in said[:2] for word in synonyms[1:3]]
    return itertools.islice((word for word in dict.fromkeys(words) if word not in UNSAID), KIND)


def _common(hypernyms: Sequence[Sequence[str]]) -> Iterator[str]:
    """The everyday words of the nearest kind that has some."""
    for first, *synonyms in hypernyms:
        # Railway cars are cars to WordNet as well, of another synset.
        words = ("car", "automobile") if first == "car" and "automobile" in synonyms else COMMON.get(first, ())
        if words:
            yield from words
            return


def _with_article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def all_captions(folder: Path) -> dict[str, tuple[str, ...]]:
    """The captions of each class in the folder's synsets.jsonl, by its WordNet id."""
    lines = (folder / "synsets.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["wnid"]: tuple(captions_of(row)) for row in map(json.loads, lines)}


def recaptioned(folder: Path) -> Iterator[Sample]:
    """The pictures of a folder's training shards with the captions of their class.

    Raises:
        DataError: a picture is broken, or of a class that synsets.jsonl lacks.
    """
    captions = all_captions(folder)
    source = open_source((str(folder / "train"),))
    for shard in range(len(source.shards)):
        for sample in source.read(shard):
            if not isinstance(sample, Sample):
                raise DataError(f"{sample.shard}: {sample.key} is broken ({sample.reason}); fetch that shard anew")
            wnid = sample.metadata["wnid"]
            if wnid not in captions:
                raise DataError(f"{folder / 'synsets.jsonl'} lacks {wnid}, the class of {sample.key}")
            yield dataclasses.replace(sample, texts=captions[wnid])


def main() -> None:
    """Write the shards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="tiny-imagenet: synsets.jsonl and train/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the new shards")
    arguments = parser.parse_args()
    paths = write_shards(recaptioned(arguments.folder), arguments.out)
    print(f"{len(paths)} shards in {arguments.out}")


if __name__ == "__main__":
    main()
