"""Who may call: keys, each the secret of a source; from this machine perhaps without one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from hashlib import blake2b
from ipaddress import ip_address
from typing import Any, Literal, TypeAlias

from meterkit.errors import ConfigurationError
from meterkit.service.problems import RequestError
from meterkit.service.rate_limits import TokenBucket

SCOPES = ("events", "check", "health")

SHORTEST_SECRET = 16
"""Characters of the shortest secret that is accepted."""

LONGEST_SECRET = 512
"""Characters of the longest; whatever is longer is no key, and need not be hashed."""

LOCAL = "local"
"""Name of the source that calls from this machine without a key."""

HEADER = "x-meterkit-key"

Headers: TypeAlias = "Iterable[tuple[bytes, bytes]]"


@dataclass(frozen=True)
class Key:
    """
    What a source may do, and the secret that it sends.

    Attributes:
        secret: Secret, or several while it is replaced: 16 to 512 printable ASCII characters without spaces, such as
            ``secrets.token_urlsafe(32)``.
        scopes: What the key is for: ``events`` to send usage, ``check`` to ask whether a company is allowed, ``health``
            for ``/health`` and ``/metrics``, which show companies and sums.
        rate: Requests per second that each process of the service accepts from the source; None for no limit.
        burst: Requests that may come at once after a pause; by default twice the *rate*, at least 1.
        sources: Values of ``source`` that its events may have, or one; ``*`` matches any characters. By default the
            name of the key, alone or with a slash and more after it. With the same values, two keys could use up each
            other's event ids.
        companies: Companies that its events may name; None for any.
        unmatched: What happens to an event that no meter counts: ``accept`` reports it in ``/health``, ``refuse``
            refuses its request.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    secret: str | Collection[str] = field(repr=False)
    _: KW_ONLY
    scopes: Collection[Literal["events", "check", "health"]] = ("events", "check")
    rate: float | None = None
    burst: int | None = None
    sources: str | Collection[str] | None = None
    companies: Collection[str] | None = None
    unmatched: Literal["accept", "refuse"] = "accept"

    def __post_init__(self) -> None:
        given = (self.secret,) if isinstance(self.secret, str) else self.secret
        if not isinstance(given, Collection) or isinstance(given, bytes | Mapping) or not given:
            raise ConfigurationError("Key(secret) must be a str, or a list of them")
        object.__setattr__(self, "secret", tuple(map(_checked_secret, given)))
        scopes = (self.scopes,) if isinstance(self.scopes, str) else self.scopes
        if not isinstance(scopes, Collection) or not scopes or not set(scopes) <= set(SCOPES):
            raise ConfigurationError(f"Key(scopes=...) must be some of {', '.join(SCOPES)}, not {scopes!r:.200}")
        object.__setattr__(self, "scopes", frozenset(scopes))
        for name in ("rate", "burst"):
            value, kinds = getattr(self, name), int if name == "burst" else (int, float)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value <= FASTEST
            ):
                raise ConfigurationError(f"Key({name}=...) must be a number above 0, or None, not {value!r:.100}")
        if self.burst is not None and self.rate is None:
            raise ConfigurationError("Key(burst=...) needs a rate=")
        sources = (self.sources,) if isinstance(self.sources, str) else self.sources
        object.__setattr__(self, "sources", _checked_names(sources, "sources"))
        object.__setattr__(self, "companies", _checked_names(self.companies, "companies"))
        if self.unmatched not in ("accept", "refuse"):
            raise ConfigurationError(f"Key(unmatched=...) must be 'accept' or 'refuse', not {self.unmatched!r:.100}")


def _checked_names(names: Any, name: str) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, str | bytes | Mapping) or not isinstance(names, Collection) or not names:
        raise ConfigurationError(f"Key({name}=...) must be a list of str, or None for any, not {names!r:.100}")
    for each in names:
        if not isinstance(each, str) or not each or not each.isprintable():
            raise ConfigurationError(f"Key({name}=...) must be a list of str, not with {each!r:.100}")
    return tuple(names)


