"""Fields that take exactly what they say, and name the rule that a wrong value breaks.

Magnum silently takes ``"3"``, ``1.5`` and ``null`` for a node count, so nothing is converted here.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Self

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields

from shared.errors import FieldError

#: Times outside make arithmetic on them overflow, and mean a slip anyway.
_YEARS: Final = range(2000, 2101)
#: Marshmallow's own words for what it finds, as rules of ours.
_BUILT_IN = {"Missing data for required field.": "required", "Field may not be null.": "not_null"}
#: PostgreSQL refuses both in text: the zero byte, and half of a surrogate pair.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
#: The same for schemas, whose strings can't hold halves of pairs.
STORABLE = r"^[^\u0000]*$"


class Words(str):
    """Why a value was refused, and by which rule."""

    rule: str
    __slots__ = ("rule",)

    def __new__(cls, rule: str, text: str) -> Self:
        """The text, with its rule."""
        made = super().__new__(cls, text)
        made.rule = rule
        return made


def refuse(rule: str, text: str) -> ValidationError:
    """The exception that says it."""
    return ValidationError(Words(rule, text))


def name_of(value: Any) -> str:
    """What JSON calls the type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


class Count(fields.Integer):
    """A whole number between two bounds, both included; neither a boolean nor a string. 3.0 is 3 (JSON Schema, 6.1.1)."""

    def __init__(self, *, least: int, most: int, odd: bool = False, unit: str = "", **kwargs: Any) -> None:
        metadata = {"minimum": least, "maximum": most} | kwargs.pop("metadata", {})
        super().__init__(metadata=metadata, **kwargs)
        self._least, self._most, self._odd, self._unit = least, most, odd, f" {unit}" if unit else ""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_kwargs: Any) -> int:
        del attr, data
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise refuse("integer", f"Must be a whole number, not {name_of(value)}.")
        if not self._least <= value <= self._most:
            raise refuse("range", f"Must be between {self._least} and {self._most}{self._unit}; {_short(value)} was given.")
        if self._odd and value % 2 == 0:
            raise refuse("odd", f"Must be odd, so that the masters can form a majority; {value} was given.")
        return value


class Amount(fields.Float):
    """A finite number between two bounds, both included (``above``: the lower one is not); neither a boolean nor a string."""

    def __init__(self, *, least: float, most: float, above: bool = False, unit: str = "", **kwargs: Any) -> None:
        lower = "exclusiveMinimum" if above else "minimum"
        metadata = {lower: least, "maximum": most} | kwargs.pop("metadata", {})
        super().__init__(metadata=metadata, **kwargs)
        self._least, self._most, self._above, self._unit = least, most, above, f" {unit}" if unit else ""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_kwargs: Any) -> float:
        del attr, data
        if type(value) not in {int, float}:
            raise refuse("number", f"Must be a number, not {name_of(value)}.")
        if not self._least <= value <= self._most or (self._above and value == self._least):
            words = "more than" if self._above else "at least"
            raise refuse("range", f"Must be {words} {self._least:g} and at most {self._most:g}{self._unit}.")
        return float(value)


