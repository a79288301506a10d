"""Ranges that a door may state for its arguments, beside pydantic's own `PositiveInt` and friends."""

from typing import Annotated

from pydantic import Field

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]  # dropout, momentum: one itself would end learning
Quantile = Annotated[float, Field(gt=0.0, le=0.5)]  # of the best, or of the worst
Width = Annotated[int, Field(ge=1, le=4_096)]  # channels, units: more is a typing error, not a net
FirstWidth = Annotated[
    int, Field(ge=1, le=512)
]  # of the narrowest layer: deeper ones are multiples of it
Rate = Annotated[
    float, Field(ge=0.0, le=1e6)
]  # lr, weight decay: float32 must hold what comes of them
Power = Annotated[float, Field(gt=0.0, le=1.0)]  # of a probability
Epsilon = Annotated[float, Field(gt=0.0, le=1.0)]
Divisor = Annotated[float, Field(ge=1.0, le=1e12)]
Factor = Annotated[int, Field(ge=2, le=100)]  # by which something is reduced again and again
Severity = Annotated[int, Field(ge=1, le=5)]  # of a corruption, as ImageNet-C counts them
Levels = Annotated[float, Field(gt=0.0, le=255.0)]  # of a pixel, of 255
