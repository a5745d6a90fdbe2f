"""
Parameter tables: each endpoint declares its parameters, and every 400 about parameters is raised here.

A form of v1 contains strings and dictionaries of strings; a JSON body of v2 may contain anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from meterkit.sandbox.protocol.errors import empty_parameter, malformed, missing_parameter, unknown_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Rule:
    """
    The rule for one parameter.

    Attributes:
        required: Whether omitting it is an error.
        nullable: Whether an empty string unsets it (its value is then None); otherwise, an empty string is an error.

    """

    required: bool = False
    nullable: bool = False

    def read(self, value: object, name: str) -> Any:
        """Return the parameter's value, or raise the error that Stripe would return."""
        if value == "":
            if self.nullable:
                return None
            raise empty_parameter(name)
        return self.parse(value, name)

    def parse(self, value: object, name: str) -> Any:
        """Return the value of a parameter that is not empty."""
        raise NotImplementedError


def _scalar(value: object, name: str) -> str:
    if isinstance(value, str):
        return value
    raise malformed("Invalid string: expected a single value of text.", param=name)


@dataclass(frozen=True)
class Text(Rule):
    """A string of at most `longest` characters."""

    longest: int = 5000

    def parse(self, value: object, name: str) -> str:
        """Return the string itself."""
        text = _scalar(value, name)
        if len(text) > self.longest:
            shown = f"{text[:10]}...{text[-10:]}"
            raise malformed(
                f"Invalid string: {shown}; must be at most {self.longest} characters",
                param=name,
                code="parameter_invalid_string_too_long",
            )
        return text


@dataclass(frozen=True)
class Url(Rule):
    """An absolute URL of the web."""

    def parse(self, value: object, name: str) -> str:
        """Return the URL itself."""
        text = Text().parse(value, name)
        try:
            parts = urlsplit(text)
            host = parts.hostname
        except ValueError:  # such as an unfinished IPv6 address
            raise malformed("Not a valid URL", param=name, code="url_invalid") from None
        if parts.scheme not in ("http", "https"):
            raise malformed(
                "Invalid URL: An explicit scheme (such as https) must be provided.", param=name, code="url_invalid"
            )
        if not host:
            raise malformed("Not a valid URL", param=name, code="url_invalid")
        return text


@dataclass(frozen=True)
class Choice(Rule):
    """One of a fixed set of words."""

    options: tuple[str, ...]

    def parse(self, value: object, name: str) -> str:
        """Return the word."""
        text = _scalar(value, name)
        if text not in self.options:
            *most, last = self.options
            either = f"one of {', '.join(most)}, or {last}" if most else last
            raise malformed(f"Invalid {name}: must be {either}", param=name)
        return text


@dataclass(frozen=True)
class Integer(Rule):
    """A whole number within bounds, both inclusive."""

    least: int | None = None
    most: int | None = None

    def parse(self, value: object, name: str) -> int:
        """Return the number."""
        text = _scalar(value, name)
        digits = text[1:] if text[:1] == "-" else text
        if not (digits.isascii() and digits.isdigit()):
            raise malformed(f"Invalid integer: {text}", param=name, code="parameter_invalid_integer")
        number = int(text)
        if self.least is not None and number < self.least:
            raise malformed(
                f"This value must be greater than or equal to {self.least}.",
                param=name,
                code="parameter_invalid_integer",
            )
        if self.most is not None and number > self.most:
            raise malformed(
                f"This value must be less than or equal to {self.most}.",
                param=name,
                code="parameter_invalid_integer",
            )
        return number


@dataclass(frozen=True)
class Number(Rule):
    """A non-negative decimal number with at most `places` digits after the point."""

    places: int = 12

    def parse(self, value: object, name: str) -> Decimal:
        """Return the exact number."""
        text = _scalar(value, name)
        try:
            number = Decimal(text)
        except InvalidOperation:
            raise malformed(f"Invalid decimal: {text}", param=name) from None
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int) or number < 0:
            raise malformed(f"Invalid decimal: {text}; must be greater than or equal to 0", param=name)
        if -exponent > self.places:
            raise malformed(
                f"Invalid decimal: {text}; must contain at maximum {self.places} decimal places.", param=name
            )
        return number


@dataclass(frozen=True)
class Boolean(Rule):
    """`true` or `false`."""

    def parse(self, value: object, name: str) -> bool:
        """Return the value."""
        text = _scalar(value, name)
        if text not in ("true", "false"):
            raise malformed(f"Invalid boolean: {text}", param=name)
        return text == "true"


@dataclass(frozen=True)
class UpTo(Rule):
    """A tier's upper bound: a positive whole number, or `inf`, whose value is None."""

    def parse(self, value: object, name: str) -> int | None:
        """Return the bound."""
        return None if value == "inf" else Integer(least=1).parse(value, name)