FASTEST = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """
    Who has sent a request.

    Attributes:
        name: Name under which the key was configured; ``local`` if none is needed.
        key: The key; None if none is needed.
        scopes: What the source may do.
        bucket: Limits the rate of its requests; None if there is no limit.
    """

    name: str
    key: Key | None
    scopes: Collection[str]
    bucket: TokenBucket | None

    def take(self, cost: float = 1) -> None:
        """
        Take *cost* requests out of what the source may send now.

        Raises:
            RequestError: There are not as many left (status 429).
        """
        seconds = 0 if self.bucket is None else self.bucket.take(cost)
        if seconds:
            raise RequestError(
                429,
                f"{self.name} sends more requests than its key allows; wait {seconds} s, or raise the rate of the key",
                type="too_many",
                retry_after=seconds,
            )


class Keys:
    """
    The keys of a service.

    Args:
        keys: Keys, or their secrets, by the name of the source.
        local: Whether requests from the loopback interface or a Unix socket need no key if there are no keys.

    Raises:
        ConfigurationError: There is no key and *local* is false; a key is wrong; or two sources have the same secret.
    """

    def __init__(self, keys: Mapping[str, str | Key], *, local: bool) -> None:
        if not isinstance(keys, Mapping):
            raise ConfigurationError(f"keys= must be a dict of keys by source, not {type(keys).__name__}")
        if not keys and not local:
            raise ConfigurationError(NO_KEYS)
        self._local = Source(LOCAL, None, frozenset(SCOPES), None) if not keys else None
        # Found by a hash whose key nobody knows, so the time that it takes says nothing about the secrets.
        self._salt = secrets.token_bytes(32)
        self._sources: dict[bytes, Source] = {}
        for name, key in keys.items():
            if not isinstance(name, str) or not name or not name.isprintable() or len(name) > LONGEST_NAME:
                raise ConfigurationError(
                    f"keys=: {name!r:.100} is no name of a source: use 1 to {LONGEST_NAME} printable characters"
                )
            self._add(name, key if isinstance(key, Key) else _made(name, secret=key))

    def _add(self, name: str, key: Key) -> None:
        bucket = None if key.rate is None else TokenBucket(key.rate, burst=key.burst)
        source = Source(name, key, key.scopes, bucket)
        for secret in key.secret:
            digest = self._digest(secret.encode())
            if digest in self._sources:
                raise ConfigurationError(
                    f"keys=: {name!r:.100} and {self._sources[digest].name!r:.100} have the same secret; give each "
                    "source its own"
                )
            self._sources[digest] = source

    def source_of(self, scope: Mapping[str, Any], needed: str) -> Source:
        """
        Return who has sent a request.

        Args:
            scope: ASGI scope of the request.
            needed: What it is about: ``events``, ``check`` or ``health``.

        Raises:
            RequestError: There is no key, it is wrong, or not for that (status 401 or 403).
        """
        headers: Headers = scope["headers"]
        if self._local is not None:
            _check_local(scope, headers, needed)
            return self._local
        sent = _sent(headers, bearer=needed != "check")  # the gateway hands on its client's Authorization
        challenge = {} if needed == "check" else CHALLENGE  # its client is not to be asked for a key
        if not sent:
            raise RequestError(401, HOW[needed == "check"], type="key_missing", headers=challenge)
        source = self._sources.get(self._digest(sent)) if len(sent) <= LONGEST_SECRET else None
        if source is None:
            raise RequestError(
                401,
                "This key is not one of the service's; compare it with those that it was started with.",
                type="key_wrong",
                headers=challenge,
            )
        if needed not in source.scopes:
            has = ", ".join(sorted(source.scopes))
            raise RequestError(
                401 if needed == "check" else 403,  # with 403, a gateway would tell a client that it is blocked
                f"The key of {source.name} is for {has}, and this needs {needed}; add it to the scopes of the key.",
                type="key_scope",
            )
        return source

    def _digest(self, secret: bytes) -> bytes:
        return blake2b(secret, key=self._salt, digest_size=32).digest()


LONGEST_NAME = 100

NO_KEYS = (
    "a service without keys would answer everybody: give each source one, keys={'gateway': 'a secret of at least 16 "
    "characters'}; or local=True, if only this machine can reach it and nothing forwards requests of others to it"
)

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="meterkit"'}

HOW = {
    False: "Send the key of your source: Authorization: Bearer KEY, or X-Meterkit-Key: KEY.",
    True: "Have the gateway send its key in the header X-Meterkit-Key; Authorization is left to its clients.",
}


