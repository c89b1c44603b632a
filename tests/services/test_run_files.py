"""What a page shows of a run's files, from the bytes of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amlflow.services.run_files import environment, fields, matrix, media_type


@pytest.mark.parametrize(
    ("name", "text", "labels", "counts"),
    [
        (
            "confusion.json",
            '{"data": {"class_labels": ["a", "b"], "matrix": [[1, 2], [3, 4]]}}',
            ["a", "b"],
            [[1, 2], [3, 4]],
        ),
        ("confusion.json", '{"labels": [0, 1], "matrix": [[1, 0], [0, 1]]}', ["0", "1"], [[1, 0], [0, 1]]),
        ("confusion.json", "[[5, 1], [2, 6]]", ["0", "1"], [[5, 1], [2, 6]]),
        ("confusion.csv", ",cat,dog\ncat,5,1\ndog,2,6\n", ["cat", "dog"], [[5, 1], [2, 6]]),
        ("confusion.csv", "5,1\n2,6\n", ["0", "1"], [[5, 1], [2, 6]]),
    ],
)
def test_confusion_matrices_are_read(name: str, text: str, labels: list[str], counts: list[list[float]]) -> None:
    found = matrix(name, text.encode())
    assert found is not None
    assert (found.labels, found.counts) == (labels, counts)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("confusion.json", "[[1, 2], [3]]"),
        ("confusion.json", '[["a", "b"], ["c", "d"]]'),
        ("confusion.json", "{"),
        ("confusion.json", "[" * 100_000),
        ("confusion.json", "[[1]]"),
        ("confusion.json", '{"data": {"matrix": null}}'),
        ("confusion.json", "[[NaN, 1], [1, 1]]"),
        ("confusion.csv", "a,b\n"),
        ("confusion.csv", ""),
        ("confusion.csv", "\x00\xff"),
    ],
)
def test_what_is_no_matrix_is_none(name: str, text: str) -> None:
    assert matrix(name, text.encode()) is None


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\nrest", "image/png"),
        (b"\xff\xd8\xff\xe0rest", "image/jpeg"),
        (b"GIF89arest", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPrest", "image/webp"),
        (b"  <?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"<html><svg></svg></html>", ""),
        (b"<script>alert(1)</script>", ""),
        (b"", ""),
    ],
)
def test_an_image_is_known_by_its_bytes(content: bytes, kind: str) -> None:
    assert media_type(content) == kind


def test_a_signature_is_shown_a_field_a_line() -> None:
    columns = [{"type": "double", "name": "ash", "required": True}, {"type": "long", "name": "hue", "required": False}]
    assert fields(json.dumps(columns)) == "ash: double\nhue: long (optional)"
    tensor = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}]
    assert fields(json.dumps(tensor)) == "float32 [-1, 4]"
    assert fields('[{"name": "beam", "type": "long", "default": 3, "shape": null}]') == "beam: long = 3"
    assert fields(None) == ""
    assert fields("{broken") == "{broken"


def test_an_environment_is_its_python_and_its_packages(tmp_path: Path) -> None:
    (tmp_path / "python_env.yaml").write_text("python: '3.11.4'\nbuild_dependencies:\n- pip==24\n")
    lines = [
        "# made by hand",
        "Scikit_Learn==1.5.0",
        "numpy>=1.26",
        "xgboost[gpu]==2.1.0  # fast",
        "-r other.txt",
        "",
        "./wheel.whl",
    ]
    (tmp_path / "requirements.txt").write_text("\n".join(lines))
    assert environment(tmp_path) == {
        "python": "3.11.4",
        "scikit-learn": "1.5.0",
        "numpy": "numpy>=1.26",
        "xgboost": "2.1.0",
        "./wheel.whl": "./wheel.whl",
    }
    assert environment(tmp_path / "none") == {}
