"""Birds in CUB-200-2011's own form, drawn: a patch of the class's colour in a box, its parts within, on a gray ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"Red_Bird": (220, 40, 40), "Blue_Bird": (40, 60, 220), "Green_Bird": (40, 200, 60)}


def drawn(root: Path, *, each: int = 24, seed: int = 0) -> Path:
    """`each` pictures of three classes, two thirds of them to learn from; the folder CUB_200_2011."""
    rng = np.random.default_rng(seed)
    root = root / "CUB_200_2011"
    lines: dict[str, list[str]] = {
        name: []
        for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes", "parts")
    }
    names = [f"{number:03}.{name}" for number, name in enumerate(COLOURS, start=1)]
    number = 0
    for label, (folder, colour) in enumerate(zip(names, COLOURS.values(), strict=True), start=1):
        (root / "images" / folder).mkdir(parents=True)
        for place in range(each):
            number += 1
            wide, tall = (int(side) for side in rng.integers(80, 140, 2))
            pixels = rng.normal(110, 12, (tall, wide, 1)).clip(0, 255).repeat(3, 2)
            short = min(wide, tall)
            w, h = (int(side) for side in rng.integers(short // 4, short // 3, 2))
            # Within the middle, which every frame shows.
            left = int(
                rng.integers((wide - short) // 2 + short // 8, (wide + short) // 2 - w - short // 8)
            )
            top = int(
                rng.integers((tall - short) // 2 + short // 8, (tall + short) // 2 - h - short // 8)
            )
            pixels[top : top + h, left : left + w] = colour
            file = f"{folder}/{place}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / file)
            lines["images"].append(f"{number} {file}")
            lines["image_class_labels"].append(f"{number} {label}")
            lines["train_test_split"].append(f"{number} {int(place % 3 > 0)}")
            lines["bounding_boxes"].append(f"{number} {left}.0 {top}.0 {w}.0 {h}.0")
            for part in range(
                1, 16
            ):  # the beak in the middle of the patch, all others beyond its corners
                x, y = (
                    (left + w / 2, top + h / 2)
                    if part == 2
                    else (left - 9 + (part % 2) * (w + 18), top - 9)
                )
                lines["parts"].append(f"{number} {part} {x:.1f} {y:.1f} {int(part != 3)}")
    (root / "parts").mkdir()
    for name, own in lines.items():
        file = "parts/part_locs.txt" if name == "parts" else f"{name}.txt"
        (root / file).write_text("".join(f"{line}\n" for line in own))
    (root / "classes.txt").write_text("".join(f"{n} {name}\n" for n, name in enumerate(names, 1)))
    return root
