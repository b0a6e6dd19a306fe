"""Which JSON outputs of a job can be part of its history (fault 55).

What it promises: outputs that pass are written and read back as the same value, and templates can use them; whatever a job
wrote, the check ends, and it neither raises nor recurses. Their size is judged where the event is made.
"""

import math
from collections.abc import Mapping
from typing import Any

from shared.template.bounds import VALUE_DEPTH_MAX


def unfit(outputs: Mapping[str, Any]) -> str:
    """Why outputs cannot be kept; empty when they can."""
    level: list[Any] = [outputs]
    for depth in range(VALUE_DEPTH_MAX + 1):
        below: list[Any] = []
        for value in level:
            match value:
                case Mapping() | list() | tuple() if depth == VALUE_DEPTH_MAX:
                    return f"its outputs are nested more than {VALUE_DEPTH_MAX} deep: write them flatter, or to a file"
                case Mapping():
                    below.extend(value.keys())
                    below.extend(value.values())
                case list() | tuple():
                    below.extend(value)
                case str() if not is_text(value):
                    # Valid JSON, as "\ud800", and no character: no UTF-8 has it, so no event could hold it.
                    return "a text in its outputs holds half of a surrogate pair"
                case float() if not math.isfinite(value):
                    return "a number in its outputs is too large to be kept"
        level = below
    return ""


def is_text(text: str) -> bool:
    """Whether the text can be written as UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
