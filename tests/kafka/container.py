"""Apache Kafka in containers, for tests of what the embedded broker cannot show.

Not testcontainers' own KafkaContainer: that knows only Confluent's image, and gets a new port at each start, while a
broker that is killed and comes back must have the address that its clients know.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# (docker and aiokafka carry no types)

import asyncio
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from common.contracts.topics import TopicSpec
from common.errors import InfrastructureError
from common.kafka.admin import create_topics
from common.kafka.publisher import Outcome, Publisher
from common.records import OutgoingRecord
from eventually import eventually
from local_stack.network import free_ports

IMAGE = "apache/kafka:4.1.1"
READY_WITHIN_S = 90
CLIENT_PORT, CONTROLLER_PORT, BROKER_PORT = 9092, 9093, 19092


class KafkaNode(DockerContainer):
    """One broker, which is a controller too, of `nodes`; inside the containers' network it is called kafka-<number>."""

    def __init__(self, number: int, nodes: int, port: int, network: Network | None = None) -> None:
        name = f"kafka-{number}"
        super().__init__(IMAGE, network=network, network_aliases=[name], hostname=name)
        self.number, self.address = number, f"{self.get_docker_client().host()}:{port}"
        self.with_bind_ports(CLIENT_PORT, port)
        self.with_tmpfs_mount("/opt/kafka/config", "uid=1000,gid=1000")  # made from the environment at each start
        self.with_envs(
            KAFKA_NODE_ID=str(number),
            KAFKA_PROCESS_ROLES="broker,controller",
            KAFKA_LISTENERS=f"OUTSIDE://:{CLIENT_PORT},INSIDE://:{BROKER_PORT},CONTROLLER://:{CONTROLLER_PORT}",
            KAFKA_ADVERTISED_LISTENERS=f"OUTSIDE://{self.address},INSIDE://{name}:{BROKER_PORT}",
            KAFKA_LISTENER_SECURITY_PROTOCOL_MAP="OUTSIDE:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
            KAFKA_INTER_BROKER_LISTENER_NAME="INSIDE",
            KAFKA_CONTROLLER_LISTENER_NAMES="CONTROLLER",
            KAFKA_CONTROLLER_QUORUM_VOTERS=",".join(f"{n}@kafka-{n}:{CONTROLLER_PORT}" for n in range(1, nodes + 1)),
            KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=str(nodes),
            KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=str(nodes),
            KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
            KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS="0",
            KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
            KAFKA_HEAP_OPTS="-Xms128m -Xmx256m",
        )

    def kill(self) -> None:
        """As the kernel would: no goodbye to clients, controllers or the disk."""
        self.get_wrapped_container().kill("SIGKILL")

    def come_back(self) -> None:
        """Start it again, with its disk and its address; returns before it is ready. If it runs, nothing happens."""
        self.get_wrapped_container().start()

    def run(self, *command: str) -> list[str]:
        """The lines that a tool of Kafka prints inside the container."""
        result = self.exec([*command])
        assert result.exit_code == 0, result.output.decode()
        return result.output.decode().splitlines()

    def freeze(self) -> None:
        self.get_wrapped_container().pause()

    def thaw(self) -> None:
        """A second call does nothing."""
        container = self.get_wrapped_container()
        container.reload()
        if container.status == "paused":
            container.unpause()


class Kafka:
    """A running cluster of one broker or of several."""

    def __init__(self, nodes: Sequence[KafkaNode]) -> None:
        self.nodes = nodes

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(node.address for node in self.nodes)

    async def ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Wait until every broker takes part. An open port is not a ready broker: it must store a record (trap 33), and
        every copy of every partition must be in sync again."""
        await eventually(self._takes_part, within=within_s)

    async def _takes_part(self) -> bool:
        return await self._stores_a_record() and await self._in_sync()

    async def _stores_a_record(self) -> bool:
        topic = f"ready.{uuid4()}"
        publisher = Publisher(self.bootstrap_servers, idempotence=True)
        try:
            # refused while fewer brokers than copies are there
            await create_topics(self.bootstrap_servers, [TopicSpec(topic, 1, None)], replication_factor=len(self.nodes))
            await publisher.start()
            return await publisher.publish([OutgoingRecord(topic, b"k", b"v", [])]) == [Outcome.ACKED]
        except InfrastructureError:
            return False
        finally:
            await publisher.stop()

    async def _in_sync(self) -> bool:
        admin: Any = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        try:
            await admin.start()
            topics = await admin.describe_topics()
            return all(set(p["isr"]) == set(p["replicas"]) for topic in topics for p in topic["partitions"])
        except KafkaError:
            return False
        finally:
            await admin.close()


@contextmanager
def running_kafka(nodes: int = 1) -> Generator[Kafka]:
    """Ready inside the block, removed with its data at its end. Raises DockerException where no engine answers."""
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        kafka = Kafka([stack.enter_context(node) for node in _nodes(nodes, network)])
        asyncio.run(kafka.ready())
        yield kafka


def _nodes(count: int, network: Network) -> Iterator[KafkaNode]:
    ports = free_ports()
    return (KafkaNode(number, count, next(ports), network) for number in range(1, count + 1))
