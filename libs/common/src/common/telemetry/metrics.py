"""The one list of metrics. Labels are few and bounded: never an order id."""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

HTTP_REQUESTS = Counter(
    "headrace_http_requests", "Requests answered, by route and status", ["route", "method", "status"]
)
HTTP_DURATION = Histogram("headrace_http_request_seconds", "Time to answer", ["route", "method"], buckets=_LATENCY_S)
ORDERS_ACCEPTED = Counter("headrace_orders_accepted", "Orders answered with 202")
MARKERS_LOST = Counter("headrace_accepted_markers_lost", "Accepted orders whose marker Redis did not take")
REQUESTS_SHED = Counter("headrace_requests_shed", "Calls refused unread with 503, and why", ["reason"])
UNWRITTEN_AGE = Gauge("headrace_unwritten_age_seconds", "Age of the oldest accepted order not yet in Postgres")
TOKEN_BUCKET_REFUSALS = Counter("headrace_token_bucket_refusals", "Calls answered with 429")
ADMITTED_WITHOUT_REDIS = Counter(
    "headrace_admitted_without_redis", "Calls that only this process limited, with its share, because Redis was away"
)
PRODUCERS_REBUILT = Counter("headrace_producers_rebuilt", "Kafka producers replaced because they had died")
ORDERS_FINISHED = Counter("headrace_orders_finished", "Orders that reached a final state", ["status"])
CONSUMER_LAG = Gauge("headrace_consumer_lag_records", "Records behind the end", ["group", "topic", "partition"])
CONSUMER_LAG_AGE = Gauge(
    "headrace_consumer_lag_seconds", "Age of the oldest record not yet applied", ["group", "topic", "partition"]
)
CONSUMERS_REBUILT = Counter("headrace_consumers_rebuilt", "Consumers replaced because they stood still", ["group"])
BATCH_RECORDS = Histogram(
    "headrace_batch_records", "Records in a consumed batch", ["group"], buckets=(1, 5, 10, 50, 100, 250, 500, 1000)
)
BATCH_DURATION = Histogram("headrace_batch_seconds", "Time to apply and commit a batch", ["group"], buckets=_LATENCY_S)
DEAD_LETTERS = Counter("headrace_dead_letters", "Records sent to a dead letter topic", ["topic"])
OUTBOX_PUBLISHED = Counter("headrace_outbox_published", "Outbox rows published and acked", ["schema"])
OUTBOX_AGE = Gauge("headrace_outbox_age_seconds", "Age of the oldest row in the last batch read", ["schema"])
SAGA_TIMEOUTS = Counter("headrace_saga_timeouts", "Saga steps asked again because no reply came", ["state"])
SAGA_AGE = Gauge("headrace_saga_age_seconds", "Age of the oldest order whose saga has not ended")
ORDERS_NEEDING_ATTENTION = Gauge(
    "headrace_orders_needing_attention", "Orders whose saga has asked in vain for too long, by whom", ["waits_for"]
)
PROVIDER_CALLS = Counter("headrace_provider_calls", "Calls to the payment provider", ["operation", "outcome"])
BREAKER_STATE = Gauge("headrace_breaker_state", "0: closed, 1: half-open, 2: open and nothing is called", ["breaker"])
BREAKER_CHANGES = Counter("headrace_breaker_changes", "Changes of a breaker's state", ["breaker", "to"])
RETRIES = Counter(
    "headrace_retries", "Calls tried again, or not because the budget was spent", ["dependency", "outcome"]
)
FOLLOWERS = Gauge("headrace_followers", "Calls that wait for a change of an order, and streams", ["kind"])
CACHE_READS = Counter("headrace_cache_reads", "Reads of the cache, by what came of them", ["outcome"])
STALE_VIEWS = Counter("headrace_stale_views", "Orders served as they were last seen, because nobody could say more")
CACHE_UNMARKED = Counter("headrace_cache_unmarked_writes", "Writes that could not be announced to the cache")
MEMORY_SOFT_LIMIT = Gauge("headrace_memory_soft_limit_bytes", "At 90 % of it the process recycles itself; 0: no limit")
MEMORY_RECYCLES = Counter("headrace_memory_recycles", "1 while the process drains because it had grown too large")
LOOP_TASKS = Gauge("headrace_event_loop_tasks", "Tasks on the event loop that are not done")
LOOP_LAG = Gauge("headrace_event_loop_lag_seconds", "How late the event loop woke a timer, last measurement")


def observe_batch(group: str, records: int, seconds: float) -> None:
    BATCH_RECORDS.labels(group).observe(records)
    BATCH_DURATION.labels(group).observe(seconds)
