"""One policy for prompts, references and pictures, and one kind of verdict."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import structlog

from limner.config import Settings
from limner.engine.core import UInt8
from limner.errors import PictureRefused, PromptRefused, SettingsInvalid
from limner.safety import file
from limner.safety.file import PolicyFile, RuleTable, table_name
from limner.safety.moderation import Moderation, NoAnswer
from limner.safety.pieces import Manner, clean
from limner.safety.reading import Text
from limner.safety.terms import Blocklist, Rule, Unusable

log = structlog.get_logger(__name__)

Stage = Literal["prompt", "reference", "picture"]

_REFUSALS = {
    "prompt": "This service's content policy refuses the prompt. Describe another picture.",
    "reference": "This service's content policy refuses a reference picture. Send another one, or none.",
    "picture": "This service's content policy refuses the picture that was painted. Describe another one.",
}
_UNCHECKED = "could not be checked by this service's content policy, and so is refused. Try again later."
_SUBJECTS = {"prompt": "The prompt", "reference": "A reference picture", "picture": "The picture that was painted"}

_ASCII_ONLY = re.compile(r"\\[bBwW]|\[\[:\^?(?:word|alpha|alnum)")
_RULE_LONGEST = 100  # characters, as the audit keeps
_PATTERN_MEMORY = 8 * 2**20  # bytes that one pattern may take


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says.

    Attributes:
        allowed: whether the work may go on.
        rule: why not, for the audit: a rule's name, `classifier:label` or `moderation:category`; never the text.
        stage: what was looked at.
        checked: False where nothing could be found out, and the policy refuses for that.
    """

    allowed: bool
    rule: str | None
    stage: Stage
    checked: bool = True


class Policy:
    """What the operator refuses. Without a file it allows everything.

    Attributes:
        audits: whether audit rows hold the refused prompt's text.
        fingerprint: of the file; "" without one.
    """

    def __init__(self, tables: PolicyFile | None = None, path: Path = Path(), threads: int = 0) -> None:
        """Compile a policy file's tables.

        Args:
            tables: None for a policy that allows everything.
            path: of the file, for sentences and relative paths.
            threads: of the classifiers; 0 takes all.

        Raises:
            SettingsInvalid: a term or a pattern cannot be used, or a classifier is not there.
        """
        tables = tables or PolicyFile()
        self.audits = tables.audit.prompts
        self.fingerprint = ""
        rules = [_rule(number, table, path) for number, table in enumerate(tables.rule)]
        self._rules = rules
        numbered = sorted(enumerate(rules), key=lambda each: each[1].allow)
        manner = Manner(tables.text.digits, tables.text.marks)
        self._blocklists = []
        for _, group in groupby(numbered, key=lambda each: each[1].allow):
            self._blocklists.append(_blocklist(list(group), manner, path))
        self._moderation = None if tables.moderation is None else Moderation(tables.moderation)
        self._classifiers = []
        for number, table in enumerate(tables.classifier):
            from limner.safety.pictures import Classifier  # OpenVINO is loaded for a policy that asks for it

            try:
                classifier = Classifier(table, path.parent, threads)
            except SettingsInvalid as error:
                name = table_name("classifier", number, table.name)
                raise SettingsInvalid(f"weights of {name} in {path} {error.message}") from None
            self._classifiers.append((classifier, frozenset(table.checks)))

    @classmethod
    def load(cls, settings: Settings) -> Policy:
        """The policy of `policy_file`; without one, a policy that allows everything.

        Raises:
            SettingsInvalid: the file is wrong: a sentence with the file, the table and the key.
        """
        path = settings.policy_file
        if path is None:
            return cls()
        policy = cls(file.read(path), path, settings.threads)
        policy.fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
        return policy

    async def check_prompt(self, text: str) -> None:
        """Look at words that a picture is to be made of: a prompt, an expanded prompt, a text in a scene.

        Raises:
            PromptRefused: the policy refuses it; the sentence neither repeats nor explains what was found.
        """
        verdict = await self._prompt(text)
        if not verdict.allowed:
            raise PromptRefused(_told(verdict), verdict.rule)

    async def check_reference(self, pixels: UInt8) -> None:
        """Look at a reference, (H, W, 4).

        Raises:
            PromptRefused: the policy refuses it.
        """
        verdict = await self._pixels(pixels, "reference")
        if not verdict.allowed:
            raise PromptRefused(_told(verdict), verdict.rule)

    async def check_picture(self, pixels: UInt8) -> None:
        """Look at a painted picture, (H, W, 3).

        Raises:
            PictureRefused: the policy refuses it.
        """
        verdict = await self._pixels(pixels, "picture")
        if not verdict.allowed:
            raise PictureRefused(_told(verdict), verdict.rule)

    async def _prompt(self, text: str) -> Verdict:
        found = await asyncio.to_thread(self._found, text) if self._blocklists else None
        if found is not None:
            return Verdict(False, found, "prompt")
        if self._moderation is None or "prompt" not in self._moderation.checks or not text.strip():
            return Verdict(True, None, "prompt")
        return await _asked(self._moderation, self._moderation.text(text), "prompt")

    def _found(self, text: str) -> str | None:
        """The name of the file's first rule that refuses `text`."""
        cleaned = clean(text)
        known: dict[str, Text] = {}
        numbers = [each.find(cleaned, known) for each in self._blocklists]
        first = min((number for number in numbers if number is not None), default=None)
        return None if first is None else self._rules[first].name

    async def _pixels(self, pixels: UInt8, stage: Stage) -> Verdict:
        classifiers = [classifier for classifier, checks in self._classifiers if stage in checks]
        moderation = self._moderation if self._moderation and stage in self._moderation.checks else None
        if not classifiers and moderation is None:
            return Verdict(True, None, stage)
        opaque = await asyncio.to_thread(_opaque, pixels)
        for classifier in classifiers:
            label = await asyncio.to_thread(classifier.refuses, opaque)
            if label is not None:
                return Verdict(False, f"{classifier.name}:{label}"[:_RULE_LONGEST], stage)
        if moderation is None:
            return Verdict(True, None, stage)
        return await _asked(moderation, moderation.picture(opaque), stage)


