"""The paper's nine models, published by OpenAI. The address of each file contains its SHA-256."""

from diptych.embed.catalogue.architectures import ARCHITECTURES
from diptych.embed.catalogue.catalogue_model import MIT, CatalogueModel, Family

OPENAI = Family(name="OpenAI", license=MIT, runs="native")
ARCHIVE = "https://openaipublic.azureedge.net/clip/models"


def _model(paper_name: str, file: str, sha256: str, imagenet: float, average_38: float, *copies: str) -> CatalogueModel:
    """A model by the paper's name; `copies` hold the same weights in the layouts of open_clip and transformers."""
    architecture = paper_name.replace("/", "-").replace("@336px", "-336")
    spellings = (paper_name, paper_name.replace("/", "-"), architecture, file.removesuffix(".pt"))
    names = dict.fromkeys((*spellings, *(f"openai/{spelling}" for spelling in spellings if "/" not in spelling)))
    return CatalogueModel(
        name=f"{architecture}/openai",
        family=OPENAI,
        architecture=ARCHITECTURES[architecture],
        url=f"{ARCHIVE}/{sha256}/{file}",
        sha256=sha256,
        activation="quick_gelu",
        files=(file,),
        aliases=tuple(names),
        copies=copies,
        imagenet=imagenet,
        average_38=average_38,
    )


MODELS = (
    _model(
        "RN50",
        "RN50.pt",
        "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
        0.5982,
        0.481,
        "timm/resnet50_clip.openai",
    ),
    _model(
        "RN101",
        "RN101.pt",
        "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
        0.6228,
        0.5033,
        "timm/resnet101_clip.openai",
    ),
    _model(
        "RN50x4",
        "RN50x4.pt",
        "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
        0.6627,
        0.5188,
        "timm/resnet50x4_clip.openai",
    ),
    _model(
        "RN50x16",
        "RN50x16.pt",
        "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
        0.7072,
        0.567,
        "timm/resnet50x16_clip.openai",
    ),
    _model(
        "RN50x64",
        "RN50x64.pt",
        "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
        0.7391,
        0.6061,
        "timm/resnet50x64_clip.openai",
    ),
    _model(
        "ViT-B/32",
        "ViT-B-32.pt",
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        0.6332,
        0.5245,
        "timm/vit_base_patch32_clip_224.openai",
        "openai/clip-vit-base-patch32",
    ),
    _model(
        "ViT-B/16",
        "ViT-B-16.pt",
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        0.6834,
        0.5626,
        "timm/vit_base_patch16_clip_224.openai",
        "openai/clip-vit-base-patch16",
    ),
    _model(
        "ViT-L/14",
        "ViT-L-14.pt",
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
        0.7554,
        0.6173,
        "timm/vit_large_patch14_clip_224.openai",
        "openai/clip-vit-large-patch14",
    ),
    _model(
        "ViT-L/14@336px",
        "ViT-L-14-336px.pt",
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        0.7656,
        0.6284,
        "timm/vit_large_patch14_clip_336.openai",
        "openai/clip-vit-large-patch14-336",
    ),
)
