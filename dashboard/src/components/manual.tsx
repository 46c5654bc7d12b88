import { inlineParts, parseManual, type Section } from "../view/manual";

/** A rule's manual page, made of elements and not of markup. */
export function Manual({ page }: { page: string }) {
  const { summary, sections } = parseManual(page);
  return (
    <div class="manual">
      <p>
        <Inline text={summary} />
      </p>
      {sections.map((section) => (
        <ManualSection key={section.title} section={section} />
      ))}
    </div>
  );
}

function ManualSection({ section: { title, blocks } }: { section: Section }) {
  return (
    <>
      <h3>{title}</h3>
      {blocks.map(({ kind, text }, index) =>
        kind === "code" ? (
          <pre key={index} tabIndex={0}>
            {text}
          </pre>
        ) : (
          <p key={index}>
            <Inline text={text} />
          </p>
        ),
      )}
    </>
  );
}

export function Inline({ text }: { text: string }) {
  return <>{inlineParts(text).map((part, index) => (index % 2 === 1 ? <code key={index}>{part}</code> : part))}</>;
}
