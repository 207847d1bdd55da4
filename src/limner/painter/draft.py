"""The draft: a scene drawn exactly, as vector graphics, at any size.

Every part of a scene is an SVG fragment (a place, a person, a drawing of the bank) or a cut-out reference, put on one
Skia canvas back to front, with a contact shadow under each thing that stands and the light of the hour on it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import skia

from limner.engine.core import UInt8
from limner.painter import bodies, people, places
from limner.painter.bank import Bank, recolour
from limner.painter.scene import Item, Person, Scene, Thing

Rgb = tuple[float, float, float]
Role = Literal["backdrop", "shadow", "item", "front"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One part of the draft on its own canvas: premultiplied colours and alpha, (height, width, 4) uint8."""

    role: Role
    pixels: UInt8
    index: int = -1  # of the item in the scene, for shadow and item


@dataclass(frozen=True, slots=True)
class Draft:
    """A scene made ready to be drawn, at any size and as often as needed. Made by `compose`; a few tens of KB."""

    paints: tuple[_Paint, ...]
    aspect: float

    def draw(self, width: int, height: int) -> UInt8:
        """The whole draft, (height, width, 3) uint8. Pixels are not square where width / height is not the aspect."""
        # Ten bits a channel: Skia draws gradients on it in a third of the time that it takes with eight.
        pixels = np.zeros((height, width), np.uint32)
        canvas = _canvas(pixels, self.aspect, skia.kRGB_101010x_ColorType, skia.kOpaque_AlphaType)
        for paint in self.paints:
            paint.onto(canvas)
        return np.stack([(pixels >> shift).astype(np.uint8) for shift in (2, 12, 22)], axis=-1)

    def backdrop(self, width: int, height: int) -> UInt8:
        """The place alone, without what stands in it and before it, (height, width, 3) uint8."""
        return replace(self, paints=self.paints[:1]).draw(width, height)

    def on(self, ground: UInt8, *, front: bool) -> Draft:
        """What stands here on a picture, (H, W, 3) uint8, and what the place has before it only if `front`."""
        opaque = np.dstack((ground, np.full(ground.shape[:2], 255, np.uint8)))
        picture = _Figure(float(ground.shape[1]), float(ground.shape[0]), opaque)
        first, *rest = self.paints
        kept = (paint for paint in rest if front or paint.role != "front")
        return replace(self, paints=(replace(first, figure=picture), *kept))

    def layers(self, width: int, height: int) -> list[Layer]:
        """The draft's parts, back to front; laid over each other they are `draw`'s picture to within rounding."""
        result = []
        for paint in self.paints:
            pixels = np.zeros((height, width, 4), np.uint8)
            paint.onto(_canvas(pixels, self.aspect))
            result.append(Layer(paint.role, pixels, paint.index))
        return result


def compose(scene: Scene, aspect: float, bank: Bank, references: Sequence[UInt8] = ()) -> Draft:
    """Find or draw the vector graphics of everything in a scene.

    Args:
        scene: what to draw.
        aspect: width over height of the finished picture, from 0.25 to 4.
        bank: the drawings that things are made of.
        references: cut-outs, each (H, W, 4) uint8 with straight alpha, for the scene's `Reference` items.

    Raises:
        KeyError: the scene names a concept that the bank lacks, or a reference that did not come.
        ValueError: `aspect` is out of its range.
    """
    backdrop = places.draw(scene.place, scene.time, scene.weather, aspect, scene.variant, scene.backdrop)
    full = (1000 * aspect, 1000.0)
    paints = [_Paint("backdrop", _Figure(*full, backdrop.svg), aspect)]
    for index, item in enumerate(scene.items):
        figure = _figure(item, bank, references)
        if backdrop.surface == "ground" and item.y >= backdrop.horizon:
            paints.append(_Paint("shadow", figure, aspect, item, index))
        paints.append(_Paint("item", _lit(figure, backdrop.light), aspect, item, index))
    if backdrop.front:
        paints.append(_Paint("front", _Figure(*full, backdrop.front), aspect))
    return Draft(tuple(paints), aspect)


def sprite(item: Item, side: int, bank: Bank, references: Sequence[UInt8] = ()) -> UInt8:
    """One item alone, centred and as large as fits: (side, side, 4) uint8, premultiplied."""
    pixels = np.zeros((side, side, 4), np.uint8)
    figure = _figure(item, bank, references)
    tall = min(1.0, figure.height / figure.width)
    placed = item.model_copy(update={"x": 0.5, "y": 0.5 + tall / 2, "height": tall})
    _Paint("item", figure, 1.0, placed).onto(_canvas(pixels, 1.0))
    return pixels


def ratio(item: Item, bank: Bank, references: Sequence[UInt8] = ()) -> float:
    """Width over height of an item's drawing."""
    figure = _figure(item, bank, references)
    return figure.width / figure.height


@dataclass(frozen=True, slots=True, eq=False)
class _Figure:
    """Something drawable in a box of its own units, its lowest point at the bottom of the box."""

    width: float
    height: float
    content: str | UInt8  # SVG elements, or an image (H, W, 4), premultiplied
    origin: tuple[float, float] = (0.0, 0.0)  # of the box's top left corner, in the units of the SVG


