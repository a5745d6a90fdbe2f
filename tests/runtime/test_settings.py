"""Wrong configuration fails while a kit is built, and the message says the cure."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from meterkit import ConfigurationError, LedgerError, Meter, MeterKit, MeterKitError, Price

CALLS = Meter("calls")


def look_up_one_by_one(_exchange):
    """Not an identity, but many."""
    yield "acme"


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"meters": []}, "add at least one Meter"),
        ({"meters": CALLS}, "a list of Meter"),
        ({"meters": None}, "a list of Meter"),
        ({"meters": ["calls"]}, "'calls' is not a Meter"),
        ({"meters": [CALLS, Meter("calls", path="/v2/*")]}, "two meters named 'calls'; rename one"),
        ({"meters": [CALLS, Meter("v2", event_name="calls")]}, "give one of them another event_name="),
        ({"prices": Price.per_unit(CALLS, "1")}, "a list of Price"),
        ({"prices": ["1.00"]}, "'1.00' is not a Price"),
        ({"prices": [Price.per_unit(Meter("other"), "1")]}, "Meter('other'), which is not in meters=; add it there"),
        ({"prices": [Price.per_unit(Meter("calls", path="/v2"), "1")]}, "not in meters="),
        ({"identify": "x-company-id"}, "a function that takes an Exchange"),
        ({"identify": look_up_one_by_one}, "replace its yield"),
        ({"stripe_key": 5}, "'sk_live_...'"),
        ({"stripe_key": "sk_test_1\n"}, "no spaces or line breaks"),
        ({"stripe_key": "sk_test 1"}, "no spaces or line breaks"),
        ({"stripe_key": "pk_live_1"}, "Use the secret key"),
        ({"stripe_key": "whsec_1"}, "Use the secret key"),
        ({"stripe_base": "127.0.0.1:12111"}, "such as 'http://127.0.0.1:12111'"),
        ({"stripe_base": 12111}, "such as 'http://127.0.0.1:12111'"),
        ({"ledger": "mysql://host/db"}, "'sqlite:///path', 'postgresql://...' or"),
        ({"ledger": "postgresql+psycopg2://host/db"}, "it begins with 'postgresql+psycopg2://'"),
        ({"ledger": "/var/lib/ledger.sqlite"}, "'sqlite:///path', 'postgresql://...' or"),
        ({"ledger": Path("ledger.sqlite")}, "'sqlite:///path', 'postgresql://...' or"),
        ({"ledger": "sqlite:///"}, "ledger= must be a file"),
        ({"ledger": "sqlite:///:memory:"}, "ledger= must be a file"),
        ({"ledger": "sqlite:///file:ledger?mode=memory&uri=true"}, "ledger= must be a file"),
        ({"data_dir": 5}, "a path such as"),
        ({"data_dir": b"billing"}, "a path such as"),
        ({"data_dir": "/var/lib/what?"}, "choose another"),
        ({"data_dir": "/var/lib/100%"}, "choose another"),
        ({"flush_interval": 0}, "a positive number of seconds"),
        ({"flush_interval": -1}, "a positive number of seconds"),
        ({"flush_interval": "5"}, "a positive number of seconds"),
        ({"flush_interval": None}, "a positive number of seconds"),
        ({"flush_interval": True}, "a positive number of seconds"),
        ({"flush_interval": math.nan}, "a positive number of seconds"),
        ({"flush_interval": 1e10}, "at most a week"),
        ({"report_interval": 0}, "report_interval= must be a positive number of seconds"),
        ({"report_interval": math.inf}, "at most a week"),
        ({"clock": 1_772_366_400}, "such as time.time"),
        ({"clock": None}, "such as time.time"),
    ],
)
def test_a_wrong_kit(options, cure):
    """A kit that cannot work is refused while it is built, in a sentence that says the cure."""
    with pytest.raises(ConfigurationError) as caught:
        MeterKit(**{"meters": [CALLS], **options})

    assert cure in str(caught.value)


@pytest.mark.parametrize("wrong", ["stripe_keys", "flush_seconds"])
def test_a_misspelt_option(wrong):
    """An option that there is not is Python's own error."""
    with pytest.raises(TypeError, match=wrong):
        MeterKit(meters=[CALLS], **{wrong: 5})


def test_one_error_for_all():
    """A wrong configuration is a `ValueError`, and of the tree that `MeterKitError` catches."""
    assert issubclass(ConfigurationError, MeterKitError)
    assert issubclass(ConfigurationError, ValueError)


@pytest.mark.parametrize(
    ("options", "secret"),
    [
        ({"stripe_key": "whsec_hush"}, "hush"),
        ({"stripe_key": "pk_live_hush"}, "hush"),
        ({"stripe_key": "sk_live_hush\n"}, "hush"),
        ({"ledger": "mysql://user:hush@host/db"}, "hush"),
        ({"ledger": "postgres://user:hush@hush@host/db"}, "hush"),
        ({"ledger": "postgresql+asyncpg://host/db?user=u&password=hush"}, "hush"),
        ({"ledger": "host=db user=u password=hush"}, "hush"),
        ({"ledger": "hush"}, "hush"),
        ({"ledger": ["postgresql+psycopg://u:hush@host/db"]}, "hush"),
        ({"ledger": "postgresql+psycopg://u:a@hush@host/db"}, "hush"),
        ({"stripe_base": "user:hush@proxy.example"}, "hush"),
        ({"webhook": "whsec_hush"}, "hush"),
    ],
)
def test_no_secret_in_a_message(options, secret):
    """A message ends up in logs, so it never repeats a key or password."""
    with pytest.raises(ConfigurationError) as caught:
        MeterKit(meters=[CALLS], **options)

    assert secret not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_an_address_as_hosts_give_it_out(scheme, tmp_path):
    """What a host calls DATABASE_URL is taken as it is; a password in it, with a slash even, is shown nowhere."""
    url = f"{scheme}://user:hu/sh@127.0.0.1:1/db?sslmode=disable"
    kit = MeterKit(meters=[CALLS], ledger=url, data_dir=tmp_path)

    with pytest.raises(LedgerError) as caught:
        kit.usage()

    assert "postgresql+psycopg://user:***@127.0.0.1:1/db?sslmode=disable failed" in str(caught.value)
    assert "hu" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk_live_1", "rk_live_1"])
