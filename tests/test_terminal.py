"""Pictures in terminals, byte for byte, and the sheets that are shown there."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.cli.legible import cut, one_line
from limner.cli.sheet import labelled, tiled
from limner.cli.terminal import CHUNK, Protocol, detect, fitting, render, show
from limner.engine.core import UInt8

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def pixels(*rows: list[tuple[int, int, int]]) -> UInt8:
    return np.array(rows, np.uint8)


def noise(height: int, width: int) -> UInt8:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def png(data: bytes) -> UInt8:
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    return np.asarray(image)


# Which


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ("TERM=xterm-kitty KITTY_WINDOW_ID=1 COLORTERM=truecolor", "kitty"),
        ("TERM=xterm-256color KITTY_WINDOW_ID=1", "kitty"),
        ("TERM=xterm-ghostty TERM_PROGRAM=ghostty", "kitty"),
        ("TERM=xterm-256color TERM_PROGRAM=iTerm.app COLORTERM=truecolor", "iterm2"),
        ("TERM=xterm-256color LC_TERMINAL=iTerm2", "iterm2"),
        ("TERM=xterm-256color TERM_PROGRAM=WezTerm", "iterm2"),
        ("TERM=foot COLORTERM=truecolor", "sixel"),
        ("TERM=mlterm-256color", "sixel"),
        ("TERM=xterm-256color COLORTERM=truecolor", "blocks"),
        ("TERM=xterm-256color COLORTERM=24bit", "blocks"),
        ("TERM=xterm-direct", "blocks"),
        ("TERM=xterm-256color TERM_PROGRAM=Apple_Terminal", "blocks256"),
        ("TERM=xterm-256color TERM_PROGRAM=vscode COLORTERM=truecolor KITTY_WINDOW_ID=1", "blocks"),
        ("TERM=tmux-256color TMUX=/tmp/x KITTY_WINDOW_ID=1 COLORTERM=truecolor", "blocks"),
        ("TERM=screen-256color TMUX=/tmp/x TERM_PROGRAM=tmux LC_TERMINAL=iTerm2", "blocks256"),
        ("TERM=screen-256color STY=1.pts COLORTERM=truecolor KITTY_WINDOW_ID=1", "blocks256"),
        ("TERM=xterm", None),
        ("TERM=linux", None),
        ("TERM=dumb COLORTERM=truecolor", None),
        ("COLORTERM=truecolor", None),
        ("TERM=xterm-kitty NO_COLOR=1", None),
    ],
)
def test_what_a_terminal_can_is_read_from_the_environment(environment: str, protocol: Protocol | None) -> None:
    variables = dict(pair.split("=", 1) for pair in environment.split())
    assert detect(variables, is_terminal=True) == protocol
    assert detect(variables, is_terminal=False) is None


def test_an_empty_no_color_is_none() -> None:
    assert detect({"TERM": "xterm-kitty", "NO_COLOR": ""}, is_terminal=True) == "kitty"


# How


def test_half_blocks_have_the_upper_pixel_before_the_lower_one_and_say_what_changes_alone() -> None:
    picture = pixels([RED, RED, GREEN], [BLUE, BLUE, BLUE], [WHITE, WHITE, RED], [WHITE, RED, RED])
    assert render(picture, "blocks", 3) == (
        "\x1b[38;2;255;0;0;48;2;0;0;255m▀▀\x1b[38;2;0;255;0m▀\x1b[0m\n"
        "\x1b[38;2;255;255;255;48;2;255;255;255m▀\x1b[48;2;255;0;0m▀\x1b[38;2;255;0;0m▀\x1b[0m\n"
    )


def test_256_colours_are_the_nearest_of_the_cube_and_the_greys() -> None:
    picture = pixels([RED, (95, 135, 175), (10, 10, 10)], [BLUE, (238, 238, 238), (130, 128, 127)])
    assert render(picture, "blocks256", 3) == (
        "\x1b[38;5;196;48;5;21m▀\x1b[38;5;67;48;5;255m▀\x1b[38;5;232;48;5;244m▀\x1b[0m\n"
    )


@pytest.mark.parametrize(("columns", "lines"), [(3, 2), (10, 8)])
def test_half_blocks_keep_the_sides_ratio(columns: int, lines: int) -> None:
    drawn = render(noise(96, 64), "blocks", columns)
    assert drawn.count("\n") == lines
    assert {line.count("▀") for line in drawn.splitlines()} == {columns}


def test_kitty_gets_a_png_in_pieces_and_is_asked_to_stay_silent() -> None:
    picture = noise(64, 64)
    drawn = render(picture, "kitty", 20)
    assert drawn.endswith("\x1b\\\n")
    pieces = re.findall("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\", drawn)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in pieces) + "\n" == drawn
    assert len(pieces) > 1
    assert [keys for keys, _ in pieces] == ["a=T,f=100,q=2,c=20,m=1", *["m=1"] * (len(pieces) - 2), "m=0"]
    assert {len(data) for _, data in pieces[:-1]} == {CHUNK}
    assert (png(base64.b64decode("".join(data for _, data in pieces))) == picture).all()


def test_a_small_picture_is_one_piece_for_kitty() -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels([RED])).save(buffer, "png")
    data = base64.b64encode(buffer.getvalue()).decode()
    assert render(pixels([RED]), "kitty", 8) == f"\x1b_Ga=T,f=100,q=2,c=8,m=0;{data}\x1b\\\n"


def test_iterm2_gets_a_file_with_its_size_and_width() -> None:
    picture = noise(30, 40)
    found = re.fullmatch(
        "\x1b\\]1337;File=inline=1;size=(\\d+);width=12;preserveAspectRatio=1:([^\x07]+)\x07\n",
        render(picture, "iterm2", 12),
    )
    assert found is not None
    data = base64.b64decode(found[2])
    assert len(data) == int(found[1])
    assert (png(data) == picture).all()


@pytest.mark.parametrize("protocol", ["kitty", "iterm2"])
def test_no_more_pixels_are_sent_than_can_be_seen(protocol: Protocol) -> None:
    drawn = render(noise(512, 1024), protocol, 10)
    data = "".join(re.findall("[;:]([A-Za-z0-9+/=]{40,})[\x1b\x07]", drawn))
    assert png(base64.b64decode(data)).shape == (80, 160, 3)


def sixels(text: str) -> UInt8:
    """What a sixel terminal shows, by the VT340's rules: colours in percent, bands of six, counted repetitions."""
    found = re.fullmatch('\x1bP0;1q"1;1;(\\d+);(\\d+)([^\x1b]*)\x1b\\\\\n', text)
    assert found is not None
    width, height = int(found[1]), int(found[2])
    shown = np.full((height + 5, width, 3), 255, np.int64)
    colours: dict[int, tuple[int, ...]] = {}
    x = top = colour = 0
    for token in re.finditer(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|(?:!(\d+))?([?-~])|(\$)|(-)|(.)", found[3]):
        assert token[10] is None, token[10]
        if token[1]:
            colours[int(token[1])] = tuple(round(int(token[k]) * 2.55) for k in (2, 3, 4))
        elif token[5]:
            colour = int(token[5])
        elif token[7]:
            for _ in range(int(token[6] or 1)):
                for bit in range(6):
                    if ord(token[7]) - 63 >> bit & 1:
                        shown[top + bit, x] = colours[colour]
                x += 1
        else:
            x, top = 0, top + (6 if token[9] else 0)
    return shown[:height].astype(np.uint8)


def test_sixels_are_read_back_as_the_picture() -> None:
    picture = pixels(*([[RED] * 5 + [GREEN, BLUE]] * 7), [WHITE] * 7)
    drawn = render(picture, "sixel", 80)
    assert (sixels(drawn) == picture).all()
    assert drawn.startswith('\x1bP0;1q"1;1;7;8#')
    assert "!5~" in drawn  # five columns of six pixels
    photograph = np.asarray(Image.fromarray(noise(12, 8)).resize((64, 96), Image.Resampling.BICUBIC), np.uint8)
    assert abs(sixels(render(photograph, "sixel", 80)).astype(int) - photograph).mean() < 12


def test_a_picture_stands_whole_on_the_screen() -> None:
    square, wide = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 16, 3), np.uint8)
    assert fitting(square, 200, 100) == 60
    assert fitting(square, 40, 100) == 39
    assert fitting(square, 200, 24) == 40
    assert fitting(wide, 200, 12) == 32
    assert fitting(square, 5, 2) == 8


