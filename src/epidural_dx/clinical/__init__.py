"""From what was written down about a patient to evidence the network can take."""

from __future__ import annotations

from epidural_dx.clinical.aliases import Aliases, NameAlias, complete_variables, load_aliases
from epidural_dx.clinical.case import Case, Findings, Stage, read_case, read_cases
from epidural_dx.clinical.evidence import Entry, Evidence, canonical_name, read_evidence
from epidural_dx.clinical.settings import parse_setting, parse_settings
from epidural_dx.clinical.terminology import Code, load_terminology
from epidural_dx.clinical.thresholds import load_thresholds
from epidural_dx.clinical.units import Conversion, Units, load_units

__all__ = [
    "Aliases",
    "Case",
    "Code",
    "Conversion",
    "Entry",
    "Evidence",
    "Findings",
    "NameAlias",
    "Stage",
    "Units",
    "canonical_name",
    "complete_variables",
    "load_aliases",
    "load_terminology",
    "load_thresholds",
    "load_units",
    "parse_setting",
    "parse_settings",
    "read_case",
    "read_cases",
    "read_evidence",
]
