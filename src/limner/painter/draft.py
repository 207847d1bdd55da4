"""The draft: a scene drawn exactly, as vector graphics, at any size.

Every part of a scene is an SVG fragment (a place, a person, a drawing of the bank) or a cut-out reference, put on one
Skia canvas back to front, with a contact shadow under each thing that stands and the light of the hour on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import skia

from limner.engine.core import UInt8
from limner.painter import people, places
from limner.painter.bank import Bank, recolour
from limner.painter.scene import Item, Person, Reference, Scene, Thing

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Layer:
    """One part of the draft on its own canvas: premultiplied colours and alpha, (height, width, 4) uint8."""

    role: Literal["backdrop", "shadow", "item", "front"]
    pixels: UInt8
    index: int = -1  # of the item in the scene, for shadow and item


def draw(scene: Scene, width: int, height: int, bank: Bank, references: Sequence[UInt8] = (), aspect: float | None = None) -> UInt8:
    """The whole draft, (height, width, 3) uint8.

    Args:
        scene: what to draw.
        width, height: pixels.
        bank: the drawings that things are made of.
        references: cut-outs, each (H, W, 4) uint8 with straight alpha, for the scene's `Reference` items.
        aspect: width over height of the finished picture, where these pixels are not square.

    Raises:
        KeyError: the scene names a concept that the bank lacks, or a reference that did not come.
    """
    canvas_pixels = np.zeros((height, width, 4), np.uint8)
    canvas = _canvas(canvas_pixels, aspect)
    for paint in _painters(scene, aspect or width / height, bank, references):
        paint.onto(canvas)
    return np.ascontiguousarray(canvas_pixels[..., :3])


def layers(scene: Scene, width: int, height: int, bank: Bank, references: Sequence[UInt8] = (), aspect: float | None = None) -> list[Layer]:
    """The draft's parts, back to front; laid over each other they are `draw`'s picture to within rounding."""
    result = []
    for paint in _painters(scene, aspect or width / height, bank, references):
        pixels = np.zeros((height, width, 4), np.uint8)
        paint.onto(_canvas(pixels, aspect))
        result.append(Layer(paint.role, pixels, paint.index))
    return result


def sprite(item: Item, side: int, bank: Bank, references: Sequence[UInt8] = ()) -> UInt8:
    """One item alone, centred and as large as fits: (side, side, 4) uint8, premultiplied."""
    pixels = np.zeros((side, side, 4), np.uint8)
    figure = _figure(item, bank, references)
    tall = min(1.0, figure.height / figure.width)
    placed = item.model_copy(update={"x": 0.5, "y": 0.5 + tall / 2, "height": tall})
    _Paint("item", 0, figure, placed, (1.0, 1.0, 1.0), 1.0).onto(_canvas(pixels, None))
    return pixels


def ratio(item: Item, bank: Bank, references: Sequence[UInt8] = ()) -> float:
    """Width over height of an item's drawing."""
    figure = _figure(item, bank, references)
    return figure.width / figure.height


@dataclass(frozen=True, slots=True)
class _Figure:
    """Something drawable in a box of its own units, its lowest point at the bottom of the box."""

    width: float
    height: float
    svg: str | None = None
    image: UInt8 | None = None
    origin: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Paint:
    """One act of painting, on a canvas whose unit is the picture's height."""

    role: Literal["backdrop", "shadow", "item", "front"]
    index: int
    figure: _Figure
    item: Item | None
    light: Rgb
    aspect: float

    def onto(self, canvas: skia.Canvas) -> None:
        canvas.save()
        if self.item is None:
            canvas.scale(1 / 1000, 1 / 1000)
            _render(canvas, self.figure)
        elif self.role == "shadow":
            self._shadow(canvas, self.item)
        else:
            self._stand(canvas, self.item)
        canvas.restore()

    def _stand(self, canvas: skia.Canvas, item: Item) -> None:
        scale = item.height / self.figure.height
        canvas.translate(item.x * self.aspect, item.y)
        if item.flip:
            canvas.scale(-1, 1)
        if isinstance(item, Thing) and item.angle:
            canvas.rotate(item.angle, 0, -item.height / 2)
        canvas.scale(scale, scale)
        canvas.translate(-self.figure.width / 2, -self.figure.height)
        lit = self.light != (1.0, 1.0, 1.0)
        if lit:
            canvas.saveLayer(None, skia.Paint(ColorFilter=_tint(self.light)))
        _render(canvas, self.figure)
        if lit:
            canvas.restore()

    def _shadow(self, canvas: skia.Canvas, item: Item) -> None:
        width = item.height * self.figure.width / self.figure.height
        half, thick = width * 0.46, min(width * 0.1, item.height * 0.09)
        canvas.translate(item.x * self.aspect, item.y - thick * 0.35)
        canvas.scale(half, thick)
        colours = [skia.ColorSetARGB(alpha, 20, 24, 48) for alpha in (110, 70, 0)]
        shader = skia.GradientShader.MakeRadial(skia.Point(0, 0), 1.0, colours, [0.0, 0.55, 1.0])
        canvas.drawCircle(0, 0, 1, skia.Paint(Shader=shader, AntiAlias=True))


