"""Small copies, in the real layouts, of KITTI, PCam, the videos, ImageNet and its shifts, the captions and others.

`MINIATURES[name](folder)` makes the set's folder, as unpacking its archives there does.
"""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded
from PIL import Image

from diptych.evalsets.cards import CARDS
from diptych.evalsets.imagenet_classes import object_net_names
from diptych.evalsets.opening import open_card
from diptych.records import Broken, Sample

LABEL = "{kind} 0.00 0 -1.57 10.0 20.0 30.0 40.0 1.5 1.6 3.7 1.0 1.7 {depth} -1.6"


def picture(path: Path, colour: int = 0, size: int = 8) -> None:
    """One color, in the format of the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    format = {".png": "PNG"}.get(path.suffix, "JPEG")
    path.write_bytes(encoded(Image.new("RGB", (size, size), (colour, colour, colour)), format))


def video(path: Path, colours: Sequence[int], codec: str = "mpeg4", rate: int = 10) -> None:
    """A video with one gray frame for each of the values, ten frames per second."""
    av = pytest.importorskip("av")

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 4
        for colour in colours:
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), colour, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write(path: Path, text: str | Iterable[str]) -> None:
    """Write a text file from its text or its lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else "".join(f"{line}\n" for line in text), "utf-8")


def write_json(path: Path, value: object) -> None:
    write(path, json.dumps(value))


def kitti(folder: Path) -> None:
    """Twelve images whose nearest vehicles are 6, 12 and 30 m away, or absent, in turn."""
    lines = [
        [("Car", 6.0), ("Van", 30.0)],
        [("Truck", 12.0), ("Pedestrian", 2.0)],
        [("Van", 30.0)],
        [("Cyclist", 4.0), ("DontCare", -1000)],
    ]
    for number in range(12):
        picture(folder / f"training/image_2/{number:06d}.png", number)
        objects = [LABEL.format(kind=kind, depth=depth) for kind, depth in lines[number % 4]]
        write(folder / f"training/label_2/{number:06d}.txt", objects)


def country211(folder: Path) -> None:
    for split, codes in (("train", "AD US ZW"), ("valid", "AD US"), ("test", "AD AE US ZW")):
        for code in codes.split():
            picture(folder / split / code / f"{code}_1.jpg")


def pcam(folder: Path, pixels: np.ndarray | None = None) -> None:
    h5py = pytest.importorskip("h5py")

    folder.mkdir(parents=True, exist_ok=True)
    for split, number in (("train", 4), ("valid", 2), ("test", 3)):
        grey = np.arange(number, dtype=np.uint8)[:, None, None, None]
        with h5py.File(folder / f"camelyonpatch_level_2_split_{split}_x.h5", "w") as file:
            file["x"] = np.broadcast_to(grey, (number, 8, 8, 3)) if pixels is None else pixels
        with h5py.File(folder / f"camelyonpatch_level_2_split_{split}_y.h5", "w") as file:
            file["y"] = (np.arange(number) % 2).astype(np.uint8).reshape(-1, 1, 1, 1)


def ucf101(folder: Path) -> None:
    """A clip of five gray frames, 0 to 200, for each of three classes; the clips are divided in two ways."""
    clips = [
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
        "HandstandPushups/v_HandStandPushups_g01_c01.avi",
        "YoYo/v_YoYo_g01_c01.avi",
    ]
    for clip in clips:
        video(folder / "UCF-101" / clip, range(0, 201, 50))
    lists = folder / "ucfTrainTestlist"
    write(lists / "trainlist01.txt", [f"{clips[0]} 1"])
    write(lists / "testlist01.txt", clips[1:])
    write(lists / "trainlist02.txt", [f"{clips[1]} 37", f"{clips[2]} 101"])
    write(lists / "testlist02.txt", clips[:1])


def kinetics700(folder: Path) -> None:
    video(folder / "train/abseiling/one_000001_000011.mp4", (0, 100, 200))
    video(folder / "train/zumba/two_000001_000011.mkv", (0, 100, 200))
    video(folder / "val/backflip (human)/three_000001_000011.mp4", (0, 100, 200))
    video(folder / "val/massaging person's head/four_000001_000011.mp4", (0, 100, 200))


def clevr_counts(folder: Path) -> None:
    """Six training scenes of 3, 4, ... 8 objects and three validation scenes of 10, 9 and 3."""
    for split, counts in (("train", range(3, 9)), ("val", (10, 9, 3))):
        scenes = []
        for number, count in enumerate(counts):
            name = f"CLEVR_{split}_{number:06d}.png"
            picture(folder / "CLEVR_v1.0/images" / split / name)
            objects = [{"shape": "cube", "3d_coords": [0.1, 0.2, 0.3]}] * count
            scenes.append({"image_filename": name, "image_index": number, "objects": objects, "relationships": {}})
        write_json(
            folder / f"CLEVR_v1.0/scenes/CLEVR_{split}_scenes.json", {"info": {"split": split}, "scenes": scenes}
        )


def hateful_memes(folder: Path) -> None:
    rows = [{"id": 42953 + n, "img": f"img/{42953 + n}.png", "label": n % 2, "text": "a caption"} for n in range(5)]
    for row in rows:
        picture(folder / row["img"])
    write(folder / "train.jsonl", map(json.dumps, rows[:3]))
    write(folder / "dev.jsonl", map(json.dumps, rows[3:]))
    write(folder / "test.jsonl", [json.dumps({"id": 1, "img": "img/01.png", "text": "no label"})])


def rendered_sst2(folder: Path) -> None:
    for split in ("train", "valid", "test"):
        for name in ("negative", "positive"):
            picture(folder / split / name / "0000.png")


def imagenet(folder: Path) -> None:
    """Classes 0, 207 and 999, with one folder each."""
    for split in ("train", "val"):
        for wordnet_id in ("n01440764", "n02099601", "n15075141"):
            picture(folder / split / wordnet_id / f"{wordnet_id}_1.JPEG")


