"""The textbook app that ours is measured beside: validate an order, `send_and_wait`, answer 202. Nothing else.

The same server and settings as the gateway's, so that only the application differs. Run: `python -m bench.textbook`.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# (aiokafka carries no types)

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import uuid4

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

TOPIC = "bench.textbook"


class Line(BaseModel):
    sku: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    quantity: Annotated[int, Field(ge=1, le=1_000)]


class Order(BaseModel):
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    lines: Annotated[list[Line], Field(min_length=1, max_length=100)]
    client_reference: Annotated[str | None, Field(max_length=200)] = None


class Accepted(BaseModel):
    order_id: str
    status: str = "accepted"


@asynccontextmanager
async def _producer(app: FastAPI) -> AsyncGenerator[None]:
    producer = AIOKafkaProducer(
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], acks="all", enable_idempotence=True
    )
    await producer.start()
    app.state.producer = producer
    yield
    await producer.stop()


app = FastAPI(lifespan=_producer, telemetry={"tracing": False, "metrics": False, "logs": False})


@app.post("/v1/orders", status_code=202)
async def place_order(order: Order, request: Request) -> Accepted:
    order_id = str(uuid4())
    producer: AIOKafkaProducer = request.app.state.producer
    await producer.send_and_wait(TOPIC, key=order_id.encode(), value=order.model_dump_json().encode())
    return Accepted(order_id=order_id)


@app.get("/readyz", response_class=PlainTextResponse)
async def readyz() -> str:
    return "ok\n"


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )
