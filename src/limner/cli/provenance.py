"""`limner provenance`: a certificate for trying out content credentials, and what a picture's credentials say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from limner.cli.legible import cut
from limner.cli.models import AsJson, sentences

provenance = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Content credentials (C2PA): make a certificate for trying out, verify a picture.",
)

AUTHORITY, SIGNER = "Limner authority for trying out", "Limner signer for trying out"
USAGES = ("1.3.6.1.5.5.7.3.4", "1.3.6.1.4.1.62558.2.1")
"""E-mail protection, which every reader takes, and C2PA claim signing, which the C2PA trust list asks for."""


FAILURES = {
    "assertion.dataHash.mismatch": "the file was changed after it was signed",
    "claimSignature.mismatch": "the claim was changed after it was signed, or signed with another key",
    "signingCredential.expired": "the certificate has expired, and no timestamp shows that it had not at the signing",
}
"""The commonest of the reader's findings in plain words, by code; the others are told in the reader's own."""


@dataclass(frozen=True, slots=True)
class SelfMade:
    """PEM texts. The authority's key is kept by nobody, so that it never issues another."""

    certificate: bytes  # the signer's
    key: bytes  # its private key, PKCS #8
    authority: bytes  # the certificate of who issued it


@provenance.command()
def certificate(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the three files go; made if missing.")],
    name: Annotated[
        str, typer.Option(help="Who pictures are said to be signed by, 1 to 64 characters.")
    ] = "Example Ltd",
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 365,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Make a certificate that signs pictures, for trying out: nobody trusts it but who is told to."""
    with sentences():
        from limner.errors import LimnerError

        if not 1 <= len(name.strip()) <= 64 or not name.isprintable():
            raise typer.BadParameter("A name has 1 to 64 printable characters.", param_hint="--name")
        made = make(name.strip(), days)
        files = {"certificate.pem": made.certificate, "key.pem": made.key, "authority.pem": made.authority}
        there = [file for file in files if os.path.lexists(out / file)]
        if there and not force:
            raise LimnerError(
                f"{' and '.join(str(out / file) for file in there)} would be overwritten, and with a key all that it "
                f"could still sign. Name another folder with --out, or say --force."
            )
        try:
            out.mkdir(mode=0o700, parents=True, exist_ok=True)
            for file, content in files.items():
                _write(out / file, content, mode=0o600 if file == "key.pem" else 0o644)
        except OSError as error:
            raise LimnerError(f"{out} could not be written: {error.strerror}.") from None
        typer.echo(
            f"Made a certificate of {name.strip()}, valid for {days} days. To sign pictures with it, set\n"
            f"  LIMNER_C2PA_CERTIFICATE={(out / 'certificate.pem').resolve()}\n"
            f"  LIMNER_C2PA_KEY={(out / 'key.pem').resolve()}\n"
            f"Readers call its pictures valid but not trusted, unless they are given {out / 'authority.pem'}:\n"
            f"  limner provenance verify --anchor {out / 'authority.pem'} picture.jpeg"
        )


@provenance.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture, or any file that C2PA knows.")],
    anchor: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Certificates of authorities to trust, such as authority.pem.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what the official C2PA reader says of a picture; exit code 1 where it has no valid credentials."""
    with sentences():
        import json

        from limner.errors import LimnerError
        from limner.provenance import read

        texts = {}
        for path in (file, anchor):
            try:
                texts[path] = b"" if path is None else path.read_bytes()
            except OSError as error:
                raise LimnerError(f"{path} cannot be read: {error.strerror}.") from None
        anchors = texts[anchor].decode("ascii", "replace")
        if anchor is not None and "BEGIN CERTIFICATE" not in anchors:
            raise LimnerError(f"{anchor} holds no certificate. It must be PEM, such as authority.pem.")
        document = read(texts[file], anchors)
        if as_json:
            typer.echo(json.dumps(document, indent=2))
        elif document is None:
            typer.echo(f"{file} carries no content credentials.")
        else:
            for line in told(document):
                typer.echo(line)
        if document is None or document["validation_state"] == "Invalid":
            raise typer.Exit(1)


def told(document: dict[str, Any]) -> Iterator[str]:
    """What the reader found, in sentences. Whatever a file says of itself is made legible: it may be anybody's."""
    state = document["validation_state"]
    manifest = document.get("manifests", {}).get(document.get("active_manifest"), {})
    signature = manifest.get("signature_info") or {}
    names = [_legible(signature[field]) for field in ("issuer", "common_name") if signature.get(field)]
    by = f"{', '.join(names) or 'nobody by name'} ({_legible(signature.get('alg', 'unknown algorithm')).upper()})"
    if state == "Invalid":
        yield "The content credentials are NOT valid:"
        for status in document.get("validation_status", []):
            code = status["code"]
            if code != "signingCredential.untrusted":
                yield f"  {FAILURES.get(code) or _legible(status.get('explanation', 'no reason'))} ({_legible(code)})"
        yield f"They claim to be signed by {by}."
    else:
        yield "The content credentials are valid: the file has not changed since it was signed."
        yield f"Signed by {by}."
        yield (
            "The signer is trusted: the certificate leads to an authority that the reader was told to trust."
            if state == "Trusted"
            else "Whether that is who signed is not known: no authority that the reader trusts vouches for it."
        )
    for generator in manifest.get("claim_generator_info") or []:
        yield (
            f"Claimed with {_legible(generator.get('name', '?'))} {_legible(generator.get('version', ''))}".rstrip()
            + "."
        )
    for assertion in manifest.get("assertions", []):
        data = assertion.get("data")
        actions = data.get("actions", []) if isinstance(data, dict) else []
        yield f"It asserts {_legible(assertion['label'])}{':' if actions else '.'}"
        for action in actions:
            yield from (f"  {line}" for line in _action(action))
    for ingredient in manifest.get("ingredients", []):
        title, relationship = (_legible(ingredient.get(field, "?")) for field in ("title", "relationship"))
        yield f"It names an ingredient: {title} ({relationship})."


def _action(action: dict[str, Any]) -> Iterator[str]:
    when = f" at {_legible(action['when'])}, by the signer's clock" if "when" in action else ""
    yield f"{_legible(action['action'])}{when}"
    if "digitalSourceType" in action:
        yield f"source type {_legible(action['digitalSourceType']).rpartition('/')[2]}"
    for name, value in sorted((action.get("parameters") or {}).items()):
        if name != "ingredients":
            yield f"{_legible(name)}: {_legible(value)}"


def _legible(text: object) -> str:
    from limner.imaging import PROMPT_LONGEST

    return cut(text, PROMPT_LONGEST)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a whole file of its own, never through a link, and never readable to more than `mode` says."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def make(organisation: str, days: int) -> SelfMade:
    """A signer's certificate on P-256 after C2PA's certificate profile, and an authority that issued it.

    `organisation`, 1 to 64 characters, is who pictures will be said to be signed by; both are valid for `days`.

    Raises:
        LimnerError: the provenance extra is not installed.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        from limner.errors import LimnerError
        from limner.provenance import MISSING

        raise LimnerError(MISSING.format("Making a certificate")) from None

    began = datetime.now(UTC).replace(microsecond=0)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def name(common: str) -> x509.Name:
        parts = {x509.NameOID.ORGANIZATION_NAME: organisation, x509.NameOID.COMMON_NAME: common}
        return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts.items()])

    def issued(common: str, public: ec.EllipticCurvePublicKey, *, authority: bool) -> bytes:
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        ) | {"digital_signature": not authority, "key_cert_sign": authority, "crl_sign": authority}
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(common))
            .issuer_name(name(AUTHORITY))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(began - timedelta(hours=1))  # clocks differ
            .not_valid_after(began + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )
        if not authority:
            usages = x509.ExtendedKeyUsage([x509.ObjectIdentifier(usage) for usage in USAGES])
            builder = builder.add_extension(usages, critical=False)
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    return SelfMade(
        certificate=issued(SIGNER, key.public_key(), authority=False),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        authority=issued(AUTHORITY, authority_key.public_key(), authority=True),
    )
