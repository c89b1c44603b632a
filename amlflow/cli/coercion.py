"""Values of plain options without pydantic.

Typer 0.29 imports pydantic (0.14 s) to turn the text of any option into a value, even when the value wanted is that text.
Here text, lists of text and whole numbers are turned into values directly; every other type stays Typer's. Older versions,
which have no such step, are left alone.
"""

from __future__ import annotations

from typing import Any

import typer


def lighten(params: list[Any]) -> list[Any]:
    """The same parameters, those that need no other coercion with this file's."""
    for param in params:
        descriptor = getattr(param, "type_descriptor", None)
        if descriptor is None or not hasattr(param, "_runtime_param") or descriptor.is_choice:
            continue
        if descriptor.annotation in (str, list[str], int, bool):
            param._runtime_param = _Plain(descriptor)
    return params


class _Plain:
    def __init__(self, descriptor: Any) -> None:
        self.annotation, self.info = descriptor.annotation, descriptor.parameter_info

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        if several:
            return [str(item) for item in ([value] if isinstance(value, str) else value)]
        if self.annotation is bool:
            return self._flag(value, param, ctx)
        return self._whole(value, param, ctx) if self.annotation is int else str(value)

    def _flag(self, value: Any, param: Any, ctx: Any) -> bool:
        if not isinstance(value, bool):
            raise typer.BadParameter(f"{value!r} is neither true nor false.", ctx=ctx, param=param)
        return value

    def _whole(self, value: Any, param: Any, ctx: Any) -> int:
        try:
            number = int(value)
        except (TypeError, ValueError):
            raise typer.BadParameter(f"{value!r} is not a whole number.", ctx=ctx, param=param) from None
        low, high = self.info.min, self.info.max
        if (low is not None and number < low) or (high is not None and number > high):
            limits = (
                f"from {low} to {high}"
                if None not in (low, high)
                else f"{low} or more"
                if high is None
                else f"{high} or less"
            )
            raise typer.BadParameter(f"{number} is out of range: it is {limits}.", ctx=ctx, param=param)
        return number
