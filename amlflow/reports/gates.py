"""What the gates found: as rows, in a pull request, and as JUnit's XML for the test page of a CI service."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from amlflow.reports.grid import code, escaped

Outcome = Literal["passed", "failed", "error"]

MARKS: Mapping[Outcome, str] = {"passed": "✓", "failed": "✗", "error": "✗"}
# What XML 1.0 has no character for, references included.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one gate says of one run, or of one group of runs, which has no id. `failed`: the expression is true; `error`: it
    could not be decided, and `reason` says why. `values` are what the expression's names stood for, to be written `exactly` where
    rounded ones would make it say another thing."""

    gate: str
    subject: str
    subject_id: str
    outcome: Outcome
    values: Mapping[str, float | str] = field(default_factory=dict)
    reason: str = ""
    exactly: bool = False

    def mark(self) -> str:
        return f"{MARKS[self.outcome]} {self.outcome}"

    def sentence(self) -> str:
        """Without the subject's name: `rmse > 1 is true (rmse = 1.5)`."""
        shown = f" ({self.written()})" if self.values else ""
        if self.outcome == "error":
            return f"{self.gate} cannot be decided: {self.reason}{shown}"
        return f"{self.gate} is {'true' if self.outcome == 'failed' else 'false'}{shown}"

    def written(self) -> str:
        """The values: `rmse = 1.5, baseline.rmse = 1`."""
        return ", ".join(f"{name} = {written(value, self.exactly)}" for name, value in self.values.items())


def written(value: float | str, exactly: bool = False) -> str:
    """Six digits of a number, or as many as tell it from every other."""
    if isinstance(value, str):
        return repr(value)
    return repr(float(value)) if exactly else f"{value:.6g}"


def document(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The records for JSON and YAML."""
    return [
        {
            "gate": finding.gate,
            "run": finding.subject,
            "run_id": finding.subject_id,
            "outcome": finding.outcome,
            "values": dict(finding.values),
            "reason": finding.reason,
        }
        for finding in findings
    ]


def rows(findings: Sequence[Finding], labels: Mapping[str, str]) -> list[list[str]]:
    """Failures first: the mark, the run and the sentence of each. `labels` are by the ids of runs."""
    return [[f.mark(), labels.get(f.subject_id, f.subject), f.sentence()] for f in failures_first(findings)]


def markdown(findings: Sequence[Finding], labels: Mapping[str, str]) -> str:
    """A heading that says how it went, and a table of the checks, failures first; `labels` are by the ids of runs."""
    body = [
        f"| {' | '.join([MARKS[f.outcome], escaped(labels.get(f.subject_id, f.subject)), code(f.gate), _values(f)])} |"
        for f in failures_first(findings)
    ]
    whose = "run" if all(finding.subject_id for finding in findings) else "group"
    head = [f"### {summary(findings)}", "", f"|   | {whose} | fails if | values |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *body]) + "\n"


def summary(findings: Sequence[Finding]) -> str:
    """How many of the checks did not pass, in words."""
    bad = sum(finding.outcome != "passed" for finding in findings)
    return f"{bad} of {len(findings)} gate checks failed" if bad else f"All {len(findings)} gate checks passed"


def junit(findings: Sequence[Finding], timestamp: str, seconds: float) -> bytes:
    """One test case for each run and gate, in the format that Jenkins' JUnit plugin reads and Azure Pipelines and GitHub's test
    reporters take. `timestamp` is ISO 8601."""
    import xml.etree.ElementTree as ET

    counts = {
        "tests": str(len(findings)),
        "failures": str(sum(finding.outcome == "failed" for finding in findings)),
        "errors": str(sum(finding.outcome == "error" for finding in findings)),
        "time": f"{seconds:.3f}",
    }
    root = ET.Element("testsuites", {"name": "amlflow", **counts})
    suite = ET.SubElement(
        root, "testsuite", {"name": "amlflow compare", "timestamp": timestamp, "skipped": "0", **counts}
    )
    subjects = {(finding.subject, finding.subject_id) for finding in findings}
    names = Counter(name for name, _ in subjects)
    for finding in findings:
        # Readers take two cases of one name for one.
        several = names[finding.subject] > 1
        whose = f"{finding.subject} ({finding.subject_id})" if several else finding.subject
        case = ET.SubElement(
            suite,
            "testcase",
            {"classname": _clean(whose), "name": _clean(f"not {finding.gate}"), "time": "0"},
        )
        if finding.outcome != "passed":
            kind = "failure" if finding.outcome == "failed" else "error"
            which = f"{finding.subject} ({finding.subject_id})" if finding.subject_id else finding.subject
            said = _clean(f"{which}: {finding.sentence()}")
            ET.SubElement(case, kind, {"type": kind, "message": said}).text = said
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def failures_first(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: finding.outcome == "passed")


def _values(finding: Finding) -> str:
    return code(finding.written()) + (f" {escaped(finding.reason)}" if finding.reason else "")


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
