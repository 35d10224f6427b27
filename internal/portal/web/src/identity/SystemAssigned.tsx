import { Button, makeStyles, Switch, Text, tokens } from "@fluentui/react-components";
import { SaveRegular } from "@fluentui/react-icons/svg/save";
import { useState } from "react";
import { Link } from "react-router";
import { type Instance, lastSegment, version } from "../api/arm";
import { instancePath, useReading } from "../app/api";
import { useChange } from "../shared/change";
import { Confirm } from "../shared/Confirm";
import { Value } from "../shared/Copy";
import { Facts } from "../shared/Facts";
import { Note, Warnings } from "../shared/feedback";
import { Act } from "../shared/may";
import { assign } from "./assign";

const useStyles = makeStyles({
  column: { display: "flex", flexDirection: "column", gap: tokens.spacingVerticalL, alignItems: "flex-start" },
  bar: { display: "flex", gap: tokens.spacingHorizontalS },
});

interface SystemIdentity {
  properties: { clientId: string };
}

export function SystemAssigned({ instance }: { instance: Instance }) {
  const styles = useStyles();
  const is = instance.identity.type === "SystemAssigned";
  const [wanted, setWanted] = useState<boolean | null>(null);
  const [asking, setAsking] = useState(false);
  const on = wanted ?? is;
  const details = useReading<SystemIdentity>(["system identity"], is ? `${instance.id}/providers/Microsoft.ManagedIdentity/identities/default` : undefined, version.identity);
  const save = useChange((api) => assign(api, instance, { type: on ? "SystemAssigned" : "None" }), on ? "The system-assigned identity is on." : "The system-assigned identity is off.");
  const users = Object.keys(instance.identity.userAssignedIdentities ?? {});
  return (
    <div className={styles.column}>
      <Text>A system-assigned identity belongs to this instance alone and is deleted with it.</Text>
      <div className={styles.bar}>
        <Act ask={{ method: "PATCH", path: instance.id }} appearance="primary" icon={<SaveRegular />} disabled={on === is} busy={save.busy} onClick={() => setAsking(true)}>
          Save
        </Act>
        <Button disabled={on === is || save.busy} onClick={() => setWanted(null)}>
          Discard
        </Button>
      </div>
      <Switch label={`Status: ${on ? "On" : "Off"}`} checked={on} disabled={save.busy} onChange={(_, d) => setWanted(d.checked)} />
      {on && !is && users.length > 0 && (
        <Note intent="warning" title="One managed identity">
          The service supports only one managed identity. Saving takes the user-assigned identity {users.map(lastSegment).join(", ")} away from this instance.
        </Note>
      )}
      {is && (
        <Facts
          facts={[
            ["Object (principal) ID", <Value text={instance.identity.principalId ?? ""} what="object ID" />],
            ["Client ID", details.data && <Value text={details.data.properties.clientId} what="client ID" />],
            ["Tenant ID", <Value text={instance.identity.tenantId ?? ""} what="tenant ID" />],
            ["Permissions", <Link to={`${instancePath(instance.id, instance.name, "access")}?principal=${instance.identity.principalId ?? ""}`}>Azure role assignments</Link>],
          ]}
        />
      )}
      <Warnings warnings={save.warnings} />
      <Confirm
        title={on ? "Enable system assigned managed identity" : "Disable system assigned managed identity"}
        open={asking}
        verb="Yes"
        busy={save.busy}
        error={save.error}
        onClose={() => {
          save.clear();
          setAsking(false);
        }}
        onConfirm={() => {
          void save.run().then((ok) => {
            if (!ok) return;
            setAsking(false);
            setWanted(null);
          });
        }}
      >
        <Text>
          {on
            ? `'${instance.name}' will be registered in the directory. Once it is registered, it can be granted permissions, and it signs in to event handlers and key vaults.`
            : `'${instance.name}' will be removed from the directory. Its object ID is gone for good, with every permission that names it, and events that need its token are not sent any more.`}
        </Text>
      </Confirm>
    </div>
  );
}
