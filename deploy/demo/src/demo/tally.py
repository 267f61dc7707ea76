"""Where a replay stands: a few numbers, counted by the senders and by who watches Postgres."""

from collections import Counter, deque
from dataclasses import dataclass, field

from demo.client import Answer, Result


@dataclass(slots=True)
class Tally:
    """`waiting`: accepted orders that are not final yet, oldest first. `final`: the others, by status.

    `seen`: what each try brought.
    """

    total: int
    sent: int = 0
    results: Counter[Result] = field(default_factory=Counter[Result])
    troubles: Counter[str] = field(default_factory=Counter[str])
    seen: Counter[str] = field(default_factory=Counter[str])
    waiting: deque[str] = field(default_factory=deque[str])
    final: Counter[str] = field(default_factory=Counter[str])
    all_answered: bool = False

    @property
    def accepted(self) -> int:
        return self.results[Result.ACCEPTED]

    def count(self, order_id: str, answer: Answer) -> None:
        self.results[answer.result] += 1
        self.seen.update(answer.seen)
        if answer.result is Result.ACCEPTED:
            self.waiting.append(order_id)
        else:
            self.troubles[answer.detail] += 1
