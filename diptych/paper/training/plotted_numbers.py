"""Numbers of the paper's figures 2 and 9, read off the plots.

Source: CLIP paper (arXiv 2103.00020), figures 2 and 9. The values are approximate, to about half a point of a percent.
"""

# Figure 2: millions of images processed, zero-shot ImageNet accuracy in percent; an RN50 as the image tower.
FIGURE_2: dict[str, tuple[tuple[float, float], ...]] = {
    "bag of words, contrastive": (
        *((4, 3.4), (8, 8.2), (16, 11.5), (33, 18.4), (67, 23.9)),
        *((134, 28.2), (268, 36.5), (400, 41.0)),
    ),
    "bag of words, predicted": ((8, 2.4), (16, 4.7), (33, 7.0), (67, 12.0), (134, 15.8), (268, 21.9), (400, 26.6)),
    "caption, predicted": ((16, 2.0), (33, 4.5), (67, 6.6), (134, 9.0), (268, 13.1), (400, 16.0)),
}

# Figure 2: the factor by which the first objective needs fewer images to reach the accuracy of the second.
EFFICIENCY = {
    ("bag of words, predicted", "caption, predicted"): 3.0,
    ("bag of words, contrastive", "bag of words, predicted"): 4.0,
}

# Figure 9: GFLOPs of an image (multiply-adds, printed in the figure), error in percent, mean over 39 evaluations.
FIGURE_9: dict[str, tuple[float, float]] = {
    "RN50": (6.1, 44.9),
    "RN101": (9.9, 42.2),
    "RN50x4": (21.5, 39.5),
    "RN50x16": (75.3, 35.2),
    "RN50x64": (265.9, 30.1),
}
