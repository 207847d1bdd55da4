"""Content credentials (C2PA 2): pictures signed with the operator's certificate (docs/provenance.md).

Signing is a step after `imaging.encode` and adds a manifest to its bytes. Nothing here uses the network: no timestamp
authority is asked, no manifest and no certificate's status is fetched. The packages of the provenance extra are
imported when a function needs them.
"""

from __future__ import annotations

import io
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from limner import __version__, imaging
from limner.config import Settings
from limner.errors import EngineFailed, LimnerError, SettingsInvalid

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

log = structlog.get_logger(__name__)

PURPOSES = {
    "1.3.6.1.5.5.7.3.4": "e-mail protection",
    "1.3.6.1.5.5.7.3.36": "document signing",
    "1.3.6.1.4.1.62558.2.1": "C2PA claim signing",
    "1.3.6.1.4.1.311.76.59.1.9": "Microsoft's C2PA signing",
}
"""Extended key usages of which a signer's certificate needs one; the library's default knows the first alone."""

OPTIONS: dict[str, dict[str, Any]] = {
    "core": {"allowed_network_hosts": []},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},  # a second, smaller picture in every picture
    "trust": {"trust_config": "\n".join(PURPOSES)},
}
"""Settings of the C2PA library, for signing and for reading."""

MISSING = "{} needs packages that are not installed. Install them: pip install 'limner[provenance]'."

EXPIRES_SOON = 30 * 86400.0
"""Seconds before a certificate's end from which the log warns at every start."""


class Signer:
    """Signs pictures; any number of threads may at once.

    Attributes:
        expires: when the certificate ends, Unix seconds. Nothing is signed after it.
    """

    def __init__(self, certificate: bytes, key: bytes, algorithm: str, expires: float) -> None:
        """`certificate` is a PEM chain, the signer's own first; `key` is PKCS #8, PEM, not encrypted.

        Raises:
            c2pa.C2paError: the library cannot use them.
        """
        import c2pa

        self.expires = expires
        signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm, certificate, key, None))
        self._context = c2pa.Context.from_dict(OPTIONS, signer=signer)

    @classmethod
    def load(cls, settings: Settings) -> Signer | None:
        """The signer of `c2pa_certificate` and `c2pa_key`, tried on a picture of one pixel; None where none is set.

        Raises:
            SettingsInvalid: the provenance extra is not installed; a file cannot be read; the certificate has expired
                or is not one that may sign content credentials; the key is encrypted or another certificate's.
        """
        certificate_file, key_file = settings.c2pa_certificate, settings.c2pa_key
        if certificate_file is None or key_file is None:
            return None
        try:
            import c2pa
            from cryptography.hazmat.primitives import serialization
        except ImportError:
            raise SettingsInvalid(MISSING.format("Signing pictures (c2pa_certificate)")) from None
        chain = _read_chain(certificate_file)
        key = _read_key(key_file)
        algorithm = _algorithm(key, key_file)
        if _public(key) != _public(chain[0]):
            raise SettingsInvalid(
                f"c2pa_key {key_file} is not the key of c2pa_certificate {certificate_file}, whose first certificate "
                f"is {_subject(chain[0])}'s. The signer's certificate comes first, then those of its authorities."
            )
        unfit = next(filter(None, [*map(_out_of_date, chain), _unfit(chain[0])]), None)
        if unfit:
            raise SettingsInvalid(
                f"c2pa_certificate {certificate_file} cannot sign pictures: {unfit}. docs/provenance.md says what a "
                f"certificate needs; `limner provenance certificate` makes one for trying out."
            )
        try:
            signer = cls(
                b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain),
                _pkcs8(key),
                algorithm,
                chain[0].not_valid_after_utc.timestamp(),
            )
            signer._add(imaging.encode(np.zeros((1, 1, 3), np.uint8), "png"), "png", _manifest({}, references=0))
        except c2pa.C2paError as error:
            raise SettingsInvalid(
                f"c2pa_certificate {certificate_file} cannot sign pictures. The C2PA library says: "
                f"{imaging.legible(str(error))}. docs/provenance.md says what a certificate needs."
            ) from None
        if signer.expires < time.time() + EXPIRES_SOON:
            log.warning("the certificate of content credentials ends soon", ends=_day(chain[0].not_valid_after_utc))
        return signer

    def sign(
        self,
        data: bytes,
        format: imaging.Format,  # noqa: A002 - as in imaging.encode
        *,
        model: str,
        fingerprint: str | None,
        references: int,
        parameters: imaging.Parameters | None = None,
    ) -> bytes:
        """`data`, a picture file of this format, with a signed manifest that says what made it.

        It holds an action c2pa.created with the digital source type, the time, Limner's version, the model's name and
        fingerprint, and `parameters` where given; and for each of the `references` an ingredient that was put into the
        model, without its picture, its name or its checksum. Signing the same bytes again gives other bytes.

        Raises:
            EngineFailed: it could not be signed, since the certificate has expired, say; the log has the reason.
        """
        import c2pa

        facts = (
            {"model": model} | ({} if fingerprint is None else {"fingerprint": fingerprint}) | dict(parameters or {})
        )
        try:
            return self._add(data, format, _manifest(facts, references))
        except c2pa.C2paError as error:
            log.error("a picture could not be signed", reason=str(error))
            raise EngineFailed(
                "The picture was painted but could not be signed with the operator's certificate, and unsigned ones "
                "are not handed out. The service's log says why."
            ) from None

    def _add(self, data: bytes, format: imaging.Format, manifest: dict[str, Any]) -> bytes:  # noqa: A002 - as in sign
        import c2pa

        signed = io.BytesIO()
        with c2pa.Builder(manifest, context=self._context) as builder:
            builder.sign(imaging.MEDIA_TYPES[format], io.BytesIO(data), signed)
        return signed.getvalue()


