"""Pictures in terminals: by a graphics protocol where the terminal is known to speak one, else in coloured half blocks.

What a terminal can do is read from the environment alone. Asking it (DA1, XTGETTCAP) would mean waiting for an answer
that may never come, and eating what was typed meanwhile.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import numpy as np
from PIL import Image

from limner.cli.sheet import tiled
from limner.engine.core import UInt8

Protocol = Literal["kitty", "iterm2", "sixel", "blocks", "blocks256"]
"""`blocks` are in 24-bit colour, `blocks256` in xterm's palette of 256."""

PROGRAMS: Final[dict[str, Protocol]] = {
    "ghostty": "kitty", "iTerm.app": "iterm2", "WezTerm": "iterm2", "mintty": "iterm2", "rio": "iterm2",
}  # fmt: skip
"""By TERM_PROGRAM, which not all set; who is in none of these tables gets half blocks."""

TERMS: Final[dict[str, Protocol]] = {
    "xterm-kitty": "kitty", "xterm-ghostty": "kitty", "wezterm": "iterm2",
    "foot": "sixel", "foot-extra": "sixel", "mlterm": "sixel", "mlterm-256color": "sixel", "contour": "sixel",
}  # fmt: skip
"""By TERM, which goes along through ssh."""

MOST_COLUMNS: Final = 60
CHUNK: Final = 4096
"""Longest payload of one of kitty's escapes, bytes (kitty's graphics protocol, "Remote client")."""

FINE: Final = 16
"""Pixels a column that pictures keep for kitty and iTerm2, which scale them to the columns: enough for fine screens."""

CELL: Final = 8
"""Pixels a column of a sixel picture, which is shown pixel by pixel: no wider than most terminals' columns."""

CUBE: Final = np.array([0, 95, 135, 175, 215, 255])
GREYS: Final = np.arange(8, 239, 10)
"""xterm's palette: 16 + 36r + 6g + b for the cube, 232 and up for the greys; the first sixteen are the user's own."""


def detect(environment: Mapping[str, str], is_terminal: bool) -> Protocol | None:
    """How to show pictures; None where nothing but plain text should be written (https://no-color.org among others).

    Inside tmux and screen it is half blocks: both know nothing of a picture that is passed through to the terminal
    behind them, and write over it or leave it standing at the next scroll.
    """
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if not is_terminal or term in ("", "dumb") or environment.get("NO_COLOR"):
        return None
    tmux = "TMUX" in environment
    screen = not tmux and ("STY" in environment or term.startswith("screen"))
    if not tmux and not screen and not term.startswith("tmux"):
        found = PROGRAMS.get(program) or TERMS.get(term)
        if found is None and not program:  # a program started from kitty has its variables, too
            found = "kitty" if "KITTY_WINDOW_ID" in environment else None
        if found is None and environment.get("LC_TERMINAL") == "iTerm2":
            found = "iterm2"
        if found is not None:
            return found
    if term.endswith("-direct") or (environment.get("COLORTERM") in ("truecolor", "24bit") and not screen):
        return "blocks"
    return "blocks256" if "256color" in term or "COLORTERM" in environment else None


def show(pictures: Sequence[bytes], wanted: bool | None = None) -> None:
    """Write picture files of one size to standard output, in rows of three, as large as there is room.

    `wanted` False does nothing; None does nothing either where it is no terminal that can; True says so.
    """
    protocol = None if wanted is False else detect(os.environ, sys.stdout.isatty())
    if protocol is None:
        if wanted:
            sys.stderr.write("note: standard output is no terminal that shows pictures.\n")
        return
    pixels = tiled([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in pictures])
    columns, lines = shutil.get_terminal_size()
    sys.stdout.write(render(pixels, protocol, fitting(pixels, columns, lines)))
    sys.stdout.flush()


def fitting(pixels: UInt8, columns: int, lines: int) -> int:
    """How many columns a picture may take, so that it stands whole on the screen with a few lines around it."""
    height, width = pixels.shape[:2]
    tallest = int(2 * max(4, lines - 4) * width / height)
    return max(8, min(columns - 1, MOST_COLUMNS, tallest))


