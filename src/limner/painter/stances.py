"""The shapes of the bodies that `limner.painter.bodies` puts under faces: stances, tails and coats.

One frame for all: the ground is y = 200, the middle of a body that sits is x = 0, a head is about 100 units large.
Sources: none; the shapes are Limner's own.
"""

from __future__ import annotations

from dataclasses import dataclass

GROUND = 200.0


@dataclass(frozen=True, slots=True)
class Part:
    """One shape: whose colour it has, its path, and whether its mirror image is drawn too."""

    role: str  # a key of the palette, or "shadow"
    path: str
    twin: bool = False
    line: float = 0.0  # width of a stroke along the path, 0 for a filled shape


@dataclass(frozen=True, slots=True)
class Stance:
    """A body without its head and tail."""

    parts: tuple[Part, ...]
    sides: tuple[float, float]  # its leftmost and rightmost x
    head: tuple[float, float]  # the middle of the head's lower edge
    tail: tuple[float, float]  # where a tail begins


@dataclass(frozen=True, slots=True)
class Tail:
    """What a body has behind it; its root is at (0, 0) and it leads to the right."""

    parts: tuple[Part, ...]
    reach: float  # its rightmost x
    left: float = 0.0  # its leftmost x, where that matters: wings


def _oval(x: float, y: float, rx: float, ry: float) -> str:
    return f"M{x - rx:g} {y:g}a{rx:g} {ry:g} 0 1 0 {2 * rx:g} 0a{rx:g} {ry:g} 0 1 0 {-2 * rx:g} 0z"


def _leg(left: float, right: float, top: float, role: str, hoof: float = 10) -> tuple[Part, Part]:
    """A leg down to the ground, its ankle a little narrower, and the hoof or paw at its end."""
    inset = 0.1 * (right - left)
    ground, knee, a, b = GROUND, GROUND - hoof, left + inset / 2, right - inset / 2
    toe = f"M{a:g} {knee:g}H{b:g}L{right:g} {ground - 3:g}Q{right:g} {ground:g} {right - 3:g} {ground:g}"
    heel = f"H{left + 2:g}Q{left - 1:g} {ground:g} {left - 1:g} {ground - 3:g}Z"
    calf = f"M{left:g} {top:g}H{right:g}L{right - inset:g} {ground - 3:g}H{left + inset:g}Z"
    return Part(role, calf), Part("foot", toe + heel)


