"""Every setting of Limner, in one frozen object: `LIMNER_*` variables over a TOML file over these defaults.

docs/settings.md is generated from this module (`python -m limner.config > docs/settings.md`) and held true by a test.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import ssl
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from limner.errors import SettingsInvalid

PREFIX = "LIMNER_"
CONFIG_VARIABLE = "LIMNER_CONFIG"
"""Names the TOML file."""

NO_SETTINGS = (CONFIG_VARIABLE, "LIMNER_BASE_URL", "LIMNER_API_KEY")
"""Variables that are no settings: the others tell clients which service to use, and with which key."""


class Settings(BaseSettings):
    """What the operator chose. Build it with `load`, which tells mistakes in sentences.

    Raises:
        SettingsInvalid: settings contradict each other, or name a file that cannot be read.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    # Where
    data_dir: Path = Field(Path("limner-data"), description="Folder that holds everything the service writes.")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on. Another than loopback needs keys.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    public_url: str | None = Field(
        None,
        description="Base of the picture links, where clients reach the service by another address than the one "
        "they called.",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM certificate chain; with `tls_key` the service speaks HTTPS."
    )
    tls_key: Path | None = Field(None, description="PEM private key of the certificate.")

    database_url: SecretStr | None = Field(
        None,
        description="Database of jobs, keys and usage: `postgresql://user:password@host/name`, or "
        "`sqlite:////path/file`. None: `limner.sqlite` in `data_dir`.",
    )
    store_url: str | None = Field(
        None,
        description="Where pictures are kept: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, or "
        "`file:///folder`; credentials come from the environment (AWS_ACCESS_KEY_ID and its like). None: the folder "
        "`pictures` in `data_dir`.",
    )
    store_options: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict,
        description="Further options of the store, as obstore names them, secrets left out. As a variable: "
        "`endpoint=http://127.0.0.1:9000,region=us-east-1`.",
    )
    links: Literal["service", "store"] = Field(
        "service",
        description="Links to pictures: `service` serves them itself; `store` hands out addresses that the store "
        "signed (S3, GCS, Azure), valid as long as the picture is kept and at most seven days.",
    )

    # Who
    api_keys: SecretStr | None = Field(
        None,
        description="Bearer keys without limits, separated by commas, beside those of `limner keys`. Without any of "
        "either kind, no key is asked for on loopback.",
    )
    api_keys_file: Path | None = Field(
        None, description="File with one bearer key a line; # starts a comment. Added to `api_keys`."
    )

    # The wire
    http_status: Literal["ok", "real"] = Field(
        "ok",
        description="`ok`: errors answer 200 with base_resp, as MiniMax does. `real`: the same body with the true "
        "HTTP status.",
    )
    counts_as: Literal["string", "integer"] = Field(
        "string", description="JSON type of metadata.success_count and failed_count."
    )
    error_data: Literal["object", "null"] = Field(
        "object", description="What `data` is on errors: an empty object, or null as the real service sends."
    )
    counts_in_data: bool = Field(
        True,
        description="Repeat task_id, success_count and failed_count inside `data`, where the mmx client looks.",
    )
    mmx_http_links: bool = Field(
        True, description="Write HTTP:// in links for the mmx client, which would rewrite http:// to https://."
    )
    model_aliases: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict,
        description="Further names of models, each mapped to a model's name. As a variable: "
        "`gpt-image-1=image-01,mine=image-01-live`.",
    )
    cors_origin: str | None = Field("*", description="Access-Control-Allow-Origin; `none` sends no CORS headers.")
    studio: bool = Field(True, description="Serve the studio, the page at `/`; false leaves the interface alone.")
    max_body_bytes: int = Field(64 * 2**20, ge=2**16, description="Largest request body, bytes.")
    max_prompt_chars: int = Field(1500, ge=1, description="Longest prompt, code points.")
    long_prompts: Literal["refuse", "cut"] = Field(
        "refuse", description="What happens to a longer prompt: 2013, or cut at the limit and logged."
    )
    extra_ratios: bool = Field(
        True,
        description="Accept any a:b aspect ratio from 1:4 to 4:1 that clients send, such as 9:21 or 3:5, beside the "
        "eight documented ones.",
    )
    request_seconds: float = Field(
        300.0,
        gt=0,
        allow_inf_nan=False,
        description="Longest time that one call waits for its pictures, seconds; those ready by then are returned.",
    )

    max_json_depth: int = Field(32, ge=2, description="Most levels that arrays and objects of a body may be nested.")
    max_json_values: int = Field(
        100_000, ge=100, description="Most values in a body's JSON; each costs far more memory than its bytes."
    )
    max_connections: int = Field(
        1024, ge=1, description="Most connections at once; further ones are answered 503 and closed."
    )
    header_seconds: float = Field(
        10.0,
        gt=0,
        allow_inf_nan=False,
        description="Longest time for a request's head to arrive, seconds, counted from its first byte; a connection "
        "on which nothing comes is closed after the same time.",
    )

    # Jobs
    backlog_limit: int = Field(
        10_000,
        ge=1,
        description="About the most pictures of jobs that may wait in the database; a job beyond is answered 1002.",
    )
    lease_seconds: float = Field(
        10.0,
        gt=0,
        allow_inf_nan=False,
        description="A process that has given no sign of life for so long, seconds, is taken for dead, and its jobs "
        "are run by another, or by itself after its restart.",
    )
    job_attempts: int = Field(
        5, ge=1, description="How often a job is begun at most, where the process died while it was painted."
    )
    grace_seconds: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        description="How long what is being painted may go on after the signal to stop, seconds; what is not finished "
        "then is handed back and painted after the restart, or by another process.",
    )
    storage_seconds: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        description="How long the store is tried again while it fails for a time, and how long a call waits for an "
        "end that cannot be written now, seconds.",
    )
    idempotency_seconds: float = Field(
        24 * 3600.0,
        gt=0,
        allow_inf_nan=False,
        description="How long an Idempotency-Key is remembered, seconds, but no longer than its job is kept.",
    )
    result_cache: bool = Field(
        False,
        description="Answer a request with explicit seed from an earlier one of the same tenant, where the request and "
        "the weights' checksum are the same.",
    )
    webhook_secret: SecretStr | None = Field(
        None,
        description="Secret that the secrets of webhooks are derived from, one a tenant; at least 24 characters. None: "
        "`webhook-secret` in `data_dir`, made when it is first needed.",
    )
    webhook_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Networks (CIDR) in private ranges that webhooks may be sent to."
    )
    limits_url: SecretStr | None = Field(
        None,
        description="Valkey or Redis that counts the images a minute of all processes: `valkey://host:6379`. None: "
        "they are counted in the database.",
    )

    # Safety and provenance
    policy_file: Path | None = Field(
        None, description="TOML file of what is refused (docs/safety.md); none: nothing is but invisible characters."
    )
    c2pa_certificate: Path | None = Field(
        None,
        description="PEM certificate chain; with `c2pa_key` pictures carry signed content credentials. `limner "
        "provenance certificate` makes one for trying out.",
    )
    c2pa_key: Path | None = Field(None, description="PEM private key of that certificate.")
    parameters_in_metadata: bool = Field(
        False, description="Write prompt, seed, model and sampler into pictures' metadata, for whoever holds the file."
    )

    # Pictures
    link_seconds: float = Field(
        24 * 3600.0,
        gt=0,
        allow_inf_nan=False,
        description="How long a job, its pictures and their links are kept, seconds; a key may have its own.",
    )
    jpeg_quality: int = Field(92, ge=1, le=100, description="Quality of JPEG and WebP pictures, 1 to 100.")
    watermark_text: str = Field(
        "AI generated",
        min_length=1,
        max_length=64,
        description="Text of the visible mark that aigc_watermark asks for.",
    )
    watermark_font: Path | None = Field(
        None, description="TrueType or OpenType font of the mark, for letters that the built-in Latin font lacks."
    )

    # References
    reference_max_bytes: int = Field(10 * 10**6, ge=1, description="Largest decoded reference, bytes.")
    reference_max_pixels: int = Field(
        50 * 10**6, ge=1, description="Largest reference, pixels, checked before decoding."
    )
    reference_max_count: int = Field(4, ge=1, description="Most references of one request.")
    reference_seconds: float = Field(
        10.0, gt=0, allow_inf_nan=False, description="Longest time to fetch one reference, seconds, redirects included."
    )
    reference_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Networks (CIDR) in private ranges that references may be fetched from. As a variable: "
        "`192.168.1.0/24,fd00::/8`.",
    )

    # Prompts
    optimizer_url: str | None = Field(
        None,
        description="Base URL of an OpenAI-compatible chat endpoint for prompt_optimizer, such as "
        "`http://localhost:11434/v1`. Without one the built-in expansion is used, which is the same every time.",
    )
    optimizer_model: str = Field("gpt-4o-mini", min_length=1, description="Model that the chat endpoint is asked for.")
    optimizer_key: SecretStr | None = Field(None, description="Bearer key of the chat endpoint.")
    optimizer_seconds: float = Field(
        5.0,
        gt=0,
        allow_inf_nan=False,
        description="Longest time to wait for the chat endpoint, seconds, before the plain prompt is used.",
    )

    # The models
    models: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict,
        description="Models by name: a folder in diffusers' layout, a .safetensors or .gguf file, a hub's name, or "
        "`painter`. Each wins over the models file's table of its name. As a variable: "
        "`image-01=/models/sd-turbo,big=/models/FLUX.1-schnell`.",
    )
    models_file: Path | None = Field(
        None,
        description="TOML file of models, one table each (docs/models.md); none: `models.toml` in `data_dir`, if it "
        "is there.",
    )
    memory_gb: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Most memory that the weights of loaded models may take together, GB of 10^9 bytes, on the device "
        "that they run on; the one used longest ago makes room. None: what is free at the start, less a reserve.",
    )
    model_cache: Path | None = Field(
        None,
        description="Folder for networks converted to the machine's own form, and for checksums; it may be emptied at "
        "any time. None: `networks` in `data_dir`.",
    )

    # The engine
    queue_limit: int = Field(
        64, ge=1, description="Pictures waiting or being painted; a request that would pass it is answered 1002."
    )
    threads: int = Field(0, ge=0, description="CPU threads of the networks; 0 takes all cores.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line that is written."
    )
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people or for machines.")

    tracing_url: str | None = Field(
        None, description="OTLP/HTTP endpoint that spans are sent to, such as `http://localhost:4318/v1/traces`."
    )

    @field_validator("model_aliases", "models", "store_options", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [entry.partition("=") for entry in value.split(",") if entry.strip()]
        if any(not (name.strip() and model.strip()) for name, _, model in pairs):
            raise ValueError("write it as name=value,name=value")
        return {name.strip(): model.strip() for name, _, model in pairs}

    @field_validator("reference_allow", "webhook_allow", mode="before")
    @classmethod
    def _entries(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("reference_allow", "webhook_allow")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"{error}; write a network such as 192.168.1.0/24") from None
        return value

    @field_validator("public_url", "optimizer_url", "tracing_url")
    @classmethod
    def _base_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("give an http:// or https:// address without query or fragment")
        if parts.username or parts.password:
            raise ValueError("an address with a user name or a password would end up in logs; leave them out")
        return value.rstrip("/")

    @field_validator("webhook_secret")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value) < 24:
            raise ValueError("give at least 24 characters, drawn at random")
        return value

    @field_validator("cors_origin")
    @classmethod
    def _origin(cls, value: str | None) -> str | None:
        return None if value is None or value.lower() == "none" else value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise SettingsInvalid("tls_certificate and tls_key go together: set both for HTTPS, or neither for HTTP.")
        if (self.c2pa_certificate is None) != (self.c2pa_key is None):
            raise SettingsInvalid("c2pa_certificate and c2pa_key go together: set both to sign pictures, or neither.")
        for name in (
            "tls_certificate", "tls_key", "watermark_font", "policy_file", "c2pa_certificate", "c2pa_key",
        ):  # fmt: skip
            path: Path | None = getattr(self, name)
            if path is not None and not path.is_file():
                raise SettingsInvalid(f"{name} names {path}, which is not a file.")
        if self.tls_certificate and self.tls_key:
            try:  # an empty password, since a key that asks for one would wait at the terminal
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.tls_certificate, self.tls_key, password="")
            except OSError as error:
                raise SettingsInvalid(
                    f"tls_certificate and tls_key cannot be used: {error.strerror or error}. Both are PEM files, the "
                    f"key is the certificate's own and not encrypted."
                ) from None
        self.keys()  # raises where they cannot be read
        return self

    def cache_dir(self) -> Path:
        """The folder of `model_cache`, which may not exist yet."""
        return self.model_cache or self.data_dir / "networks"

    def keys(self) -> frozenset[SecretStr]:
        """The bearer keys of `api_keys` and `api_keys_file` together; those of the database are not among them.

        Raises:
            SettingsInvalid: the file cannot be read or holds no key, or a key could not stand in a header.
        """
        keys = [] if self.api_keys is None else self.api_keys.get_secret_value().split(",")
        if self.api_keys_file is not None:
            try:
                lines = self.api_keys_file.read_text("utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                raise SettingsInvalid(f"api_keys_file {self.api_keys_file} cannot be read: {reason}.") from None
            in_file = [line.partition("#")[0] for line in lines]
            if not any(key.strip() for key in in_file):
                raise SettingsInvalid(f"api_keys_file {self.api_keys_file} holds no key. Write one key a line.")
            keys += in_file
        keys = [key.strip() for key in keys if key.strip()]
        if self.api_keys is not None and not keys:
            raise SettingsInvalid("api_keys is set but holds no key. Give keys separated by commas, or leave it out.")
        if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
            raise SettingsInvalid(
                "A bearer key holds a space or a character outside ASCII, which no Authorization header can carry. "
                "Look in api_keys and api_keys_file."
            )
        return frozenset(SecretStr(key) for key in keys)


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address) can be reached from this machine alone. Names are not resolved."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def load(config_file: Path | None = None, **overrides: Any) -> Settings:
    """The settings in force: `overrides` over `LIMNER_*` variables over the TOML file over the defaults.

    The file is `config_file`, else the one that LIMNER_CONFIG names, else none. An override of None counts as not
    given, and an empty variable as not set.

    Raises:
        SettingsInvalid: a name is unknown, a value is of the wrong kind or out of range, or settings contradict.
    """
    variables = {name.upper(): value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    config = config_file or (Path(variables[CONFIG_VARIABLE]) if variables.get(CONFIG_VARIABLE) else None)
    for name in variables:
        if name not in NO_SETTINGS and name.removeprefix(PREFIX).lower() not in Settings.model_fields:
            raise SettingsInvalid(_unknown(name, [_variable(field) for field in Settings.model_fields], "variable"))
    in_file = {} if config is None else _read_toml(config)
    given = {name: value for name, value in overrides.items() if value is not None}
    for names, what in ((in_file, f"key in {config}"), (given, "setting")):
        for name in names:
            if name not in Settings.model_fields:
                raise SettingsInvalid(_unknown(name, list(Settings.model_fields), what))
    # Arguments of Settings() win over the environment, so what the environment sets is taken out of the file.
    below = {name: value for name, value in in_file.items() if not variables.get(_variable(name))}
    try:
        return Settings(**{**below, **given})
    except ValidationError as error:
        raise SettingsInvalid(_sentence(error, below, given, config)) from None


def changed(settings: Settings) -> dict[str, str]:
    """Settings that differ from their defaults, written as their variables are; a secret shows as `(set)`."""
    return {
        name: _written(value)
        for name, field in Settings.model_fields.items()
        if (value := getattr(settings, name)) != field.get_default(call_default_factory=True, validated_data={})
    }


def _written(value: object) -> str:
    match value:
        case SecretStr():
            return "(set)"
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(value)
        case dict():
            return ",".join(f"{name}={model}" for name, model in value.items())
    return str(value)


def settings_table() -> str:
    """docs/settings.md: every setting with its variable, TOML key, kind, default and meaning."""
    rows = [
        f"| `{name}` | `{_variable(name)}` | {_kind(field.annotation)} | {_default(name)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            "Every setting can be given as a variable (`LIMNER_PORT=9000`) or as a key of a TOML file (`port = 9000`)",
            "that `--config` or `LIMNER_CONFIG` names. An option of the command line wins over a variable, a variable",
            "over the file, the file over the default. A name that is not listed here stops the service with a",
            "sentence. An empty variable counts as not set.",
            "",
            "| TOML key | variable | kind | default | meaning |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
            "This page is generated: `python -m limner.config > docs/settings.md`.",
            "",
        ]
    )


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _unknown(name: str, known: list[str], what: str) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    return f"{name} is no {what} that Limner knows. Did you mean {nearest}? docs/settings.md lists them all."


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsInvalid(f"The settings file {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # of TOML, or of UTF-8
        raise SettingsInvalid(f"The settings file {path} is not valid TOML: {error}.") from None


def _sentence(error: ValidationError, below: dict[str, Any], given: dict[str, Any], config: Path | None) -> str:
    """The first mistake as a sentence that names the place it was written in. Values are left out: one may be a key."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    if name in given or name not in Settings.model_fields:
        where = name
    elif name in below:
        where = f"{name} in {config}"
    else:
        where = _variable(name)
    message = first["msg"].removeprefix("Value error, ")
    return f"{where} cannot be used: {message[:1].lower()}{message[1:]}. docs/settings.md says what it takes."


def _kind(annotation: Any) -> str:
    """An annotation in the words of a reader, not of Python."""
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    options = [option for option in get_args(annotation) if option is not type(None)]
    names = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path", SecretStr: "secret"}
    if annotation in names:
        return names[annotation]
    return {dict: "table", tuple: "list"}.get(get_origin(annotation)) or names[options[0]]


def _default(name: str) -> str:
    value = Settings.model_fields[name].get_default(call_default_factory=True, validated_data={})
    if value is None or value == () or value == {}:
        return "none"
    return f"`{_written(value)}`"


if __name__ == "__main__":
    sys.stdout.write(settings_table())
