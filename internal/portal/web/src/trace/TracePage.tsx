import { Badge, Button, Dropdown, Field, makeStyles, mergeClasses, Option, SearchBox, Switch, tokens } from "@fluentui/react-components";
import { useState } from "react";
import { useSearchParams } from "react-router";
import { version } from "../api/arm";
import type { TraceRecord } from "../api/trace";
import { useReading } from "../app/api";
import { useCurrent } from "../app/instance";
import { Empty, ErrorBar, Note } from "../shared/feedback";
import { Page } from "../shared/Page";
import { Detail } from "./Detail";
import { everything, type Filter, matches } from "./filter";
import { TraceTable } from "./TraceTable";
import { useTrace } from "./useTrace";

const useStyles = makeStyles({
  bar: { display: "flex", flexWrap: "wrap", alignItems: "flex-end", gap: tokens.spacingHorizontalM },
  split: { display: "grid", gridTemplateColumns: "minmax(0, 1fr)", gap: tokens.spacingHorizontalL },
  both: { "@media (min-width: 1100px)": { gridTemplateColumns: "minmax(0, 3fr) minmax(0, 2fr)" } },
});

const kinds = ["delivery", "validation", "connection", "message", "request", "identity"];

/** TracePage is the live trace: what happens, and why. */
export function TracePage() {
  const styles = useStyles();
  const instance = useCurrent();
  const [capturing, setCapturing] = useState(true);
  const [filter, setFilter] = useState<Filter>(everything);
  const [query, setQuery] = useSearchParams();
  const stream = useTrace(instance.id, capturing);
  const rows = stream.records.filter((r) => matches(filter, r)).toReversed();
  const hubs = [...new Set(stream.records.flatMap((r) => (r.hub ? [r.hub] : [])))].sort();
  const wanted = query.get("record");
  const inTable = stream.records.find((r) => String(r.id) === wanted);
  const fetched = useReading<TraceRecord>(["record"], wanted !== null && inTable === undefined ? `${instance.id}/trace/${wanted}` : undefined, version.webPubSub, 60_000);
  const shown = inTable ?? (wanted === null ? undefined : fetched.data);
  const show = (id: number | null) => setQuery(id === null ? {} : { record: String(id) }, { replace: true });
  const change = (some: Partial<Filter>) => setFilter({ ...filter, ...some });
  return (
    <Page
      title="Live trace"
      about="Connections, messages and calls of event handlers as they happen. Tokens, keys and resolved URLs are never in it; the claims of a token are."
      actions={
        <>
          <Badge appearance="tint" color={stream.state === "live" ? "success" : "warning"} role="status">
            {{ live: "Live", connecting: "Connecting…", paused: "Paused" }[stream.state]}
          </Badge>
          <Button onClick={() => setCapturing(!capturing)}>{capturing ? "Pause" : "Capture"}</Button>
          <Button onClick={stream.clear}>Clear</Button>
        </>
      }
    >
      {stream.error && <ErrorBar error={stream.error} />}
      {stream.lost > 0 && <Note intent="warning">{stream.lost} records came too fast for this browser and are missing here.</Note>}
      <div className={styles.bar}>
        <Field label="Filter by keyword">
          <SearchBox value={filter.text} placeholder="user, code, connection, status…" onChange={(_, d) => change({ text: d.value })} />
        </Field>
        <Choice label="Hub" all="All hubs" options={hubs} value={filter.hub} onChange={(hub) => change({ hub })} />
        <Choice label="Kind" all="All kinds" options={kinds} value={filter.kind} onChange={(kind) => change({ kind })} />
        <Switch label="Only what failed" checked={filter.faults} onChange={(_, d) => change({ faults: d.checked })} />
      </div>
      <div className={mergeClasses(styles.split, shown !== undefined && styles.both)}>
        {rows.length === 0 ? (
          <Empty title={stream.records.length === 0 ? "Nothing has happened yet" : "Nothing matches the filter"}>
            Connect a client in the Playground and send an event: each step of its way to the handler, and why it failed if it did, appears here at once.
          </Empty>
        ) : (
          <TraceTable rows={rows} selected={shown?.id} onSelect={show} />
        )}
        {shown !== undefined && <Detail key={shown.id} record={shown} onClose={() => show(null)} onShow={show} />}
      </div>
      {wanted !== null && shown === undefined && fetched.error && <ErrorBar error={fetched.error} />}
    </Page>
  );
}

function Choice({ label, all, options, value, onChange }: { label: string; all: string; options: string[]; value: string; onChange(value: string): void }) {
  return (
    <Field label={label}>
      <Dropdown value={value === "" ? all : value} selectedOptions={[value]} onOptionSelect={(_, d) => onChange(d.optionValue ?? "")} style={{ minWidth: "120px" }}>
        {["", ...options].map((o) => (
          <Option key={o} value={o}>
            {o === "" ? all : o}
          </Option>
        ))}
      </Dropdown>
    </Field>
  );
}
