"""What the domain refuses.

OrderError
└── IllegalTransitionError   the order's status does not allow this step
"""

from common.errors import HeadraceError


class OrderError(HeadraceError):
    pass


class IllegalTransitionError(OrderError):
    pass
