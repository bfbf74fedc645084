"""The text sides of figure 2: bags of words, their prediction, and the caption decoder, against plain references."""

import dataclasses
import math

import pytest
import torch
from predictive_models import BAG, BIASED, DECODER, WORDS, V, made
from torch.nn import functional as F
from training import MODEL

from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed import Model, load
from diptych.errors import ConfigError, ShapeError
from diptych.model.bag_of_words import BagOfWordsCLIP, bag_of_words
from diptych.model.build import build_model, is_predictive
from diptych.model.caption_decoder import build_trees
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig
from diptych.model.layouts import huggingface_config, to_custom_text, to_huggingface

OTHERS = pytest.mark.parametrize("config", [BAG, BIASED, WORDS, DECODER], ids=["bag", "biased", "words", "decoder"])


def pictures(n, seed=1):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def texts(*rows):
    """SOT, the ids, EOT and padding; and the lengths."""
    full = [[V - 2, *row, V - 1] for row in rows]
    tokens = torch.zeros(len(full), max(map(len, full)), dtype=torch.int32)
    for row, ids in zip(tokens, full, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return tokens, torch.tensor([len(ids) for ids in full])


# ---- configurations


@OTHERS
def test_a_configuration_survives_json_and_counts_its_parameters(config):
    assert CLIPConfig.from_dict(config.to_dict()) == config
    assert config.num_parameters() == sum(p.numel() for p in build_model(config).parameters())
    assert is_predictive(config) == hasattr(build_model(config), "losses")


def test_the_transformers_description_stays_as_it_was():
    assert "kind" not in MODEL.to_dict()["text"]
    assert not is_predictive(MODEL) and isinstance(build_model(MODEL), CLIP)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ({"kind": "poem"}, "bag_of_words or word_prediction or caption_decoder"),
        ({"kind": "bag_of_words", "layers": 3}, "unknown fields: layers"),
        ({"kind": "caption_decoder", "prefix_tokens": 0}, "text.prefix_tokens"),
        ({"kind": "word_prediction", "vocab_size": 10**9}, "text.vocab_size"),
    ],
)
def test_an_impossible_text_side_is_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        CLIPConfig.from_dict(MODEL.to_dict() | {"text": text})


def test_a_bias_of_the_logits_needs_logits():
    with pytest.raises(ConfigError, match="logit_bias belongs to a contrastive model"):
        dataclasses.replace(WORDS, logit_bias=-10.0)


@OTHERS
def test_other_layouts_refuse_them(config):
    tensors = build_model(config).state_dict()
    for convert in (lambda: to_huggingface(tensors, config), lambda: huggingface_config(config)):
        with pytest.raises(ConfigError, match="only Diptych's layout"):
            convert()
    with pytest.raises(ConfigError, match="only Diptych's layout"):
        to_custom_text(tensors)
    with pytest.raises(ConfigError, match="build_model"):
        CLIP(config)


@OTHERS
def test_a_folder_holds_them(config, tmp_path):
    tokenizer = Tokenizer.train(["a red circle", "two blue squares"] * 9, vocab_size=540, context_length=32)
    model = Model(build_model(config).eval(), tokenizer, Preprocessing(32))
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert type(again.clip) is type(model.clip) and again.clip.config == config
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(again.encode_pixels(pixels), model.encode_pixels(pixels))
    assert load(tmp_path / "model", precision="bf16").clip.visual.conv1.weight.dtype == torch.bfloat16
    if is_predictive(config):
        with pytest.raises(ConfigError, match="PredictiveZeroShot"):
            again.encode_texts(["a red circle"])
    else:
        assert torch.equal(again.encode_texts(["a red circle"]), model.encode_texts(["a red circle"]))


# ---- bags of words


def test_a_bag_holds_each_word_once_and_neither_start_nor_end():
    words, shares = bag_of_words(*texts([7, 3, 7], [5], []))
    bags = [{w: s for w, s in zip(*row, strict=True) if s} for row in zip(words.tolist(), shares.tolist(), strict=True)]
    assert bags == [{3: 0.5, 7: 0.5}, {5: 1.0}, {}]
    with pytest.raises(ShapeError):
        bag_of_words(torch.zeros(2, 4, dtype=torch.int32), torch.tensor([2]))


def test_word_prediction_against_a_loop():
    model, images = made(WORDS), pictures(3)
    tokens, lengths = texts([7, 3, 7], [5], [])
    log_p = model.token_embedding(model.encode_image(images)).log_softmax(dim=1)
    expected = torch.stack([-(log_p[0, 7] + log_p[0, 3]) / 2, -log_p[1, 5], torch.zeros(())])
    torch.testing.assert_close(model.losses(images, tokens, lengths), expected)
    torch.testing.assert_close(model.losses(images, tokens), expected)
    scores = model.text_scores(model.encode_image(images), tokens, lengths)
    torch.testing.assert_close(scores[:, 0], (log_p[:, 7] + log_p[:, 3]) / 2)
    torch.testing.assert_close(scores[:, 1], log_p[:, 5])


def test_the_bag_of_words_encoder_forgets_order_and_repetition():
    model = made(BAG)
    one, two, other = model.encode_text(*texts([7, 3, 9], [9, 7, 3, 3, 7], [7, 3, 4]))
    mean = model.token_embedding.weight[[3, 7, 9]].mean(dim=0) @ model.text_projection
    torch.testing.assert_close(one, mean)
    torch.testing.assert_close(two, mean)
    assert (one - other).norm() > 0.1 * one.norm()
    image_embeddings, text_embeddings, scale = model(pictures(2), *texts([7, 3], []))
    assert torch.isfinite(text_embeddings).all() and scale.item() == pytest.approx(1 / 0.07)
    torch.testing.assert_close(image_embeddings.norm(dim=1), torch.ones(2))


