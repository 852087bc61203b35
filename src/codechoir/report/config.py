"""The report stage's settings. Knows nothing of what a run holds."""

from __future__ import annotations

from pydantic import Field

from codechoir.config import Config


class ReportConfig(Config):
    """How the report is written."""

    title: str = Field(default="codechoir: the experts beside the dense model", description="the report's heading")
    prefix: int = Field(
        default=512,
        ge=1,
        description="prefix length in tokens whose confusion of the prompt router is drawn, where compose measured it",
    )
    curve_points: int = Field(
        default=48, ge=2, le=2000, description="points of a loss curve that are drawn; more are averaged in buckets"
    )
