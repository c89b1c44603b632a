"""Two answers to the same request, held against each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two answers part (`[3].label`; empty for the whole) and what each has there."""

    place: str
    one: Any
    other: Any


def predictions(answer: Any) -> Any:
    """What a parsed answer predicts: MLflow's servers wrap it in an object, Azure's do not."""
    return answer["predictions"] if isinstance(answer, dict) and "predictions" in answer else answer


def first_difference(one: Any, other: Any, tolerance: float = TOLERANCE, place: str = "") -> Difference | None:
    """None where they are equal. Numbers are, when they differ by no more than `tolerance`, absolute or as a share of the larger;
    NaN equals NaN, and null, as which some servers write it."""
    if _missing(one) and _missing(other):
        return None
    if _number(one) and _number(other):
        near = math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
        return None if near else Difference(place, one, other)
    if isinstance(one, list) and isinstance(other, list):
        for index, pair in enumerate(zip(one, other, strict=False)):
            if found := first_difference(*pair, tolerance, f"{place}[{index}]"):
                return found
        if len(one) != len(other):
            return Difference(f"the length of {place or 'the predictions'}", len(one), len(other))
        return None
    if isinstance(one, dict) and isinstance(other, dict):
        if set(one) != set(other):
            return Difference(f"the names in {place or 'the predictions'}", sorted(one), sorted(other))
        differences = (first_difference(one[key], other[key], tolerance, f"{place}.{key}") for key in one)
        return next((found for found in differences if found), None)
    return None if type(one) is type(other) and one == other else Difference(place, one, other)


def distance(one: Any, other: Any) -> float:
    """The largest difference between two numbers that stand in the same place."""
    if _number(one) and _number(other):
        return float(abs(one - other))
    if isinstance(one, list) and isinstance(other, list):
        return max((distance(*pair) for pair in zip(one, other, strict=False)), default=0.0)
    if isinstance(one, dict) and isinstance(other, dict):
        return max((distance(one[key], other[key]) for key in set(one) & set(other)), default=0.0)
    return 0.0


def size(answer: Any) -> int:
    """How many values an answer has."""
    if isinstance(answer, list):
        return sum(size(item) for item in answer)
    if isinstance(answer, dict):
        return sum(size(item) for item in answer.values())
    return 1


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
