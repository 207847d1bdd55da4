"""Draws a person of a scene: a paper doll of bones (angles from a pose table), clothes over them, and a head.

The doll is built in its own units, about 900 for a grown-up, then scaled so that it is 1000 high as drawn, hat and
raised hands included. Light comes from the upper left and the doll looks a little to the right; the caller mirrors it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import acos, atan2, cos, degrees, hypot, radians, sin

from limner.painter import people_clothes as clothes
from limner.painter import people_head as heads
from limner.painter import people_props as props
from limner.painter.colours import SHADES, SKINS, luminance, shade, tint
from limner.painter.people_pen import Pen, Point, Spine, ellipse, ink, spine, step, tube
from limner.painter.people_tops import draw_trunk
from limner.painter.scene import Person, Pose, Top

HEIGHT = 1000.0


@dataclass(frozen=True)
class Figure:
    """A drawn person: an SVG fragment without root or ids, in a tight box of `width` by 1000 units.

    The lowest point (soles, or the stool's feet) is at y = 1000 and the highest at y = 0. `face` is the centre and the
    radius of the face in the same units.
    """

    svg: str
    width: float
    face: tuple[float, float, float]


@dataclass(frozen=True)
class Body:
    """Lengths and radii of the bones, in the doll's units."""

    head: float
    trunk: clothes.Trunk
    throat: float
    arm: tuple[float, float]
    leg: tuple[float, float]
    arm_radii: tuple[float, float, float]
    leg_radii: tuple[float, float, float]
    foot: float
    lean: float = 0.0


_WOMAN = Body(
    head=83, trunk=clothes.Trunk(torso=256, shoulder=64, waist=50, hip=66, neck=22), throat=12, arm=(126, 114),
    leg=(204, 192), arm_radii=(22, 18, 14), leg_radii=(38, 28, 19), foot=0.95,
)  # fmt: skip
_MAN = Body(
    head=84, trunk=clothes.Trunk(torso=268, shoulder=83, waist=68, hip=66, neck=29), throat=8, arm=(132, 118),
    leg=(208, 196), arm_radii=(28, 23, 18), leg_radii=(40, 31, 23), foot=1.12,
)  # fmt: skip
_GIRL = Body(
    head=88, trunk=clothes.Trunk(torso=172, shoulder=52, waist=47, hip=53, neck=18), throat=2, arm=(92, 82),
    leg=(112, 104), arm_radii=(20, 17, 14), leg_radii=(31, 25, 19), foot=0.85,
)  # fmt: skip
BODIES: dict[tuple[str, str], Body] = {
    ("adult", "feminine"): _WOMAN,
    ("adult", "masculine"): _MAN,
    ("child", "feminine"): _GIRL,
    ("child", "masculine"): replace(
        _GIRL, trunk=clothes.Trunk(torso=174, shoulder=57, waist=52, hip=52, neck=20), arm_radii=(21, 18, 15), foot=0.92
    ),
    ("elder", "feminine"): replace(
        _WOMAN, trunk=clothes.Trunk(torso=232, shoulder=64, waist=60, hip=70, neck=23), leg=(178, 168), throat=2, lean=6
    ),
    ("elder", "masculine"): replace(
        _MAN, trunk=clothes.Trunk(torso=240, shoulder=80, waist=76, hip=70, neck=29), leg=(182, 172), throat=0, lean=6
    ),
}


@dataclass(frozen=True)
class Arm:
    """Angles of the upper and lower arm, in degrees from straight down, and whether it is drawn over the trunk.

    With `reach` the angles follow from where the hand is: in shoulder widths outwards from the middle and torso
    lengths up from the hips.
    """

    upper: float = 0.0
    lower: float = 0.0
    over: bool = True
    reach: Point | None = None


@dataclass(frozen=True)
class Leg:
    """Angles of thigh and shin, the foot's tilt (toes down is positive) and its length (negative: to the left)."""

    upper: float
    lower: float
    tilt: float = 0.0
    foot: float = 1.0


@dataclass(frozen=True)
class Stance:
    """A pose. The first arm and leg are the near ones, on the left of the picture."""

    arms: tuple[Arm, Arm]
    legs: tuple[Leg, Leg] = (Leg(-4, -2, foot=-0.8), Leg(4, 2, foot=1.0))
    lean: float = 0.0
    nod: float = 0.0  # of the head, clockwise
    turn: float = 1.0  # how wide the trunk looks
    seat: bool = False


STANCES: dict[Pose, Stance] = {
    "standing": Stance((Arm(-15, -5), Arm(15, 5))),
    "walking": Stance(
        (Arm(-34, -8), Arm(30, 62, over=False)), (Leg(-20, -40, tilt=30), Leg(27, 13, tilt=-10)), lean=3, turn=0.86
    ),
    "running": Stance(
        (Arm(-62, 28), Arm(52, 138, over=False)), (Leg(-32, -96, tilt=78), Leg(64, 2, tilt=-12)), lean=13, nod=-6,
        turn=0.84,
    ),
    "sitting": Stance((Arm(-4, 52), Arm(26, 48)), (Leg(62, -4), Leg(76, 8)), turn=0.92, seat=True),
    "waving": Stance((Arm(-15, -5), Arm(116, 158)), nod=5),
    "arms-up": Stance((Arm(-134, -160), Arm(134, 160))),
    "hands-on-hips": Stance(
        (Arm(reach=(0.92, 0.1)), Arm(reach=(0.92, 0.1))), (Leg(-8, -6, foot=-0.8), Leg(8, 6, foot=1.0))
    ),
    "reading": Stance((Arm(reach=(0.74, 0.42)), Arm(reach=(0.74, 0.42))), nod=4),
}  # fmt: skip

_SHOES: dict[Top, str] = {
    "t-shirt": "#e8e8ee", "shirt": "#7a4a2c", "sweater": "#9a5a34", "jacket": "#4a4048", "dress": "#c8464e",
    "hoodie": "#e8e8ee", "suit": "#26252c", "coat": "#5a3a2a", "robe": "#6b4a30", "armor": "#9aa1ad",
}  # fmt: skip


def draw(person: Person) -> Figure:
    """The person as a figure. The same person always gives the same string. Raises nothing for a valid person."""
    body, stance = BODIES[person.age, person.build], STANCES[person.pose]
    doll = _Doll(person, body, stance)
    pen = Pen()
    face = doll.draw(pen)
    scale = HEIGHT / (pen.bottom - pen.top)
    width = (pen.right - pen.left) * scale
    svg = f'<g transform="matrix({scale:.5f} 0 0 {scale:.5f} {-pen.left * scale:.2f} {-pen.top * scale:.2f})">'
    x, y, r = face
    return Figure(svg + "".join(pen.parts) + "</g>", width, ((x - pen.left) * scale, (y - pen.top) * scale, r * scale))


def _reach(shoulder: Point, hand: Point, lengths: tuple[float, float], side: int) -> tuple[float, float]:
    """Angles of a two-bone arm with its hand at a point and its elbow out to the side, by the law of cosines."""
    dx, dy = hand[0] - shoulder[0], hand[1] - shoulder[1]
    a, b = lengths
    far = min(max(hypot(dx, dy), abs(a - b) + 1), a + b - 1)
    towards = degrees(atan2(dx, dy))
    at_shoulder = degrees(acos((a * a + far * far - b * b) / (2 * a * far)))
    at_elbow = degrees(acos((a * a + b * b - far * far) / (2 * a * b)))
    upper = towards + side * at_shoulder
    return upper, upper - side * (180 - at_elbow)


class _Doll:
    """One person's joints, and the order in which the parts are drawn."""

    def __init__(self, person: Person, body: Body, stance: Stance) -> None:
        self.person, self.body, self.stance = person, body, stance
        trunk = body.trunk
        self.trunk = replace(
            trunk, shoulder=trunk.shoulder * stance.turn, waist=trunk.waist * stance.turn, hip=trunk.hip * stance.turn
        )
        self.lean = stance.lean + (body.lean if not stance.seat else 0.6 * body.lean)
        self.skin = SKINS[person.skin]
        self.top, self.bottom = clothes.TOPS[person.top], clothes.BOTTOMS[person.bottom]
        self.legs = [self._leg(i) for i in (0, 1)]
        self.angles = [0.0, 0.0]
        self.arms = [self._arm(i) for i in (0, 1)]
        self.ground = max(self._ankle(i)[1] for i in (0, 1)) + 28 * body.foot

    def _leg(self, i: int) -> Spine:
        leg, side = self.stance.legs[i], (-1, 1)[i]
        hip = (side * (self.trunk.hip - self.body.leg_radii[0]), 4.0)
        knee = step(hip, leg.upper, self.body.leg[0])
        return spine(hip, knee, step(knee, leg.lower, self.body.leg[1]), self.body.leg_radii)

    def _ankle(self, i: int) -> Point:
        x, y, _ = self.legs[i][-1]
        return x, y

    def _arm(self, i: int) -> Spine:
        arm, side = self.stance.arms[i], (-1, 1)[i]
        r = self.body.arm_radii[0]
        shoulder = self._on_trunk(side * (self.trunk.shoulder - 0.5 * r), -self.trunk.torso + 0.95 * r + 4)
        upper, lower = arm.upper - 0.5 * self.body.lean, arm.lower
        if arm.reach:
            hand = self._on_trunk(side * arm.reach[0] * self.trunk.shoulder, -arm.reach[1] * self.trunk.torso)
            upper, lower = _reach(shoulder, hand, self.body.arm, side)
        self.angles[i] = lower
        elbow = step(shoulder, upper, self.body.arm[0])
        return spine(shoulder, elbow, step(elbow, lower, self.body.arm[1]), self.body.arm_radii)

    def _on_trunk(self, x: float, y: float) -> Point:
        co, si = cos(radians(self.lean)), sin(radians(self.lean))
        return x * co - y * si, x * si + y * co

    def draw(self, pen: Pen) -> tuple[float, float, float]:
        """Everything, farthest first; returns the face's circle."""
        person, head = self.person, self.body.head / 100
        neck = -self.trunk.torso - self.body.throat
        top = self._on_trunk(0.02 * self.body.head, neck)
        centre = (top[0] + (10 if person.age == "elder" else 0), top[1] - 0.9 * self.body.head)
        nod = self.stance.nod + 0.4 * self.lean
        with pen.frame(*centre, angle=nod, sx=head, sy=head):
            heads.draw_behind(pen, person)
        if self.stance.seat:
            props.stool(pen, self.trunk.hip + 26, self.body.leg_radii[0] + 8, self.ground)
        for i in (1, 0):
            if not self.stance.arms[i].over:
                self._draw_arm(pen, i)
        self._lower(pen)
        with pen.frame(0, 0, angle=self.lean):
            n, t = self.trunk.neck, self.trunk.torso
            pen.fill(
                f"M {-n},{-t + 12} L {-n + 2},{neck - 26} L {n - 2},{neck - 26} L {n},{-t + 12} Z",
                shade(self.skin, 0.12),
            )
            draw_trunk(pen, person, self.trunk)
        with pen.frame(*centre, angle=nod, sx=head, sy=head):
            heads.draw_head(pen, person)
        raised = [abs(angle) > 100 for angle in self.angles]
        for before in (True, False):
            for i in (1, 0):
                if raised[i] == before:
                    with pen.frame(*centre, angle=nod, sx=head, sy=head):
                        heads.draw_braid(pen, person, (-1, 1)[i])
            if before:
                for i in (1, 0):
                    if self.stance.arms[i].over:
                        self._draw_arm(pen, i)
        if person.pose == "reading":
            cover = SHADES["red" if person.top_colour not in ("red", "pink", "orange") else "teal"]
            props.book(pen, (self.arms[0], self.arms[1]), cover, self.skin)
        return centre[0], centre[1], self.body.head

    def _draw_arm(self, pen: Pen, i: int) -> None:
        if i == 1 and self.person.age == "elder" and self.person.pose == "standing":
            props.cane(pen, *self.arms[1][-1][:2], self.ground)
        colour, bare = SHADES[self.person.top_colour], self.top.sleeve < 0.92
        if not bare:
            self._hand(pen, i)
        clothes.limb(pen, self.arms[i], self.skin, self.top, colour)
        if bare:
            self._hand(pen, i)
        if self.stance.arms[i].over and self.person.top != "armor":
            # hides the seam between sleeve and trunk
            (x, y, r), side = self.arms[i][0], (-1, 1)[i]
            with pen.frame(x, y, angle=self.lean):
                pen.fill(ellipse(-side * 0.42 * r, 0.1 * r, 0.85 * r, 0.8 * r), colour, outline=False)

    def _hand(self, pen: Pen, i: int) -> None:
        """A mitt with a thumb, which points to the middle of the body."""
        (x, y, r), angle = self.arms[i][-1], self.angles[i]
        side = (1, -1)[i] * (-1 if abs(angle) > 90 else 1)
        with pen.frame(x, y, angle=-angle, sx=side * r, sy=r):
            pen.fill("M 0.4,0.3 C 1.1,0.2 1.9,0.9 1.8,1.7 C 1.75,2.2 1.15,2.2 1.05,1.6 L 0.6,1.2 Z", self.skin)
            pen.fill("M -0.92,-0.3 C -1.4,0.8 -1.25,2.6 -0.1,2.65 C 1.1,2.6 1.3,1 0.92,-0.3 Z", self.skin)
            pen.fill("M -0.78,-0.6 L 0.8,-0.6 C 1.1,0.2 1.35,0.8 1.2,1.2 L -0.9,0.6 Z", self.skin, outline=False)
            pen.line("M -0.4,1.8 L -0.36,2.35 M 0.18,1.8 L 0.2,2.35", shade(self.skin, 0.18), 0.16)

    def _lower(self, pen: Pen) -> None:
        """Legs, shoes and what covers them."""
        person, trunk = self.person, self.trunk
        colour, top_colour = SHADES[person.bottom_colour], SHADES[person.top_colour]
        dressed = person.top == "dress"
        cut = None if dressed or self.bottom.skirt else self.bottom
        for i in (1, 0):
            if cut is None or cut.sleeve < 0.9:
                clothes.bare(pen, self.legs[i], self.skin)
                self._sock(pen, i)
            self._shoe(pen, i)
            if cut:
                clothes.sleeve(pen, self.legs[i], cut, colour)
                self._seams(pen, i, colour)
        if cut:
            h = trunk.hip
            with pen.frame(0, 0, angle=0.5 * self.lean):
                pen.fill(
                    f"M {-0.8 * trunk.waist},{-0.3 * trunk.torso} L {0.8 * trunk.waist},{-0.3 * trunk.torso}"
                    f" C {h},{-40} {h + 2},-10 {h + 1},14"
                    f" C {0.6 * h},34 {0.2 * h},40 3,44 C {-0.2 * h},40 {-0.6 * h},34 {-h - 1},14"
                    f" C {-h - 2},-10 {-h},-40 {-0.8 * trunk.waist},{-0.3 * trunk.torso} Z",
                    colour, outline=False,
                )  # fmt: skip
                pen.line("M 4,10 L 4,42", ink(colour), 3.5)
        elif not self.top.skirt:
            clothes.skirt(pen, trunk, self.legs, self.bottom, colour, lean=self.lean)
        if self.top.skirt:
            clothes.skirt(pen, trunk, self.legs, self.top, top_colour, lean=self.lean)

    def _seams(self, pen: Pen, i: int, colour: str) -> None:
        """The crease of trousers, the stitching of jeans."""
        if self.person.bottom == "shorts":
            return
        line = SHADES["gold"] if self.person.bottom == "jeans" else ink(colour, 0.16)
        offset = 0.55 if self.person.bottom == "jeans" else 0.1
        pts = [(x + offset * r, y) for x, y, r in self.legs[i][3:-4]]
        pen.line("M " + " L ".join(f"{x:.1f},{y:.1f}" for x, y in pts), line, 3)

    def _sock(self, pen: Pen, i: int) -> None:
        if self.person.top in ("dress", "robe", "coat"):
            return
        outline, _ = tube(self.legs[i], 0.86, 1.0, (2, 2), caps="||")
        pen.fill(outline, "#f4f4f6")

    def _shoe(self, pen: Pen, i: int) -> None:
        leg = self.stance.legs[i]
        colour = _SHOES[self.person.top]
        if abs(luminance(colour) - luminance(SHADES[self.person.bottom_colour])) < 0.06:
            colour = tint(colour, 0.35) if luminance(colour) < 0.5 else shade(colour, 0.35)
        x, y = self._ankle(i)
        sign = 1 if leg.foot > 0 else -1
        f = self.body.foot
        with pen.frame(x, y, angle=sign * leg.tilt, sx=f * leg.foot, sy=f):
            pen.fill(
                "M -20,-16 C -8,-10 8,-10 19,-16 C 22,0 36,4 50,10 C 64,16 64,28 54,28 L -22,28"
                " C -28,28 -24,6 -20,-16 Z",
                colour,
            )
            pen.line("M -21,25 L 55,25", "#f2f2f2" if luminance(colour) < 0.75 else "#5b6a86", 6)
            if self.person.top in ("t-shirt", "hoodie", "sweater"):
                pen.line("M 16,0 L 26,-4 M 24,6 L 33,0", "#dc3b3b" if luminance(colour) > 0.6 else "#f7f7f7", 4.5)


__all__ = ["BODIES", "HEIGHT", "STANCES", "Figure", "draw"]
