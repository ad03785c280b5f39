"""The size of the answer to a structure's first click: the most probable region, a part of it, or a larger region."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from slicer.i18n import tr as _

from CoralBayLib.fewshot.prompts import Prompts
from CoralBaySlicerCore.scene import boxes, masks
from CoralBaySlicerCore.scene.clicks import order
from CoralBaySlicerCore.scene.structures import Structure


def following(extent: int) -> int:
    """The extent after another one: structure, part, larger region, and again."""
    return {0: -1, -1: 1}.get(extent, 0)


def describe(chosen: int, shown: int) -> str:
    """What the preview shows, and what the next press of Tab shows.

    Args:
        chosen: the extent that the user chose.
        shown: that of the answer; 0 if there is no region of the chosen extent.
    """
    if chosen < 0:
        if shown == chosen:
            return _("Showing a smaller region. Press Tab for a larger one.")
        return _("There is no smaller region. Press Tab for a larger one.")
    if chosen > 0:
        if shown == chosen:
            return _("Showing a larger region. Press Tab for the most probable one.")
        return _("There is no larger region. Press Tab to go on.")
    return _("Showing the most probable region. Press Tab for a smaller one.")


def obstacle(
    structure: Structure | None, structures: Sequence[Structure], prompts: Prompts, *, given: bool, connected: bool
) -> str:
    """Why no other size of a structure's region can be shown, as a message for the user; "" if it can.

    Args:
        structure: the selected one, or None.
        structures: all of the scan.
        prompts: all of the scan, with the painted ones.
        given: whether a loaded probe is previewed.
        connected: whether only components with a prompt are kept.
    """
    if structure is None:
        return _("Add a structure and click on it. Then Tab shows a smaller or larger region.")
    name, clicks = structure.name, order.numbers_of(structure.node)
    if given:
        return _("A loaded probe decides the size of the region. Click where it is wrong.")
    if masks.start_of(structure) is not None:
        return _("{name} starts from a segment, which decides its size. Click where it is wrong.").format(name=name)
    if boxes.node_of(structure) is not None:
        return _("The box of {name} decides its size. Drag its faces, or remove it.").format(name=name)
    if np.count_nonzero(prompts.labels == structure.label) > len(clicks):
        return _("{name} has painted prompts, which decide its size.").format(name=name)
    if not clicks:
        return _("Click on {name} first. Then Tab shows a smaller or larger region.").format(name=name)
    others = [number for each in structures if each.label == 0 for number in order.numbers_of(each.node)]
    if len(clicks) > 1 or max(others, default=-1) > clicks[0]:
        return _("{name} keeps its size, because there are more points than its first one. Click where it is wrong.").format(
            name=name
        )
    if not connected:
        return _("To choose another size, check Keep prompted components only.")
    return ""
