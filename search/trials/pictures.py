"""The pictures of a search in the order in which they are read: as panels for its page, as figures for a notebook."""

from __future__ import annotations

from matplotlib.figure import Figure

from search.canvas import Panel, grid
from search.trials import importance, panels
from search.trials.found import Found


def course(found: Found) -> Figure:
    """How it went: value by trial, the trials' curves, of several goals one against the other."""
    return grid(of_course(found), empty="no trial has come to a value yet")


def mattered(found: Found) -> Figure:
    """What mattered: both estimates of importance, and the plane of the two paths that lead."""
    few = f"fewer than {importance.FEWEST} trials ran to their end"
    return grid(of_what_mattered(found), empty=few)


def slices(found: Found) -> Figure:
    """For each searched path, its values and what came of them."""
    return grid(panels.slices(found), columns=3)


def of_course(found: Found) -> list[Panel]:
    drawn = (panels.history(found), panels.curves(found), panels.pareto(found))
    return [panel for panel in drawn if panel]


def of_what_mattered(found: Found) -> list[Panel]:
    """Nothing where too few trials ended."""
    shares = importance.of(found)
    drawn = (panels.importances(found, shares), panels.rank(found, [*shares.index]))
    return [panel for panel in drawn if panel]
