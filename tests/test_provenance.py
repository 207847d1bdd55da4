"""Content credentials, verified with the official reader (c2pa.Reader)."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import stat
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import c2pa
import numpy as np
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from PIL import Image
from typer.testing import CliRunner

from limner import __version__, imaging, provenance
from limner.cli import provenance as cli_provenance
from limner.config import Settings
from limner.engine.core import UInt8
from limner.errors import EngineFailed, LimnerError, SettingsInvalid
from limner.imaging import MEDIA_TYPES, Format
from limner.provenance import Signer

FORMATS: tuple[Format, ...] = tuple(MEDIA_TYPES)
PIXELS: UInt8 = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
MADE = cli_provenance.make("Foxes & Co", days=90)
AUTHORITY = MADE.authority.decode()

PEM, PKCS8, PLAIN = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
EMAIL, DOCUMENTS = x509.ExtendedKeyUsageOID.EMAIL_PROTECTION, x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
CLAIMS, SERVERS = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1"), x509.ExtendedKeyUsageOID.SERVER_AUTH
AUTHORITY_KEY, KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def certificate(
    key: Any = KEY,
    *,
    days: tuple[float, float] = (-2, 60),
    usages: tuple[x509.ObjectIdentifier, ...] = (EMAIL,),
    signs: bool | None = True,
    authority: bool = False,
    names_issuer: bool = True,
) -> bytes:
    """A signer's certificate, or one that lacks something of it."""
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Test Ltd")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test authority")]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
    )
    if signs is not None:
        rest = [False] * 4
        builder = builder.add_extension(x509.KeyUsage(signs, *rest, not signs, not signs, False, False), critical=True)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if names_issuer:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(AUTHORITY_KEY.public_key())
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(AUTHORITY_KEY, hashes.SHA256()).public_bytes(PEM)


def plain(key: Any, form: Any = PKCS8, encryption: Any = PLAIN) -> bytes:
    return bytes(key.private_bytes(PEM, form, encryption))


