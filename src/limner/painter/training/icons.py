"""Where a concept's drawing is taken from: sets of icons, clip art, and the drawings of our own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from limner.painter.training.clipart import SIDE, icon_of
from limner.painter.training.lexicon import BuildFailed, Concept, code
from limner.painter.training.silhouettes import coloured

OWN_DRAWINGS = Path(__file__).with_name("drawings")


class Icon(NamedTuple):
    """A drawing as its set has it."""

    source: str  # key of the set
    name: str  # in the set
    svg: str  # the elements inside its root
    side: float  # of its view box, which is square with a corner at (0, 0)


class IconSet:
    """The icons of one package, by name and by code point."""

    def __init__(self, key: str, folder: Path) -> None:
        data = json.loads((folder / "icons.json").read_text())
        self._key = key
        self._side = data.get("width", 16)
        self._icons: dict[str, dict[str, Any]] = data["icons"]
        self._parents = {name: alias["parent"] for name, alias in data.get("aliases", {}).items()}
        points = folder / "chars.json"
        characters: dict[str, str] = json.loads(points.read_text()) if points.exists() else {}
        self.by_code = {code(point): name for point, name in characters.items()}
        self.codes = {name: point for point, name in sorted(self.by_code.items(), reverse=True)}

    def icon(self, name: str) -> Icon | None:
        """The icon of that name, None where there is none."""
        found = self._icons.get(name) or self._icons.get(self._parents.get(name, ""))
        if found is None:
            return None
        side = max(found.get("width", self._side), found.get("height", self._side))
        return Icon(self._key, name, found["body"], float(side))


def own_icon(name: str, folder: Path = OWN_DRAWINGS) -> Icon | None:
    """A drawing of Limner's own, NAME.svg, None where there is none.

    Raises:
        BuildFailed: its root is not as all of them are: a square view box with a corner at (0, 0).
    """
    try:
        text = (folder / f"{name}.svg").read_text()
    except OSError:
        return None
    match = re.fullmatch(r'<svg xmlns="[^"]+" viewBox="0 0 (\d+) \1">(.*)</svg>\s*', text, re.DOTALL)
    if match is None:
        raise BuildFailed(f"{name}.svg has no plain square root element.")
    return Icon("limner", name, re.sub(r">\s+<", "><", match[2].strip()), float(match[1]))


class Clipart:
    """The pictures of a folder, by their path in it without ".svg"."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def icon(self, name: str) -> Icon | None:
        """The picture of that name as an icon, None where there is none."""
        path = self._folder / f"{name}.svg"
        if not path.exists():
            return None
        return Icon("clipart", name, icon_of(path.read_text(errors="replace")), SIDE)


DISC = re.compile(r'(<g[^>]*>)<path fill="#[0-9a-f]+" d="M24 4[78][^"]*"/>')  # what a Kameleon icon lies on


def other_icon(concept: Concept, others: Mapping[str, IconSet | Clipart]) -> Icon | None:
    """The drawing of a concept that says which set and icon it is, None where there is none of that name.

    Raises:
        BuildFailed: it is not as the drawings of its set are.
    """
    key, _, name = concept.origin.partition(":")
    icon = others[key].icon(name) if key in others else None
    if icon is None:
        return None
    if key == "kameleon":
        svg, discs = DISC.subn(r"\1", icon.svg, count=1)
        if not discs:
            raise BuildFailed(f"{concept.origin} lies on no disc.")
        return icon._replace(svg=svg)
    if key == "game":
        return icon._replace(svg=coloured(icon.svg, icon.side, concept.tints))
    return icon