@pytest.mark.parametrize(
    "base", ["http://stripe.example", "http://10.0.0.1:12111", "http://127.0.0.1.example", "http://["]
)
def test_a_live_key_leaves_only_encrypted(key, base):
    """A test key may: a sandbox in another container has no certificate. And the loopback is no network."""
    with pytest.raises(ConfigurationError, match="use https://"):
        MeterKit(meters=[CALLS], stripe_key=key, stripe_base=base)
    for allowed in ("https://stripe.example", "http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"):
        assert MeterKit(meters=[CALLS], stripe_key=key, stripe_base=allowed)
    assert MeterKit(meters=[CALLS], stripe_key=key.replace("live", "test"), stripe_base=base)


def test_a_ledger_that_cannot_be_parsed_is_not_shown(tmp_path):
    """Wherever the password is in it."""
    url = "postgresql+psycopg://db:port/app?password=hush"
    kit = MeterKit(meters=[CALLS], ledger=url, data_dir=tmp_path)
    with pytest.raises(LedgerError, match="check the port") as caught:
        kit.usage()

    assert "hush" not in str(caught.value)
    assert "hush" not in str(kit.health())


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("sk_live_hush", "'sk_live_...'"),
        ("rk_test_hush", "'rk_test_...'"),
        ("hush", "'...'"),
        (None, "None"),
    ],
)
def test_no_secret_in_a_repr(key, shown):
    """The repr of a kit, and of what error reports show of its insides, has neither key nor password."""
    kit = MeterKit(
        meters=[CALLS], stripe_key=key, data_dir="/var/lib/billing", ledger="postgresql+psycopg://user:hush@host/db"
    )

    assert f"MeterKit(meters=['calls'], stripe_key={shown}, data_dir='/var/lib/billing')" == repr(kit)
    assert "hush" not in repr(vars(kit))


def test_the_environment_is_the_default(monkeypatch, tmp_path):
    """What no argument says, environment variables do."""
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_environment")
    monkeypatch.setenv("METERKIT_STRIPE_BASE", "http://127.0.0.1:1")
    monkeypatch.setenv("METERKIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("METERKIT_LEDGER", "sqlite:////elsewhere/ledger.sqlite")
    settings = MeterKit(meters=[CALLS])._settings

    assert (
        "sk_test_environment",
        "http://127.0.0.1:1",
        tmp_path / "data",
        "sqlite:////elsewhere/ledger.sqlite",
    ) == (settings.stripe_key, settings.stripe_base, settings.data_dir, settings.ledger)


def test_arguments_outrank_the_environment(monkeypatch, tmp_path):
    """An argument counts, whatever the environment says."""
    for name in ("STRIPE_SECRET_KEY", "METERKIT_STRIPE_BASE", "METERKIT_DATA_DIR", "METERKIT_LEDGER"):
        monkeypatch.setenv(name, "pk_wrong anyway")
    settings = MeterKit(
        meters=[CALLS],
        stripe_key="sk_test_argument",
        stripe_base="https://stripe.example",
        data_dir=tmp_path,
        ledger="sqlite:///ledger.sqlite",
    )._settings

    assert ("sk_test_argument", "https://stripe.example", tmp_path, "sqlite:///ledger.sqlite") == (
        settings.stripe_key,
        settings.stripe_base,
        settings.data_dir,
        settings.ledger,
    )


def test_an_empty_variable_says_nothing(monkeypatch):
    """Deployments set variables to nothing; that is the same as not setting them."""
    for name in ("STRIPE_SECRET_KEY", "METERKIT_STRIPE_BASE", "METERKIT_DATA_DIR", "METERKIT_LEDGER"):
        monkeypatch.setenv(name, "")
    settings = MeterKit(meters=[CALLS])._settings

    assert (None, None, Path(".meterkit").absolute()) == (
        settings.stripe_key,
        settings.stripe_base,
        settings.data_dir,
    )


def test_a_wrong_variable_is_a_wrong_argument(monkeypatch):
    """What comes from the environment is checked alike."""
    monkeypatch.setenv("STRIPE_SECRET_KEY", "pk_live_1")

    with pytest.raises(ConfigurationError, match="Use the secret key"):
        MeterKit(meters=[CALLS])


def test_the_defaults():
    """Without any word, usage is kept below the working directory, flushed every 5 seconds, reported every hour."""
    settings = MeterKit(meters=[CALLS])._settings

    assert (f"sqlite:///{Path.cwd()}/.meterkit/ledger.sqlite", 5.0, 3600.0) == (
        settings.ledger,
        settings.flush_interval,
        settings.report_interval,
    )
