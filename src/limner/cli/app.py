"""The command line, put together, and `limner generate`, which paints without a server.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C. What the models and the service need is imported by
the command that needs it, so that help comes at once.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limner.cli.batch import batch
from limner.cli.compare import compare
from limner.cli.doctor import doctor
from limner.cli.evaluate import evaluate
from limner.cli.jobs import Show, jobs
from limner.cli.keys import keys, usage
from limner.cli.legible import one_line
from limner.cli.mcp import mcp
from limner.cli.models import Config, models, sentences
from limner.cli.provenance import provenance
from limner.cli.serve import ending, open_studio, serve, with_models
from limner.cli.store import db, gc
from limner.cli.train import train

if TYPE_CHECKING:
    from limner.config import Settings
    from limner.engine.core import SamplerName
    from limner.imaging import Format
    from limner.models.registry import Registry
    from limner.order import Order
    from limner.service import Outcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Paints pictures from words, on this machine: a service that speaks MiniMax's image API, and this command.",
)

FORMATS: dict[str, Format] = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}


def generate(
    prompt: Annotated[str, typer.Argument(help="What to paint.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="A .jpg, .png or .webp; overwritten if it is there.")
    ] = Path("limner.jpg"),
    ratio: Annotated[str | None, typer.Option(help="Ratio of the sides, such as 16:9.  [default: 1:1]")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels, 512 to 2048 by eights; with --height.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels, 512 to 2048 by eights; with --width.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=-(2**63), max=2**64 - 1, help="The k-th further picture has seed + k.  [default: random]"),
    ] = None,
    n: Annotated[
        int,
        typer.Option("-n", min=1, max=9, help="How many pictures; of several, files are named fox-1.jpg and so on."),
    ] = 1,
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE|URL", help="A picture of a character to paint; may be given several times."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME[=WEIGHTS]", help="A model (limner models lists them), or weights under a name of their own."
        ),
    ] = "image-01",
    style: Annotated[
        str | None, typer.Option(help="A style such as watercolor; on image-01-live 漫画, 元气, 中世纪 or 水彩.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Evaluations of the network.")] = None,
    strength: Annotated[float | None, typer.Option(help="0 to 1: how far to leave the draft.")] = None,
    guidance: Annotated[float | None, typer.Option(help="1 and more: how hard to follow the words.")] = None,
    sampler: Annotated[str | None, typer.Option(help="euler, heun, dpm++2m, multistep, ddim or lcm.")] = None,
    negative: Annotated[
        str | None, typer.Option(help="What to stay away from, with guidance above 1; not of the painter.")
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=WEIGHT]", help="A LoRA that the model's entry lists; several may be given."),
    ] = None,
    scene: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A scene, as --plan prints it, to paint instead of planning.")
    ] = None,
    optimize: Annotated[bool, typer.Option("--optimize", help="Expand the prompt first.")] = False,
    watermark: Annotated[bool, typer.Option("--watermark", help="Draw a visible mark.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the first picture's scene, JSON, alone on standard output.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    show: Show = None,
    config: Config = None,
) -> None:
    """Paint pictures into files, without a server."""
    import asyncio
    import json
    import time

    with ending(), sentences():
        from limner import logs
        from limner.config import load
        from limner.errors import LimnerError
        from limner.models import entries

        kind = FORMATS.get(output.suffix.lower())
        if kind is None:
            raise typer.BadParameter(f"{output} must end in one of {', '.join(FORMATS)}.", param_hint="-o")
        if not output.parent.is_dir():
            raise typer.BadParameter(f"The folder {output.parent} is not there; make it first.", param_hint="-o")
        settings = load(config)
        if "=" in model:
            settings = with_models(settings, [model])
            model = model.partition("=")[0].strip()
        registry = entries.load(settings)
        logs.configure(settings.model_copy(update={"log_level": "warning"}))
        order = _order(
            settings,
            registry,
            prompt=prompt,
            ratio=ratio,
            sides=(width, height),
            model=model,
            style=style,
            references=tuple(_reference(source) for source in reference or ()),
            n=n,
            seed=seed,
            steps=steps,
            strength=strength,
            guidance=guidance,
            sampler=None if sampler is None else _sampler(sampler),
            negative_prompt=negative,
            loras=tuple(_lora(text) for text in lora or ()),
            scene=None if scene is None else _scene(scene),
            optimize_prompt=optimize,
            watermark=watermark,
            format=kind,
        )
        began = time.perf_counter()
        outcome = asyncio.run(_paint(order, settings))
        seconds = time.perf_counter() - began
        paths = [
            output if n == 1 else output.with_stem(f"{output.stem}-{number}")
            for number in range(1, len(outcome.pictures) + 1)
        ]
        for path, picture in zip(paths, outcome.pictures, strict=True):
            try:
                path.write_bytes(picture.data)
            except OSError as error:
                raise LimnerError(f"{path} could not be written: {error.strerror}.") from None
        if show or (show is None and sys.stdout.isatty() and not as_json and not plan):
            from limner.cli import terminal

            terminal.show([picture.data for picture in outcome.pictures], show)
        if as_json:
            report: dict[str, Any] = {
                "pictures": [
                    {"path": str(path), "seed": picture.seed, "width": picture.width, "height": picture.height}
                    for path, picture in zip(paths, outcome.pictures, strict=True)
                ],
                "failed": outcome.failed,
                "seconds": round(seconds, 3),
                "notes": outcome.notes,
            }
            typer.echo(json.dumps(report | ({"plan": outcome.plan} if plan else {}), ensure_ascii=False))
        else:
            for path, picture in zip(paths, outcome.pictures, strict=True):
                typer.echo(f"{path}  {picture.width}×{picture.height}  seed {picture.seed}", err=plan)
            for line in (f"{seconds:.1f} s", *(f"note: {note}" for note in outcome.notes)):
                typer.echo(one_line(line), err=True)
            if plan:
                typer.echo(json.dumps(outcome.plan, ensure_ascii=False, indent=2))
        if outcome.failed:
            raise LimnerError(f"{outcome.failed} of {n} pictures could not be painted; the others were written.")


def _order(
    settings: Settings,
    registry: Registry,
    *,
    ratio: str | None,
    sides: tuple[int | None, int | None],
    model: str,
    style: str | None,
    **fields: Any,
) -> Order:
    """An order from the options of `generate`. Raises InvalidRequest, typer.BadParameter."""
    from limner.api.contract import SIDE_MAX, SIDE_MIN, SIDE_STEP, size_of
    from limner.models.registry import LIVE, LIVE_STYLES
    from limner.order import Order

    if model not in registry.names:
        raise typer.BadParameter(f"The models are {', '.join(registry.names)}.", param_hint="--model")
    width, height = sides
    if (width is None) != (height is None):
        raise typer.BadParameter("--width and --height go together.", param_hint="--width")
    if width is None or height is None:
        width, height = size_of(ratio or "1:1", extra=settings.extra_ratios)
    elif ratio is not None:
        raise typer.BadParameter("Give --ratio, or --width and --height, not both.", param_hint="--ratio")
    elif any(not SIDE_MIN <= side <= SIDE_MAX or side % SIDE_STEP for side in (width, height)):
        raise typer.BadParameter(
            f"Sides are {SIDE_MIN} to {SIDE_MAX} pixels, multiples of {SIDE_STEP}.", param_hint="--width"
        )
    if model not in registry.live:
        return Order(width=width, height=height, model=model, style=style, **fields)
    live = next((name for name in LIVE_STYLES if style in (name, LIVE_STYLES[name])), None)
    if live is None and style is not None:
        raise typer.BadParameter(f"{LIVE} has {', '.join(LIVE_STYLES)}.", param_hint="--style")
    return Order(width=width, height=height, model=model, live_style=live, **fields)


def _sampler(name: str) -> SamplerName:
    from typing import get_args

    from limner.engine.core import SamplerName

    names: tuple[SamplerName, ...] = get_args(SamplerName)
    found = next((known for known in names if known == name), None)
    if found is None:
        raise typer.BadParameter(f"The samplers are {', '.join(names)}.", param_hint="--sampler")
    return found


def _lora(text: str) -> tuple[str, float]:
    """A LoRA's name and its weight in this picture."""
    name, _, weight = text.partition("=")
    try:
        value = float(weight) if weight else 1.0
    except ValueError:
        value = math.nan
    if not name or not -4 <= value <= 4:
        raise typer.BadParameter(f"{text} is not NAME or NAME=WEIGHT with a weight of -4 to 4.", param_hint="--lora")
    return name, value


