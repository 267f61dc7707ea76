"""Creating topics."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (aiokafka carries no types; we hand out our own Record)

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from common.contracts.topics import TopicSpec
from common.errors import InfrastructureError


async def create_topics(
    bootstrap_servers: str, specs: Sequence[TopicSpec], *, replication_factor: int = 1
) -> list[str]:
    """Create the topics that do not exist yet; answer their names. A second call creates nothing. An ack then means
    that a majority of the copies has the record.

    Raises InfrastructureError when the broker does not answer or refuses.
    """
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=10_000)
    try:
        await admin.start()
        existing = set(await admin.list_topics())
        missing = [spec for spec in specs if spec.name not in existing]
        for spec in missing:
            with suppress(TopicAlreadyExistsError):  # somebody was faster
                answer = await admin.create_topics([_new_topic(spec, replication_factor)])
                for _topic, code, *_message in answer.topic_errors:
                    if code:
                        raise for_code(code)(spec.name)
        return [spec.name for spec in missing]
    except (KafkaError, OSError) as error:
        raise InfrastructureError(f"cannot create topics on {bootstrap_servers}: {error}") from error
    finally:
        await admin.close()


def _new_topic(spec: TopicSpec, replication_factor: int) -> Any:
    if spec.retention is None:
        config = {"cleanup.policy": "compact"}
    else:
        config = {"cleanup.policy": "delete", "retention.ms": str(int(spec.retention.total_seconds() * 1000))}
    config["max.message.bytes"] = str(spec.max_message_bytes)
    if replication_factor > 1:  # or the last broker alone would ack what only it has
        config["min.insync.replicas"] = str(replication_factor // 2 + 1)
    return NewTopic(spec.name, spec.partitions, replication_factor, topic_configs=config)