# Sitting upright like a dog: forelegs together in front, thighs at the sides, a shaggy bib.
SIT = (
    Part("dark", _oval(27, 174, 20, 24), twin=True),
    Part("foot", "M20 200C16 200 16 188 30 187C44 187 49 192 48 197C48 199 46 200 44 200Z", twin=True),
    Part("fur", "M-24 90C-26 118-33 142-33 166C-33 188-24 198 0 198C24 198 33 188 33 166C33 142 26 118 24 90Z"),
    Part("belly", "M-21 94C-23 122-18 140-11 150L-6.5 144L0 156L6.5 144L11 150C18 140 23 122 21 94Z"),
    Part("shadow", _oval(0, 106, 25, 14)),
    Part("shadow", "M-2 200C-2 184-1 170 0 162C1 170 2 184 2 200Z"),
    Part("shadow", "M18 160C20 172 20 184 19.5 193C24 190 27 184 27 176C27 168 23 162 18 160Z", twin=True),
    Part(
        "foot",
        "M2.5 192C2.5 184 20 184 20.5 192V195C20.5 198 18 200 15 200H8C5 200 2.5 198 2.5 195Z",
        twin=True,
    ),
)
# Sitting like a teddy: round, arms at the sides, soles to the front.
PLUSH = (
    Part("fur", "M0 88C28 88 41 124 41 156C41 186 25 199 0 199C-25 199-41 186-41 156C-41 124-28 88 0 88Z"),
    Part("belly", _oval(0, 157, 26, 33)),
    Part("shadow", _oval(0, 106, 29, 13)),
    Part("limb", "M23 100C42 102 56 124 55 146C54 159 38 161 34 150C31 138 27 128 19 120Z", twin=True),
    Part("foot", _oval(31, 183, 19, 17), twin=True),
    Part("pad", _oval(31.5, 188, 9, 7.5), twin=True),
    Part("pad", _oval(22, 178, 3, 3.4) + _oval(31, 174, 3, 3.4) + _oval(40, 177, 3, 3.4), twin=True),
)
# Squatting: folded hind legs, hands between them on the ground.
SQUAT = (
    Part("dark", "M28 130C52 126 66 148 64 172C62 192 40 198 28 190C14 182 12 134 28 130Z", twin=True),
    Part(
        "limb",
        "M24 200C22 190 44 189 52 189C58 186 61 188 61 190C66 187 70 189 69 192"
        "C75 191 77 195 74 198C73 200 70 200 68 200Z",
        twin=True,
    ),
    Part("fur", "M0 98C32 98 40 130 40 158C40 186 24 198 0 198C-24 198-40 186-40 158C-40 130-32 98 0 98Z"),
    Part("belly", _oval(0, 152, 28, 43)),
    Part("shadow", _oval(0, 120, 34, 13)),
    Part(
        "fur",
        "M28 132C40 140 36 166 29 184L34 194C35 200 31 200 28 199L24 196L22 199"
        "C20 200 17 200 16 199L14 196L11 198C8 200 5 198 7 195L14 184C16 166 16 150 20 138Z",
        twin=True,
    ),
)
# Standing on four hooves, seen from the side, to the left; the head looks at us or to the left.
HOOFED = (
    *_leg(-12, 4, 150, "dark"),
    *_leg(36, 52, 150, "dark"),
    *_leg(-39, -21, 148, "fur"),
    *_leg(58, 76, 140, "fur"),
    Part("fur", "M-46 124C-46 96-22 90 6 90H44C66 90 78 104 78 128C78 156 64 170 42 170H-12C-36 170-46 152-46 124Z"),
    Part("belly", "M-26 166C-8 154 42 154 60 165C55 169 49 170 42 170H-12C-17 170-22 169-26 166Z"),
    Part("shadow", "M-46 114C-30 124 10 126 26 100C22 136-6 142-22 140C-36 138-44 128-46 114Z"),
)
# The same with longer legs and a chest that carries a neck.
HORSE = (
    *_leg(-17, -3, 150, "dark", 9),
    *_leg(46, 60, 146, "dark", 9),
    *_leg(-40, -24, 140, "fur", 9),
    *_leg(64, 80, 130, "fur", 9),
    Part(
        "fur",
        "M-26 84C-30 108-48 116-47 134C-46 154-34 163-16 163H50C70 163 81 148 81 128"
        "C81 108 66 99 48 100C32 101 22 98 12 88Z",
    ),
    Part("belly", "M-22 161C-4 152 36 152 52 162C51 163 50 163 50 163H-16C-18 163-20 162-22 161Z"),
)
HEN = (
    Part("foot", "M2 168L2 192", line=5),
    Part("foot", "M26 168L26 192", line=5),
    Part(
        "foot",
        "M2 188L-10 197.5M2 188L2 197.5M2 188L13 197.5M26 188L14 197.5M26 188L26 197.5M26 188L37 197.5",
        line=5,
    ),
    Part("fur", "M-36 96C-48 132-36 176 14 178C62 178 74 136 82 92C84 84 76 82 70 88C58 100 40 106 24 92Z"),
    Part("dark", "M4 128C22 116 50 122 66 128C58 150 40 162 24 160C10 158 2 144 4 128Z"),
    Part("limb", "M70 88C76 82 84 84 82 92L77 112C72 106 66 108 60 104C62 98 66 92 70 88Z"),
)
# Standing on two legs, arms at the sides: robots, aliens, ogres and the like.
STAND = (
    Part("limb", "M5 150H25V190H5Z", twin=True),
    Part("foot", "M3 187H23C32 187 35 193 35 197C35 199 34 200 32 200H5C4 200 3 199 3 197Z", twin=True),
    Part("limb", "M22 104C42 104 53 122 54 143C54 152 42 153 40 145C37 133 32 128 22 126Z", twin=True),
    Part("pad", _oval(47, 150, 9, 9), twin=True),
    Part("fur", "M-27 102H27C34 120 35 146 31 164C16 170-16 170-31 164C-35 146-34 120-27 102Z"),
    Part("belly", "M-16 122H16C18 132 18 142 16 150H-16C-18 142-18 132-16 122Z"),
    Part("shadow", _oval(0, 107, 25, 10)),
)
STANCES = {
    "sit": Stance(SIT, (-48, 48), (0, 112), (24, 184)),
    "plush": Stance(PLUSH, (-55, 55), (0, 114), (26, 180)),
    "squat": Stance(SQUAT, (-76, 76), (0, 126), (0, 180)),
    "hoofed": Stance(HOOFED, (-46, 79), (-24, 126), (72, 108)),
    "horse": Stance(HORSE, (-47, 81), (-22, 124), (74, 112)),
    "stand": Stance(STAND, (-56, 56), (0, 116), (0, 184)),
    "hen": Stance(HEN, (-42, 83), (-14, 122), (0, 0)),
}
TAILS = {
    "none": Tail((), 0),
    "bushy": Tail((
        Part("fur", "M-10 8C16 18 50 6 51-28C51-48 43-60 37-68C22-56 10-34-8-18Z"),
        Part("tip", "M37-68C43-60 51-48 51-28L44-35L39-27L33-36L26-30L21-42C26-52 32-62 37-68Z"),
    ), 51),
    "striped": Tail((
        Part("fur", "M0 4C26 8 38-8 36-36", line=12),
        Part("mane", "M31.5-29L41-30M29-14L41-10M19-3L27 8", line=4),
    ), 43),
    "tufted": Tail((
        Part("fur", "M0 4C26 8 38-8 36-36", line=7),
        Part("mane", "M35-66C50-54 49-36 36-30C23-36 23-52 35-66Z"),
    ), 46),
    "wagging": Tail((Part("fur", "M0 4C16 4 28-8 36-26", line=12),), 42),
    "curled": Tail((Part("fur", "M0 6C30 14 46-4 44-28C42-46 22-44 24-30C25-22 33-22 34-28", line=8),), 48.5),
    "thin": Tail((Part("pad", "M0 14C30 20 40 8 40-8C40-22 52-26 58-18", line=5),), 61),
    "cotton": Tail((Part("tip", _oval(21, -13, 13, 13)),), 34),
    "piggy": Tail((Part("limb", "M2 6C14 6 20-2 16-8C12-13 6-7 10-1C14 6 24 4 27-4", line=5),), 29.5),
    "cow": Tail((Part("fur", "M-2-6C14-10 18 6 17 32", line=6), Part("mane", _oval(17, 40, 7, 12))), 24),
    "flowing": Tail((
        Part("mane", "M-10-6C16-18 32 6 28 36C27 54 32 62 38 68C18 72 4 60 6 38C7 22 4 12-8 10Z"),
        Part("tip", "M0-2C16-4 22 12 20 36C19 52 24 60 30 67C18 66 10 56 12 38C13 18 10 8 0 6Z"),
    ), 38),
    "short": Tail((Part("fur", "M-8-6C8-12 16 0 14 16C6 18-4 12-8 8Z"),), 15),
    "drake": Tail((
        Part("mane", "M0-56C8-84 30-98 56-98C51-90 50-83 53-75C45-76 39-72 37-64C30-67 24-64 20-57Z"),
        Part("mane", "M-52-56C-60-84-82-98-108-98C-103-90-102-83-105-75C-97-76-91-72-89-64C-82-67-76-64-72-57Z"),
        Part("fur", "M-6 6C30 16 40 4 40-14L46-12C52 8 40 27-6 15Z"),
        Part("mane", "M44-38C52-29 56-22 58-12C50-14 38-14 30-12C33-22 37-30 44-38Z"),
    ), 58, -108),
}  # fmt: skip
COATS = {
    "yoke": (Part("limb", "M-34 112C-20 134 20 134 34 112C28 98 18 88 0 88C-18 88-28 98-34 112Z"),),
    "tiger": (
        Part("mane", "M32.5 150L20 154L33 160ZM28 130L18 135L30 140ZM25 112L17 117L27 122Z", twin=True),
        Part("mane", "M46.5 168L36 173L47 178Z", twin=True),
    ),
    "cow": (
        Part("limb", "M14 90H44C52 90 58 92 63 95C66 112 52 122 40 120C24 118 12 106 14 90Z"),
        Part("limb", "M78 130C78 146 72 158 62 165C56 160 54 150 60 142C64 136 70 131 78 130Z"),
        Part("limb", "M-46 132C-36 132-26 140-26 152C-26 158-28 162-31 164C-41 158-46 146-46 132Z"),
    ),
}  # fmt: skip
