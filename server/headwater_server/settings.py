"""What an operator can set: flags win over HEADWATER_* in the environment, then the file, then these defaults."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import EnvSettingsSource, NoDecode, SettingsConfigDict

from headwater_indexer.engines.options import EngineKind
from headwater_indexer.errors import ConfigurationError, UsageError
from headwater_indexer.memory import parse_size
from headwater_indexer.plan import AskedPlan
from headwater_server.gateway.settings import UpstreamSettings, on_this_machine
from headwater_server.keys import digest

INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # what travels is a name, never a path


class Settings(UpstreamSettings):
    """Everything the server is configured by. Tokens are the model's, times are seconds, sizes are bytes."""

    model_config = SettingsConfigDict(env_prefix="HEADWATER_", env_nested_delimiter="__", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0 takes a free one
    device: str = "auto"
    model: str | None = None  # where the indexed model lies, when it is not where the index says
    plan: AskedPlan = "auto"  # how indexes are searched
    memory: str | None = None  # the most that the process may hold, such as 8GB
    engine: EngineKind = "local"  # ray: the rows are searched by Ray Serve's deployments on a cluster
    shards: int | None = Field(default=None, ge=1)  # into which an index is cut for them; None for one a node
    replicas: int = Field(default=1, ge=1)  # that each of them has, on different nodes
    shard_timeout: float = Field(default=30.0, gt=0)  # seconds that a question waits for one that is started anew
    cache: Path | None = None  # where indexes at URLs are pulled to; None for ~/.cache/headwater
    threads: int | None = Field(default=None, ge=1)  # of torch and FAISS; None leaves it to them

    max_queue_tokens: int = Field(default=65_536, ge=1)
    max_queue_requests: int = Field(default=256, ge=1)
    max_batch_tokens: int = Field(default=8_192, ge=1)  # padding counts
    request_timeout: float = Field(default=60.0, gt=0)
    slow_request_timeout: float = Field(default=300.0, gt=0)  # with `rescore`, and to explain
    drain_timeout: float = Field(default=30.0, gt=0)  # for answers under way after SIGTERM

    keep_attributions: int = Field(default=1_000, ge=0)  # answers to be had again under their ids; 0 keeps none
    keep_bytes: int = Field(default=64 * 1024 * 1024, ge=0)  # of all of them together, as JSON
    keep_seconds: float = Field(default=3600.0, gt=0)

    max_body_bytes: int = Field(default=1_048_576, ge=1)
    max_request_tokens: int | None = Field(default=None, ge=1)  # of a question; None for what the index takes
    max_characters: int = Field(default=200_000, ge=1)  # of prompt and response together, before tokenising

    # A key is given plainly or as `sha256:` and its hash; a file has one a line, as container platforms mount secrets.
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    api_keys_file: Path | None = None
    admin_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()  # may also reload indexes
    admin_keys_file: Path | None = None
    allow_unauthenticated: bool = False

    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()  # names in the Host header; "*" for any
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()  # pages elsewhere that may ask; none by default

    withhold_text: bool = False  # no document's text leaves the server

    log_format: Literal["text", "json"] = "text"
    opentelemetry: bool = False  # spans by OTLP; where to, the OTEL_* variables say
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("api_keys", "admin_keys", "allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _by_comma(cls, value: object) -> object:
        """HEADWATER_API_KEYS=one,two: JSON in an environment variable is easily quoted wrongly."""
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("memory")
    @classmethod
    def _a_size(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parse_size(value)
            except UsageError as error:
                raise ValueError(f"{error}") from None
        return value

    @property
    def memory_bytes(self) -> int | None:
        return None if self.memory is None else parse_size(self.memory)

    @model_validator(mode="after")
    def _keys_from_files(self) -> Self:
        for name in ("api_keys", "admin_keys"):
            file = getattr(self, f"{name}_file")
            if file is not None:
                object.__setattr__(self, name, getattr(self, name) + _read_keys(file, f"{name}_file"))
        for key in self.api_keys + self.admin_keys:
            digest(key.get_secret_value())
        if not (self.api_keys or self.admin_keys or self.allow_unauthenticated or self.loopback):
            raise ValueError(
                f"{self.host} can be reached from other machines and no API key is set: set HEADWATER_API_KEYS, "
                "bind 127.0.0.1, or say --allow-unauthenticated"
            )
        return self

    @model_validator(mode="after")
    def _spread_by_ray(self) -> Self:
        if self.engine == "local" and (self.shards, self.replicas) != (None, 1):
            raise ValueError("--shards and --replicas are for --engine ray")
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server. A name other than localhost is not looked up."""
        return on_this_machine(self.host)

    @property
    def hosts(self) -> frozenset[str]:
        """Names by which the server may be asked; empty for any. By default those of this machine, where it listens
        to this machine alone."""
        if self.allowed_hosts:
            return frozenset() if "*" in self.allowed_hosts else frozenset(name.lower() for name in self.allowed_hosts)
        return frozenset({"localhost", "127.0.0.1", "[::1]", self.host.lower()}) if self.loopback else frozenset()


def read_settings(flags: Mapping[str, object], file: Path | None = None) -> Settings:
    """The settings in force. A flag of None was not given. Raises ConfigurationError, never with a value in it."""
    given = {name: value for name, value in flags.items() if value is not None}
    written = _read_file(file) if file is not None else {}

    try:
        return Settings(**(written | EnvSettingsSource(Settings)() | given))
    except ValidationError as error:
        raise ConfigurationError("; ".join(_sentence(found) for found in error.errors())) from None


def _read_keys(file: Path, setting: str) -> tuple[SecretStr, ...]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{setting} cannot be read: {type(error).__name__}") from None
    keys = tuple(SecretStr(line.strip()) for line in lines if line.strip())
    if not keys:
        raise ValueError(f"{setting} holds no key: write one a line")
    return keys


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}. Is the path of --config right?") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigurationError(f"{file} is not TOML: write one `name = value` a line") from None


def _sentence(found: Mapping[str, Any]) -> str:
    """One finding of pydantic's without the value, which may be a key."""
    message = str(found["msg"]).removeprefix("Value error, ")
    name = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"{name} is not a setting: see `headwater-serve --help`"
    return f"{name}: {message}" if name else message
