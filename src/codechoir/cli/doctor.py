"""`codechoir doctor`: what works on this machine, what is broken, what is missing."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from codechoir.sandbox.diagnosis import Finding


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Try the sandbox, every toolchain and the device."""
    from codechoir.sandbox.diagnosis import diagnose

    findings = diagnose()
    device = _device()
    if as_json:
        click.echo(json.dumps({"device": device, "parts": [asdict(finding) for finding in findings]}, indent=1))
        return
    for finding in findings:
        _show(finding)
    click.echo(f"{'device':<12} {'works':<8} {device}")


def _show(finding: Finding) -> None:
    click.echo(f"{finding.part:<12} {finding.state:<8} {finding.version}".rstrip())
    if finding.state != "works":
        click.echo(f"{'':<12} {finding.detail}")
        click.echo(f"{'':<12} to get it: {finding.install or 'make toolchains'}")
    for holds, title in ((True, "holds"), (False, "DOES NOT HOLD")):
        walls = [wall for wall, held in finding.walls.items() if held is holds]
        if walls:
            click.echo(f"{'':<12} {title}: {', '.join(walls)}")


def _device() -> str:
    from codechoir.model.device import describe_device

    return describe_device()
