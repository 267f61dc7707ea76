"""One trace id from the request to the last event, also when nothing is sampled."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from builders import TRACEPARENT
from common.telemetry.tracing import batch_span, configure_tracing, request_span, shutdown_tracing, trace_id_of


@pytest.fixture(scope="module", autouse=True)
def provider() -> TracerProvider:
    current = trace.get_tracer_provider()  # the library takes one provider per process
    return current if isinstance(current, TracerProvider) else configure_tracing("test", None, 1.0)


def test_a_request_continues_the_callers_trace_under_a_span_of_its_own() -> None:
    with request_span("POST /v1/orders", TRACEPARENT) as outgoing:
        assert trace_id_of(outgoing) == trace_id_of(TRACEPARENT)
        assert outgoing != TRACEPARENT


@pytest.mark.parametrize("incoming", [None, "", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_request_without_a_usable_trace_begins_one(incoming: str | None) -> None:
    with request_span("POST /v1/orders", incoming) as first:
        pass
    with request_span("POST /v1/orders", incoming) as second:
        pass

    assert trace_id_of(first) is not None
    assert trace_id_of(first) != trace_id_of(second)


def test_the_trace_id_of_a_traceparent() -> None:
    assert trace_id_of(TRACEPARENT) == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("malformed", [None, "", "00-abc", TRACEPARENT + "\n", TRACEPARENT.upper()])
def test_a_malformed_traceparent_has_no_trace_id(malformed: str | None) -> None:
    assert trace_id_of(malformed) is None


def trace_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}"


def test_each_sampled_message_of_a_batch_has_a_span_in_its_own_trace(provider: TracerProvider) -> None:
    finished = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(finished))
    other = TRACEPARENT.replace("0af7", "1af7")
    not_sampled = TRACEPARENT.replace("0af7", "2af7")[:-2] + "00"
    messages = [("orders.commands", TRACEPARENT), ("orders.events", other), ("t", not_sampled), ("t", None)]

    with batch_span("saga_runner", messages):
        assert finished.get_finished_spans() == ()

    traces = {trace_of(span): span.name for span in finished.get_finished_spans() if span.parent}
    assert traces == {
        trace_id_of(TRACEPARENT): "process orders.commands",
        trace_id_of(other): "process orders.events",
    }


async def test_shutting_down_without_a_collector_is_quick() -> None:
    await shutdown_tracing(TracerProvider())
