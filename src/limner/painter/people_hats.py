"""Hats of the people, as tables of paths in the head's frame (see people_head): about 100 in radius."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, pi, sin
from typing import Literal

from limner.painter.colours import SHADES, shade, tint
from limner.painter.people_pen import Pen, ellipse, ink, polygon, scallops
from limner.painter.scene import Colour, Hat

Tone = Literal["main", "deep", "dark", "light", "band", "plume", "star", "red", "blue", "green"]

HAT_COLOURS: dict[Hat, Colour] = {
    "cap": "red", "beanie": "teal", "straw": "beige", "top": "black", "wizard": "purple", "crown": "gold",
    "helmet": "silver", "chef": "white", "cowboy": "brown",
}  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """A filled path with an outline, or a line where `width` is given."""

    tone: Tone
    d: str
    width: float = 0.0
    outline: bool = True


def _star(x: float, y: float, r: float) -> str:
    reach = [r if i % 2 == 0 else 0.45 * r for i in range(10)]
    return polygon([(x + q * sin(i * pi / 5), y - q * cos(i * pi / 5)) for i, q in enumerate(reach)])


def _discs(*places: tuple[float, float, float]) -> str:
    return " ".join(ellipse(*place) for place in places)


def _ribs(xs: Iterable[int]) -> str:
    return " ".join(f"M {x},{-72 + 12 * (x / 100) ** 2:.1f} L {x},{-54 + 12 * (x / 100) ** 2:.1f}" for x in xs)


HATS: dict[Hat, tuple[Piece, ...]] = {
    "cap": (
        Piece("main", "M -105,-34 C -112,-112 -60,-146 4,-146 C 66,-146 112,-108 104,-34 C 60,-58 -50,-58 -105,-34 Z"),
        Piece("dark", "M 0,-144 C -14,-118 -18,-84 -16,-54 M 10,-144 C 44,-120 58,-88 58,-50", 4),
        Piece(
            "dark",
            "M -16,-52 C 40,-66 100,-58 150,-30 C 166,-20 164,-8 150,-10 C 104,-26 40,-30 -8,-26"
            " C -28,-28 -30,-48 -16,-52 Z",
        ),
        Piece("dark", ellipse(4, -146, 11, 8)),
    ),
    "beanie": (
        Piece("light", scallops(2, -160, 25, 24, 9, bulge=1.3)),
        Piece("main", "M -104,-40 C -110,-112 -62,-148 2,-148 C 66,-148 112,-112 105,-40 Z"),
        Piece("dark", "M -52,-74 C -52,-100 -40,-126 -24,-140 M 2,-74 L 2,-142 M 56,-74 C 56,-100 44,-126 28,-140", 4),
        Piece(
            "light",
            "M -108,-66 C -60,-84 60,-84 109,-66 C 116,-56 116,-34 109,-24 C 60,-44 -60,-44 -108,-24"
            " C -116,-34 -116,-56 -108,-66 Z",
        ),
        Piece("main", _ribs(range(-84, 100, 28)), 5),
    ),
    "straw": (
        Piece("deep", ellipse(0, -52, 186, 34)),
        Piece("main", "M -98,-56 C -100,-118 -66,-152 0,-152 C 66,-152 100,-118 98,-56 C 60,-42 -60,-42 -98,-56 Z"),
        Piece("band", "M -99,-76 C -60,-62 60,-62 99,-76 L 98,-54 C 60,-40 -60,-40 -98,-54 Z"),
        Piece("dark", "M -60,-120 C -30,-110 30,-110 60,-120 M -84,-98 C -40,-86 40,-86 84,-98", 3.5),
        Piece("dark", "M -168,-50 C -120,-30 120,-30 168,-50", 3.5),
        Piece("dark", "M -178,-54 C -160,-66 -130,-72 -108,-74 M 178,-54 C 160,-66 130,-72 108,-74", 3.5),
    ),
    "top": (
        Piece(
            "main",
            "M -86,-58 C -88,-130 -96,-190 -102,-236 C -50,-252 50,-252 102,-236 C 96,-190 88,-130 86,-58"
            " C 40,-44 -40,-44 -86,-58 Z",
        ),
        Piece("light", ellipse(0, -238, 102, 17)),
        Piece("band", "M -88,-94 C -40,-78 40,-78 88,-94 L 86,-58 C 40,-44 -40,-44 -86,-58 Z"),
        Piece(
            "main",
            "M -142,-62 C -120,-44 -60,-56 0,-56 C 60,-56 120,-44 142,-62 C 138,-30 80,-22 0,-22"
            " C -80,-22 -138,-30 -142,-62 Z",
        ),
        Piece("light", "M -66,-120 C -68,-150 -72,-180 -76,-210", 8),
    ),
    "wizard": (
        Piece(
            "main",
            "M -88,-56 C -70,-140 -34,-230 -8,-276 C 18,-304 62,-312 104,-292 C 80,-286 62,-270 58,-252"
            " C 70,-190 84,-120 90,-56 C 40,-42 -40,-42 -88,-56 Z",
        ),
        Piece("dark", "M -6,-270 C 16,-262 40,-258 56,-258 M -38,-192 C -24,-182 -8,-180 4,-182", 5),
        Piece("band", "M -84,-84 C -40,-68 44,-68 87,-84 L 90,-54 C 40,-38 -40,-38 -88,-54 Z"),
        Piece(
            "main",
            "M -172,-50 C -120,-76 -96,-58 0,-56 C 96,-58 120,-76 172,-50 C 150,-20 80,-18 0,-18"
            " C -80,-18 -150,-20 -172,-50 Z",
        ),
        *(
            Piece("star", _star(*star), outline=False)
            for star in ((-22, -132, 18), (34, -178, 15), (8, -226, 12), (48, -108, 13))
        ),
    ),
    "crown": (
        Piece(
            "main",
            "M -84,-76 L -100,-168 L -56,-126 L -30,-184 L 2,-132 L 36,-186 L 60,-126 L 104,-168 L 86,-76"
            " C 40,-60 -40,-60 -84,-76 Z",
        ),
        Piece("dark", "M -86,-92 C -40,-76 44,-76 88,-92 L 86,-72 C 40,-56 -40,-56 -84,-72 Z"),
        Piece("light", _discs((-100, -170, 10), (-30, -187, 10), (36, -189, 10), (104, -170, 10))),
        Piece("red", ellipse(-52, -102, 11, 13)),
        Piece("blue", ellipse(2, -96, 11, 13)),
        Piece("green", ellipse(56, -102, 11, 13)),
    ),
    "helmet": (
        Piece(
            "plume",
            "M 2,-140 C -60,-210 -150,-190 -160,-120 C -140,-134 -118,-132 -102,-118 C -70,-150 -30,-150 2,-132 Z",
        ),
        Piece(
            "main",
            "M -110,58 C -124,-80 -76,-146 2,-146 C 80,-146 124,-80 110,58 C 98,70 82,64 78,50 C 84,12 84,-18 76,-36"
            " C 40,-50 -40,-50 -70,-36 C -80,-18 -80,12 -74,50 C -80,66 -98,70 -110,58 Z",
        ),
        Piece("dark", "M 4,-144 C 10,-118 10,-84 6,-50", 12),
        Piece("dark", "M -72,-38 C -40,-52 40,-52 78,-38", 8),
        Piece(
            "light",
            _discs((-94, 30, 5), (-100, -16, 5), (97, 30, 5), (103, -16, 5), (-44, -62, 5), (52, -62, 5)),
            outline=False,
        ),
        Piece("light", "M -86,-60 C -78,-92 -58,-116 -32,-126", 9),
    ),
    "chef": (
        Piece(
            "main",
            "M -82,-92 C -150,-110 -140,-204 -72,-196 C -56,-246 56,-248 74,-198 C 144,-204 152,-110 84,-92"
            " C 40,-80 -40,-80 -82,-92 Z",
        ),
        Piece(
            "dark", "M -40,-100 C -44,-130 -56,-150 -66,-160 M 4,-98 L 4,-150 M 46,-100 C 50,-130 60,-150 70,-160", 5
        ),
        Piece("deep", "M -96,-100 C -40,-84 44,-84 97,-100 L 101,-40 C 50,-58 -50,-58 -101,-40 Z"),
    ),
    "cowboy": (
        Piece(
            "main",
            "M -84,-58 C -82,-120 -74,-168 -40,-170 C -20,-170 -14,-150 2,-150 C 18,-150 24,-170 46,-168"
            " C 78,-164 84,-116 86,-58 Z",
        ),
        Piece("dark", "M 2,-148 C 0,-130 0,-120 4,-110", 6),
        Piece("band", "M -85,-84 C -40,-70 44,-70 87,-84 L 87,-54 C 40,-38 -40,-38 -85,-54 Z"),
        Piece(
            "main",
            "M -190,-96 C -176,-40 -110,-62 0,-60 C 110,-62 178,-40 192,-96 C 204,-52 150,-20 0,-20"
            " C -150,-20 -202,-52 -190,-96 Z",
        ),
    ),
}


def draw_hat(pen: Pen, hat: Hat, colour: Colour | None) -> None:
    """The hat, in its own usual colour where none is given."""
    name = colour or HAT_COLOURS[hat]
    main = SHADES[name]
    ribbon: Colour = "gold" if hat == "wizard" else "red"
    other: dict[Colour, Colour] = {
        "gold": "purple",
        "yellow": "purple",
        "red": "navy",
        "pink": "purple",
        "orange": "navy",
    }
    band = SHADES[other.get(name, ribbon)]
    tones: dict[Tone, str] = {
        "main": main, "deep": shade(main, 0.05), "dark": ink(main, 0.16), "light": tint(main, 0.3), "band": band,
        "plume": band, "star": SHADES["yellow" if name not in ("yellow", "gold") else "white"],
    }  # fmt: skip
    for jewel in ("red", "blue", "green"):
        tones[jewel] = SHADES[jewel if jewel != name else "yellow"]
    for piece in HATS[hat]:
        if piece.width:
            pen.line(piece.d, tones[piece.tone], piece.width)
        else:
            pen.fill(piece.d, tones[piece.tone], outline=piece.outline)
