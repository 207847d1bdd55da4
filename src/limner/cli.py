"""The command line: `limner serve`, `limner generate`, `limner models`.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C. What the models and the service need is imported by
the command that needs it, so that help comes at once.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limner.cli_doctor import doctor
from limner.cli_evaluate import evaluate
from limner.cli_keys import keys, usage
from limner.cli_models import Config, models, sentences
from limner.cli_provenance import provenance
from limner.cli_store import db, gc
from limner.cli_train import train

if TYPE_CHECKING:
    import socket

    import uvicorn

    from limner.config import Settings
    from limner.engine.core import SamplerName
    from limner.imaging import Format
    from limner.models.registry import Registry
    from limner.order import Order
    from limner.service import Outcome, Service

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Paints pictures from words, on this machine: a service that speaks MiniMax's image API, and this command.",
)

ANSWER_SECONDS = 5
"""How long answers may take to reach their callers after `grace_seconds`."""

FORMATS: dict[str, Format] = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}


@contextmanager
def _ending() -> Iterator[None]:
    """Leave at once where a model is still being loaded: nothing can stop its thread, and the interpreter's own end
    would abort the native code that it is in."""
    try:
        yield
    except (SystemExit, typer.Exit) as end:
        _leave_if_loading(end.code if isinstance(end, SystemExit) else end.exit_code)
        raise
    _leave_if_loading(0)


def _leave_if_loading(code: object) -> None:
    if "limner.engine.loading" in sys.modules:  # else nothing ever was
        from limner.engine import loading

        if loading.busy():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 1)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.  [default: 8000]")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WEIGHTS",
            help="Weights of a model: image-01=/models/sd-turbo. Several may be given; each wins over the models file.",
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Run the service until Ctrl-C or SIGTERM."""
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with _ending(), sentences():
        from limner import logs
        from limner.api.app import create_app
        from limner.api.connections import server_config
        from limner.config import load
        from limner.models import entries
        from limner.service import build_service
        from limner.tenants import keys_line

        settings = _with_models(load(config, host=host, port=port), model or ())
        registry = entries.load(settings)
        logs.configure(settings)
        with _listen(settings) as listener:
            service = build_service(settings)
            with service.database.transaction(writing=False) as connection:
                who = keys_line(settings, connection)
            typer.echo(_banner(settings, registry, who, listener.getsockname()[1]))
            grace = math.ceil(settings.grace_seconds) + ANSWER_SECONDS
            options = server_config(create_app(settings, service), settings, timeout_graceful_shutdown=grace)
            server = _server(options, service)
            # uvicorn raises the signal again once it has stopped: then this ends nothing that still runs.
            signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
            server.run(sockets=[listener])


def _server(config: uvicorn.Config, service: Service) -> uvicorn.Server:
    """A server that stops the service first, so that every call is answered before its connection is closed."""
    import asyncio

    import uvicorn

    class Graceful(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            stopping = asyncio.create_task(service.stop())
            await super().shutdown(sockets)
            await stopping

    return Graceful(config)


def _listen(settings: Settings) -> socket.socket:
    """A listening socket, so that a port of 0 is known before the first request. Raises LimnerError."""
    import socket

    from limner.errors import LimnerError

    host = settings.host.strip("[]")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise LimnerError(f"The address {host} cannot be listened on: {error.strerror}.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise LimnerError(
            f"Port {settings.port} of {host} cannot be listened on: {error.strerror}. Stop what uses it, or choose "
            f"another with --port (0 takes a free one)."
        ) from None
    return listener


def _with_models(settings: Settings, pairs: Iterable[str]) -> Settings:
    """The settings with models of the command line over those of `models`. Raises typer.BadParameter."""
    given = {}
    for pair in pairs:
        name, _, weights = pair.partition("=")
        if not name.strip() or not weights.strip():
            raise typer.BadParameter(
                f"{pair} is not NAME=WEIGHTS, such as image-01=/models/sd-turbo.", param_hint="--model"
            )
        if name.strip() in given:
            raise typer.BadParameter(f"{name.strip()} is given twice.", param_hint="--model")
        given[name.strip()] = weights.strip()
    return settings.model_copy(update={"models": settings.models | given})


def _banner(settings: Settings, registry: Registry, who: str, port: int) -> str:
    """Where the service is, who may use it, what it paints with, and which settings are not the defaults."""
    from limner import __version__
    from limner.config import changed
    from limner.models.registry import PAINTER

    scheme = "https" if settings.tls_key else "http"
    host = f"[{settings.host}]" if ":" in settings.host.strip("[]") else settings.host
    shown = {"host", "port", "data_dir", "api_keys", "api_keys_file", "models"}
    others = [f"  {name} = {value}" for name, value in changed(settings).items() if name not in shown]
    painted = [
        f"  model     {', '.join(name for name, of in registry.names.items() if of == model.name)}: {model.weights}"
        for model in registry.models
        if model.weights != PAINTER or len(registry.models) > 1
    ]
    lines = [
        f"Limner {__version__} at {scheme}://{host}:{port} (docs at /docs)",
        f"  keys      {who}",
        f"  data      {settings.data_dir.resolve()}",
        *painted,
        *(others or ["  settings  all at their defaults (docs/settings.md)"]),
    ]
    return "\n".join(lines)


@app.command()
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
    config: Config = None,
) -> None:
    """Paint pictures into files, without a server."""
    import asyncio
    import json
    import time

    with _ending(), sentences():
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
            settings = _with_models(settings, [model])
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
                typer.echo(line, err=True)
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


for command in (doctor, evaluate, gc, usage):
    app.command()(command)
for name, group in (("db", db), ("keys", keys), ("models", models), ("provenance", provenance), ("train", train)):
    app.add_typer(group, name=name)
