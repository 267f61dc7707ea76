"""The guarantees, one table: what we promise, in the words of the design, and how it is checked.

A check yields True for each thing it looked at and found right, and a sentence for each that is wrong. Those marked
`always` hold at any moment and are checked during the faults too; the others are about the end.
Add one: a function here, a line in GUARANTEES, and a history that breaks it in tests/unit/prove/test_guarantees.py.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from common.contracts.topics import Topic
from common.dead_letter import CAUSE
from tests.prove.calls import What
from tests.prove.documented import answers_to
from tests.prove.evidence import Evidence

Verdicts = Iterator[bool | str]


@dataclass(frozen=True, slots=True)
class Guarantee:
    id: str
    promise: str
    check: Callable[[Evidence], Verdicts]
    always: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """`compared`: how many things were looked at; with 0 it proves nothing."""

    guarantee: Guarantee
    compared: int
    broken: tuple[str, ...]


def judge(evidence: Evidence) -> list[Verdict]:
    """Hold the evidence against every guarantee that it can decide."""
    return [_judged(g, evidence) for g in GUARANTEES if evidence.final or g.always]


def _judged(guarantee: Guarantee, evidence: Evidence) -> Verdict:
    verdicts = list(guarantee.check(evidence))
    return Verdict(guarantee, len(verdicts), tuple(verdict for verdict in verdicts if isinstance(verdict, str)))


def accepted_is_in_the_log(evidence: Evidence) -> Verdicts:
    for order_id, exchange in evidence.accepted.items():
        at = exchange.answer.at if exchange.answer else 0.0
        yield order_id in evidence.placed or f"{order_id}: 202 at {at:.1f} s, not in the log"


def accepted_is_found(evidence: Evidence) -> Verdicts:
    for exchange in evidence.attempts:
        call, answer = exchange.call, exchange.answer
        if call.what is What.READ and answer and answer.status is not None:
            yield answer.status != 404 or f"{call.order_id}: accepted, and a 404 at {answer.at:.1f} s"


def one_key_one_order(evidence: Evidence) -> Verdicts:
    """Another body under a taken key is a conflict, or a replay of the first order; it is never a second one."""
    for exchange in evidence.attempts:
        call, answer = exchange.call, exchange.answer
        if call.what in (What.PLACE, What.PLACE_OTHER) and answer and answer.status == 202:
            yield answer.order_id == call.order_id or f"{call.order_id}: its key also made {answer.order_id}"


def documented_answers(evidence: Evidence) -> Verdicts:
    for exchange in evidence.attempts:
        call, answer = exchange.call, exchange.answer
        if answer is None or answer.status is None:
            continue  # nobody promised a line that does not break
        if answer.status not in answers_to(call.what):
            yield f"{call.order_id}: {call.what} got {answer.status} {answer.trouble or ''}"
        elif answer.status in (429, 503) and not answer.retry_after:
            yield f"{call.order_id}: {call.what} got {answer.status} without Retry-After"
        elif answer.status >= 400 and answer.media_type != "application/problem+json":
            yield f"{call.order_id}: {call.what} got {answer.status} as {answer.media_type}"
        else:
            yield True


def versions_never_backwards(evidence: Evidence) -> Verdicts:
    """A read shows at least the newest version that any read had ended with when this one began."""
    ended: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for exchange in evidence.reads():
        if (answer := exchange.answer) and answer.version is not None:
            ended[exchange.call.order_id].append((answer.at, answer.version))
    for exchange in evidence.reads():
        call, answer = exchange.call, exchange.answer
        floor = max((version for at, version in ended[call.order_id] if at < call.at), default=0)
        seen = answer.version if answer and answer.version is not None else floor
        yield seen >= floor or f"{call.order_id}: version {seen} at {call.at:.1f} s, {floor} was read before"


def reads_are_true(evidence: Evidence) -> Verdicts:
    said = {
        (entry.order_id, entry.version): STATE_OF[entry.kind]
        for entry in evidence.entries
        if entry.topic == Topic.ORDERS_EVENTS and entry.kind in STATE_OF
    }
    for exchange in evidence.reads():
        answer = exchange.answer
        if answer and answer.version:
            event = said.get((exchange.call.order_id, answer.version))
            if event is not None or evidence.final:
                yield event == answer.state or (
                    f"{exchange.call.order_id}: version {answer.version} was read as {answer.state}, its event: {event}"
                )


def order_per_key(evidence: Evidence) -> Verdicts:
    """Each order on one partition of a topic; the versions of its events first appear in their order, none left out."""
    partitions: dict[tuple[str, str], set[int]] = defaultdict(set)
    versions: dict[str, list[int]] = defaultdict(list)
    for entry in evidence.entries:
        if entry.kind != "unreadable":
            partitions[entry.topic, entry.order_id].add(entry.partition)
        if entry.topic == Topic.ORDERS_EVENTS and entry.kind in STATE_OF and entry.version is not None:
            versions[entry.order_id].append(entry.version)
    for (topic, order_id), used in partitions.items():
        yield len(used) == 1 or f"{order_id}: its records in {topic} are on partitions {sorted(used)}"
    for order_id, seen in versions.items():
        first = list(dict.fromkeys(seen))
        yield first == list(range(1, len(first) + 1)) or f"{order_id}: its versions came as {seen}"


def offsets_after_database(evidence: Evidence) -> Verdicts:
    for _ in range(evidence.committed - len(evidence.unproven)):
        yield True
    for unproven in evidence.unproven:
        e = unproven.entry
        yield f"{e.order_id}: {unproven.group} committed {e.topic}/{e.partition}/{e.offset}, it is not in its inbox"


def charged_once(evidence: Evidence) -> Verdicts:
    """What the provider holds or has taken is for an order in the log, its amount, and is there once."""
    twice = set(evidence.ledger.twice)
    for reference, charge in evidence.ledger.charges.items():
        if charge.status in ("authorized", "captured"):
            total = evidence.placed[reference][0].total_minor if reference in evidence.placed else None
            right = total == charge.amount_minor and reference not in twice
            yield right or f"{reference}: {charge.amount_minor} {charge.status}, the order in the log: {total}"


def nothing_invented(evidence: Evidence) -> Verdicts:
    """Orders come from customers, cancels too."""
    yield from _reconciled("every stored order was attempted", "every order is stored as it was sent")(evidence)
    cancelled = {e.call.order_id for e in evidence.attempts if e.call.what is What.CANCEL}
    for order_id, order in evidence.orders.orders.items():
        if order.status == "cancelled":
            yield order_id in cancelled or f"{order_id}: cancelled, and nobody asked for it"


def no_good_record_buried(evidence: Evidence) -> Verdicts:
    for record in evidence.dead_letters:
        cause = (record.header(CAUSE) or b"").decode(errors="replace")
        yield f"{(record.key or b'').decode(errors='replace')}: a dead letter in {record.topic}: {cause}"
    for entry in evidence.entries:
        yield entry.kind != "unreadable" or f"{entry.key}: unreadable in {entry.topic}: {entry.order_id}"


def retries_are_answered(evidence: Evidence) -> Verdicts:
    """Customers ask until 60 s after healing, so whoever has no 202 by then was turned away, or never heard."""
    for order_id in {e.call.order_id for e in evidence.attempts if e.call.what is What.PLACE}:
        yield order_id in evidence.accepted or f"{order_id}: asked for to the end, and never accepted"


def saga_ends(evidence: Evidence) -> Verdicts:
    for order_id in evidence.accepted:
        state = evidence.not_final.get(order_id)
        yield state is None or f"{order_id}: still {state} {evidence.gave_up_after_s:.0f} s after healing"
    yield evidence.outbox_rows == 0 or f"{evidence.outbox_rows} events never left their outbox"


def processes_come_back(evidence: Evidence) -> Verdicts:
    yield not evidence.not_ready or f"not ready after healing: {', '.join(evidence.not_ready)}"


def _reconciled(*names: str) -> Callable[[Evidence], Verdicts]:
    """Checks of `make reconcile`, by their names."""

    def check(evidence: Evidence) -> Verdicts:
        found = {each.name: each for each in evidence.report.checks}
        for name in names:
            yield from found[name].differences
            for _ in range((found[name].compared or 0) - len(found[name].differences)):
                yield True

    return check


STATE_OF = {
    "OrderPlaced": "placed",
    "OrderReserved": "reserved",
    "OrderAuthorized": "authorized",
    "OrderConfirmed": "confirmed",
    "OrderRejected": "rejected",
    "OrderCancelled": "cancelled",
    "OrderNeedsAttention": "needs_attention",
}

GUARANTEES = (
    Guarantee(
        "accepted-is-in-the-log",
        "A 202 means the order is in the log on every in-sync replica.",
        accepted_is_in_the_log,
    ),
    Guarantee(
        "nothing-lost",
        "kill -9 at any line loses nothing: acked ⊆ stored, and what is in the log is stored.",
        _reconciled("every acked order is stored", "every order in the log is stored"),
        always=False,
    ),
    Guarantee("nothing-invented", "stored ⊆ attempted: every order as its customer sent it.", nothing_invented),
    Guarantee(
        "stored-is-in-the-log",
        "What is stored came from the log: Postgres holds nothing that the log does not.",
        _reconciled("every stored order is in the log, same total", "lines add up to the total"),
    ),
    Guarantee(
        "nothing-doubled",
        "At least once everywhere, effects once.",
        _reconciled("nothing stored, charged or reserved twice", "every row became one order"),
    ),
    Guarantee("one-key-one-order", "A key never makes a second order.", one_key_one_order),
    Guarantee("charged-once", "A payment is never taken twice, nor for an order that does not exist.", charged_once),
    Guarantee(
        "confirmed-is-paid",
        "Capture comes before confirmed: every confirmed order is paid, to the cent.",
        _reconciled("every confirmed order is captured, to the cent"),
    ),
    Guarantee(
        "money-conserved",
        "Money adds up: taken is what was confirmed, and nothing is held for any other order.",
        _reconciled("nothing is held or taken for any other order", "every confirmed order is captured, to the cent"),
        always=False,
    ),
    Guarantee(
        "stock-conserved",
        "Stock is never negative; taken from the shelf is what is reserved, for orders that go on.",
        _reconciled("stock taken = stock reserved, sku by sku", "stock is reserved for the confirmed orders"),
    ),
    Guarantee("offsets-after-database", "Offsets are committed after the database.", offsets_after_database),
    Guarantee("order-per-key", "The relay recovers what a crash left, and keeps order per key.", order_per_key),
    Guarantee(
        "no-good-record-buried", "Only poison goes to the dead letter topic.", no_good_record_buried, always=False
    ),
    Guarantee(
        "versions-never-backwards", "A reader of one order never sees versions go backwards.", versions_never_backwards
    ),
    Guarantee("reads-are-true", "What was read of an order is what its event says.", reads_are_true),
    Guarantee("accepted-is-found", "GET is never 404 after its 202.", accepted_is_found),
    Guarantee(
        "documented-answers",
        "Every answer is one that the API documents; who shall come back is told when; a good order is not refused.",
        documented_answers,
    ),
    Guarantee(
        "retries-are-answered",
        "An unclear answer can be retried with the same key: once all has healed, it is a 202.",
        retries_are_answered,
        always=False,
    ),
    Guarantee("saga-ends", "The saga ends: every order is final within 60 s of healing.", saga_ends, always=False),
    Guarantee("processes-come-back", "Every process is ready again after healing.", processes_come_back, always=False),
)
