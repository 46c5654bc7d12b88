/** A finding as the text of an issue, in Markdown. */

import type { Frame, OneFinding, Source } from "../shapes";
import { explainCommand } from "./findings";
import { counted, fullSite, utc } from "./format";
import { sourceOf } from "./stack";
import { eventWhen } from "./timeline";

export function issueText(finding: OneFinding): string {
  const { code, rule, message, site, verb, hint, ignore, stack } = finding;
  const source = site === null ? undefined : sourceOf(site, finding.sources);
  return paragraphs([
    `## ${code} ${rule}`,
    escaped(message),
    site === null ? "" : `${escaped(verb)} at ${codeSpan(fullSite(site))}`,
    source === undefined ? "" : fenced(numbered(source), "python"),
    `**What to do:** ${escaped(hint.replaceAll("``", "`"))}`,
    seen(finding),
    timeline(finding),
    stack.length === 0 ? "" : `**Stack**, innermost call first:\n\n${fenced(stack.map(frameLine).join("\n"))}`,
    `Explained by ${codeSpan(explainCommand(finding))}. To ignore it: ${codeSpan(ignore)}.`,
  ]);
}

const paragraphs = (parts: readonly string[]): string => `${parts.filter((part) => part !== "").join("\n\n")}\n`;

function seen({ count, first_seen, last_seen, scope, worker_count }: OneFinding): string {
  const where = scope === null ? "outside of any scope" : `in ${codeSpan(scope)}`;
  return `Seen ${counted(count, "time")} ${where}, by ${counted(worker_count, "worker")}, from ${utc(first_seen)} to ${utc(last_seen)}.`;
}

function timeline({ timeline: events }: OneFinding): string {
  if (events.length === 0) return "";
  const lines = events.map((event) =>
    [`- ${eventWhen(event)} **${escaped(event.event)}**`, escaped(event.text ?? ""), event.site === null ? "" : codeSpan(fullSite(event.site))]
      .filter((part) => part !== "")
      .join(" "),
  );
  return `**Timeline**\n\n${lines.join("\n")}`;
}

function numbered({ lines, first_lineno, lineno }: Source): string {
  const width = String(first_lineno + lines.length).length;
  return lines
    .map((line, index) => {
      const number = first_lineno + index;
      return `${number === lineno ? ">" : " "} ${String(number).padStart(width)}  ${line}`;
    })
    .join("\n");
}

const frameLine = (frame: Frame): string => `${frame.application ? ">" : " "} ${fullSite(frame)}`;

/** What the application is called must not become a link, a heading or a mention of somebody. */
const escaped = (text: string): string => text.replace(/[\\`*_{}[\]<>#|~@!]/g, "\\$&").replace(/\s*\n\s*/g, " ");

/** A fence longer than any that the text has. */
const fenceFor = (text: string, shortest: number): string =>
  "`".repeat(Math.max(shortest, ...[...text.matchAll(/`+/g)].map(([run]) => run.length + 1)));

function codeSpan(text: string): string {
  const fence = fenceFor(text, 1);
  const pad = text.startsWith("`") || text.endsWith("`") ? " " : "";
  return `${fence}${pad}${text.replace(/\s*\n\s*/g, " ")}${pad}${fence}`;
}

function fenced(text: string, language = ""): string {
  const fence = fenceFor(text, 3);
  return `${fence}${language}\n${text}\n${fence}`;
}
