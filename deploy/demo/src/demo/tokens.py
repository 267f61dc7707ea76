"""Tokens of many customers, signed when they are first needed and then remembered."""

import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

LIFETIME_S = 24 * 3600  # longer than any replay


class KeyFileError(Exception):
    """The file has no Ed25519 private key."""


class Tokens:
    def __init__(self, private_key: Ed25519PrivateKey, *, issuer: str, audience: str) -> None:
        self._private_key, self._issuer, self._audience = private_key, issuer, audience
        self._bearers: dict[str, str] = {}

    def bearer(self, customer_id: str) -> str:
        """The Authorization header of a customer who may read and write orders."""
        bearer = self._bearers.get(customer_id)
        if bearer is None:
            bearer = self._bearers[customer_id] = f"Bearer {self._sign(customer_id)}"
        return bearer

    def _sign(self, customer_id: str) -> str:
        now = int(time.time())
        claims = {
            "sub": customer_id,
            "iss": self._issuer,
            "aud": self._audience,
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME_S,
            "scope": "orders:read orders:write",
        }
        return jwt.encode(claims, self._private_key, algorithm="EdDSA")


def load_private_key(file: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{file}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{file}: not an Ed25519 private key")
    return key