def _painters(scene: Scene, aspect: float, bank: Bank, references: Sequence[UInt8]) -> list[_Paint]:
    backdrop = places.draw(scene.place, scene.time, scene.weather, aspect, scene.variant, scene.backdrop)
    full = (1000 * aspect, 1000.0)
    paints = [_Paint("backdrop", -1, _Figure(*full, svg=backdrop.svg), None, (1, 1, 1), aspect)]
    for index, item in enumerate(scene.items):
        figure = _figure(item, bank, references)
        if backdrop.surface == "ground" and item.y >= backdrop.horizon:
            paints.append(_Paint("shadow", index, figure, item, (1, 1, 1), aspect))
        paints.append(_Paint("item", index, figure, item, backdrop.light, aspect))
    if backdrop.front:
        paints.append(_Paint("front", -1, _Figure(*full, svg=backdrop.front), None, (1, 1, 1), aspect))
    return paints


def _figure(item: Item, bank: Bank, references: Sequence[UInt8]) -> _Figure:
    if isinstance(item, Thing):
        drawing = bank[item.concept]
        x, y, w, h = drawing.box
        svg = drawing.svg if item.colour is None else recolour(drawing, item.colour)
        return _Figure(w, h, svg=svg, origin=(x, y))
    if isinstance(item, Person):
        person = people.draw(item)
        return _Figure(person.width, 1000.0, svg=person.svg)
    assert isinstance(item, Reference)
    if item.index >= len(references):
        raise KeyError(f"The scene shows reference {item.index}, but {len(references)} came.")
    image = references[item.index]
    return _Figure(float(image.shape[1]), float(image.shape[0]), image=image)


def _render(canvas: skia.Canvas, figure: _Figure) -> None:
    """Draw a figure with its box's top left corner at the canvas's origin, one unit a unit."""
    if figure.image is not None:
        picture = skia.Image.fromarray(figure.image, colorType=skia.kRGBA_8888_ColorType)
        sampling = skia.SamplingOptions(skia.FilterMode.kLinear, skia.MipmapMode.kLinear)
        canvas.drawImageRect(picture, skia.Rect.MakeWH(figure.width, figure.height), sampling)
        return
    x, y = figure.origin
    # The root clips, so it is given room on every side: outlines and hair may pass the box by a little.
    room = 0.5 * max(figure.width, figure.height)
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{x - room:.2f} {y - room:.2f} {figure.width + 2 * room:.2f} {figure.height + 2 * room:.2f}">{figure.svg}</svg>'
    )
    dom = skia.SVGDOM.MakeFromStream(skia.MemoryStream.MakeCopy(root.encode()))
    dom.setContainerSize(skia.Size(figure.width + 2 * room, figure.height + 2 * room))
    canvas.translate(-room, -room)
    dom.render(canvas)


def _canvas(pixels: UInt8, aspect: float | None) -> skia.Canvas:
    """A canvas over (height, width, 4) pixels whose unit is the picture's height, also where pixels are not square."""
    height, width = pixels.shape[:2]
    info = skia.ImageInfo.Make(width, height, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
    canvas = skia.Canvas.MakeRasterDirect(info, pixels, width * 4)
    canvas.scale(width / (aspect or width / height), height)
    return canvas


def _tint(light: Rgb) -> skia.ColorFilter:
    r, g, b = light
    return skia.ColorFilters.Matrix([r, 0, 0, 0, 0, 0, g, 0, 0, 0, 0, 0, b, 0, 0, 0, 0, 0, 1, 0])
