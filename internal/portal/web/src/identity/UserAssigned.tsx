import { Field, makeStyles, Radio, RadioGroup, SearchBox, Text, tokens } from "@fluentui/react-components";
import { AddRegular } from "@fluentui/react-icons/svg/add";
import { DeleteRegular } from "@fluentui/react-icons/svg/delete";
import { useState } from "react";
import { Link } from "react-router";
import { type Instance, lastSegment, type List, resourceGroup, type UserIdentity, version } from "../api/arm";
import { useReading, useSubscription } from "../app/api";
import { useChange } from "../shared/change";
import { Confirm, ConfirmChange } from "../shared/Confirm";
import { Value } from "../shared/Copy";
import { Empty, ErrorBar, Note, Warnings } from "../shared/feedback";
import { Grid } from "../shared/Grid";
import { Act } from "../shared/may";
import { assign } from "./assign";

const useStyles = makeStyles({
  column: { display: "flex", flexDirection: "column", gap: tokens.spacingVerticalL, alignItems: "stretch" },
  bar: { display: "flex", gap: tokens.spacingHorizontalS },
  list: { maxHeight: "240px", overflowY: "auto", border: `1px solid ${tokens.colorNeutralStroke2}`, borderRadius: tokens.borderRadiusMedium },
});

export function UserAssigned({ instance }: { instance: Instance }) {
  const styles = useStyles();
  const [adding, setAdding] = useState(false);
  const [removing, setRemoving] = useState<string | null>(null);
  const assigned = Object.entries(instance.identity.userAssignedIdentities ?? {});
  const remove = useChange((api) => assign(api, instance, { type: "None" }), "The identity was removed from the instance.");
  const ask = { method: "PATCH", path: instance.id };
  return (
    <div className={styles.column}>
      <Text>A user-assigned identity is a resource of its own, which several instances can share.</Text>
      <div className={styles.bar}>
        <Act ask={ask} appearance="primary" icon={<AddRegular />} onClick={() => setAdding(true)}>
          Add
        </Act>
      </div>
      <OneRule instance={instance} />
      {assigned.length === 0 ? (
        <Empty title="No user-assigned identity">
          Create one under <Link to="/identities">User-assigned identities</Link>, then add it here.
        </Empty>
      ) : (
        <Grid
          label="User-assigned identities of this instance"
          rows={assigned}
          id={([id]) => id}
          columns={[
            { name: "Name", cell: ([id]) => lastSegment(id) },
            { name: "Resource group", cell: ([id]) => resourceGroup(id) },
            { name: "Object (principal) ID", cell: ([, v]) => (v.principalId ? <Value text={v.principalId} what="object ID" /> : "The identity was deleted") },
            { name: "Client ID", cell: ([, v]) => v.clientId && <Value text={v.clientId} what="client ID" /> },
            {
              name: "Action",
              width: "120px",
              cell: ([id]) => (
                <Act ask={ask} size="small" icon={<DeleteRegular />} aria-label={`Remove ${lastSegment(id)}`} onClick={() => setRemoving(id)}>
                  Remove
                </Act>
              ),
            },
          ]}
        />
      )}
      <Warnings warnings={remove.warnings} />
      {adding && <AddIdentity instance={instance} onClose={() => setAdding(false)} />}
      <Confirm
        title="Remove user assigned managed identity"
        verb="Yes"
        open={removing !== null}
        busy={remove.busy}
        error={remove.error}
        onClose={() => {
          remove.clear();
          setRemoving(null);
        }}
        onConfirm={() => void remove.run().then((ok) => ok && setRemoving(null))}
      >
        <Text>
          '{instance.name}' will not have the identity {removing && lastSegment(removing)} any more. Events that need its token are not sent then.
        </Text>
      </Confirm>
    </div>
  );
}

/** OneRule explains the rule where the next Add would meet it. */
function OneRule({ instance }: { instance: Instance }) {
  if (instance.identity.type === "None") return null;
  const present = instance.identity.type === "SystemAssigned" ? "the system-assigned identity is on" : "it has a user-assigned identity already";
  return (
    <Note title="One managed identity">
      The service supports only one managed identity, and {present}. Adding an identity puts it in place of the present one.
    </Note>
  );
}

function AddIdentity({ instance, onClose }: { instance: Instance; onClose(): void }) {
  const styles = useStyles();
  const [search, setSearch] = useState("");
  const [chosen, setChosen] = useState("");
  const subscription = useSubscription().data?.subscriptionId;
  const all = useReading<List<UserIdentity>>(["identities"], subscription && `/subscriptions/${subscription}/providers/Microsoft.ManagedIdentity/userAssignedIdentities`, version.identity);
  const found = (all.data?.value ?? []).filter((i) => i.name.toLowerCase().includes(search.toLowerCase()));
  return (
    <ConfirmChange
      title="Add user assigned managed identity"
      verb="Add"
      disabled={chosen === ""}
      act={(api) => assign(api, instance, { type: "UserAssigned", userAssignedIdentities: { [chosen]: {} } })}
      success={`The instance has the identity ${lastSegment(chosen)} now.`}
      onClose={onClose}
    >
      <div className={styles.column}>
        <SearchBox aria-label="Search identities" placeholder="Search" value={search} onChange={(_, d) => setSearch(d.value)} />
        {all.error && <ErrorBar error={all.error} />}
        <Field label="User assigned managed identities">
          <RadioGroup className={styles.list} value={chosen} onChange={(_, d) => setChosen(d.value)}>
            {found.map((i) => (
              <Radio key={i.id} value={i.id} label={`${i.name} (resource group ${resourceGroup(i.id)})`} />
            ))}
          </RadioGroup>
        </Field>
        {all.data && found.length === 0 && (
          <Text>
            {search === "" ? "There is none yet. " : "None has that name. "}
            <Link to="/identities">Create a user-assigned identity</Link>
          </Text>
        )}
        <OneRule instance={instance} />
      </div>
    </ConfirmChange>
  );
}
