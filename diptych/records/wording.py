"""Names of measurements in tables: the kind of task, and protocol and condition as text."""

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
"""The protocols of Diptych's own tasks, with their meanings."""

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
    """The task whose table shows a Result. Results of robustness and made shifts are in the table of "zero_shot"."""
    return _KINDS.get(result.task, result.task)


def protocol_in_words(result: Result) -> str:
    """Protocol and condition as text, for tables, messages and file names.

    Examples: "ensemble", "static", "on ImageNet-A", "probe 16-shot", "probe 16-shot on ImageNet-A". Other entries
    of the condition follow with their names.
    """
    other_entries = dict(result.condition)
    classifier, shots, subset = (other_entries.pop(name, None) for name in ("classifier", "shots", "subset"))
    if shots is not None:
        parts = [f"{shots}-shot"] if classifier is None else [f"{classifier} {shots}-shot"]
        parts += [] if subset is None else [f"on {subset}"]
    elif subset is not None:
        parts = [f"on {subset}"]  # the task determines the classifier
    else:
        parts = [_WORDS.get(result.protocol, result.protocol) if classifier is None else str(classifier)]
    return ", ".join([" ".join(parts), *(f"{name} {value}" for name, value in other_entries.items())])
