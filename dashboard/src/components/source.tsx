import type { Source } from "../shapes";
import { fullPlace } from "../view/format";

/** A few lines of a file, the one that is meant marked. */
export function SourceLines({ source }: { source: Source }) {
  return (
    <pre class="source" tabIndex={0} role="group" aria-label={`Source of ${fullPlace(source)}`}>
      {source.lines.map((line, index) => (
        <Line key={index} number={source.first_lineno + index} text={line} source={source} />
      ))}
    </pre>
  );
}

function Line({ number, text, source }: { number: number; text: string; source: Source }) {
  const isGuilty = number === source.lineno;
  return (
    <span class={isGuilty ? "line guilty" : "line"}>
      <span class="number" aria-hidden="true">
        {number}
      </span>
      {isGuilty ? <mark>{text}</mark> : text}
      {"\n"}
    </span>
  );
}
