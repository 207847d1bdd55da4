"""The client's guide and the examples of its docstrings run against a live server, and print what they say."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import io
import pkgutil
import re
import shutil
import sys
from pathlib import Path

import pytest
import structlog

import limner.client
from conftest import Server

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/client.md").read_text("utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
"""Python, and what it prints where that is said."""

MODULES = [
    importlib.import_module(f"limner.client.{found.name}") for found in pkgutil.iter_modules(limner.client.__path__)
]
EXAMPLES = [example for module in MODULES for example in doctest.DocTestFinder().find(module) if example.examples]


@pytest.fixture
def newcomer(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with the picture of the guide in it, and a server at the address of the environment."""
    shutil.copy(ROOT / "examples/girl.png", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("LIMNER_BASE_URL", "MINIMAX_API_HOST"):
        monkeypatch.setenv(name, server.url)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # not among what an example prints
    return tmp_path


def test_every_block_of_the_guide_runs_in_its_order_and_prints_what_it_says(newcomer: Path) -> None:
    notebook: dict[str, object] = {"__name__": "__main__"}
    blocks = BLOCK.findall(GUIDE)
    assert len(blocks) == GUIDE.count("```python") > 9
    for source, printed in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(source, "docs/client.md", "exec"), notebook)
        assert not printed or out.getvalue() == printed
    notebook["client"].close()  # type: ignore[attr-defined]  # the guide's own
    assert {"fox.jpg", "fox-7.png", "a grey owl.jpg"} <= {path.name for path in newcomer.iterdir()}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_every_example_of_a_docstring_runs_and_prints_what_it_says(example: doctest.DocTest, newcomer: Path) -> None:
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)


def test_the_main_methods_have_examples() -> None:
    names = {example.name.removeprefix("limner.client.") for example in EXAMPLES}
    assert {
        "sync.Client",
        "sync.Client.generate",
        "sync.Client.progress",
        "sync.Client.submit",
        "aio.AsyncClient",
    } <= names


def test_the_guide_names_every_kind_of_error_and_every_option() -> None:
    tree = ast.parse((Path(limner.client.__file__).parent / "errors.py").read_text("utf-8"))
    kinds = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert {kind for kind in kinds if f"`{kind}`" not in GUIDE} == set()
    assert {name for name in limner.client.JobOptions.__annotations__ if name not in GUIDE} - {"webhook_url"} == set()
