from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from limner.config import CONFIG_VARIABLE, Settings, changed, is_loopback, load, settings_table
from limner.errors import SettingsInvalid

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("LIMNER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "limner.toml"
    path.write_text(text, "utf-8")
    return path


def refusal(config: Path | None = None, **overrides: object) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        load(config, **overrides)
    assert "\n" not in caught.value.message
    assert "pydantic" not in caught.value.message
    return caught.value.message


def test_an_argument_wins_over_a_variable_over_the_file_over_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = toml(tmp_path, "port = 1\nqueue_limit = 2\njpeg_quality = 3\n")
    monkeypatch.setenv("LIMNER_PORT", "10")
    monkeypatch.setenv("LIMNER_QUEUE_LIMIT", "20")
    settings = load(config, port=100, threads=None)
    assert (settings.port, settings.queue_limit, settings.jpeg_quality) == (100, 20, 3)
    assert settings.threads == Settings.model_fields["threads"].default


def test_the_config_variable_names_the_file_and_an_argument_wins_over_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(toml(tmp_path, "port = 1")))
    assert load().port == 1
    other = tmp_path / "other.toml"
    other.write_text("port = 2")
    assert load(other).port == 2


def test_an_unknown_variable_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_PROT", "9")
    message = refusal()
    assert "LIMNER_PROT" in message
    assert "LIMNER_PORT" in message


def test_what_clients_are_told_by_variables_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LIMNER_API_KEY", "sk-mine")
    assert load() == Settings()


def test_an_unknown_key_of_the_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    message = refusal(toml(tmp_path, "jpg_quality = 90"))
    assert "jpg_quality" in message
    assert "jpeg_quality" in message
    assert "limner.toml" in message


def test_an_unknown_argument_is_refused_with_the_nearest_name() -> None:
    assert "Did you mean queue_limit?" in refusal(queue_limits=3)


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIMNER_PORT", "")
    monkeypatch.setenv("LIMNER_API_KEYS", "")
    assert load(toml(tmp_path, "port = 7")).port == 7
    assert load().keys() == frozenset()


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("LIMNER_PORT", "x", "integer"),
        ("LIMNER_PORT", "65536", "65535"),
        ("LIMNER_REQUEST_SECONDS", "inf", "finite"),
        ("LIMNER_LINK_SECONDS", "0", "greater than 0"),
        ("LIMNER_HTTP_STATUS", "maybe", "'ok' or 'real'"),
        ("LIMNER_MODEL_ALIASES", "dall-e-3", "name=value"),
        ("LIMNER_MODELS", "image-01=", "name=value"),
        ("LIMNER_MEMORY_GB", "0", "greater than 0"),
        ("LIMNER_REFERENCE_ALLOW", "10.0.0.1/8", "host bits"),
        ("LIMNER_PUBLIC_URL", "ftp://pictures", "http://"),
        ("LIMNER_OPTIMIZER_URL", "http://me:secret@host/v1", "password"),
    ],
)
def test_a_bad_value_is_named_by_its_variable_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, part: str
) -> None:
    monkeypatch.setenv(variable, value)
    message = refusal()
    assert message.startswith(variable)
    assert part in message
    assert "secret" not in message


def test_a_bad_value_of_the_file_is_named_with_the_file(tmp_path: Path) -> None:
    assert "jpeg_quality in " in refusal(toml(tmp_path, "jpeg_quality = 0"))


def test_a_missing_or_malformed_file_is_a_sentence(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.toml")
    assert "not valid TOML" in refusal(toml(tmp_path, "port = = 3"))
    (tmp_path / "latin.toml").write_bytes(b'watermark_text = "\xe9"')
    assert "not valid TOML" in refusal(tmp_path / "latin.toml")


def test_lists_and_tables_are_written_with_commas_in_variables_and_as_toml_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = load(toml(tmp_path, 'reference_allow = ["10.0.0.0/8"]\n[model_aliases]\nmine = "image-01"\n'))
    assert file.reference_allow == ("10.0.0.0/8",)
    assert file.model_aliases == {"mine": "image-01"}
    monkeypatch.setenv("LIMNER_REFERENCE_ALLOW", "10.0.0.0/8, fd00::/8")
    monkeypatch.setenv("LIMNER_MODEL_ALIASES", "a = image-01, b=image-01-live")
    settings = load()
    assert settings.reference_allow == ("10.0.0.0/8", "fd00::/8")
    assert settings.model_aliases == {"a": "image-01", "b": "image-01-live"}
    monkeypatch.setenv("LIMNER_MODELS", "image-01 = /m/sd=1, x=owner/name,")
    assert load().models == {"image-01": "/m/sd=1", "x": "owner/name"}
    monkeypatch.delenv("LIMNER_MODELS")
    assert load(toml(tmp_path, '[models]\nx = "/with, comma"')).models == {"x": "/with, comma"}


def test_converted_networks_go_below_the_data_unless_told(tmp_path: Path) -> None:
    assert load(data_dir=tmp_path).cache_dir() == tmp_path / "networks"
    assert load(model_cache=tmp_path / "c").cache_dir() == tmp_path / "c"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "::ffff:10.0.0.1"])