class Moment(fields.DateTime):
    """A time of RFC 3339, with its offset."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_kwargs: Any) -> datetime:
        del attr, data
        if type(value) is not str:
            raise refuse("string", f"Must be a string, not {name_of(value)}.")
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            at = None
        if at is None or at.tzinfo is None or len(value) < len("2026-01-01T00:00Z") or at.year not in _YEARS:
            raise refuse("date_time", "Must be a time like 2026-01-31T12:00:00Z, with its offset, between the years 2000 and 2100.")
        return at


class Part(fields.Nested):
    """An object of its own within a body."""

    def __init__(self, schema: type["RequestSchema"], **kwargs: Any) -> None:
        super().__init__(schema, **kwargs)
        self._name = schema.__name__

    def _deserialize(self, value: Any, attr: str | None, data: Any, partial: Any = None, **_kwargs: Any) -> Any:
        del attr, data, partial
        if type(value) is not dict:
            raise refuse("object", f"Must be an object, not {name_of(value)}.")
        schema = self.schema
        if not isinstance(schema, RequestSchema):
            msg = "A part is described by a RequestSchema."
            raise TypeError(msg)
        valid, findings = schema.examine(value, suspicious=False)
        if findings:
            raise ValidationError(_nested(findings))
        return valid


class Parts(fields.List[Any]):
    """A list of such objects."""

    def __init__(self, schema: type["RequestSchema"], *, most: int, least: int = 1, **kwargs: Any) -> None:
        metadata = {"minItems": least, "maxItems": most} | kwargs.pop("metadata", {})
        self._part = Part(schema)
        super().__init__(self._part, metadata=metadata, **kwargs)
        self._least, self._most = least, most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_kwargs: Any) -> list[Any]:
        del attr, data
        if type(value) is not list:
            raise refuse("array", f"Must be an array of objects, not {name_of(value)}.")
        if not self._least <= len(value) <= self._most:
            raise refuse("length", f"Must have {self._least} to {self._most} entries; it has {len(value)}.")
        valid, wrong = [], {}
        for index, one in enumerate(value):
            try:
                valid.append(self.inner.deserialize(one))
            except ValidationError as exc:
                wrong[str(index)] = exc.messages
        if wrong:
            raise ValidationError(wrong)
        return valid


def _nested(findings: Sequence[FieldError]) -> dict[str, list["Words"]]:
    """Messages by path. Paths stay whole: a client's own key may hold a dot, and be the beginning of another."""
    found: dict[str, list[Words]] = {}
    for finding in findings:
        found.setdefault(finding.field, []).append(Words(finding.rule, finding.detail))
    return found


class Text(fields.String):
    """A string of ``least`` to ``most`` characters, of a pattern where one is given."""

    def __init__(self, *, most: int = 255, least: int = 1, pattern: str | None = None, means: str = "", **kwargs: Any) -> None:
        written = pattern.replace(r"\Z", "$") if pattern else STORABLE  # the schema's dialect has no \Z
        metadata: dict[str, Any] = {"minLength": least, "maxLength": most, "pattern": written}
        super().__init__(metadata=metadata | kwargs.pop("metadata", {}), **kwargs)
        self._least, self._most, self._means = least, most, means
        self._match = re.compile(pattern).match if pattern else None

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_kwargs: Any) -> str:
        del attr, data
        if type(value) is not str:
            raise refuse("string", f"Must be a string, not {name_of(value)}.")
        if not self._least <= len(value) <= self._most:
            raise refuse("length", f"Must have {self._least} to {self._most} characters; it has {len(value)}.")
        if self._match and not self._match(value):
            raise refuse("pattern", self._means)
        return value


