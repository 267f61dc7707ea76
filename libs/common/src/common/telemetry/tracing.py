"""Tracing: one trace id from the HTTP request through every topic to the last event.

Rule: each message carries the W3C `traceparent` of the request that caused it; a worker works on batches, so the span
of a batch is linked to the messages in it, each sampled message has a span in its own trace, and what the worker emits
carries on the trace of the message that caused it.
Limits: spans are sampled at the door and leave only when an OTLP endpoint is set; ids travel always.
Source: W3C Trace Context; OpenTelemetry semantic conventions for messaging 1.36 (in development).
"""

import asyncio
import random
import re
import threading
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import islice

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from common.shutdown import step

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")
_NO_TRACE = "0" * 32
_MAX_SPANS = 32
SEND_SPANS_S = 2
_tracer = trace.get_tracer("headrace")
_sample_ratio = 0.0


def configure_tracing(service: str, otlp_endpoint: str | None, sample_ratio: float) -> TracerProvider:
    """Export the sampled spans to `otlp_endpoint` if there is one; without it no trace is begun as sampled."""
    global _sample_ratio
    _sample_ratio = sample_ratio if otlp_endpoint else 0.0
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}), sampler=ALWAYS_ON, shutdown_on_exit=False
    )
    if otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=f"{otlp_endpoint.rstrip('/')}/v1/traces", timeout=2)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


async def shutdown_tracing(provider: TracerProvider) -> None:
    """Send what is left, for at most 2 s: the library's own shutdown can hold the exit for 30 s.

    So it has a thread for itself, a daemon: the end of the process would wait for one of the loop's executor.
    """
    sent, loop = asyncio.Event(), asyncio.get_running_loop()

    def shutdown() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop is closed: nobody waited that long
            loop.call_soon_threadsafe(sent.set)

    threading.Thread(target=shutdown, daemon=True).start()
    async with step("send the last spans", SEND_SPANS_S):
        await sent.wait()


def request_span(name: str, traceparent: str | None) -> AbstractContextManager[str]:
    """A server span that continues the caller's trace; yields the traceparent for what it publishes.

    Whether it is sampled is decided here, before there is a span: most requests need ids only, and a span costs more
    than all else that is done with a request before it is published.
    """
    trace_id, sampled = _begin(traceparent)
    if sampled:
        return _server_span(name, traceparent)
    return nullcontext(f"00-{trace_id}-{random.getrandbits(64):016x}-00")


@contextmanager
def _server_span(name: str, traceparent: str | None) -> Generator[str]:
    carrier = {"traceparent": traceparent} if traceparent else {}
    parent = _PROPAGATOR.extract(carrier, context=Context())
    with _tracer.start_as_current_span(name, context=parent, kind=SpanKind.SERVER):
        outgoing: dict[str, str] = {}
        _PROPAGATOR.inject(outgoing)
        yield outgoing["traceparent"]


def _begin(traceparent: str | None) -> tuple[str, bool]:
    """The trace id, the caller's or a new one, and whether this trace is sampled."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match and match[1] != _NO_TRACE:
        return match[1], bool(int(match[2], 16) & 1)
    return f"{random.getrandbits(128):032x}", random.random() < _sample_ratio  # noqa: S311


@contextmanager
def batch_span(group: str, messages: Iterable[tuple[str, str | None]]) -> Generator[None]:
    """Spans over a batch, given as topic and traceparent of each message: one linked to the sampled messages (32 at
    most), and for each of those one in its own trace."""
    sampled = islice(((topic, trace_) for topic, trace_ in messages if trace_ and trace_.endswith("-01")), _MAX_SPANS)
    parents = [(topic, _PROPAGATOR.extract({"traceparent": trace_}, context=Context())) for topic, trace_ in sampled]
    if not parents:
        yield
        return
    links = [Link(trace.get_current_span(context).get_span_context()) for _, context in parents]
    attributes = {"messaging.system": "kafka", "messaging.consumer.group.name": group}
    with _tracer.start_as_current_span(
        f"process {group}", context=Context(), kind=SpanKind.CONSUMER, links=links, attributes=attributes
    ):
        spans = [
            _tracer.start_span(f"process {topic}", context=parent, kind=SpanKind.CONSUMER, attributes=attributes)
            for topic, parent in parents
        ]
        try:
            yield
        finally:
            for span in spans:
                span.end()


def trace_id_of(traceparent: str | None) -> str | None:
    """The 32 hex digits of the trace id; None for a missing or malformed traceparent."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match[1] if match else None