def imagenet_flat(folder: Path) -> None:
    """Three validation images in one folder, with the development kit's table and labels."""
    from scipy.io import savemat

    kit = folder / "ILSVRC2012_devkit_t12/data"
    kit.mkdir(parents=True, exist_ok=True)
    # The kit's own numbers: 1 is the kit fox (278), 2 the English setter (212); 1,001 is a group.
    rows = [(1, "n02119789"), (2, "n02100735"), (1001, "n00001740")]
    synsets = np.array(rows, dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")]).reshape(-1, 1)
    savemat(kit / "meta.mat", {"synsets": synsets})
    write(kit / "ILSVRC2012_validation_ground_truth.txt", "2\n1\n2\n")
    for number in (1, 2, 3):
        picture(folder / f"val/ILSVRC2012_val_{number:08d}.JPEG")


def imagenet_kaggle(folder: Path) -> None:
    base = folder / "ILSVRC/Data/CLS-LOC"
    picture(base / "train/n01440764/n01440764_1.JPEG")
    picture(base / "val/ILSVRC2012_val_00000001.JPEG")
    picture(base / "val/ILSVRC2012_val_00000002.JPEG")
    rows = ["ILSVRC2012_val_00000002,n15075141 1 2 3 4 ", "ILSVRC2012_val_00000001,n01443537 1 2 3 4 n01443537 5 6 7 8"]
    write(folder / "LOC_val_solution.csv", ["ImageId,PredictionString", *rows])


def imagenet_v2(folder: Path) -> None:
    for name in ("0", "2", "10", "999"):
        picture(folder / "imagenetv2-matched-frequency-format-val" / name / "a.jpeg")


def wordnet_folders(folder: Path, *ids: str) -> None:
    for wordnet_id in ids:
        picture(folder / wordnet_id / "a.jpg")


def object_net(folder: Path) -> None:
    """Three classes, one of which does not overlap with ImageNet; gray images inside a red border."""
    names = {name.lower().replace(" ", "_").replace("/", "_"): name for name in object_net_names()}
    write_json(
        folder / "objectnet-1.0/mappings/folder_to_objectnet_label.json", {**names, "air_freshener": "Air freshener"}
    )
    framed = Image.new("RGB", (12, 10), (255, 0, 0))
    framed.paste((90, 90, 90), (2, 2, 10, 8))
    for name in ("alarm_clock", "air_freshener", "wok"):
        path = folder / "objectnet-1.0/images" / name / "1.png"
        path.parent.mkdir(parents=True)
        framed.save(path)


def imagenet_vid(folder: Path) -> None:
    """Two anchors; the second has a neighbor with two labels."""
    place = "val/ILSVRC2015_val_0000000"
    sets = {
        f"{place}1/000020.JPEG": [f"{place}1/000021.JPEG", f"{place}1/000019.JPEG"],
        f"{place}0/000442.JPEG": [f"{place}0/000432.JPEG"],
    }
    labels = {f"{place}1/{frame}.JPEG": [4] for frame in ("000019", "000020", "000021")}
    labels |= {f"{place}0/000442.JPEG": [29], f"{place}0/000432.JPEG": [29, 8]}
    for frame in labels:
        picture(folder / frame)
    write_json(folder / "metadata/pmsets.json", sets)
    write_json(folder / "metadata/labels.json", labels)


def youtube_bb(folder: Path) -> None:
    """Four anchors: a car with two neighbors, one of them dissimilar; a giraffe; a bad one; one not marked good."""
    anchors = [("car_1000", 30), ("giraffe_2000", 60), ("bus_3000", 90), ("cat_4000", 120)]
    marks = ["good", "bad", "unsure", "person", "bus"]
    good = {name: f"frames/{name}/frame-{number}.jpg" for name, number in anchors}
    rows = [
        {"key": good["car_1000"], "labels": [0, 3]},
        {"key": good["giraffe_2000"], "labels": [0]},
        {"key": good["bus_3000"], "labels": [0, 4]},
        {"key": good["cat_4000"], "labels": [0, 2]},
    ]
    pairs = [("car_1000", 29, [1]), ("car_1000", 31, [1, 2]), ("car_1000", 44, [1]), ("bus_3000", 91, [1, 3])]
    neighbours = [
        {"key": f"{good[name]},frames/{name}/frame-{number}.jpg", "labels": labels} for name, number, labels in pairs
    ]
    names = ["correct", "similar", "dissimilar", "bad-anchor"]
    meta = folder / "metadata"
    write_json(meta / "anchor_labels.json", {"labels": marks, "annotations": rows})
    write_json(meta / "pmk_labels.json", {"labels": names, "annotations": neighbours})
    write_json(meta / "ytbb_class_index.json", {"0": "person", "4": "bus", "6": "giraffe", "22": "none", "23": "car"})
    # In this table, 22 is the car.
    first = ["car,1000,22", "giraffe,2000,6", "bus,3000,4", "cat,4000,7"]
    write(meta / "ytbb_robustness_test_anchors_full.csv", ["ytid,time_ms,label", *first])
    for frame in ("car_1000/frame-29", "car_1000/frame-30", "car_1000/frame-31"):
        picture(folder / f"ytbb_videos/{frame}.jpg")


def flickr30k(folder: Path) -> None:
    """Five images with Karpathy's split, and the file of captions."""
    images, tokens = [], []
    for number, split in enumerate(("train", "train", "val", "test", "test")):
        name = f"10000{number}.jpg"
        picture(folder / "flickr30k-images" / name)
        texts = [f"caption {which} of {number}" for which in range(5)]
        sentences = [{"raw": text, "tokens": text.split()} for text in texts]
        images.append({"filename": name, "split": split, "sentences": sentences, "imgid": number})
        tokens += [f"{name}#{which}\t{text}" for which, text in enumerate(texts)]
    write_json(folder / "dataset_flickr30k.json", {"dataset": "flickr30k", "images": images})
    write(folder / "results_20130124.token", tokens)


def mscoco(folder: Path) -> None:
    """Images of 2014 with Karpathy's split, one with seven captions, and the annotations of 2014."""
    images, captions, pictures = [], [], []
    for number, (place, split) in enumerate(
        (("train2014", "train"), ("val2014", "restval"), ("val2014", "val"), ("val2014", "test"))
    ):
        name = f"COCO_{place}_{number:012d}.jpg"
        picture(folder / place / name)
        texts = [f"caption {which} of {number}" for which in range(7 if split == "test" else 5)]
        images.append({"filepath": place, "filename": name, "split": split, "sentences": [{"raw": t} for t in texts]})
        if place == "val2014":
            pictures.append({"id": number, "file_name": name})
            captions += [{"id": 100 * number - n, "image_id": number, "caption": t} for n, t in enumerate(texts)]
    write_json(folder / "dataset_coco.json", {"dataset": "coco", "images": images})
    write_json(folder / "annotations/captions_val2014.json", {"images": pictures, "annotations": captions})


def im2gps(folder: Path) -> None:
    for name in ("b.jpg", "a.jpg"):
        picture(folder / "images" / name)
    picture(folder / "reference" / "0" / "r.jpg")
    write(
        folder / "im2gps_places365.csv", ["IMG_ID,AUTHOR,LAT,LON", "b.jpg,me,48.8584,2.2945", "a.jpg,you,-33.86,151.2"]
    )
    write(folder / "reference/places.csv", ["image,latitude,longitude", "0/r.jpg,40.0,-75.5"])


def rare_act(folder: Path) -> None:
    """Two parts of a video of 2 seconds whose second half is light, and a part of a missing video."""
    video(folder / "videos/abc-_1.mp4", [0] * 10 + [200] * 10)
    rows = [
        ("0", "abc-_1", "0", "1", "1", "cut", "phone", "1"),
        ("1", "abc-_1", "1", "2", "0", "wash", "door", "0"),
        ("2", "gone", "10", "20", "0", "wash", "door", "4"),
    ]
    with (folder / "rareact.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("id", "video_id", "start", "end", "class_id", "verb", "noun", "annotation"), *rows]
        )


def a_yahoo(folder: Path) -> None:
    for name in ("bag_227", "zebra_1", "jetski_3"):
        picture(folder / "ayahoo_test_images" / f"{name}.jpg")
    rows = ["bag_227.jpg bag 15 29 265 460 0 1", "bag_227.jpg bag 1 2 3 4 0 1", "zebra_1.jpg zebra 1 1 5 5 0 0"]
    write(folder / "attribute_data/ayahoo_test.txt", [*rows, "jetski_3.jpg jetski 1 1 5 5 0 0"])


def sun(folder: Path) -> None:
    """723 classes, most of them empty files: 721 of one folder, and apse's two."""
    for number in range(721):
        path = folder / "images/b" / f"class_{number:03d}" / "1.jpg"
        path.parent.mkdir(parents=True)
        path.touch()
    for name in ("indoor", "outdoor"):
        picture(folder / "images/a/apse" / name / "1.jpg")


MINIATURES: dict[str, Callable[[Path], None]] = {
    "KITTI": kitti,
    "Country211": country211,
    "PCam": pcam,
    "UCF101": ucf101,
    "Kinetics700": kinetics700,
    "CLEVRCounts": clevr_counts,
    "HatefulMemes": hateful_memes,
    "RenderedSST2": rendered_sst2,
    "ImageNet": imagenet,
    "ImageNetV2": imagenet_v2,
    "ImageNet-Sketch": lambda folder: wordnet_folders(folder / "sketch", "n01440764", "n15075141"),
    "ImageNet-A": lambda folder: wordnet_folders(folder / "imagenet-a", "n01498041", "n12144580"),
    "ImageNet-R": lambda folder: wordnet_folders(folder / "imagenet-r", "n01443537", "n12267677"),
    "ObjectNet": object_net,
    "ImageNet-Vid": imagenet_vid,
    "Youtube-BB": youtube_bb,
    "aYahoo": a_yahoo,
    "SUN": sun,
    "Flickr30k": flickr30k,
    "MSCOCO": mscoco,
    "RareAct": rare_act,
    "IM2GPS": im2gps,
}


def opened(name: str, root: Path, split: str = "test", **options: object) -> list[Sample | Broken]:
    """The items of a set's split, by its card."""
    source = open_card(CARDS[name], root, split, **options).source
    return [item for shard in range(len(source.shards)) for item in source.read(shard)]


def labels(name: str, root: Path, split: str = "test") -> list[tuple[str, int]]:
    """Key and label of each sample; a Broken is an error here."""
    items = opened(name, root, split)
    assert [item for item in items if isinstance(item, Broken)] == []
    return [(item.key, item.label) for item in items]


def made(name: str, root: Path) -> Path:
    """Make the set's folder below root."""
    MINIATURES[name](root / name)
    return root / name