def test_nothing_is_shown_where_it_cannot_be_and_who_insists_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    show([b"is not even opened"])
    show([b"is not even opened"], wanted=False)
    assert capsys.readouterr() == ("", "")
    show([b"is not even opened"], wanted=True)
    assert capsys.readouterr() == ("", "note: standard output is no terminal that shows pictures.\n")


def test_a_terminal_sees_the_pictures_side_by_side(tmp_path: Path) -> None:
    """In a real pseudo-terminal, 30 columns wide."""
    for name, colour in (("a", RED), ("b", BLUE)):
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"{name}.png")
    script = (
        "import pathlib, limner.cli.terminal as terminal\n"
        "terminal.show([pathlib.Path(name).read_bytes() for name in ('a.png', 'b.png')])\n"
    )
    watcher = (
        "import os, pty, sys\n"
        "os.environ.update(TERM='xterm-256color', COLORTERM='truecolor', COLUMNS='21', LINES='50')\n"
        "for name in ('NO_COLOR', 'TMUX', 'STY', 'TERM_PROGRAM', 'KITTY_WINDOW_ID', 'LC_TERMINAL'):\n"
        "    os.environ.pop(name, None)\n"
        "sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, '-c', sys.argv[1]])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", watcher, script], cwd=tmp_path, capture_output=True, stdin=subprocess.DEVNULL, check=True
    )
    lines = done.stdout.decode().replace("\r\n", "\n").splitlines()
    assert len(lines) == 5
    both = "\x1b[38;2;{0};48;2;{0}m▀"
    assert lines[2].count("▀") == 20
    assert lines[2].startswith(both.format("255;0;0"))
    assert "\x1b[38;2;0;0;255;48;2;0;0;255m▀" in lines[2]


