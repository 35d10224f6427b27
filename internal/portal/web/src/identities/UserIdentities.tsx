import { Field, Input, Text } from "@fluentui/react-components";
import { AddRegular } from "@fluentui/react-icons/svg/add";
import { DeleteRegular } from "@fluentui/react-icons/svg/delete";
import { useState } from "react";
import { type List, resourceGroup, segment, type UserIdentity, version } from "../api/arm";
import { useReading, useSubscription } from "../app/api";
import { ConfirmChange } from "../shared/Confirm";
import { Value } from "../shared/Copy";
import { Empty } from "../shared/feedback";
import { Listing } from "../shared/Grid";
import { Act } from "../shared/may";
import { Page } from "../shared/Page";

const provider = "providers/Microsoft.ManagedIdentity/userAssignedIdentities";
const query = { "api-version": version.identity };

/** UserIdentities lists the identities that instances can be given. */
export function UserIdentities() {
  const subscription = useSubscription();
  const root = subscription.data && `/subscriptions/${subscription.data.subscriptionId}`;
  const list = useReading<List<UserIdentity>>(["identities"], root && `${root}/${provider}`, version.identity);
  const [adding, setAdding] = useState(false);
  const [deleting, setDeleting] = useState<UserIdentity | null>(null);
  const error = subscription.error ?? list.error;
  const add = (
    <Act ask={{ method: "PUT", path: `${root ?? ""}/resourceGroups/default/${provider}/new` }} appearance="primary" icon={<AddRegular />} onClick={() => setAdding(true)}>
      Create
    </Act>
  );
  return (
    <Page title="User-assigned identities" about="A user-assigned managed identity is a resource of its own: it outlives the instances that have it, and several of them can share it." actions={add}>
      <Listing
        label="User-assigned identities"
        rows={list.data?.value}
        error={error}
        empty={
          <Empty title="No user-assigned identity yet" action={add}>
            Create one, grant it what it needs, then add it to an instance under Identity, User assigned.
          </Empty>
        }
        id={(i) => i.id}
        columns={[
          { name: "Name", cell: (i) => i.name },
          { name: "Resource group", cell: (i) => resourceGroup(i.id) },
          { name: "Object (principal) ID", cell: (i) => <Value text={i.properties.principalId} what="object ID" /> },
          { name: "Client ID", cell: (i) => <Value text={i.properties.clientId} what="client ID" /> },
          {
            name: "Action",
            width: "120px",
            cell: (i) => (
              <Act ask={{ method: "DELETE", path: i.id }} size="small" icon={<DeleteRegular />} aria-label={`Delete ${i.name}`} onClick={() => setDeleting(i)}>
                Delete
              </Act>
            ),
          },
        ]}
      />
      {adding && root !== undefined && <Create root={root} onClose={() => setAdding(false)} />}
      {deleting !== null && (
        <ConfirmChange
          title="Delete user-assigned identity"
          verb="Delete"
          act={(api) => api.call("DELETE", deleting.id, { query })}
          success={`The identity ${deleting.name} was deleted.`}
          onClose={() => setDeleting(null)}
        >
          <Text>Instances that have {deleting.name} cannot prove who they are any more, until they get another identity.</Text>
        </ConfirmChange>
      )}
    </Page>
  );
}

function Create({ root, onClose }: { root: string; onClose(): void }) {
  const [name, setName] = useState("");
  const [group, setGroup] = useState("default");
  return (
    <ConfirmChange
      title="Create user-assigned managed identity"
      verb="Create"
      disabled={name === "" || group === ""}
      act={(api) => api.call("PUT", `${root}/resourceGroups/${segment(group)}/${provider}/${segment(name)}`, { query, body: { location: "local" } })}
      success={`The identity ${name} was created.`}
      onClose={onClose}
    >
      <Field label="Name" required>
        <Input value={name} onChange={(_, d) => setName(d.value.trim())} placeholder="my-identity" />
      </Field>
      <Field label="Resource group" required>
        <Input value={group} onChange={(_, d) => setGroup(d.value.trim())} />
      </Field>
    </ConfirmChange>
  );
}
