"""The settings of decisions: what investigators can do, what things cost, who may act without a person."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fraudlab.schema import BY_NAME


class Frozen(BaseModel):
    """A table of settings: fixed once read, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StepUpConfig(Frozen):
    """What asking a customer for a second factor costs and brings."""

    cost: float = Field(0.5, ge=0, description="of one request, whoever gets it: message, support, sales given up")
    friction: float = Field(0.0, ge=0, description="further cost where the customer is genuine")
    stops: float | None = Field(
        None, ge=0, le=1, description="share of the fraud amount it stops; default: three quarters of recovery_rate"
    )


class LimitConfig(Frozen):
    """What letting a payment through only up to a lower limit costs and brings."""

    cost: float = Field(2.0, ge=0, description="of one limit, whoever gets it")
    friction: float = Field(0.0, ge=0, description="further cost where the customer is genuine")
    stops: float | None = Field(
        None, ge=0, le=1, description="share of the fraud amount above the limit; default: 7/8 of recovery_rate"
    )


class DeclineConfig(Frozen):
    """What refusing a payment costs and brings."""

    cost: float = Field(0.0, ge=0, description="of one refusal, whoever gets it")
    friction: float = Field(25.0, ge=0, description="further cost where the customer is genuine, such as a lost sale")
    stops: float = Field(1.0, ge=0, le=1, description="share of the fraud amount that is saved")


class PolicyConfig(Frozen):
    """The action of least expected cost for each payment; a review costs and brings what [decision] says."""

    automatic: tuple[Literal["limit", "limit_and_review", "decline"], ...] = Field(
        (),
        description="adverse actions carried out without a person; others become a review that proposes them",
    )
    loss_given_fraud: float = Field(1.0, ge=0, le=1, description="share of a fraud's amount that is lost if it passes")
    medium: Literal["approve", "step_up_authentication", "limit", "manual_review"] = Field(
        "approve", description="what a payment of a customer rated medium gets at least"
    )
    high: Literal["approve", "step_up_authentication", "limit", "manual_review"] = Field(
        "step_up_authentication", description="what a payment of a customer rated high gets at least"
    )
    step_up: StepUpConfig = StepUpConfig()
    limit: LimitConfig = LimitConfig()
    decline: DeclineConfig = DeclineConfig()


class RatingConfig(Frozen):
    """A customer's rating over time: frauds expected on the customer, confirmed or stated by the model, fading away."""

    half_life_days: float = Field(14.0, gt=0, description="evidence this much older counts half")
    counts_from: float = Field(
        0.05, ge=0, le=1, description="stated risks below are not counted, or whoever buys often would rate high"
    )
    medium_from: float = Field(0.2, gt=0, description="expected frauds from which a customer is rated medium")
    high_from: float = Field(0.6, gt=0, description="expected frauds from which a customer is rated high")
    keep: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of that number below which a rating is left again, against flicker",
    )

    @model_validator(mode="after")
    def _in_order(self) -> RatingConfig:
        if self.high_from < self.medium_from:
            raise ValueError("decision.rating.high_from must not lie below medium_from; raise it")
        return self


class DecisionConfig(Frozen):
    """The investigators' capacity and what things cost, in major units of the data's currency."""

    rule: Literal["budget", "cost", "false_positive_rate"] = Field(
        "budget", description="what sets the review threshold: cases a day, least cost, or a share of genuine payments"
    )
    way: Literal["tiers", "costs", "rules"] = Field(
        "tiers", description="what the deployed model acts by: tiers of the score, expected costs, or these with rules"
    )
    max_false_positive_rate: float = Field(0.01, gt=0, lt=1, description="of the rule false_positive_rate")
    alerts_per_day: int = Field(20, ge=1, description="cases the investigators can review a day")
    explore_per_day: int = Field(
        0, ge=0, description="cases a day drawn by chance from those not listed, to measure what the model misses"
    )
    limit_per_day: int = Field(
        0, ge=0, description="cases a day, among the alerts, limited until an investigator decides"
    )
    step_up_per_day: int = Field(60, ge=0, description="further customers a day asked for a second factor")
    review_cost: float = Field(15.0, ge=0, description="cost of one manual review")
    recovery_rate: float = Field(0.8, ge=0, le=1, description="share of a caught fraud's amount that is saved")
    false_alarm_cost: float = Field(
        0.0, ge=0, description="cost of bothering a genuine customer with a review, beside the review itself"
    )
    groups: tuple[str, ...] = Field(
        ("age_band",), description="columns by which false alarms and frauds found are compared between customers"
    )
    policy: PolicyConfig = PolicyConfig()
    rating: RatingConfig = RatingConfig()

    @property
    def stopped(self) -> tuple[float, float]:
        """Share of a fraud's amount that a second factor, and a limit, stops: stated, else from what reviews save."""
        step_up, limit = self.policy.step_up.stops, self.policy.limit.stops
        return (
            0.75 * self.recovery_rate if step_up is None else step_up,
            0.875 * self.recovery_rate if limit is None else limit,
        )

    @field_validator("groups")
    @classmethod
    def _groups_are_no_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            column = BY_NAME.get(name)
            if column is not None and column.kind == "id" and name != "merchant_id":
                raise ValueError(f"'{name}' points at a person or a single payment; name a column of few, large groups")
            if name in ("is_fraud", "label_time", "event_time"):
                raise ValueError(f"'{name}' makes no groups of customers; name a column such as age_band")
        return value

    @model_validator(mode="after")
    def _severer_does_more(self) -> DecisionConfig:
        """Refuse costs under which a higher risk could lead to a milder action."""
        step_up, limit, decline = self.policy.step_up, self.policy.limit, self.policy.decline
        for name, along in (
            ("stops", (*self.stopped, self.recovery_rate, decline.stops)),
            ("friction", (step_up.friction, limit.friction, self.false_alarm_cost, decline.friction)),
        ):
            if sorted(along) != list(along):
                review = "recovery_rate" if name == "stops" else "false_alarm_cost"
                raise ValueError(
                    f"from decision.policy.step_up.{name} over limit.{name} and decision.{review} to decline.{name} "
                    f"values must not fall, or a higher risk could get a milder action; found "
                    f"{', '.join(f'{value:g}' for value in along)}; correct the one that falls"
                )
        return self
