"""The fixed list of prompts, each with the facts that its picture must show: prompts.jsonl, one JSON object a line.

A line is {"task", "prompt", "include": [{"concept", "count", "colour"?, "position"?}]}, after GenEval (Ghosh,
Hajishirzi and Schmidt, 2023). `writing` wrote it once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from limner.evaluation.classes import BY_CONCEPT, COLOURS
from limner.painter.scene import Colour

FILE = Path(__file__).with_name("prompts.jsonl")

Task = Literal["one-object", "two-objects", "counting", "colours", "position", "colour-attribution"]
TASKS: tuple[Task, ...] = get_args(Task)
Relation = Literal["left", "right", "above", "below"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A thing that the picture must show."""

    concept: str
    count: int = 1
    colour: Colour | None = None
    position: tuple[Relation, int] | None = None  # on which side of which other entry of `include`


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt and what its picture must show."""

    task: Task
    prompt: str
    include: tuple[Wanted, ...]

    def record(self) -> dict[str, Any]:
        """The line of the file, as JSON; what is not asked for is left out."""
        include = [
            {"concept": one.concept, "count": one.count}
            | ({"colour": one.colour} if one.colour else {})
            | ({"position": list(one.position)} if one.position else {})
            for one in self.include
        ]
        return {"task": self.task, "prompt": self.prompt, "include": include}


def read(path: Path = FILE) -> list[Prompt]:
    """The prompts, in the order of the file.

    Raises:
        ValueError: a line names a task, class, colour or relation that there is not, or an entry that it lacks.
    """
    return [_prompt(json.loads(line), number) for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)]


def _prompt(line: dict[str, Any], number: int) -> Prompt:
    include = []
    for one in line["include"]:
        position = one.get("position")
        include.append(
            Wanted(one["concept"], one["count"], one.get("colour"), (position[0], position[1]) if position else None)
        )
    prompt = Prompt(line["task"], line["prompt"], tuple(include))
    known = prompt.task in TASKS and all(
        one.concept in BY_CONCEPT
        and one.count >= 1
        and (one.colour is None or one.colour in COLOURS)
        and (one.position is None or (one.position[0] in RELATIONS and 0 <= one.position[1] < len(include)))
        for one in include
    )
    if not (known and include and prompt.prompt):
        raise ValueError(f"Line {number} of the prompts says what cannot be judged: {line}")
    return prompt
