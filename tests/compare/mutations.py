"""What is done to a valid object, one thing at a time."""

import copy

LONG = "x" * 300

STRINGS = ["", "Not Valid!", "-a", "a/b/c", "UPPER", "1.2.3.4", "0", LONG]
NUMBERS = [-1, 0, 1, 101, 70000, 2**31]
WRONG = {str: 7, int: "seven", bool: "yes", list: {"a": "b"}, dict: ["a"], float: "one"}


def places(value, path=()):
    """Every place below a value, the places of a list's second and later elements left out: they
    follow the same rules as the first."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield path + (key,)
            yield from places(inner, path + (key,))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield path + (at,)
            # Elements of a list often are of different forms (volumes, say); plain ones are not.
            if at == 0 or isinstance(inner, dict):
                yield from places(inner, path + (at,))


def at(value, path):
    for step in path:
        value = value[step]
    return value


def replaced(obj, path, value):
    obj = copy.deepcopy(obj)
    at(obj, path[:-1])[path[-1]] = value
    return obj


def removed(obj, path):
    obj = copy.deepcopy(obj)
    del at(obj, path[:-1])[path[-1]]
    return obj


def versioned(obj, version):
    """A copy that says which version of the object it replaces."""
    if not isinstance(obj.get("metadata"), dict):
        return obj
    return replaced(obj, ("metadata", "resourceVersion"), version)


def name(path):
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def of(obj):
    """Pairs of a description and a changed copy."""
    for path in places(obj):
        if path in {("apiVersion",), ("kind",), ("metadata",)}:
            continue
        where, value = name(path), at(obj, path)
        yield f"{where} removed", removed(obj, path)
        yield f"{where} = null", replaced(obj, path, None)
        for new in others(value):
            shown = "a long text" if new == LONG else repr(new)
            yield f"{where} = {shown}", replaced(obj, path, new)
        if isinstance(value, list) and value:
            yield f"{where}: first element twice", replaced(obj, path, [value[0], *value])
        if isinstance(value, dict):
            for key in ("unknownField", "Not Valid!"):
                yield f"{where} with {key!r}", replaced(obj, path + (key,), "x")


def others(value):
    kind = type(value)
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, str):
        yield from (s for s in STRINGS if s != value)
    elif isinstance(value, int):
        yield from (n for n in NUMBERS if n != value)
    elif isinstance(value, list):
        yield []
    elif isinstance(value, dict):
        yield {}
    yield WRONG.get(kind, 7)