async def _asked(moderation: Moderation, answer: Coroutine[Any, Any, str | None], stage: Stage) -> Verdict:
    """The verdict of an answer that `moderation` is waited for."""
    try:
        category = await answer
    except NoAnswer as error:
        log.warning("moderation failed", stage=stage, reason=str(error), allowed=moderation.fails_open)
        if moderation.fails_open:
            return Verdict(True, None, stage)
        return Verdict(False, "moderation:unavailable", stage, checked=False)
    return Verdict(category is None, category and f"moderation:{category}"[:_RULE_LONGEST], stage)


def _told(verdict: Verdict) -> str:
    """The sentence for the caller. It is the same for every rule."""
    return _REFUSALS[verdict.stage] if verdict.checked else f"{_SUBJECTS[verdict.stage]} {_UNCHECKED}"


def _opaque(pixels: UInt8) -> UInt8:
    """A picture (H, W, 3 or 4) on white, (H, W, 3)."""
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.uint16)
    return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _rule(number: int, table: RuleTable, path: Path) -> Rule:
    where = f"{table_name('rule', number, table.name)} in {path}"
    patterns = [_pattern(pattern, f"patterns.{place} of {where}") for place, pattern in enumerate(table.patterns, 1)]
    return Rule(table.name, tuple(table.terms), tuple(patterns), tuple(table.allow))


def _blocklist(rules: Sequence[tuple[int, Rule]], manner: Manner, path: Path) -> Blocklist:
    try:
        return Blocklist(rules, manner)
    except Unusable as error:
        where = table_name("rule", error.number, dict(rules)[error.number].name)
        raise SettingsInvalid(f"{error} of {where} in {path} {error.reason}.") from None


def _pattern(pattern: str, where: str) -> Any:
    """A compiled pattern, of an engine whose time grows with the text alone, whatever the pattern."""
    try:
        re2 = importlib.import_module("re2")
    except ImportError:
        raise SettingsInvalid(f"{where} needs RE2, which is not installed: pip install 'limner[safety]'.") from None
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    try:
        compiled = re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0].decode("utf-8", "replace") if error.args and isinstance(error.args[0], bytes) else error
        raise SettingsInvalid(
            f"{where} is no regular expression that RE2 takes: {reason}. It has no look-around and no back-references."
        ) from None
    if compiled.search("") is not None:
        raise SettingsInvalid(f"{where} is found in an empty text, so it would refuse everything. Ask for more.")
    if not pattern.isascii() and _ASCII_ONLY.search(pattern):
        raise SettingsInvalid(
            rf"{where} has \b, \w or their like beside letters that are not ASCII, which RE2 takes for no letters "
            r"there. Write the word under terms, or [^\pL] for what stands beside it."
        )
    return compiled
