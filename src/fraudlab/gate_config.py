"""The section [gate] of a run's config: what a challenger must show, and how long it stands beside the champion."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from fraudlab.decision_config import Frozen


class GateConfig(Frozen):
    """What a challenger must show to be registered and to replace the champion."""

    min_auc_roc: float = Field(0.6, ge=0, le=1)
    non_inferiority: float = Field(
        0.05,
        ge=0,
        le=1,
        description="card precision it may lose against the champion: the paired 95 % interval must lie above minus it",
    )
    max_calibration_error: float = Field(
        1.0,
        gt=0,
        description="frauds that stated risks may misplace per fraud, at the low end of the 95 % interval; FL009 warns "
        "earlier",
    )
    max_group_ratio: float = Field(
        2.0,
        gt=1,
        description="times as often as all others that genuine customers of a group may be bothered, at the low end of "
        "the 95 % interval; FL011 warns earlier",
    )
    min_known_labels: float = Field(
        0.9, ge=0, le=1, description="share of the payments judged on whose label must be known, or the label is young"
    )
    max_age_days: int | None = Field(
        None, ge=1, description="days between the end of what was learnt and what is known; older is not promoted"
    )
    shadow_days: int = Field(
        0, ge=0, le=366, description="whole days that a challenger scores beside the champion before it may replace it"
    )
    shadow_replace: bool = Field(
        True, description="a newer challenger takes the place of one in shadow; false: it waits until that one's end"
    )
    max_flipped_share: float | None = Field(
        None, ge=0, le=1, description="share of the cases alerted in the shadow that only one of the two may alert"
    )
    waive: tuple[str, ...] = Field((), description="checks that may fail and do not block promotion: FL013")
    waived_because: str = Field("", description="who looked into them and why they may fail; shown with each of them")

    @field_validator("waive")
    @classmethod
    def _waived_are_codes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for code in value:
            if not re.fullmatch(r"FL\d{3}", code):
                raise ValueError(f"gate.waive lists numbers of checks such as FL013; found '{code}'")
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _waived_for_a_reason(self) -> GateConfig:
        if self.waive and not self.waived_because.strip():
            raise ValueError("gate.waive needs gate.waived_because: who looked into it, and why the check may fail")
        if self.waived_because and not self.waive:
            raise ValueError("gate.waived_because belongs to gate.waive; list the checks there or take it out")
        return self
