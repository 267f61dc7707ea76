"""What can go wrong, and the one bit that decides between trying again and the dead letter topic.

HeadraceError
├── InfrastructureError   retriable: something that we need is away; nothing was decided, try again
├── PoisonError           this record can never be applied; it goes to the dead letter topic
└── SettingsError         the process cannot start; names every setting that is missing or wrong
"""

from collections.abc import Sequence
from typing import ClassVar


class HeadraceError(Exception):
    retriable: ClassVar[bool] = False


class InfrastructureError(HeadraceError):
    retriable = True


class PoisonError(HeadraceError):
    """`guilty`: the messages of a batch that are to blame, where that is known; the others are good."""

    def __init__(self, what: str, guilty: Sequence[object] = ()) -> None:
        super().__init__(what)
        self.guilty = guilty


class SettingsError(HeadraceError):
    pass