def _reference(source: str) -> str:
    """A URL or data URL as it is; the bytes of a local file as a data URL, since the caller's files are his own."""
    import base64

    if source.lower().startswith(("http://", "https://", "data:")):
        return source
    try:
        data = Path(source).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{source} cannot be read: {error.strerror}.", param_hint="--reference") from None
    return f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"


def _scene(path: Path) -> dict[str, Any]:
    import json

    try:
        scene = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}.", param_hint="--scene") from None
    except ValueError as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}.", param_hint="--scene") from None
    if not isinstance(scene, dict):
        raise typer.BadParameter(f"{path} must hold one JSON object.", param_hint="--scene")
    return scene


async def _paint(order: Order, settings: Settings) -> Outcome:
    """Fill one order in this process, with a bar on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from limner import imaging
    from limner.engine.core import Event, Loading, Started, Stepped
    from limner.service import temporary_service

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("loading", total=None)
        if order.watermark:
            imaging.check_watermark(settings.watermark_text, settings.watermark_font)
        service = temporary_service(settings, order.model)
        progress.update(bar, description="reading")

        def watch(event: Event) -> None:
            if isinstance(event, Loading):
                progress.update(bar, description=f"loading {event.done:.0%}")
            elif isinstance(event, Started):
                progress.update(bar, description="painting", total=order.n * event.steps)
            elif isinstance(event, Stepped):
                progress.advance(bar)

        await service.start()
        try:
            return await service.generate(order, watch=watch)
        finally:
            await service.stop()


PAINT, RUN, MAKE = "Paint", "Run a service", "Make the painter"
app.command(name="open", rich_help_panel=PAINT)(open_studio)
for panel, command in (
    (PAINT, generate), (PAINT, batch), (PAINT, compare), (PAINT, mcp), (RUN, serve), (RUN, doctor), (RUN, usage),
    (RUN, gc), (MAKE, evaluate),
):  # fmt: skip
    app.command(rich_help_panel=panel)(command)
for panel, name, group in (
    (PAINT, "jobs", jobs), (RUN, "models", models), (RUN, "keys", keys), (RUN, "db", db),
    (RUN, "provenance", provenance), (MAKE, "train", train),
):  # fmt: skip
    app.add_typer(group, name=name, rich_help_panel=panel)
