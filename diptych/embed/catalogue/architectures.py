"""Numbers of the architectures in the catalogue, by open_clip's names.

Parameters and operations are counted on open_clip's networks (torch's FlopCounterMode; for the architectures in
open_clip's docs/model_profile.csv the counts are equal to that file's). tests/embed/catalogue compares.
"""

from diptych.embed.catalogue.catalogue_model import Architecture, CatalogueModel, Family

ARCHITECTURES = {
    "RN50": Architecture(224, 102_007_137, 12.22, 5.96),
    "RN101": Architecture(224, 119_688_033, 19.54, 5.96),
    "RN50x4": Architecture(288, 178_300_601, 42.56, 9.27),
    "RN50x16": Architecture(384, 290_979_217, 149.39, 13.3),
    "RN50x64": Architecture(448, 623_258_305, 529.11, 23.55),
    "ViT-B-32": Architecture(224, 151_277_313, 8.82, 5.96),
    "ViT-B-32-256": Architecture(256, 151_288_833, 11.5, 5.96),
    "ViT-B-16": Architecture(224, 149_620_737, 35.13, 5.96),
    "ViT-B-16-plus-240": Architecture(240, 208_377_345, 54.76, 9.27),
    "ViT-L-14": Architecture(224, 427_616_513, 162.03, 13.3),
    "ViT-L-14-336": Architecture(336, 427_944_193, 381.92, 13.3),
    "ViT-H-14": Architecture(224, 986_109_441, 334.59, 47.09),
    "ViT-H-14-378": Architecture(378, 986_714_881, 1006.96, 47.09),
    "ViT-g-14": Architecture(224, 1_366_678_273, 534.06, 47.09),
    "ViT-bigG-14": Architecture(224, 2_539_567_105, 967.5, 97.86),
    "convnext_base": Architecture(224, 151_518_849, 30.71, 5.96),
    "convnext_base_w": Architecture(256, 179_385_345, 40.11, 9.27),
    "convnext_base_w_320": Architecture(320, 179_385_345, 62.67, 9.27),
    "convnext_large_d": Architecture(256, 351_772_609, 89.76, 17.73),
    "convnext_large_d_320": Architecture(320, 351_772_609, 140.25, 17.73),
    "convnext_xxlarge": Architecture(256, 1_200_576_385, 395.94, 47.09),
    "ViT-B-16-SigLIP": Architecture(224, 203_155_970, 35.42, 11.02),
    "ViT-B-16-SigLIP-256": Architecture(256, 203_202_050, 46.82, 11.02),
    "ViT-B-16-SigLIP-i18n-256": Architecture(256, 370_626_050, 46.82, 11.02),
    "ViT-B-16-SigLIP-384": Architecture(384, 203_447_810, 112.13, 11.02),
    "ViT-B-16-SigLIP-512": Architecture(512, 203_791_874, 216.24, 11.02),
    "ViT-L-16-SigLIP-256": Architecture(256, 652_150_786, 162.56, 39.06),
    "ViT-L-16-SigLIP-384": Architecture(384, 652_478_466, 383.85, 39.06),
    "ViT-SO400M-14-SigLIP": Architecture(224, 877_360_306, 220.35, 13.19),
    "ViT-SO400M-16-SigLIP-i18n-256": Architecture(256, 1_127_430_706, 220.46, 53.13),
    "ViT-SO400M-14-SigLIP-384": Architecture(384, 877_960_498, 670.35, 53.13),
    "ViT-B-32-SigLIP2-256": Architecture(256, 376_856_066, 11.49, 11.02),
    "ViT-B-16-SigLIP2": Architecture(224, 375_187_970, 35.42, 11.02),
    "ViT-B-16-SigLIP2-256": Architecture(256, 375_234_050, 46.82, 11.02),
    "ViT-B-16-SigLIP2-384": Architecture(384, 375_479_810, 112.13, 11.02),
    "ViT-B-16-SigLIP2-512": Architecture(512, 375_823_874, 216.24, 11.02),
    "ViT-L-16-SigLIP2-256": Architecture(256, 881_526_786, 162.56, 39.06),
    "ViT-L-16-SigLIP2-384": Architecture(384, 881_854_466, 383.85, 39.06),
    "ViT-L-16-SigLIP2-512": Architecture(512, 882_313_218, 727.49, 39.06),
    "ViT-SO400M-14-SigLIP2": Architecture(224, 1_135_463_602, 220.35, 53.13),
    "ViT-SO400M-14-SigLIP2-378": Architecture(378, 1_136_008_498, 670.35, 53.13),
    "ViT-SO400M-16-SigLIP2-256": Architecture(256, 1_135_670_962, 220.46, 53.13),
    "ViT-SO400M-16-SigLIP2-384": Architecture(384, 1_136_039_602, 518.94, 53.13),
    "ViT-SO400M-16-SigLIP2-512": Architecture(512, 1_136_555_698, 979.61, 53.13),
    "ViT-gopt-16-SigLIP2-256": Architecture(256, 1_871_393_906, 599.0, 53.13),
    "ViT-gopt-16-SigLIP2-384": Architecture(384, 1_871_885_426, 1392.98, 53.13),
    "ViT-L-14-CLIPA": Architecture(224, 414_210_561, 162.03, 5.47),
    "ViT-L-14-CLIPA-336": Architecture(336, 414_538_241, 381.92, 5.47),
    "ViT-H-14-CLIPA": Architecture(224, 968_235_009, 334.59, 19.43),
    "ViT-H-14-CLIPA-336": Architecture(336, 968_644_609, 781.45, 19.43),
    "ViT-bigG-14-CLIPA": Architecture(224, 2_517_223_937, 967.5, 40.44),
    "ViT-bigG-14-CLIPA-336": Architecture(336, 2_517_756_417, 2231.15, 40.44),
    "MobileCLIP-S1": Architecture(256, 84_969_729, 9.34, 5.96),
    "MobileCLIP-S2": Architecture(256, 99_243_329, 15.69, 5.96),
    "MobileCLIP-B": Architecture(224, 149_777_153, 35.42, 5.96),
    "MobileCLIP2-B": Architecture(224, 149_777_153, 35.42, 5.96),
    "MobileCLIP2-S0": Architecture(256, 74_835_073, 4.79, 5.96),
    "MobileCLIP2-S2": Architecture(256, 99_243_329, 15.69, 5.96),
    "MobileCLIP2-S3": Architecture(256, 248_885_953, 29.64, 13.3),
    "MobileCLIP2-S4": Architecture(256, 445_435_137, 55.54, 13.3),
    "MobileCLIP2-L-14": Architecture(224, 427_617_281, 162.03, 13.3),
    "PE-Core-T-16-384": Architecture(384, 69_546_113, 9.45, 2.44),
    "PE-Core-S-16-384": Architecture(384, 87_188_225, 31.32, 2.44),
    "PE-Core-B-16": Architecture(224, 447_660_545, 35.6, 19.43),
    "PE-Core-L-14-336": Architecture(336, 671_138_817, 384.36, 19.43),
    "PE-Core-bigG-14-448": Architecture(448, 2_419_267_841, 4118.63, 68.59),
    "ViT-H-14-worldwide": Architecture(224, 1_858_783_745, 334.59, 47.09),
    "ViT-H-14-worldwide-378": Architecture(378, 1_859_389_185, 1006.96, 47.09),
    "ViT-bigG-14-worldwide": Architecture(224, 3_630_409_985, 967.5, 97.86),
    "ViT-bigG-14-worldwide-378": Architecture(378, 3_631_197_057, 2858.45, 97.86),
    # Of open_clip's file: their networks need tokenizers of the hub, so they are not counted here.
    "roberta-ViT-B-32": Architecture(224, 212_720_000, 8.82, 97.05),
    "xlm-roberta-base-ViT-B-32": Architecture(224, 366_120_000, 8.82, 97.05),
    "xlm-roberta-large-ViT-H-14": Architecture(224, 1_193_010_000, 334.59, 336.42),
    # Of the configurations in TinyCLIP's repository. Half of the operations is what its README states.
    "TinyCLIP-ViT-8M-16-Text-3M": Architecture(224, 23_446_017, 3.57, 0.38),
    "TinyCLIP-ViT-39M-16-Text-19M": Architecture(224, 83_101_185, 15.98, 2.98),
    "TinyCLIP-ViT-40M-32-Text-19M": Architecture(224, 84_205_569, 3.99, 2.98),
    "TinyCLIP-ViT-61M-32-Text-29M": Architecture(224, 115_382_145, 6.17, 4.47),
}


def hub_models(family: Family, rows: tuple[tuple[str, str, float | None, float | None], ...]) -> list[CatalogueModel]:
    """Models on the hub, from rows of (name, repository, ImageNet accuracy, mean of the 38 sets)."""
    return [
        CatalogueModel(
            name=name,
            family=family,
            architecture=ARCHITECTURES[name.partition("/")[0]],
            repository=repository,
            imagenet=imagenet,
            average_38=average_38,
        )
        for name, repository, imagenet, average_38 in rows
    ]