def test_the_temperature_of_a_bag_of_words_model_is_clipped():
    model = BagOfWordsCLIP(BAG)
    model.logit_scale.data.fill_(9.0)
    model.clip_logit_scale()
    assert model.logit_scale.item() == pytest.approx(math.log(100))


# ---- the caption decoder


@torch.no_grad()
def reference_log_probabilities(model, image, ids):
    """Log-probabilities of ids[1:], one sequence alone, with torch's own attention and an explicit mask."""
    x = torch.cat(
        [
            model.prefix(model.encode_image(image[None]))[0].view(model.prefix_tokens, -1),
            model.token_embedding(torch.tensor(ids[:-1])) + model.positional_embedding[: len(ids) - 1],
        ]
    )[None]
    for block in model.transformer.resblocks:
        y, attention = block.ln_1(x), block.attn
        q, k, v = F.linear(y, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in (q, k, v))
        mask = torch.full((x.shape[1], x.shape[1]), -math.inf).triu(1)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + mask).softmax(dim=-1)
        x = x + attention.out_proj((weights @ v).transpose(1, 2).flatten(2))
        hidden = block.mlp.c_fc(block.ln_2(x))
        x = x + block.mlp.c_proj(hidden * torch.sigmoid(1.702 * hidden))
    logits = model.ln_final(x[0, model.prefix_tokens :]) @ model.token_embedding.weight.T
    return logits.log_softmax(dim=-1)[torch.arange(len(ids) - 1), ids[1:]]


def spread(model):
    """Make the model's answers differ, as after training."""
    with torch.no_grad():
        for parameter in (model.token_embedding.weight, model.positional_embedding):
            parameter.mul_(20)
    return model


def test_the_decoders_loss_against_one_sequence_at_a_time():
    model, images = spread(made(DECODER)), pictures(70)
    rows = [[(3 * n + k) % 500 for k in range(n % 9)] for n in range(70)]  # enough to be packed in groups of length
    tokens, lengths = texts(*rows)
    losses = model.losses(images, tokens, lengths)
    expected = [
        -reference_log_probabilities(model, image, [V - 2, *row, V - 1]).mean()
        for image, row in zip(images, rows, strict=True)
    ]
    torch.testing.assert_close(losses, torch.stack(expected), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.losses(images, tokens), losses)
    losses.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_scores_of_texts_over_trees_against_one_sequence_at_a_time():
    model, images = spread(made(DECODER)), pictures(3)
    rows = [[4, 5, 6], [4, 5, 7, 8], [4, 5], [9], [4, 5, 6, 6], [4, 5, 6], []]
    embeddings = model.encode_image(images)
    expected = torch.tensor(
        [[reference_log_probabilities(model, one, [V - 2, *row, V - 1]).sum() for row in rows] for one in images]
    )
    torch.testing.assert_close(model.text_scores(embeddings, *texts(*rows)), expected, atol=1e-4, rtol=1e-4)


def test_long_lists_of_texts_become_several_trees():
    model = spread(made(DECODER))
    rows = [[a, b, 3 + (a * b) % 5] for a in range(25) for b in range(16)]
    embeddings = model.encode_image(pictures(2))
    ids = [tuple([V - 2, *row, V - 1]) for row in rows]
    assert len(build_trees(ids, 512)) > 1
    scores = model.text_scores(embeddings, *texts(*rows))
    for column in (0, 123, 399):
        alone = model.text_scores(embeddings, *texts(rows[column]))[:, 0]
        torch.testing.assert_close(scores[:, column], alone, atol=1e-4, rtol=1e-4)


def test_a_tree_reads_what_texts_share_once():
    ((columns, tree),) = build_trees([(0, 1, 2, 9), (0, 1, 3, 9), (0, 1, 9)], 512)
    assert columns == [0, 1, 2]
    assert tree.tokens == [0, 1, 2, 3] and tree.parents == [-1, 0, 1, 1] and tree.depths == [0, 1, 2, 2]
    assert tree.edges == [(0, 1), (1, 2), (2, 9), (1, 3), (3, 9), (1, 9)]
    assert tree.ancestors().int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]


def test_captions_longer_than_the_context_are_refused():
    model = made(DECODER)
    with pytest.raises(ShapeError, match="exceed the context of 32"):
        model.losses(pictures(1), *texts(list(range(40))))


@pytest.mark.parametrize("config", [WORDS, DECODER], ids=["words", "decoder"])
def test_activations_computed_again_give_the_same_gradients(config):
    model, images, (tokens, lengths) = made(config).train(), pictures(5), texts([1], [2, 3], [4], [5, 6, 7], [])
    found = []
    for on in (False, True):
        model.checkpoint_activations(on)
        model.zero_grad()
        model.losses(images, tokens, lengths).mean().backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


# ---- learning: each contestant, in a loop of its own, comes to know four colours


@pytest.mark.parametrize("config", [WORDS, DECODER], ids=["words", "decoder"])
def test_predictive_models_learn_to_name_what_they_see(config):
    torch.manual_seed(0)
    model = build_model(config).train()
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])
    tokens, lengths = texts([11, 21], [11, 22, 31], [11, 23], [11, 24, 32])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        labels = torch.randint(0, 4, (16,))
        images = colours[labels][:, :, None, None] + 0.3 * torch.randn(16, 3, 32, 32)
        loss = model.losses(images, tokens[labels], lengths[labels]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images = colours[:, :, None, None] + 0.3 * torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        scores = model.eval().text_scores(model.encode_image(images), tokens, lengths)
    assert scores.argmax(dim=1).tolist() == [0, 1, 2, 3]