def _manifest(facts: imaging.Parameters, references: int) -> dict[str, Any]:
    """The claim of a picture that a model made (C2PA 2: actions, ingredients), in the library's JSON."""
    agent = {"name": "Limner", "version": __version__}
    labels = [f"reference {number}" for number in range(1, references + 1)]
    # All as text, since the library refuses integers from 2**63, which a seed may be.
    told: dict[str, Any] = {name: imaging.legible(str(fact), imaging.PROMPT_LONGEST) for name, fact in facts.items()}
    action = {
        "action": "c2pa.created",
        "when": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "digitalSourceType": imaging.SOURCE_TYPE,
        "softwareAgent": agent,
        "parameters": told | ({"ingredientIds": labels} if labels else {}),
    }
    return {
        "claim_generator_info": [agent],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
        "ingredients": [{"title": f"Subject {label}", "relationship": "inputTo", "label": label} for label in labels],
    }


def read(data: bytes, anchors: str | None = None) -> dict[str, Any] | None:
    """What the official reader says of the content credentials in a file (its manifest store report), or None.

    `anchors` are PEM certificates of authorities to trust. The texts are the file's own: print none as it is.

    Raises:
        LimnerError: the provenance extra is not installed, or the file is of a kind that C2PA does not know.
    """
    try:
        import c2pa
    except ImportError:
        raise LimnerError(MISSING.format("Reading content credentials")) from None
    trust = OPTIONS["trust"] | ({"user_anchors": anchors} if anchors else {})
    try:
        with c2pa.Context.from_dict(OPTIONS | {"trust": trust}) as context:
            reader = c2pa.Reader.try_create(io.BytesIO(data), context=context)
            if reader is None:
                return None
            with reader:
                document: dict[str, Any] = json.loads(reader.json())
                return document
    except c2pa.C2paError as error:
        raise LimnerError(
            f"This file's content credentials cannot be read. The C2PA library says: {imaging.legible(str(error))}."
        ) from None


def _read_chain(path: Path) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise SettingsInvalid(f"c2pa_certificate {path} cannot be read: {error.strerror}.") from None
    except (ValueError, x509.InvalidVersion):
        raise SettingsInvalid(
            f"c2pa_certificate {path} holds no certificate that can be read. It must be PEM."
        ) from None


def _read_key(path: Path) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        return serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SettingsInvalid(f"c2pa_key {path} cannot be read: {error.strerror}.") from None
    except TypeError:
        raise SettingsInvalid(
            f"c2pa_key {path} is encrypted, and nobody is there to type its password. Decrypt it "
            f"(openssl pkey -in {path.name} -out plain.pem) and let the service's user alone read it."
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsInvalid(f"c2pa_key {path} holds no private key that can be read. It must be PEM.") from None


def _public(holder: x509.Certificate | PrivateKeyTypes) -> bytes | None:
    """The public key of a certificate or of a private key, DER; None where it is of a kind that nobody here knows."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = holder.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return None
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _pkcs8(key: PrivateKeyTypes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _algorithm(key: PrivateKeyTypes, path: Path) -> str:
    """The signature algorithm that a key is for, as C2PA names it."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match key:
        case ec.EllipticCurvePrivateKey():
            algorithm = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}.get(key.curve.name)
        case ed25519.Ed25519PrivateKey():
            algorithm = "ed25519"
        case rsa.RSAPrivateKey():
            algorithm = "ps256" if key.key_size >= 2048 else None
        case _:
            algorithm = None
    if algorithm is None:
        raise SettingsInvalid(
            f"c2pa_key {path} is of a kind that content credentials do not know. Use an elliptic curve key (P-256, "
            f"P-384, P-521), Ed25519, or RSA of 2048 bits and more."
        )
    return algorithm


def _out_of_date(certificate: x509.Certificate) -> str | None:
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        return f"the certificate of {_subject(certificate)} expired on {_day(certificate.not_valid_after_utc)}"
    if certificate.not_valid_before_utc > now:
        return f"the certificate of {_subject(certificate)} begins on {_day(certificate.not_valid_before_utc)} only"
    return None


def _unfit(certificate: x509.Certificate) -> str | None:
    """Why this is no signer's certificate (C2PA's certificate profile), where it is told best here; else None."""
    from cryptography import x509

    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension):
        return "its extensions cannot be read"

    def extension(kind: type[Any]) -> Any:
        try:
            return extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None

    constraints, usage, purposes = map(extension, (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage))
    if constraints is not None and constraints.ca:
        return f"it is the certificate of an authority, {_subject(certificate)}, not of a signer"
    if usage is None or not usage.digital_signature:
        return "its key usage does not allow digital signatures"
    if purposes is None or not PURPOSES.keys() & {purpose.dotted_string for purpose in purposes}:
        return f"it has none of these extended key usages: {', '.join(PURPOSES.values())}"
    return None


def _subject(certificate: x509.Certificate) -> str:
    return imaging.legible(certificate.subject.rfc4514_string()) or "no name"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
