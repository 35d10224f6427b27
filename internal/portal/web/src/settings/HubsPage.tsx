import { Field, Input, Text } from "@fluentui/react-components";
import { AddRegular } from "@fluentui/react-icons/svg/add";
import { DeleteRegular } from "@fluentui/react-icons/svg/delete";
import { useState } from "react";
import { Link, useNavigate } from "react-router";
import { type Hub, type List, segment, version } from "../api/arm";
import { instancePath, useReading } from "../app/api";
import { useCurrent } from "../app/instance";
import { Confirm, ConfirmChange } from "../shared/Confirm";
import { Empty } from "../shared/feedback";
import { Listing } from "../shared/Grid";
import { Act } from "../shared/may";
import { Page } from "../shared/Page";

/** HubsPage lists the hubs that have settings. */
export function HubsPage() {
  const instance = useCurrent();
  const hubs = useReading<List<Hub>>(["hubs"], `${instance.id}/hubs`, version.webPubSub);
  const [adding, setAdding] = useState(false);
  const [deleting, setDeleting] = useState<Hub | null>(null);
  const page = (hub: string) => `${instancePath(instance.id, instance.name, "settings")}/${segment(hub)}`;
  const add = (
    <Act ask={{ method: "PUT", path: `${instance.id}/hubs/new` }} appearance="primary" icon={<AddRegular />} onClick={() => setAdding(true)}>
      Add
    </Act>
  );
  return (
    <Page title="Settings" about="A hub is a set of connections with a name of your choice. Its settings say which event handlers get its events." actions={add}>
      <Listing
        label="Hubs"
        rows={hubs.data?.value}
        error={hubs.error}
        empty={
          <Empty title="No hub has settings yet" action={add}>
            Clients can connect to any hub without settings. Add one to send its events to your application.
          </Empty>
        }
        id={(h) => h.id}
        columns={[
          { name: "Hub", cell: (h) => <Link to={page(h.name)}>{h.name}</Link> },
          { name: "Event handlers", cell: (h) => h.properties.eventHandlers.map((e) => e.urlTemplate).join(", ") || "None" },
          { name: "Anonymous connect", cell: (h) => (h.properties.anonymousConnectPolicy.toLowerCase() === "allow" ? "Allowed" : "Denied") },
          {
            name: "Action",
            width: "120px",
            cell: (h) => (
              <Act ask={{ method: "DELETE", path: h.id }} size="small" icon={<DeleteRegular />} aria-label={`Delete hub ${h.name}`} onClick={() => setDeleting(h)}>
                Delete
              </Act>
            ),
          },
        ]}
      />
      {deleting !== null && (
        <ConfirmChange
          title="Delete hub settings"
          verb="Delete"
          act={(api) => api.call("DELETE", deleting.id, { query: { "api-version": version.webPubSub } })}
          success={`The settings of hub ${deleting.name} were deleted.`}
          onClose={() => setDeleting(null)}
        >
          <Text>Connections of {deleting.name} stay, but its event handlers are not called any more.</Text>
        </ConfirmChange>
      )}
      {adding && <AddHub page={page} onClose={() => setAdding(false)} />}
    </Page>
  );
}

function AddHub({ page, onClose }: { page(hub: string): string; onClose(): void }) {
  const navigate = useNavigate();
  const [name, setName] = useState("");
  return (
    <Confirm title="Add hub" verb="Configure" open disabled={name.trim() === ""} onClose={onClose} onConfirm={() => void navigate(page(name.trim()))}>
      <Field label="Hub name" hint="A letter, then letters, digits and underscores. Nothing is stored until you save the settings.">
        <Input value={name} onChange={(_, d) => setName(d.value)} />
      </Field>
    </Confirm>
  );
}
