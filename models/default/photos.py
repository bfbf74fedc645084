"""What a model says about the full-size photographs, all of them, in order: a Markdown table.

    python models/default/photos.py ../shared/data --model default

The candidates are the names of all the photographs. "trained" says whether Tiny ImageNet has the class: of the others
the model has never met a picture, nor, mostly, the word.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from diptych import ZeroShotClassifier, load
from diptych.data.open_source import open_source
from diptych.evaluate import clopper_pearson
from diptych.records import Sample

TEMPLATES = ["a photo of a {c}.", "a picture of a {c}", "a {c}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of photos/ and tiny-imagenet/")
    parser.add_argument("--model", default="default", help="model folder (%(default)s)")
    arguments = parser.parse_args()
    trained = set((arguments.data / "tiny-imagenet" / "wnids.txt").read_text(encoding="utf-8").split())
    for line in table(arguments.model, arguments.data / "photos", trained):
        print(line)


def table(model: str, folder: Path, trained: set[str]) -> Iterator[str]:
    """One row a photograph, then the shares that are right."""
    source = open_source(str(folder))
    samples = [one for shard in range(len(source.shards)) for one in source.read(shard) if isinstance(one, Sample)]
    names = [sample.texts[0] for sample in samples]
    classifier = ZeroShotClassifier(load(model), list(dict.fromkeys(names)), TEMPLATES)
    shares = classifier.predict_proba([sample.image for sample in samples])
    yield "| photograph | trained | says | then |"
    yield "| --- | --- | --- | --- |"
    right: dict[bool, list[bool]] = {True: [], False: []}
    for sample, name, row in zip(samples, names, shares, strict=True):
        best = [(classifier.classes_[index], row[index]) for index in row.argsort()[::-1][:3]]
        known = sample.metadata["wnid"] in trained
        right[known].append(best[0][0] == name)
        said = [f"{label} {share:.0%}" for label, share in best]
        first = f"**{said[0]}**" if right[known][-1] else said[0]
        yield f"| {name} | {'yes' if known else 'no'} | {first} | {', '.join(said[1:])} |"
    yield ""
    for known, found in right.items():
        if found:
            low, high = clopper_pearson(sum(found), len(found))
            kind = "of trained classes" if known else "of other classes"
            yield f"{sum(found)} of {len(found)} {kind} are right (99.5 % interval {low:.0%} to {high:.0%})."


if __name__ == "__main__":
    main()