def render(pixels: UInt8, protocol: Protocol, columns: int) -> str:
    """What draws `pixels`, (H, W, 3) uint8, `columns` wide, with the cursor at the beginning of the line below it."""
    image = Image.fromarray(pixels)
    match protocol:
        case "kitty":
            return "".join(_kitty(_png(_within(image, columns * FINE)), columns)) + "\n"
        case "iterm2":
            data = _png(_within(image, columns * FINE))
            head = f"inline=1;size={len(data)};width={columns};preserveAspectRatio=1"
            return f"\x1b]1337;File={head}:{base64.b64encode(data).decode()}\x07\n"
        case "sixel":
            return _sixel(_within(image, columns * CELL)) + "\n"
        case "blocks" | "blocks256":
            rows = max(1, round(columns * image.height / image.width / 2))
            small = np.asarray(image.resize((columns, 2 * rows), Image.Resampling.LANCZOS))
            return "".join(_blocks(small, protocol == "blocks"))


def _within(image: Image.Image, width: int) -> Image.Image:
    if image.width <= width:
        return image
    return image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def _kitty(png: bytes, columns: int) -> Iterator[str]:
    """Escapes that transmit and show a PNG (a=T, f=100), quietly (q=2): an answer would be read as typed text."""
    data = base64.b64encode(png).decode()
    for start in range(0, len(data), CHUNK):
        keys = [f"m={int(start + CHUNK < len(data))}"]
        if start == 0:
            keys = ["a=T", "f=100", "q=2", f"c={columns}", *keys]
        yield f"\x1b_G{','.join(keys)};{data[start : start + CHUNK]}\x1b\\"


def _sixel(image: Image.Image) -> str:
    """DEC sixel graphics (VT3xx Graphics Programming, chapter 14): bands of six rows, each once for each colour."""
    indexed = image.quantize(256)
    pixels = np.asarray(indexed)
    palette = np.round(np.array(indexed.getpalette()).reshape(-1, 3) * (100 / 255)).astype(int)
    used = np.unique(pixels)
    parts = [f'\x1bP0;1q"1;1;{image.width};{image.height}']
    parts += [f"#{colour};2;{';'.join(map(str, palette[colour]))}" for colour in used]
    for top in range(0, image.height, 6):
        band = pixels[top : top + 6]
        bits = 1 << np.arange(len(band))[:, None]
        lines = [f"#{colour}{_runs(((band == colour) * bits).sum(0) + 63)}" for colour in np.unique(band)]
        parts.append("$".join(lines) + "-")
    return "".join(parts) + "\x1b\\"


def _runs(sixels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
    """Sixels as characters, repetitions counted."""
    starts = np.flatnonzero(np.diff(sixels, prepend=-1))
    counts = np.diff(starts, append=len(sixels))
    return "".join(
        f"!{count}{chr(sixel)}" if count > 3 else chr(sixel) * count
        for sixel, count in zip(sixels[starts], counts, strict=True)
    )


def _blocks(pixels: UInt8, true_colour: bool) -> Iterator[str]:
    """Two rows of pixels a line: the upper ones colour the half block, the lower ones what is behind it."""
    colours = [[f"2;{r};{g};{b}" for r, g, b in row] for row in pixels] if true_colour else _palette(pixels)
    for upper, lower in zip(colours[::2], colours[1::2], strict=True):
        before = ("", "")
        for pair in zip(upper, lower, strict=True):
            changed = [f"{ground};{new}" for ground, new, old in zip((38, 48), pair, before, strict=True) if new != old]
            yield f"\x1b[{';'.join(changed)}m▀" if changed else "▀"
            before = pair
        yield "\x1b[0m\n"


def _palette(pixels: UInt8) -> list[list[str]]:
    """The nearest of xterm's 240 fixed colours to each pixel."""
    wanted = pixels.astype(np.int64)
    levels = abs(wanted[..., None] - CUBE).argmin(-1)
    greys = abs(wanted.mean(-1, keepdims=True) - GREYS).argmin(-1)
    far_cube = ((CUBE[levels] - wanted) ** 2).sum(-1)
    far_grey = ((GREYS[greys][..., None] - wanted) ** 2).sum(-1)
    numbers = np.where(far_grey < far_cube, 232 + greys, 16 + levels @ np.array([36, 6, 1]))
    return [[f"5;{number}" for number in row] for row in numbers]
