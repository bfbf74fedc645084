"""The caption grammar: true descriptions of a scene, long and short.

A caption is a subject in a frame. The subject names some of the facts (only the color, only the shape, or all of them).
The frame is empty or a phrase such as "a picture of ...". One word in eight is replaced by its synonym, if it has one.
"""

import random
from collections.abc import Callable

from diptych.data.playground.scene import Scene, Thing, pick
from diptych.data.playground.scene_vocabulary import BACKGROUNDS, INVERSE, NUMBERS, plural, with_article

SYNONYMS = {
    "purple": "violet",
    "cyan": "turquoise",
    "moon": "crescent",
    "cross": "plus sign",
    "large": "big",
    "small": "little",
    "centre": "middle",
}
SYNONYM_SHARE = 0.125
FRAMES: tuple[str, ...] = (
    *("{}", "{}", "{}", "{}.", "{}."),
    *("a picture of {}", "a picture of {}.", "an image of {}.", "an image showing {}", "a drawing of {}."),
    *("there is {} here", "there is {} in the picture", "this is {}.", "one can see {}", "it shows {}."),
)
MANY_FRAMES = tuple(frame.replace("there is", "there are").replace("this is", "these are") for frame in FRAMES)
PLACES = {
    "left": ("on the left", "at the left", "on the left side"),
    "right": ("on the right", "at the right", "on the right side"),
    "top": ("at the top", "near the top"),
    "bottom": ("at the bottom", "near the bottom"),
    "centre": ("in the centre", "at the centre"),
}
CORNER_PLACES = ("at the {}", "in the {}", "in the {} corner")
RELATION_WORDS = {
    "left of": ("left of", "left of", "to the left of"),
    "right of": ("right of", "right of", "to the right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "below", "under"),
}
TEXTURE_PHRASES = {"striped": "with stripes", "dotted": "with dots", "checkered": "with a checkered pattern"}
GROUND_WORDS = {
    "plain": "plain {} background",
    "gradient": "{} gradient",
    "noise": "noisy {} background",
    "grid": "{} grid",
}


def captions(scene: Scene, rng: random.Random) -> tuple[str, ...]:
    """Return one to three different captions of a scene, all of them true."""
    write = _WRITERS[scene.kind]
    number = 1 + int(rng.random() * 3)
    texts: dict[str, None] = {}  # an ordered set
    for _ in range(number):
        texts[write(scene, rng)] = None
    return tuple(texts)


def _single(scene: Scene, rng: random.Random) -> str:
    thing = scene.things[0]
    roll = rng.random()
    if roll < 0.06:
        return f"{pick(rng, ('the', 'a'))} {_word(rng, thing.shape)} that is {_word(rng, thing.colour)}{_stop(rng)}"
    if roll < 0.10:
        return f"the {_word(rng, thing.shape)} is {_word(rng, thing.colour)}{_stop(rng)}"
    # "a shape" alone says nothing, but "a shape at the top left" does: vague subjects occur only with a place.
    subject = with_article(_subject(rng, thing, vague=0.2 if roll < 0.34 else 0.0))
    if roll < 0.34:
        place = _place(rng, scene.position)
        if roll < 0.16:
            return f"{place}, {subject}{_stop(rng)}"
        subject = f"{subject} {place}"
    elif roll < 0.46:
        subject = f"{subject} {_ground(scene, rng)}"
    return pick(rng, FRAMES).format(subject)


def _count(scene: Scene, rng: random.Random) -> str:
    thing, count = scene.things[0], len(scene.things)
    number = NUMBERS[count] if rng.random() < 0.85 else str(count)
    noun_phrase = _subject(rng, thing, many=count > 1, sized=False, vague=0.15)
    roll = rng.random()
    if count == 1:
        start = pick(rng, (number, number, "a single", "just one", "only one"))
        subject, frames = f"{start} {noun_phrase}", FRAMES
    elif roll < 0.06:
        return f"{noun_phrase}, {number} of them{_stop(rng)}"
    elif roll < 0.12:
        subject, frames = f"a group of {number} {noun_phrase}", FRAMES
    else:
        subject, frames = f"{number} {noun_phrase}", MANY_FRAMES
    if roll > 0.82:
        subject = f"{subject} {_ground(scene, rng)}"
    return pick(rng, frames).format(subject)


def _relation(scene: Scene, rng: random.Random) -> str:
    first, second, relation = scene.things[0], scene.things[1], scene.relation
    if rng.random() < 0.5:
        first, second, relation = second, first, INVERSE[relation]
    roll = rng.random()
    # Both things are described by the same kind of facts, mostly color and shape, as people do when they compare.
    describe = _names if roll < 0.6 else _shape_alone if roll < 0.8 else _colour_alone if roll < 0.9 else _rich
    first_phrase, second_phrase = with_article(describe(rng, first)), with_article(describe(rng, second))
    if rng.random() < 0.12:
        subject = f"{first_phrase} and {second_phrase}"
    else:
        subject = f"{first_phrase} {pick(rng, RELATION_WORDS[relation])} {second_phrase}"
    if rng.random() < 0.08:
        subject = f"{subject} {_ground(scene, rng)}"
    return pick(rng, FRAMES).format(subject)


def _written(scene: Scene, rng: random.Random) -> str:
    word = scene.word if rng.random() < 0.5 else f'"{scene.word}"'
    roll = rng.random()
    if scene.panel and roll < 0.45:
        subject = pick(rng, (f"a sign that says {word}", f"a sign with the word {word}", f"the word {word} on a sign"))
    elif roll < 0.7:
        subject = f"the word {word}"
    else:
        starts = ("the written word {}", "the text {}", "text that says {}", "the word {} in letters", "{} in letters")
        subject = pick(rng, starts).format(word)
    roll = rng.random()
    if roll < 0.2:
        subject = f"{subject} in {_word(rng, scene.ink)}"
    elif roll < 0.3 and not scene.panel:
        subject = f"{subject} {_ground(scene, rng)}"
    return pick(rng, FRAMES[:10]).format(subject)


def _digit(scene: Scene, rng: random.Random) -> str:
    digit = scene.digit or 0
    name = NUMBERS[digit] if rng.random() < 0.6 else str(digit)
    forms = (
        *("a handwritten digit {}", "a handwritten {}", "the handwritten digit {}", "the handwritten number {}"),
        *("the number {} written by hand", "the digit {} written by hand", "a {} in handwriting", "the digit {}"),
    )
    subject = pick(rng, forms).format(name)
    roll = rng.random()
    if roll < 0.2:
        subject = f"{subject} in {_word(rng, scene.ink)}"
    elif roll < 0.3:
        subject = f"{subject} {_ground(scene, rng)}"
    return pick(rng, FRAMES[:10]).format(_fix_article(subject))


def _subject(rng: random.Random, thing: Thing, many: bool = False, sized: bool = True, vague: float = 0.0) -> str:
    """Return a description of a thing without article: usually color and shape, sometimes less, sometimes more."""
    if rng.random() < vague:
        return _generic(rng, many)
    roll = rng.random()
    if roll < 0.5:
        return _names(rng, thing, many)
    if roll < 0.63:
        return _shape_alone(rng, thing, many)
    if roll < 0.74:
        return _colour_alone(rng, thing, many)
    return _rich(rng, thing, many, sized)


def _names(rng: random.Random, thing: Thing, many: bool = False) -> str:
    return f"{_word(rng, thing.colour)} {_noun(rng, thing, many)}"


def _shape_alone(rng: random.Random, thing: Thing, many: bool = False) -> str:
    return _noun(rng, thing, many)


def _colour_alone(rng: random.Random, thing: Thing, many: bool = False) -> str:
    return f"{_word(rng, thing.colour)} {_generic(rng, many)}"


def _generic(rng: random.Random, many: bool) -> str:
    noun = pick(rng, ("shape", "shape", "object", "thing"))
    return plural(noun) if many else noun


def _rich(rng: random.Random, thing: Thing, many: bool = False, sized: bool = True) -> str:
    """Return color and shape with size, texture or both, if the thing has them."""
    colour, noun = _word(rng, thing.colour), _noun(rng, thing, many)
    size = f"{_word(rng, thing.size)} " if sized and thing.size and rng.random() < 0.75 else ""
    if thing.texture == "solid" or rng.random() < 0.2:
        texture = "solid " if thing.texture == "solid" and rng.random() < 0.2 else ""
        return f"{size}{texture}{colour} {noun}"
    if rng.random() < 0.2:
        return f"{size}{colour} {noun} {TEXTURE_PHRASES[thing.texture]}"
    if rng.random() < 0.25:
        return f"{size}{colour} {thing.texture} {noun}"
    return f"{size}{thing.texture} {colour} {noun}"


def _noun(rng: random.Random, thing: Thing, many: bool) -> str:
    noun = _word(rng, thing.shape)
    return plural(noun) if many else noun


def _word(rng: random.Random, word: str) -> str:
    """Return the word, or with probability SYNONYM_SHARE its synonym."""
    return SYNONYMS.get(word, word) if rng.random() < SYNONYM_SHARE else word


def _fix_article(words: str) -> str:
    return words.replace("a eight", "an eight").replace("a 8", "an 8")


def _place(rng: random.Random, position: str) -> str:
    if position in PLACES:
        place = pick(rng, PLACES[position])
        return place.replace("centre", _word(rng, "centre"))
    return pick(rng, CORNER_PLACES).format(position)


def _ground(scene: Scene, rng: random.Random) -> str:
    hue, tone, _ = BACKGROUNDS[scene.background.row]
    if tone and rng.random() < 0.3:
        hue = f"{tone} {hue}"
    ground = f"{hue} background"
    if rng.random() < 0.3:
        ground = GROUND_WORDS[scene.background.pattern].format(hue)
    return f"{'against' if rng.random() < 0.1 else 'on'} {with_article(ground)}"


def _stop(rng: random.Random) -> str:
    return "." if rng.random() < 0.4 else ""


_WRITERS: dict[str, Callable[[Scene, random.Random], str]] = {
    "single": _single,
    "count": _count,
    "relation": _relation,
    "word": _written,
    "digit": _digit,
}
