import { Button, makeStyles, Subtitle1, tokens, Tooltip } from "@fluentui/react-components";
import { DismissRegular } from "@fluentui/react-icons/svg/dismiss";
import { isFault, type TraceRecord } from "../api/trace";
import { Claims } from "../shared/Claims";
import { Code, Value } from "../shared/Copy";
import { Facts } from "../shared/Facts";
import { Note } from "../shared/feedback";
import { Section } from "../shared/Page";
import { duration } from "./filter";
import { Replay } from "./Replay";
import { Timeline } from "./Timeline";

const useStyles = makeStyles({
  pane: { display: "flex", flexDirection: "column", gap: tokens.spacingVerticalL, padding: tokens.spacingHorizontalL, border: `1px solid ${tokens.colorNeutralStroke2}`, borderRadius: tokens.borderRadiusMedium, minWidth: 0, alignSelf: "start" },
  head: { display: "flex", justifyContent: "space-between", alignItems: "center" },
});

/** Detail is one record: why it ended so and how to mend it, its stages, and everything else that is known. */
export function Detail({ record: r, onClose, onShow }: { record: TraceRecord; onClose(): void; onShow(id: number): void }) {
  const styles = useStyles();
  return (
    <aside className={styles.pane} aria-label="Record">
      <div className={styles.head}>
        <Subtitle1 as="h2">{r.operationName}</Subtitle1>
        <Tooltip content="Close" relationship="label">
          <Button appearance="subtle" icon={<DismissRegular />} onClick={onClose} />
        </Tooltip>
      </div>
      <Why record={r} />
      {r.stages !== undefined && r.stages.length > 0 && (
        <Section title="Stages">
          <Timeline stages={r.stages} />
        </Section>
      )}
      {r.claims !== undefined && <Claims title="Claims of the token" claims={r.claims} open={isFault(r)} />}
      {r.answer !== undefined && r.answer !== "" && (
        <Section title="The handler's answer">
          <Code text={r.answer} what="answer" />
        </Section>
      )}
      <Section title="Details">
        <Facts
          facts={[
            ["Time", new Date(r.time).toLocaleString()],
            ["Duration", duration(r.durationNs)],
            ["Log level", r.level],
            ["Category", r.category],
            ["Kind", r.kind + (r.synthetic ? " (synthetic)" : "")],
            ["Hub", r.hub],
            ["Event", r.event],
            ["Event id", r.eventId],
            ["Group", r.group],
            ["User ID", r.userId],
            ["Connection ID", r.connectionId && <Value text={r.connectionId} what="connection ID" />],
            ["IP", r.callerIpAddress],
            ["URL template", r.urlTemplate],
            ["Audience", r.audience],
            ["Status code", r.status],
            ["Attempts", r.attempts],
            ["Http method", r.httpMethod],
            ["Route template", r.routeTemplate],
            ["URL", r.url],
            ["Trace ID", r.traceId && <Value text={r.traceId} what="trace ID" />],
            ["Link", <Value text={`${location.origin}${location.pathname}${location.hash}`} what="link to this record" />],
          ]}
        />
      </Section>
      {r.kind === "delivery" && <Replay record={r} onShow={onShow} />}
    </aside>
  );
}

function Why({ record: r }: { record: TraceRecord }) {
  if (!isFault(r)) return r.kind === "delivery" ? <Note intent="success">The handler took the event.</Note> : null;
  return (
    <Note intent="warning" title={`${r.code}: ${r.sentence ?? ""}`}>
      {r.detail !== undefined && r.detail !== r.sentence && <p>{r.detail}</p>}
      {r.fix !== undefined && <p>How to mend it: {r.fix}.</p>}
    </Note>
  );
}
