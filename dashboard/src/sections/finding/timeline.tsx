import { SiteText } from "../../components/labels";
import { Panel } from "../../components/panel";
import type { TimelineEvent } from "../../shapes";
import { eventTone, eventWhen } from "../../view/timeline";

/** What happened to the session or connection, from when it was opened. */
export function Timeline({ events }: { events: readonly TimelineEvent[] }) {
  if (events.length === 0) return null;
  return (
    <Panel title="Timeline">
      <ol class="timeline">
        {events.map((event, index) => (
          <li key={index} class={`event-${eventTone(event)}`}>
            <span class="when">{eventWhen(event)}</span>
            <span class="what">
              <b>{event.event}</b> {event.text}
              {event.site === null ? null : (
                <span class="where">
                  <SiteText site={event.site} />
                </span>
              )}
            </span>
          </li>
        ))}
      </ol>
    </Panel>
  );
}
