import type { Frame, Source } from "../shapes";
import { counted } from "../view/format";
import { type FrameGroup, groupFrames, sourceOf } from "../view/stack";
import { SiteText } from "./labels";
import { SourceLines } from "./source";

interface StackProps {
  title: string;
  frames: Frame[];
  /** Lines of the application's files, shown below their frames. */
  sources?: Source[];
  /** Said where there is none. */
  empty?: string;
}

/** Innermost frame first, as it is sent. */
export function Stack({ title, frames, sources = [], empty = "No stack was kept." }: StackProps) {
  const groups = groupFrames(frames);
  return (
    <section class="stack">
      <h3>{title}</h3>
      {frames.length === 0 ? (
        <p class="quiet">{empty}</p>
      ) : (
        groups.map((group, index) => <Group key={index} group={group} sources={sources} open={groups.length === 1} />)
      )}
    </section>
  );
}

interface GroupProps {
  group: FrameGroup;
  sources: Source[];
  open: boolean;
}

/** Library frames are folded, unless there is nothing else to read. */
function Group({ group: { application, frames }, sources, open }: GroupProps) {
  if (application) return <Frames frames={frames} sources={sources} kind="application" />;
  return (
    <details class="library" open={open}>
      <summary>{counted(frames.length, "library frame")}</summary>
      <Frames frames={frames} sources={[]} kind="library" />
    </details>
  );
}

function Frames({ frames, sources, kind }: { frames: Frame[]; sources: Source[]; kind: string }) {
  return (
    <ol class={`frames ${kind}`}>
      {frames.map((frame, index) => {
        const source = sourceOf(frame, sources);
        return (
          <li key={index}>
            <SiteText site={frame} />
            {source === undefined ? null : <SourceLines source={source} />}
          </li>
        );
      })}
    </ol>
  );
}
