"""What the gateway can be told: the language model's endpoint, its key, and the names that it gives to the model."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self

import httpx2
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode


class UpstreamSettings(BaseSettings):
    """The gateway is off while `upstream` is None. Times are seconds."""

    upstream: str | None = None  # the base URL of an OpenAI-compatible endpoint, as its clients are given it
    upstream_key: SecretStr | None = None
    upstream_key_file: Path | None = None  # as container platforms mount secrets
    upstream_forward_key: bool = False  # the caller's own, in place of one of the server's
    upstream_model: Annotated[tuple[str, ...], NoDecode] = ()  # [INDEX=]NAME, where the upstream has its own names
    upstream_timeout: float = Field(default=300.0, gt=0)  # of silence
    attribution_timeout: float = Field(default=30.0, gt=0)  # after the chat's last token

    @field_validator("upstream")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        return None if value is None else _base_url(value)

    @field_validator("upstream_model", mode="before")
    @classmethod
    def _names_by_comma(cls, value: object) -> object:
        if isinstance(value, str):
            return [name.strip() for name in value.split(",") if name.strip()]
        return value

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.upstream_key_file is not None:
            if self.upstream_key is not None:
                raise ValueError("upstream_key and upstream_key_file are both set: give one of them")
            object.__setattr__(self, "upstream_key", _read_key(self.upstream_key_file))
        if self.upstream_key is not None:
            key = self.upstream_key.get_secret_value().strip()
            if not (key and key.isascii() and key.isprintable()):
                raise ValueError("upstream_key is empty, or has characters that no HTTP header can carry")
            object.__setattr__(self, "upstream_key", SecretStr(key))
            if self.upstream_forward_key:
                raise ValueError("upstream_key and upstream_forward_key are both set: one key can be sent, not two")
        return self

    def upstream_name(self, index: str) -> str | None:
        """What the upstream calls an index's model, as far as it was told: the first of its names."""
        return next(iter(self.model_names.get(index, ())), None)

    @property
    def model_names(self) -> dict[str, tuple[str, ...]]:
        """By index, what the upstream calls its model."""
        names: dict[str, tuple[str, ...]] = {}
        for word in self.upstream_model:
            index, equals, name = word.partition("=")
            if not equals:
                index, name = "default", word
            names[index] = (*names.get(index, ()), name)
        return names


def on_this_machine(host: str) -> bool:
    """Whether what is sent to this host stays on this machine. A name other than localhost is not looked up."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _base_url(text: str) -> str:
    """Without a slash at the end, and with /v1 where no path was given. Raises ValueError, which does not quote it."""
    advice = "give one like http://127.0.0.1:8001/v1"
    try:
        url = httpx2.URL(text.strip())
    except httpx2.InvalidURL:
        raise ValueError(f"it is no address; {advice}") from None
    if url.userinfo:
        raise ValueError(f"it holds a name or password; {advice}, and the key in HEADWATER_UPSTREAM_KEY")
    if url.scheme not in ("http", "https") or not url.host or "%" in url.host:
        raise ValueError(f"it is not an http or https address; {advice}")
    if url.query or url.fragment:
        raise ValueError(f"it has a query or a fragment; {advice}")
    base = str(url).rstrip("/")
    return base if url.path.strip("/") else f"{base}/v1"


def _read_key(file: Path) -> SecretStr:
    try:
        return SecretStr(file.read_text("utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"upstream_key_file cannot be read: {type(error).__name__}") from None
