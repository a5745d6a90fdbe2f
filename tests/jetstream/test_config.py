"""What a JetStream can be, and that nothing secret of it is shown."""

from __future__ import annotations

import pytest

from meterkit import ConfigurationError, JetStream, Meter, MeterKit


def test_the_usual():
    """A URL is enough."""
    found = JetStream("nats://nats-1:4222, nats://nats-2:4222")

    assert ("nats://nats-1:4222", "nats://nats-2:4222") == found.urls
    assert "JetStream at nats://nats-1:4222,nats://nats-2:4222" == str(found)
    assert ("METERKIT", "meterkit.generations", 3) == (found.stream, found.subject, found.replicas)


def test_secrets_are_not_shown():
    """Neither by repr nor by messages."""
    found = JetStream(["nats://user:sesame@nats-1:4222", "nats://sesame@nats-2"], credentials="/sesame.creds")

    assert "sesame" not in repr(found) + str(found)
    assert "nats://nats-1:4222,nats://nats-2" == found.address


WRONG = {
    "no scheme": (("nats-1:4222",), {}, "must be a URL that begins with nats://"),
    "http": (("http://nats-1:4222",), {}, "must be a URL that begins with nats://"),
    "number": ((4222,), {}, "must be a URL such as"),
    "port": (("nats://nats-1:sesame",), {}, "must be a URL that begins with nats://"),
    "none": (([],), {}, "is empty"),
    "mixed": ((["nats://a", "wss://b"],), {}, "either all WebSockets or none"),
    "stream": (("nats://a",), {"stream": "a.b"}, "must be a name of letters"),
    "subject": (("nats://a",), {"subject": "a.>"}, "without wildcards"),
    "replicas": (("nats://a",), {"replicas": 0}, "must be 1 to 5"),
    "credentials": (("nats://a",), {"credentials": 5}, "must be the path of a .creds file"),
    "tls": (("nats://a",), {"tls": True}, "must be an ssl.SSLContext"),
}


@pytest.mark.parametrize(("servers", "options", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong(servers, options, message):
    """Each mistake is said, with the cure, and without what may be a password."""
    with pytest.raises(ConfigurationError, match=message) as raised:
        JetStream(*servers, **options)

    assert "sesame" not in str(raised.value)


def test_a_kit_with_something_else():
    """``jetstream=`` takes a JetStream."""
    with pytest.raises(ConfigurationError, match="must be a JetStream, such as"):
        MeterKit(meters=[Meter("calls")], jetstream="nats://127.0.0.1:4222")
