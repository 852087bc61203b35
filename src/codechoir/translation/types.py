"""The types a problem speaks of: Python's annotations, and what its values show.

Owns the algebra (`Type`), its reading from an annotation or a value, and the joining of several types into the one
that holds them all. Knows nothing of target languages and nothing of where values come from.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from codechoir.translation.errors import Untranslatable

Value: TypeAlias = "bool | int | float | str | list[Value] | tuple[Value, ...] | dict[Value, Value] | None"


@dataclass(frozen=True, slots=True)
class Type:
    """One type. `items`: a list's element, a tuple's elements, a dict's key and value, a union's members.

    Kinds: int float bool str list tuple dict optional union any none; `many` is a tuple of any length (its element),
    and `unknown` is what nothing is known of, such as the element of a list that is always empty.
    """

    kind: str
    items: tuple[Type, ...] = ()


INT, FLOAT, BOOL, STR = Type("int"), Type("float"), Type("bool"), Type("str")
ANY, NONE, UNKNOWN = Type("any"), Type("none"), Type("unknown")
_ATOMS = {"int": INT, "float": FLOAT, "bool": BOOL, "str": STR, "None": NONE, "Any": ANY, "object": ANY}
_GENERIC = {"List": "list", "list": "list", "Tuple": "tuple", "tuple": "tuple", "Dict": "dict", "dict": "dict"}
_ARITY = {"list": 1, "dict": 2}


def list_of(item: Type) -> Type:
    """The type of a list of `item`."""
    return Type("list", (item,))


def dict_of(key: Type, value: Type) -> Type:
    """The type of a dict from `key` to `value`."""
    return Type("dict", (key, value))


def tuple_of(*items: Type) -> Type:
    """The type of a tuple of exactly these."""
    return Type("tuple", items)


def optional_of(item: Type) -> Type:
    """The type of `item` or None."""
    return Type("optional", (item,))


def union_of(*items: Type) -> Type:
    """The type of one of `items`."""
    return Type("union", items)


def type_of_annotation(node: ast.expr | None, aliases: Mapping[str, ast.expr] | None = None) -> Type:
    """What an annotation says; UNKNOWN where there is none. Bare `list`, `dict`, `tuple` have UNKNOWN items.

    `aliases` are the module's own names for types. Raises Untranslatable for a type outside the algebra.
    """
    names = aliases or {}
    match node:
        case None:
            return UNKNOWN
        case ast.Constant(value=None):
            return NONE
        case ast.Constant(value=str(text)):
            return type_of_annotation(ast.parse(text, mode="eval").body, names)
        case ast.Name(id=name) if name in names:
            return type_of_annotation(names[name], {key: value for key, value in names.items() if key != name})
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _ATOMS:
            return _ATOMS[name]
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _GENERIC:
            kind = _GENERIC[name]
            return Type("many", (UNKNOWN,)) if kind == "tuple" else Type(kind, (UNKNOWN,) * _ARITY[kind])
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            arguments = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return _generic(name, arguments, names)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return join([type_of_annotation(left, names), type_of_annotation(right, names)], exact=True)
        case _:
            raise Untranslatable(f"the type {ast.unparse(node)} is not one of those that are translated")


def _generic(name: str, arguments: list[ast.expr], names: Mapping[str, ast.expr]) -> Type:
    if name in ("Tuple", "tuple") and isinstance(arguments[-1], ast.Constant) and arguments[-1].value is ...:
        return Type("many", (type_of_annotation(arguments[0], names),))
    items = tuple(type_of_annotation(argument, names) for argument in arguments)
    if name == "Optional":
        return optional_of(items[0])
    if name == "Union":
        return join(items, exact=True)
    kind = _GENERIC.get(name)
    if kind is None or len(items) != _ARITY.get(kind, len(items)):
        raise Untranslatable(f"the type {name} is not one of those that are translated")
    return Type(kind, items)


def type_of_value(value: Value) -> Type:
    """What one value shows. Elements that differ make a list's or dict's element `any`; an empty one's is unknown."""
    match value:
        case None:
            return NONE
        case bool():
            return BOOL
        case int():
            return INT
        case float():
            return FLOAT
        case str():
            return STR
        case list():
            return list_of(_shared(value))
        case tuple():
            return tuple_of(*map(type_of_value, value))
        case dict():
            return dict_of(_shared(value), _shared(value.values()))


def _shared(values: Iterable[Value]) -> Type:
    return _inner(join(map(type_of_value, values)))


def _inner(joined: Type) -> Type:
    """As an element of something: a union there is more than any annotation would say."""
    return ANY if joined.kind == "union" else joined


def join(types: Iterable[Type], *, exact: bool = False) -> Type:
    """The type that holds all of `types`: UNKNOWN gives way, int widens to float, None makes an optional.

    What cannot be reconciled becomes a union in order of appearance. `exact` keeps int and float apart, as in an
    annotation that names both.
    """
    members: list[Type] = []
    nullable = False
    for each in types:
        for member in each.items if each.kind in ("union", "optional") else (each,):
            if member != NONE:
                _add(members, member, exact)
        nullable |= each == NONE or each.kind == "optional"
    if {INT, FLOAT} == set(members) and not exact:
        members = [FLOAT]
    if ANY in members:
        return ANY
    if not members:
        return NONE if nullable else UNKNOWN
    if nullable:
        return optional_of(members[0]) if len(members) == 1 else union_of(*members, NONE)
    return members[0] if len(members) == 1 else union_of(*members)


def _add(members: list[Type], new: Type, exact: bool) -> None:
    """Merges `new` into the member that it can be reconciled with, or appends it."""
    if new == UNKNOWN and members:
        return
    for place, old in enumerate(members):
        merged = new if old == UNKNOWN else old if old == new else None if exact else _merge(old, new)
        if merged is not None:
            members[place] = merged
            return
    members.append(new)


def _merge(old: Type, new: Type) -> Type | None:
    """One type for two of the same shape; tuples whose lengths differ become tuples of any length."""
    if {old.kind, new.kind} <= {"tuple", "many"}:
        if old.kind == new.kind == "tuple" and len(old.items) == len(new.items):
            return tuple_of(*(_inner(join(pair)) for pair in zip(old.items, new.items, strict=True)))
        return Type("many", (_inner(join([*old.items, *new.items])),))
    if old.kind == new.kind and old.kind in _ARITY:
        return Type(old.kind, tuple(_inner(join(pair)) for pair in zip(old.items, new.items, strict=True)))
    return None


def known(type: Type) -> Type:
    """`type` with what nothing is known of taken for int, as in a list that is always empty."""
    return INT if type == UNKNOWN else Type(type.kind, tuple(map(known, type.items)))
