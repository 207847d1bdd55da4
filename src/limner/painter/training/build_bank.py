"""Builds the bank of drawings from packages of the npm registry, the same bytes every time.

    python -m limner.painter.training.build_bank [--packages FOLDER] [--out FOLDER]

The packages are fetched by name and version with `npm pack` unless FOLDER already holds them; what is used of them is
pinned by checksum. Which concepts there are, and every fact that cannot be measured, is in concepts.txt. NOTICE is
written from the same table of sources.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import re
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from limner.painter.bank import DEFAULT, FILES, FORMAT
from limner.painter.bodies import ROWS
from limner.painter.folder import described
from limner.painter.recolour import body, nearest_colour
from limner.painter.training import normalise
from limner.painter.training.lexicon import CONCEPTS, BuildFailed, Concept, code, lexicon, read_concepts
from limner.painter.training.sources import DRAWINGS, KEYWORDS, OWN, Source, notice

VERSION = "1"
NOTICE = Path(__file__).parents[4] / "NOTICE"
OWN_DRAWINGS = Path(__file__).with_name("drawings")
PER_BLOCK = 50
AGREE = 2.0  # grey levels, mean over the picture, that Skia and resvg may differ by


def fetch(source: Source, folder: Path) -> Path:
    """The folder of an unpacked package, fetched first if need be, its pinned files checked.

    Raises:
        BuildFailed: it cannot be fetched, or a pinned file has another checksum.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{source.package.removeprefix('@').replace('/', '-')}-{source.version}.tgz"
    if not archive.exists():
        command = ["npm", "pack", f"{source.package}@{source.version}", "--pack-destination", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603  fixed arguments
        except (OSError, subprocess.CalledProcessError) as error:
            raise BuildFailed(
                f"{' '.join(command[:3])} failed; is npm installed and its registry reachable?"
            ) from error
    unpacked = folder / archive.stem
    if not unpacked.exists():
        with tarfile.open(archive) as package:
            package.extractall(unpacked, filter="data")
    for name, checksum in source.files.items():
        if hashlib.sha256((unpacked / "package" / name).read_bytes()).hexdigest() != checksum:
            raise BuildFailed(f"{source.package} {source.version}: {name} is not the file that was pinned.")
    return unpacked / "package"


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
        characters: dict[str, str] = json.loads((folder / "chars.json").read_text())
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


def choose(concepts: Sequence[Concept], first: IconSet, second: IconSet) -> list[tuple[Concept, Icon]]:
    """Every concept with each of its drawings, the main one first.

    Raises:
        BuildFailed: a concept is not in the set that its mark asks for; all such names are listed.
    """
    chosen: list[tuple[Concept, Icon]] = []
    missing = []
    for concept in concepts:
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
    rows, dropped = drawing_rows(choose(concepts, first, second))
    english, others = lexicon(concepts, second.codes | first.codes, emojibase)
    index, packed = pack(rows)
    contents = (lines(index), packed, lines({"words": english}), squeezed(compact(others)))
    out.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, content in zip(FILES, contents, strict=True):
        (out / name).write_bytes(content)
        files[name] = described(content)
    by_source = Counter(row["source"] for row in rows)
    sources = DRAWINGS | {"limner": OWN, "emojibase": KEYWORDS}
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
