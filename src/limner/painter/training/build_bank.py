"""Builds the bank of drawings from packages of npm and Debian, the same bytes every time.

    python -m limner.painter.training.build_bank [--packages FOLDER] [--out FOLDER]

The packages are fetched by name and version with `npm pack` and `apt-get download` unless FOLDER already holds them;
what is used of them is pinned by checksum. Which concepts there are, and every fact that cannot be measured, is in
concepts.txt. NOTICE is written from the same table of sources.
"""

from __future__ import annotations

import argparse
import json
import lzma
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from limner.painter.bank import DEFAULT, FILES, FORMAT
from limner.painter.bodies import ROWS
from limner.painter.folder import described
from limner.painter.recolour import body, nearest_colour
from limner.painter.training import normalise
from limner.painter.training.icons import Clipart, Icon, IconSet, other_icon, own_icon
from limner.painter.training.lexicon import CONCEPTS, BuildFailed, Concept, lexicon, read_concepts
from limner.painter.training.packages import fetch, fetch_debian
from limner.painter.training.sources import CLIPART, DRAWINGS, ICONS, KEYWORDS, OWN, notice

VERSION = "1"
NOTICE = Path(__file__).parents[4] / "NOTICE"
PER_BLOCK = 50
AGREE = 2.0  # grey levels, mean over the picture, that Skia and resvg may differ by


def choose(
    concepts: Sequence[Concept], first: IconSet, second: IconSet, others: Mapping[str, IconSet | Clipart] | None = None
) -> list[tuple[Concept, Icon]]:
    """Every concept with each of its drawings, the main one first.

    Raises:
        BuildFailed: a concept is not in the set that its mark or its origin asks for; all such names are listed.
    """
    chosen: list[tuple[Concept, Icon]] = []
    missing = []
    for concept in concepts:
        if concept.origin:
            chosen += [(concept, icon) for icon in [other_icon(concept, others or {})] if icon]
            missing += [concept.name] if not chosen or chosen[-1][0] is not concept else []
            continue
        twin = second.by_code.get(first.codes.get(concept.name, ""), concept.name)
        one, other, own = first.icon(concept.name), second.icon(twin), own_icon(concept.name)
        options = {"": [one, other], "~": [other, one], "+": [one], "-": [other], "*": [own]}[concept.mark]
        if options[0] is None:
            missing.append(concept.name)
        chosen += [(concept, icon) for icon in options if icon]
    if missing:
        raise BuildFailed("No drawing of this name: " + ", ".join(missing) + ". Correct concepts.txt.")
    return chosen


