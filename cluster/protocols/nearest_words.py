"""The words nearest to the context that CoOp has learnt (arXiv 2109.01134, table 4)."""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from cluster.protocol import Outcome
from cluster.saved import Saved
from cluster.texts import learnt_context
from datasets.progress import Shown
from trainers.language import towers
from trainers.task import Scalar, Table


def build(saved: Saved, split: str, shown: Shown, *, count: PositiveInt = 3) -> Outcome:
    """`count` words of each vector, nearest first, by the Euclidean distance of their embeddings. The split is not read."""
    task = learnt_context(saved)
    vectors: Any = task.context.vectors.detach()
    own = vectors.flatten(0, -2)
    found = towers.nearest_words(task.model, own, count)
    per_class = vectors.ndim == 3
    rows: list[dict[str, Any]] = []
    for number, words in enumerate(found):
        place = {"class": task.names[number // vectors.shape[1]]} if per_class else {}
        for rank, (word, distance) in enumerate(words):
            rows.append(
                {
                    **place,
                    "vector": number % vectors.shape[-2] + 1,
                    "rank": rank + 1,
                    "word": word,
                    "distance": distance,
                }
            )
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    apart = towers.typical_distance(task.model)
    nearest = sum(words[0][1] for words in found) / len(found)
    said = ", ".join(words[0][0] for words in found[:16])
    return Outcome(
        [
            Scalar("nearest_distance", nearest),
            Scalar("words_apart", apart),
            Table("words", columns),
        ],
        [
            f"Nearest to its {len(found)} vectors: {said}{' ...' if len(found) > 16 else ''}.",
            f"They lie {nearest:.3f} from these words in the mean; words lie {apart:.3f} from the nearest other word. "
            + (
                "So they are words, or nearly."
                if nearest < 0.5 * apart
                else "So they are no words: what they are called is a hint at best."
            ),
        ],
    )
