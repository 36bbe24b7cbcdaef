"""What jsonargparse says about a value of another type, in plain words."""

import re

_TYPES = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "text", "NoneType": "null"}


def type_words(text: str, given: str | None) -> str | None:
    """ "must be a number or null, got 'fast'"; None where `text` says nothing of types.

    Args:
        text: the parser's message, on one line.
        given: the value as the user wrote it, None where it is unknown.
    """
    kinds: list[str] = [_TYPES.get(name) or name for name in re.findall(r"Expected a <class '(?:\w+\.)*(\w+)'>", text)]
    literals = re.findall(r"Expected a typing.Literal\[([^\]]*)\]", text)
    choices = list(dict.fromkeys(c.strip().strip("'") for group in literals for c in group.split(",")))
    kinds += [f"one of {', '.join(choices)}" if len(choices) > 1 else c for c in choices[:1]]
    if not kinds:
        return None
    if "a number" in kinds and "a whole number" in kinds:
        kinds.remove("a whole number")
    # An object or null: the parser's complaint about the object does not begin with "Expected".
    problem = re.search(r"Errors: - (?:Problem with given class_path '[^']*': )?(.*?)(?= - Expected)", text)
    subtypes = re.search(r"Subtypes: \[(.*?)\] Errors:", text)
    objects = re.findall(r"<class '(?:\w+\.)+(\w+)'>", subtypes[1]) if subtypes else []
    objects = [name for name in objects if name not in kinds]
    kinds = [*(f"a {name} (its class_path and init_args)" for name in objects), *kinds]
    words = f"must be {' or '.join(dict.fromkeys(kinds))}{'' if given is None else f', got {given}'}"
    return f"{words}: {problem[1]}" if objects and problem and " - " not in problem[1] else words
