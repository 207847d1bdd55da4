"""Every setting of Limner, in one frozen object: `LIMNER_*` variables over a TOML file over these defaults.

docs/settings.md is generated from this module and held true by a test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LIMNER_", frozen=True, extra="forbid")

    # Where
    data_dir: Path = Field(Path("limner-data"), description="Folder that holds everything the service writes.")
    host: str = Field("127.0.0.1", description="Address to listen on. Another than loopback needs keys.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    public_url: str | None = Field(None, description="Base of the picture links, if clients reach the service by another address than the one they called.")
    tls_certificate: Path | None = Field(None, description="PEM certificate chain; with tls_key the service speaks HTTPS.")
    tls_key: Path | None = Field(None, description="PEM private key of the certificate.")

    # Who
    api_keys: SecretStr | None = Field(None, description="Bearer keys, separated by commas. None: no key is needed on loopback.")
    api_keys_file: Path | None = Field(None, description="File with one bearer key a line; # starts a comment.")

    # The wire
    http_status: Literal["ok", "real"] = Field("ok", description="`ok`: errors answer 200 with base_resp, as MiniMax does. `real`: the same body with the true HTTP status.")
    counts_as: Literal["string", "integer"] = Field("string", description="JSON type of metadata.success_count and failed_count.")
    error_data: Literal["object", "null"] = Field("object", description="What `data` is on errors: an empty object, or null as the real service sends.")
    counts_in_data: bool = Field(True, description="Repeat task_id, success_count and failed_count inside `data`, where the mmx client looks.")
    mmx_http_links: bool = Field(True, description="Write HTTP:// in links for the mmx client, which would rewrite http:// to https://.")
    model_aliases: dict[str, str] = Field(default_factory=dict, description="Further model names, each mapped to image-01 or image-01-live.")
    cors_origin: str | None = Field("*", description="Access-Control-Allow-Origin; None sends no CORS headers.")
    max_body_bytes: int = Field(64 * 2**20, ge=2**16, description="Largest request body, bytes.")
    max_prompt_chars: int = Field(1500, ge=1, description="Longest prompt, code points.")
    long_prompts: Literal["refuse", "cut"] = Field("refuse", description="What happens to a longer prompt: 2013, or cut at the limit and logged.")
    extra_ratios: bool = Field(True, description="Accept any a:b aspect ratio from 1:4 to 4:1 that clients send, such as 9:21 or 3:5, beside the eight documented ones.")
    request_seconds: float = Field(300.0, gt=0, description="Longest time that one call waits for its pictures; those ready by then are returned.")

    # Pictures
    link_seconds: float = Field(24 * 3600.0, gt=0, description="Lifetime of a picture link.")
    jpeg_quality: int = Field(92, ge=1, le=100, description="Quality of JPEG and WebP pictures.")
    watermark_text: str = Field("AI generated", min_length=1, max_length=64, description="Text of the visible mark that aigc_watermark asks for.")

    # References
    reference_max_bytes: int = Field(10 * 10**6, ge=1, description="Largest decoded reference, bytes.")
    reference_max_pixels: int = Field(50 * 10**6, ge=1, description="Largest reference, pixels, checked before decoding.")
    reference_max_count: int = Field(4, ge=1, description="Most references of one request.")
    reference_seconds: float = Field(10.0, gt=0, description="Longest time to fetch one reference, redirects included.")
    reference_allow: tuple[str, ...] = Field((), description="Networks (CIDR) in private ranges that references may be fetched from.")

    # Prompts
    optimizer_url: str | None = Field(None, description="Base URL of an OpenAI-compatible chat endpoint for prompt_optimizer; None uses the built-in expansion.")
    optimizer_model: str = Field("gpt-4o-mini", description="Model that the chat endpoint is asked for.")
    optimizer_key: SecretStr | None = Field(None, description="Bearer key of the chat endpoint.")
    optimizer_seconds: float = Field(5.0, gt=0, description="Longest time to wait for the chat endpoint before the plain prompt is used.")

    # The engine
    queue_limit: int = Field(64, ge=1, description="Pictures waiting or being painted; a request that would pass it is answered 1002.")
    threads: int = Field(0, ge=0, description="CPU threads of the networks; 0 takes all cores.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log line that is written.")
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people or for machines.")
