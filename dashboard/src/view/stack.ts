import type { Frame, Site, Source } from "../shapes";

export interface FrameGroup {
  application: boolean;
  frames: Frame[];
}

/** Consecutive frames of the same kind, so that a run of library frames can be folded into one line. */
export function groupFrames(stack: Frame[]): FrameGroup[] {
  const groups: FrameGroup[] = [];
  for (const frame of stack) {
    const last = groups.at(-1);
    if (last?.application === frame.application) last.frames.push(frame);
    else groups.push({ application: frame.application, frames: [frame] });
  }
  return groups;
}

export const sourceOf = ({ filename, lineno }: Site, sources: readonly Source[]): Source | undefined =>
  sources.find((source) => source.filename === filename && source.lineno === lineno);
