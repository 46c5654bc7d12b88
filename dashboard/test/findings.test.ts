import { expect, test } from "vitest";

import { explainCommand, findingCounts, findingRows } from "../src/view/findings";
import { finding } from "./facts";

test("the newest finding comes first and stays there when an older one is seen again", () => {
  const rows = findingRows(
    [
      finding({ fingerprint: "old", first_seen: "2026-05-04T08:00:00Z", last_seen: "2026-05-04T09:59:59Z" }),
      finding({ fingerprint: "new", first_seen: "2026-05-04T11:00:00+02:00", last_seen: "2026-05-04T11:59:00+02:00" }),
    ],
    "2026-05-04T10:00:00Z",
  );
  expect(rows.map(({ key, lastSeenSecondsAgo }) => [key, lastSeenSecondsAgo])).toEqual([
    ["new", 60],
    ["old", 1],
  ]);
});

test("resolved findings are counted apart from the levels", () => {
  const counts = findingCounts([finding(), finding({ level: "info" }), finding({ resolved: true })]);
  expect(counts).toEqual({ byLevel: { error: 1, warning: 0, info: 1 }, open: 2, resolved: 1 });
});

test("each finding names the command that explains it", () => {
  expect(explainCommand(finding({ code: "SW204" }))).toBe("flask sessionwatch explain SW204");
});
