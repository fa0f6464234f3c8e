"""Settings: who wins, what is refused, and that no key is told."""

import pytest

from headwater_indexer.errors import ConfigurationError
from headwater_server.settings import read_settings

EVERYWHERE = "0.0.0.0"  # noqa: S104  what is refused
KEY = "0123456789abcdef-secret"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("PORT", "HOST", "API_KEYS", "API_KEYS_FILE", "ADMIN_KEYS", "ALLOWED_HOSTS", "DEVICE", "LOG_FORMAT"):
        monkeypatch.delenv(f"HEADWATER_{name}", raising=False)


def test_flags_win_over_environment_over_file_over_default(tmp_path, monkeypatch):
    file = tmp_path / "headwater.toml"
    file.write_text('port = 1001\ndevice = "cpu"\nmax_batch_tokens = 77\n')
    monkeypatch.setenv("HEADWATER_PORT", "1002")
    monkeypatch.setenv("HEADWATER_DEVICE", "cuda:1")
    settings = read_settings({"port": 1003, "device": None}, file)
    assert (settings.port, settings.device, settings.max_batch_tokens, settings.host) == (
        1003,
        "cuda:1",
        77,
        "127.0.0.1",
    )


def test_another_host_without_a_key_is_refused():
    with pytest.raises(ConfigurationError, match=r"0\.0\.0\.0 can be reached .* HEADWATER_API_KEYS.*127\.0\.0\.1"):
        read_settings({"host": EVERYWHERE})
    assert read_settings({"host": EVERYWHERE, "allow_unauthenticated": True}).host == EVERYWHERE
    assert read_settings({"host": "::1"}).loopback


def test_keys_from_environment_and_file(tmp_path, monkeypatch):
    (tmp_path / "keys").write_text(f"{KEY}-3\n\n")
    monkeypatch.setenv("HEADWATER_API_KEYS", f"{KEY}-1, {KEY}-2")
    settings = read_settings({"host": EVERYWHERE, "api_keys_file": tmp_path / "keys"})
    assert [key.get_secret_value()[-1] for key in settings.api_keys] == ["1", "2", "3"]
    assert KEY not in repr(settings)


def test_a_short_key_is_refused_and_not_told(monkeypatch):
    monkeypatch.setenv("HEADWATER_API_KEYS", "hunter2")
    with pytest.raises(ConfigurationError, match="shorter than 16") as refused:
        read_settings({})
    assert "hunter2" not in str(refused.value)


def test_keys_may_be_given_as_hashes(monkeypatch):
    monkeypatch.setenv("HEADWATER_ADMIN_KEYS", f"sha256:{'0' * 64}")
    assert read_settings({"host": EVERYWHERE}).admin_keys[0].get_secret_value() == f"sha256:{'0' * 64}"
    monkeypatch.setenv("HEADWATER_API_KEYS", "sha256:abc")
    with pytest.raises(ConfigurationError, match="`sha256:` and 64 hex digits") as refused:
        read_settings({})
    assert "abc" not in str(refused.value)


def test_hosts_are_this_machine_s_unless_others_may_ask(monkeypatch):
    assert read_settings({}).hosts == {"localhost", "127.0.0.1", "[::1]"}
    assert read_settings({"host": EVERYWHERE, "allow_unauthenticated": True}).hosts == frozenset()
    monkeypatch.setenv("HEADWATER_ALLOWED_HOSTS", "Docs.example, api.example")
    assert read_settings({}).hosts == {"docs.example", "api.example"}
    assert read_settings({"allowed_hosts": "*"}).hosts == frozenset()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 8000", "prot is not a setting"),
        ("port = 70000", "port: .*less than or equal to 65535"),
        ("port 8000", "is not TOML"),
    ],
)
def test_a_file_that_cannot_be_meant(tmp_path, text, message):
    file = tmp_path / "headwater.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_settings({}, file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match="Is the path of --config right"):
        read_settings({}, tmp_path / "none.toml")


def test_parts_and_replicas_are_for_a_cluster(monkeypatch):
    monkeypatch.setenv("HEADWATER_REPLICAS", "2")
    assert read_settings({"engine": "ray", "shards": 3}).replicas == 2
    for given in ({}, {"replicas": 1, "shards": 3}):
        with pytest.raises(ConfigurationError, match="--shards and --replicas are for --engine ray"):
            read_settings(given)
    with pytest.raises(ConfigurationError, match="replicas: Input should be greater than or equal to 1"):
        read_settings({"engine": "ray", "replicas": 0})
