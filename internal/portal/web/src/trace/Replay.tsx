import { Button, Field, Input, makeStyles, Text, tokens } from "@fluentui/react-components";
import { useState } from "react";
import { version } from "../api/arm";
import { type Comparison, isFault, type TraceRecord } from "../api/trace";
import { useCurrent } from "../app/instance";
import { useChange } from "../shared/change";
import { Facts } from "../shared/Facts";
import { ErrorBar } from "../shared/feedback";
import { Act } from "../shared/may";
import { Section } from "../shared/Page";

const useStyles = makeStyles({
  bar: { display: "flex", flexWrap: "wrap", alignItems: "flex-end", gap: tokens.spacingHorizontalM },
  field: { flexGrow: 1, minWidth: "200px" },
});

/** Replay sends the event again, the same bytes with a fresh token, and compares how it was answered. */
export function Replay({ record, onShow }: { record: TraceRecord; onShow(id: number): void }) {
  const styles = useStyles();
  const instance = useCurrent();
  const [to, setTo] = useState("");
  const [audience, setAudience] = useState("");
  const [result, setResult] = useState<Comparison | null>(null);
  const path = `${instance.id}/trace/${record.id}/replay`;
  const replay = useChange(async (api) => {
    const answer = await api.call<Comparison>("POST", path, { query: { "api-version": version.webPubSub }, body: to === "" ? {} : { to, audience } });
    setResult(answer.body);
  }, "The event was sent again.");
  return (
    <Section title="Replay">
      <Text>Sends the same event again with a fresh token, to the handler that takes it now, or to another address.</Text>
      <div className={styles.bar}>
        <Field label="Another address (optional)" className={styles.field}>
          <Input value={to} spellCheck={false} placeholder="http://127.0.0.1:7070/eventhandler" onChange={(_, d) => setTo(d.value.trim())} />
        </Field>
        {to !== "" && (
          <Field label="Audience of its token (optional)" className={styles.field}>
            <Input value={audience} spellCheck={false} onChange={(_, d) => setAudience(d.value.trim())} />
          </Field>
        )}
        <Act ask={{ method: "POST", path }} busy={replay.busy} disabled={!record.hasContent} onClick={() => void replay.run()}>
          Replay
        </Act>
      </div>
      {!record.hasContent && <Text>The event's content is not kept any more.</Text>}
      {replay.error && <ErrorBar error={replay.error} />}
      {result !== null && <Compared result={result} onShow={onShow} />}
    </Section>
  );
}

function Compared({ result, onShow }: { result: Comparison; onShow(id: number): void }) {
  const pair = (name: string, of: (r: TraceRecord) => string | number | undefined, same?: boolean): [string, string] => [
    name,
    `${of(result.original) ?? "none"} → ${of(result.replayed) ?? "none"}${same === undefined ? "" : same ? " (the same)" : " (different)"}`,
  ];
  return (
    <div role="status">
      <Facts
        facts={[
          pair("Outcome", (r) => (isFault(r) ? r.code : "delivered")),
          pair("Status", (r) => r.status, result.sameStatus),
          ["Body", result.sameBody ? "the same" : "different"],
          ["Token", result.token],
          ["Handler", result.ruleChanged ? "The hub's rule for this event is another one now" : "The same rule"],
        ]}
      />
      <Button size="small" onClick={() => onShow(result.replayed.id)}>
        Show the new record
      </Button>
    </div>
  );
}
