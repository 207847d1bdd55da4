"""The place that `store_url` names: a folder, or a bucket of S3, GCS or Azure, checked before it is used.

Credentials of a cloud are read from the environment, by obstore: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (or a
web identity, or the machine's role), `GOOGLE_SERVICE_ACCOUNT` with the path of a key file, `AZURE_STORAGE_ACCOUNT_NAME`
and `AZURE_STORAGE_ACCOUNT_KEY`. Profiles of `~/.aws` are not read. They have no place in `store_url` and
`store_options`, which are shown and logged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError, UnknownConfigurationKeyError
from obstore.store import AzureStore, GCSStore, S3Store

from limner.errors import SettingsInvalid

if TYPE_CHECKING:
    from obstore.store import ObjectStore


@dataclass(frozen=True, slots=True)
class _Cloud:
    make: Callable[..., Any]
    bucket: str  # what it calls the host of the URL
    credentials: str  # the variables that hold them
    endpoints: tuple[str, ...]  # the variables of its address
    options: str  # those that are asked for most


_CLOUDS = {
    "s3": _Cloud(
        S3Store,
        "bucket",
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
        "endpoint, region and virtual_hosted_style_request",
    ),
    "gs": _Cloud(
        GCSStore, "bucket", "GOOGLE_SERVICE_ACCOUNT (the path of a key file)", ("GOOGLE_BASE_URL",), "base_url"
    ),
    "az": _Cloud(
        AzureStore,
        "container",
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        ("AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"),
        "endpoint",
    ),
}


_SAID = re.compile(
    r'status code: (\d{3}[\w -]*)|<Code>(\w+)</Code>|(?:message|error): "([^"<]{1,100})"|kind: (Timeout)'
    r"|(InvalidCertificate)\(\s*(\w+)"
)
"""What is told of an error: status and code of an answer, the system's own words, time, what is wrong with TLS."""


def open_store(url: str, options: Mapping[str, str], seconds: float) -> Path | ObjectStore:
    """The folder (which may not exist yet) or the store of a URL; a store is asked once whether it lets us in.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///folder`.
        options: by obstore's names, such as `endpoint`; no secrets.
        seconds: how long an operation of the store may take, failed tries included.

    Raises:
        SettingsInvalid: the URL or an option cannot be used, the bucket is missing, the credentials are missing or
            refused, or nobody answers in that time.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"file", *_CLOUDS}:
        raise SettingsInvalid(
            "store_url names no store that Limner knows. Write s3://bucket/prefix, gs://bucket/prefix, "
            "az://container/prefix or file:///folder."
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingsInvalid(
            "store_url holds a user name, a query or a fragment. Leave it out: credentials come from the environment."
        )
    if parts.scheme == "file":
        return _folder(parts.netloc, parts.path, options)
    cloud = _CLOUDS[parts.scheme]
    if not re.fullmatch(r"[\w.-]{2,255}", parts.netloc, re.ASCII):
        raise SettingsInvalid(f"store_url names no {cloud.bucket}. Write {parts.scheme}://{cloud.bucket}/prefix.")
    plain = _check_options(cloud, options)
    # One try, and the time after which none begins anew, are half of the time each.
    half = timedelta(seconds=seconds / 2)
    try:
        store: ObjectStore = cloud.make(
            parts.netloc,
            prefix=unquote(parts.path).strip("/") or None,
            config=dict(options),
            client_options={"timeout": half, "allow_http": plain},
            retry_config={
                "max_retries": 10_000,
                "retry_timeout": half,
                "backoff": {"init_backoff": half / 64, "max_backoff": half / 8},
            },
        )
        next(iter(obstore.list(store, chunk_size=1)), None)
    except (OSError, BaseError, ValueError) as error:
        raise SettingsInvalid(_sentence(error, f"{parts.scheme}://{parts.netloc}", cloud)) from None
    return store


def reason(error: Exception) -> str:
    """What an error of obstore's says for the log, less addresses and answers, which can hold signatures and keys."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = dict.fromkeys(part for parts in _SAID.findall(str(error)) for part in parts if part)
    first = str(error).partition("\n")[0].rpartition(" - ")[2]
    return ", ".join(said) or re.sub(r'"[^"]*"|\S*://\S*', "…", first)[:200]


def bucket_missing(error: Exception) -> bool:
    """Whether it is the whole bucket that is not there, and not one object."""
    return re.search("NoSuchBucket|ContainerNotFound", reason(error)) is not None


def _folder(host: str, path: str, options: Mapping[str, str]) -> Path:
    folder = Path(url2pathname(path))
    if host not in ("", "localhost") or not folder.is_absolute() or "\0" in str(folder):
        raise SettingsInvalid("store_url names no folder of this machine. Write file:///folder with three slashes.")
    if options:
        raise SettingsInvalid("store_options has no meaning for a folder. Leave it out, or set store_url to a cloud's.")
    return folder


def _check_options(cloud: _Cloud, options: Mapping[str, str]) -> bool:
    """Whether the store's address is plain HTTP.

    Raises:
        SettingsInvalid: an option holds a secret, or an address is none.
    """
    for name, value in options.items():
        secret = re.search(r"secret|token|(^|_)sas_|(account|access|master|customer|encryption)_key", name.lower())
        if (secret and not re.search(r"_(id|file|path|url|endpoint)$", name.lower())) or re.search("://[^/]*@", value):
            raise SettingsInvalid(
                f"store_options holds a secret, {name}, which would be shown and logged. Give it in the environment: "
                f"{cloud.credentials}."
            )
    endpoints = {name: os.environ[name] for name in cloud.endpoints if os.environ.get(name)}
    endpoints |= {
        name: value
        for name, value in options.items()
        if re.fullmatch("(aws_|azure_(storage_)?|google_)?(endpoint(_url)?(_s3)?|base_url)", name.lower())
    }
    for name, value in endpoints.items():
        if not re.fullmatch(r"https?://[\w.:\[\]-]+(/[\w./%~-]*)?", value, re.ASCII):
            raise SettingsInvalid(f"{name} is no address of a store. Write one such as https://s3.example.com.")
    return any(value.startswith("http://") for value in endpoints.values())


def _sentence(error: Exception, place: str, cloud: _Cloud) -> str:
    said = reason(error)
    if isinstance(error, UnknownConfigurationKeyError):
        name = re.search(r"key: '([^']*)'", str(error))
        return (
            f"store_options names {name[1] if name else 'an option'}, which a store of {place} does not have. It has "
            f"{cloud.options}, among others that obstore names."
        )
    # Whoever finds no credentials in the environment asks the services that a cloud's own machines have.
    if re.search("/latest/api/token|/latest/meta-data|/metadata/|computeMetadata", str(error)) or re.search(
        "^[^,]*(Missing|must be spec)", said
    ):
        return f"There are no credentials for {place}. Set {cloud.credentials}."
    if bucket_missing(error):
        return f"The {cloud.bucket} {place} is not there. Make it, or correct store_url."
    if re.search(r"\b40[13]\b", said):
        return (
            f"The credentials for {place} are refused ({said}). Look at {cloud.credentials}; they must allow to list, "
            f"read, write and delete."
        )
    return f"The store {place} cannot be used: {said}. Look at store_url and store_options."
