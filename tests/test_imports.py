"""Who may import whom. Read from the source, so that imports inside functions count too."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import limner
from limner.cli.train import COMMANDS
from limner.models.families import FAMILIES, family_of

ROOT = Path(limner.__file__).parent

LAYERS = (
    "cli", "doctor", "evaluation", "mcp", "api", "service", "intake", "runner", "course", "backends", "engine",
    "pipelines", "models", "painter", "runtime", "client",
)  # fmt: skip
"""Each imports those after it and never one before it."""

NOUNS = {
    "limner", "limner.counters", "limner.errors", "limner.config", "limner.engine.core", "limner.engine.levels",
    "limner.engine.samplers", "limner.tracing",
}  # fmt: skip
"""Plain data, arithmetic and tallies that every layer speaks of; they import nothing but each other."""

SERVICE = ("service", "intake", "runner", "course")
"""A job's whole life."""

SERVICES_OWN = (
    "decode", "fetch", "imaging", "job_document", "masks", "order", "prompts", "provenance", "references", "safety",
    "storage", "tenants", "webhooks",
)  # fmt: skip
"""What the service does its work with, beside the engine. Besides it and each other, only these use them:"""

OPERATORS = ("limner.cli.keys", "limner.cli.provenance", "limner.cli.store", "limner.doctor.")
"""The operator's tools, which look after what the service keeps, with its own parts."""

OTHER_USERS = {
    "limner.api.auth": {"limner.tenants"},  # who calls
    "limner.api.contract": {"limner.references"},  # a reference's forms, to plain text
    "limner.api.files": {"limner.imaging", "limner.storage.blobs"},  # PNG and WebP of a stored JPEG; a blob's name
    "limner.api.jobs": {"limner.job_document", "limner.storage.jobs", "limner.webhooks"},  # a job as JSON; its states
    "limner.api.metrics": {"limner.references", "limner.storage.jobs"},  # counters of refusals; the backlog
    "limner.api.minimax": {"limner.order"},  # how a seed is written
    "limner.api.models": {"limner.tenants"},  # which models a key may name
    "limner.api.openai": {"limner.imaging", "limner.order"},  # previews in the format that was asked for; seeds
    "limner.api.openai_contract": {"limner.imaging", "limner.order"},  # the name of a file's format; an order
    "limner.api.openai_replies": {"limner.imaging", "limner.order"},  # the formats; an order
    "limner.api.openai_sizes": {"limner.masks"},  # the size of the picture that is repainted
    "limner.api.pictures": {"limner.imaging", "limner.order"},  # the name of a file's format; an order
    "limner.api.sse": {"limner.job_document", "limner.tenants"},  # a job as JSON, for its caller
    "limner.api.usage": {"limner.tenants"},  # what a key has left
    "limner.cli.app": {"limner.imaging", "limner.order"},  # it paints without a server
    "limner.cli.compare": {"limner.imaging"},  # the contact sheet's file
    "limner.cli.serve": {"limner.tenants"},  # says who may call
    "limner.cli.local": {"limner.imaging"},  # whether the mark can be drawn
}

BELOW = {"limner.models.registry", "limner.runtime.openvino"}
"""What they may import besides nouns and each other: the models' names, and a classifier's runtime."""

TRAINING = ("limner.painter.training.", "limner.evaluation.training.")
"""Where networks are trained: packages that the core install lacks may be imported there."""

