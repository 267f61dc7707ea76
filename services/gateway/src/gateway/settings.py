"""Settings of the gateway, from the environment."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.telemetry.logging import LogFormat


class GatewaySettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, description="port to listen on")
    listen_fd: int | None = Field(
        None, description="descriptor of an inherited listening socket; it wins over host and port"
    )
    drain_s: float = Field(
        5,
        ge=0,
        le=10,
        description="seconds to go on serving after SIGTERM, not ready, until who balances has noticed; 0: nobody does",
    )
    orders_grpc_target: str = Field(description="host:port of the orders service")
    jwt_public_key_file: Path | None = Field(
        None, description="PEM file with the Ed25519 key that verifies tokens; this or the JWKS is needed"
    )
    jwks_url: str | None = Field(
        None, pattern="^https?://", description="where the issuer publishes its keys; it wins over the file"
    )
    jwt_issuer: str = Field("headrace-dev", description="the `iss` that a token must carry")
    jwt_audience: str = Field("headrace", description="the `aud` that a token must carry")
    shed_in_flight: int = Field(
        512, ge=1, description="orders that may wait for their ack; while there are so many, new ones are refused"
    )
    shed_lag_s: float = Field(
        60,
        gt=0,
        description="seconds; while an order accepted longer ago is not in Postgres yet, new ones are refused",
    )
    kafka_bootstrap_servers: str = Field(validation_alias="KAFKA_BOOTSTRAP_SERVERS", description="host:port[,…]")
    kafka_enable_idempotence: bool = Field(
        True, validation_alias="KAFKA_ENABLE_IDEMPOTENCE", description="false only on the embedded broker"
    )
    kafka_fetch_max_wait_ms: int = Field(
        500, validation_alias="KAFKA_FETCH_MAX_WAIT_MS", description="how long the broker may hold an empty fetch"
    )
    rate_burst: int = Field(50, ge=1, description="calls that a customer may make at once")
    rate_per_s: float = Field(100, gt=0, description="calls per second that a customer may make in the long run")
    replicas: int = Field(1, ge=1, description="gateways beside each other; each grants its share when Redis is away")
    redis_url: SecretStr = Field(
        validation_alias="REDIS_URL", description="redis://host:port/0, or redis+cluster://host:port of any node"
    )
    admin_port: int = Field(9100, validation_alias="ADMIN_PORT", description="port of /livez, /readyz and /metrics")
    memory_soft_limit_mb: int | None = Field(
        None,
        validation_alias="MEMORY_SOFT_LIMIT_MB",
        ge=1,
        description="MiB; at 90 % of it the process drains and ends, to be started anew; none: 90 % of the container's",
    )
    log_format: LogFormat = Field("json", validation_alias="LOG_FORMAT", description="json or console")
    otlp_endpoint: str | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="http://host:4318 of a collector; none: no export",
    )
    trace_sample_ratio: float = Field(
        0.1, validation_alias="TRACE_SAMPLE_RATIO", ge=0, le=1, description="share of requests that are traced"
    )