# Sheets


def test_tiles_stand_in_rows_of_three() -> None:
    tiles = [np.full((2, 4, 3), k, np.uint8) for k in range(1, 5)]
    whole = tiled(tiles)
    assert whole.shape == (4, 12, 3)
    assert whole[0, ::4, 0].tolist() == [1, 2, 3]
    assert whole[2, ::4, 0].tolist() == [4, 0, 0]
    assert (tiled(tiles[:1]) == tiles[0]).all()


def test_a_sheet_holds_every_picture_in_its_place_and_says_what_is_missing() -> None:
    colours = [[RED, GREEN, None], [BLUE, None, WHITE]]
    cells = [[None if c is None else np.full((64, 128, 3), c, np.uint8) for c in row] for row in colours]
    sheet = labelled(cells, ["a", "b"], ["seed 0", "seed 1", "seed 2"], 64)
    places = {}
    for colour in (RED, GREEN, BLUE):
        rows, columns = np.nonzero((sheet == colour).all(-1))
        places[colour] = (rows.min(), columns.min())
        assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (32, 64)
        assert len(rows) == 32 * 64
    assert places[RED][0] == places[GREEN][0] < places[BLUE][0]
    assert places[RED][1] == places[BLUE][1] < places[GREEN][1]


def test_labels_are_drawn_wrapped_and_cut() -> None:
    cells = [[np.full((256, 256, 3), 128, np.uint8)]]

    def ink(*texts: str) -> tuple[UInt8, int, int]:
        """The label's part of a sheet: its dark pixels, its first row, how many rows it takes."""
        sheet = labelled(cells, texts[:1], texts[1:] or [""], 256)
        dark = (sheet.astype(int).max(-1) < 100)[:, : sheet.shape[1] - 300]
        rows = np.flatnonzero(dark.any(1))
        return dark.astype(np.uint8), (int(rows[0]) if len(rows) else -1), len(rows)

    assert ink("")[2] == 0
    fox, first, height = ink("a red fox")
    assert 0 < height < 30
    wrapped, also_first, high = ink("a red fox on a snowy hill in the evening")
    assert first == also_first
    assert high > 2 * height
    assert wrapped.shape == fox.shape
    assert ink("word " * 200)[2] < 256
    assert ink("狐狸")[2] > 0


# Text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a fox,  \u72d0\u72f8 [31m", "a fox,  \u72d0\u72f8 [31m"),
        ("a\nb\tc\r\nd\u2028e\u3000f", "a b c  d e f"),
        ("\x1b[2J\x9b31m\x07\x7f", "\ufffd[2J\ufffd31m\ufffd\ufffd"),
        ("gpj.\u202efox\u2066", "gpj.\ufffdfox\ufffd"),
        ("\U0001f469\u200d\U0001f680 \ud800", "\U0001f469\u200d\U0001f680 \ufffd"),
    ],
    ids=["as it is", "breaks", "controls", "directions", "joiners"],
)
def test_text_from_elsewhere_is_one_line_that_steers_nothing(text: str, line: str) -> None:
    assert one_line(text) == line
    assert cut(text, 3) == line[:2] + "…"
