"""HOT's functions (HOT specification, section "Intrinsic functions"), as far as they are simulated."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from simulator.heat.wire import HotError


class Scope(Protocol):
    """What functions ask for."""

    def resource(self, name: str) -> Any:
        """Its physical id."""

    def attribute(self, name: str, path: list[Any]) -> Any:
        """One of its attributes, or a part of it."""


class Later:
    """A value that is known only once the resource is there."""


LATER = Later()
#: Those whose arguments are not worked out before they are called.
_LAZY = {"get_resource", "repeat", "if"}
NAMES = {
    "get_param",
    "get_resource",
    "get_attr",
    "str_replace",
    "list_join",
    "str_split",
    "repeat",
    "if",
    "map_merge",
    "list_concat",
}
_USAGE = {
    "list_join": 'Incorrect arguments to "list_join" should be: "list_join" : [ " ", [ "str1", "str2"] ...]',
    "str_split": 'Incorrect arguments to "str_split" should be: "str_split" : [ ",", "apples,pears", <index>]',
    "if": 'Arguments to "if" must be of the form: [condition_name, value_if_true, value_if_false]',
    "get_attr": 'Arguments to "get_attr" must be of the form [resource_name, attribute, (path), ...]',
}


def function(node: Any) -> tuple[str, Any] | None:
    """Name and argument where a node is a call."""
    if isinstance(node, dict) and len(node) == 1:
        ((name, argument),) = node.items()
        if name in NAMES:
            return name, argument
    return None


def calls(node: Any, wanted: str) -> Iterator[Any]:
    """Arguments of every call of one function in a node."""
    found = function(node)
    if found and found[0] == wanted:
        yield found[1]
    for one in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from calls(one, wanted)


def dig(value: Any, path: list[Any]) -> Any:
    """The part of a value at a path; None where there is none."""
    for step in path:
        if value is LATER:
            return LATER
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return value


def has_later(node: Any) -> bool:
    """Whether any part is known only later."""
    if isinstance(node, dict):
        return any(has_later(one) for one in node.values())
    return node is LATER or (isinstance(node, list) and any(has_later(one) for one in node))


class Evaluator:
    """Works nodes out, with a document's parameters and conditions."""

    def __init__(self, parameters: Mapping[str, Any], conditions: Mapping[str, bool], scope: Scope) -> None:
        self._parameters = parameters
        self._conditions = conditions
        self._scope = scope

    def value(self, node: Any) -> Any:
        """A node with its functions worked out. Raises :class:`HotError` for arguments that a function does not take."""
        found = function(node)
        if found is None:
            if isinstance(node, list):
                return [self.value(one) for one in node]
            return {key: self.value(one) for key, one in node.items()} if isinstance(node, dict) else node
        name, argument = found
        call: Callable[[Any], Any] = getattr(self, f"_{name}")
        if name in _LAZY:
            return call(argument)
        given = self.value(argument)
        if name not in {"get_attr", "get_param"} and has_later(given):
            return LATER
        return call(given)

    def _get_resource(self, name: Any) -> Any:
        return self._scope.resource(str(name))

    def _get_attr(self, given: Any) -> Any:
        if not isinstance(given, list) or not given:
            raise HotError(_USAGE["get_attr"])
        return self._scope.attribute(str(given[0]), given[1:])

    def _get_param(self, given: Any) -> Any:
        path = given if isinstance(given, list) else [given]
        if not path or path[0] not in self._parameters:
            raise HotError(f"The Parameter ({path[0] if path else given}) was not provided.", "UserParameterMissing")
        found = dig(self._parameters[path[0]], path[1:])
        return "" if found is None and len(path) > 1 else found

    def _str_replace(self, given: Any) -> Any:
        if not isinstance(given, dict):
            raise HotError('Arguments to "str_replace" must be a map')
        if not isinstance(given.get("template"), str) or not isinstance(given.get("params"), dict):
            raise HotError('"str_replace" syntax should be str_replace: {template: This is var1, params: {var1: a}}')
        text = given["template"]
        for key in sorted(given["params"], key=len, reverse=True):  # the longest first, as Heat does
            value = given["params"][key]
            text = text.replace(key, "" if value is None else str(value))
        return text

    def _list_join(self, given: Any) -> Any:
        if not isinstance(given, list) or len(given) < 2 or not all(isinstance(one, list | None) for one in given[1:]):  # noqa: PLR2004
            raise HotError(_USAGE["list_join"])
        return str(given[0]).join(str(one) for part in given[1:] for one in part or [])

    def _str_split(self, given: Any) -> Any:
        if not isinstance(given, list) or len(given) not in {2, 3}:
            raise HotError(_USAGE["str_split"])
        parts = str(given[1]).split(str(given[0]))
        if len(given) == 2:  # noqa: PLR2004
            return parts
        if not str(given[2]).isdigit() or int(given[2]) >= len(parts):
            raise HotError(f'Incorrect index to "str_split" should be between 0 and {len(parts) - 1}')
        return parts[int(given[2])]

    def _repeat(self, given: Any) -> Any:
        if not isinstance(given, dict) or "template" not in given or not isinstance(given.get("for_each"), dict):
            raise HotError('"repeat" syntax should be repeat: {template: This is %var%, for_each: {"%var%": [a, b, c]}}')
        lists = self.value(given["for_each"])
        if has_later(lists):
            return LATER
        if not all(isinstance(one, list | dict) for one in lists.values()):
            raise HotError('The values of the "for_each" argument to "repeat" must be lists or maps')
        names, rows = list(lists), [list(one) for one in lists.values()]
        pick = itertools.product(*rows) if given.get("permutations", True) else zip(*rows, strict=False)
        return [self.value(_replaced(given["template"], dict(zip(names, row, strict=True)))) for row in pick]

    def _if(self, given: Any) -> Any:
        if not isinstance(given, list) or len(given) not in {2, 3}:
            raise HotError(_USAGE["if"])
        if given[0] not in self._conditions:
            raise HotError(f'Invalid condition "{given[0]}"')
        chosen = given[1] if self._conditions[given[0]] else given[2] if len(given) > 2 else None  # noqa: PLR2004
        return self.value(chosen)

    def _map_merge(self, given: Any) -> Any:
        if not isinstance(given, list) or not all(isinstance(one, dict | None) for one in given):
            raise HotError('Incorrect arguments to "map_merge" should be: "map_merge" : [ {map1}, {map2} ]')
        return {key: value for one in given for key, value in (one or {}).items()}

    def _list_concat(self, given: Any) -> Any:
        if not isinstance(given, list) or not all(isinstance(one, list | None) for one in given):
            raise HotError('Incorrect arguments to "list_concat" should be: "list_concat" : [ [list1], [list2] ]')
        return [value for one in given for value in one or []]


