"""Types for a problem whose annotations say too little, and values that agree with the types.

In go parameters with their annotated types (UNKNOWN where there is none) and the assertions and examples; out come a
signature without unknowns and the same assertions settled to it. Knows nothing of syntax and of target languages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from codechoir.translation.errors import Untranslatable
from codechoir.translation.problem import Assertion, Parameter, Signature
from codechoir.translation.types import UNKNOWN, Type, Value, join, known, type_of_value


def inferred(annotated: Signature, assertions: Sequence[Assertion], examples: Sequence[Assertion]) -> Signature:
    """`annotated` with every type known: from the assertions, and where they show nothing from the examples."""
    parameters = tuple(
        Parameter(each.name, _refined(each.type, _arguments(assertions, place), _arguments(examples, place)))
        for place, each in enumerate(annotated.parameters)
    )
    results = [[each.expected for each in source] for source in (assertions, examples)]
    return Signature(annotated.name, parameters, _refined(annotated.result, *results))


def _arguments(assertions: Sequence[Assertion], place: int) -> list[Value]:
    return [each.arguments[place] for each in assertions if place < len(each.arguments)]


def _refined(annotated: Type, *sources: Sequence[Value]) -> Type:
    """The annotation where it is whole, else what the values show; later sources count where earlier show nothing."""
    found = annotated
    for values in sources:
        if not _has_unknown(found):
            break
        shown = _shown(values)
        found = _filled(found, shown) if found != UNKNOWN else shown
    return known(found)


def _has_unknown(type: Type) -> bool:
    return type == UNKNOWN or any(map(_has_unknown, type.items))


def _shown(values: Sequence[Value]) -> Type:
    """The type that holds all values. An empty list among values of another kind says nothing: it fits none."""
    telling = [value for value in values if value != []]
    if telling and not any(isinstance(value, list) for value in telling):
        values = telling
    return join(type_of_value(_plain(value)) for value in values)


def _filled(annotated: Type, shown: Type) -> Type:
    """`annotated` with its unknown parts as the values show them."""
    if annotated == UNKNOWN:
        return shown
    if annotated.kind == "many" and shown.kind == "tuple":
        return shown
    if annotated.kind != shown.kind or len(annotated.items) != len(shown.items):
        return annotated
    return Type(annotated.kind, tuple(map(_filled, annotated.items, shown.items)))


def _plain(value: Value) -> Value:
    """Lists of ints and of floats that are whole count as lists of ints; keys of several kinds count as texts."""
    match value:
        case list() | tuple():
            items: Sequence[Value] = [_plain(item) for item in value]
            kinds = {type(item) for item in items}
            if isinstance(value, list) and kinds == {int, float} and all(_whole(item) for item in items):
                items = [int(item) for item in items if isinstance(item, int | float)]
            return list(items) if isinstance(value, list) else tuple(items)
        case dict():
            mixed = len({type(key) for key in value}) > 1
            return {str(key) if mixed else _plain(key): _plain(item) for key, item in value.items()}
        case _:
            return value


def _whole(value: Value) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def settled(signature: Signature, assertion: Assertion) -> Assertion:
    """The assertion with its values of the signature's types. Raises Untranslatable where one does not fit.

    Only parts are converted (an int in a list of floats becomes a float); an int for a float parameter stays one.
    """
    parameters = signature.parameters
    if len(assertion.arguments) > len(parameters):
        raise Untranslatable("a call has more arguments than the function has parameters")
    arguments = zip(assertion.arguments, parameters, strict=False)
    values = tuple(_settled(_plain(value), parameter.type) for value, parameter in arguments)
    return Assertion(values, _settled(_plain(assertion.expected), signature.result))


def _settled(value: Value, type: Type, *, part: bool = False) -> Value:
    """`value` as one of `type`; a number that is a `part` of something takes the type that the part has."""
    match type, value:
        case Type(kind="any"), _:
            return value
        case Type(kind="optional", items=(item,)), _:
            return None if value is None else _settled(value, item, part=part)
        case Type(kind="union", items=members), _:
            return _member(value, members)
        case Type(kind="list", items=(item,)), list() | tuple():
            return [_settled(each, item, part=True) for each in value]
        case Type(kind="many", items=(item,)), list() | tuple():
            return tuple(_settled(each, item, part=True) for each in value)
        case Type(kind="tuple", items=items), list() | tuple() if len(items) == len(value):
            return tuple(_settled(each, item, part=True) for each, item in zip(value, items, strict=True))
        case Type(kind="dict", items=(key, item)), dict():
            return {_settled(k, key, part=True): _settled(each, item, part=True) for k, each in value.items()}
        case Type(kind="float"), int() if not isinstance(value, bool):
            return float(value) if part else value
        case Type(kind="int"), float() if value.is_integer():
            return int(value)
    if type == type_of_value(value):
        return value
    raise Untranslatable(f"{value!r} is no {type.kind}")


def _member(value: Value, members: Iterable[Type]) -> Value:
    """`value` as the first of a union's members that it fits, its own type first."""
    own = type_of_value(value)
    for member in sorted(members, key=lambda each: each != own):
        try:
            return _settled(value, member)
        except Untranslatable:
            continue
    raise Untranslatable(f"{value!r} is none of the union's types")
