import { expect, test } from "vitest";

import { issueText } from "../src/view/issue";
import { frame, oneFinding, site } from "./facts";

test("an issue has the sentence, the line, the repair, what happened and where", () => {
  const text = issueText(
    oneFinding({
      sources: [{ ...site(), first_lineno: 41, lines: ["def list_orders():", "    conn = connect()", "    return"] }],
      timeline: [{ event: "opened", seconds: 0, at: null, site: null, text: null }],
      stack: [frame("pool", false), frame("orders", true)],
    }),
  );
  expect(text).toBe(`## SW101 leaked-connection

GET /orders/\\<int:id\\> ended with a connection still checked out.

checked out at \`/srv/shop/orders.py:42 in list_orders\`

\`\`\`python
  41  def list_orders():
> 42      conn = connect()
  43      return
\`\`\`

**What to do:** Use 'with Session(...)'.

Seen 1 time in \`GET /orders/<int:id>\`, by 1 worker, from 2026-05-04 09:00:00 UTC to 2026-05-04 09:59:30 UTC.

**Timeline**

- +0 s **opened**

**Stack**, innermost call first:

\`\`\`
  /srv/pool.py:1 in pool
> /srv/orders.py:1 in orders
\`\`\`

Explained by \`flask sessionwatch explain SW101\`. To ignore it: \`SESSIONWATCH_IGNORE = ["SW101"]\`.
`);
});

test("names of the application's cannot become markup of the issue", () => {
  const text = issueText(oneFinding({ message: "# @team [x](y) <img>", scope: "a`b``c", site: null }));
  expect(text).toContain("\\# \\@team \\[x\\](y) \\<img\\>");
  expect(text).toContain("in ```a`b``c```");
});

test("a line of code cannot end its own fence", () => {
  const sources = [{ ...site(), first_lineno: 42, lines: ["x = '````'"] }];
  expect(issueText(oneFinding({ sources }))).toContain("`````python\n> 42  x = '````'\n`````");
});
