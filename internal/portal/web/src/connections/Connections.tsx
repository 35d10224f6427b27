import { Button, Dropdown, Field, Input, makeStyles, Option, tokens } from "@fluentui/react-components";
import { useState } from "react";
import { Link, useSearchParams } from "react-router";
import { type List, type Live, type LiveConnection, segment, version } from "../api/arm";
import { instancePath, often, useReading } from "../app/api";
import { useCurrent } from "../app/instance";
import { askDataPlane, dataPlane } from "../playground/connect";
import { ConfirmChange } from "../shared/Confirm";
import { Value } from "../shared/Copy";
import { Empty, ErrorBar, Loading } from "../shared/feedback";
import { Grid } from "../shared/Grid";
import { Act } from "../shared/may";
import { Page, Section } from "../shared/Page";
import { Crowds } from "./Crowds";

const useStyles = makeStyles({
  bar: { display: "flex", flexWrap: "wrap", alignItems: "flex-end", gap: tokens.spacingHorizontalM },
  crowds: { display: "grid", gridTemplateColumns: "repeat(auto-fit, minmax(280px, 1fr))", gap: tokens.spacingHorizontalXL, alignItems: "start" },
});

/** What is to be closed: its path below the hub, and its name for people. */
interface Closing {
  method: string;
  path: string;
  what: string;
}

/** Connections is who is online, by hub, group and user. */
export function Connections() {
  const styles = useStyles();
  const instance = useCurrent();
  const [query, setQuery] = useSearchParams();
  const live = useReading<Live>(["live"], `${instance.id}/live`, version.webPubSub, often);
  const hubs = live.data?.hubs ?? [];
  const hub = query.get("hub") ?? hubs.find((h) => h.connections > 0)?.name ?? hubs[0]?.name ?? "";
  const group = query.get("group") ?? "";
  const user = query.get("user") ?? "";
  const change = (some: Record<string, string>) => setQuery({ hub, group, user, ...some }, { replace: true });
  const now = hubs.find((h) => h.name === hub);
  const [closing, setClosing] = useState<Closing | null>(null);
  return (
    <Page title="Connections" about="Who is online now. Closing a connection tells its client that the server wished so.">
      {live.error && <ErrorBar error={live.error} />}
      {live.data === undefined && !live.error && <Loading />}
      {live.data !== undefined && hubs.length === 0 && (
        <Empty title="Nobody has connected yet">
          Connect a client in the <Link to={instancePath(instance.id, instance.name, "playground")}>Playground</Link>, or with one of the SDKs of the <Link to={instancePath(instance.id, instance.name, "quickstart")}>Quickstart</Link>.
        </Empty>
      )}
      {hubs.length > 0 && (
        <>
          <div className={styles.bar}>
            <Field label="Hub">
              <Dropdown value={`${hub} (${now?.connections ?? 0})`} selectedOptions={[hub]} onOptionSelect={(_, d) => setQuery({ hub: d.optionValue ?? "" }, { replace: true })}>
                {hubs.map((h) => (
                  <Option key={h.name} value={h.name}>
                    {`${h.name} (${h.connections})`}
                  </Option>
                ))}
              </Dropdown>
            </Field>
            <Field label="Group">
              <Input value={group} onChange={(_, d) => change({ group: d.value })} />
            </Field>
            <Field label="User ID">
              <Input value={user} onChange={(_, d) => change({ user: d.value })} />
            </Field>
            <Act ask={askDataPlane(instance)} disabled={!now?.connections} onClick={() => setClosing({ method: "POST", path: ":closeConnections", what: `All connections of hub ${hub}` })}>
              Close all of this hub
            </Act>
          </div>
          <Members hub={hub} group={group} user={user} onClose={(c) => setClosing({ method: "DELETE", path: `connections/${segment(c.connectionId)}`, what: `Connection ${c.connectionId}` })} />
          <div className={styles.crowds}>
            <Crowds
              title="Groups"
              crowds={now?.groups ?? []}
              count={now?.groupCount ?? 0}
              onSelect={(g) => change({ group: g })}
              onClose={(g) => setClosing({ method: "POST", path: `groups/${segment(g)}/:closeConnections`, what: `Group ${g}` })}
            />
            <Crowds
              title="Users"
              crowds={now?.users ?? []}
              count={now?.userCount ?? 0}
              onSelect={(u) => change({ user: u })}
              onClose={(u) => setClosing({ method: "POST", path: `users/${segment(u)}/:closeConnections`, what: `User ${u}` })}
            />
          </div>
        </>
      )}
      {closing !== null && (
        <ConfirmChange
          title="Close connections"
          verb="Close"
          act={(api) => api.call(closing.method, `${dataPlane(instance.name, hub)}/${closing.path}`, { query: { "api-version": version.dataPlane, reason: "closed in the portal" } })}
          success={`${closing.what}: closed.`}
          onClose={() => setClosing(null)}
        >
          {closing.what}: clients that are still wanted have to connect again.
        </ConfirmChange>
      )}
    </Page>
  );
}

function Members({ hub, group, user, onClose }: { hub: string; group: string; user: string; onClose(c: LiveConnection): void }) {
  const instance = useCurrent();
  const [behind, setBehind] = useState<string[]>([]); // where the pages before this one ended
  const list = useReading<List<LiveConnection> & { after?: string }>(["connections"], `${instance.id}/hubs/${segment(hub)}/connections`, version.webPubSub, often, {
    group,
    userId: user,
    after: behind.at(-1) ?? "",
    top: "50",
  });
  const next = list.data?.after;
  return (
    <Section title="Connections">
      {list.error && <ErrorBar error={list.error} />}
      <Grid
        label="Connections"
        rows={list.data?.value ?? []}
        id={(c) => c.connectionId}
        columns={[
          { name: "Connection ID", cell: (c) => <Value text={c.connectionId} what="connection ID" /> },
          { name: "User ID", cell: (c) => c.userId ?? "(anonymous)" },
          { name: "Subprotocol", cell: (c) => c.subprotocol ?? "(none)" },
          { name: "Groups", cell: (c) => c.groups.join(", ") },
          {
            name: "Action",
            width: "100px",
            cell: (c) => (
              <Act ask={askDataPlane(instance)} size="small" aria-label={`Close ${c.connectionId}`} onClick={() => onClose(c)}>
                Close
              </Act>
            ),
          },
        ]}
      />
      <div>
        {behind.length > 0 && <Button onClick={() => setBehind(behind.slice(0, -1))}>Previous</Button>}
        {next !== undefined && <Button onClick={() => setBehind([...behind, next])}>Next</Button>}
      </div>
    </Section>
  );
}
