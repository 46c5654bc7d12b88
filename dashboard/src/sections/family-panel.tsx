import { useEffect, useRef, useState } from "preact/hooks";

import { Badge, LevelBadge } from "../components/labels";
import { Inline, Manual } from "../components/manual";
import { Panel } from "../components/panel";
import { addressOf } from "../router";
import type { Rule } from "../shapes";
import { counted } from "../view/format";
import { number } from "../view/numbers";
import { summaryOf } from "../view/rules";

interface FamilyPanelProps {
  title: string;
  rules: readonly Rule[];
  /** The code in the address. */
  chosen: string | null;
}

export function FamilyPanel({ title, rules, chosen }: FamilyPanelProps) {
  return (
    <Panel title={title} count={rules.length}>
      <ul class="rules">
        {rules.map((rule) => (
          <RuleItem key={rule.code} rule={rule} chosen={rule.code === chosen} />
        ))}
      </ul>
    </Panel>
  );
}

function RuleItem({ rule, chosen }: { rule: Rule; chosen: boolean }) {
  const item = useRef<HTMLLIElement>(null);
  const [open, setOpen] = useState(chosen);
  useEffect(() => {
    if (!chosen) return;
    setOpen(true);
    item.current?.scrollIntoView({ block: "start" });
  }, [chosen]);
  return (
    <li ref={item} class={rule.enabled ? "rule" : "rule off"}>
      <details
        open={open}
        onToggle={(event) => {
          setOpen(event.currentTarget.open);
        }}
      >
        <summary>
          <span class="rule-name">
            <b>{rule.code}</b> {rule.rule}
          </span>
          <span class="rule-summary">
            <Inline text={summaryOf(rule)} />
          </span>
          <span class="rule-state">
            <LevelBadge level={rule.level} /> <Badge tone={rule.enabled ? "ok" : "plain"}>{rule.enabled ? "on" : "off"}</Badge>
          </span>
        </summary>
        {open ? <RulePage rule={rule} /> : null}
      </details>
      <p class="rule-count">
        <RuleCount rule={rule} />
      </p>
    </li>
  );
}

function RuleCount({ rule: { rule, findings } }: { rule: Rule }) {
  if (findings.total === 0) return <span class="quiet">nothing found</span>;
  return (
    <a href={addressOf(["findings"], { rule })}>
      {counted(findings.total, "finding")}, {number(findings.open)} open
    </a>
  );
}

function RulePage({ rule: { page, hint, thresholds, ignored } }: { rule: Rule }) {
  return (
    <div class="rule-page">
      <Manual page={page} />
      <h3>Hint</h3>
      <p>
        <Inline text={hint} />
      </p>
      {thresholds.length === 0 ? null : (
        <>
          <h3>In force here</h3>
          <ul>
            {thresholds.map(({ setting, value, option }) => (
              <li key={setting}>
                <code>{`${setting} = ${value}`}</code> {option === null ? null : <small>option {option}</small>}
              </li>
            ))}
          </ul>
        </>
      )}
      {ignored.length === 0 ? null : (
        <>
          <h3>Ignored here</h3>
          <ul>
            {ignored.map((entry) => (
              <li key={entry}>
                <code>{entry}</code>
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}
