import type { Frame } from "../api";

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