@dataclass(frozen=True)
class Moment(Rule):
    """A time in Unix seconds, or one of a few words (`now`)."""

    words: tuple[str, ...] = ()

    def parse(self, value: object, name: str) -> int | str:
        """Return the time or the word."""
        return value if isinstance(value, str) and value in self.words else Integer(0).parse(value, name)


@dataclass(frozen=True)
class Object(Rule):
    """A nested table of parameters."""

    fields: Mapping[str, Rule]

    def parse(self, value: object, name: str) -> dict[str, Any]:
        """Return the values of the parameters that were sent."""
        if not isinstance(value, dict):
            raise malformed("Invalid object", param=name)
        unknown = [_join(name, key) for key in value if key not in self.fields]
        if unknown:
            raise unknown_parameters(unknown)
        for key, rule in self.fields.items():
            if rule.required and key not in value:
                raise missing_parameter(_join(name, key))
        return {key: self.fields[key].read(child, _join(name, key)) for key, child in value.items()}


@dataclass(frozen=True)
class Array(Rule):
    """A list, sent as `name[0]=…` or `name[]=…`, or as a list in JSON."""

    element: Rule
    longest: int = 100
    shortest: int = 0

    def parse(self, value: object, name: str) -> list[Any]:
        """Return the elements in the order of their indices."""
        if isinstance(value, list):  # from JSON
            value = {str(index): element for index, element in enumerate(value)}
        elif not isinstance(value, dict) or not all(key.isdigit() for key in value):
            raise malformed("Invalid array", param=name)
        if len(value) > self.longest:
            raise malformed(f"Array {name} exceeded maximum {self.longest} allowed elements.", param=name)
        if len(value) < self.shortest:
            raise malformed(f"Array {name} must have at least {self.shortest} elements.", param=name)
        return [self.element.read(value[key], f"{name}[{key}]") for key in sorted(value, key=int)]


@dataclass(frozen=True)
class Dictionary(Rule):
    """Arbitrary keys with string values. An empty value is kept: in metadata, it means "remove this key"."""

    longest_key: int = 40
    longest_value: int = 500
    most: int = 50
    nulls: bool = False  # whether null in JSON is an empty value

    def parse(self, value: object, name: str) -> dict[str, str]:
        """Return the mapping."""
        if not isinstance(value, dict):
            raise malformed("Invalid object", param=name)
        if self.nulls:
            value = {key: "" if text is None else text for key, text in value.items()}
        if len(value) > self.most:
            raise malformed(f"{name} can have at most {self.most} keys.", param=name)
        for key, text in value.items():
            if len(key) > self.longest_key:
                raise malformed(f"Invalid key: {key}; must be at most {self.longest_key} characters", param=name)
            if text != "":
                Text(self.longest_value).parse(text, _join(name, key))
        return {key: _scalar(text, _join(name, key)) for key, text in value.items()}


@dataclass(frozen=True)
class Table(Rule):
    """Arbitrary keys with nested tables that all have the same fields."""

    fields: Mapping[str, Rule]

    def parse(self, value: object, name: str) -> dict[str, Any]:
        """Return the tables by key."""
        if not isinstance(value, dict):
            raise malformed("Invalid object", param=name)
        return {key: Object(self.fields).read(child, _join(name, key)) for key, child in value.items()}


@dataclass(frozen=True)
class Span(Rule):
    """A filter on a time in Unix seconds: the time itself, or any of `gt`, `gte`, `lt`, `lte`."""

    def parse(self, value: object, name: str) -> dict[str, int]:
        """Return the bounds; a single time becomes `gte` and `lte`."""
        if isinstance(value, str):
            moment = Integer().parse(value, name)
            return {"gte": moment, "lte": moment}
        bounds: dict[str, int] = Object(dict.fromkeys(("gt", "gte", "lt", "lte"), Integer())).parse(value, name)
        return bounds


def within(moment: float, bounds: Mapping[str, float] | None) -> bool:
    """Return whether a time lies within the bounds of a `Span`; None has no bounds."""
    if bounds is None:
        return True
    return (
        moment > bounds.get("gt", moment - 1)
        and moment >= bounds.get("gte", moment)
        and moment < bounds.get("lt", moment + 1)
        and moment <= bounds.get("lte", moment)
    )


def merged(metadata: Mapping[str, str], change: Mapping[str, str] | None) -> dict[str, str]:
    """Return metadata after an update: None clears it, an empty value removes its key."""
    if change is None:
        return {}
    return {key: value for key, value in {**metadata, **change}.items() if value != ""}


def _join(name: str, key: str) -> str:
    return f"{name}[{key}]" if name else key


METADATA = Dictionary(nullable=True)
EXPAND = Array(Text())
PAGE: dict[str, Rule] = {
    "limit": Integer(1, 100),
    "starting_after": Text(),
    "ending_before": Text(),
}
