"""Class names -> prompts -> tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from datasets.formats.tokens import table
from datasets.refusal import Refusal

PLACE = "{}"  # where in a template the class name stands
SETS = ("simple", "imagenet")  # templates that open_clip knows


def templates(said: Sequence[str]) -> list[str]:
    """Templates with `{}` in the place of the class; `simple` stands for open_clip's 7, `imagenet` for its 80 (arXiv 2103.00020).

    Raises Refusal for none, and for one that names no class.
    """
    if not said:
        raise Refusal("there is no template", path="templates", value="[]", remedy="leave it out")
    found: list[str] = []
    for number, each in enumerate(said):
        if each in SETS:
            found += _known(each)
        elif PLACE not in each:
            raise Refusal(
                f"the template '{each}' has no {PLACE} where the class stands",
                path=f"templates.{number}",
                value=each,
                remedy=f"write 'a photo of a {PLACE}.', or one of {', '.join(SETS)}",
            )
        else:
            found.append(each)
    return found


def _known(name: str) -> list[str]:
    import open_clip

    known = {
        "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES,
        "imagenet": open_clip.OPENAI_IMAGENET_TEMPLATES,
    }
    return [template(PLACE) for template in known[name]]


def words(classes: Sequence[str], names: Sequence[str]) -> list[str]:
    """What the classes are called in texts: `names` in their order, else their own names.

    Raises Refusal where there are not as many, or two classes are called the same. Where the classes are not known yet,
    what is said stands for them.
    """
    if names and classes and len(names) != len(classes):
        raise Refusal(
            f"there are {len(names)} names for {len(classes)} classes",
            path="names",
            value=list(names),
            remedy=f"name all: {', '.join(classes[:8])}{', ...' if len(classes) > 8 else ''}",
        )
    if classes:
        _check_apart(names or classes, classes)
    return list(names or classes or ("one", "another"))


def _check_apart(called: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse two classes that the tokenizer reads as the same words."""
    first: dict[str, int] = {}
    for number, name in enumerate(called):
        before = first.setdefault(" ".join(name.replace("_", " ").lower().split()), number)
        if before != number:
            raise Refusal(
                f"classes '{classes[before]}' and '{classes[number]}' are both called '{name}': no text tells them apart",
                path="names",
                value=name,
                remedy="give each a name of its own in `names`",
            )


def filled(said: Sequence[str], names: Sequence[str]) -> list[str]:
    """Every template with every name, template by template: T x C texts."""
    return [template.replace(PLACE, name) for template in said for name in names]


def tokens(texts: Sequence[str], context_length: int) -> Tensor:
    """(N, context_length) int64 on the CPU. Raises Refusal for a text that is too long."""
    remedy = "shorten it; a class may have another name in `names`"
    # Of numpy, so that it has values on the meta device too.
    return torch.from_numpy(table(texts, context_length, remedy=remedy))
