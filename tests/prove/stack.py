"""What the proof needs of a stack, whichever it is."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from demo.tokens import Tokens, load_private_key
from tests.prove.schedule import Fault, Menu

DECLINE_PERCENT = "5"  # payments that are declined, so that sagas end in every way


class Stack(Protocol):
    menu: Menu
    where: "Addresses"

    def turn(self, fault: Fault) -> AbstractAsyncContextManager[Any]:
        """To wait in for what must be over before this fault can begin."""
        ...

    async def strike(self, fault: Fault) -> None:
        """Make the fault; returns when it is over. What was killed has been started again by then.

        Raises AssertionError when it did not come back.
        """
        ...

    async def not_ready(self) -> list[str]:
        """The processes that do not work, by their own readiness."""
        ...


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where customers call, and where the books are read: past the faults, as far as that is possible."""

    gateway_url: str
    kafka_bootstrap_servers: str
    database_url: str
    payment_provider_url: str
    jwt_private_key_file: Path
    jwt_issuer: str
    jwt_audience: str

    def tokens(self) -> Tokens:
        return Tokens(load_private_key(self.jwt_private_key_file), issuer=self.jwt_issuer, audience=self.jwt_audience)

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Addresses":
        """From the lines of a `stack.env`."""
        return cls(
            gateway_url=env["GATEWAY_URL"],
            kafka_bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"],
            database_url=env["DATABASE_URL"],
            payment_provider_url=env["PAYMENT_PROVIDER_URL"],
            jwt_private_key_file=Path(env["JWT_PRIVATE_KEY_FILE"]),
            jwt_issuer=env["JWT_ISSUER"],
            jwt_audience=env["JWT_AUDIENCE"],
        )
