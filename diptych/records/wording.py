"""What tables call a measurement: the kind of its task, and its protocol and condition in a few words."""

from __future__ import annotations

from diptych.records.result import Result

PROTOCOLS = {
    "ensemble": "zero-shot, the embeddings of all templates averaged",
    "single": "zero-shot, one template",
    "names": "zero-shot, class names without a template",
    "probability": "zero-shot, the probabilities of all templates averaged",
    "features": "a probe on features before the projection",
    "projected": "a probe on embeddings",
    "adapted": "ImageNet's probe on other images than ImageNet's own test split",
    "draws": "few-shot learning, the mean over draws of the examples",
    "prefixed": "retrieval by captions with the paper's prefix",
    "bare": "retrieval by captions as they are",
    "frames_averaged": "zero-shot, the probabilities of a clip's frames averaged",
    "own_lexicon": "zero-shot, among the words that each image brings along",
    "nearest_neighbour": "the place of the nearest reference image",
    "zero-shot": "a model on the images that people named",
    "answers": "people",
}
"""The protocols of Diptych's own tasks, and what each means."""

_KINDS = {
    "robustness": "zero_shot",
    "shifts": "zero_shot",
    "projected_probe": "linear_probe",
    "imagenet_probe": "linear_probe",
    "few_shot_from_texts": "few_shot",
}
_WORDS = {
    "adapted": "adapted to ImageNet",
    "frames_averaged": "frames averaged",
    "own_lexicon": "own lexicon",
    "nearest_neighbour": "nearest neighbour",
}


def kind_of(result: Result) -> str:
    """The task whose table a Result stands in: robustness and made shifts stand beside "zero_shot", for example."""
    return _KINDS.get(result.task, result.task)


def protocol_in_words(result: Result) -> str:
    """Protocol and condition as tables, messages and names of files have them.

    "ensemble", "static", "on ImageNet-A", "probe 16-shot", "probe 16-shot on ImageNet-A"; what is in a condition
    beside the four usual entries follows by its name.
    """
    rest = dict(result.condition)
    classifier, shots, subset = (rest.pop(name, None) for name in ("classifier", "shots", "subset"))
    if shots is not None:
        words = [f"{shots}-shot"] if classifier is None else [f"{classifier} {shots}-shot"]
        words += [] if subset is None else [f"on {subset}"]
    elif subset is not None:
        words = [f"on {subset}"]  # the classifier is the one that the set's task has
    else:
        words = [_WORDS.get(result.protocol, result.protocol) if classifier is None else str(classifier)]
    return ", ".join([" ".join(words), *(f"{name} {value}" for name, value in rest.items())])
