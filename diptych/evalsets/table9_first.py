"""The first 12 rows of the paper's table 9, the suite of Kornblith et al.

Source: appendix A.1 and tables 9 to 11; for sizes of original archives and for traps what their authors publish.
"""

from diptych.evalsets.card import Card

_MEAN = "mean_per_class_accuracy"
_WHOLE = "the archive's own training and test pictures"


def paper_card(
    name: str,
    title: str,
    num_classes: int,
    splits: dict[str, int],
    paper_sizes: tuple[int, int],
    folders: str,
    homepage: str,
    hub: str | None,
    split_rule: str = _WHOLE,
    traps: tuple[str, ...] = (),
    *,
    task: str = "classification",
    metric: str = "accuracy",
) -> Card:
    """A row whose words are in the prompts table under its own name; folders stand between spaces."""
    aliases = tuple(folders.split())
    return Card(
        name, title, task, num_classes, splits, metric, paper_sizes, name, aliases, homepage, hub, split_rule, traps
    )


FIRST_12: tuple[Card, ...] = (
    paper_card(
        "Food101",
        "Food-101",
        101,
        {"train": 75750, "test": 25250},
        (75750, 25250),
        "food-101 food_101 wds_food101",
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        "ethz/food101",
        "meta/train.txt and meta/test.txt",
        ("Table 9 prints 102 classes; the archive, the prompts and figure 21 have 101.",),
    ),
    paper_card(
        "CIFAR10",
        "CIFAR-10",
        10,
        {"train": 50000, "test": 10000},
        (50000, 10000),
        "cifar-10 cifar-10-batches-py cifar-10-batches-bin wds_vtab-cifar10 wds_cifar10",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "clip-benchmark/wds_vtab-cifar10",
        traps=("The archive's own Python files are pickles; the binary version holds the same pictures without them.",),
    ),
    paper_card(
        "CIFAR100",
        "CIFAR-100",
        100,
        {"train": 50000, "test": 10000},
        (50000, 10000),
        "cifar-100 cifar-100-python cifar-100-binary wds_vtab-cifar100 wds_cifar100",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "clip-benchmark/wds_vtab-cifar100",
        traps=("Each picture has a fine and a coarse label (20 classes); the fine ones count.",),
    ),
    paper_card(
        "Birdsnap",
        "Birdsnap",
        500,
        {"train": 47386, "test": 2443},
        (42283, 2149),
        "wds_birdsnap",
        "https://thomasberg.org/",
        None,
        "test_images.txt names the test pictures; all others are for training",
        ("Pictures are listed as URLs, many of them dead: the paper has 42,283 + 2,149 of 49,829.",),
    ),
    paper_card(
        "SUN397",
        "SUN397",
        397,
        {"train": 19850, "test": 19850},
        (19850, 19850),
        "sun-397 wds_sun397",
        "https://vision.princeton.edu/projects/2010/SUN/",
        "clip-benchmark/wds_sun397",
        "one of the ten published partitions, Training_01.txt and Testing_01.txt here; 50 + 50 pictures per class",
        (
            "Which of the ten partitions the paper took is not stated.",
            "The wds set splits all 108,754 pictures in another way: its scores are of another test set.",
        ),
    ),
    paper_card(
        "StanfordCars",
        "Stanford Cars",
        196,
        {"train": 8144, "test": 8041},
        (8144, 8041),
        "stanford_cars stanford-cars cars wds_cars wds_stanford_cars",
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        "clip-benchmark/wds_cars",
        "cars_train and cars_test with the labels of devkit/ and cars_test_annos_withlabels.mat",
        ("Classes count from 1 in the archive; the labels of the test pictures are a file of their own.",),
    ),
    paper_card(
        "FGVCAircraft",
        "FGVC Aircraft",
        100,
        {"train": 3334, "val": 3333, "test": 3333},
        (6667, 3333),
        "fgvc-aircraft fgvc_aircraft fgvc-aircraft-2013b wds_fgvc_aircraft",
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
        "clip-benchmark/wds_fgvc_aircraft",
        "images_variant_{train,val,test}.txt; the final training set is train + val",
        (
            "There are labels for variants (100), families (70) and makers; the variants count.",
            "The last 20 pixel rows of a picture are a banner with the copyright, which its authors ask to cut off.",
        ),
        metric=_MEAN,
    ),
    paper_card(
        "VOC2007",
        "Pascal VOC 2007 Classification",
        20,
        {"train": 2501, "val": 2510, "test": 4952},
        (5011, 4952),
        "VOCdevkit VOCtrainval_06-Nov-2007 pascal-voc-2007 pascalvoc2007 voc-2007",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
        None,
        "ImageSets/Main/{train,val,test}.txt; the final training set is train + val",
        (
            "A picture has several classes, and difficult ones that neither count as right nor as wrong.",
            "clip-benchmark's wds_voc2007 holds 14,976 cut-out objects with one class each and is scored by accuracy, "
            "not 11-point mAP: another set, not read under this name.",
        ),
        task="multi_label",
        metric="mean_average_precision_11_point",
    ),
    paper_card(
        "DTD",
        "Describable Textures",
        47,
        {"train": 1880, "val": 1880, "test": 1880},
        (3760, 1880),
        "describabletextures dtd-r1.0.1 wds_vtab-dtd wds_dtd",
        "https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        "clip-benchmark/wds_vtab-dtd",
        "labels/{train1,val1,test1}.txt, the first of ten partitions; the final training set is train + val",
        ("Ten partitions are published; the paper does not say which one, the first is usual.",),
    ),
    paper_card(
        "OxfordPets",
        "Oxford-IIIT Pets",
        37,
        {"train": 3680, "test": 3669},
        (3680, 3669),
        "oxford-iiit-pet oxford-iiit-pets oxfordiiitpet pets wds_vtab-pets wds_pets",
        "https://www.robots.ox.ac.uk/~vgg/data/pets/",
        "clip-benchmark/wds_vtab-pets",
        "annotations/trainval.txt and test.txt",
        ("Some files called .jpg are PNG or GIF pictures.",),
        metric=_MEAN,
    ),
    paper_card(
        "Caltech101",
        "Caltech-101",
        102,
        {"train": 3060, "test": 6085},
        (3060, 6085),
        "caltech-101 101_ObjectCategories wds_vtab-caltech101 wds_caltech101",
        "https://data.caltech.edu/records/mzrjq-6wc02",
        "clip-benchmark/wds_vtab-caltech101",
        "30 pictures of each of the 102 classes drawn for training, all others for testing",
        (
            "No split is published: which 30 pictures the paper drew is not known.",
            "The class of background pictures counts: 102 classes, not 101.",
            "Its background has a picture without an ending, tmp: with it there are 6,085 test pictures, else 6,084.",
        ),
        metric=_MEAN,
    ),
    paper_card(
        "Flowers102",
        "Oxford Flowers 102",
        102,
        {"train": 1020, "val": 1020, "test": 6149},
        (2040, 6149),
        "flowers-102 flowers oxfordflowers102 102flowers wds_vtab-flowers wds_flowers",
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        "clip-benchmark/wds_vtab-flowers",
        "trnid, valid and tstid of setid.mat; the final training set is train + val",
        (
            "The archive numbers its classes from 1 and names none: the names are those of the paper's authors.",
            "Some copies exchange the 1,020 training with the 6,149 test pictures.",
        ),
        metric=_MEAN,
    ),
)