def test_another_address_than_loopback_is_told_from_it(host: str) -> None:
    """Such settings can be read without a key, so that `limner keys create` can make one; tests/test_tenants.py has
    what the service asks for then."""
    assert not is_loopback(host)
    assert load(host=host).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert is_loopback(host)
    assert load(host=host).keys() == frozenset()


def test_keys_come_from_the_setting_and_the_file_together(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nsk-file-1\n\n  sk-file-2  # a colleague's\n")
    keys = load(api_keys="sk-a, sk-b,", api_keys_file=file).keys()
    assert {key.get_secret_value() for key in keys} == {"sk-a", "sk-b", "sk-file-1", "sk-file-2"}


def test_no_key_is_ever_printed(tmp_path: Path) -> None:
    settings = load(api_keys="sk-hush", optimizer_key="sk-whisper")
    shown = f"{settings!r} {settings} {settings.keys()} {changed(settings)} {settings.model_dump_json()}"
    assert "hush" not in shown
    assert "whisper" not in shown
    assert changed(settings)["api_keys"] == "(set)"


def test_a_key_file_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(api_keys_file=tmp_path / "none")
    empty = tmp_path / "empty"
    empty.write_text("# nothing yet\n")
    assert "holds no key" in refusal(api_keys_file=empty)
    assert "holds no key" in refusal(api_keys_file=empty, api_keys="sk-a")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in refusal(api_keys_file=binary)


def test_keys_that_are_set_but_empty_do_not_open_the_service() -> None:
    assert "holds no key" in refusal(api_keys=" , ")


@pytest.mark.parametrize("key", ["two words", "ключ", "bell\x07"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    message = refusal(api_keys=f"sk-good,{key}")
    assert "Authorization" in message
    assert key not in message


def test_a_certificate_and_its_key_go_together_and_must_be_usable(tmp_path: Path) -> None:
    pem = tmp_path / "any.pem"
    pem.write_text("not a certificate")
    assert "go together" in refusal(tls_certificate=pem)
    assert "go together" in refusal(tls_key=pem)
    assert "not a file" in refusal(tls_certificate=pem, tls_key=tmp_path / "none.pem")
    assert "PEM" in refusal(tls_certificate=pem, tls_key=pem)


def test_the_font_of_the_mark_must_be_a_file(tmp_path: Path) -> None:
    assert "watermark_font" in refusal(watermark_font=tmp_path)


def test_base_addresses_lose_their_trailing_slash_and_no_origin_is_written_none() -> None:
    assert load(public_url="https://pictures.example/").public_url == "https://pictures.example"
    assert load(cors_origin="none").cors_origin is None


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().port = 1  # type: ignore[misc]  # the point of the test


def test_changed_lists_what_differs_from_the_defaults_alone() -> None:
    assert changed(load()) == {}
    assert changed(load(port=9, log_format="json")) == {"port": "9", "log_format": "json"}
    lists = load(reference_allow="10.0.0.0/8, ::1/128", model_aliases="mine=image-01", extra_ratios=False)
    written = {"reference_allow": "10.0.0.0/8,::1/128", "model_aliases": "mine=image-01", "extra_ratios": "false"}
    assert changed(lists) == written


def test_the_settings_page_is_what_the_settings_generate() -> None:
    assert PAGE.read_text("utf-8") == settings_table(), "run: python -m limner.config > docs/settings.md"


def test_every_setting_is_documented_with_its_variable_and_a_meaning() -> None:
    rows = {line.split("|")[1].strip(): line for line in settings_table().splitlines() if line.startswith("| `")}
    for name, field in Settings.model_fields.items():
        cells = [cell.strip() for cell in rows[f"`{name}`"].strip("|").split("|")]
        assert len(cells) == 5, f"a bar in the row of {name} would break the table"
        assert cells[1] == f"`LIMNER_{name.upper()}`"
        assert field.description
        assert len(cells[4]) > 10
        if field.annotation in (float, int) and name != "port":
            words = ("second", "byte", "pixel", "code points", "most", "threads", "1 to 100", "pictures waiting")
            assert any(word in cells[4].lower() for word in words), f"{name} does not say its unit"


def test_a_secret_of_the_settings_is_a_secret() -> None:
    for name in Settings.model_fields:
        if name.endswith(("_key", "_keys")) and name not in ("tls_key", "c2pa_key"):  # files
            assert SecretStr in getattr(Settings.model_fields[name].annotation, "__args__", ())
