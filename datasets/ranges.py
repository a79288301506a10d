"""Ranges that a door may state for its arguments, beside pydantic's own `PositiveInt` and friends."""

from typing import Annotated

from pydantic import Field

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]  # dropout, momentum: one itself would end learning
Width = Annotated[int, Field(ge=1, le=65_536)]  # channels, units: more is a typing error, not a net
