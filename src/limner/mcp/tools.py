"""What the MCP server's tools are called, take and answer: the tables of docs/mcp.md, as JSON schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mcp_types import Tool, ToolAnnotations

from limner.errors import InvalidRequest

NAMES: Final = {
    "aspectRatio": "aspect_ratio",
    "promptOptimizer": "prompt_optimizer",
    "outputDirectory": "output_directory",
    "subjectReference": "subject_reference",
}
"""Parameters as minimax-mcp-js calls them, and their names here."""

REFERENCES: Final = 16
"""Most references in one call; each model says with how many it can do."""

PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "prompt": {"type": "string", "description": "What to paint."},
    "subject_reference": {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": REFERENCES},
        ],
        "description": "The character or thing to paint: a URL or a data URL of a JPEG, PNG or WebP of at most 10 MB.",
    },
    "model": {"type": "string", "description": "A name that list_models tells; image-01 by default."},
    "aspect_ratio": {
        "type": "string",
        "description": "1:1 (the default), 16:9, 4:3, 3:2, 2:3, 3:4, 9:16 or 21:9.",
    },
    "width": {"type": "integer", "description": "Pixels, 512 to 2048 by eights, with height, not with aspect_ratio."},
    "height": {"type": "integer", "description": "Pixels, 512 to 2048 by eights, with width."},
    "n": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1, "description": "How many pictures."},
    "seed": {
        "anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^-?[0-9]{1,20}$"}],
        "description": "Repeats a picture: its seed as an answer told it, with n 1 and all else the same.",
    },
    "style": {"type": "string", "description": "A style of the model, such as watercolor; see list_models."},
    "prompt_optimizer": {
        "type": "boolean",
        "default": True,
        "description": "Add what the prompt leaves open of place, light and view.",
    },
    "output_directory": {
        "type": "string",
        "description": "Write the pictures into this folder, below the base path, too.",
    },
}
"""Every parameter, as JSON schema. What a service checks is not checked here as well."""

PAINTED: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "pictures", "failed", "notes"],
    "properties": {
        "id": {"type": "string", "description": "Of the job."},
        "pictures": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "seed": {"type": "string", "description": "Signed 64-bit; it repeats the picture."},
                    "width": {"type": "integer"},
                    "height": {"type": "integer"},
                    "url": {"type": "string", "description": "Link to the picture in full size, while it lives."},
                    "path": {"type": "string", "description": "File that it was written into."},
                },
            },
        },
        "failed": {"type": "integer", "description": "Pictures that could not be painted."},
        "notes": {
            "type": "array",
            "items": {"type": "string"},
            "description": "What had no effect or failed.",
        },
    },
}
"""What the tools that paint answer as structured content."""

LISTED: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["models"],
    "properties": {
        "models": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "references": {"type": "integer", "description": "Most references in one call; 0: none."},
                    "styles": {"type": "array", "items": {"type": "string"}},
                    "free_size": {"type": "boolean", "description": "Whether it takes width and height."},
                },
            },
        }
    },
}


def offered(files: bool) -> list[Tool]:
    """The tools; with `files`, those of the machine can be named."""
    names = [name for name in PARAMETERS if name != "output_directory" or files]
    parameters = {name: dict(PARAMETERS[name]) for name in names}
    if files:
        parameters["subject_reference"]["description"] += " Or the path of a file of this machine."
    words = [name for name in names if name != "subject_reference"]
    adds = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
    return [
        Tool(
            name="text_to_image",
            title="Paint a picture",
            description="Paint one picture or several from a prompt.",
            input_schema=_schema(parameters, words, "prompt"),
            output_schema=PAINTED,
            annotations=adds,
        ),
        Tool(
            name="image_to_image",
            title="Paint a picture of a reference",
            description="Paint the character or thing of a reference picture in a scene that a prompt describes.",
            input_schema=_schema(parameters, names, "prompt", "subject_reference"),
            output_schema=PAINTED,
            annotations=adds.model_copy(update={"open_world_hint": True}),  # it fetches URLs
        ),
        Tool(
            name="list_models",
            title="List the models",
            description="List the models that pictures can be painted with, and what each can: references, styles.",
            input_schema=_schema({}, []),
            output_schema=LISTED,
            annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False),
        ),
    ]


def _schema(parameters: Mapping[str, Any], names: list[str], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: parameters[name] for name in names},
        "required": list(required),
        "additionalProperties": False,
    }


def arguments_of(tool: Tool, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a call gives, by the names here; null counts as absent. Raises InvalidRequest."""
    known = tool.input_schema["properties"]
    arguments = {NAMES.get(name, name): value for name, value in given.items() if value is not None}
    strange = [name for name in arguments if name not in known]
    if strange:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise InvalidRequest(f"{tool.name} has no parameter {', '.join(strange)}; {takes}.")
    for name in tool.input_schema["required"]:
        if name not in arguments:
            raise InvalidRequest(f"{tool.name} needs the parameter {name}.")
    return arguments
