"""Where the running stack is: from the environment, else from the file that `make up` wrote."""

import os
from collections.abc import MutableMapping
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClientSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True)

    gateway_url: str = Field(
        validation_alias="GATEWAY_URL", pattern="^https?://", description="http://host:port of the public API"
    )
    jwt_private_key_file: Path = Field(validation_alias="JWT_PRIVATE_KEY_FILE", description="PEM, Ed25519")
    jwt_issuer: str = Field("headrace-dev", validation_alias="JWT_ISSUER")
    jwt_audience: str = Field("headrace", validation_alias="JWT_AUDIENCE")


class ReplaySettings(ClientSettings):
    database_url: SecretStr = Field(validation_alias="DATABASE_URL", description="where the orders become final")


class BooksSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True)

    kafka_bootstrap_servers: str = Field(validation_alias="KAFKA_BOOTSTRAP_SERVERS", description="host:port, …")
    kafka_fetch_max_wait_ms: int = Field(
        500, validation_alias="KAFKA_FETCH_MAX_WAIT_MS", description="how long the broker may hold a fetch"
    )
    database_url: SecretStr = Field(validation_alias="DATABASE_URL", description="postgresql://user:password@host/db")
    payment_provider_url: str = Field(
        validation_alias="PAYMENT_PROVIDER_URL", pattern="^https?://", description="http://host:port of its ledger"
    )


def run_dir() -> Path:
    """The folder of the running stack: `.run`, or HEADRACE_RUN_DIR."""
    return Path(os.environ.get("HEADRACE_RUN_DIR", ".run"))


def add_stack_file(environment: MutableMapping[str, str], stack_file: Path) -> None:
    """Add the KEY=value lines of the file, where there is one; what the environment already has wins."""
    if not stack_file.is_file():
        return
    for line in stack_file.read_text(encoding="utf-8").splitlines():
        name, separator, value = line.partition("=")
        if separator and not name.startswith("#"):
            environment.setdefault(name, value)
