"""Settings of the workers, from the environment."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.telemetry.logging import LogFormat
from orders.domain.saga import STEP_TIMEOUT


class WorkersSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="WORKERS_", frozen=True)

    payment_provider_url: str = Field(description="http://host:port of the payment provider")
    payment_provider_timeout_s: float = Field(2.0, gt=0, description="seconds that one call to the provider may take")
    payment_provider_concurrency: int = Field(64, ge=1, description="calls to the provider at a time, per process")
    saga_step_timeout_s: float = Field(
        STEP_TIMEOUT.total_seconds(),
        gt=0,
        description="seconds without a reply before a saga asks again; a backlog is not an outage",
    )
    kafka_bootstrap_servers: str = Field(
        validation_alias="KAFKA_BOOTSTRAP_SERVERS", description="host:port[,host:port…]"
    )
    kafka_enable_idempotence: bool = Field(
        True, validation_alias="KAFKA_ENABLE_IDEMPOTENCE", description="false only for a broker that has no idempotence"
    )
    kafka_fetch_max_wait_ms: int = Field(
        500, validation_alias="KAFKA_FETCH_MAX_WAIT_MS", description="how long an empty fetch may wait at the broker"
    )
    database_url: SecretStr = Field(validation_alias="DATABASE_URL", description="postgresql://user:password@host/db")
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


class MigrateSettings(BaseSettings):
    """What the one-shot commands need: migrations, topics, the catalog import."""

    model_config = SettingsConfigDict(frozen=True)

    kafka_bootstrap_servers: str = Field(
        validation_alias="KAFKA_BOOTSTRAP_SERVERS", description="host:port[,host:port…]"
    )
    kafka_enable_idempotence: bool = Field(
        True, validation_alias="KAFKA_ENABLE_IDEMPOTENCE", description="false only for a broker that has no idempotence"
    )
    kafka_replication_factor: int = Field(
        1, validation_alias="KAFKA_REPLICATION_FACTOR", ge=1, description="copies of each new topic"
    )
    database_url: SecretStr = Field(validation_alias="DATABASE_URL", description="postgresql://user:password@host/db")
    log_format: LogFormat = Field("json", validation_alias="LOG_FORMAT", description="json or console")


class RedriveSettings(BaseSettings):
    """What the command for dead letters needs: the broker."""

    model_config = SettingsConfigDict(frozen=True)

    kafka_bootstrap_servers: str = Field(
        validation_alias="KAFKA_BOOTSTRAP_SERVERS", description="host:port[,host:port…]"
    )
    kafka_enable_idempotence: bool = Field(
        True, validation_alias="KAFKA_ENABLE_IDEMPOTENCE", description="false only for a broker that has no idempotence"
    )
    kafka_fetch_max_wait_ms: int = Field(
        500, validation_alias="KAFKA_FETCH_MAX_WAIT_MS", description="how long an empty fetch may wait at the broker"
    )
