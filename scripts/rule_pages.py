"""Write docs/rules.md from the rules' docstrings, which are their manual pages.

python scripts/rule_pages.py
"""

import textwrap
from pathlib import Path

from flask_sessionwatch import DEFAULT_RULES
from flask_sessionwatch import Rule

PAGE = Path(__file__).resolve().parents[1] / "docs" / "rules.md"
HEAD = """# Rules

These rules are on unless told otherwise. A rule judges what was recorded, at the end of a scope or at a tick of the
watchdog; what it finds is a finding. This page is made from the rules' docstrings by `python scripts/rule_pages.py`.

Codes and names are stable: ignore lists, metrics and alert rules may rely on them. A rule may tell at another level
than its usual one; its page says when.

| code | name | level | in one line |
|---|---|---|---|
"""


def render() -> str:
    """Return the whole page."""
    rows = [
        f"| [{rule.code}](#{_anchor(rule)}) | {rule.name} | {rule.level} | {summary(rule)} |"
        for rule in DEFAULT_RULES
    ]
    return HEAD + "\n".join(rows) + "\n" + "".join(map(_section, DEFAULT_RULES))


def summary(rule: Rule) -> str:
    """Return the first sentence of a rule's page."""
    return rule.page.partition("\n\n")[0].replace("\n", " ")


def _anchor(rule: Rule) -> str:
    return f"{rule.code.lower()}-{rule.name}"


def _section(rule: Rule) -> str:
    _, *blocks = rule.page.split("\n\n")
    text = [f"\n## {rule.code} {rule.name}\n\n{summary(rule)} Usual level: {rule.level}.\n"]
    body = "\n\n".join(blocks)
    for part in _parts(body):
        title, _, content = part.partition("\n")
        text.append(f"\n### {title}\n\n{_markdown(textwrap.dedent(content))}\n")
    text.append(f"\nHint in the log: {rule.hint}\n")
    return "".join(text)


def _parts(body: str) -> list[str]:
    """Split a page where a line begins without an indent."""
    parts: list[str] = []
    for line in body.splitlines():
        if line and not line.startswith(" "):
            parts.append(line)
        else:
            parts[-1] += f"\n{line}"
    return parts


def _markdown(content: str) -> str:
    """Turn the little reStructuredText of a docstring into Markdown."""
    paragraphs = [each for each in content.strip("\n").split("\n\n") if each != "::"]
    return "\n\n".join(
        _code(each) if each.startswith("    ") else each.replace("``", "`") for each in _joined(paragraphs)
    )


def _joined(paragraphs: list[str]) -> list[str]:
    """Put the paragraphs of one piece of code together again."""
    joined: list[str] = []
    for paragraph in paragraphs:
        if joined and paragraph.startswith("    ") and joined[-1].startswith("    "):
            joined[-1] += f"\n\n{paragraph}"
        else:
            joined.append(paragraph)
    return joined


def _code(block: str) -> str:
    return f"```python\n{textwrap.dedent(block)}\n```"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