HEAVY = {
    "torch": ("limner.runtime.torch", "limner.runtime.convert", "limner.pipelines.", *TRAINING),
    "diffusers": ("limner.runtime.torch", "limner.pipelines."),
    "transformers": ("limner.pipelines.",),
    "onnx": TRAINING,
    "onnxscript": TRAINING,
    "cv2": TRAINING,
    "resvg_py": TRAINING,
    "safetensors": ("limner.runtime.torch", "limner.pipelines.", *TRAINING),
    "ray": ("limner.backends.ray_serve",),
    "openvino": ("limner.runtime.openvino", "limner.runtime.convert", "limner.runtime.entries", "limner.runtime.graph"),
    "alembic": ("limner.storage.migrations", "limner.storage.migrations."),
    "obstore": ("limner.storage.",),
    "c2pa": ("limner.provenance",),
    "cryptography": ("limner.provenance", "limner.cli.provenance", "limner.doctor.access"),
    "limits": ("limner.storage.rates",),
    "opentelemetry": ("limner.tracing",),
    "psycopg": ("limner.storage.postgresql",),
    "re2": ("limner.safety.policy",),
    "sqlalchemy": (
        "limner.storage.",
        "limner.tenants",
        "limner.webhooks",
        "limner.doctor.",
        "limner.cli.keys",
        "limner.intake",
        "limner.runner",
        "limner.course",
    ),
    "fastapi": ("limner.api.",),
    "starlette": ("limner.api.",),
    "uvicorn": ("limner.cli.serve", "limner.cli.mcp", "limner.cli.local", "limner.api.connections"),
    "mcp": ("limner.cli.mcp", "limner.mcp."),
    "mcp_types": ("limner.mcp.",),
    "typer": ("limner.cli.",),
}
"""Packages that are large or belong to one layer, and the modules that may import them. One that ends in a dot or an
underscore stands for all that begin so."""

BY_TABLE = ("limner.cli.train", "limner.pipelines.families")
"""They import modules by the names in a table, which a test of their own looks at."""

WITHOUT_TORCH = "limner.pipelines.painter"
"""The pipeline that the core install runs, which has no torch."""

Import = tuple[str, str]
"""Importing module, imported module or name."""