@dataclass(frozen=True, slots=True, eq=False)
class _Paint:
    """One act of painting, on a canvas whose unit is the picture's height."""

    role: Role
    figure: _Figure
    aspect: float
    item: Item | None = None  # None where the figure fills the picture
    index: int = -1

    def onto(self, canvas: skia.Canvas) -> None:
        canvas.save()
        if self.item is None:
            canvas.scale(1 / self.figure.height, 1 / self.figure.height)
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
            # A mirrored canvas turns the other way.
            canvas.rotate(-item.angle if item.flip else item.angle, 0, -item.height / 2)
        canvas.scale(scale, scale)
        canvas.translate(-self.figure.width / 2, -self.figure.height)
        _render(canvas, self.figure)

    def _shadow(self, canvas: skia.Canvas, item: Item) -> None:
        width = item.height * self.figure.width / self.figure.height
        half, thick = width * 0.46, min(width * 0.1, item.height * 0.09)
        canvas.translate(item.x * self.aspect, item.y - thick * 0.35)
        canvas.scale(half, thick)
        colours = [skia.ColorSetARGB(alpha, 20, 24, 48) for alpha in (110, 70, 0)]
        shader = skia.GradientShader.MakeRadial(skia.Point(0, 0), 1.0, colours, [0.0, 0.55, 1.0])
        canvas.drawCircle(0, 0, 1, skia.Paint(Shader=shader, AntiAlias=True))


def _figure(item: Item, bank: Bank, references: Sequence[UInt8]) -> _Figure:
    if isinstance(item, Thing):
        drawing = bank[item.concept]
        face = drawing.svg if item.colour is None else recolour(drawing, item.colour)
        svg, (x, y, w, h) = bodies.whole(drawing, face)
        return _Figure(w, h, svg, (x, y))
    if isinstance(item, Person):
        person = people.draw(item)
        return _Figure(person.width, 1000.0, person.svg)
    if item.index >= len(references):
        raise KeyError(f"The scene shows reference {item.index}, but {len(references)} came.")
    image = references[item.index]
    # Skia filters before it premultiplies, which lets hidden colours bleed from transparent pixels into the rim.
    alpha = image[..., 3:].astype(np.uint16)
    colours = ((image[..., :3] * alpha + 127) // 255).astype(np.uint8)
    image = np.ascontiguousarray(np.concatenate((colours, image[..., 3:]), axis=2))
    return _Figure(float(image.shape[1]), float(image.shape[0]), image)


def _lit(figure: _Figure, light: Rgb) -> _Figure:
    """The figure with each colour multiplied by the light, which is the same as to light what is drawn of it."""
    if light == (1.0, 1.0, 1.0):
        return figure
    if isinstance(figure.content, np.ndarray):
        alpha = figure.content[..., 3:]
        colours = np.minimum(figure.content[..., :3] * np.asarray(light, np.float32) + 0.5, alpha).astype(np.uint8)
        return replace(figure, content=np.concatenate((colours, alpha), axis=2))

    def shine(colour: re.Match[str]) -> str:
        channels = (int(colour[1][k : k + 2], 16) * light[k // 2] for k in (0, 2, 4))
        return "#" + "".join(f"{min(255, round(channel)):02x}" for channel in channels)

    return replace(figure, content=re.sub("#([0-9a-fA-F]{6})\\b", shine, figure.content))


def _render(canvas: skia.Canvas, figure: _Figure) -> None:
    """Draw a figure with its box's top left corner at the canvas's origin, one unit a unit."""
    if isinstance(figure.content, np.ndarray):
        picture = skia.Image.fromarray(figure.content, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
        sampling = skia.SamplingOptions(skia.FilterMode.kLinear, skia.MipmapMode.kLinear)
        canvas.drawImageRect(picture, skia.Rect.MakeWH(figure.width, figure.height), sampling)
        return
    x, y = figure.origin
    # The root clips, so it is given room on every side: outlines and hair may pass the box by a little.
    room = 0.5 * max(figure.width, figure.height)
    width, height = figure.width + 2 * room, figure.height + 2 * room
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{x - room:.2f} {y - room:.2f} {width:.2f} {height:.2f}">{figure.content}</svg>'
    )
    dom = skia.SVGDOM.MakeFromStream(skia.MemoryStream.MakeCopy(root.encode()))
    dom.setContainerSize(skia.Size(width, height))
    canvas.translate(-room, -room)
    dom.render(canvas)


def _canvas(
    pixels: npt.NDArray[Any],
    aspect: float,
    colours: skia.ColorType = skia.kRGBA_8888_ColorType,
    alpha: skia.AlphaType = skia.kPremul_AlphaType,
) -> skia.Canvas:
    """A canvas over pixels of four bytes each whose unit is the picture's height, also where pixels are not square."""
    height, width = pixels.shape[:2]
    canvas = skia.Canvas.MakeRasterDirect(skia.ImageInfo.Make(width, height, colours, alpha), pixels, width * 4)
    canvas.scale(width / aspect, height)
    return canvas