class Flag(fields.Boolean):
    """``true`` or ``false``, and nothing that merely looks like it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_kwargs: Any) -> bool:
        del attr, data
        if type(value) is not bool:
            raise refuse("boolean", f"Must be true or false, not {name_of(value)}.")
        return value


class Choice(fields.String):
    """One of a few words."""

    def __init__(self, choices: Sequence[str], **kwargs: Any) -> None:
        super().__init__(metadata={"enum": list(choices)} | kwargs.pop("metadata", {}), **kwargs)
        self._choices = tuple(choices)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_kwargs: Any) -> str:
        del attr, data
        if type(value) is not str:
            raise refuse("string", f"Must be a string, not {name_of(value)}.")
        if value not in self._choices:
            raise refuse("choice", f"Must be one of: {', '.join(self._choices)}.")
        return value


class ListOf(fields.List[Any]):
    """A list of objects, which somebody else examines."""

    def __init__(self, *, most: int, **kwargs: Any) -> None:
        metadata = {"maxItems": most} | kwargs.pop("metadata", {})
        super().__init__(fields.Dict(), metadata=metadata, **kwargs)
        self._most = most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_kwargs: Any) -> list[Any]:
        del attr, data
        if type(value) is not list:
            raise refuse("array", f"Must be an array of objects, not {name_of(value)}.")
        if len(value) > self._most:
            raise refuse("length", f"Must have at most {self._most} entries; it has {len(value)}.")
        for one in value:
            if type(one) is not dict:
                raise refuse("object", f"Must hold objects only, not {name_of(one)}.")
        return value


class Names(fields.List[Any]):
    """A list of strings, each once."""

    def __init__(self, *, most: int, longest: int, least: int = 1, **kwargs: Any) -> None:
        metadata = {"minItems": least, "maxItems": most, "uniqueItems": True} | kwargs.pop("metadata", {})
        each = fields.String(metadata={"minLength": 1, "maxLength": longest, "pattern": STORABLE})
        super().__init__(each, metadata=metadata, **kwargs)
        self._least, self._most, self._longest = least, most, longest

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_kwargs: Any) -> list[Any]:
        del attr, data
        if type(value) is not list:
            raise refuse("array", f"Must be an array of strings, not {name_of(value)}.")
        if not self._least <= len(value) <= self._most:
            raise refuse("length", f"Must have {self._least} to {self._most} entries; it has {len(value)}.")
        for one in value:
            if type(one) is not str:
                raise refuse("string", f"Must hold strings only, not {name_of(one)}.")
            if not 1 <= len(one) <= self._longest:
                raise refuse("length", f"Each must have 1 to {self._longest} characters; one has {len(one)}.")
        if len(set(value)) < len(value):
            raise refuse("unique", "Must hold each string once only.")
        return value


class Map(fields.Dict):
    """A map of anything that JSON has, by names."""

    def __init__(self, *, most: int, **kwargs: Any) -> None:
        super().__init__(keys=fields.String(), metadata={"maxProperties": most} | kwargs.pop("metadata", {}), **kwargs)
        self._most = most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_kwargs: Any) -> dict[str, Any]:
        del attr, data
        if type(value) is not dict:
            raise refuse("object", f"Must be an object, not {name_of(value)}.")
        if len(value) > self._most:
            raise refuse("max_properties", f"Must have at most {self._most} entries; it has {len(value)}.")
        return value


class Labels(fields.Dict):
    """A map of strings to strings, as Magnum keeps them."""

    def __init__(self, *, most: int, longest: int, reserved: str, **kwargs: Any) -> None:
        metadata = {"maxProperties": most} | kwargs.pop("metadata", {})
        super().__init__(
            keys=fields.String(),
            values=fields.String(metadata={"maxLength": longest, "pattern": STORABLE}),
            metadata=metadata,
            **kwargs,
        )
        self._most, self._longest, self._reserved = most, longest, reserved

    @property
    def names(self) -> dict[str, Any]:
        """The schema of the labels' names."""
        return {"minLength": 1, "maxLength": self._longest, "pattern": f"^(?!{re.escape(self._reserved)}){STORABLE[1:]}"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_kwargs: Any) -> dict[str, str]:
        del attr, data
        if type(value) is not dict:
            raise refuse("object", f"Must be an object of strings, not {name_of(value)}.")
        if len(value) > self._most:
            raise refuse("max_labels", f"Must have at most {self._most} labels; it has {len(value)}.")
        wrong = {key: words for key, one in value.items() if (words := self._wrong(key, one))}
        if wrong:
            raise ValidationError({key: [words] for key, words in wrong.items()})
        return value

    def _wrong(self, key: str, value: Any) -> Words | None:
        if not 1 <= len(key) <= self._longest:
            return Words("length", f"A label's name must have 1 to {self._longest} characters; it has {len(key)}.")
        if key.startswith(self._reserved):
            return Words("reserved", f"Labels that begin with {self._reserved!r} are set by this service alone.")
        if type(value) is not str:
            return Words("string", f"Must be a string, not {name_of(value)}.")
        if len(value) > self._longest:
            return Words("length", f"Must have at most {self._longest} characters; it has {len(value)}.")
        return None