def module_of(path: Path) -> str:
    parts = ("limner", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, module: str, modules: set[str]) -> Iterator[str]:
    """Every module that `source` imports anywhere in it: `from limner import x` names limner.x where that is one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules else node.module
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            if module in BY_TABLE:
                continue
            first = node.args[0] if node.args else None
            assert isinstance(first, ast.Constant), f"{module} imports a name that is computed"
            yield str(first.value)


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    paths = {module_of(path): path for path in ROOT.rglob("*.py")}
    assert {"limner.service", "limner.api.app", "limner.pipelines.painter", "limner.runtime.openvino"} <= set(paths)
    return [
        (module, name)
        for module, path in sorted(paths.items())
        for name in imports_of(path.read_text("utf-8"), module, set(paths))
    ]


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_the_reader_finds_imports_wherever_they_stand() -> None:
    source = (
        "import torch.nn as nn\nfrom limner import errors, Missing\nfrom limner.api import app\n"
        "def f():\n    from ray import serve\n    importlib.import_module('onnx')\n"
        "if TYPE_CHECKING:\n    import limner.cli\n"
    )
    found = list(imports_of(source, "limner.x", {"limner.errors", "limner.api.app", "limner.cli"}))
    assert sorted(found) == ["limner", "limner.api.app", "limner.cli", "limner.errors", "onnx", "ray", "torch.nn"]


def test_layers_import_downwards_only(imports: list[Import]) -> None:
    upwards = [
        (module, name)
        for module, name in imports
        if part(module) in LAYERS and part(name) in LAYERS and name.startswith("limner.")
        if not module.startswith(TRAINING)
        if name not in NOUNS and LAYERS.index(part(name)) < LAYERS.index(part(module))
    ]
    assert upwards == []


def test_every_module_belongs_to_a_layer_or_to_the_service(imports: list[Import]) -> None:
    known = {*LAYERS, *SERVICES_OWN, "logs", *(part(noun) for noun in NOUNS)}
    assert {part(module) for module, _ in imports} <= known


def test_nouns_import_nothing_but_nouns(imports: list[Import]) -> None:
    assert [(m, n) for m, n in imports if m in NOUNS and n.startswith("limner") and n not in NOUNS] == []


def test_what_the_service_works_with_is_used_by_the_service_and_named_others_alone(imports: list[Import]) -> None:
    others = [
        (module, name)
        for module, name in imports
        if part(name) in SERVICES_OWN and name.startswith("limner.")
        if part(module) not in (*SERVICE, *SERVICES_OWN) and not module.startswith(OPERATORS)
        if name not in OTHER_USERS.get(module, set())
    ]
    assert others == []
    back = [(m, n) for m, n in imports if part(m) in SERVICES_OWN and n.startswith("limner") and n not in NOUNS]
    assert [(m, n) for m, n in back if part(n) not in SERVICES_OWN and n not in BELOW] == []


def test_each_named_exception_is_still_needed(imports: list[Import]) -> None:
    assert [(m, n) for m, names in OTHER_USERS.items() for n in names if (m, n) not in imports] == []


def test_heavy_packages_are_imported_where_they_belong_alone(imports: list[Import]) -> None:
    for package, homes in HEAVY.items():
        users = {module for module, name in imports if name.partition(".")[0] == package}
        strays = {user for user in users if not any(user == h or (h[-1] in "._" and user.startswith(h)) for h in homes)}
        assert strays == set(), package
    assert (WITHOUT_TORCH, "torch") not in imports
    assert ("limner.runtime.openvino", "openvino") in imports  # else nothing was looked at


def test_the_scheduler_and_the_samplers_are_plain_arithmetic(imports: list[Import]) -> None:
    plain = {"limner.engine.core", "numpy", "numpy.typing", *sys.stdlib_module_names}
    for module in ("limner.engine.scheduler", "limner.engine.samplers", "limner.engine.levels"):
        assert {n for m, n in imports if m == module and n.partition(".")[0] not in plain and n not in plain} == set()


def test_training_is_imported_by_training_alone_and_knows_no_api(imports: list[Import]) -> None:
    homes = tuple(home.rstrip(".") for home in TRAINING)
    assert [(m, n) for m, n in imports if n.startswith(homes) and not m.startswith(homes)] == []
    above = {"cli", "api", "service", "backends"}
    assert [(m, n) for m, n in imports if m.startswith(homes) and part(n) in above and n.startswith("limner.")] == []


def test_the_command_that_trains_runs_every_module_of_training_with_a_main_and_no_other() -> None:
    mains = {
        module_of(path)
        for path in ROOT.rglob("training/*.py")
        if "main"
        in {node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)}
    }
    assert {module for _, module, _ in COMMANDS.values()} == mains
    assert all(module.startswith(TRAINING) for module in mains)


def test_every_family_in_the_table_is_a_class_of_its_module() -> None:
    for family in (*FAMILIES.values(), family_of("AnyOther")):
        tree = ast.parse((ROOT / "pipelines" / f"{family.module.rpartition('.')[2]}.py").read_text("utf-8"))
        assert family.kind in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}, family.name
        assert family.module.startswith("limner.pipelines.")


def imported_by(command: list[str], folder: Path) -> set[str]:
    """The top-level packages that a command really imports."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=folder, env=plain | {"PYTHONPROFILEIMPORTTIME": "1"}
    )
    found = {name.partition(".")[0] for name in re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE)}
    assert {"limner", "typer"} <= found
    return found


def test_help_imports_nothing_that_is_slow(tmp_path: Path) -> None:
    found = imported_by([str(Path(sys.executable).with_name("limner")), "--help"], tmp_path)
    assert found.isdisjoint(
        {"openvino", "fastapi", "numpy", "PIL", "skia", "pydantic", "uvicorn", "tokenizers", "sqlalchemy", "alembic"}
    )


def test_painting_needs_no_part_of_another_install_than_the_core(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("limner")), "generate", "a red fox", "--seed", "1", "-o", "fox.jpg"]
    found = imported_by(command, tmp_path)
    assert (tmp_path / "fox.jpg").stat().st_size > 1000
    assert {"openvino", "skia", "tokenizers"} <= found
    assert found.isdisjoint(
        {"torch", "ray", "onnx", "onnxscript", "safetensors", "resvg_py", "fastapi", "uvicorn"}
        | {"alembic", "c2pa", "cryptography", "limits", "opentelemetry", "psycopg", "re2"}
    )
