"""`codechoir translate`: Python problems into other languages, in MultiPL-E's format."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option("--problems", type=click.Path(path_type=Path), help="Python problems  [default: HumanEval, from PyPI]")
@click.option("--to", "languages", multiple=True, required=True, metavar="LANG", help="A language (repeatable).")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write the files to.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def translate(problems: Path | None, languages: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Translate Python problems, their examples and tests into the languages LANG.

    Problems are rows as HumanEval's (task_id, prompt, entry_point, test) or as MultiPL-E's for Python (name, prompt,
    tests), in JSON, JSON lines or Parquet. Writes OUT/humaneval-LANG.json (for a file of problems its own name in place
    of humaneval) in MultiPL-E's format, LANG being MultiPL-E's code, and says which problems cannot be expressed and
    why.
    """
    from codechoir.artifacts import cache_dir, write_atomically
    from codechoir.languages import language
    from codechoir.packages import fetch
    from codechoir.problems import HUMAN_EVAL, human_eval_rows, read_rows
    from codechoir.translation.output import multipl_e_json
    from codechoir.translation.table import target_of
    from codechoir.translation.translate import translate_all

    wanted = list(dict.fromkeys(language(target_of(name).language) for name in languages))
    rows = human_eval_rows(fetch(HUMAN_EVAL, cache_dir())) if problems is None else read_rows(problems)
    original = f"{HUMAN_EVAL.name} {HUMAN_EVAL.version}" if problems is None else problems.name
    benchmark = "humaneval" if problems is None else problems.stem
    translated = translate_all(rows, [each.id for each in wanted])
    report: dict[str, object] = {}
    for each in wanted:
        found = [problem for problem in translated.problems if problem.language == each.id]
        path = out / f"{benchmark}-{each.multipl_e}.json"
        write_atomically(path, multipl_e_json(found, each.multipl_e, original))
        reasons = translated.untranslatable[each.id]
        report[each.id] = {"file": str(path), "translated": len(found), "untranslatable": reasons}
        if not as_json:
            click.echo(f"{each.id}: {len(found)} of {len(rows)} translated: {path}")
            for name, reason in reasons.items():
                click.echo(f"  {name}: {reason}")
    if as_json:
        click.echo(json.dumps({"languages": report, "tests_left_out": translated.left_out}, indent=1))
    elif translated.left_out:
        click.echo("problems without some of their Python tests, in every language:")
        for name, why in translated.left_out.items():
            click.echo(f"  {name}: {'; '.join(why)}")
