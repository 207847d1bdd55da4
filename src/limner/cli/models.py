"""`limner models`: list, add, check and remove the models of the models file (docs/models.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limner.cli.legible import one_line

if TYPE_CHECKING:
    from limner.models.folder import Found
    from limner.models.registry import Model

models = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    help="List, add, check and remove models; alone it lists them.",
)

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file of settings (docs/settings.md).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@contextmanager
def sentences() -> Iterator[None]:
    """Errors with a sentence leave as that sentence and an exit code, Ctrl-C as a word; others keep their traceback."""
    from limner.errors import InvalidRequest, LimnerError, SettingsInvalid

    try:
        yield
    except (InvalidRequest, SettingsInvalid) as error:
        typer.echo(one_line(f"limner: {error.message}"), err=True)
        raise typer.Exit(2) from None
    except LimnerError as error:
        typer.echo(one_line(f"limner: {error.message}"), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("limner: stopped.", err=True)
        raise typer.Exit(130) from None


@models.callback()
def _alone(context: typer.Context, as_json: AsJson = False, config: Config = None) -> None:
    if context.invoked_subcommand is None:
        _list(as_json, config)


@models.command(name="list")
def list_models(as_json: AsJson = False, config: Config = None) -> None:
    """List the models: their names, family, weights and size, and whether they can be painted with."""
    _list(as_json, config)


def _list(as_json: bool, config: Path | None) -> None:
    with sentences():
        from rich.console import Console
        from rich.table import Column, Table
        from rich.text import Text

        from limner.config import load
        from limner.models import entries

        registry = entries.load(load(config))
        rows = [
            _row(model, [name for name, of in registry.names.items() if of == model.name and name != model.name])
            for model in registry.models
        ]
        if as_json:
            _print_json(rows)
            return
        table = Table("model", "also", "family", Column("weights", overflow="fold"), "size", "check", box=None)
        for row in rows:
            verdict = "ok" if row["usable"] else "unusable"
            aliases = ", ".join(row["aliases"])
            cells = (row["model"], aliases, row["family"], row["weights"], _size(row["bytes"]), verdict)
            table.add_row(*(Text(one_line(cell)) for cell in cells))
        Console().print(table)
        for row in rows:
            for problem in row["problems"]:
                typer.echo(one_line(f"{row['model']}: {problem}"))


@models.command()
def add(
    name: Annotated[str, typer.Argument(help="The name that requests give: image-01, or one of your own.")],
    weights: Annotated[
        str, typer.Argument(help="A folder in diffusers' layout, a .safetensors or .gguf file, or a hub's name.")
    ],
    base: Annotated[str | None, typer.Option(help="Folder or hub's name of what a single file lacks.")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="A further name; may be given several times.")] = None,
    steps: Annotated[int | None, typer.Option(help="Usual steps.  [default: the family's]")] = None,
    guidance: Annotated[float | None, typer.Option(help="Usual guidance.  [default: the family's]")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="Usual sampler: euler, heun, dpm++2m, multistep, ddim or lcm.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, f32, bf16 or f16.")] = None,
    quantize: Annotated[str | None, typer.Option(help="int8 or fp8 for the denoiser's weights.")] = None,
    runtime: Annotated[str | None, typer.Option(help="auto, torch or openvino.")] = None,
    batch: Annotated[int | None, typer.Option(help="Most evaluations together; 1 is exact.")] = None,
    adapter: Annotated[str | None, typer.Option(help="IP-Adapter's weights, for references.")] = None,
    reference_strength: Annotated[float | None, typer.Option(help="0 to 1, of the adapter.")] = None,
    first_block: Annotated[float | None, typer.Option(help="Of FLUX.1: threshold of its cache, 0 to 1.")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Check weights and write an entry for them; styles and LoRAs are added to it by hand."""
    with sentences():
        from limner.config import load
        from limner.errors import ModelUnusable
        from limner.models import entries, folder
        from limner.models.registry import PAINTER, absolute, located

        path = entries.models_file(load(config))
        options = {
            "weights": located(weights, Path()),
            "base": base and located(base, Path()),
            "aliases": alias,
            "steps": steps,
            "guidance": guidance,
            "sampler": sampler,
            "device": device,
            "precision": precision,
            "quantize": quantize,
            "runtime": runtime,
            "batch": batch,
            "adapter": adapter and absolute(adapter, Path()),
            "reference_strength": reference_strength,
            "first_block": first_block,
        }
        table = {key: value for key, value in options.items() if value is not None}
        text = entries.added(entries.text_of(path), path, name, table)
        model = next(model for model in entries.read(text, path) if model.name == name)
        if model.weights != PAINTER:
            problems = folder.inspect_model(model).problems
            if problems:
                raise ModelUnusable(" ".join(problems))
        entries.write(path, text)
        row = _row(model, list(model.aliases))
        if as_json:
            _print_json(row)
        else:
            typer.echo(
                f"{name} is in {path}: {row['family']}, {_size(row['bytes'])}. A running service must be started again."
            )


