"""Collect what the site of the documentation is made of: README.md, docs/, what they link to, and a page for each rule.

    python scripts/docs_site.py FOLDER

Files keep their places, so that links work as they do in the repository. The navigation is docs/README.md, followed by
what that leaves out, and becomes FOLDER/mkdocs.yml.
"""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: What the pages link to, beside docs/.
BESIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "examples")
LITTER = shutil.ignore_patterns("__pycache__", "instance", "*.db", "*.db-*")
RULE = re.compile(r"^## (SW\d{3}) (.+)$", re.MULTILINE)
ENTRY = re.compile(r"^- \[(.+?)\]\((.+?)\)|^## (.+)$", re.MULTILINE)


def collect(folder: Path) -> None:
    """Write the pages to *folder*/docs, which is emptied first, and the settings of the site to *folder*."""
    pages = folder / "docs"
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(ROOT / "docs", pages / "docs")
    for name in BESIDE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, pages / name, ignore=LITTER)
        else:
            shutil.copy(source, pages / name)
    rules = _split_rules(pages)
    inherited = (ROOT / "mkdocs.yml").as_posix()
    navigation = "\n".join(_navigation(pages, rules))
    (folder / "mkdocs.yml").write_text(f"INHERIT: {inherited}\nnav:\n{navigation}\n", encoding="utf-8")


def _split_rules(pages: Path) -> list[str]:
    """Give each rule a page of its own, leave the index, and return the rules' entries in the navigation."""
    index = pages / "docs" / "rules.md"
    head, *parts = RULE.split(index.read_text(encoding="utf-8"))
    index.write_text(re.sub(r"\(#(sw\d{3}-[\w-]+)\)", r"(rules/\1.md)", head), encoding="utf-8")
    (pages / "docs" / "rules").mkdir()
    entries = []
    for code, name, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        file = f"docs/rules/{code.lower()}-{name}.md"
        text = re.sub(r"^###", "##", body, flags=re.MULTILINE)
        (pages / file).write_text(f"# {code} {name}\n\n{text.lstrip()}", encoding="utf-8")
        entries.append(f'          - "{code} {name}": {file}')
    for page in pages.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"rules\.md#(sw\d{3}-[\w-]+)", r"rules/\1.md", text), encoding="utf-8")
    return entries


def _navigation(pages: Path, rules: list[str]) -> list[str]:
    """Return the table of contents in YAML: sections, their pages, and the pages of the rules below the index of rules."""
    lines = ["  - Overview: README.md", "  - Contents: docs/README.md"]
    contents = (pages / "docs" / "README.md").read_text(encoding="utf-8")
    for title, target, section in ENTRY.findall(contents):
        file = f"docs/{target}" if not target.startswith("../") else target.removeprefix("../")
        if section:
            lines.append(f"  - {section}:")
        elif file == "docs/rules.md":
            lines += [f"      - {title}:", f"          - {file}", *rules]
        else:
            lines.append(f"      - {title}: {file}")
    listed = "\n".join(lines)
    left = [page for page in sorted(pages.glob("docs/*.md")) if f"docs/{page.name}" not in listed]
    lines.append("  - Further:")
    lines += [
        f"      - {page.relative_to(pages).as_posix()}"
        for page in (*left, *sorted(pages.glob("examples/*/README.md")))
    ]
    return lines


if __name__ == "__main__":
    collect(Path(sys.argv[1]))