def settings(folder: Path, chain: bytes, key: bytes) -> Settings:
    (folder / "certificate.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key)
    return Settings(data_dir=folder, c2pa_certificate=folder / "certificate.pem", c2pa_key=folder / "key.pem")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    loaded = Signer.load(settings(tmp_path_factory.mktemp("signer"), MADE.certificate, MADE.key))
    assert loaded is not None
    return loaded


def signed(signer: Signer, data: bytes, kind: Format, **facts: Any) -> bytes:
    return signer.sign(data, kind, **{"model": "image-01", "fingerprint": None, "references": 0, **facts})


def report(data: bytes, kind: Format, anchors: str | None = None) -> dict[str, Any]:
    """What the official reader says, with nothing of ours between."""
    with (
        c2pa.Context.from_dict({"trust": {"user_anchors": anchors}} if anchors else {}) as context,
        c2pa.Reader(MEDIA_TYPES[kind], io.BytesIO(data), context=context) as reader,
    ):
        document: dict[str, Any] = json.loads(reader.json())
        return document


def active(document: dict[str, Any]) -> dict[str, Any]:
    manifest: dict[str, Any] = document["manifests"][document["active_manifest"]]
    return manifest


def created(document: dict[str, Any]) -> dict[str, Any]:
    """The one action of the one assertion."""
    [assertion] = active(document)["assertions"]
    assert assertion["label"] == "c2pa.actions.v2"
    [action] = assertion["data"]["actions"]
    assert action["action"] == "c2pa.created"
    return dict(action)


def codes(document: dict[str, Any]) -> set[str]:
    return {status["code"] for status in document.get("validation_status", [])}


def without_manifest(data: bytes, kind: Format) -> bytes:
    """The file with its C2PA segments taken out: APP11 of JPEG, caBX of PNG, the C2PA chunk of WebP."""
    if kind == "jpeg":
        kept, at = data[:2], 2
        while data[at + 1] != 0xDA:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            kept += data[at:end] if data[at + 1] != 0xEB else b""
            at = end
        return kept + data[at:]
    if kind == "png":
        kept, at = data[:8], 8
        while at < len(data):
            end = at + 12 + int.from_bytes(data[at : at + 4], "big")
            kept += data[at:end] if data[at + 4 : at + 8] != b"caBX" else b""
            at = end
        return kept
    kept, at = b"", 12
    while at < len(data):
        end = at + 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2
        kept += data[at:end] if data[at : at + 4] != b"C2PA" else b""
        at = end
    return b"RIFF" + (len(kept) + 4).to_bytes(4, "little") + b"WEBP" + kept


def test_pictures_are_not_signed_unless_a_certificate_is_set(tmp_path: Path) -> None:
    assert Signer.load(Settings(data_dir=tmp_path)) is None


@pytest.mark.parametrize("kind", FORMATS)
def test_the_official_reader_finds_a_signed_picture_valid_and_told_of_its_authority_trusts_it(
    signer: Signer, kind: Format
) -> None:
    data = signed(signer, imaging.encode(PIXELS, kind), kind)
    document = report(data, kind)
    assert document["validation_state"] == "Valid"
    assert codes(document) == {"signingCredential.untrusted"}
    signature = active(document)["signature_info"]
    assert (signature["issuer"], signature["alg"]) == ("Foxes & Co", "Es256")
    document = report(data, kind, AUTHORITY)
    assert document["validation_state"] == "Trusted"
    assert codes(document) == set()


def test_the_manifest_says_what_made_the_picture_when_and_nothing_of_the_prompt(signer: Signer) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    data = imaging.encode(PIXELS)
    document = report(signed(signer, data, "jpeg", model="image-01", fingerprint="0123456789abcdef"), "jpeg")
    manifest, action = active(document), created(document)
    [generator] = manifest["claim_generator_info"]
    assert (generator["name"], generator["version"]) == ("Limner", __version__)
    assert action["digitalSourceType"] == imaging.SOURCE_TYPE
    assert action["softwareAgent"] == {"name": "Limner", "version": __version__}
    assert action["parameters"] == {"model": "image-01", "fingerprint": "0123456789abcdef"}
    assert before <= datetime.fromisoformat(action["when"]) <= datetime.now(UTC)
    assert manifest.get("ingredients", []) == []
    assert "thumbnail" not in manifest


def test_parameters_stand_in_the_manifest_where_they_are_given_however_hostile(signer: Signer) -> None:
    prompt = 'a fox\n"]]>\\ \x00\x1b[31m \ud800 ' + "😀" * 1500
    parameters: imaging.Parameters = {"prompt": prompt, "seed": 2**64 - 1, "guidance": 3.5}
    document = report(signed(signer, imaging.encode(PIXELS), "jpeg", parameters=parameters), "jpeg")
    assert document["validation_state"] == "Valid"
    assert created(document)["parameters"] == {
        "model": "image-01",
        "prompt": 'a fox\n"]]>\\ \ufffd\ufffd[31m \ufffd ' + "😀" * 1500,
        "seed": "18446744073709551615",
        "guidance": "3.5",
    }


def test_references_are_ingredients_put_into_the_model_and_nothing_of_them_is_told(signer: Signer) -> None:
    data = imaging.encode(PIXELS)
    one, three = (signed(signer, data, "jpeg", references=count) for count in (1, 3))
    document = report(three, "jpeg")
    assert document["validation_state"] == "Valid"
    ingredients = active(document)["ingredients"]
    assert [(i["title"], i["relationship"]) for i in ingredients] == [
        (f"Subject reference {number}", "inputTo") for number in (1, 2, 3)
    ]
    assert all(ingredient.keys() == {"title", "relationship", "label"} for ingredient in ingredients)
    named = {reference["url"].rpartition("/")[2] for reference in created(document)["parameters"]["ingredients"]}
    assert named == {ingredient["label"] for ingredient in ingredients}
    assert len(active(report(one, "jpeg"))["ingredients"]) == 1


@pytest.mark.parametrize("kind", FORMATS)
def test_a_signed_file_is_the_unsigned_one_and_a_manifest(signer: Signer, kind: Format) -> None:
    data = imaging.encode(PIXELS, kind, watermark="AI")
    assert imaging.encode(PIXELS, kind, watermark="AI") == data
    once, again = signed(signer, data, kind), signed(signer, data, kind)
    assert once != again  # each has a name, a time and a signature of its own
    assert without_manifest(once, kind) == without_manifest(again, kind) == data
    with Image.open(io.BytesIO(once)) as with_manifest, Image.open(io.BytesIO(data)) as bare:
        assert with_manifest.info["xmp"] == bare.info["xmp"]
        assert np.array_equal(np.asarray(with_manifest), np.asarray(bare))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("what", ["pixels", "metadata"])
def test_one_changed_byte_makes_the_credentials_invalid(signer: Signer, kind: Format, what: str) -> None:
    data = bytearray(signed(signer, imaging.encode(PIXELS, kind), kind))
    mark = {"jpeg": b"\xff\xda", "png": b"IDAT", "webp": b"VP8 "}[kind]
    at = data.index(mark) + 200 if what == "pixels" else data.index(b'trainedAlgorithmicMedia" ')
    data[at] ^= 1
    document = report(bytes(data), kind)
    assert document["validation_state"] == "Invalid"
    assert "assertion.dataHash.mismatch" in codes(document)


def test_another_pictures_manifest_is_not_taken_for_its_own(signer: Signer) -> None:
    one, other = (imaging.encode(pixels) for pixels in (PIXELS, 255 - PIXELS))
    with_manifest = signed(signer, one, "jpeg")
    at = next(i for i in range(len(one)) if with_manifest[i] != one[i])
    manifest = with_manifest[at : at + len(with_manifest) - len(one)]
    moved = other[:at] + manifest + other[at:]
    assert report(one[:at] + manifest + one[at:], "jpeg")["validation_state"] == "Valid"
    assert report(moved, "jpeg")["validation_state"] == "Invalid"


def test_a_stored_picture_in_another_format_has_no_credentials_but_its_metadata(signer: Signer) -> None:
    stored = signed(signer, imaging.encode(PIXELS), "jpeg")
    for kind in ("png", "webp"):
        other = imaging.transcode(stored, kind)
        assert provenance.read(other) is None
        with Image.open(io.BytesIO(other)) as image:
            assert imaging.SOURCE_TYPE.encode() in image.info["xmp"]


def test_many_threads_share_one_signer(signer: Signer) -> None:
    files = {kind: imaging.encode(PIXELS, kind) for kind in FORMATS}

    def one(number: int) -> tuple[str, str]:
        kind = FORMATS[number % 3]
        document = report(signed(signer, files[kind], kind, model=f"model-{number}", references=number % 3), kind)
        return document["validation_state"], created(document)["parameters"]["model"]

    with ThreadPoolExecutor(64) as threads:
        assert list(threads.map(one, range(256))) == [("Valid", f"model-{number}") for number in range(256)]


UNFIT: dict[str, tuple[Callable[[], tuple[bytes, bytes]], str]] = {
    "expired": (lambda: (certificate(days=(-9, -1)), plain(KEY)), "Test Ltd expired on 20"),
    "too early": (lambda: (certificate(days=(1, 9)), plain(KEY)), "begins on 20"),
    "expired authority": (
        lambda: (certificate() + certificate(AUTHORITY_KEY, days=(-9, -1)), plain(KEY)),
        "expired on 20",
    ),
    "of a server": (lambda: (certificate(usages=(SERVERS,)), plain(KEY)), "extended key usages: e-mail protection"),
    "of no usage": (lambda: (certificate(usages=()), plain(KEY)), "extended key usages"),
    "not for signatures": (lambda: (certificate(signs=False), plain(KEY)), "key usage does not allow"),
    "without key usage": (lambda: (certificate(signs=None), plain(KEY)), "key usage does not allow"),
    "of an authority": (lambda: (certificate(authority=True), plain(KEY)), "of an authority, O=Test Ltd"),
    "without issuer's key": (lambda: (certificate(names_issuer=False), plain(KEY)), "The C2PA library says: .*invalid"),
    "of another key": (lambda: (certificate(), plain(AUTHORITY_KEY)), "is not the key of"),
    "chain the wrong way": (lambda: (certificate(AUTHORITY_KEY) + certificate(), plain(KEY)), "comes first"),
    "of an unknown curve": (lambda: (unknown_curve(), plain(KEY)), "is not the key of"),
    "no certificate": (lambda: (b"hello", plain(KEY)), "certificate.pem holds no certificate"),
    "no key": (lambda: (certificate(), b"hello"), "key.pem holds no private key"),
    "encrypted key": (
        lambda: (certificate(), plain(KEY, encryption=serialization.BestAvailableEncryption(b"x"))),
        "key.pem is encrypted",
    ),
    "unknown curve": (lambda: both(ec.generate_private_key(ec.SECP256K1())), "of a kind that content credentials"),
    "short key": (lambda: both(rsa.generate_private_key(65537, 1024)), "RSA of 2048 bits"),
}


def unknown_curve() -> bytes:
    """A certificate whose key is on a curve by a number that no standard gave out."""
    der = x509.load_pem_x509_certificate(certificate()).public_bytes(serialization.Encoding.DER)
    odd = der.replace(bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f"), 1)
    assert odd != der
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(odd) + b"-----END CERTIFICATE-----\n"


def both(key: Any) -> tuple[bytes, bytes]:
    return certificate(key), plain(key)


@pytest.mark.parametrize("kind", UNFIT)
def test_a_certificate_that_does_not_fit_stops_the_start_with_a_sentence(tmp_path: Path, kind: str) -> None:
    files, sentence = UNFIT[kind]
    chain, key = files()
    with pytest.raises(SettingsInvalid, match=sentence) as refused:
        Signer.load(settings(tmp_path, chain, key))
    assert refused.value.message.endswith(".")
    assert "PRIVATE" not in refused.value.message


RSA = rsa.generate_private_key(65537, 2048)
OPENSSL = serialization.PrivateFormat.TraditionalOpenSSL
FIT: dict[str, tuple[bytes, bytes]] = {
    "documents": (certificate(usages=(DOCUMENTS,)), plain(KEY)),
    "claims": (certificate(usages=(CLAIMS,)), plain(KEY)),
    "with its authority": (certificate() + certificate(AUTHORITY_KEY, authority=True), plain(KEY)),
    "key as openssl ecparam writes it": (certificate(), plain(KEY, OPENSSL)),
    "RSA": (certificate(RSA), plain(RSA)),
    "RSA as openssl genrsa wrote it": (certificate(RSA), plain(RSA, OPENSSL)),
    "P-384": both(ec.generate_private_key(ec.SECP384R1())),
    "P-521": both(ec.generate_private_key(ec.SECP521R1())),
    "Ed25519": both(ed25519.Ed25519PrivateKey.generate()),
}


@pytest.mark.parametrize("kind", FIT)
def test_every_kind_of_certificate_and_key_that_c2pa_knows_signs(tmp_path: Path, kind: str) -> None:
    signer = Signer.load(settings(tmp_path, *FIT[kind]))
    assert signer is not None
    document = provenance.read(signed(signer, imaging.encode(PIXELS), "jpeg"))
    assert document is not None
    assert document["validation_state"] == "Valid"


def test_a_certificate_that_ends_while_the_service_runs_fails_the_picture_with_a_sentence() -> None:
    signer = Signer(certificate(days=(-9, -1)), plain(KEY), "es256", time.time() - 86400)
    with structlog.testing.capture_logs() as logs, pytest.raises(EngineFailed, match="could not be signed") as failed:
        signed(signer, imaging.encode(PIXELS), "jpeg")
    assert failed.value.message.endswith(".")
    assert [(line["event"], "not valid at time" in line["reason"]) for line in logs] == [
        ("a picture could not be signed", True)
    ]


def test_a_certificate_that_ends_soon_is_told_in_the_log(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        soon = Signer.load(settings(tmp_path, certificate(days=(-2, 9)), plain(KEY)))
        Signer.load(settings(tmp_path, certificate(days=(-2, 60)), plain(KEY)))
    assert soon is not None
    assert 8 * 86400 < soon.expires - time.time() <= 9 * 86400
    assert [line["event"] for line in logs] == ["the certificate of content credentials ends soon"]


def test_what_is_no_picture_of_its_format_is_not_signed(signer: Signer) -> None:
    with pytest.raises(EngineFailed, match="could not be signed"):
        signed(signer, b"no picture", "jpeg")


def test_without_the_extra_the_way_to_install_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(tmp_path, MADE.certificate, MADE.key)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(SettingsInvalid, match=r"pip install 'limner\[provenance\]'"):
        Signer.load(given)
    with pytest.raises(LimnerError, match=r"pip install 'limner\[provenance\]'"):
        provenance.read(b"")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(LimnerError, match=r"pip install 'limner\[provenance\]'"):
        cli_provenance.make("Foxes", 1)


def test_the_self_made_certificate_follows_the_profile() -> None:
    made, authority = (x509.load_pem_x509_certificate(pem) for pem in (MADE.certificate, MADE.authority))
    made.verify_directly_issued_by(authority)
    assert made.version == authority.version == x509.Version.v3
    assert made.subject != made.issuer == authority.subject

    def of(kind: Any) -> Any:
        return made.extensions.get_extension_for_class(kind)

    usage = of(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not of(x509.BasicConstraints).value.ca
    assert list(of(x509.ExtendedKeyUsage).value) == [EMAIL, CLAIMS]
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert of(x509.AuthorityKeyIdentifier).value.key_identifier == identifier.digest
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli_provenance.provenance, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, done.output


def test_one_command_makes_a_certificate_that_signs_and_never_overwrites_one(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "c2pa"
    before = os.umask(0)
    try:
        code, told = run("certificate", "--out", folder, "--name", "Foxes & Co")
    finally:
        os.umask(before)
    assert code == 0
    assert f"LIMNER_C2PA_KEY={folder / 'key.pem'}" in told
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    given = Settings(data_dir=tmp_path, c2pa_certificate=folder / "certificate.pem", c2pa_key=folder / "key.pem")
    assert Signer.load(given) is not None

    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files.keys() == {"certificate.pem", "key.pem", "authority.pem"}
    code, told = run("certificate", "--out", folder)
    assert code == 1
    assert "--force" in told
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files

    outside = tmp_path / "outside"
    outside.write_text("untouched")
    (folder / "key.pem").unlink()
    (folder / "key.pem").symlink_to(outside)
    assert run("certificate", "--out", folder)[0] == 1
    assert run("certificate", "--out", folder, "--force")[0] == 0
    assert outside.read_text() == "untouched"
    assert stat.S_IMODE((folder / "key.pem").lstat().st_mode) == 0o600
    assert Signer.load(given) is not None


def test_a_link_to_nowhere_counts_as_a_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "key.pem").symlink_to(tmp_path / "nowhere")
    assert run("certificate", "--out", tmp_path)[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


@pytest.mark.parametrize("name", ["", "   ", "x" * 65, "a\nb"])
def test_a_name_that_no_certificate_can_carry_is_refused(tmp_path: Path, name: str) -> None:
    code, told = run("certificate", "--out", tmp_path / "c2pa", "--name", name)
    assert code == 2
    assert "1 to 64" in told
    assert not (tmp_path / "c2pa").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, told = run("certificate", "--out", tmp_path / "file" / "c2pa")
    assert code == 1
    assert "could not be written" in told


def test_verify_tells_in_sentences_what_a_picture_carries(signer: Signer, tmp_path: Path) -> None:
    picture, authority = tmp_path / "fox.jpeg", tmp_path / "authority.pem"
    authority.write_bytes(MADE.authority)
    parameters: imaging.Parameters = {"prompt": "a red fox", "seed": 7}
    data = signed(signer, imaging.encode(PIXELS), "jpeg", references=1, parameters=parameters)
    picture.write_bytes(data)

    code, told = run("verify", picture)
    assert code == 0
    for words in (
        "are valid", "Signed by Foxes & Co", "ES256", "no authority that the reader trusts", f"Limner {__version__}",
        "c2pa.created", "trainedAlgorithmicMedia", "model: image-01", "prompt: a red fox",
        "Subject reference 1 (inputTo)",
    ):  # fmt: skip
        assert words in told
    code, told = run("verify", picture, "--anchor", authority)
    assert (code, "The signer is trusted" in told) == (0, True)
    code, told = run("verify", picture, "--json")
    assert (code, json.loads(told)["validation_state"]) == (0, "Valid")

    picture.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    code, told = run("verify", picture)
    assert code == 1
    assert "NOT valid" in told
    assert "the file was changed after it was signed" in told
    assert "assertion.dataHash.mismatch" in told
    assert "claim to be signed by Foxes & Co" in told
    assert run("verify", picture, "--json")[0] == 1

    picture.write_bytes(imaging.encode(PIXELS))
    code, told = run("verify", picture)
    assert (code, "no content credentials" in told) == (1, True)


def test_what_failed_is_told_in_plain_words_or_the_readers_own(signer: Signer) -> None:
    document = report(signed(signer, imaging.encode(PIXELS), "jpeg"), "jpeg")
    document["validation_state"] = "Invalid"
    document["validation_status"] += [{"code": "signingCredential.expired"}, {"code": "x", "explanation": "a\x07b"}]
    told = list(cli_provenance.told(document))
    assert told[0] == "The content credentials are NOT valid:"
    assert told[1].startswith("  the certificate has expired, and no timestamp shows")
    assert told[2] == "  a\ufffdb (x)"
    assert not any("trusted" in line for line in told)


@pytest.mark.parametrize(
    ("file", "anchor", "words"),
    [
        ("missing.jpeg", "authority.pem", "missing.jpeg cannot be read"),
        ("picture.jpeg", "missing.pem", "missing.pem cannot be read"),
        ("picture.jpeg", "text.txt", "text.txt holds no certificate"),
        ("text.txt", "authority.pem", "content credentials cannot be read"),
    ],
)
def test_what_verify_cannot_read_is_told(tmp_path: Path, file: str, anchor: str, words: str) -> None:
    (tmp_path / "picture.jpeg").write_bytes(imaging.encode(PIXELS))
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "authority.pem").write_bytes(MADE.authority)
    code, told = run("verify", tmp_path / file, "--anchor", tmp_path / anchor)
    assert code == 1
    assert words in " ".join(told.split())


def test_a_strangers_manifest_cannot_steer_the_terminal() -> None:
    escape = "\x1b]0;owned\x07\x9b31m\nThe signer is trusted:"
    info = c2pa.C2paSignerInfo("es256", MADE.certificate, MADE.key, None)
    action = {"action": "c2pa.created", "digitalSourceType": imaging.SOURCE_TYPE, "parameters": {escape: escape}}
    manifest = {
        "claim_generator_info": [{"name": escape, "version": escape}],
        "assertions": [
            {"label": "c2pa.actions", "data": {"actions": [action]}},
            {"label": "org.example.list", "data": ["actions"]},
        ],
        "ingredients": [{"title": escape, "relationship": "inputTo"}],
    }
    file = io.BytesIO()
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(manifest) as builder:
        builder.sign(signer, "image/jpeg", io.BytesIO(imaging.encode(PIXELS)), file)
    document = provenance.read(file.getvalue())
    assert document is not None
    lines = list(cli_provenance.told(document))
    assert any("owned" in line for line in lines)
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("The signer is trusted:") for line in lines)


def test_no_damage_to_a_file_breaks_the_reader_or_changes_what_a_valid_one_says(signer: Signer) -> None:
    whole = signed(signer, imaging.encode(PIXELS), "jpeg", references=1)
    document = provenance.read(whole)
    assert document is not None
    before = list(cli_provenance.told(document))
    draw = random.Random(5)
    states = set()
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 3))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        try:
            document = provenance.read(bytes(data))
        except LimnerError as error:
            assert error.message.isprintable()  # noqa: PT017 - some damage is told as an error, some as a state
            states.add("error")
            continue
        states.add("none" if document is None else document["validation_state"])
        if document is not None:
            lines = list(cli_provenance.told(document))
            assert document["validation_state"] == "Invalid" or lines == before
    assert states >= {"Invalid", "error"}
