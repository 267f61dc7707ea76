"""Who is asking: bearer tokens (JWT, EdDSA), verified once and remembered until they expire.

Rule: signature, issuer, audience, expiry, not-before and subject are all required; the algorithm is ours to choose,
never the token's. The subject is the customer. Source: RFC 7519, RFC 8725 (best current practice), RFC 6750.
The clocks of issuer and gateway may be 60 s apart: RFC 7519 allows such a leeway, and a fresh token is good everywhere.
Limits: a token that is withdrawn stays good until it expires, so let them expire soon.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from common.errors import SettingsError
from gateway.problems import FORBIDDEN, UNAUTHORIZED, Problem

READ = "orders:read"
WRITE = "orders:write"

_CUSTOMER = re.compile(r"[\x21-\x7e]{1,200}\Z")
_CLOCKS_APART_S = 60
_REQUIRED = ["iss", "aud", "exp", "nbf", "sub"]


@dataclass(frozen=True, slots=True)
class Identity:
    customer_id: str
    scopes: frozenset[str]
    expires_at: float


KeyFor = Callable[[str], Ed25519PublicKey | None]  # the key of a token, or None for one that nobody knows


class Authenticator:
    """Turns an Authorization header into a customer id, or raises the problem 401 or 403."""

    def __init__(
        self,
        public_key: Ed25519PublicKey | KeyFor,
        *,
        issuer: str,
        audience: str,
        clock: Callable[[], float] = time.time,
        remembered: int = 32_768,
    ) -> None:
        self._public_key, self._issuer, self._audience, self._clock = public_key, issuer, audience, clock
        self._capacity = remembered
        self._identities: dict[str, Identity] = {}  # in order of arrival: the oldest goes first

    def customer(self, authorization: str | None, scope: str) -> str:
        """The customer that the token stands for, if it carries `scope`."""
        if authorization is None:
            raise Problem(UNAUTHORIZED, headers={"WWW-Authenticate": "Bearer"})
        identity = self._identities.get(authorization)
        if identity is None or identity.expires_at <= self._clock():
            identity = self._verify(authorization)
            self._remember(authorization, identity)
        if scope not in identity.scopes:
            challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
            raise Problem(FORBIDDEN, f"The scope {scope} is missing.", {"WWW-Authenticate": challenge})
        return identity.customer_id

    def _verify(self, authorization: str) -> Identity:
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer":
            raise _invalid("The Authorization header does not carry a bearer token.")
        key = self._public_key
        if not isinstance(key, Ed25519PublicKey) and (key := key(token.strip())) is None:
            raise _invalid("The token's key is not known.")
        try:
            claims: dict[str, Any] = jwt.decode(
                token.strip(),
                key,
                algorithms=["EdDSA"],
                issuer=self._issuer,
                audience=self._audience,
                leeway=_CLOCKS_APART_S,
                options={"require": _REQUIRED},
            )
        except jwt.PyJWTError as error:
            raise _invalid(f"The token was refused: {type(error).__name__}.") from error
        customer, scope = claims["sub"], claims.get("scope", "")
        if not _CUSTOMER.match(customer) or not isinstance(scope, str):
            raise _invalid("The token's subject or scope has a wrong form.")
        return Identity(customer, frozenset(scope.split()), float(claims["exp"]))

    def _remember(self, authorization: str, identity: Identity) -> None:
        self._identities.pop(authorization, None)
        if len(self._identities) >= self._capacity:
            del self._identities[next(iter(self._identities))]
        self._identities[authorization] = identity


def load_public_key(pem: bytes) -> Ed25519PublicKey:
    """Raises SettingsError for anything but an Ed25519 public key in PEM."""
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise SettingsError("the JWT public key is not a PEM file") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SettingsError("the JWT public key is not an Ed25519 key")
    return key


def _invalid(detail: str) -> Problem:
    return Problem(UNAUTHORIZED, detail, {"WWW-Authenticate": 'Bearer error="invalid_token"'})
