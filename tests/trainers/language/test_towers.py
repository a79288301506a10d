"""The text tower taken apart gives what open_clip gives; prompts are what was said, and mistakes are named."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
from torch import nn

from datasets.formats import tokens as encoding
from datasets.refusal import Refusal
from trainers import rooms
from trainers.language import texts, towers

NAMES = ["zero", "one", "horned puffin", "black footed albatross"]


def tiny(**said: Any) -> Any:
    torch.manual_seed(0)
    network: nn.Module = rooms.door("models", "clip").build({"size": 8}, said)
    return network.eval()


def split() -> Any:
    """open_clip's other class, whose text tower is a module of its own; small."""
    from trainers.models import _clip

    torch.manual_seed(0)
    built = open_clip.model.CustomTextCLIP(**_clip._tiny(8, {}))
    return _clip._named(built, "tiny", {"embed_dim": 64}).eval()


@pytest.mark.parametrize("model", [tiny(), split()], ids=["CLIP", "CustomTextCLIP"])
def test_vectors_of_words_are_read_as_the_words(model: Any) -> None:
    said = model.tokens([f"a photo of a {name}." for name in NAMES])
    expected = model.encode_text(said, normalize=True)
    short = towers.trimmed(model, said)
    assert short.shape[1] < said.shape[1] == model.context_length
    for tokens in (said, short):
        vectors = towers.of(model).token_embedding(tokens)
        torch.testing.assert_close(
            towers.encode(model, vectors, tokens.argmax(1)), expected, rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(towers.read(model, tokens), expected, rtol=1e-4, atol=1e-5)


def test_prompts_together_are_open_clips_classifier() -> None:
    model, said = tiny(), ["a photo of a {}.", "the {} in a drawing"]
    own = towers.class_features(model, model.tokens(texts.filled(said, NAMES)), len(NAMES))
    theirs = open_clip.build_zero_shot_classifier(
        model, open_clip.SimpleTokenizer(context_length=32), NAMES, said
    )
    torch.testing.assert_close(own, theirs.T, rtol=1e-4, atol=1e-5)


def test_called_with_both_it_is_open_clips_forward() -> None:
    model = tiny()
    image, said = torch.randn(3, 3, 8, 8), model.tokens(NAMES[:3])
    expected = open_clip.model.CLIP.forward(model, image, said)
    for mine, theirs in zip(model(image, said), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(image), expected[0])
    assert {*model.state_dict()} == {
        *open_clip.create_model("ViT-B-32", device="meta").state_dict()
    } - {
        n
        for n in open_clip.create_model("ViT-B-32", device="meta").state_dict()
        if "resblocks." in n and int(n.split("resblocks.")[1].split(".")[0]) > 1
    }


def test_tokens_are_open_clips() -> None:
    said = ["a photo of a horned puffin.", "größer, 7!"]
    assert torch.equal(texts.tokens(said, 32), open_clip.tokenize(said, 32))


def test_the_words_nearest_to_words_are_themselves() -> None:
    model = tiny()
    known = encoding.encoded("a photo of")
    vectors = model.token_embedding.weight[known]
    found = towers.nearest_words(model, vectors, 2)
    assert [row[0][0] for row in found] == ["a", "photo", "of"]
    assert all(row[0][1] < 1e-2 < row[1][1] for row in found)
    assert towers.typical_distance(model, 50) == pytest.approx(
        sum(row[1][1] for row in found) / 3, rel=0.2
    )


def test_templates() -> None:
    assert len(texts.templates(["imagenet"])) == 80 and len(texts.templates(["simple"])) == 7
    assert texts.templates(["simple", "a {}"])[-1] == "a {}"
    assert texts.filled(["a {}", "the {}"], ["x", "y"]) == ["a x", "a y", "the x", "the y"]
    with pytest.raises(Refusal) as caught:
        texts.templates(["a {}", "a photo"])
    assert (caught.value.path, caught.value.value) == ("templates.1", "a photo")
    with pytest.raises(Refusal, match="no template"):
        texts.templates([])


def test_names_stand_for_all_classes_or_none() -> None:
    assert texts.words(["0", "1"], ["zero", "one"]) == ["zero", "one"]
    assert texts.words(["0", "1"], []) == ["0", "1"]
    with pytest.raises(Refusal) as caught:
        texts.words(["0", "1"], ["zero"])
    assert caught.value.path == "names" and "0, 1" in caught.value.remedy
    with pytest.raises(Refusal, match="classes '0' and '2' are both called 'a_bird'") as caught:
        texts.words(["0", "1", "2"], ["a bird", "b", "a_bird"])
    assert caught.value.path == "names"


def test_a_text_that_is_too_long_is_named() -> None:
    long = "word " * 40
    with pytest.raises(Refusal, match="42 tokens long, of which 32 are read") as caught:
        tiny().tokens(["fine", long])
    assert caught.value.value == long


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"architecture": "ViT-B-23"}, "model.architecture"),
        ({"architecture": "ViT-B-32", "width": 64}, "model.width"),
        ({"width": 60}, "model.width"),
        ({"patch": 9}, "model.patch"),
        ({"architecture": "roberta-ViT-B-32"}, "model.architecture"),
    ],
)
def test_models_that_cannot_be_built(said: dict[str, Any], path: str) -> None:
    with pytest.raises(Refusal) as caught:
        tiny(**said)
    assert caught.value.path == path and "\n" not in str(caught.value)


def test_what_is_no_pair_of_towers_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        towers.check(nn.Linear(2, 2))
    assert caught.value.path == "model" and "clip" in caught.value.remedy
    bidirectional = split()
    bidirectional.text.attn_mask = None
    with pytest.raises(Refusal, match="cannot be given as vectors"):
        towers.check_open(bidirectional)


@pytest.mark.parametrize(
    ("token", "expected"),
    [("cat</w>", "cat"), ("ãħ¤", "<U+3164>"), ("Ã©</w>", "é"), ("ãħ", "<e3 85>"),
     ("ðŁĺĤ</w>", "😂"), ("<start_of_text>", "<start_of_text>")],
)  # fmt: skip
def test_tokens_are_told_as_people_read_them(token: str, expected: str) -> None:
    from open_clip import tokenizer

    table = tokenizer._tokenizer
    assert token in table.encoder
    assert encoding.readable(token, table.byte_decoder) == expected
