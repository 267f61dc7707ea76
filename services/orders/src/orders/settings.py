"""Settings of the orders service, from the environment."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.telemetry.logging import LogFormat


class OrdersSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ORDERS_", frozen=True)

    grpc_listen: str = Field("127.0.0.1:50051", description="host:port of the gRPC read API")
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
