"""The scene: what a picture shows and where, as data. The planner emits it, the drawer draws it, users may send it.

Coordinates are fractions of the picture: x from the left edge, y from the top. A thing stands on its `y`: that is where
its feet, wheels or base are (its lowest point), and `x` is its centre. `height` is a fraction of the picture's height.
Things are drawn in the order of the list, farthest first.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Place = Literal[
    "beach",
    "forest",
    "mountains",
    "city",
    "desert",
    "underwater",
    "sky",
    "space",
    "room",
    "library",
    "kitchen",
    "stage",
    "farm",
    "snow",
    "park",
    "plain",
]
Time = Literal["dawn", "day", "sunset", "dusk", "night"]
Weather = Literal["clear", "cloudy", "rain", "snow"]
Style = Literal["storybook", "flat", "watercolor", "comic", "vivid", "medieval", "clay", "pixel", "papercut"]
Colour = Literal[
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "blue",
    "navy",
    "purple",
    "pink",
    "brown",
    "black",
    "grey",
    "white",
    "gold",
    "silver",
    "beige",
]
Skin = Literal["pale", "light", "tan", "brown", "dark"]
HairStyle = Literal["short", "bob", "long", "ponytail", "bun", "curly", "afro", "braids", "spiky", "bald"]
HairColour = Literal["black", "brown", "blonde", "red", "grey", "white", "blue", "pink", "purple", "green"]
Top = Literal["t-shirt", "shirt", "sweater", "jacket", "dress", "hoodie", "suit", "coat", "robe", "armor"]
Bottom = Literal["trousers", "shorts", "skirt", "jeans"]
Hat = Literal["cap", "beanie", "straw", "top", "wizard", "crown", "helmet", "chef", "cowboy"]
Glasses = Literal["round", "square", "sunglasses"]
Beard = Literal["stubble", "full", "moustache"]
Pose = Literal["standing", "walking", "running", "sitting", "waving", "arms-up", "hands-on-hips", "reading"]
Expression = Literal["smile", "grin", "neutral", "sad", "surprised", "angry", "asleep"]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Placed(Part):
    """Where something stands. `x`, `y` and `height` are fractions of the picture (see the module)."""

    x: float = Field(0.5, ge=-0.5, le=1.5)
    y: float = Field(0.9, ge=-0.5, le=1.5)
    height: float = Field(0.4, gt=0, le=2)
    flip: bool = False  # mirrored left to right


class Thing(Placed):
    """A drawing of the bank."""

    kind: Literal["thing"] = "thing"
    concept: str  # a name of the bank, such as "red-apple"
    colour: Colour | None = None  # None keeps the drawing's own colours
    angle: float = Field(0.0, ge=-180, le=180)  # degrees, clockwise, about its centre


class Person(Placed):
    """A paper-doll person."""

    kind: Literal["person"] = "person"
    age: Literal["child", "adult", "elder"] = "adult"
    build: Literal["feminine", "masculine"] = "feminine"
    skin: Skin = "light"
    hair: HairStyle = "short"
    hair_colour: HairColour = "brown"
    top: Top = "t-shirt"
    top_colour: Colour = "blue"
    bottom: Bottom = "trousers"
    bottom_colour: Colour = "navy"
    hat: Hat | None = None
    hat_colour: Colour | None = None
    glasses: Glasses | None = None
    beard: Beard | None = None
    pose: Pose = "standing"
    expression: Expression = "smile"


class Reference(Placed):
    """The subject of reference picture number `index`, cut out."""

    kind: Literal["reference"] = "reference"
    index: int = Field(0, ge=0)


Item = Annotated[Thing | Person | Reference, Field(discriminator="kind")]


class Scene(Part):
    """A whole picture. Version 1 of the schema."""

    version: Literal[1] = 1
    place: Place = "plain"
    backdrop: Colour | None = None  # the ground of a "plain" place
    time: Time = "day"
    weather: Weather = "clear"
    style: Style = "storybook"
    items: tuple[Item, ...] = Field((), max_length=64)
    variant: int = Field(0, ge=0, lt=2**32)  # which of the place's many arrangements of clouds, trees, houses