@models.command()
def remove(
    name: Annotated[str, typer.Argument(help="The model's own name, no alias.")],
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Take a model's entry out of the models file; its weights stay where they are."""
    with sentences():
        from limner.config import load
        from limner.models import entries

        path = entries.models_file(load(config))
        entries.write(path, entries.removed(entries.text_of(path), path, name))
        if as_json:
            _print_json({"removed": name, "file": str(path)})
        else:
            typer.echo(f"{name} is no longer in {path}. Its weights were not touched.")


@models.command()
def check(
    model: Annotated[
        str, typer.Argument(metavar="NAME|PATH", help="A model's name, or weights that are no model yet.")
    ],
    base: Annotated[str | None, typer.Option(help="With a PATH: what a single file lacks.")] = None,
    checksum: Annotated[bool, typer.Option("--checksum", help="Read the files whole and print their sha256.")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Say what weights are: family, parts, precision, sizes, what is missing and what to do; exits 1 if unusable."""
    with sentences():
        from limner.config import load
        from limner.models import entries, folder
        from limner.models.registry import PAINTER

        settings = load(config)
        registry = entries.load(settings)
        entry = registry.lookup(model) if model in registry.names else None
        if entry is not None and entry.weights == PAINTER:
            document = _painter()
        else:
            found = folder.inspect_model(entry) if entry else folder.inspect(model, base)
            document = _document(found)
            if checksum and not found.problems:
                document["sha256"] = folder.fingerprint(found, settings.cache_dir())
            if entry:
                document = {"model": entry.name, **document}
        if as_json:
            _print_json(document)
        else:
            typer.echo("\n".join(map(one_line, _lines(document))))
        if document["problems"]:
            raise typer.Exit(1)


def _row(model: Model, aliases: list[str]) -> dict[str, Any]:
    """One model for the list."""
    from limner.errors import ModelUnusable
    from limner.models import folder
    from limner.models.registry import PAINTER

    row: dict[str, Any] = {"model": model.name, "aliases": aliases, "weights": model.weights}
    if model.weights == PAINTER:
        return row | {"family": PAINTER, "bytes": _painter_bytes(), "usable": True, "problems": []}
    try:
        found = folder.inspect_model(model)
    except ModelUnusable as error:
        return row | {"family": "unknown", "bytes": 0, "usable": False, "problems": [error.message]}
    problems = list(found.problems)
    return row | {"family": found.family.name, "bytes": found.bytes, "usable": not problems, "problems": problems}


def _document(found: Found) -> dict[str, Any]:
    """All that is known of weights, for people and machines alike."""
    from limner.models.headers import shown

    family = found.family
    return {
        "weights": shown(found.path),
        "base": shown(found.folder) if found.file and found.folder else None,
        "layout": found.layout,
        "family": family.name,
        "about": found.about,
        "references": family.references,
        "side": family.side,
        "steps": family.steps,
        "guidance": family.guidance,
        "bytes": found.bytes,
        "parameters": found.parameters,
        "parts": [
            {
                "part": part.name,
                "class": part.kind,
                "bytes": part.bytes,
                "parameters": part.parameters,
                "precision": part.precision or None,
                "files": len(part.files),
            }
            for part in found.parts
        ],
        "problems": list(found.problems),
    }


def _painter() -> dict[str, Any]:
    """The built-in painter, its files held against their checksums by loading it. Raises ModelUnusable."""
    from limner.pipelines.painter import PainterPipeline

    return {
        "model": "painter",
        "family": "painter",
        "about": "flat and storybook illustrations of things, people and places",
        "bytes": _painter_bytes(),
        "fingerprint": PainterPipeline.load().fingerprint,
        "drawings": str(_painter_folder() / "bank" / "index.json"),
        "parts": [],
        "problems": [],
    }


def _painter_folder() -> Path:
    import limner.painter

    return Path(limner.painter.__path__[0])


def _painter_bytes() -> int:
    """Size of the painter's weights and bank, bytes."""
    files = [path for part in ("weights", "bank") for path in (_painter_folder() / part).rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)


def _lines(document: dict[str, Any]) -> Iterator[str]:
    """A document of `check` for people."""
    for key, value in document.items():
        match key, value:
            case ("parts" | "problems", _) | (_, None):
                continue
            case "bytes", int():
                yield f"{'size':12}{_size(value)}"
            case "parameters", int():
                yield f"{key:12}{value / 1e6:,.1f} million"
            case "guidance", _:
                continue
            case "steps", int():
                yield f"{'usual':12}{value} steps, guidance {document['guidance']:g}; distilled weights take fewer"
            case "side", int():
                yield f"{'native size':12}{value}×{value}"
            case _:
                yield f"{key:12}{value}"
    for part in document["parts"]:
        weights = f", {_size(part['bytes'])}, {part['precision']}" if part["bytes"] else ""
        yield f"  {part['part']:18}{part['class']}{weights}"
    for problem in document["problems"]:
        yield f"problem: {problem}"
    yield "unusable" if document["problems"] else "ok"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _print_json(document: object) -> None:
    import json

    typer.echo(json.dumps(document, ensure_ascii=False))
