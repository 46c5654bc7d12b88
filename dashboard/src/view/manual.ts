/** A rule's manual page: a summary, then titled sections of paragraphs and code, as reStructuredText has them. */

export interface Block {
  kind: "text" | "code";
  text: string;
}

export interface Section {
  title: string;
  blocks: Block[];
}

export interface Manual {
  summary: string;
  sections: Section[];
}

export function parseManual(page: string): Manual {
  const [summary = "", ...rest] = page.split("\n\n");
  return { summary: unwrapped(summary), sections: sectionsOf(rest.join("\n\n")) };
}

/** A line without an indent begins a section; what is indented below it is the section. */
function sectionsOf(body: string): Section[] {
  const sections: { title: string; lines: string[] }[] = [];
  for (const line of body.split("\n")) {
    if (/^\S/.test(line)) sections.push({ title: line, lines: [] });
    else sections.at(-1)?.lines.push(line.slice(4));
  }
  return sections.map(({ title, lines }) => ({ title, blocks: blocksOf(lines.join("\n")) }));
}

function blocksOf(content: string): Block[] {
  const blocks: Block[] = [];
  for (const paragraph of content.split(/\n\n+/).filter((each) => each.trim() !== "" && each.trim() !== "::")) {
    const last = blocks.at(-1);
    if (!paragraph.replace(/^\n+/, "").startsWith("    ")) blocks.push({ kind: "text", text: unwrapped(paragraph) });
    else if (last?.kind === "code") last.text += `\n\n${outdented(paragraph)}`;
    else blocks.push({ kind: "code", text: outdented(paragraph) });
  }
  return blocks;
}

const unwrapped = (paragraph: string): string => paragraph.trim().replace(/\s*\n\s*/g, " ");
const outdented = (code: string): string => code.replace(/^ {4}/gm, "").replace(/^\n+|\s+$/g, "");

/** Every second part is code: "a ``b`` c" is "a ", "b", " c". */
export const inlineParts = (text: string): string[] => text.split(/``(.+?)``/);
