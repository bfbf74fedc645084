"""hf: of ALIGN, AltCLIP and Chinese-CLIP: the numbers are those of the library's whole model; strips of pixels."""

import peers  # noqa: F401  (before transformers)
import pytest
import torch
from pictures import noise
from PIL import Image

from diptych.embed import load
from diptych.embed.library_encoder import crop_long_image

transformers = pytest.importorskip("transformers")
PICTURES = [noise(50, 40, seed) for seed in range(3)]
TEXTS = ["a cat", "a dog on a red car"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "a", "cat", "dog", "on", "red", "car", "blue", *(f"w{n}" for n in range(20))]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = SIZES | {"vocab_size": len(WORDS), "pad_token_id": 0}
VISION = SIZES | {"image_size": 32, "patch_size": 8}


def align():
    vision = {"image_size": 32, "in_channels": [32, 16], "out_channels": [16, 24], "kernel_sizes": [3, 3]}
    vision |= {"strides": [1, 2], "num_block_repeats": [1, 1], "expand_ratios": [1, 2], "depthwise_padding": []}
    vision |= {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 24}
    config = transformers.AlignConfig(
        text_config=TEXT | {"max_position_embeddings": 80}, vision_config=vision, projection_dim=24
    )
    return (
        transformers.AlignModel(config),
        transformers.EfficientNetImageProcessor(size={"height": 32, "width": 32}),
        64,
    )


def altclip():
    text = TEXT | {"max_position_embeddings": 40, "project_dim": 32}
    config = transformers.AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=32)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    return transformers.AltCLIPModel(config), processor, 39  # the padding's position and those before it are no text's


def chinese_clip():
    text = TEXT | {"max_position_embeddings": 40}
    config = transformers.ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=32)
    processor = transformers.ChineseCLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    return transformers.ChineseCLIPModel(config), processor, 40


@pytest.mark.parametrize("make", [align, altclip, chinese_clip], ids=lambda make: make.__name__)
def test_a_model_gives_its_own_embeddings_and_logits(make, tmp_path):
    torch.manual_seed(0)
    network, processor, longest = make()
    for module in network.modules():  # as they begin, convolutions are so small that all pictures look alike
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
    network.eval().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    tokenizer = transformers.BertTokenizerFast(vocab={word: place for place, word in enumerate(WORDS)})
    tokenizer.save_pretrained(tmp_path)
    encoder = load(f"hf:{tmp_path}", "cpu")
    pixels = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")(PICTURES, return_tensors="pt")
    long = " ".join(["cat", "dog"] * 100)
    for texts in (TEXTS, [long]):
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            theirs = network(**tokens, pixel_values=pixels["pixel_values"])
        images, ours = encoder.encode_images(PICTURES), encoder.encode_texts(texts)
        for mine, embeds in ((images, theirs.image_embeds), (ours, theirs.text_embeds)):
            expected = torch.nn.functional.normalize(embeds, dim=1)
            torch.testing.assert_close(mine, expected, atol=1e-5, rtol=0)
        logits = encoder.logit_scale * images @ ours.T
        torch.testing.assert_close(logits, theirs.logits_per_image, atol=1e-4, rtol=0)
    assert images.std(dim=0).max() > 1e-3  # the pictures do differ


def small_clip(folder):
    """A CLIP of transformers, whose preprocessing scales the short side and keeps the centre square."""
    config = transformers.CLIPConfig(
        text_config=TEXT | {"max_position_embeddings": 16}, vision_config=VISION, projection_dim=16
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return load(f"hf:{folder}", "cpu")


@pytest.mark.parametrize("size", [(700_000, 1), (1, 700_000), (70_001, 3)])
def test_a_strip_costs_no_more_than_its_middle(tmp_path, size):
    """Scaled whole, 700,000 x 1 pixels were 22,400,000 x 32 of them."""
    encoder = small_clip(tmp_path)
    strip = Image.new("RGB", size, (255, 0, 0))
    middle = (max(size) // 2, 0) if size[0] > size[1] else (0, max(size) // 2)
    strip.putpixel(middle, (0, 0, 255))
    cut = (max(size) - 200) // 2
    box = (cut, 0, size[0] - cut, size[1]) if size[0] > size[1] else (0, cut, size[0], size[1] - cut)
    ours, theirs = encoder.encode_images([strip, strip.crop(box)])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_a_panorama_is_given_whole():
    panorama = noise(40, 1200, 0)
    assert crop_long_image(panorama) is panorama and crop_long_image(noise(10, 321, 0)).size == (10, 321)
    assert crop_long_image(noise(2, 101, 0)).size == (2, 65) and crop_long_image(noise(101, 2, 0)).size == (65, 2)
