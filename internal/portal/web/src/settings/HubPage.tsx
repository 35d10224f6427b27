import { Button, Field, makeStyles, SpinButton, Switch, tokens } from "@fluentui/react-components";
import { SaveRegular } from "@fluentui/react-icons/svg/save";
import { useState } from "react";
import { Link, useParams } from "react-router";
import { type EventHandler, type Hub, type HubProperties, segment, version } from "../api/arm";
import { instancePath, useReading } from "../app/api";
import { useCurrent } from "../app/instance";
import { useChange } from "../shared/change";
import { ErrorBar, Loading, Note, Warnings } from "../shared/feedback";
import { Act } from "../shared/may";
import { Page, Section } from "../shared/Page";
import { HandlerEditor } from "./HandlerEditor";
import { HandlerList } from "./HandlerList";

const useStyles = makeStyles({
  fields: { display: "flex", flexWrap: "wrap", gap: tokens.spacingHorizontalXXL, alignItems: "flex-end" },
});

const fresh: HubProperties = { eventHandlers: [], anonymousConnectPolicy: "deny", webSocketKeepAliveIntervalInSeconds: 20 };

/** HubPage is Azure's Configure Hub Settings. */
export function HubPage() {
  const instance = useCurrent();
  const { hub = "" } = useParams();
  const stored = useReading<Hub>(["hub"], `${instance.id}/hubs/${segment(hub)}`, version.webPubSub);
  if (stored.data === undefined && stored.error?.status !== 404) {
    return stored.error ? <ErrorBar error={stored.error} /> : <Loading />;
  }
  return <HubForm key={hub} hub={stored.data?.name ?? hub} stored={stored.data?.properties} />;
}

function HubForm({ hub, stored }: { hub: string; stored: HubProperties | undefined }) {
  const styles = useStyles();
  const instance = useCurrent();
  const path = `${instance.id}/hubs/${segment(hub)}`;
  const [draft, setDraft] = useState<HubProperties | null>(null); // null: as stored, also when others change that
  const [editing, setEditing] = useState<number | null>(null); // the number of handlers: a new one
  const properties = draft ?? stored ?? fresh;
  const change = (some: Partial<HubProperties>) => setDraft({ ...properties, ...some });
  const save = useChange((api) => api.call("PUT", path, { query: { "api-version": version.webPubSub }, body: { properties } }), `The settings of hub ${hub} are in force.`);
  const dirty = draft !== null || stored === undefined;
  const put = (index: number, handler: EventHandler) => {
    change({ eventHandlers: properties.eventHandlers.toSpliced(index, 1, handler) });
    setEditing(null);
  };
  return (
    <Page
      title={`Configure hub settings: ${hub}`}
      about={<Link to={instancePath(instance.id, instance.name, "settings")}>All hubs</Link>}
      actions={
        <>
          <Act ask={{ method: "PUT", path }} appearance="primary" icon={<SaveRegular />} busy={save.busy} disabled={!dirty} onClick={() => void save.run().then((ok) => ok && setDraft(null))}>
            Save
          </Act>
          <Button disabled={draft === null || save.busy} onClick={() => setDraft(null)}>
            Discard
          </Button>
        </>
      }
    >
      {save.error && <ErrorBar error={save.error} />}
      <Warnings warnings={save.warnings} />
      {stored === undefined && <Note>This hub has no settings yet. They are in force for the next event once you save them.</Note>}
      <div className={styles.fields}>
        <Switch
          label="Allow anonymous connect"
          checked={properties.anonymousConnectPolicy.toLowerCase() === "allow"}
          onChange={(_, d) => change({ anonymousConnectPolicy: d.checked ? "allow" : "deny" })}
        />
        <Field label="Keep-alive interval (seconds)">
          <SpinButton min={1} max={120} value={properties.webSocketKeepAliveIntervalInSeconds} onChange={(_, d) => change({ webSocketKeepAliveIntervalInSeconds: d.value ?? (Number(d.displayValue) || 20) })} />
        </Field>
      </div>
      <Section title="Event handlers">
        <HandlerList handlers={properties.eventHandlers} onChange={(eventHandlers) => change({ eventHandlers })} onEdit={setEditing} />
      </Section>
      {editing !== null && (
        <HandlerEditor hub={hub} handler={properties.eventHandlers[editing]} onClose={() => setEditing(null)} onConfirm={(handler) => put(editing, handler)} />
      )}
    </Page>
  );
}
