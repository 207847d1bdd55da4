"""What README.md, ARCHITECTURE.md and docs/ say of the repository is true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from limner.cli.app import app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GROUPS = ("db", "jobs", "keys", "models", "provenance", "train")
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "examples/*.md", "src/limner/**/*.md")
    for page in ROOT.glob(pattern)
)


def fenced(text: str) -> Iterator[str]:
    """The code blocks of a page."""
    return (block[1] for block in re.finditer(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def without_fenced(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def section(text: str, heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no section {heading}"
    return found[1]


def tree(block: str) -> dict[str, bool]:
    """The paths of a tree, `path  purpose` a line, and whether each has paths of its own below it.

    An indented path stands in the nearest folder above it that is indented less; a folder's path ends with a slash.
    """
    paths: dict[str, bool] = {}
    folders: list[tuple[int, str]] = []
    for line in block.splitlines():
        if not line.strip():
            continue
        name, _, purpose = line.strip().partition("  ")
        assert purpose.strip(), f"{line!r} names no purpose after two spaces"
        indent = len(line) - len(line.lstrip())
        while folders and folders[-1][0] >= indent:
            folders.pop()
        above = folders[-1][1] if folders else ""
        assert above or not indent, f"{line!r} is indented, and no folder stands above it"
        if above:
            paths[above] = True
        for one in name.split(", "):
            paths[above + one] = False
        if name.endswith("/"):
            folders.append((indent, above + name))
    return paths


def unnamed(files: list[str], paths: dict[str, bool], root: str = "src/limner/") -> list[str]:
    """Files that neither are named nor lie in a named folder below `root` whose contents are not listed one by one."""
    folders = (path for path, listed in paths.items() if path.endswith("/") and not listed)
    whole = tuple(path for path in folders if path.startswith(root) and path != root)
    return [file for file in files if file not in paths and not file.startswith(whole)]


@pytest.fixture(scope="module")
def paths() -> dict[str, bool]:
    (block,) = fenced(section(README.read_text("utf-8"), "Files"))
    return tree(block)


def test_the_reader_of_trees() -> None:
    block = "README.md  this\nsrc/limner/  all of it\n  cli.py  commands\n  api/   HTTP\n\ntests/  tests\n"
    found = tree(block)
    assert found == {
        "README.md": False,
        "src/limner/": True,
        "src/limner/cli.py": False,
        "src/limner/api/": False,
        "tests/": False,
    }
    files = ["src/limner/cli.py", "src/limner/api/app.py", "src/limner/service.py"]
    assert unnamed(files, found) == ["src/limner/service.py"]
    assert unnamed(files, {"src/limner/": False}) == files


def test_every_path_of_the_file_tree_exists(paths: dict[str, bool]) -> None:
    assert paths
    wrong = [path for path in paths if not ((ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file())]
    assert wrong == []


def test_every_module_stands_in_the_file_tree(paths: dict[str, bool]) -> None:
    modules = [path for path in (ROOT / "src" / "limner").rglob("*.py") if path.name != "__init__.py"]
    assert len(modules) > 30
    assert unnamed([path.relative_to(ROOT).as_posix() for path in modules], paths) == []


def anchors(text: str) -> set[str]:
    """The names by which headings can be linked to, as forges make them."""
    headings = re.findall(r"^#+ +(.+?) *$", without_fenced(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path, text: str) -> list[str]:
    """Relative links and pictures of a page that lead nowhere."""
    prose = re.sub(r"`[^`\n]*`", "", without_fenced(text))
    links = re.findall(r"\]\(<?([^)>\s]+)>?(?: \"[^\"]*\")?\)", prose)
    links += re.findall(r"(?:src|href|srcset)=\"([^\"]+)\"", prose)
    links += re.findall(r"^\[[^\]]+\]: (\S+)", prose, re.MULTILINE)
    wrong = []
    for link in links:
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        within = target.exists() and target.resolve().is_relative_to(ROOT)
        if not within or (anchor and anchor not in anchors(text if target == page else target.read_text("utf-8"))):
            wrong.append(link)
    return wrong


def test_the_finder_of_broken_links() -> None:
    text = (
        "# One two\n[a](README.md) [b](nowhere.md) ![c](pic/none.png) [d](https://example.org/x)\n"
        "[e](#one-two) [f](#three)\n"
        '<img src="gone.png"> `[g](code.md)`\n[h]: lost.md\n'
    )
    assert broken(README, text) == ["nowhere.md", "pic/none.png", "#three", "gone.png", "lost.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert broken(page, page.read_text("utf-8")) == []


def commands(text: str) -> tuple[set[str], set[str], set[str]]:
    """Targets of make, commands of limner and options of theirs that stand in a page's code."""
    code = [*fenced(text), *re.findall(r"`([^`\n]+)`", without_fenced(text))]
    lines = [line.partition(" #")[0] for block in code for line in block.splitlines()]
    made = {target for line in lines for target in re.findall(r"(?:^|[$;&] ?)make ([a-z][\w-]*)", line.strip())}
    called = [
        found
        for line in lines
        for found in re.findall(rf"(?:^|[/ ])limner ((?:{'|'.join(GROUPS)}) [a-z][a-z-]*|[a-z]+)\b(.*)", line.strip())
    ]
    return (
        made,
        {f"limner {name}" for name, _ in called},
        {f"limner {name} {option}" for name, rest in called for option in re.findall(r"(?<= )--?[a-z][\w-]*", rest)},
    )


def test_the_finder_of_commands() -> None:
    shell = "make serve ARGS=1  # make nothing\n.venv/bin/limner generate 'a' -o b --seed 7\n"
    text = f"Type `make demo`, or\n```sh\n{shell}```\n"
    wanted = {"demo", "serve"}, {"limner generate"}, {"limner generate -o", "limner generate --seed"}
    assert commands(text) == wanted


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_that_a_page_names_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    made, called, options = commands(page.read_text("utf-8"))
    assert made <= targets
    known = {f"limner {name}": command for name, command in get_command(app).commands.items()}  # type: ignore[attr-defined]  # a group has them
    for group in GROUPS:
        commands_of = known[f"limner {group}"].commands
        known |= {f"limner {group} {name}": command for name, command in commands_of.items()}
    taken = {
        f"{name} {opt}" for name, command in known.items() for one in command.params for opt in (*one.opts, "--help")
    }
    assert called <= set(known)
    passed_on = tuple(
        f"{name} -" for name, command in known.items() if command.context_settings.get("ignore_unknown_options")
    )
    assert {option for option in options if not option.startswith(passed_on)} <= taken


def test_the_readme_shows_its_two_commands_first() -> None:
    first = next(fenced(README.read_text("utf-8")))
    assert commands(f"```\n{first}```\n")[0] >= {"demo", "test"}
