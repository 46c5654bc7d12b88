import type { Frame } from "../api";
import { counted } from "../view/format";
import { type FrameGroup, groupFrames } from "../view/stack";
import { SiteText } from "./labels";

/** Innermost frame first, as it is sent. */
export function Stack({ title, frames }: { title: string; frames: Frame[] }) {
  return (
    <section class="stack">
      <h3>{title}</h3>
      {frames.length === 0 ? (
        <p class="quiet">No stack was kept.</p>
      ) : (
        groupFrames(frames).map((group, index, all) => <Group key={index} group={group} open={all.length === 1} />)
      )}
    </section>
  );
}

/** Library frames are folded, unless there is nothing else to read. */
function Group({ group, open }: { group: FrameGroup; open: boolean }) {
  if (group.application) return <Frames frames={group.frames} kind="application" />;
  return (
    <details class="library" open={open}>
      <summary>{counted(group.frames.length, "library frame")}</summary>
      <Frames frames={group.frames} kind="library" />
    </details>
  );
}

function Frames({ frames, kind }: { frames: Frame[]; kind: string }) {
  return (
    <ol class={`frames ${kind}`}>
      {frames.map((frame, index) => (
        <li key={index}>
          <SiteText site={frame} />
        </li>
      ))}
    </ol>
  );
}
