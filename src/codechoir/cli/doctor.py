"""`codechoir doctor`: what works on this machine, what is broken, what is missing."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


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
        click.echo(f"{finding.part:<12} {finding.state:<8} {finding.version}")
        if finding.state != "works":
            click.echo(f"{'':<12} {finding.detail}; apt-get install {' '.join(finding.packages)}")
    click.echo(f"{'device':<12} {'works':<8} {device}")


def _device() -> str:
    from codechoir.model.device import describe_device

    return describe_device()