def keys_from_json(text: str, *, where: str) -> dict[str, Key]:
    """
    Read keys from JSON: ``{"source": "secret"}`` or ``{"source": {"secret": ..., "scopes": [...], "rate": ...}}``.

    Args:
        text: The JSON.
        where: Where it comes from, for errors.

    Raises:
        ConfigurationError: It is not such JSON; the message says how to correct it.
    """
    shape = f'{where} must be JSON such as {{"gateway": {{"secret": "...", "scopes": ["check"]}}}}'
    try:
        found = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        why = f": {error}" if isinstance(error, _DuplicateError) else ""
        raise ConfigurationError(f"{shape}{why}") from None  # the error would show a part of the text
    if not isinstance(found, dict):
        raise ConfigurationError(shape)
    keys: dict[str, Key] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            unknown = value.keys() - Key.__dataclass_fields__.keys() | (value.keys() & {"_"})
            if unknown or "secret" not in value:
                raise ConfigurationError(f"{shape}: {name!r:.100} has {', '.join(sorted(unknown)) or 'no secret'}")
            keys[name] = _made(name, **value)
        else:
            keys[name] = _made(name, secret=value)
    return keys


def _made(name: str, **options: Any) -> Key:
    try:
        return Key(**options)
    except ConfigurationError as error:
        raise ConfigurationError(f"the key of {name!r:.100}: {error}") from None


class _DuplicateError(ValueError):
    """Two sources have the same name."""


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DuplicateError("a name is there twice")
    return found


def _checked_secret(secret: Any) -> str:
    if not isinstance(secret, str):
        raise ConfigurationError(f"Key(secret) must be a str, not {type(secret).__name__}")
    if not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET or not secret.isascii() or not secret.isprintable():
        raise ConfigurationError(_SECRET)
    if " " in secret:
        raise ConfigurationError(_SECRET)
    return secret


_SECRET = (
    f"Key(secret) must have {SHORTEST_SECRET} to {LONGEST_SECRET} printable ASCII characters and no spaces: "
    "secrets.token_urlsafe(32) makes one"
)


def _sent(headers: Headers, *, bearer: bool) -> bytes:
    """Return the key that a request has; empty if it has none, or several."""
    found = [value for name, value in headers if name == b"x-meterkit-key"]
    if not found and bearer:
        found = [
            value[7:].strip() for name, value in headers if name == b"authorization" and value[:7].lower() == b"bearer "
        ]
    return found[0] if len(found) == 1 else b""


def _check_local(scope: Mapping[str, Any], headers: Headers, needed: str) -> None:
    """
    Check that a request without a key comes from a program on this machine.

    Raises:
        RequestError: It does not, or a browser has sent it on behalf of a page of somebody else's.
    """
    client = scope.get("client")
    if client is None or not client[0]:  # a Unix socket, which file permissions protect
        return
    if not is_loopback(client[0]):
        raise RequestError(
            401, "Without keys, only this machine is served: start the service with keys.", type="key_required"
        )
    if needed == "check":  # the gateway hands on its client's headers
        return
    names = {name: value for name, value in headers if name in (b"origin", b"sec-fetch-site", b"host")}
    host = names.pop(b"host", b"localhost").decode("latin-1")
    if names or not _is_local_name(host):
        raise RequestError(
            403,
            "Without keys, nothing is served to a browser, in which any page could ask: start the service with keys, "
            "and call it as localhost.",
            type="from_browser",
        )


def is_loopback(host: str) -> bool:
    """Return whether *host* is an address of the loopback interface, or ``localhost``."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_local_name(host: str) -> bool:
    name, _, port = host.rpartition(":")
    return is_loopback((name if name and port.isdigit() else host).strip("[]").lower())


def environment_keys(path: str | os.PathLike[str] | None) -> dict[str, Key]:
    """
    Read the keys of a service from the file at *path*, or else from ``METERKIT_SERVICE_KEYS``; none without either.

    Raises:
        ConfigurationError: They cannot be read; the message says how to correct them.
    """
    if path is not None:
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123 - a device such as /dev/fd/3 is fine
                return keys_from_json(file.read(), where=f"{path}")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the keys cannot be read from {path}: {error}") from None
    text = os.environ.get(VARIABLE)
    return {} if text is None else keys_from_json(text, where=VARIABLE)


VARIABLE = "METERKIT_SERVICE_KEYS"
