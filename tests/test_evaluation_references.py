from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from limner.engine.core import Batch, Encoded, Float32, Key, Request, UInt8
from limner.engine.levels import schedule
from limner.errors import ModelUnusable
from limner.evaluation import characters, references, traits
from limner.evaluation.identity import SIDE, Identity, framed, of_picture, rank
from limner.painter.bank import Bank
from limner.painter.draft import compose
from limner.painter.scene import Reference, Scene

EVERY = characters.load()
PEOPLE = [one for one in EVERY if one.traits]
THINGS = [one for one in EVERY if not one.traits]


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.load()


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.load(threads=1)


def scene_with(item: Reference, **facts: object) -> Scene:
    return Scene.model_validate({"place": "park", "items": [item.model_dump()], **facts})


def trimmed(reference: UInt8) -> UInt8:
    """The least box around what is visible, or around what is not the ground of the first pixel."""
    seen = reference[..., 3] > 24
    if seen.all():
        seen = np.abs(reference[..., :3].astype(int) - reference[0, 0, :3]).max(axis=2) > 12
    rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    cutout = reference.copy()
    cutout[~seen] = 0
    return cutout[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def staged(
    number: int, bank: Bank, ground: characters.Ground = "alpha", flip: bool = False, **facts: object
) -> tuple[traits.Stage, traits.Spot]:
    """A character of that number standing in a park, ready to be judged."""
    reference = characters.picture_of(characters.draw(PEOPLE[number].drawn()), ground, number)
    cutout = trimmed(reference)
    item = Reference(x=0.55, y=0.9, height=0.6, flip=flip)
    spot = traits.spot(item, cutout, traits.corner_of(cutout, reference), 1.0)
    return traits.stage(scene_with(item, **facts), 0, spot, 1.0, bank, [cutout]), spot


class TestCharacters:
    def test_there_are_a_hundred_characters_and_twenty_things_of_different_names(self) -> None:
        assert (len(PEOPLE), len(THINGS)) == (100, 20)
        assert len({one.name for one in EVERY}) == 120

    def test_no_two_characters_look_the_same(self) -> None:
        small = np.stack([framed(characters.draw(one.drawn(), 64), 32) for one in EVERY]).astype(np.float32)
        apart = [float(np.abs(small[a] - small[b]).mean()) for a, b in combinations(range(len(EVERY)), 2)]
        assert min(apart) > 1.5

    def test_every_trait_asked_for_can_be_seen_to_change(self) -> None:
        for one in PEOPLE[::9]:
            for svgs in one.alternatives().values():
                own, *others = (characters.draw(svg, 128).astype(int) for svg in svgs)
                assert others
                assert all((np.abs(own - other).max(axis=2) > 40).sum() > 20 for other in others)

    def test_no_colour_is_left_open(self) -> None:
        assert all("{" not in svg for one in PEOPLE[::9] for svgs in one.alternatives().values() for svg in svgs)

    def test_each_ground_is_what_it_says(self) -> None:
        drawing = characters.draw(PEOPLE[3].drawn(), 96)
        none, plain, busy = (characters.picture_of(drawing, ground, 1) for ground in ("alpha", "plain", "busy"))
        behind = drawing[..., 3] == 0
        assert not none[behind][:, 3].any()
        assert plain[..., 3].min() == busy[..., 3].min() == 255
        assert len(np.unique(plain[behind], axis=0)) == 1
        assert len(np.unique(busy[behind], axis=0)) > 20
        assert np.array_equal(busy, characters.picture_of(drawing, "busy", 1))

    def test_changed_data_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("meta.json", characters.FILE):
            (tmp_path / name).write_bytes((characters.FOLDER / name).read_bytes())
        (tmp_path / characters.FILE).write_bytes(b"other")
        monkeypatch.setattr(characters, "FOLDER", tmp_path)
        with pytest.raises(ModelUnusable, match="is not the one of its meta"):
            characters.load.__wrapped__()


class TestWhere:
    @pytest.mark.parametrize("corner", [(0, 0), (31, 12), (-9, -9)])
    def test_a_cut_out_is_found_in_its_picture(self, corner: tuple[int, int]) -> None:
        picture = characters.picture_of(characters.draw(PEOPLE[40].drawn()), "busy", 4)
        rows, columns = (np.arange(start, start + 340) for start in corner)
        cutout = picture[np.ix_(rows.clip(0), columns.clip(0))].copy()
        cutout[:, (columns < 0) | (columns > 380)] = (255, 255, 255, 255)
        assert traits.corner_of(cutout, picture) == corner

    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("ground", ["alpha", "plain"])
    def test_the_stage_draws_the_true_character_where_the_draft_draws_the_reference(
        self, bank: Bank, flip: bool, ground: characters.Ground
    ) -> None:
        reference = characters.picture_of(characters.draw(PEOPLE[12].drawn()), ground, 2)
        cutout = trimmed(reference)
        scene = scene_with(Reference(x=0.4, y=0.92, height=0.55, flip=flip), time="sunset")
        item = scene.items[0]
        assert isinstance(item, Reference)
        spot = traits.spot(item, cutout, traits.corner_of(cutout, reference), 1.0)
        stage = traits.stage(scene, 0, spot, 1.0, bank, [cutout])
        height, width = stage.behind.shape[:2]
        drafted = compose(scene, 1.0, bank, [cutout]).draw(width, height)
        assert np.abs(traits.pixels(stage.shows(PEOPLE[12].drawn())).astype(int) - drafted).mean() < 1.5


class TestTraits:
    @pytest.mark.parametrize("facts", [{}, {"time": "night"}, {"weather": "snow"}])
    def test_the_true_drawing_keeps_every_trait(self, bank: Bank, facts: dict[str, str]) -> None:
        for number in (5, 42):
            stage, _ = staged(number, bank, flip=number == 42, **facts)
            kept = traits.kept([traits.pixels(stage.shows(PEOPLE[number].drawn()))], PEOPLE[number], stage)[0]
            assert kept
            assert all(kept.values()), (PEOPLE[number].name, kept)

    def test_a_changed_trait_is_lost_and_the_others_are_kept(self, bank: Bank) -> None:
        for number in (30, 85):
            one = PEOPLE[number]
            stage, _ = staged(number, bank)
            changed = {trait: traits.pixels(stage.shows(svgs[1])) for trait, svgs in one.alternatives().items()}
            for trait, kept in zip(changed, traits.kept(list(changed.values()), one, stage), strict=True):
                assert not kept[trait]
                if trait.endswith("colour"):  # a beard has the hair's colour, so shapes may hide colours
                    assert all(good for other, good in kept.items() if other != trait), (one.name, trait, kept)

    def test_another_colour_of_light_changes_no_verdict(self, bank: Bank) -> None:
        stage, _ = staged(60, bank)
        warm = stage.shows(PEOPLE[60].drawn()) * np.array([0.9, 0.75, 0.55], np.float32) + 0.05
        assert all(traits.kept([traits.pixels(warm)], PEOPLE[60], stage)[0].values())

    def test_other_characters_keep_traits_by_chance_only(self, bank: Bank) -> None:
        verdicts: dict[str, list[bool]] = {}
        for number in range(0, 100, 11):
            stage, _ = staged(number, bank)
            other = PEOPLE[(number + 37) % 100]
            (kept,) = traits.kept([traits.pixels(stage.shows(other.drawn()))], PEOPLE[number], stage)
            for trait, good in kept.items():
                verdicts.setdefault(trait, []).append(good)
        colours = [good for trait, goods in verdicts.items() if trait.endswith("colour") for good in goods]
        assert np.mean(colours) < 0.35
        assert np.mean([good for goods in verdicts.values() for good in goods]) < 0.5


class TestIdentity:
    def test_features_have_length_one_and_are_the_same_each_time(self, identity: Identity) -> None:
        drawings = [characters.draw(one.drawn()) for one in EVERY[:3]]
        features = identity.gallery(drawings)
        assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-4)
        assert np.array_equal(features, identity.gallery(drawings))
        assert np.allclose(features[1], identity.gallery(drawings[1:2])[0], atol=1e-5)

    def test_the_true_drawings_in_a_scene_are_nearest_to_their_own_references(
        self, identity: Identity, bank: Bank
    ) -> None:
        gallery = identity.gallery([characters.draw(one.drawn(), 128) for one in PEOPLE])
        places, shuffled = [], []
        for number in range(0, 100, 8):
            stage, spot = staged(number, bank)
            picture = traits.pixels(stage.shows(PEOPLE[number].drawn()))
            look = of_picture(picture, *references.box_of(PEOPLE[number], spot), spot.flip)
            feature = identity.features([look])[0]
            places.append(rank(feature, gallery, number))
            shuffled.append(rank(feature, gallery, (number + 37) % 100))
        assert np.mean(np.array(places) == 0) >= 0.9
        assert np.mean(np.array(shuffled) == 0) <= 0.1

    def test_rank_counts_the_nearer_ones(self) -> None:
        gallery = np.eye(3, dtype=np.float32)
        query = np.array([0.1, 0.7, 0.2], np.float32)
        assert [rank(query, gallery, own) for own in range(3)] == [2, 0, 1]

    def test_a_look_beyond_the_edge_goes_on_as_the_edge_is(self) -> None:
        picture = np.full((40, 40, 3), 7, np.uint8)
        assert (of_picture(picture, -0.5, 0.8, 0.7, 0.6, flip=False) == 7).all()

    def test_a_mirrored_subject_is_looked_at_as_its_reference_is(self) -> None:
        picture = np.zeros((SIDE, SIDE, 3), np.uint8)
        picture[:, : SIDE // 2] = 255
        plain, mirrored = (of_picture(picture, 0.1, 0.1, 0.8, 0.8, flip=flip) for flip in (False, True))
        assert np.array_equal(plain, mirrored[:, ::-1])
        assert not np.array_equal(plain, mirrored)


class Painter:
    """A pipeline that paints scenes flat: each reference in a park, or what `instead` says in its place."""

    name, fingerprint, max_batch = "flat", "flat", 1

    def __init__(self, bank: Bank, shift: int = 0) -> None:
        self.bank, self.shift = bank, shift

    def encode(self, request: Request) -> Encoded:
        own = next(one for one in EVERY if one.name == request.id)
        self.cut = trimmed(characters.picture_of(characters.draw(own.drawn()), "alpha", 0))
        scene = scene_with(Reference(x=0.5, y=0.95, height=0.7))
        return Encoded(Key("m", (3, 16, 16), 1), schedule(1), 1.0, 1.0, None, plan=scene.model_dump(mode="json"))

    def evaluate(self, batch: Batch) -> Float32:
        return np.zeros_like(batch.x)

    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        number = next(k for k, one in enumerate(EVERY) if one.name == request.id)
        shown = EVERY[(number + self.shift) % 100]
        reference = characters.picture_of(characters.draw(shown.drawn()), "alpha", 0)
        scene = Scene.model_validate(encoded.plan)
        return compose(scene, 1.0, self.bank, [trimmed(reference)]).draw(request.width, request.height)

    def cutouts(self, references: tuple[UInt8, ...]) -> tuple[UInt8, ...]:
        return (self.cut,)


@pytest.fixture(scope="module")
def true(bank: Bank) -> references.Result:
    return references.evaluate(Painter(bank), 8, 2)


class TestTask:
    def test_a_painter_that_keeps_everything_is_told_so(self, true: references.Result) -> None:
        assert (true.first.asked, true.things_first.asked) == (8, 2)
        assert true.kept.value > 0.93
        assert true.first.value > 0.8
        assert true.kept_ceiling.value > 0.97
        assert true.cut > 0.97

    def test_a_painter_that_paints_somebody_else_is_told_so(self, bank: Bank) -> None:
        other = references.evaluate(Painter(bank, shift=37), 8, 0)
        assert other.first.value <= 0.1
        assert other.kept.value < 0.55

    def test_results_add_up_by_any_key_and_by_trait(self, true: references.Result) -> None:
        groups = true.by(lambda case: case.ground)
        assert {"alpha", "plain", "busy"} >= set(groups)
        assert sum(kept.asked for kept, _ in groups.values()) == true.kept.asked
        assert sum(first.right for _, first in groups.values()) == true.first.right + true.things_first.right
        assert sum(share.right for share in true.by_trait().values()) == true.kept.right

    def test_progress_is_told_to_the_end(self, bank: Bank) -> None:
        told: list[tuple[int, int]] = []
        references.evaluate(Painter(bank), 2, 1, progress=lambda done, total: told.append((done, total)))
        assert told == [(1, 3), (2, 3), (3, 3)]

    def test_a_pipeline_without_a_plan_is_refused(self, bank: Bank) -> None:
        class Secretive(Painter):
            def encode(self, request: Request) -> Encoded:
                return Encoded(Key("m", (3, 16, 16), 1), schedule(1), 1.0, 1.0, None)

            def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
                return np.zeros((request.height, request.width, 3), np.uint8)

        with pytest.raises(ValueError, match="gives none"):
            references.evaluate(Secretive(bank), 1, 0)

    def test_the_sheet_shows_every_case(self, true: references.Result) -> None:
        page = references.sheet(true.cases, columns=3, side=64)
        assert page.shape == (4 * (64 + 34), 3 * (2 * 64 + 8), 3)
        for number in range(10):
            y, x = number // 3 * 98, number % 3 * 136
            assert page[y : y + 64, x + 64 : x + 128].std() > 5