def drawing_rows(chosen: Sequence[tuple[Concept, Icon]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Each drawing's facts (with its SVG under "svg"), and a sentence for each drawing that was left out.

    A drawing that Skia and resvg do not agree on is left out; the next of its concept then becomes the main one.

    Raises:
        BuildFailed: a concept has no drawing left.
    """
    rows: dict[str, dict[str, Any]] = {}
    dropped = []
    for concept, icon in chosen:
        name = f"{concept.name}--{icon.source}" if concept.name in rows else concept.name
        try:
            svg = normalise.normalise(icon.svg, name, icon.side)
            differs = normalise.disagreement(svg, icon.svg, icon.side)
            fault = f"Skia and resvg differ by {differs:.1f} grey levels" if differs > AGREE else ""
        except normalise.CannotNormalise as error:
            fault = str(error)
        if fault:
            dropped.append(f"{name} ({icon.source}): {fault}")
        else:
            rows[name] = facts(concept, name, icon.source, svg, icon.side)
    if lost := sorted({concept.name for concept, _ in chosen} - rows.keys()):
        raise BuildFailed(f"No usable drawing left of: {', '.join(lost)}. {'; '.join(dropped)}.")
    return list(rows.values()), dropped


def facts(concept: Concept, name: str, source: str, svg: str, side: float) -> dict[str, Any]:
    """One row of index.json, measured where it can be."""
    painted = normalise.paints(svg, side)
    animal = ROWS.get(name)  # of a face, whose muzzle or belly may cover more than its fur
    main = body(painted, concept.group in ("vehicle", "building", "structure"), animal.fur if animal else "")
    share = sum(part for colour, part in painted if colour in set(main))
    return {
        "name": name, "concept": concept.name, "label": concept.words[0], "source": source, "group": concept.group,
        "surface": concept.surface, "size": concept.size, "faces": concept.faces,
        "box": list(normalise.tight_box(svg, side)), "colours": colour_names(painted, main),
        "recolourable": share >= 0.22 or animal is not None,
        "body": {colour: part for colour, part in painted if colour in set(main)}, "svg": svg,
    }  # fmt: skip


def colour_names(painted: Sequence[tuple[str, float]], main: Iterable[str]) -> list[str]:
    """At most three colour names: that of the largest part of `main`, then any that cover an eighth of the drawing."""
    shares: dict[str, float] = {}
    for colour, share in painted:
        name = nearest_colour(colour)
        shares[name] = shares.get(name, 0.0) + share
    first = next((nearest_colour(colour) for colour, _ in painted if colour in set(main)), None)
    names = sorted(shares, key=lambda name: (name != first, -shares[name], name))
    return [name for at, name in enumerate(names[:3]) if at == 0 or shares[name] >= 0.125]


def pack(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], bytes]:
    """index.json's content and drawings.xz."""
    index: list[dict[str, Any]] = []
    extents: list[tuple[int, int]] = []
    packed = b""
    for start in range(0, len(rows), PER_BLOCK):
        block = b""
        for row in rows[start : start + PER_BLOCK]:
            svg = row["svg"].encode()
            where = {"block": len(extents), "at": len(block), "length": len(svg)}
            index.append({key: value for key, value in row.items() if key != "svg"} | where)
            block += svg
        content = squeezed(block)
        extents.append((len(packed), len(content)))
        packed += content
    return {"blocks": extents, "drawings": index}, packed


def build(packages: Path, out: Path, notice_path: Path | None = NOTICE) -> list[str]:
    """Write the whole bank; returns a sentence for each drawing left out.

    Raises:
        BuildFailed: a package, a name or a drawing is missing.
    """
    concepts = read_concepts(CONCEPTS.read_text())
    first, second = (IconSet(key, fetch(source, packages)) for key, source in DRAWINGS.items())
    emojibase = fetch(KEYWORDS, packages)
    clipart = Clipart(fetch_debian(CLIPART, packages) / "usr/share/openclipart/svg")
    sets = {key: IconSet(key, fetch(source, packages)) for key, source in ICONS.items()}
    rows, dropped = drawing_rows(choose(concepts, first, second, {**sets, "clipart": clipart}))
    english, foreign = lexicon(concepts, second.codes | first.codes, emojibase)
    index, packed = pack(rows)
    contents = (lines(index), packed, lines({"words": english}), squeezed(compact(foreign)))
    out.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, content in zip(FILES, contents, strict=True):
        (out / name).write_bytes(content)
        files[name] = described(content)
    by_source = Counter(row["source"] for row in rows)
    sources = DRAWINGS | ICONS | {"clipart": CLIPART, "limner": OWN, "emojibase": KEYWORDS}
    meta = {
        "format": FORMAT, "version": VERSION, "concepts": len(concepts), "drawings": len(rows), "words": len(english),
        "by_source": dict(sorted(by_source.items())),
        "sources": {key: source.record() for key, source in sources.items()}, "files": files,
    }  # fmt: skip
    (out / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    if notice_path:
        notice_path.write_text(notice())
    return dropped


def squeezed(content: bytes) -> bytes:
    return lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def lines(value: Mapping[str, Any]) -> bytes:
    """JSON with one entry of each top-level list or mapping to a line, so that a change of one shows as one line."""
    parts = []
    for key, entries in value.items():
        if isinstance(entries, Mapping):
            inner = ",\n".join(f"{json.dumps(k)}:{compact(v).decode()}" for k, v in entries.items())
            parts.append(f"{json.dumps(key)}:{{\n{inner}\n}}")
        else:
            inner = ",\n".join(compact(entry).decode() for entry in entries)
            parts.append(f"{json.dumps(key)}:[\n{inner}\n]")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the bank of drawings and NOTICE.")
    parser.add_argument("--packages", type=Path, default=Path("runs/packages"), help="where fetched packages are kept")
    parser.add_argument("--out", type=Path, default=DEFAULT)
    arguments = parser.parse_args()
    dropped = build(arguments.packages, arguments.out)
    meta = json.loads((arguments.out / "meta.json").read_text())
    count = f"{meta['concepts']} concepts, {meta['drawings']} drawings, {meta['words']} words"
    print(*("left out: " + line for line in dropped), count, sep="\n")  # noqa: T201  a command's report


if __name__ == "__main__":
    main()