class RequestSchema(Schema):
    """A body's schema. :meth:`examine` gives what is right and what is wrong in it, both whole."""

    class Meta:
        """Documented as additionalProperties: false."""

        unknown = RAISE

    def examine(self, document: dict[str, Any], *, suspicious: bool) -> tuple[dict[str, Any], list[FieldError]]:
        """The well-formed fields, and every finding. ``suspicious``: the text had escapes that may be unstorable."""
        quick = None if suspicious else self._quick(document)
        if quick is not None:
            return quick, []
        findings: list[FieldError] = []
        if not document.keys() <= self.fields.keys():
            findings += [_unknown(name, self.fields) for name in document if name not in self.fields]
        if suspicious:
            bad = list(_unstorable(document))
            findings += [finding for finding in bad if finding.field.split(".", 1)[0] in self.fields]
            broken = {finding.field.split(".", 1)[0] for finding in bad}
        else:
            broken = set()
        try:
            valid = self.load(document, unknown=EXCLUDE)  # they were found above, with what was probably meant
        except ValidationError as exc:
            valid = exc.valid_data if isinstance(exc.valid_data, dict) else {}
            findings += list(_flatten(exc.messages_dict, broken))
        for name in broken:
            valid.pop(name, None)
        return valid, findings

    def _quick(self, document: dict[str, Any]) -> dict[str, Any] | None:
        """The fields where all are right, None where one is not. The same fields judge, at a third of load()'s cost."""
        known = self.fields
        valid: dict[str, Any] = {}
        try:
            for name, value in document.items():
                valid[name] = known[name].deserialize(value)
        except (KeyError, ValidationError):
            return None
        return valid if self._required <= valid.keys() else None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._required = {name for name, field in self.fields.items() if field.required}


class Strict(Schema):
    """An answer, with every key that it can have. Answers are rendered by :mod:`api.render`; these describe them."""

    class Meta:
        """Documented as additionalProperties: false, so that tests find an undocumented key."""

        unknown = RAISE


def _flatten(messages: Mapping[str, Any], skip: set[str], prefix: str = "") -> Iterator[FieldError]:
    for name, found in messages.items():
        if not prefix and name in skip:
            continue
        path = f"{prefix}{name}"
        if isinstance(found, Mapping):
            yield from _flatten(found, skip, f"{path}.")
            continue
        for words in found:
            text = str(words)
            rule = words.rule if isinstance(words, Words) else _BUILT_IN.get(text, "invalid")
            yield FieldError(path, rule, {"required": "This field is required.", "not_null": "Must not be null."}.get(rule, text))


def _unstorable(value: Any, path: str = "") -> Iterator[FieldError]:
    words = "Must not hold the zero character or half of a surrogate pair."
    if isinstance(value, str):
        if UNSTORABLE.search(value):
            yield FieldError(path, "characters", words)
    elif isinstance(value, dict):
        for key, one in value.items():
            below = f"{path}.{key}" if path else key
            if UNSTORABLE.search(key):
                yield FieldError(below, "characters", words)
            yield from _unstorable(one, below)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _unstorable(one, f"{path}.{index}")


def near(name: str, known: Iterator[str] | Mapping[str, Any]) -> str:
    """A sentence that suggests what ``name`` was meant to be; empty where nothing is near."""
    close = difflib.get_close_matches(name[:100], list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def _unknown(name: str, known: Mapping[str, Any]) -> FieldError:
    shown = name if len(name) <= 100 else name[:100] + "…"  # noqa: PLR2004 - enough to recognise it
    words = near(name, known) or f" There are: {', '.join(sorted(known))}."
    return FieldError(shown, "unknown", f"There is no such field.{words}")


def _short(value: int) -> str:
    # Longer ones cannot even be turned into text (sys.int_info.default_max_str_digits).
    return str(value) if value.bit_length() < 128 else "a far larger number"  # noqa: PLR2004 - 39 digits