def _replaced(node: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(node, str):
        if node in names:
            return names[node]
        for name, value in names.items():
            if name in node:
                node = node.replace(name, str(value))
        return node
    if isinstance(node, list):
        return [_replaced(one, names) for one in node]
    if isinstance(node, dict):
        return {_replaced(key, names): _replaced(one, names) for key, one in node.items()}
    return node


def conditions(specs: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, bool]:
    """Every named condition, decided. Raises :class:`HotError` for one that can't be."""
    found: dict[str, bool] = {}

    def decide(node: Any, above: tuple[str, ...]) -> bool:
        if isinstance(node, bool):
            return node
        if isinstance(node, str):
            if node not in specs or node in above:
                raise HotError(f'Invalid condition "{node}"')
            if node not in found:
                found[node] = decide(specs[node], (*above, node))
            return found[node]
        if isinstance(node, dict) and len(node) == 1:
            ((name, argument),) = node.items()
            if name == "not":
                return not decide(argument, above)
            if name in {"and", "or"} and isinstance(argument, list):
                return (all if name == "and" else any)([decide(one, above) for one in argument])
            if name == "equals" and isinstance(argument, list) and len(argument) == 2:  # noqa: PLR2004
                left, right = Evaluator(parameters, found, _Nothing()).value(argument)
                return bool(left == right)
            if name == "get_param":
                return bool(Evaluator(parameters, found, _Nothing()).value(node))
        raise HotError(f'Invalid condition "{node}"')

    for name in specs:
        decide(name, ())
    return found


class _Nothing:
    def resource(self, name: str) -> Any:
        raise HotError(f'The specified reference "{name}" (in conditions) is incorrect.', "InvalidTemplateReference")

    def attribute(self, name: str, path: list[Any]) -> Any:
        del path
        return self.resource(name)
